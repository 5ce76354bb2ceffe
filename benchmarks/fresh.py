"""How soon a fresh process has its first row: from the interpreter's start to its end, and from the import on."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from .statements import LOOKUP

TIMES = 3
"""Processes of one run."""

_ASYNCIO = """
import time; start = time.perf_counter()
import asyncio, {module}
async def main():
    {connect}
    assert {row} == "name 42"
    print(time.perf_counter() - start)
    {close}
asyncio.run(main())
"""
_PSYCOPG = """
import time; start = time.perf_counter()
import psycopg
with psycopg.connect({address!r}, autocommit=True, prepare_threshold=0) as connection:
    assert connection.execute({percent!r}, (42,)).fetchone()[1] == "name 42"
    print(time.perf_counter() - start)
"""
_ASYNCPG = _ASYNCIO.format(
    module="asyncpg",
    connect="connection = await asyncpg.connect({address!r})",
    row='(await connection.fetchrow({sql!r}, 42))["name"]',
    close="await connection.close()",
)
SCRIPTS = {
    "pgactor.Client": """
import time; start = time.perf_counter()
from pgactor import Client
client = Client({address!r})
assert client.fetchrow({sql!r}, 42)["name"] == "name 42"
print(time.perf_counter() - start)
""",
    "pgactor.AsyncClient": _ASYNCIO.format(
        module="pgactor",
        connect="client = pgactor.AsyncClient({address!r})",
        row='(await client.fetchrow({sql!r}, 42))["name"]',
        close="await client.close()",
    ),
    "asyncpg": _ASYNCPG,
    "PgBouncer + asyncpg": _ASYNCPG,
    "psycopg": _PSYCOPG,
    "PgBouncer + psycopg": _PSYCOPG,
    "psqlpy": _ASYNCIO.format(
        module="psqlpy",
        connect="connection = await psqlpy.connect(dsn={address!r})",
        row='(await connection.fetch_row({sql!r}, [42])).result()["name"]',
        close="connection.close()",
    ),
}


def first_rows(name: str, address: str) -> dict[str, float]:
    """Medians of a few processes, in milliseconds."""
    code = SCRIPTS[name].format(address=address, sql=LOOKUP.sql, percent=LOOKUP.percent)
    first, whole = [], []
    for _ in range(TIMES):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        whole.append(time.perf_counter() - start)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().split("\n")[-1])
        first.append(float(done.stdout))
    return {"p50_ms": statistics.median(first) * 1000, "whole_ms": statistics.median(whole) * 1000}
