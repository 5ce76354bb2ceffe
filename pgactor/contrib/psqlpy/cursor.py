"""psqlpy's Cursor."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from ...client.aiocursor import AsyncCursor
from ...client.aiolease import AsyncLease
from ...client.failures import interface_error
from ...rows import Record
from .results import QueryResult
from .statements import Parameters, bound

ALL_AT_A_TIME = 1000
"""How many rows fetchall asks for in one message."""


class Cursor:
    """A statement's rows, some at a time: `async with`, or `start` and `close`; or `execute`.

    array_size: how many rows `fetchmany` and each step of `async for` give.
    """

    def __init__(
        self,
        held: Callable[[], AsyncLease],
        querystring: str | None,
        parameters: Parameters,
        array_size: int | None,
    ) -> None:
        self._held = held
        self._cursor: AsyncCursor | None = None
        self.querystring = querystring
        self.parameters = parameters
        self.array_size = 1 if array_size is None else array_size

    async def __aenter__(self) -> Cursor:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Cursor:
        return self

    async def __anext__(self) -> QueryResult:
        rows = await self._next(self.array_size)
        if not rows:
            raise StopAsyncIteration
        return QueryResult(rows)

    async def start(self) -> None:
        """Open it. Raises asyncpg.NoActiveSQLTransactionError outside of a transaction."""
        if self.querystring is None:
            raise interface_error("the cursor has no querystring: give it one, or call execute()")
        sql, args = bound(self.querystring, self.parameters)
        self._cursor = await self._held().cursor(sql, *args)

    async def execute(self, querystring: str, parameters: Parameters = None) -> None:
        """Open it for this statement."""
        self.querystring, self.parameters = querystring, parameters
        await self.start()

    def close(self) -> None:
        """Close it."""
        self._cursor = None  # the lease is told as it is collected

    async def is_closed(self) -> bool:
        """Whether it is not open."""
        return self._cursor is None

    async def fetchone(self) -> QueryResult:
        """The next row; no row at the end."""
        return QueryResult(await self._next(1))

    async def fetchmany(self, size: int | None = None) -> QueryResult:
        """The next rows. size: how many; array_size if it is not given."""
        return QueryResult(await self._next(self.array_size if size is None else size))

    async def fetchall(self) -> QueryResult:
        """All rows that are left."""
        rows: list[Record] = []
        while more := await self._next(ALL_AT_A_TIME):
            rows += more
        return QueryResult(rows)

    async def _next(self, count: int) -> list[Record]:
        self._held()
        if self._cursor is None:
            raise interface_error("the cursor is not open: start() it")
        return await self._cursor.fetch(count)
