"""Processes that have no processor for a while, all of them or some, are not taken for dead ones."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from pgactor import Client
from tests.endtoend.processes import Worker
from tests.supervising import StartSupervisor, until

StartWorker = Callable[..., Worker]

STARVED = 2.5
"""Seconds; silence_seconds is 1 here, and what a client waits for beyond its timeout is made short."""

ASKING = """
import asyncio, pgactor, sys
from pgactor.client import aiochannel, channel
aiochannel.ANSWER_GRACE_SECONDS = channel.ANSWER_GRACE_SECONDS = 0.2
kind, sql, timeout = sys.argv[1], sys.argv[2], float(sys.argv[3])

def asked():
    with pgactor.Client() as client, client.acquire() as lease:
        say("has a lease")
        said = client.fetchval(sql, timeout=timeout)
        return f"{said}, {lease.fetchval('select 2')}"

async def ask():
    async with pgactor.AsyncClient() as client, client.acquire() as lease:
        say("has a lease")
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
KINDS = pytest.mark.parametrize("kind", ["sync", "asyncio", "uvloop"])


def running(client: Client, sql: str) -> bool:
    return bool(client.fetchval("select count(*) from pg_stat_activity where query = $1", sql))


def starve(*pids: int, seconds: float = STARVED) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)  # nothing happens meanwhile
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_a_supervisor_that_had_no_processor_does_not_take_its_workers_for_silent_and_tells_of_it(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor(heartbeat_seconds=0.2, silence_seconds=1)
    sql = "select 1 from pg_sleep(1.5)"
    workers = [start_worker(ASKING, supervisor.tcp, kind, sql, 30) for kind in ("sync", "asyncio", "uvloop")]
    assert [worker.hear() for worker in workers] == ["has a lease"] * 3
    starve(supervisor.pid, seconds=4.5)  # longer than a worker may be silent whose connection is open
    assert [worker.hear() for worker in workers] == ["1, 2"] * 3
    with Client(supervisor.ipc) as client:
        status = client.status()
    assert status.counters["workers_lost"] == 0
    assert status.longest_stall_seconds > 4


@KINDS
def test_a_worker_on_tcp_that_had_no_processor_goes_on_as_if_nothing_had_happened(
    start_supervisor: StartSupervisor, start_worker: StartWorker, kind: str
) -> None:
    supervisor = start_supervisor(heartbeat_seconds=0.2, silence_seconds=1)
    worker = start_worker(ASKING, supervisor.tcp, kind, SOON_DONE, 30)
    assert worker.hear() == "has a lease"
    starve(worker.pid, seconds=2.0)
    assert worker.hear() == "1, 2"


@pytest.mark.parametrize("road", ["ipc", "tcp"])
@KINDS
def test_an_answer_that_has_come_while_a_worker_had_no_processor_is_taken(
    start_supervisor: StartSupervisor, start_worker: StartWorker, kind: str, road: str
) -> None:
    supervisor = start_supervisor()
    with Client(supervisor.ipc) as client:
        worker = start_worker(ASKING, getattr(supervisor, road), kind, SOON_DONE, 1.5)
        assert worker.hear() == "has a lease"
        until(lambda: running(client, SOON_DONE))
    starve(worker.pid)
    assert worker.hear() == "1, 2"


@KINDS
def test_when_all_of_them_had_no_processor_each_request_has_its_answer(
    start_supervisor: StartSupervisor, start_worker: StartWorker, kind: str
) -> None:
    supervisor = start_supervisor(max_size=1, pool={"lease_share": 1.0})
    worker = start_worker(ASKING, supervisor.ipc, kind, "select 1", 1.0)
    assert worker.hear() == "has a lease"  # the statement waits for its connection, till its timeout
    pids = (worker.pid, supervisor.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STARVED)
    os.kill(worker.pid, signal.SIGCONT)
    time.sleep(0.3)
    os.kill(supervisor.pid, signal.SIGCONT)
    assert worker.hear().startswith("PoolTimeout"), "it was not run, which is known"
