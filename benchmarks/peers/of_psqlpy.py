"""psqlpy's pool: rows are tuples, as they are made in Rust."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psqlpy

from ..statements import Statement, Transfer
from .session import Row, Session, Target


class _Pool(Session):
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        async with self._pool.acquire() as connection:
            rows: Sequence[Row] = (await connection.fetch(statement.sql, args)).result(as_tuple=True)
            return rows

    async def fetchrow(self, statement: Statement, *args: Any) -> Row:
        async with self._pool.acquire() as connection:
            row: Row = (await connection.fetch_row(statement.sql, args)).result(as_tuple=True)
            return row

    async def transfer(self, transfer: Transfer) -> int:
        deposit, balance, *others = transfer.steps
        async with self._pool.acquire() as connection, connection.transaction() as transaction:
            await transaction.execute(deposit[0].sql, deposit[1])
            found: int = await transaction.fetch_val(balance[0].sql, balance[1])
            for statement, args in others:
                await transaction.execute(statement.sql, args)
        return found


@asynccontextmanager
async def pool(target: Target) -> AsyncIterator[Session]:
    """A pool of so many connections."""
    opened = psqlpy.ConnectionPool(dsn=target.address, max_db_pool_size=target.connections)
    try:
        yield _Pool(opened)
    finally:
        opened.close()
