"""psycopg 3 and its pool, for asyncio and for blocking code; directly, and through PgBouncer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import psycopg_pool

from ..statements import Statement, Transfer
from .session import Row, Session, SyncSession, Target, Turns

_OPTIONS: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0}
"""Each statement is prepared at its first run."""


class _Connections(Session):
    def __init__(self, connections: Sequence[Any]) -> None:
        self._turns: Turns[Any] = Turns(connections)

    async def fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        connection = await self._turns.take()
        try:
            rows: Sequence[Row] = await (await connection.execute(statement.percent, args)).fetchall()
            return rows
        finally:
            self._turns.give(connection)

    async def fetchrow(self, statement: Statement, *args: Any) -> Row:
        connection = await self._turns.take()
        try:
            row: Row = await (await connection.execute(statement.percent, args)).fetchone()
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
        async with self._pool.connection() as connection:
            rows: Sequence[Row] = await (await connection.execute(statement.percent, args)).fetchall()
            return rows

    async def fetchrow(self, statement: Statement, *args: Any) -> Row:
        async with self._pool.connection() as connection:
            row: Row = await (await connection.execute(statement.percent, args)).fetchone()
            return row

    async def transfer(self, transfer: Transfer) -> int:
        async with self._pool.connection() as connection:
            return await _transfer(connection, transfer)


async def _transfer(connection: Any, transfer: Transfer) -> int:
    deposit, balance, *others = transfer.steps
    async with connection.transaction():
        await connection.execute(deposit[0].percent, deposit[1])
        found = await (await connection.execute(balance[0].percent, balance[1])).fetchone()
        for statement, args in others:
            await connection.execute(statement.percent, args)
    return int(found[0])


@asynccontextmanager
async def connections(target: Target) -> AsyncIterator[Session]:
    """Bare connections, for asyncio."""
    opened = await asyncio.gather(
        *(psycopg.AsyncConnection.connect(target.address, **_OPTIONS) for _ in range(target.connections))
    )
    try:
        yield _Connections(opened)
    finally:
        for connection in opened:
            await connection.close()


@asynccontextmanager
async def pool(target: Target) -> AsyncIterator[Session]:
    """psycopg_pool for asyncio."""
    size = target.connections
    async with psycopg_pool.AsyncConnectionPool(
        target.address, min_size=size, max_size=size, kwargs=_OPTIONS, open=False
    ) as opened:
        await opened.wait()
        yield _Pool(opened)


class _SyncConnection(SyncSession):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def fetchrow(self, statement: Statement, *args: Any) -> Row:
        row: Row = self._connection.execute(statement.percent, args).fetchone()
        return row


class _SyncPool(SyncSession):
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def fetchrow(self, statement: Statement, *args: Any) -> Row:
        with self._pool.connection() as connection:
            row: Row = connection.execute(statement.percent, args).fetchone()
            return row


@contextmanager
def sync_connection(target: Target) -> Iterator[SyncSession]:
    """One bare connection."""
    with psycopg.connect(target.address, **_OPTIONS) as connection:
        yield _SyncConnection(connection)


@contextmanager
def sync_pool(target: Target) -> Iterator[SyncSession]:
    """psycopg_pool, with as many connections as a process without threads can use: one."""
    with psycopg_pool.ConnectionPool(target.address, min_size=1, max_size=1, kwargs=_OPTIONS, open=False) as opened:
        opened.wait()
        yield _SyncPool(opened)
