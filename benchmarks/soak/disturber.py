"""Ends backends at random, changes a table, replaces connections: by a connection of its own, in a thread."""

from __future__ import annotations

import asyncio
import time
from random import Random

import asyncpg

from pgactor import AsyncClient, PgactorError

from .background import Background
from .supervisor import Supervisor

CHANGE_SECONDS = 1.0
"""At least so long between two changes of the table: who meets one three times in a row is told so, as by asyncpg."""

_RESTARTED = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError,
              PgactorError)  # fmt: skip
_PIDS = "select pid from pg_stat_activity where application_name = $1"
_CHANGES = (
    "alter table soak_s alter v type int8",
    "alter table soak_s add extra int default 7",
    "alter table soak_s alter v type numeric",
    "alter table soak_s drop extra",
    "alter table soak_s alter v type float8",
    "alter table soak_s alter v type int",
)


class Disturber(Background):
    """Harms backends and the table; may_restart: somebody else PostgreSQL and the supervisor."""

    def __init__(self, dsn: str, supervisor: Supervisor, seed: int, *, may_restart: bool = False) -> None:
        super().__init__()
        self._may_restart = may_restart  # so errors are no surprise
        self._dsn = dsn
        self._supervisor = supervisor
        self._random = Random(f"{seed} disturber")
        self._changed_at = 0.0

    async def _work(self) -> None:
        async with AsyncClient(self._supervisor.ipc, label="disturber") as client:
            while not self._stopped.is_set():
                try:
                    connection = await asyncpg.connect(self._dsn)
                    await connection.execute("set lock_timeout = '3s'")
                    await self._disturb_by(connection, client)
                    await connection.close()
                except _RESTARTED:
                    if not self._may_restart:
                        raise
                    await asyncio.sleep(0.1)

    async def _disturb_by(self, connection: asyncpg.Connection, client: AsyncClient) -> None:
        while not self._stopped.is_set():
            await asyncio.sleep(self._random.random() * 0.4)
            dice = self._random.random()
            if dice < 0.7:
                await self._terminate(connection, 1)
            elif dice < 0.72:
                await self._terminate(connection, 3)
            elif dice < 0.95 and time.monotonic() - self._changed_at > CHANGE_SECONDS:
                await self._change(connection)
                self._changed_at = time.monotonic()
            elif dice >= 0.95:
                await client.expire_connections()
                self.done["all connections replaced"] += 1

    async def _terminate(self, connection: asyncpg.Connection, count: int) -> None:
        pids = [row[0] for row in await connection.fetch(_PIDS, self._supervisor.name)]
        for pid in self._random.sample(pids, min(count, len(pids))):
            self.done["backends terminated"] += await connection.fetchval("select pg_terminate_backend($1)", pid)

    async def _change(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.execute(_CHANGES[self.done["tables changed"] % len(_CHANGES)])
            self.done["tables changed"] += 1
        except asyncpg.LockNotAvailableError:
            self.done["changes given up"] += 1
        except (asyncpg.DuplicateColumnError, asyncpg.UndefinedColumnError):
            if not self._may_restart:
                raise
            self.done["tables changed"] += 1  # it was done before PostgreSQL was restarted
