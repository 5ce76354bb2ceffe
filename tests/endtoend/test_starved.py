"""Processes that have no processor for a while, all of them or some, are not taken for dead ones."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from pgactor import Client
from tests.endtoend.processes import Worker
from tests.supervising import StartSupervisor, until

StartWorker = Callable[..., Worker]

STARVED = 3.0
"""Seconds; silence_seconds is 0.6 here, and what a client waits for beyond its timeout is made short."""

ASKING = """
import asyncio, pgactor, sys
from pgactor.client import aiochannel, channel
aiochannel.ANSWER_GRACE_SECONDS = channel.ANSWER_GRACE_SECONDS = 0.2
kind, sql, timeout = sys.argv[1], sys.argv[2], float(sys.argv[3])

def asked():
    with pgactor.Client() as client, client.acquire() as lease:
        say("has a lease")
        hear()
        said = client.fetchval(sql, timeout=timeout)
        return f"{said}, {lease.fetchval('select 2')}"

async def ask():
    async with pgactor.AsyncClient() as client, client.acquire() as lease:
        say("has a lease")
        await asyncio.to_thread(hear)
        said = await client.fetchval(sql, timeout=timeout)
        return f"{said}, {await lease.fetchval('select 2')}"

def run():
    if kind == "sync":
        return asked()
    if kind == "uvloop":
        import uvloop
        return uvloop.run(ask())
    return asyncio.run(ask())

try:
    say(run())
except pgactor.PgactorError as error:
    say(f"{type(error).__name__}: {error}")
"""

SOON_DONE = "select 1 from pg_sleep(0.2)"
ANSWERED = "select 1 from pg_sleep(1.2)"
KINDS = ("sync", "asyncio", "uvloop")


def running(client: Client, sql: str) -> int:
    return int(client.fetchval("select count(*) from pg_stat_activity where query = $1", sql))


def begin(workers: list[Worker]) -> None:
    """Have all of them ask, when all of them have their leases."""
    assert [worker.hear() for worker in workers] == ["has a lease"] * len(KINDS)
    for worker in workers:
        worker.tell()


def starve(*pids: int, seconds: float = STARVED, beside: Sequence[int] = ()) -> None:
    """Have these stopped for a while. beside: those that go on then."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in beside:
        os.kill(pid, signal.SIGCONT)
    time.sleep(seconds)  # nothing happens meanwhile
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_a_supervisor_that_had_no_processor_does_not_take_its_workers_for_silent_and_tells_of_it(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor(heartbeat_seconds=0.1, silence_seconds=0.6, max_size=8)
    sql = "select 1 from pg_sleep(0.5)"
    workers = [start_worker(ASKING, supervisor.tcp, kind, sql, 30) for kind in KINDS]
    begin(workers)
    starve(supervisor.pid)  # longer than a worker may be silent whose connection is open
    assert [worker.hear() for worker in workers] == ["1, 2"] * 3
    with Client(supervisor.ipc) as client:
        status = client.status()
    assert status.counters["workers_lost"] == 0
    assert status.longest_stall_seconds > STARVED - 0.5


def test_workers_on_tcp_that_had_no_processor_go_on_as_if_nothing_had_happened(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor(heartbeat_seconds=0.1, silence_seconds=0.6, max_size=8)
    workers = [start_worker(ASKING, supervisor.tcp, kind, SOON_DONE, 30) for kind in KINDS]
    begin(workers)
    starve(*(worker.pid for worker in workers), seconds=1.2)
    assert [worker.hear() for worker in workers] == ["1, 2"] * 3


def test_an_answer_that_has_come_while_a_worker_had_no_processor_is_taken(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor(max_size=8)
    with Client(supervisor.ipc) as client:
        workers = [start_worker(ASKING, supervisor.ipc, kind, ANSWERED, 2.0) for kind in KINDS]
        begin(workers)
        until(lambda: running(client, ANSWERED))
    starve(*(worker.pid for worker in workers))
    assert [worker.hear() for worker in workers] == ["1, 2"] * 3


def test_when_all_of_them_had_no_processor_each_request_has_its_answer(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    """A statement beside its worker's own lease, while there is no connection left: it waits till its timeout."""
    supervisor = start_supervisor(max_size=3, pool={"lease_share": 1.0})
    workers = [start_worker(ASKING, supervisor.ipc, kind, "select 1", 1.0) for kind in KINDS]
    begin(workers)
    time.sleep(0.3)  # nothing tells that they have asked
    clients = [worker.pid for worker in workers]
    for pid in (*clients, supervisor.pid):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STARVED)
    starve(supervisor.pid, seconds=0.3, beside=clients)
    said = [worker.hear() for worker in workers]
    assert [word.partition(":")[0] for word in said] == ["PoolTimeout"] * 3, f"it was not run, which is known: {said}"
