"""What PostgreSQL itself says: on a connection of its own, past the supervisor."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType

import asyncpg

from .job import ACCOUNTS, SCHEMA

_NAME = "pgactor demo: witness"

_COUNT = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> $1
"""


class Witness:
    """Counts server connections but its own ten times a second, in a thread; most: the highest count."""

    def __init__(self, dsn: str) -> None:
        self.most = 0
        self._dsn = dsn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="witness")

    def __enter__(self) -> Witness:
        asyncio.run(self._prepare())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def writes(self) -> dict[int, Counter[int]]:
        """How often each write of each worker is in the table."""
        found: dict[int, Counter[int]] = {}
        for record in asyncio.run(self._fetch("SELECT worker, number FROM pgactor_demo_writes")):
            found.setdefault(record["worker"], Counter())[record["number"]] += 1
        return found

    def money_is_conserved(self) -> bool:
        """Whether the balances still sum up to what they were."""
        (record,) = asyncio.run(self._fetch("SELECT sum(balance)::bigint AS total FROM pgactor_demo_accounts"))
        return bool(record["total"] == 1000 * ACCOUNTS)

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self._dsn, server_settings={"application_name": _NAME})

    async def _prepare(self) -> None:
        connection = await self._connect()
        await connection.execute(SCHEMA)
        await connection.close()

    async def _fetch(self, sql: str) -> list[asyncpg.Record]:
        connection = await self._connect()
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    async def _watch(self) -> None:
        connection = await self._connect()
        while not self._stop.is_set():
            self.most = max(self.most, await connection.fetchval(_COUNT, _NAME))
            await asyncio.sleep(0.1)
        await connection.close()
