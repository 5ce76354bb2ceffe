"""pgactor's clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pgactor

from ..statements import Statement, Transfer
from .session import Row, Session, SyncSession, Target


class _Client(Session):
    """A transaction is one message."""

    def __init__(self, client: pgactor.AsyncClient) -> None:
        self._client: Any = client

    async def fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        rows: Sequence[Row] = await self._client.fetch(statement.sql, *args)
        return rows

    async def fetchrow(self, statement: Statement, *args: Any) -> Row:
        row: Row = await self._client.fetchrow(statement.sql, *args)
        return row

    async def fetchrow_within(self, seconds: float, statement: Statement, *args: Any) -> Row:
        try:
            row: Row = await self._client.fetchrow(statement.sql, *args, timeout=seconds)
        except (pgactor.RequestTimeout, pgactor.PoolTimeout) as error:
            raise TimeoutError(str(error)) from None
        return row

    async def transfer(self, transfer: Transfer) -> int:
        results = await self._client.batch([(statement.sql, *args) for statement, args in transfer.steps])
        return int(results[1][0][0])


class _Leases(_Client):
    """A transaction is a lease: every statement of it a message."""

    async def transfer(self, transfer: Transfer) -> int:
        deposit, balance, *others = transfer.steps
        async with self._client.acquire() as lease, lease.transaction():
            await lease.execute(deposit[0].sql, *deposit[1])
            found: int = await lease.fetchval(balance[0].sql, *balance[1])
            for statement, args in others:
                await lease.execute(statement.sql, *args)
        return found


@asynccontextmanager
async def client(target: Target) -> AsyncIterator[Session]:
    """AsyncClient."""
    async with pgactor.AsyncClient(target.address) as opened:
        yield _Client(opened)


@asynccontextmanager
async def leases(target: Target) -> AsyncIterator[Session]:
    """AsyncClient, that takes a lease for a transaction."""
    async with pgactor.AsyncClient(target.address) as opened:
        yield _Leases(opened)


class _SyncClient(SyncSession):
    def __init__(self, client: pgactor.Client) -> None:
        self._client: Any = client

    def fetchrow(self, statement: Statement, *args: Any) -> Row:
        row: Row = self._client.fetchrow(statement.sql, *args)
        return row


@contextmanager
def sync_client(target: Target) -> Iterator[SyncSession]:
    """Client."""
    with pgactor.Client(target.address) as opened:
        yield _SyncClient(opened)
