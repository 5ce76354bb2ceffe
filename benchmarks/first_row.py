"""How soon a fresh process has its first row: from the interpreter's start to the row, and from the import on.

Each sample is a new Python process; the peers take turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from .database import LOOKUP, database, supervisor

_SCRIPTS = {
    "pgactor.Client": """
import time; start = time.perf_counter()
from pgactor import Client
client = Client(%(endpoint)r)
assert client.fetchrow(%(sql)r, 42)["name"] == "name 42"
print(time.perf_counter() - start)
""",
    "asyncpg.connect": """
import time; start = time.perf_counter()
import asyncio, asyncpg
async def main():
    connection = await asyncpg.connect(%(dsn)r)
    assert (await connection.fetchrow(%(sql)r, 42))["name"] == "name 42"
    print(time.perf_counter() - start)
    await connection.close()
asyncio.run(main())
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    whole: dict[str, list[float]] = {name: [] for name in _SCRIPTS}
    imported: dict[str, list[float]] = {name: [] for name in _SCRIPTS}
    with database() as dsn, supervisor(dsn, max_size=2) as (endpoint, _):
        for _ in range(options.rounds):
            for name, script in _SCRIPTS.items():
                code = script % {"endpoint": endpoint, "dsn": dsn, "sql": LOOKUP}
                start = time.perf_counter()
                done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
                whole[name].append(time.perf_counter() - start)
                imported[name].append(float(done.stdout))
    table = Table(
        title=f"first row of a fresh process, median of {options.rounds} alternated rounds", title_justify="left"
    )
    for column in ("", "import to first row, ms", "whole process, ms", "pgactor's is"):
        table.add_column(column, justify="right" if column else "left")
    ours = statistics.median(imported["pgactor.Client"])
    for name in _SCRIPTS:
        first = statistics.median(imported[name])
        table.add_row(
            name, f"{first * 1000:.0f}", f"{statistics.median(whole[name]) * 1000:.0f}", f"{ours / first:.2f}x"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
