"""kill -9 of workers in a transaction: how long until their locks are gone and their backend serves another.

    python -m benchmarks.deaths --kills 200

Each worker is a process that holds a lease, and in its transaction a row. The only backend is waited for by a second
worker, or, with two backends, the row is; the time runs from before the kill until that worker has its answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import asyncpg
import click

from pgactor import Client
from pgactor.actors.embedded import embedded_postgres

TABLE = "deaths"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--kills", default=200, help="How many, of each kind.")
@click.option("--dsn", help="A database of yours, instead of an embedded one. A table deaths is made there.")
def main(kills: int, dsn: str | None) -> None:
    """Print p50, p99 and the longest, in milliseconds."""
    with (
        nullcontext(dsn) if dsn else embedded_postgres() as database,
        tempfile.TemporaryDirectory(prefix="pga-") as folder,
    ):
        asyncio.run(_run(database, f"drop table if exists {TABLE}"))
        asyncio.run(_run(database, f"create table {TABLE} (id int primary key, value int)"))
        asyncio.run(_run(database, f"insert into {TABLE} values (1, 0)"))
        try:
            for connections, what in ((1, "its backend serves another worker"), (2, "its row lock is another's")):
                with _supervisor(database, Path(folder), connections) as endpoint:
                    seconds = sorted(_kill(endpoint, connections) for _ in range(kills))
                p99 = seconds[min(len(seconds) - 1, round(0.99 * len(seconds)))]
                figures = (seconds[len(seconds) // 2], p99, seconds[-1])
                words = ", ".join(
                    f"{name} {each * 1000:.1f} ms" for name, each in zip(("p50", "p99", "max"), figures, strict=True)
                )
                print(f"{kills} kills, until {what}: {words}", flush=True)
        finally:
            asyncio.run(_run(database, f"drop table {TABLE}"))


def _kill(endpoint: str, connections: int) -> float:
    """Kill one worker; how many seconds it took until the next had what it held."""
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        _hold(endpoint, telling)
    backend = int(os.read(told, 32))
    os.close(told)
    os.close(telling)
    sql = f"update {TABLE} set value = value + 1 where id = 1 returning value, pg_backend_pid()"
    with Client(endpoint) as client, Client(endpoint) as observer, ThreadPoolExecutor(1) as threads:
        before = observer.status().counters["requests"]
        answer = threads.submit(client.fetchrow, sql)
        while observer.status().counters["requests"] == before:
            time.sleep(0.001)
        if connections > 1:
            time.sleep(0.02)  # its statement waits for the row by now
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        row = answer.result(60)
        took = time.monotonic() - began
    os.waitpid(pid, 0)
    assert row is not None
    assert row[0] < 1000, "what the killed worker did was not rolled back"
    assert (row[1] == backend) is (connections == 1)
    return took


def _hold(endpoint: str, telling: int) -> None:
    """The worker: it locks the row in a transaction, and waits for its end."""
    try:
        lease = Client(endpoint).acquire(ttl=60)
        lease.execute("begin")
        lease.execute(f"update {TABLE} set value = value + 1000 where id = 1")
        os.write(telling, str(lease.backend_pid).encode())
        signal.pause()
    finally:
        os._exit(1)


@contextmanager
def _supervisor(dsn: str, folder: Path, connections: int) -> Iterator[str]:
    endpoint = f"ipc://{folder}/{connections}.sock"
    command = ["-m", "pgactor", "serve", "--dsn", dsn, "--endpoint", endpoint, "--max-size", str(connections)]
    command += ["--log-level", "ERROR"]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    try:
        with Client(endpoint) as client:
            client.fetchval("select 1")
        yield endpoint
    finally:
        process.terminate()
        process.wait()


async def _run(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
