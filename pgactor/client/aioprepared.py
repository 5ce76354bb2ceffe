"""A prepared statement for asyncio."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..messages import Fetch
from ..messages.session import Prepared
from ..rows import Record
from . import calls, deeds, replies
from .aiocursor import AsyncCursorFactory
from .chunks import Chunk, aiochunked
from .recordclass import as_class
from .resources import PreparedFacts, guarded

if TYPE_CHECKING:
    from .aiolease import AsyncLease


class AsyncPreparedStatement(PreparedFacts):
    """A statement prepared in a lease's session: asyncpg.PreparedStatement's methods."""

    _lease: AsyncLease

    def __init__(self, lease: AsyncLease, query: str, prepared: Prepared, record_class: type | None) -> None:
        super().__init__(lease, query, prepared)
        self._record_class = record_class
        self.encode = lease.codecs.encoder(prepared)

    @guarded
    def cursor(self, *args: object, prefetch: int | None = None, timeout: float | None = None) -> AsyncCursorFactory:
        """A cursor on the statement, as of `AsyncLease.cursor`."""
        return AsyncCursorFactory(self._lease, self._query, args, prefetch, timeout, self._record_class, self)

    @guarded
    async def fetch(self, *args: object, timeout: float | None = None) -> list[Record]:
        """Run the statement and return its rows."""
        return await self._fetch("fetch", args, 0, timeout)

    @guarded
    async def fetchrow(self, *args: object, timeout: float | None = None) -> Record | None:
        """Run the statement and return its first row, or None."""
        rows = await self._fetch("fetchrow", args, 1, timeout)
        return rows[0] if rows else None

    @guarded
    async def fetchval(self, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """Run the statement and return a value of its first row, or None. column: its index in the row."""
        rows = await self._fetch("fetchval", args, 1, timeout)
        return rows[0][column] if rows else None

    @guarded
    async def fetchmany(self, args: Iterable[Sequence[object]], *, timeout: float | None = None) -> list[Record]:
        """Run the statement once for each sequence of arguments and return all rows: all or nothing."""
        lease = self._lease
        request = deeds.fetchmany(
            self.number, self._query, self._encoded_many(args), lease._limit(timeout), lease.token
        )
        return as_class(replies.rows(self._ran(await lease._call("fetchmany", request)), request), self._record_class)

    @guarded
    async def executemany(
        self, args: Iterable[Sequence[object]] | AsyncIterable[Sequence[object]], *, timeout: float | None = None
    ) -> None:
        """Run the statement once for each sequence of arguments; all of it happens, or nothing. As of the lease's
        executemany, the arguments are taken as they are needed."""
        end = calls.until(self._lease._limit(timeout))
        async with aclosing(aiochunked(self._encoded_many(args) if isinstance(args, Iterable) else args)) as chunks:
            first = await anext(chunks)
            if first.last:
                await self._execute_chunk(first, end)
                return
            async with self._lease._all_or_nothing():
                await self._execute_chunk(first, end)
                async for chunk in chunks:
                    await self._execute_chunk(chunk, end)

    @guarded
    async def explain(self, *args: object, analyze: bool = False) -> Any:
        """The plan of the statement, as PostgreSQL's EXPLAIN has it in JSON. analyze: run it, and roll that back."""
        query = self._explain(analyze)
        if not analyze:
            return json.loads(await self._lease.fetchval(query, *args))
        transaction = self._lease.transaction()
        await transaction.start()
        try:
            plan = await self._lease.fetchval(query, *args)
        finally:
            await transaction.rollback()
        return json.loads(plan)

    async def _fetch(self, method: str, args: Sequence[object], limit: int, timeout: float | None) -> list[Record]:
        lease = self._lease
        args = args if self.encode is None else self.encode(args)
        request: Fetch = deeds.fetch(self.number, self._query, args, lease._limit(timeout), lease.token, limit)
        return as_class(replies.rows(self._ran(await lease._call(method, request)), request), self._record_class)

    async def _execute_chunk(self, chunk: Chunk, end: float | None) -> None:
        lease = self._lease
        request = deeds.executemany(self.number, self._query, chunk, calls.remaining(end), lease.token)
        replies.done(self._ran(await lease._call("executemany", request)), request, chunk.first)
