"""The database that is asked: $PGACTOR_BENCH_DSN, or an embedded PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from pgactor.actors.embedded import embedded_postgres

from .statements import LOOKUP, RANGE, SCHEMA, TRANSFER_CHECK, TRANSFER_SCHEMA

MAX_CONNECTIONS = 400
RANGE_ROWS = 10_000


@dataclass(frozen=True)
class Database:
    """A running PostgreSQL. pid: of its first process, None where it is not on this machine."""

    dsn: str
    version: str
    max_connections: int
    pid: int | None

    def ask(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own."""

        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return [tuple(row) for row in await connection.fetch(sql, *args)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def connections(self) -> int:
        """How many clients PostgreSQL has, without the one that asks."""
        count: int = self.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )[0][0]
        return count

    def fill_transfers(self) -> None:
        """pgbench's tables, as new: what one peer left is not for the next to trip over."""
        asyncio.run(_run(self.dsn, TRANSFER_SCHEMA))

    def balanced(self) -> bool:
        """Whether every transaction happened wholly or not at all."""
        return bool(self.ask(TRANSFER_CHECK)[0][0])

    def reference(self) -> Reference:
        """What all peers must answer."""
        return Reference(
            rows=tuple(self.ask(LOOKUP.sql, number)[0] for number in (0, 42, 43, 99_999)),
            range=tuple(self.ask(RANGE.sql, RANGE_ROWS)),
        )


@dataclass(frozen=True)
class Reference:
    """Rows as a plain asyncpg connection gives them. range: the first 10 000."""

    rows: tuple[tuple[Any, ...], ...]
    range: tuple[tuple[Any, ...], ...]


@contextmanager
def database(settings: Sequence[str] = ()) -> Iterator[Database]:
    """A database with the tables in it. settings: lines of postgresql.conf, for the embedded one."""
    given = os.environ.get("PGACTOR_BENCH_DSN")
    if given:
        yield _filled(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="pgb-"))
    try:
        data = folder / "data"
        with embedded_postgres(str(data)):
            pass  # made; its settings are read when it starts again
        with (data / "postgresql.conf").open("a") as file:
            file.write("\n".join([f"max_connections = {MAX_CONNECTIONS}", *settings, ""]))
        with embedded_postgres(str(data)) as dsn:
            yield _filled(dsn)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _filled(dsn: str) -> Database:
    asyncio.run(_run(dsn, SCHEMA))
    ask = Database(dsn, "", 0, None).ask
    version = ask("SHOW server_version")[0][0]
    max_connections = int(ask("SHOW max_connections")[0][0])
    return Database(dsn, version, max_connections, _pid(ask("SHOW data_directory")[0][0]))


def _pid(data: str) -> int | None:
    try:
        pid = int((Path(data) / "postmaster.pid").read_text().split()[0])
        return pid if "postgres" in psutil.Process(pid).name() else None
    except (OSError, ValueError, psutil.Error):
        return None


async def _run(dsn: str, script: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in script.split(";\n"):
        if statement.strip():
            await connection.execute(statement)
    await connection.close()
