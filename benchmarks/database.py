"""The table that is looked up, in $PGACTOR_BENCH_DSN or in an embedded PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from pgactor.actors.embedded import embedded_postgres

ROWS = 100_000

LOOKUP = "SELECT id, name, score, active, created FROM pgactor_bench WHERE id = $1"

_SCHEMA = f"""
DROP TABLE IF EXISTS pgactor_bench;
CREATE TABLE pgactor_bench (id bigint PRIMARY KEY, name text, score float8, active bool, created timestamptz);
INSERT INTO pgactor_bench
SELECT n, 'name ' || n, n / 7.0, n % 2 = 0, timestamptz '2020-01-01 00:00Z' + n * interval '1 s'
FROM generate_series(0, {ROWS - 1}) AS n;
VACUUM ANALYZE pgactor_bench;
"""


@contextmanager
def database() -> Iterator[str]:
    """The dsn of a database with the table in it."""
    given = os.environ.get("PGACTOR_BENCH_DSN")
    if given:
        asyncio.run(_fill(given))
        yield given
        return
    with embedded_postgres() as dsn:
        asyncio.run(_fill(dsn))
        yield dsn


@contextmanager
def supervisor(dsn: str, *, max_size: int) -> Iterator[tuple[str, int]]:
    """A running supervisor: its endpoint and its pid."""
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        endpoint = f"ipc://{folder}/bench.sock"
        command = [sys.executable, "-m", "pgactor", "serve", "--endpoint", endpoint, "--log-level", "WARNING",
                   "--min-size", str(max_size), "--max-size", str(max_size)]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PGACTOR_DSN": dsn})
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith("pgactor ready"):
                raise RuntimeError("the supervisor did not start")
            yield endpoint, process.pid
        finally:
            process.terminate()
            process.wait(20)


async def _fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            await connection.execute(statement)
    await connection.close()
