"""asyncpg.Pool's words on both clients, blocking and not; its states and hooks are in tests/compatibility."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

import pgactor
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor, wait_for_statement
from tests.supervising import until


@pytest.fixture(params=["sync-ipc", "async-tcp"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(min_size=1, max_size=3)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Iterator[Driven]:
    client = open_client(supervisor, kind)
    yield client
    if not client.is_closing():
        until(lambda: client.status().leased == 0)


def test_a_lease_is_released_by_its_client_alone(
    client: Driven, supervisor: WatchedSupervisor, open_client: OpenClient, kind: str
) -> None:
    other = open_client(supervisor, kind)
    lease = other.acquire()
    for wrong in (lease.target, "x", None):
        with pytest.raises(
            asyncpg.InterfaceError, match=r"received invalid connection: .* is not a member of this pool"
        ):
            client.release(wrong)
    assert lease.fetchval("select 1") == 1
    other.release(lease.target)
    other.release(lease.target)
    with pytest.raises(asyncpg.InterfaceError, match="not a member"):
        client.release(lease.target)


async def test_closing_waits_for_the_statements_that_wait_in_this_process_too(supervisor: WatchedSupervisor) -> None:
    pool = await pgactor.create_pool(supervisor.ipc)
    asked = [asyncio.create_task(pool.fetchval("select $1::int", n)) for n in range(1000)]
    await asyncio.sleep(0)
    await pool.close()
    assert [await task for task in asked] == list(range(1000))


async def test_closing_waits_for_statements_that_wait_for_the_next_supervisor(start: Launch) -> None:
    supervisor = start(max_size=1, pool={"worker_window": 1})
    pool = await pgactor.create_pool(supervisor.ipc, connect_timeout=30)
    lease = await pool.acquire()
    asked = [asyncio.create_task(pool.fetchval("select $1::int", n)) for n in range(20)]
    await asyncio.sleep(0.1)
    supervisor.process.kill()
    supervisor.process.wait()
    closing = asyncio.create_task(pool.close())
    await asyncio.to_thread(supervisor.start)
    await closing
    assert lease.is_closed()
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(end) for end in ends[:2]] == [pgactor.OutcomeUnknown] * 2
    assert ends[2:] == list(range(2, 20))


@pytest.mark.parametrize("timeout", [True, "x", float("nan")])
def test_a_releases_timeout_is_looked_at_before_anything_is_done(client: Driven, timeout: Any) -> None:
    lease = client.acquire()
    with pytest.raises(ValueError, match="invalid timeout value"):
        client.release(lease.target, timeout=timeout)
    assert lease.fetchval("select 1") == 1
    client.release(lease.target, timeout=5)


def test_a_release_while_a_statement_runs_ends_both(client: Driven, db: Driven) -> None:
    lease = client.acquire()
    running = lease.begin("fetchval", "select pg_sleep(30) as pool_words")
    wait_for_statement(db, "pool_words")
    with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
        client.release(lease.target)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="closed in the middle of operation"):
        running.result(10)
    wait_for_statement(db, "pool_words", running=False)
    assert client.fetchval("select 1") == 1


def test_a_listener_that_is_left_is_warned_of(client: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = client.acquire()
    monkeypatch.setattr(type(lease.target), "listeners_left", lambda lease: {"notification": 2, "log": 0})
    with pytest.warns(asyncpg.InterfaceWarning, match="released to the pool but has 2 active notification listeners"):
        client.release(lease.target)


def test_the_sizes_are_those_of_the_supervisors_pool(client: Driven, kind: str) -> None:
    client.status()
    until(lambda: (client.get_size(), client.get_idle_size()) != (0, 0))
    assert (client.get_min_size(), client.get_max_size(), client.get_init_size()) == (1, 3, 1)
    held = [client.acquire() for _ in range(3)]
    assert (client.get_size(), client.get_idle_size()) == (3, 0)
    for lease in held:
        lease.release()
    until(lambda: (client.get_size(), client.get_idle_size()) == (3, 3))
    client.close()
    assert (client.get_size(), client.get_idle_size()) == (0, 0)


def test_a_client_that_is_terminated_is_closing_and_its_leases_end(
    client: Driven, supervisor: Any, db: Driven
) -> None:
    assert not client.is_closing()
    lease = client.acquire()
    pid = lease.fetchval("select pg_backend_pid()")
    lease.execute("begin")
    lease.execute("select 1")
    client.terminate()
    client.terminate()
    assert client.is_closing()
    until(lambda: db.fetchval("select state from pg_stat_activity where pid = $1", pid) in ("idle", None))


# --- a pool in several event loops --------------------------------------------------------------------------


def test_a_pools_close_waits_for_leases_in_other_loops(
    supervisor: WatchedSupervisor, loop_thread: LoopThread, uvloop_thread: LoopThread
) -> None:
    async def create() -> Any:
        return await pgactor.create_pool(supervisor.ipc)

    async def acquire(pool: Any) -> Any:
        return await pool.acquire()

    pool = loop_thread.run(create())
    held = uvloop_thread.run(acquire(pool))
    closing = loop_thread.start(pool.close())
    until(pool.is_closing)
    assert uvloop_thread.run(held.fetchval("select 1")) == 1
    assert not closing.done()
    uvloop_thread.run(pool.release(held))
    closing.result(10)


def test_a_pools_close_does_not_wait_for_a_lease_whose_loop_is_closed(
    supervisor: WatchedSupervisor,
) -> None:
    async def leave(pool: Any) -> Any:
        await pool
        return await pool.acquire()

    async def end(pool: Any) -> None:
        assert await pool.fetchval("select 1") == 1
        async with asyncio.timeout(10):
            await pool.close()

    pool = pgactor.create_pool(supervisor.ipc)
    left = asyncio.run(leave(pool))
    assert not left.released
    asyncio.run(end(pool))
    assert pool.is_closing()


def test_a_pools_reset_is_called_after_a_deadline_too(supervisor: WatchedSupervisor) -> None:
    async def story() -> None:
        called = []

        async def reset(lease: Any) -> None:
            called.append((lease.is_in_transaction(), await lease.fetchval("select 1")))

        async with pgactor.create_pool(supervisor.ipc, reset=reset) as pool:
            with pgactor.deadline(0.3):
                async with pool.acquire() as lease:
                    await lease.execute("begin")
                    await asyncio.sleep(0.4)
            assert called == [(False, 1)]

    asyncio.run(story())


def test_a_release_while_a_copy_runs_ends_both(client: Driven) -> None:
    copying, go_on = threading.Event(), threading.Event()

    class Sink:
        def write(self, _: bytes) -> None:  # in a thread
            copying.set()
            go_on.wait(20)

    lease = client.acquire()
    copy = lease.begin("copy_from_query", f"select repeat('x', {10**7})", output=Sink())
    assert copying.wait(20)
    with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
        client.release(lease.target)
    go_on.set()
    assert copy.exception(20) is not None
    until(lambda: client.status().leased == 0)


def test_a_pool_that_closes_does_not_wait_for_a_copy_whose_lease_was_released(supervisor: WatchedSupervisor) -> None:
    async def story() -> None:
        copying, go_on = asyncio.Event(), asyncio.Event()

        async def sink(_: bytes) -> None:
            copying.set()
            await go_on.wait()

        pool = await pgactor.create_pool(supervisor.ipc)
        lease = await pool.acquire()
        copy = asyncio.create_task(lease.copy_from_query(f"select repeat('x', {10**7})", output=sink))
        await copying.wait()
        with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
            await pool.release(lease)
        await pool.close()
        go_on.set()
        await asyncio.wait([copy])
        assert copy.exception() is not None

    asyncio.run(story())
