"""What an async client knows of the pool's state without asking: asyncpg's getters are no coroutines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from ..messages.pool import PoolStatus

FRESH_SECONDS = 0.2
"""How old the knowledge may be before a look at it has it renewed."""


class Knowledge:
    """The last known status, kept up with this client's own leases.

    ask: a coroutine function that asks the supervisor, and has the answer told to `learn`.
    """

    def __init__(self, ask: Callable[[], Awaitable[Any]]) -> None:
        self.status: PoolStatus | None = None
        self._ask = ask
        self._learned_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    def learn(self, status: PoolStatus) -> PoolStatus:
        """The supervisor has told it."""
        self.status, self._learned_at = msgspec.structs.replace(status), time.monotonic()
        return status

    def look(self) -> PoolStatus | None:
        """The last known status. If it is not fresh and an event loop runs, a new one is asked for, which a later
        look will see."""
        if time.monotonic() > self._learned_at + FRESH_SECONDS and (self._asking is None or self._asking.done()):
            with suppress(RuntimeError):  # no loop runs: what is known must do
                self._asking = asyncio.get_running_loop().create_task(self._renew())
        return self.status

    def lease_begun(self) -> None:
        """An own lease was granted: its connection was idle, or is new."""
        status = self.status
        if status is not None:
            status.leased += 1
            if status.idle:
                status.idle -= 1
            else:
                status.size = min(status.size + 1, status.max_size)

    def lease_over(self) -> None:
        """An own lease has ended: its connection will be idle again."""
        status = self.status
        if status is not None:
            status.leased = max(0, status.leased - 1)
            status.idle = min(status.idle + 1, status.size)

    def forget(self) -> None:
        """The client is closed: it has no connections any more."""
        if self._asking is not None and not self._asking.get_loop().is_closed():
            self._asking.get_loop().call_soon_threadsafe(self._asking.cancel)
        if self.status is not None:
            self.status.size = self.status.idle = 0

    async def _renew(self) -> None:
        with suppress(Exception):  # whoever looks again, asks again
            await self._ask()
