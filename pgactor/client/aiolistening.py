"""The listeners of a lease, for asyncio."""

from __future__ import annotations

import asyncio
import time
import warnings
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any

from ..messages import Notification, Request, Token
from . import calls
from .aioconnected import AioConnected
from .callbacks import Callback, Callbacks, left_behind, require_callable
from .failures import interface_warning
from .requests import Pending

_running: set[asyncio.Task[Any]] = set()
"""Coroutine functions that were called back, kept from being collected."""


class AsyncListening:
    """asyncpg's methods for listeners. For long listening `client.listen` needs no lease."""

    token: Token
    callbacks: Callbacks | None
    lost: bool
    _connected: AioConnected

    async def add_listener(self, channel: str, callback: Callback) -> None:
        """Have the session listen to the channel, and `callback(lease, pid, channel, payload)` called for each
        notification. It may be a coroutine function."""
        self.require_held("add_listener", time.monotonic())
        require_callable(callback)
        if self.callbacks is None:
            self.callbacks = Callbacks()
            self._connected.requests.ears.leases[self.token.fence] = self._heard
        if channel not in self.callbacks:
            request = calls.listen([channel], self._limit(None), self.token)
            calls.done(await self._call("add_listener", request), request)
        self.callbacks.add(channel, callback)

    async def remove_listener(self, channel: str, callback: Callback) -> None:
        """Have the callback called no more; after the channel's last one the session does not listen to it."""
        if self.lost:
            return
        self.require_held("remove_listener", time.monotonic())
        if self.callbacks is not None and self.callbacks.remove(channel, callback):
            request = calls.unlisten([channel], self._limit(None), self.token)
            calls.done(await self._call("remove_listener", request), request)

    def _heard(self, message: Notification | None) -> list[Pending]:
        if message is not None and self.callbacks is not None:
            loop = self._connected.loop
            arguments = (self, message.pid, message.channel, message.payload)
            for callback, is_async in self.callbacks.of(message.channel):
                if is_async:
                    task = loop.create_task(callback(*arguments))
                    _running.add(task)
                    task.add_done_callback(_running.discard)
                else:
                    loop.call_soon(callback, *arguments)
        return []

    def _leave_listeners(self) -> None:
        """The lease is released."""
        self._connected.requests.ears.leases.pop(self.token.fence, None)
        count = len(self.callbacks) if self.callbacks is not None and not self.lost else 0
        self.callbacks = None
        if count:
            warnings.warn(interface_warning(left_behind(self, count)), stacklevel=3)

    @abstractmethod
    def require_held(self, method: str, now: float) -> None: ...

    @abstractmethod
    def _limit(self, timeout: float | None) -> float | None: ...

    @abstractmethod
    def _call(self, method: str, request: Request) -> Coroutine[Any, Any, Pending]: ...
