"""`python -m benchmarks.listening`: many worker processes subscribed to the same channels, and how many connections
that takes.

One session sends numbered notifications, the channels by turns. Each worker is a process of its own with a link of
its own, and counts: it must get every number once, in order, on the right channel, and no gap. The exit status is 0
only if all of them did and PostgreSQL never saw more than one connection of the supervisor's that listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import asyncpg
import click

from pgactor import Client

from .database import database
from .servers import supervisor

SEND = "select count(pg_notify($1 || n % $2, n::text)) from generate_series($3::int, $4::int) n"
LISTENING = "select pid from pg_stat_activity where application_name = 'pgactor' and query like '%LISTEN%'"
PREFIX = "benchmark "


@dataclass
class Worker:
    """A forked process. said: where it tells of itself, a line of JSON at a time."""

    pid: int
    said: Any

    def hear(self) -> Any:
        """What it says next; its end is an error."""
        line = self.said.readline()
        if not line:
            raise RuntimeError(f"worker {self.pid} has ended")
        return json.loads(line)


@click.command(context_settings={"show_default": True})
@click.option("--workers", default=100, help="Processes, each with one link.")
@click.option("--channels", default=10, help="Each worker is subscribed to all of them.")
@click.option("--notes", default=10_000, help="Notifications in all.")
@click.option("--at-once", default=100, help="How many of them are sent in one transaction.")
def main(workers: int, channels: int, notes: int, at_once: int) -> None:
    """Show that each notification reaches each subscriber once, in order, by one connection."""
    with database() as found, supervisor(found.dsn, backends=2) as server:
        crew = [_fork(server.address, channels, notes) for _ in range(workers)]
        for worker in crew:
            worker.hear()
        began = time.monotonic()
        seen = asyncio.run(_send(found.dsn, channels, notes, at_once))
        sent = time.monotonic()
        verdicts = [worker.hear() for worker in crew]
        took = time.monotonic() - began
        for worker in crew:
            os.waitpid(worker.pid, 0)
        with Client(server.address) as client:
            counters = client.status().counters
    wrong = [verdict for verdict in verdicts if verdict["wrong"] or verdict["heard"] != notes]
    delivered = sum(verdict["heard"] for verdict in verdicts)
    print(f"{workers} workers, {channels} channels, {notes} notifications, {delivered} deliveries")
    print(
        f"sent in {sent - began:.2f} s, all delivered {took:.2f} s after the first: {delivered / took:.0f} a second"
    )
    print(f"connections that listen: {len(seen)}; the supervisor counted {counters['notifications']} notifications")
    print(f"CPU of a worker: {sum(verdict['cpu'] for verdict in verdicts) / delivered * 1e6:.1f} us a delivery")
    for verdict in wrong[:10]:
        print(f"WRONG: {verdict}")
    well = not wrong and len(seen) == 1 and delivered == workers * notes
    print("each notification reached each subscriber once, in order" if well else "FAILED")
    sys.exit(not well)


async def _send(dsn: str, channels: int, notes: int, at_once: int) -> set[int]:
    """Send all; returns which of the supervisor's connections were seen to listen meanwhile."""
    connection = await asyncpg.connect(dsn)
    seen: set[int] = set()
    for first in range(0, notes, at_once):
        await connection.execute(SEND, PREFIX, channels, first, min(first + at_once, notes) - 1)
        if first % (10 * at_once) == 0:
            seen |= {row["pid"] for row in await connection.fetch(LISTENING)}
    await connection.close()
    return seen


def _fork(endpoint: str, channels: int, notes: int) -> Worker:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _work(endpoint, channels, notes, writer)
    os.close(writer)
    return Worker(pid, os.fdopen(reader))


def _work(endpoint: str, channels: int, notes: int, writer: int) -> NoReturn:
    """A worker: subscribe, count, tell."""
    status = 1
    try:
        names = [f"{PREFIX}{number}" for number in range(channels)]
        heard, wrong = 0, ""
        with Client(endpoint, label="listening") as client, client.listen(*names) as subscription:
            os.write(writer, b'"ready"\n')
            while heard < notes and not wrong:
                note = subscription.get(60)
                if note is None or note.gap or (note.channel, note.payload) != (names[heard % channels], str(heard)):
                    wrong = f"{note} in the place of number {heard}"
                else:
                    heard += 1
            if extra := subscription.get(0.2):
                wrong = wrong or f"{extra} after the last one"
        usage = resource.getrusage(resource.RUSAGE_SELF)
        verdict = {"heard": heard, "wrong": wrong, "cpu": usage.ru_utime + usage.ru_stime}
        os.write(writer, json.dumps(verdict).encode() + b"\n")
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
