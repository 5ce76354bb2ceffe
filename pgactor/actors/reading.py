"""What a worker that may only read asks for is run in the session lane, inside PostgreSQL's READ ONLY transactions.

PostgreSQL lets a session leave such a transaction, so three things are seen to here:

- each message is one statement: it goes by the extended protocol, which refuses several;
- it runs inside a transaction block that we began, or made, READ ONLY just before it. So one that writes is refused,
  whatever a statement before it has SET; none can make its own transaction READ WRITE, since that has to come before
  a transaction's first query, in a message of its own; and no procedure can COMMIT, to begin another one;
- the session is no superuser's, who may write files and change settings in such transactions, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from ..core.statement import concerns_a_transaction
from ..errors import NotPermitted
from ..messages import Batch, Execute, ExecuteMany, Fetch, FetchMany
from ..messages.session import FetchCursor, MoveCursor, OpenCursor
from .session import Session

TAKE_SNAPSHOT = "; SELECT 1"
"""What follows BEGIN READ ONLY: after a transaction's first query it cannot be made READ WRITE."""

_RUN = (Fetch, Execute, ExecuteMany, FetchMany, Batch, OpenCursor, FetchCursor, MoveCursor)


class Reading:
    """Runs what workers that may only read ask for, on one session. wraps: it is inside a transaction of ours, of
    which the worker knows nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.wraps = False

    @asynccontextmanager
    async def transaction(self, message: Any, *, on_lease: bool) -> AsyncIterator[None]:
        """What may be run meanwhile is the message's one statement. Raises `NotPermitted`."""
        session = self._session
        if session.reported.get("is_superuser", "off") != "off":
            raise NotPermitted(
                "a worker that may only read is not served on connections of a superuser, whom PostgreSQL lets write "
                "files and settings in READ ONLY transactions, too: give its pool a user of its own"
            )
        if not isinstance(message, _RUN) or (isinstance(message, Batch) and message.atomic):
            yield  # it runs nothing, or is a batch, which begins its own transaction
        elif isinstance(message, Batch):
            raise NotPermitted("a worker that may only read runs a batch as one transaction: leave atomic=False out")
        elif session.is_in_transaction():
            with suppress(asyncpg.InFailedSQLTransactionError):  # one that has failed can only be ended
                await session.execute("SET TRANSACTION READ ONLY")
            yield
        elif on_lease and concerns_a_transaction(getattr(message, "sql", "")):
            yield  # alone, and whatever it begins is made READ ONLY before the next
        else:
            async with self._wrapped():
                yield

    @asynccontextmanager
    async def _wrapped(self) -> AsyncIterator[None]:
        session = self._session
        self.wraps = True
        await session.execute(f"BEGIN READ ONLY{TAKE_SNAPSHOT}")
        try:
            yield
            if session.is_in_transaction():
                await session.execute("COMMIT")
        except Exception:
            await self.tidy_up()
            raise
        self.wraps = False

    async def tidy_up(self) -> None:
        """End our transaction, if a statement that failed or was cancelled has left it open."""
        if self.wraps:
            if not self._session.is_closed() and self._session.is_in_transaction():
                await self._session.execute("ROLLBACK")
            self.wraps = False


def no_copy() -> NotPermitted:
    """COPY's text may hold several statements."""
    return NotPermitted(
        "a worker that may only read cannot COPY, which PostgreSQL takes as a text that may hold several statements: "
        "fetch, or read with a cursor"
    )
