"""The statements that a client and a lease have in common, for blocking code."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from ..messages import Request, Token
from ..rows import Record
from . import calls, replies
from .chunks import Chunk, chunked
from .pending import Pending
from .recordclass import as_class, check_record_class, first_of


class Statements:
    """asyncpg's statement methods, without await. `timeout` is in seconds and covers the wait for a backend too.

    All raise asyncpg's exceptions for what PostgreSQL or asyncpg complains of, `RequestTimeout` when the timeout ends
    a running statement (it is cancelled), and the other errors of pgactor.errors.
    """

    _default_timeout: float | None

    def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Run a statement, or several when there are no arguments. Returns the last one's command tag.

        As in asyncpg, rows that it returns are not given out, but with arguments they are read: a date that Python
        does not have (after the year 9999, say) raises, and yet the statement has taken effect.
        """
        request = calls.execute(query, args, self._limit(timeout), self._token())
        return replies.command_tag(self._call("execute", request), request)

    def executemany(self, command: str, args: Iterable[Sequence[object]], *, timeout: float | None = None) -> None:
        """Run a statement once for each sequence of arguments; all of it happens, or nothing.

        The arguments may come from any iterable, and are taken from it as they are needed: about a megabyte of them
        is sent at a time, and if there are more, in a transaction. The timeout is for all of it.
        """
        end = calls.until(self._limit(timeout))
        chunks = chunked(args)
        first = next(chunks)
        if first.last:
            self._execute_chunk(command, first, end)
        else:
            self._execute_chunks(command, chain([first], chunks), end)

    def fetch(
        self, query: str, *args: object, timeout: float | None = None, record_class: type | None = None
    ) -> list[Record]:
        """Run a statement and return its rows. record_class: of them, a subclass of pgactor.Record or asyncpg's."""
        check_record_class(record_class)
        request = calls.fetch(query, args, self._limit(timeout), self._token())
        return as_class(replies.rows(self._call("fetch", request), request), record_class)

    def fetchrow(
        self, query: str, *args: object, timeout: float | None = None, record_class: type | None = None
    ) -> Record | None:
        """Run a statement and return its first row, or None. record_class: as of `fetch`."""
        check_record_class(record_class)
        request = calls.fetch(query, args, self._limit(timeout), self._token(), limit=1)
        return first_of(replies.rows(self._call("fetchrow", request), request), record_class)

    def fetchval(self, query: str, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """Run a statement and return a value of its first row, or None. column: its index in the row."""
        request = calls.fetch(query, args, self._limit(timeout), self._token(), limit=1)
        return replies.first_value(self._call("fetchval", request), request, column)

    def fetchmany(
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
        return as_class(replies.rows(self._call("fetchmany", request), request), record_class)

    def notify(self, channel: str, payload: str = "", *, timeout: float | None = None) -> None:
        """Send a notification to whoever listens to the channel, when the transaction it is part of is committed. The
        payload is a text of less than 8000 bytes."""
        request = calls.fetch(calls.NOTIFY, (channel, payload), self._limit(timeout), self._token())
        replies.rows(self._call("notify", request), request)

    def _execute_chunk(self, command: str, chunk: Chunk, end: float | None) -> None:
        request = calls.executemany(command, chunk.args, calls.remaining(end), self._token())
        replies.done(self._call("executemany", request), request, chunk.first)

    @abstractmethod
    def _execute_chunks(self, command: str, chunks: Iterator[Chunk], end: float | None) -> None:
        """Run an executemany of more than one chunk, all or nothing, until the clock shows `end` at the latest."""

    def _token(self) -> Token | None:
        """The lease that the statements belong to."""
        return None

    def _limit(self, timeout: float | None) -> float | None:
        return calls.check_timeout(timeout, self._default_timeout)

    @abstractmethod
    def _call(self, method: str, request: Request) -> Pending:
        """Send the request and wait for its end."""
