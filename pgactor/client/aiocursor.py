"""Cursors for asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from ..rows import Record
from . import deeds, replies
from .failures import interface_error
from .recordclass import as_class
from .resources import CursorFacts, PreparedFacts, Resource, guarded

if TYPE_CHECKING:
    from .aiolease import AsyncLease


class AsyncCursorFactory(Resource):
    """A cursor to be: `await` it for one to fetch from, or iterate with `async for`. Each time it is a new one."""

    kind = "CursorFactory"
    _lease: AsyncLease

    def __init__(
        self,
        lease: AsyncLease,
        query: str,
        args: Sequence[object],
        prefetch: int | None,
        timeout: float | None,
        record_class: type | None,
        statement: PreparedFacts | None = None,
    ) -> None:
        super().__init__(lease)
        self._prefetch = prefetch
        self._timeout = timeout
        self._what = (query, args, record_class, statement)

    @guarded
    def __await__(self) -> Generator[Any, None, AsyncCursor]:
        if self._prefetch is not None:
            raise interface_error("prefetch argument can only be specified for iterable cursor")
        return AsyncCursor(self._lease, *self._what)._open(self._timeout).__await__()

    @guarded
    def __aiter__(self) -> AsyncCursorIterator:
        return AsyncCursorIterator(self._lease, *self._what, deeds.check_prefetch(self._prefetch), self._timeout)


class _AsyncCursor(CursorFacts):
    """What both kinds have in common."""

    _lease: AsyncLease

    def __init__(
        self,
        lease: AsyncLease,
        query: str,
        args: Sequence[object],
        record_class: type | None,
        statement: PreparedFacts | None,
    ) -> None:
        super().__init__(lease, query, statement)
        self._args = args
        self._record_class = record_class

    async def _begin(self, timeout: float | None) -> None:
        lease, statement = self._lease, self._statement
        number = None if statement is None else statement.number
        encode = await lease._encoder(self._query) if statement is None else statement.encode
        args = self._args if encode is None else encode(self._args)
        request = deeds.open_cursor(self._query, args, lease._limit(timeout), lease.token, number)
        self._opened(replies.opened(await lease._call("cursor", request), request))

    async def _fetch(self, count: int, timeout: float | None) -> list[Record]:
        self._require_ready(count)
        lease = self._lease
        request = deeds.fetch_cursor(self.number, count, lease._limit(timeout), lease.token)
        rows = replies.rows(await lease._call("fetch", request), request)
        self._took(rows, count)
        return as_class(rows, self._record_class)


class AsyncCursor(_AsyncCursor):
    """A statement's rows, some at a time: asyncpg.Cursor's methods."""

    async def _open(self, timeout: float | None) -> AsyncCursor:
        await self._begin(timeout)
        return self

    @guarded
    async def fetch(self, n: int, *, timeout: float | None = None) -> list[Record]:
        """The next n rows; fewer, if there are no more."""
        count = self._require_ready(n)
        return [] if self._exhausted else await self._fetch(count, timeout)

    @guarded
    async def fetchrow(self, *, timeout: float | None = None) -> Record | None:
        """The next row, or None."""
        self._require_ready(1)
        rows = [] if self._exhausted else await self._fetch(1, timeout)
        return rows[0] if rows else None

    @guarded
    async def forward(self, n: int, *, timeout: float | None = None) -> int:
        """Skip the next n rows. Returns how many there were."""
        count = self._require_ready(n)
        lease = self._lease
        request = deeds.move_cursor(self.number, count, lease._limit(timeout), lease.token)
        moved = deeds.moved(replies.command_tag(await lease._call("forward", request), request))
        self._exhausted = self._exhausted or moved < count
        return moved


class AsyncCursorIterator(_AsyncCursor):
    """A statement's rows, one by one; they are fetched `prefetch` at a time."""

    kind = "CursorIterator"

    def __init__(
        self,
        lease: AsyncLease,
        query: str,
        args: Sequence[object],
        record_class: type | None,
        statement: PreparedFacts | None,
        prefetch: int,
        timeout: float | None,
    ) -> None:
        super().__init__(lease, query, args, record_class, statement)
        self._prefetch = prefetch
        self._timeout = timeout
        self._buffer: deque[Record] = deque()

    @guarded
    def __aiter__(self) -> AsyncCursorIterator:
        return self

    @guarded
    async def __anext__(self) -> Record:
        if not self._buffer and not self._exhausted:
            if self._number is None:
                await self._begin(self._timeout)
            rows = await self._fetch(self._prefetch, self._timeout)
            self._buffer.extend(rows)
            if len(rows) < self._prefetch:
                self._close()
        if self._buffer:
            return self._buffer.popleft()
        raise StopAsyncIteration
