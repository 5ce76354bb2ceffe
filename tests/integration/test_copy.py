"""COPY under load and in trouble: credit, aborts, cancellation, deaths; on both roads and with both clients."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from pgactor import AsyncClient, Client
from pgactor.errors import LeaseLost, OutcomeUnknown, RequestTimeout
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor
from tests.supervising import until

pytestmark = pytest.mark.either_lane

MEGABYTE = 1_000_000
MUCH = "select repeat('x', 999) from generate_series(1, 30000)"
MUCH_BYTES = 30 * MEGABYTE
LINE = b"1\t" + b"x" * 97 + b"\n"


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=3)


@pytest.fixture
def client(open_client: OpenClient, supervisor: WatchedSupervisor, kind: str) -> Driven:
    return open_client(supervisor, kind)


def is_waiting_in(db: Driven, text: str) -> bool:
    """Whether a COPY in whose text this occurs is under way, and waits for its worker."""
    sql = "select wait_event_type from pg_stat_activity where state = 'active' and query like $1"
    return bool(db.fetchval(sql, f"COPY%{text}%") == "Client")


def test_a_sink_that_stops_holds_up_only_its_own_copy(client: Driven, db: Driven) -> None:
    go_on, got = threading.Event(), []
    query = f"{MUCH} where 'client' <> '{client.target!r}'"

    async def sink(data: bytes) -> None:
        got.append(len(data))
        while not go_on.is_set() and client.loop is not None:
            await asyncio.sleep(0.01)
        go_on.wait(20)

    with client.acquire() as lease, client.acquire() as other:
        copy = lease.begin("copy_from_query", query, output=sink)
        try:
            until(lambda: got and is_waiting_in(db, repr(client.target)))
            for number in range(50):
                assert client.fetchval("select $1::int", number) == number
                assert other.fetchval("select $1::int", number) == number
            assert len(got) == 1
        finally:
            go_on.set()
        assert copy.result(30) == "COPY 30000"
        assert sum(got) == MUCH_BYTES


def test_a_source_that_stops_holds_up_only_its_own_copy(client: Driven, db: Driven, table: str) -> None:
    go_on = threading.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"1\ta\n"  # less than a chunk: it stays in the worker
        while not go_on.is_set() and client.loop is not None:
            await asyncio.sleep(0.01)
        go_on.wait(20)
        yield b"2\tb\n"

    with client.acquire() as lease:
        copy = lease.begin("copy_to_table", table, source=source())
        try:
            until(lambda: is_waiting_in(db, table))
            for number in range(50):
                assert client.fetchval("select $1::int", number) == number
        finally:
            go_on.set()
        assert copy.result(30) == "COPY 2"


def test_a_source_is_asked_for_no_more_than_postgresql_takes(client: Driven, db: Driven, table: str) -> None:
    limit = 800 if db.fetchval("select inet_server_addr()") else 60  # of TCP, the kernel keeps many
    pieces = limit + 200
    taken = itertools.count()
    stopped = 0

    def lines() -> Iterator[bytes]:
        nonlocal stopped
        for stopped in taken:
            if stopped == pieces:
                return
            yield b"".join(b"%d\t%s\n" % (stopped * 1000 + n, b"x" * 90) for n in range(1000))

    async def source() -> AsyncIterator[bytes]:
        for piece in lines():
            yield piece

    with client.acquire() as lease:
        lease.execute(
            f"create function pg_temp.wait() returns trigger language plpgsql as "
            f"$$ begin perform pg_advisory_xact_lock(424242); return new; end $$; "
            f"create trigger wait before insert on {table} execute function pg_temp.wait()"
        )
        db.execute("select pg_advisory_lock(424242)")
        try:
            copy = lease.begin("copy_to_table", table, source=source())
            time.sleep(1.0)  # that nothing more happens cannot be awaited
            assert 5 < stopped < limit, f"{stopped} pieces of 0.1 MB"
        finally:
            db.execute("select pg_advisory_unlock(424242)")
        assert copy.result(60) == f"COPY {pieces}000"
        lease.execute(f"drop trigger wait on {table}")


@pytest.mark.parametrize("method", ["copy_to_table", "copy_records_to_table"])
def test_an_endless_source_ends_at_postgresqls_error(client: Driven, table: str, method: str) -> None:
    async def source() -> AsyncIterator[Any]:
        for _ in itertools.count():
            yield LINE if method == "copy_to_table" else (1, "the same key again")

    name = "source" if method == "copy_to_table" else "records"
    with client.acquire() as lease:
        with pytest.raises(asyncpg.UniqueViolationError):
            getattr(lease, method)(table, **{name: source()})
        assert lease.fetchval(f"select count(*) from {table}") == 0


def test_a_copy_takes_its_timeout_to_the_end_and_leaves_the_lease_usable(client: Driven, table: str) -> None:
    async def source() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.05)
            yield LINE

    async def sink(_: bytes) -> None:
        await asyncio.sleep(0.05)

    with client.acquire() as lease:
        with pytest.raises(RequestTimeout):
            lease.copy_to_table(table, source=source(), timeout=0.2)
        assert lease.fetchval("select 1") == 1
        with pytest.raises(RequestTimeout):
            lease.copy_from_query(MUCH, output=sink, timeout=0.2)
        assert lease.fetchval("select 1") == 1
        with pytest.raises(RequestTimeout):
            lease.copy_from_query("select pg_sleep(20)", output=sink, timeout=0.2)
        assert lease.fetchval("select 1") == 1


@pytest.mark.parametrize("small", [True, False], ids=["all of it here", "more to come"])
def test_a_failing_sink_leaves_the_lease_usable(client: Driven, small: bool) -> None:
    async def sink(_: bytes) -> None:
        raise LookupError("no room")

    with client.acquire() as lease:
        pid = lease.fetchval("select pg_backend_pid()")
        for _ in range(5):
            with pytest.raises(LookupError, match="no room"):
                lease.copy_from_query("select 1" if small else MUCH, output=sink)
            assert lease.fetchval("select pg_backend_pid()") == pid


def test_a_cancelled_copy_leaves_the_lease_usable(
    open_client: OpenClient, supervisor: WatchedSupervisor, kind: str, db: Driven, table: str
) -> None:
    if kind.startswith("sync"):
        pytest.skip("a thread cannot be cancelled")
    client = open_client(supervisor, kind)
    begun: list[str] = []
    ended: list[str] = []

    async def sink(_: bytes) -> None:
        begun.append("sink")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("sink")

    async def source() -> AsyncIterator[bytes]:
        begun.append("source")
        try:
            yield b"1\ta\n"
            await asyncio.sleep(60)
        finally:
            ended.append("source")

    with client.acquire() as lease:
        pid = lease.fetchval("select pg_backend_pid()")
        for _ in range(3):
            copy = lease.begin("copy_from_query", MUCH, output=sink)
            until(lambda: len(begun) > len(ended))
            copy.cancel()
            assert lease.fetchval("select pg_backend_pid()") == pid
            copy = lease.begin("copy_to_table", table, source=source())
            until(lambda: len(begun) > len(ended) and is_waiting_in(db, table))
            copy.cancel()
            assert lease.fetchval(f"select count(*) from {table}") == 0
        assert lease.fetchval("select pg_backend_pid()") == pid
    assert ended == ["sink", "source"] * 3


def test_a_lease_released_amid_a_copy_is_served_to_others(client: Driven, db: Driven, table: str) -> None:
    go_on = threading.Event()

    async def source() -> AsyncIterator[bytes]:
        yield LINE
        while not go_on.is_set() and client.loop is not None:
            await asyncio.sleep(0.01)
        go_on.wait(20)

    lease = client.acquire()
    copy = lease.begin("copy_to_table", table, source=source())
    until(lambda: is_waiting_in(db, table))
    lease.release()
    until(lambda: not is_waiting_in(db, table))
    go_on.set()
    with pytest.raises(OutcomeUnknown):
        copy.result(20)
    db.execute(f"begin; lock table {table}; commit")
    assert client.fetchval("select 1") == 1


async def nothing(_: bytes) -> None:
    """A sink that keeps nothing."""


def test_what_a_copy_leaves_in_its_session_does_not_leak(client: Driven) -> None:
    with client.acquire() as lease:
        lease.copy_from_query("select set_config('pgactor.leak', 'x', false)", output=nothing)
        assert lease.fetchval("select current_setting('pgactor.leak')") == "x"
    leaks = []
    for _ in range(6):
        with client.acquire() as lease:
            leaks.append(lease.fetchval("select current_setting('pgactor.leak', true)"))
    assert set(leaks) <= {None, ""}


def test_records_are_encoded_for_the_table_that_is_there_now(client: Driven) -> None:
    with client.acquire() as lease:
        for kind, value in (("int8", 5), ("float8", 0.5), ("text", "x")):
            lease.execute(f"create temp table once_more (v {kind})")
            assert lease.copy_records_to_table("once_more", records=[(value,)]) == "COPY 1"
            assert lease.fetchval("select v from once_more") == value
            lease.execute("drop table once_more")


def test_a_backend_that_dies_amid_a_copy_ends_it(client: Driven, db: Driven, table: str) -> None:
    async def source() -> AsyncIterator[bytes]:
        for number in itertools.count():
            await asyncio.sleep(0.001)
            yield b"".join(b"%d\t%s\n" % (number * 1000 + n, b"x" * 90) for n in range(1000))

    lease = client.acquire()
    pid = lease.fetchval("select pg_backend_pid()")
    copy = lease.begin("copy_to_table", table, source=source())
    until(lambda: bool(db.fetchval("select count(*) from pg_stat_activity where query like $1", f"COPY%{table}%")))
    db.execute("select pg_terminate_backend($1)", pid)
    with pytest.raises((OutcomeUnknown, LeaseLost, asyncpg.AdminShutdownError)):
        copy.result(20)
    assert client.fetchval(f"select count(*) from {table}") == 0


WORKER = """
import itertools, sys
from pgactor import Client
with Client(sys.argv[1]).acquire() as lease:
    if sys.argv[3] == "in":
        lease.copy_to_table(sys.argv[2], source=(b"%d\\tx\\n" % n for n in itertools.count()))
    else:
        lease.execute("begin; lock table " + sys.argv[2])
        lease.copy_from_query("select repeat('x', 999), '" + sys.argv[2] + "' from generate_series(1, 10000000)",
                              output=lambda data: None)
"""


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_worker_killed_amid_a_copy_leaves_no_lock(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, table: str, way: str
) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, supervisor.ipc, table, way])
    try:
        under_way = "select count(*) from pg_stat_activity where state = 'active' and query like $1"
        until(lambda: bool(db.fetchval(under_way, f"COPY%{table}%")))
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    until(lambda: not db.fetchval(under_way, f"COPY%{table}%"))
    assert db.fetchval(f"select count(*) from {table}") == 0
    client = open_client(supervisor, "sync-ipc")
    until(lambda: client.status().leased == 0)
    db.execute(f"begin; lock table {table} nowait; commit")
    for _ in range(6):
        assert client.fetchval("select 1") == 1


def test_threads_that_share_a_link_copy_at_the_same_time(supervisor: WatchedSupervisor) -> None:
    client = Client(supervisor.ipc)
    totals: list[int] = []
    looked_up = []

    def copy_out() -> None:
        with client.acquire() as lease:
            got: list[int] = []
            lease.copy_from_query(MUCH, output=lambda data: got.append(len(data)))
            totals.append(sum(got))

    threads = [threading.Thread(target=copy_out) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        looked_up.append(client.fetchval("select 1"))
    assert totals == [MUCH_BYTES] * 2
    assert len(looked_up) > 5
    client.close()


def test_the_supervisor_holds_little_of_a_copy_that_nobody_takes(
    supervisor: WatchedSupervisor, loop_thread: LoopThread, db: Driven
) -> None:
    def peak() -> float:
        with open(f"/proc/{supervisor.pid}/status") as status:  # noqa: PTH123
            return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM"))

    async def run() -> int:
        client = AsyncClient(supervisor.ipc)
        total = 0

        async def sink(data: bytes) -> None:
            nonlocal total
            if not total:
                await asyncio.sleep(0.5)
            total += len(data)

        async with client.acquire() as lease:
            assert await lease.copy_from_query(MUCH, output=sink) == "COPY 30000"
        await client.close()
        return total

    before = peak()
    assert loop_thread.run(run()) == MUCH_BYTES
    assert peak() - before < 12
