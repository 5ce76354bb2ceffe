"""gunicorn with 16 sync workers: through pgactor on 8 connections, and with a psycopg_pool of 2 in each worker.

    python -m benchmarks.gunicorn --rounds 5 --seconds 5

The runs alternate. Each HTTP request is a connection of its own, as sync workers have it, and looks up one row.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import uvloop

from pgactor import Client

from .database import Database, database
from .results import percentile
from .servers import supervisor
from .statements import ROWS

STARTING_SECONDS = 60.0
WORKERS = 16
CONNECTIONS = {"pgactor": 8, "psycopg_pool": 2 * WORKERS}


class Exchange(asyncio.Protocol):
    """One GET, until the server hangs up."""

    def __init__(self, request: bytes, done: asyncio.Future[bytes]) -> None:
        self._request = request
        self._done = done
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(bytes(self._received))


async def load(path: str, in_flight: int, seconds: float) -> list[float]:
    """So many at a time for so long; the seconds that each took. Raises RuntimeError for a wrong answer."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def ask() -> None:
        while (began := time.perf_counter()) < end:
            number = random.randrange(ROWS)
            done: asyncio.Future[bytes] = loop.create_future()
            request = b"GET /%d HTTP/1.1\r\nHost: bench\r\n\r\n" % number
            await loop.create_unix_connection(lambda: Exchange(request, done), path)  # noqa: B023  # called at once
            answer = await done
            if not answer.startswith(b"HTTP/1.1 200") or b"\r\n\r\n[%d," % number not in answer:
                raise RuntimeError(f"this was no answer: {answer!r}")
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(ask() for _ in range(in_flight)))
    return times


@contextmanager
def served(peer: str, address: str, folder: Path) -> Iterator[str]:
    """gunicorn with that peer, all workers ready; the path of its socket."""
    path = folder / f"{peer}.sock"
    command = [
        *(sys.executable, "-m", "gunicorn", "--bind", f"unix:{path}", "--workers", str(WORKERS)),
        *("--log-level", "warning", "--backlog", "1024", "benchmarks.gunicorn_app:application"),
    ]
    process = subprocess.Popen(command, env={**os.environ, "BENCH_PEER": peer, "BENCH_ADDRESS": address})
    try:
        yield str(path)
    finally:
        process.terminate()
        process.wait(60)


def warm_up(path: str, in_flight: int, seconds: float, is_complete: Callable[[], bool]) -> None:
    """Ask until all workers have joined in, and for so many seconds more."""
    deadline = time.monotonic() + STARTING_SECONDS
    complete = False
    while not complete:
        if time.monotonic() > deadline:
            raise RuntimeError("gunicorn's workers did not start")
        try:
            uvloop.run(load(path, in_flight, 0.5))
            complete = is_complete()
        except OSError:  # nobody listens yet
            time.sleep(0.1)
    uvloop.run(load(path, in_flight, seconds))


def run(peer: str, where: Database, *, in_flight: int, seconds: float) -> dict[str, float]:
    """One run of one of them, from a cold start to its end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgb-")))
        address = where.dsn
        if peer == "pgactor":
            address = stack.enter_context(supervisor(where.dsn, backends=CONNECTIONS[peer])).address
        path = stack.enter_context(served(peer, address, folder))

        def is_complete() -> bool:
            if peer == "pgactor":
                with Client(address) as client:
                    return len(client.status().workers) > WORKERS
            return where.connections() == CONNECTIONS[peer]

        warm_up(path, in_flight, max(1.0, seconds / 3), is_complete)
        connections = where.connections()
        times = sorted(uvloop.run(load(path, in_flight, seconds)))
    return {
        "requests/s": len(times) / seconds,
        "p50 ms": percentile(times, 0.5) * 1000,
        "p99 ms": percentile(times, 0.99) * 1000,
        "connections": connections,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gunicorn", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--in-flight", type=int, default=32, help="HTTP requests at a time")
    given = parser.parse_args()
    figures: dict[str, list[dict[str, float]]] = {peer: [] for peer in CONNECTIONS}
    with database() as where:
        for number in range(given.rounds):
            for peer in sorted(figures, reverse=bool(number % 2)):
                found = run(peer, where, in_flight=given.in_flight, seconds=given.seconds)
                figures[peer].append(found)
                print(
                    f"{number + 1}  {peer:13}", *(f"{value:8.1f} {name}" for name, value in found.items()), flush=True
                )
    print(f"\nmedians of {given.rounds} rounds, {WORKERS} sync workers, {given.in_flight} requests at a time")
    for peer, rounds in figures.items():
        medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        print(f"   {peer:13}", *(f"{value:8.1f} {name}" for name, value in medians.items()))
    for name in ("requests/s", "p99 ms"):
        ratios = [ours[name] / theirs[name] for ours, theirs in zip(*figures.values(), strict=True)]
        median, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(f"pgactor / psycopg_pool, {name}: {median:.2f} ({least:.2f} to {most:.2f})")


if __name__ == "__main__":
    main()
