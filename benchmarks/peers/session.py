"""What a peer can do once it is connected, and to what it connects."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..statements import Statement, Transfer

Row = Sequence[Any]


@dataclass(frozen=True)
class Target:
    """address: the supervisor's endpoint, PgBouncer's dsn or PostgreSQL's. connections: of one process, at most."""

    address: str
    connections: int


class Session(ABC):
    """A peer in asyncio; many tasks use it at once."""

    @abstractmethod
    async def fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        """All rows."""

    @abstractmethod
    async def fetchrow(self, statement: Statement, *args: Any) -> Row:
        """The row that there is."""

    @abstractmethod
    async def transfer(self, transfer: Transfer) -> int:
        """pgbench's transaction; returns the account's balance."""

    async def fetchrow_within(self, seconds: float, statement: Statement, *args: Any) -> Row:
        """As fetchrow; raises TimeoutError when nobody waits for the row any more."""
        async with asyncio.timeout(seconds):
            return await self.fetchrow(statement, *args)


class SyncSession(ABC):
    """A peer in blocking code."""

    @abstractmethod
    def fetchrow(self, statement: Statement, *args: Any) -> Row:
        """The row that there is."""


_C = TypeVar("_C")


class Turns(Generic[_C]):
    """Plain connections for many tasks, first come, first served: no checks, no reset, no safety."""

    def __init__(self, connections: Iterable[_C]) -> None:
        self._idle = list(connections)
        self._waiting: deque[asyncio.Future[_C]] = deque()

    async def take(self) -> _C:
        """A connection, as soon as there is one."""
        if self._idle:
            return self._idle.pop()
        waiter: asyncio.Future[_C] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give(waiter.result())
            raise

    def give(self, connection: _C) -> None:
        """Back, to whoever waits longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)
