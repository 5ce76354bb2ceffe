"""A prepared statement for blocking code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..messages import Fetch
from ..messages.session import Prepared
from ..rows import Record
from . import calls, deeds, replies
from .chunks import Chunk, chunked
from .cursor import Cursor
from .recordclass import as_class
from .resources import PreparedFacts, guarded

if TYPE_CHECKING:
    from .lease import Lease


class PreparedStatement(PreparedFacts):
    """A statement prepared in a lease's session: asyncpg.PreparedStatement's methods, without await."""

    _lease: Lease

    def __init__(self, lease: Lease, query: str, prepared: Prepared, record_class: type | None) -> None:
        super().__init__(lease, query, prepared)
        self._record_class = record_class
        self.encode = lease.codecs.encoder(prepared)

    @guarded
    def cursor(self, *args: object, prefetch: int | None = None, timeout: float | None = None) -> Cursor:
        """Open a cursor on the statement, as `Lease.cursor` does."""
        return Cursor(self._lease, self._query, args, prefetch, timeout, self._record_class, self)

    @guarded
    def fetch(self, *args: object, timeout: float | None = None) -> list[Record]:
        """Run the statement and return its rows."""
        return self._fetch("fetch", args, 0, timeout)

    @guarded
    def fetchrow(self, *args: object, timeout: float | None = None) -> Record | None:
        """Run the statement and return its first row, or None."""
        rows = self._fetch("fetchrow", args, 1, timeout)
        return rows[0] if rows else None

    @guarded
    def fetchval(self, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """Run the statement and return a value of its first row, or None. column: its index in the row."""
        rows = self._fetch("fetchval", args, 1, timeout)
        return rows[0][column] if rows else None

    @guarded
    def fetchmany(self, args: Iterable[Sequence[object]], *, timeout: float | None = None) -> list[Record]:
        """Run the statement once for each sequence of arguments and return all rows: all or nothing."""
        lease = self._lease
        request = deeds.fetchmany(
            self.number, self._query, self._encoded_many(args), lease._limit(timeout), lease.token
        )
        return as_class(replies.rows(self._ran(lease._call("fetchmany", request)), request), self._record_class)

    @guarded
    def executemany(self, args: Iterable[Sequence[object]], *, timeout: float | None = None) -> None:
        """Run the statement once for each sequence of arguments; all of it happens, or nothing. As of the lease's
        executemany, the arguments are taken as they are needed."""
        end = calls.until(self._lease._limit(timeout))
        chunks = chunked(self._encoded_many(args))
        first = next(chunks)
        if first.last:
            self._execute_chunk(first, end)
            return
        with self._lease._all_or_nothing():
            for chunk in chain([first], chunks):
                self._execute_chunk(chunk, end)

    @guarded
    def explain(self, *args: object, analyze: bool = False) -> Any:
        """The plan of the statement, as PostgreSQL's EXPLAIN has it in JSON. analyze: run it, and roll that back."""
        query = self._explain(analyze)
        if not analyze:
            return json.loads(self._lease.fetchval(query, *args))
        transaction = self._lease.transaction()
        transaction.start()
        try:
            plan = self._lease.fetchval(query, *args)
        finally:
            transaction.rollback()
        return json.loads(plan)

    def _fetch(self, method: str, args: Sequence[object], limit: int, timeout: float | None) -> list[Record]:
        lease = self._lease
        args = args if self.encode is None else self.encode(args)
        request: Fetch = deeds.fetch(self.number, self._query, args, lease._limit(timeout), lease.token, limit)
        return as_class(replies.rows(self._ran(lease._call(method, request)), request), self._record_class)

    def _execute_chunk(self, chunk: Chunk, end: float | None) -> None:
        lease = self._lease
        request = deeds.executemany(self.number, self._query, chunk, calls.remaining(end), lease.token)
        replies.done(self._ran(lease._call("executemany", request)), request, chunk.first)
