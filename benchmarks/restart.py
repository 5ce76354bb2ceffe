"""How soon all workers are served again when the supervisor was killed: `python -m benchmarks.restart --help`.

Each worker is a process with a blocking client that asks again and again. The supervisor is killed, and another
started; from the moment at which that one is ready, it is measured when each worker has its first answer.
Meanwhile it is looked at how many connections PostgreSQL has.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import asyncpg
import click

from pgactor import Client, PgactorError
from pgactor.messages.pool import PoolStatus

from .database import database
from .results import percentile
from .soak.supervisor import Supervisor, supervisor

WANTED_SECONDS = 2.0
PAUSE_SECONDS = 0.05
"""Between two questions of a worker."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["asyncpg", "click", "pgactor"])


def _work(endpoint: str, number: int, parent: Connection) -> None:
    """A worker: tells "served" when it has its first answer, and, told an epoch, the time of the first answer of a
    supervisor that came after that."""
    random = Random(number)
    with Client(endpoint, connect_timeout=60, label=f"worker {number}") as client:
        assert client.fetchval("select $1::int", number) == number
        parent.send("served")
        watching = 0.0
        while True:
            if parent.poll(random.random() * PAUSE_SECONDS):
                watching = parent.recv()
                if not watching:
                    return
            try:
                assert client.fetchval("select $1::int", number) == number
            except PgactorError:
                continue
            connected = client._channel._connected
            if watching and connected is not None and connected.requests.epoch > watching:
                parent.send(time.monotonic())
                watching = 0.0


class _Watch:
    """How many connections PostgreSQL has at most."""

    def __init__(self, dsn: str, running: Supervisor) -> None:
        self._dsn = dsn
        self._name = running.name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()))
        self.connections = 0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    async def _look(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        sql = "select count(*) from pg_stat_activity where application_name = $1"
        while not self._ended.is_set():
            self.connections = max(self.connections, await connection.fetchval(sql, self._name))
            await asyncio.sleep(0.005)
        await connection.close()


def _restart(dsn: str, running: Supervisor, pipes: list[Connection]) -> tuple[list[float], _Watch, int]:
    """Kill it and start it again. Returns after how many seconds each worker was served; what was seen; and how many
    connections it has opened in all."""
    epoch = _status(running).epoch
    for pipe in pipes:
        pipe.send(epoch)
    with _Watch(dsn, running) as watch:
        running.restart()
        ready = time.monotonic()
        seconds = [max(0.0, pipe.recv() - ready) for pipe in pipes]
    return sorted(seconds), watch, _status(running).counters["connections_opened"]


def _status(running: Supervisor) -> PoolStatus:
    with Client(running.ipc, label="observer") as client:
        return client.status()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--workers", default=200, help="Worker processes.")
@click.option("--connections", default=8, help="The supervisor's max_size.")
@click.option("--rounds", default=5, help="How often it is killed.")
def main(workers: int, connections: int, rounds: int) -> None:
    """Exits 1 if a worker was not served within 2 s, or the supervisor opened more connections than it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    failed = False
    with (
        database() as opened,
        tempfile.TemporaryDirectory(prefix="pgr-") as name,
        supervisor(opened.dsn, Path(name), connections=connections, lane="on", deep=False) as running,
    ):
        ends = [_context.Pipe() for _ in range(workers)]
        processes = [
            _context.Process(target=_work, args=(running.ipc, number, theirs), daemon=True)
            for number, (_, theirs) in enumerate(ends)
        ]
        for process in processes:
            process.start()
        pipes = [ours for ours, _ in ends]
        try:
            for pipe in pipes:
                assert pipe.recv() == "served"
            for number in range(rounds):
                seconds, watch, opens = _restart(opened.dsn, running, pipes)
                failed |= seconds[-1] > WANTED_SECONDS or opens > connections
                click.echo(
                    f"round {number + 1}: {workers} workers served again after {percentile(seconds, 0.5):.2f} s "
                    f"(median), {percentile(seconds, 0.99):.2f} s (p99), {seconds[-1]:.2f} s (the last); "
                    f"{opens} connections opened, PostgreSQL had at most "
                    f"{watch.connections}, those of the killed one among them"
                )
            for pipe in pipes:
                pipe.send(0)
            for process in processes:
                process.join(10)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
    click.echo("not as wanted" if failed else f"all were served within {WANTED_SECONDS:g} s")
    sys.exit(failed)


if __name__ == "__main__":
    main()
