"""How a session comes to rest: after a statement, between those who use it, and at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .failures import in_words
from .hooks import Hooks
from .reading import Reading
from .session import Session

log = logging.getLogger("pgactor.backend")

CLOSE_SECONDS = 2.0
"""How long a connection may take to close in good order."""


class Rest:
    """Brings one session to rest, within so many seconds (reset_timeout_seconds). Raises TimeoutError, and what
    asyncpg raises."""

    def __init__(self, session: Session, *, hooks: Hooks, recycling: str, seconds: float) -> None:
        self._session = session
        self._hooks = hooks
        self._recycling = recycling
        self._seconds = seconds

    async def settle(self, reading: Reading) -> None:
        """A statement has ended without PostgreSQL's Sync, or was cancelled: see it over."""
        async with self._in_time():
            await self._session.quiet()
            await self._session.finish()
            await reading.tidy_up()

    async def recycle(self) -> None:
        """Make the session fit for the next one, as the settings and the hooks say."""
        async with self._in_time():
            if self._recycling == "fast":
                await self._session.roll_back()
            elif self._hooks.reset is not None:
                await self._session.renew(self._hooks.reset)
            else:
                await self._session.renew()

    async def close(self, name: str, number: int) -> None:
        """Close the connection. name, number: the backend's, for the log. Raises nothing."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._session.close()
        except Exception as error:
            log.warning("%s did not close in good order: %s", name, in_words(error), extra={"backend": number})

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise TimeoutError(
                f"it did not come to rest within reset_timeout_seconds ({self._seconds:g} s)"
            ) from None
