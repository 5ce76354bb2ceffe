"""Many arguments of one statement, on their way into asyncpg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from . import pgwire
from .lending import LentConnection
from .tap import Tap


class GivenUp(Exception):
    """Nobody waits any more for the arguments to be sent."""


class Feed:
    """Many arguments, which asyncpg takes as there is room for them. ended: it has taken all, or none yet,
    or will take no more."""

    def __init__(self, args: Iterable[Sequence[Any]]) -> None:
        self.args = args
        self.ended = True
        self.given_up = False

    def __iter__(self) -> Iterator[Sequence[Any]]:
        self.ended = False
        for each in self.args:
            if self.given_up:
                raise GivenUp
            yield each
        self.ended = True

    def end(self) -> None:
        """The statement has ended."""
        self.ended = True


class FedConnection(LentConnection):
    """asyncpg's connection, whose statements with many arguments can be given up while they run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._feed: Feed | None = None

    async def begin_feed(self, args: Iterable[Sequence[Any]]) -> Feed:
        """The arguments for asyncpg, which can be given up until PostgreSQL has ended the statement. (Where one of
        them is wrong, or PostgreSQL refuses one, asyncpg takes no more.) `end_feed` is to follow.

        asyncpg hears before whether a transaction is open, if only the statement lane knows. By its own word it
        chooses how many arguments are undone: where it knows of no transaction it rolls back, all there is.
        """
        if self.in_transaction_now is not None:
            await self.execute("")
        feed = self._feed = Feed(args)
        self.tap(lambda receiver: Tap(receiver, feed.end, kind=pgwire.READY))
        return feed

    def end_feed(self) -> None:
        """The statement is over."""
        self._feed = None
        self.untap()

    async def executemany(self, command: str, args: Any, *, timeout: float | None = None) -> None:
        """As asyncpg's; while it runs it can be given up."""
        feed = await self.begin_feed(args)
        try:
            await super().executemany(command, feed, timeout=timeout)
        finally:
            self.end_feed()

    async def run_many(self, statement: Any, args: Iterable[Sequence[Any]], *, rows: bool) -> Any:
        """A prepared statement's fetchmany or executemany; while it runs it can be given up."""
        feed = await self.begin_feed(args)
        try:
            return await (statement.fetchmany(feed) if rows else statement.executemany(feed))
        finally:
            self.end_feed()

    def give_up(self) -> bool:
        """Cancel a statement whose many arguments are still being sent: it ends with an error. False: there is none.

        Cancelling its task would not end it: asyncpg then sends no more, and waits for ever for PostgreSQL, which
        waits for the rest.
        """
        if self._feed is None or self._feed.ended:
            return False
        self._feed.given_up = True
        self.request_cancel()
        return True

    def wake_writer(self) -> None:
        """The connection has ended: end a statement whose many arguments were still being sent. asyncpg waits for
        room for them, which nobody tells it of any more."""
        if self._feed is not None:
            self._feed.given_up = True
            self._protocol.resume_writing()
