"""The statements that an async client and an async lease have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from ..messages import Request, Token
from ..rows import Record
from . import calls, replies
from .chunks import Chunk, aiochunked
from .pending import Pending
from .recordclass import as_class, check_record_class, first_of


class AsyncStatements:
    """asyncpg's statement methods. `timeout` is in seconds and covers the wait for a backend too.

    All raise asyncpg's exceptions for what PostgreSQL or asyncpg complains of, `RequestTimeout` when the timeout ends
    a running statement (it is cancelled), and the other errors of pgactor.errors. A task that is cancelled while it
    waits withdraws its request: queued, it never runs; running, it is cancelled.
    """

    _default_timeout: float | None
    _record_class: type | None = None
    """Of rows for which no other one is asked."""

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Run a statement, or several when there are no arguments. Returns the last one's command tag.

        As in asyncpg, rows that it returns are not given out, but with arguments they are read: a date that Python
        does not have (after the year 9999, say) raises, and yet the statement has taken effect.
        """
        request = calls.execute(query, args, self._limit(timeout), self._token())
        return replies.command_tag(await self._call("execute", request), request)

    async def executemany(
        self,
        command: str,
        args: Iterable[Sequence[object]] | AsyncIterable[Sequence[object]],
        *,
        timeout: float | None = None,
    ) -> None:
        """Run a statement once for each sequence of arguments; all of it happens, or nothing.

        The arguments may come from any iterable, also an async one, and are taken from it as they are needed: about a
        megabyte of them is sent at a time, and if there are more, in a transaction. The timeout is for all of it.
        """
        end = calls.until(self._limit(timeout))
        async with aclosing(aiochunked(args)) as chunks:
            first = await anext(chunks)
            if first.last:
                await self._execute_chunk(command, first, end)
            else:
                await self._execute_chunks(command, first, chunks, end)

    async def fetch(
        self, query: str, *args: object, timeout: float | None = None, record_class: type | None = None
    ) -> list[Record]:
        """Run a statement and return its rows. record_class: of them, a subclass of pgactor.Record or asyncpg's."""
        check_record_class(record_class)
        request = calls.fetch(query, args, self._limit(timeout), self._token())
        return as_class(replies.rows(await self._call("fetch", request), request), record_class or self._record_class)

    async def fetchrow(
        self, query: str, *args: object, timeout: float | None = None, record_class: type | None = None
    ) -> Record | None:
        """Run a statement and return its first row, or None. record_class: as of `fetch`."""
        check_record_class(record_class)
        request = calls.fetch(query, args, self._limit(timeout), self._token(), limit=1)
        return first_of(
            replies.rows(await self._call("fetchrow", request), request), record_class or self._record_class
        )

    async def fetchval(self, query: str, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """Run a statement and return a value of its first row, or None. column: its index in the row."""
        request = calls.fetch(query, args, self._limit(timeout), self._token(), limit=1)
        return replies.first_value(await self._call("fetchval", request), request, column)

    async def fetchmany(
        self,
        query: str,
        args: Iterable[Sequence[object]],
        *,
        timeout: float | None = None,
        record_class: type | None = None,
    ) -> list[Record]:
        """Run a statement once for each sequence of arguments and return all rows; all of it happens, or nothing.
        record_class: as of `fetch`."""
        check_record_class(record_class)
        request = calls.fetchmany(query, args, self._limit(timeout), self._token())
        return as_class(
            replies.rows(await self._call("fetchmany", request), request), record_class or self._record_class
        )

    async def notify(self, channel: str, payload: str = "", *, timeout: float | None = None) -> None:
        """Send a notification to whoever listens to the channel, when the transaction it is part of is committed. The
        payload is a text of less than 8000 bytes."""
        request = calls.fetch(calls.NOTIFY, (channel, payload), self._limit(timeout), self._token())
        replies.rows(await self._call("notify", request), request)

    async def _execute_chunk(self, command: str, chunk: Chunk, end: float | None) -> None:
        request = calls.executemany(command, chunk.args, calls.remaining(end), self._token())
        replies.done(await self._call("executemany", request), request, chunk.first)

    @abstractmethod
    async def _execute_chunks(
        self, command: str, first: Chunk, others: AsyncIterator[Chunk], end: float | None
    ) -> None:
        """Run an executemany of more than one chunk, all or nothing, until the clock shows `end` at the latest."""

    def _token(self) -> Token | None:
        """The lease that the statements belong to."""
        return None

    def _limit(self, timeout: float | None) -> float | None:
        return self._default_timeout if timeout is None else calls.check_timeout(timeout, None)

    @abstractmethod
    def _call(self, method: str, request: Request) -> Coroutine[Any, Any, Pending]:
        """Send the request and wait for its end."""
