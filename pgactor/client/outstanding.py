"""The leases of a pool that are not over, and the wait for their end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from .aiolease import AsyncLease


class Outstanding:
    """Leases, from their grant to their end. Those of a lost link, a closed loop or a parent process do not count."""

    def __init__(self) -> None:
        self._leases: set[AsyncLease] = set()
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self.held())

    def held(self) -> list[AsyncLease]:
        """Those that are to be waited for."""
        return [lease for lease in list(self._leases) if lease.is_held]

    def add(self, lease: AsyncLease) -> None:
        """It was granted."""
        self._leases.add(lease)

    def remove(self, lease: AsyncLease) -> None:
        """It is over. May be called in any event loop's thread."""
        self._leases.discard(lease)
        for waiter in list(self._waiters):
            with suppress(RuntimeError):  # its loop was closed meanwhile
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def none_held(self) -> None:
        """Wait until there is none."""
        while self.held():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                if self.held():  # still, now that its end would be heard of
                    await waiter
            finally:
                self._waiters.remove(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
