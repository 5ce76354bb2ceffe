"""asyncpg's methods for listeners, on a lease for asyncio."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from ..messages import Request
from . import calls, replies
from .aioconnected import AioConnected
from .listened import Listened
from .pending import Pending


class AsyncListening(Listened):
    """For long listening `client.listen` needs no lease."""

    _connected: AioConnected

    async def add_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """Have the session listen to the channel, and `callback(lease, pid, channel, payload)` called for each
        notification. It may be a coroutine function."""
        self.require_held("add_listener", time.monotonic())
        made = self._callback(callback)
        channels = self._begin_listening()
        if channel not in channels:
            request = calls.listen([channel], self._limit(None), self.token)
            replies.done(await self._call("add_listener", request), request)
        channels.setdefault(channel, {})[made] = None

    async def remove_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """Have the callback called no more; after the channel's last one the session does not listen to it."""
        if self._remove(channel, self._callback(callback)):
            request = calls.unlisten([channel], self._limit(None), self.token)
            replies.done(await self._call("remove_listener", request), request)

    @abstractmethod
    def _limit(self, timeout: float | None) -> float | None: ...

    @abstractmethod
    def _call(self, method: str, request: Request) -> Coroutine[Any, Any, Pending]: ...
