"""asyncpg: bare connections, and its pool; directly, and through PgBouncer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from ..statements import Statement, Transfer
from .session import Row, Session, Target, Turns


class _Connections(Session):
    def __init__(self, connections: Sequence[Any]) -> None:
        self._turns: Turns[Any] = Turns(connections)

    async def fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        connection = await self._turns.take()
        try:
            rows: Sequence[Row] = await connection.fetch(statement.sql, *args)
            return rows
        finally:
            self._turns.give(connection)

    async def fetchrow(self, statement: Statement, *args: Any) -> Row:
        connection = await self._turns.take()
        try:
            row: Row = await connection.fetchrow(statement.sql, *args)
            return row
        finally:
            self._turns.give(connection)

    async def transfer(self, transfer: Transfer) -> int:
        connection = await self._turns.take()
        try:
            return await _transfer(connection, transfer)
        finally:
            self._turns.give(connection)


class _Pool(Session):
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        rows: Sequence[Row] = await self._pool.fetch(statement.sql, *args)
        return rows

    async def fetchrow(self, statement: Statement, *args: Any) -> Row:
        row: Row = await self._pool.fetchrow(statement.sql, *args)
        return row

    async def transfer(self, transfer: Transfer) -> int:
        async with self._pool.acquire() as connection:
            return await _transfer(connection, transfer)


async def _transfer(connection: Any, transfer: Transfer) -> int:
    deposit, balance, *others = transfer.steps
    async with connection.transaction():
        await connection.execute(deposit[0].sql, *deposit[1])
        found: int = await connection.fetchval(balance[0].sql, *balance[1])
        for statement, args in others:
            await connection.execute(statement.sql, *args)
    return found


@asynccontextmanager
async def connections(target: Target) -> AsyncIterator[Session]:
    """Bare connections."""
    opened = await asyncio.gather(*(asyncpg.connect(target.address) for _ in range(target.connections)))
    try:
        yield _Connections(opened)
    finally:
        for connection in opened:
            connection.terminate()


@asynccontextmanager
async def pool(target: Target, **hooks: Any) -> AsyncIterator[Session]:
    """asyncpg.Pool as it is."""
    size = target.connections
    created = await asyncpg.create_pool(target.address, min_size=size, max_size=size, **hooks)
    try:
        yield _Pool(created)
    finally:
        try:
            async with asyncio.timeout(5):
                await created.close()
        except TimeoutError:
            created.terminate()


def pool_without_reset(target: Target) -> Any:
    """The same, with nothing done at release."""
    return pool(target, reset=_nothing)


async def _nothing(connection: Any) -> None:
    """Instead of the reset query."""
