"""More is asked than can be done, or replies are not read: what is kept is bounded, deadlines hold, nobody else pays.

The long measured runs are `python -m benchmarks --scenario g` and `python -m benchmarks.overload`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from pgactor import AsyncClient, Client, OutcomeUnknown, PoolTimeout, QueueFull, RequestTimeout
from pgactor.actors import litter, peer
from pgactor.actors.session import Session
from pgactor.actors.supervisor import GC_THRESHOLD
from pgactor.client.aiolinks import IpcLink
from pgactor.core import scheduler
from tests.endtoend.processes import Worker, state_of
from tests.faults.inprocess import in_process
from tests.supervising import StartSupervisor, until

DEADLINE = 0.5
MAX_WAITING = 300
WORKERS = 6
"""More than one: what is too many of one worker's waits in the worker."""

WORK_SECONDS = 0.004
BACKENDS = 2
CAPACITY = BACKENDS / WORK_SECONDS
LATE = 4.0
"""How much later than its deadline an answer may come, on a machine that is busy with other things."""


@pytest.mark.parametrize("load", [1.1, 2, 10])
async def test_overload_is_bounded_in_the_queue_in_memory_and_in_time(
    start_supervisor: StartSupervisor, load: float
) -> None:
    supervisor = start_supervisor(max_size=BACKENDS, min_size=BACKENDS, pool={"max_waiting": MAX_WAITING})
    process = psutil.Process(supervisor.pid)
    ends: Counter[str] = Counter()
    latest = 0.0
    waiting: list[int] = []

    async def ask(client: AsyncClient) -> None:
        nonlocal latest
        began = time.monotonic()
        try:
            await client.fetchval(f"select 1 from pg_sleep({WORK_SECONDS})", timeout=DEADLINE)
            ends["served"] += 1
        except (PoolTimeout, QueueFull, RequestTimeout) as error:
            ends[type(error).__name__] += 1
        latest = max(latest, time.monotonic() - began)

    async with AsyncExitStack() as stack, AsyncClient(supervisor.ipc) as polite:
        clients = [await stack.enter_async_context(AsyncClient(supervisor.ipc)) for _ in range(WORKERS)]
        for client in clients:
            await client.fetchval("select 1")
        before = process.memory_info().rss
        asked = set()
        began, seconds, count = time.monotonic(), 1.5, 0
        while (passed := time.monotonic() - began) < seconds:
            while count < passed * CAPACITY * load:
                asked.add(asyncio.create_task(ask(clients[count % WORKERS])))
                count += 1
            await asyncio.sleep(0.01)
            if not len(waiting) or passed > 0.1 * len(waiting):
                waiting.append((await polite.status()).waiting)
        assert await polite.fetchval("select 5", timeout=LATE) == 5, "who asks little is served all the same"
        await asyncio.gather(*asked)
        async with asyncio.timeout(30):
            while (state := await polite.status()).busy:
                await asyncio.sleep(0.01)
    assert ends.total() == count, "some had no end, or an unexpected one"
    assert ends["served"] > 0.03 * CAPACITY * seconds
    assert max(waiting) <= MAX_WAITING + 1
    assert latest < DEADLINE + LATE
    assert state.waiting == 0
    assert process.memory_info().rss - before < 40 * 2**20


async def test_what_is_too_many_of_one_workers_waits_in_the_worker(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=2, min_size=2, pool={"max_waiting": 100, "worker_window": 8})
    waiting = []
    async with AsyncClient(supervisor.ipc) as client, AsyncClient(supervisor.ipc) as other:
        await client.fetchval("select 1")
        asked = [asyncio.create_task(client.fetchval("select $1::int", n)) for n in range(1000)]
        while not all(task.done() for task in asked):
            waiting.append((await other.status()).workers[0])
        assert [await task for task in asked] == list(range(1000)), "none was refused, though few may wait"
        assert max(worker.waiting + worker.running for worker in waiting) <= 2 * 8

        held = [await other.acquire() for _ in range(2)]
        asked = [asyncio.create_task(client.fetchval("select $1::int", n, timeout=0.5)) for n in range(100)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(end) for end in ends} == {PoolTimeout}
        with pytest.raises(PoolTimeout) as caught:
            await asyncio.gather(*(client.fetchval("select 1", timeout=0.1) for _ in range(50)))
        assert [lease["pid"] for lease in caught.value.leases] == [os.getpid()] * 2, "it tells who holds them"
        for lease in held:
            lease.release()
        assert await asyncio.gather(*(client.fetchval("select 1") for _ in range(100))) == [1] * 100


async def test_a_process_that_was_refused_is_not_held_up_by_its_own_slow_statements_afterwards(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = start_supervisor(max_size=12, min_size=12)
    async with AsyncClient(supervisor.ipc) as client, AsyncClient(supervisor.ipc) as other:
        await client.status()
        held = [await other.acquire() for _ in range(12)]
        for _ in range(10):
            asked = [client.fetchval("select 1", timeout=0.05) for _ in range(150)]
            assert {type(end) for end in await asyncio.gather(*asked, return_exceptions=True)} == {PoolTimeout}
            await asyncio.sleep(0.1)
        for lease in held:
            lease.release()
        (channel,) = client._channels.values()
        assert channel.line.most < 11
        slow = [asyncio.create_task(client.fetchval("select pg_sleep(60)")) for _ in range(channel.line.most)]
        await asyncio.sleep(0.05)
        assert await client.fetchval("select 1", timeout=30) == 1, "there are backends that nobody uses"
        for task in slow:
            task.cancel()


SILENT = """
    import asyncio
    from pgactor import AsyncClient

    async def main():
        client = AsyncClient(request_timeout=None)
        await client.fetchval("select 1")
        say("ready")
        await asyncio.to_thread(hear)
        replies = [asyncio.create_task(client.fetch({sql!r})) for _ in range({count})]
        await replies[0]
        os.kill(os.getpid(), 19)  # SIGSTOP: it reads nothing from now on
        ends = await asyncio.gather(*replies, return_exceptions=True)
        say([type(end).__name__ for end in ends if isinstance(end, Exception)])

    asyncio.run(main())
"""


@pytest.mark.parametrize("road", ["ipc", "tcp"])
def test_a_reader_that_does_not_read_is_bounded_then_disconnected_and_nobody_else_is_slowed(
    start_supervisor: StartSupervisor, road: str
) -> None:
    most = 8 * 2**20
    supervisor = start_supervisor(
        max_size=2,
        max_unsent_bytes=most,
        silence_seconds=60,
        heartbeat_seconds=0.5,
        pool={"opens_at_once": 1, "worker_window": 1000},
    )
    process = psutil.Process(supervisor.pid)
    sql = "select repeat('x', 1000) as x from generate_series(1, 30)"  # not large, so not sent at its reader's pace
    silent = Worker(SILENT.format(sql=sql, count=2000), getattr(supervisor, road))
    try:
        with Client(supervisor.ipc) as client:
            assert silent.hear() == "ready"
            client.fetch(sql)
            before = process.memory_info().rss
            silent.tell()
            until(lambda: psutil.Process(silent.pid).status() == psutil.STATUS_STOPPED)
            slowest = most_memory = 0.0
            deadline = time.monotonic() + 60
            while "does not read its replies" not in supervisor.log.read_text():
                assert time.monotonic() < deadline, "it was not disconnected"
                began = time.monotonic()
                assert client.fetchval("select 5") == 5
                slowest = max(slowest, time.monotonic() - began)
                most_memory = max(most_memory, process.memory_info().rss - before)
            until(lambda: not any(worker.pid == silent.pid for worker in client.status().workers))
            until(lambda: client.status().busy == 0)
            assert slowest < LATE
            assert most_memory < 6 * most
            silent.signal(signal.SIGCONT)
            unknown = silent.hear()
            assert set(unknown) == {"OutcomeUnknown"}
    finally:
        silent.end()


async def test_those_whose_statements_stand_behind_one_that_does_not_read_are_not_kept_waiting(
    dsn: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "GATHERED_SECONDS", 60.0)  # or, on a busy machine, none would stand behind another
    sql = "select repeat('x', 1000) as x from generate_series(1, $1::int)"
    sharing = {"statement_lane": "on", "max_size": 1, "pipeline_short_seconds": 1.0, "pipeline_stall_seconds": 5.0}
    async with in_process(dsn, short_tmp, pool=sharing) as supervisor:
        endpoint = supervisor.endpoints[0]
        async with AsyncClient(endpoint) as silent, AsyncClient(endpoint) as other:
            for _ in range(20):  # both are known to be short
                await silent.fetch(sql, 1)
                await other.fetchval("select $1::int", 1)
            stop_reading(silent)
            large = asyncio.create_task(silent.fetch(sql, 20_000))
            behind = [asyncio.create_task(other.fetchval("select $1::int", number)) for number in range(5)]
            async with asyncio.timeout(20):
                assert await asyncio.gather(*behind) == list(range(5))
            assert not large.done()
            read_again(silent)
            assert len(await large) == 20_000


async def test_a_reader_of_a_large_result_that_does_not_read_is_disconnected_in_the_end(
    dsn: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peer, "STALLED_SECONDS", 0.5)
    sql = "select repeat('x', 1000) as x from generate_series(1, $1::int)"
    async with in_process(dsn, short_tmp, pool={"max_size": 2}) as supervisor:
        endpoint = supervisor.endpoints[0]
        async with AsyncClient(endpoint) as silent, AsyncClient(endpoint) as other:
            await silent.fetch(sql, 1)
            stop_reading(silent)
            large = asyncio.create_task(silent.fetch(sql, 100_000))
            async with asyncio.timeout(30):
                while len((await other.status()).workers) == 2:
                    assert await other.fetchval("select 5") == 5
                while (await other.status()).busy:
                    await asyncio.sleep(0)
            read_again(silent)
            with pytest.raises(OutcomeUnknown):
                await large
            assert await silent.fetchval("select 6") == 6
    assert "it has read nothing of a large result" in caplog.text


def stop_reading(client: AsyncClient) -> None:
    """Let the client take nothing off its link."""
    asyncio.get_running_loop().remove_reader(link_of(client)._socket.fileno())


def read_again(client: AsyncClient) -> None:
    """Let it take what there is, and will be."""
    link = link_of(client)
    asyncio.get_running_loop().add_reader(link._socket.fileno(), link._read)


def link_of(client: AsyncClient) -> IpcLink:
    """The client's link."""
    connected = client._channels[asyncio.get_running_loop()]._connected
    assert connected is not None
    assert isinstance(connected.link, IpcLink)
    return connected.link


def test_a_flood_of_connections_that_say_nothing_keeps_nobody_waiting(start_supervisor: StartSupervisor) -> None:
    import socket

    supervisor = start_supervisor(max_size=2)
    path = supervisor.ipc.removeprefix("ipc://")
    silent = []
    with Client(supervisor.ipc) as client:
        for _ in range(200):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(path)
            silent.append(sock)
        began = time.monotonic()
        assert client.fetchval("select 5") == 5
        assert time.monotonic() - began < LATE
        for sock in silent:
            sock.close()
        until(lambda: len(list(Path(f"/proc/{supervisor.pid}/fd").iterdir())) < 60)
        assert len(state_of(supervisor.ipc).workers) == 2


async def test_connections_that_have_ended_do_not_gather_in_memory(
    dsn: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litter, "ENOUGH", 10)
    thresholds = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD)
    try:
        async with in_process(dsn, short_tmp, pool={"max_size": 1}) as supervisor:
            for _ in range(30):
                async with AsyncClient(supervisor.endpoints[0]) as client:
                    await client.fetchval("select 1")
                    await client.expire_connections()
            async with asyncio.timeout(20):
                while how_many(Session) > 12:
                    await asyncio.sleep(0.1)
    finally:
        gc.set_threshold(*thresholds)


def how_many(cls: type) -> int:
    """Of these there are in memory."""
    return sum(type(each) is cls for each in gc.get_objects())
