"""The supervisor is killed, with everything in flight, and comes back; or it is told to end, and drains."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from pgactor import (
    AsyncClient,
    Client,
    LeaseLost,
    OutcomeUnknown,
    PoolClosing,
    SupervisorUnavailable,
)
from pgactor.client import calls, replies
from pgactor.messages import Token
from tests.endtoend.processes import ask, state_of
from tests.supervising import StartSupervisor, SupervisorProcess, until

ROADS = ["ipc", "tcp"]
SOON = 10.0
_numbers = itertools.count(1)


@pytest.fixture
def table(dsn: str) -> Iterator[str]:
    """A table with (id int primary key, value text). Whoever is left at work on it is ended before it goes."""
    name = f"pgactor_deaths_{os.getpid()}_{next(_numbers)}"
    ask(dsn, f"create table {name} (id int primary key, value text)")
    yield name
    end_all(dsn, name)
    ask(dsn, f"drop table {name}")


def kill(supervisor: SupervisorProcess) -> None:
    supervisor.process.kill()
    supervisor.process.wait()


class Gated:
    """A COPY's source that is never at its end: a row, and then nothing until the gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield b"1\tone\n"
        self.gate.wait(30)
        yield b"2\ttwo\n"


@pytest.mark.parametrize("road", ROADS)
def test_all_that_is_in_flight_when_the_supervisor_is_killed_ends_as_unknown_and_all_works_again(
    start_supervisor: StartSupervisor, dsn: str, table: str, road: str
) -> None:
    supervisor = start_supervisor(max_size=6)
    source = Gated()
    with ThreadPoolExecutor(8) as threads, Client(getattr(supervisor, road), connect_timeout=20) as client:
        writing, copying, reading, idle = (client.acquire() for _ in range(4))
        writing.execute("begin")
        writing.execute(f"insert into {table} values (10, 'never committed')")
        big = f"(select g, repeat('x', 1000) from generate_series(1, 1000000) g, (select count(*) from {table}) t)"
        in_flight: dict[str, Future[Any]] = {
            "read": threads.submit(client.fetchval, f"select pg_sleep(100) from (select count(*) from {table}) t"),
            "write": threads.submit(client.execute, f"insert into {table} select 20, 'late' from pg_sleep(100)"),
            "batch": threads.submit(
                client.batch,
                [(f"insert into {table} values (30, 'late')",), f"select pg_sleep(100), count(*) from {table}"],
            ),
            "on a lease": threads.submit(writing.execute, f"select pg_sleep(100), count(*) from {table}"),
            "copy in": threads.submit(copying.copy_to_table, table, source=source, timeout=100),
            "copy out": threads.submit(reading.copy_from_query, f"select * from {big} b", output=slow_to_read),
        }
        until(lambda: len(at_work(dsn, table)) >= 5, seconds=60)
        kill(supervisor)
        killed = time.monotonic()
        for name, request in in_flight.items():
            if name != "copy in":
                with pytest.raises(OutcomeUnknown):
                    request.result(SOON)
        source.gate.set()
        with pytest.raises((OutcomeUnknown, LeaseLost)):
            in_flight["copy in"].result(SOON)
        assert time.monotonic() - killed < SOON
        tokens = [lease.token for lease in (writing, copying, reading, idle)]
        for lease in (writing, copying, reading, idle):
            with pytest.raises(LeaseLost):
                lease.fetchval("select 1")

        supervisor.start()
        assert client.fetchval("select 7") == 7
        for token in tokens:
            must_be_refused(client, token)
        for lease in (writing, copying, reading, idle):
            lease.release()
        with client.acquire() as another, another.transaction():
            another.execute(f"insert into {table} values (40, 'new life')")
    end_all(dsn, table)
    assert [row["id"] for row in ask(dsn, f"select id from {table} order by id")] == [40]


def slow_to_read(data: bytes) -> None:
    """A COPY's sink."""
    time.sleep(0.05)


def at_work(dsn: str, table: str) -> list[Any]:
    return ask(
        dsn,
        "select query from pg_stat_activity where state = 'active' and query like $1 and pid <> pg_backend_pid()",
        f"%{table}%",
    )


def must_be_refused(client: Client, token: Token) -> None:
    """A token of an earlier life, sent on a link of this one, touches nothing."""
    stolen = calls.fetch("select 1", (), 5.0, token)
    with pytest.raises(LeaseLost, match="earlier life"):
        replies.rows(client._channel.call(stolen)[0], stolen)


async def test_what_waits_in_its_own_process_when_the_supervisor_is_killed_is_done_once_by_the_next(
    start_supervisor: StartSupervisor, dsn: str, table: str
) -> None:
    supervisor = start_supervisor(max_size=2, pool={"worker_window": 2})
    async with AsyncClient(supervisor.ipc, connect_timeout=30) as client:

        async def insert(number: int) -> str:
            try:
                return await client.execute(f"insert into {table} select $1::int from pg_sleep(0.02)", number)
            except OutcomeUnknown:
                return "unknown"

        tasks = [asyncio.create_task(insert(number)) for number in range(50)]
        await asyncio.wait(tasks[:5])
        kill(supervisor)
        tasks[-1].cancel()
        await asyncio.to_thread(supervisor.start)
        ends = await asyncio.gather(*tasks[:-1])
        assert 1 <= ends.count("unknown") <= 4, "twice the worker_window, and those alone, were with the supervisor"
        there = {row["id"] for row in await asyncio.to_thread(ask, dsn, f"select id from {table}")}
        done = {number for number, end in enumerate(ends) if end == "INSERT 0 1"}
        assert done <= there <= set(range(49)), "what was cancelled in the line was not sent"
        assert len(done) == 49 - ends.count("unknown")


def has_rows(client: Client) -> bool:
    """Whether a part of a result has come."""
    connected = client._channel._connected
    return connected is not None and any(pending.parts for pending in list(connected.requests.pending.values()))


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("column", ["n", "array[n::numeric]"], ids=["of the statement lane", "of asyncpg"])
def test_a_large_result_whose_supervisor_is_killed_in_its_midst_is_unknown_and_no_shorter_result(
    start_supervisor: StartSupervisor, road: str, column: str
) -> None:
    supervisor = start_supervisor(max_size=1)
    sql = f"select {column}, repeat('x', 1000) from generate_series(1, 1000000) n"
    with ThreadPoolExecutor(1) as thread, Client(getattr(supervisor, road)) as client:
        fetching = thread.submit(client.fetch, sql)
        until(lambda: has_rows(client))
        kill(supervisor)
        with pytest.raises(OutcomeUnknown):
            fetching.result(SOON)


@pytest.mark.parametrize("road", ROADS)
async def test_a_read_that_is_marked_repeatable_is_asked_again_of_the_next_supervisor_once(
    start_supervisor: StartSupervisor, dsn: str, table: str, road: str
) -> None:
    supervisor = start_supervisor()
    sql = f"select $1::int + count(*) from {table}, pg_sleep(0.5)"
    endpoint = getattr(supervisor, road)
    with Client(endpoint, connect_timeout=20) as blocking:
        async with AsyncClient(endpoint, connect_timeout=20) as client:
            repeated = asyncio.create_task(client.repeatable.fetchval(sql, 1))
            in_thread = asyncio.create_task(asyncio.to_thread(blocking.repeatable.fetchval, sql, 2))
            unmarked = asyncio.create_task(client.fetchval(sql, 3))
            await until_at_work(dsn, table, 3)
            await asyncio.to_thread(kill, supervisor)
            async with asyncio.timeout(SOON):
                with pytest.raises(OutcomeUnknown):
                    await unmarked
            await asyncio.to_thread(supervisor.start)
            assert [await repeated, await in_thread] == [1, 2]

            again = asyncio.create_task(client.repeatable.fetchrow(f"select pg_sleep(50) from {table} right join "
                                                                   "(select 1) t on true"))  # fmt: skip
            for _ in range(2):  # the second time it is told
                await until_at_work(dsn, table, 1, "pg_sleep(50)")
                ended = asyncio.create_task(asyncio.to_thread(kill, supervisor))
                await ended
                await asyncio.to_thread(end_all, dsn, table)
                await asyncio.to_thread(supervisor.start)
            async with asyncio.timeout(SOON):
                with pytest.raises(OutcomeUnknown):
                    await again
            assert await client.repeatable.fetch("select 1 as one") == [(1,)]


async def until_at_work(dsn: str, table: str, count: int, words: str = "") -> None:
    async with asyncio.timeout(20):
        while True:
            found = await asyncio.to_thread(at_work, dsn, table)
            if sum(words in row["query"] for row in found) >= count:
                return


def end_all(dsn: str, table: str) -> None:
    """End whoever is at work on the table."""
    sql = (
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where pid <> pg_backend_pid() and query like $1"
    )
    ask(dsn, sql, f"%{table}%")


# --- the end in good order --------------------------------------------------------------------------------------


def test_sigterm_lets_all_that_is_in_flight_end_well_within_drain_timeout(
    start_supervisor: StartSupervisor, dsn: str, table: str
) -> None:
    supervisor = start_supervisor(drain_timeout_seconds=30)
    source = Gated()
    with ThreadPoolExecutor(4) as threads, Client(supervisor.ipc) as client:
        lease = client.acquire()
        lease.execute("begin")
        copying = client.acquire()
        copy = threads.submit(copying.copy_to_table, table, source=source)
        read = threads.submit(client.fetchval, f"select 5 + count(*) from {table}, pg_sleep(0.3)")
        until(lambda: len(at_work(dsn, table)) >= 2)
        supervisor.process.send_signal(signal.SIGTERM)
        until(lambda: "draining" in supervisor.log.read_text())
        with pytest.raises((PoolClosing, SupervisorUnavailable)):
            client.fetchval("select 1", timeout=0.2)
        assert read.result(SOON) == 5
        lease.execute(f"insert into {table} values (9, 'nine')")
        lease.execute("commit")
        lease.release()
        source.gate.set()
        assert copy.result(SOON) == "COPY 2"
        copying.release()
        assert supervisor.process.wait(SOON) == 0
    assert [row["id"] for row in ask(dsn, f"select id from {table} order by id")] == [1, 2, 9]
    assert "drain_timeout_seconds" not in supervisor.log.read_text()


def test_sigterm_ends_what_goes_on_after_drain_timeout_and_the_process_with_it(
    start_supervisor: StartSupervisor, dsn: str, table: str
) -> None:
    supervisor = start_supervisor(drain_timeout_seconds=0.5)
    source = Gated()
    with ThreadPoolExecutor(4) as threads, Client(supervisor.ipc) as client:
        lease = client.acquire()
        lease.execute("begin")
        lease.execute(f"insert into {table} values (9, 'nine')")
        copying = client.acquire()
        copy = threads.submit(copying.copy_to_table, table, source=source)
        read = threads.submit(client.fetchval, f"select pg_sleep(100), count(*) from {table}")
        until(lambda: len(at_work(dsn, table)) >= 2)
        began = time.monotonic()
        assert supervisor.stop() == 0
        assert 0.5 <= time.monotonic() - began < SOON
        with pytest.raises(OutcomeUnknown):
            read.result(SOON)
        source.gate.set()
        with pytest.raises((OutcomeUnknown, LeaseLost)):
            copy.result(SOON)
        with pytest.raises(LeaseLost):
            lease.fetchval("select 1")
    assert not at_work(dsn, table)
    assert ask(dsn, f"select id from {table}") == []
    assert "drain_timeout_seconds" in supervisor.log.read_text()


# --- many come back at once ---------------------------------------------------------------------------------------


async def test_many_workers_are_served_again_by_the_next_supervisor_which_opens_no_more_than_it_may(
    start_supervisor: StartSupervisor, dsn: str
) -> None:
    name = f"pgactor-many-{os.getpid()}"
    supervisor = start_supervisor(
        max_size=3, pool={"opens_at_once": 1}, connect={"server_settings": {"application_name": name}}
    )
    clients = [AsyncClient(supervisor.ipc, connect_timeout=30, label=f"many {each}") for each in range(60)]
    try:
        assert await asyncio.gather(*(client.fetchval("select 1") for client in clients)) == [1] * 60
        await asyncio.to_thread(kill, supervisor)
        served = [asyncio.create_task(client.fetchval("select 2")) for client in clients]
        await asyncio.to_thread(supervisor.start)
        async with asyncio.timeout(SOON):
            assert await asyncio.gather(*served) == [2] * 60
        state = await asyncio.to_thread(state_of, supervisor.ipc)
        assert state.counters["connections_opened"] <= 3
        assert state.counters["connections_failed"] == 0
        there = "select count(*) from pg_stat_activity where application_name = $1"
        while (await asyncio.to_thread(ask, dsn, there, name))[0][0] > 3:  # the old one's take a moment to end
            await asyncio.sleep(0.02)
    finally:
        for client in clients:
            await client.close()
