"""COPY in and out and a long cursor beside asyncpg's own: speed, peak memory, and what another's look-ups feel.

`python -m benchmarks.copying --megabytes 1000`, which are 10 million rows, on $PGACTOR_BENCH_DSN or an embedded
PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from pgactor import AsyncClient, Client
from pgactor.actors.embedded import embedded_postgres

from .servers import supervisor

TABLE = "pgactor_bench_copy"
PIECE = b"".join(b"%d\t%s\n" % (number, b"x" * 92) for number in range(10_000, 20_000))
"""A megabyte of rows."""
LOOKUPS_PER_SECOND = 200
PREFETCH = 1000
"""How many rows the cursor has sent at a time."""


def peak_mb(pid: int) -> float:
    """The most memory that the process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


async def _connect(address: str) -> Any:
    if address.startswith("ipc:"):
        return await AsyncClient(address, request_timeout=None).acquire()
    return await asyncpg.connect(address)


async def _copy(address: str, way: str, megabytes: int) -> tuple[float, float]:
    connection = await _connect(address)

    async def source() -> AsyncIterator[bytes]:
        for _ in range(megabytes):
            yield PIECE

    async def sink(_: bytes) -> None:
        pass

    async def read() -> str:
        count = 0
        async with connection.transaction():
            async for row in connection.cursor(f"select id, text from {TABLE}", prefetch=PREFETCH):
                count += len(row["text"]) == 92
        return f"COPY {count}"

    start = time.perf_counter()
    if way == "in":
        tag = await connection.copy_to_table(TABLE, source=source())
    elif way == "out":
        tag = await connection.copy_from_table(TABLE, output=sink)
    else:
        tag = await read()
    seconds = time.perf_counter() - start
    assert tag == f"COPY {megabytes * 10_000}", tag
    return megabytes / seconds, peak_mb(os.getpid())


def copy(address: str, way: str, megabytes: int) -> tuple[float, float]:
    """Megabytes a second, and the peak memory of this process."""
    return uvloop.run(_copy(address, way, megabytes))


def look_up(endpoint: str, seconds: float, stop: str) -> tuple[float, float]:
    """p50 and p99 of look-ups in milliseconds, for so long or until there is a file named `stop`."""
    client, took = Client(endpoint), []
    until = time.monotonic() + seconds
    while time.monotonic() < until and not Path(stop).exists():
        start = time.perf_counter()
        client.fetchrow("select $1::int", 1)
        took.append(time.perf_counter() - start)
        time.sleep(1 / LOOKUPS_PER_SECOND)
    client.close()
    took.sort()
    return took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000


def _run(dsn: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(run())


def _in_process(stack: ExitStack, function: Any, *args: Any) -> Future[Any]:
    """In a fresh process, whose memory is its own."""
    pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")))
    return pool.submit(function, *args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=300)
    megabytes = parser.parse_args().megabytes
    with ExitStack() as stack:
        dsn = os.environ.get("PGACTOR_BENCH_DSN") or stack.enter_context(embedded_postgres())
        server = stack.enter_context(supervisor(dsn, backends=4))
        assert server.pid is not None
        stop = Path(server.address.removeprefix("ipc://")).with_name("stop")
        idle = _in_process(stack, look_up, server.address, 5.0, str(stop)).result()
        print(f"look-ups alone: p50 {idle[0]:.2f} ms, p99 {idle[1]:.2f} ms")
        _run(dsn, f"drop table if exists {TABLE}; create unlogged table {TABLE} (id int, text text)")
        for way in ("in", "out", "cursor"):
            for name, address in (("asyncpg", dsn), ("pgactor", server.address)):
                if way == "in":
                    _run(dsn, f"truncate {TABLE}")
                stop.unlink(missing_ok=True)
                lookups = _in_process(stack, look_up, server.address, 3600.0, str(stop))
                speed, memory = _in_process(stack, copy, address, way, megabytes).result()
                stop.touch()
                p50, p99 = lookups.result()
                print(
                    f"{way:6} {name}: {speed:6.1f} MB/s; at most: worker {memory:.0f} MB, supervisor "
                    f"{peak_mb(server.pid):.0f} MB; look-ups meanwhile: p50 {p50:.2f} ms, p99 {p99:.2f} ms"
                )
        _run(dsn, f"drop table {TABLE}")


if __name__ == "__main__":
    main()
