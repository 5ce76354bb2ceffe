"""What a worker that may only read asks for is run in the session lane, inside PostgreSQL's READ ONLY transactions.

PostgreSQL lets a session leave such a transaction, so three things are seen to here:

- each message is one statement: it goes by the extended protocol, which refuses several;
- it runs inside a transaction block that we began, or made, READ ONLY just before it. So one that writes is refused,
  whatever a statement before it has SET; none can make its own transaction READ WRITE, since that has to come before
  a transaction's first query, in a message of its own; and no procedure can COMMIT, to begin another one;
- the session is no superuser's, who may write files and change settings in such transactions, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg

from ..core.statement import concerns_a_transaction
from ..errors import NotPermitted
from ..messages import Batch, Execute, ExecuteMany, Fetch, FetchMany
from ..messages.session import FetchCursor, MoveCursor, OpenCursor
from .session import Session

TAKE_SNAPSHOT = "; SELECT 1"
"""What follows BEGIN READ ONLY: after a transaction's first query it cannot be made READ WRITE."""

T = TypeVar("T")

_RUN = (Fetch, Execute, ExecuteMany, FetchMany, Batch, OpenCursor, FetchCursor, MoveCursor)


class Reading:
    """Runs what workers that may only read ask for, on one session. wraps: it is inside a transaction of ours, of
    which the worker knows nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.wraps = False

    async def run(self, message: Any, perform: Callable[[], Awaitable[T]], *, on_lease: bool) -> T:
        """Do what runs the message's one statement, and nothing else. Raises `NotPermitted`, and its errors.

        (No context manager: contextlib's cannot pass on an error of SQLSTATE 01xxx, whose class asyncpg has made
        immutable.)
        """
        session = self._session
        if session.reported.get("is_superuser", "off") != "off":
            raise NotPermitted(
                "a worker that may only read is not served on connections of a superuser, whom PostgreSQL lets write "
                "files and settings in READ ONLY transactions, too: give its pool a user of its own"
            )
        if not isinstance(message, _RUN) or (isinstance(message, Batch) and message.atomic):
            return await perform()  # it runs nothing, or is a batch, which begins its own transaction
        if isinstance(message, Batch):
            raise NotPermitted("a worker that may only read runs a batch as one transaction: leave atomic=False out")
        if session.is_in_transaction():
            with suppress(asyncpg.InFailedSQLTransactionError):  # one that has failed can only be ended
                await session.execute("SET TRANSACTION READ ONLY")
            return await perform()
        if on_lease and concerns_a_transaction(getattr(message, "sql", "")):
            return await perform()  # alone, and whatever it begins is made READ ONLY before the next
        return await self._wrapped(perform)

    async def _wrapped(self, perform: Callable[[], Awaitable[T]]) -> T:
        session = self._session
        self.wraps = True
        await session.execute(f"BEGIN READ ONLY{TAKE_SNAPSHOT}")
        try:
            result = await perform()
            if session.is_in_transaction():
                await session.execute("COMMIT")
        except Exception:
            await self.tidy_up()
            raise
        self.wraps = False
        return result

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
