"""Every wait has an end, and its error says which limit ran out; what nobody waits for is cancelled in PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path

import asyncpg
import pytest

from pgactor import (
    AsyncClient,
    Client,
    ClientClosed,
    OutcomeUnknown,
    PoolTimeout,
    QueueFull,
    RequestTimeout,
    SupervisorUnavailable,
)
from pgactor.client import calls
from pgactor.messages import Failed
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import (
    ALL_KINDS,
    ASYNC_KINDS,
    Driven,
    LoopThread,
    WatchedSupervisor,
    linked,
    wait_for_statement,
)
from tests.supervising import until


@pytest.fixture(scope="module")
def single(launch: Launch) -> WatchedSupervisor:
    """A supervisor with one backend, so that the second request waits."""
    return launch(max_size=1, min_size=1)


@pytest.fixture
def client(single: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    return linked(open_client(single, kind))


@pytest.fixture
def other(single: WatchedSupervisor, open_client: OpenClient) -> Iterator[Driven]:
    """Another worker, who gets in the way."""
    worker = linked(open_client(single, "sync-ipc", label="the-other"))
    yield worker
    until(lambda: worker.status().idle == 1)


@pytest.mark.parametrize("kind", ALL_KINDS, indirect=True)
def test_a_statement_that_takes_too_long_is_cancelled_in_postgresql(
    client: Driven, single: WatchedSupervisor, db: Driven
) -> None:
    before = client.fetchval("select pg_backend_pid()")
    started = time.monotonic()
    with pytest.raises(RequestTimeout, match=r"the statement was cancelled after [0-9.]+ s, the end of its timeout"):
        client.fetch("select pg_sleep(61)", timeout=0.2)
    assert time.monotonic() - started < 30, "of the 61 s that it would take"
    wait_for_statement(db, "pg_sleep(61)", running=False)
    assert client.fetchval("select pg_backend_pid()") == before
    assert client.status().counters["requests_timed_out"] > 0


def test_a_timeout_is_asyncios_own_timeout_error_too(client: Driven) -> None:
    for error in (asyncio.TimeoutError, TimeoutError):
        with pytest.raises(error):
            client.fetch("select pg_sleep(62)", timeout=0.05)


def test_the_time_in_the_workers_own_line_counts_as_a_wait_for_a_backend(single: WatchedSupervisor) -> None:
    with Client(single.ipc) as holder, Client(single.ipc) as client, holder.acquire():
        request = calls.fetch("select 1", (), None, None)
        request.waited = 1000.0  # as an AsyncClient's line tells
        started = time.monotonic()
        reply = client._channel.call(request)[0].reply
        assert time.monotonic() - started < 25, "of the 30 s that one may wait that has not"
    assert isinstance(reply, Failed)
    assert reply.message.startswith("no backend came free within 1000.")


def test_no_time_at_all_is_a_timeout_as_in_asyncpg(client: Driven, db: Driven) -> None:
    for timeout in (0, -1, 0.0):
        for connection in (db, client):
            with pytest.raises(asyncio.TimeoutError):
                connection.fetch("select pg_sleep(63)", timeout=timeout)
    wait_for_statement(db, "pg_sleep(63)", running=False)
    assert client.fetchval("select 1") == 1


def test_a_write_that_took_too_long_did_not_happen(client: Driven, db: Driven, table: str) -> None:
    with pytest.raises(RequestTimeout):
        client.execute(f"insert into {table} select 1 from (select pg_sleep(64)) s", timeout=0.1)
    with pytest.raises(RequestTimeout):
        client.executemany(
            f"insert into {table} select $1::int from pg_sleep(0.1)", [(n,) for n in range(9)], timeout=0.25
        )
    assert client.fetchval(f"select count(*) from {table}") == 0


def test_the_clients_own_limit_holds_where_a_call_brings_none(
    single: WatchedSupervisor, open_client: OpenClient, kind: str
) -> None:
    client = linked(open_client(single, kind, request_timeout=0.1))
    with pytest.raises(RequestTimeout):
        client.fetch("select pg_sleep(65)")
    assert client.fetchval("select pg_sleep(0.15)::text || 'x'", timeout=30) == "x"


def test_whoever_waits_in_vain_is_told_who_holds_what(client: Driven, other: Driven) -> None:
    with other.acquire() as lease:
        lease.execute("select 'the statement that the holder ran last'")
        with pytest.raises(PoolTimeout) as caught:
            client.fetchval("select 1", timeout=0.2)
        token = lease.target.token
    text = str(caught.value)
    assert "no backend came free within 0." in text
    assert "(the request's own timeout); it was not run" in text
    assert "max_size 1, size 1, idle 0, busy 0, leased 1" in text
    assert "by the-other (pid " in text
    assert f"as lease {token} (acquired at " in text
    assert "idle): select 'the statement that the holder ran last'" in text
    facts = caught.value.facts
    assert (facts["max_size"], facts["size"], facts["idle"]) == (1, 1, 0)
    (holder,) = facts["holders"]
    assert holder["state"] == "leased"
    assert holder["worker"].startswith("the-other (pid ")
    assert holder["lease"] == str(token)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.retry


def test_acquire_waits_no_longer_than_asked(client: Driven, other: Driven) -> None:
    with other.acquire():
        with pytest.raises(PoolTimeout, match="request's own timeout"):
            client.acquire(timeout=0.1)
        assert client.status().waiting == 0
    client.acquire(timeout=30).release()


def test_the_supervisors_queue_timeout_is_named_where_it_is_the_shorter_one(
    start: Launch, open_client: OpenClient
) -> None:
    supervisor = start(max_size=1, pool={"queue_timeout_seconds": 0.2})
    other = open_client(supervisor, "sync-ipc", label="hog")
    with other.acquire():
        clients = [open_client(supervisor, kind) for kind in ALL_KINDS]
        calls = [client.begin("fetch", "select 1") for client in clients]
        calls += [client.begin("acquire") for client in clients]
        wait(calls, 30)
        for call in calls:
            with pytest.raises(
                PoolTimeout, match=r"\(the supervisor's queue_timeout_seconds\); it was not run(?s:.*) by hog"
            ):
                call.result(0)
        assert other.status().counters["refused_pool_timeout"] == len(calls)


@pytest.mark.parametrize("road", ["ipc", "tcp"])
@pytest.mark.parametrize("shell", ["sync", "async", "uvloop"])
def test_a_supervisor_that_is_not_there_is_named(
    single: WatchedSupervisor, open_client: OpenClient, short_tmp: Path, shell: str, road: str
) -> None:
    class Nowhere:
        ipc = f"ipc://{short_tmp}/nobody.sock"
        tcp = "tcp://127.0.0.1:1"

    client = open_client(Nowhere(), f"{shell}-{road}", connect_timeout=0.3)
    started = time.monotonic()
    with pytest.raises(SupervisorUnavailable) as caught:
        client.fetch("select 1")
    assert 0.2 < time.monotonic() - started < 8, "not the 10 s that are the default"
    assert f"no supervisor answered at {getattr(Nowhere, road)} within connect_timeout (0.3 s)" in str(caught.value)
    assert "is `pgactor serve` running with this endpoint?" in str(caught.value)
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.retry


@pytest.mark.parametrize("shell", ["sync", "async"])
def test_where_the_calls_timeout_is_shorter_than_connect_timeout_it_is_that_one_which_is_named(
    open_client: OpenClient, short_tmp: Path, shell: str
) -> None:
    class Nowhere:
        ipc = f"ipc://{short_tmp}/nobody.sock"

    client = open_client(Nowhere(), f"{shell}-ipc", connect_timeout=9)
    with pytest.raises(SupervisorUnavailable) as caught:
        client.fetch("select 1", timeout=0.2)
    assert "connect_timeout (9 s)" not in str(caught.value)
    assert "timeout (0.2 s)" in str(caught.value)


def test_a_supervisor_that_comes_up_late_is_waited_for(start: Launch, open_client: OpenClient) -> None:
    supervisor = start(wait=False)
    clients = [open_client(supervisor, kind, connect_timeout=60) for kind in ALL_KINDS]
    calls = [client.begin("fetchval", "select 6 * 7") for client in clients]
    assert [call.result(60) for call in calls] == [42] * len(calls)


def test_the_queue_is_bounded(start: Launch, open_client: OpenClient) -> None:
    supervisor = start(max_size=1, pool={"max_waiting": 2})
    other = open_client(supervisor, "sync-ipc")
    lease = other.acquire()
    waiting = [open_client(supervisor, kind).begin("fetchval", "select 7") for kind in ("sync-ipc", "async-tcp")]
    until(lambda: other.status().waiting == 2)
    for kind in ALL_KINDS:
        with pytest.raises(
            QueueFull, match=r"2 requests are waiting already \(max_waiting\); it was not run"
        ) as caught:
            open_client(supervisor, kind).fetchval("select 1")
        assert caught.value.facts["waiting"] == 2
        assert caught.value.retry
    assert other.status().counters["refused_queue_full"] == len(ALL_KINDS)
    lease.release()
    assert [each.result(30) for each in waiting] == [7, 7]


# --- cancelling a task ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*ASYNC_KINDS, "uvloop-ipc"], indirect=True)
def test_a_request_that_is_cancelled_in_the_queue_never_runs(client: Driven, other: Driven, table: str) -> None:
    with other.acquire() as lease:
        insert = client.begin("execute", f"insert into {table} values (1)")
        until(lambda: other.status().waiting == 1)
        insert.cancel()
        until(lambda: other.status().waiting == 0)
        with pytest.raises(CancelledError):
            insert.result(30)
        assert lease.fetchval("select 1") == 1
    assert client.fetchval(f"select count(*) from {table}") == 0


@pytest.mark.parametrize("kind", [*ASYNC_KINDS, "uvloop-ipc"], indirect=True)
def test_a_statement_whose_task_is_cancelled_is_cancelled_in_postgresql(
    client: Driven, db: Driven, table: str
) -> None:
    call = client.begin("execute", f"insert into {table} select 1 from (select pg_sleep(66)) s")
    wait_for_statement(db, "pg_sleep(66)")
    call.cancel()
    wait_for_statement(db, "pg_sleep(66)", running=False)
    assert client.fetchval(f"select count(*) from {table}") == 0


@pytest.mark.parametrize("kind", ["async-ipc", "uvloop-ipc"], indirect=True)
def test_asyncios_own_timeouts_work(client: Driven, db: Driven) -> None:
    async def too_long() -> None:
        async with asyncio.timeout(0.1):
            await client.target.fetch("select pg_sleep(67)")

    assert client.loop is not None
    with pytest.raises(TimeoutError):
        client.loop.run(too_long())
    wait_for_statement(db, "pg_sleep(67)", running=False)


@pytest.mark.parametrize("kind", ASYNC_KINDS, indirect=True)
def test_an_acquire_that_is_cancelled_while_it_waits_gets_nothing(client: Driven, other: Driven) -> None:
    with other.acquire():
        acquire = client.begin("acquire")
        until(lambda: other.status().waiting == 1)
        acquire.cancel()
        until(lambda: other.status().waiting == 0)
    until(lambda: other.status().idle == 1)


@pytest.mark.parametrize("kind", ASYNC_KINDS, indirect=True)
@pytest.mark.parametrize("turns", range(7))
def test_a_lease_that_is_granted_when_nobody_takes_it_any_more_goes_back(
    client: Driven, other: Driven, turns: int
) -> None:
    """The grant is made while the worker's loop does something else; its task is cancelled so many turns later."""

    async def acquire_and_give_up() -> None:
        pool: AsyncClient = client.target
        await pool.status()
        task = asyncio.ensure_future(pool._acquire(None, None))
        for _ in range(4):
            await asyncio.sleep(0)
        until(lambda: other.status().leased == 1)  # in this thread: the loop stands still
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(result, BaseException):
            result.release()

    assert client.loop is not None
    client.loop.run(acquire_and_give_up())
    until(lambda: other.status().idle == 1)
    assert client.fetchval("select 1") == 1


@pytest.mark.parametrize("kind", ["sync-ipc", "sync-tcp"], indirect=True)
def test_a_blocking_call_that_is_interrupted_withdraws_its_request(
    client: Driven, db: Driven, table: str, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt() -> None:
        wait_for_statement(db, "pg_sleep(68)")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        client.execute(f"insert into {table} select 1 from (select pg_sleep(68)) s", timeout=60)
    thread.join()
    wait_for_statement(db, "pg_sleep(68)", running=False)
    assert client.fetchval(f"select count(*) from {table}") == 0


def test_what_threads_wait_for_ends_for_each_at_its_own_time(
    single: WatchedSupervisor, open_client: OpenClient, other: Driven
) -> None:
    """Threads share a link, and one reads for all: nobody waits longer than he asked because of another."""
    client = linked(open_client(single, "sync-ipc"))
    with other.acquire():
        started = time.monotonic()
        calls = {seconds: client.begin("fetchval", "select 1", timeout=seconds) for seconds in (0.6, 0.1, 0.3)}
        for seconds in sorted(calls):
            with pytest.raises(PoolTimeout):
                calls[seconds].result(30)
            assert seconds * 0.8 < time.monotonic() - started < seconds + 8, "without a timeout of its own: 60 s"
    assert client.fetchval("select 1") == 1


def test_asyncpgs_timeout_of_a_connection_is_a_request_timeout(start: Launch, open_client: OpenClient) -> None:
    client = linked(open_client(start(connect={"command_timeout": 0.1}), "sync-ipc"))
    with pytest.raises(RequestTimeout, match="command_timeout"):
        client.fetchval("select pg_sleep(69)")
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        client.execute("set statement_timeout = 20; select pg_sleep(69)")


def test_after_a_client_is_closed_whoever_waits_gets_an_error(client: Driven, other: Driven) -> None:
    with other.acquire():
        calls = [client.begin("fetchval", "select 1") for _ in range(3)]
        until(lambda: other.status().waiting == 3)
        client.close()
        wait(calls, 30)
        for call in calls:
            with pytest.raises(OutcomeUnknown, match="the client was closed"):
                call.result(0)
        until(lambda: other.status().waiting == 0)
    client.close()
    with pytest.raises(ClientClosed, match=r"cannot call fetchval\(\): the client is closed"):
        client.fetchval("select 1")


def test_a_client_of_two_loops_has_a_link_in_each(
    single: WatchedSupervisor, open_client: OpenClient, loop_thread: LoopThread, uvloop_thread: LoopThread
) -> None:
    client = open_client(single, "async-ipc")
    elsewhere = Driven(client.target, uvloop_thread)
    calls = [each.begin("fetchval", "select 7") for each in (client, elsewhere) for _ in range(5)]
    assert [call.result(30) for call in calls] == [7] * 10


@pytest.mark.parametrize("kind", ["async-ipc", "async-tcp", "uvloop-ipc", "uvloop-tcp"])
def test_a_closed_client_leaves_its_event_loop_in_peace(
    single: WatchedSupervisor, open_client: OpenClient, kind: str
) -> None:
    async def busy_seconds() -> float:
        before = time.thread_time()
        await asyncio.sleep(0.2)
        return time.thread_time() - before

    client = open_client(single, kind)
    client.fetchval("select 1")
    client.close()
    assert client.loop is not None
    assert client.loop.run(busy_seconds()) < 0.1
