"""pgactor, and what it is compared with: each gives a look-up of one row by its key."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

import pgactor

from .database import LOOKUP

Lookup = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True)
class Target:
    """Where a peer connects: the database, the supervisor, and how many connections one process may have."""

    dsn: str
    endpoint: str
    connections: int


@asynccontextmanager
async def with_pgactor(target: Target) -> AsyncIterator[Lookup]:
    """pgactor's AsyncClient."""
    async with pgactor.AsyncClient(target.endpoint) as client:

        async def look_up(id: int) -> Any:
            return await client.fetchrow(LOOKUP, id)

        yield look_up


async def _no_reset(connection: Any) -> None:
    """What asyncpg.Pool does at release, given instead of its reset query: nothing."""


@asynccontextmanager
async def with_pool(target: Target, *, reset: bool = True) -> AsyncIterator[Lookup]:
    """asyncpg.Pool in each process."""
    size = target.connections
    hooks: dict[str, Any] = {} if reset else {"reset": _no_reset}
    async with asyncpg.create_pool(target.dsn, min_size=size, max_size=size, **hooks) as pool:

        async def look_up(id: int) -> Any:
            return await pool.fetchrow(LOOKUP, id)

        yield look_up


@asynccontextmanager
async def with_connections(target: Target) -> AsyncIterator[Lookup]:
    """Bare asyncpg connections, in turns: no pool, no reset, no safety."""
    connections = [await asyncpg.connect(target.dsn) for _ in range(target.connections)]
    turns = itertools.cycle([(connection, asyncio.Lock()) for connection in connections])

    async def look_up(id: int) -> Any:
        connection, lock = next(turns)
        async with lock:  # first come, first served
            return await connection.fetchrow(LOOKUP, id)

    try:
        yield look_up
    finally:
        for connection in connections:
            await connection.close()


PEERS: Mapping[str, Callable[[Target], AbstractAsyncContextManager[Lookup]]] = {
    "pgactor": with_pgactor,
    "asyncpg.Pool per process": with_pool,
    "asyncpg.Pool, no reset": lambda target: with_pool(target, reset=False),
    "asyncpg connections": with_connections,
}
