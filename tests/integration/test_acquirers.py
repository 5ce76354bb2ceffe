"""Who holds what: labels, places, leases that are held for long, and those who wait for each other."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import pgactor
from pgactor import AsyncClient, Client, PoolDeadlock, PoolTimeout, RequestTimeout
from pgactor.messages.pool import LeaseStatus
from tests.integration.conftest import Launch
from tests.integration.driving import WatchedSupervisor
from tests.supervising import until

PATIENCE = 30.0


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    """Two connections, and leases that are reported at once."""
    return launch(max_size=2, min_size=2, pool={"lease_warning_seconds": 0.2})


@pytest.fixture
def client(supervisor: WatchedSupervisor) -> Iterator[Client]:
    with Client(supervisor.ipc, label="web") as client:
        yield client
    with Client(supervisor.ipc) as other:
        until(lambda: not other.status().leases)


def run(supervisor: WatchedSupervisor, story: Callable[[AsyncClient], Any]) -> Any:
    async def main() -> Any:
        async with AsyncClient(supervisor.ipc, label="api") as pool:
            return await story(pool)

    return asyncio.run(asyncio.wait_for(main(), PATIENCE))


def only_lease(client: Client) -> LeaseStatus:
    (lease,) = client.status().leases
    return lease


def here() -> int:
    return sys._getframe(1).f_lineno


# --- who, where and what ------------------------------------------------------------------------------------


def test_the_status_tells_for_what_and_where_a_lease_was_acquired(client: Client) -> None:
    with pgactor.label("nightly report"):
        lease, line = client.acquire(), here()
    lease.execute("begin")
    lease.fetchval("select 'the last one'")
    told = only_lease(client)
    assert (told.worker, told.label, told.state) == ("web", "nightly report", "in transaction")
    assert told.where.endswith(f"test_acquirers.py:{line} in {sys._getframe().f_code.co_qualname}")
    assert told.statement == "select 'the last one'"
    assert told.pid > 0
    assert told.backend_pid == lease.backend_pid
    lease.release()


def test_a_lease_of_a_transaction_or_of_a_helper_is_the_applications_own_lines(client: Client) -> None:
    with client.transaction():
        assert f"test_acquirers.py:{here() - 1} in test_a_lease_of" in only_lease(client).where


def test_a_task_is_known_by_its_label_or_its_name(supervisor: WatchedSupervisor) -> None:
    async def story(pool: AsyncClient) -> None:
        async def hold() -> str:
            async with pool.acquire():
                (lease,) = (await pool.status()).leases
                assert "hold" in lease.where
                assert "test_acquirers.py" in lease.where
                return lease.label

        assert await asyncio.create_task(hold()) == ""
        assert await asyncio.create_task(hold(), name="refresh prices") == "refresh prices"
        with pgactor.label("nightly report"):
            assert await asyncio.create_task(hold(), name="refresh prices") == "nightly report"
        assert await asyncio.wait_for(hold(), PATIENCE) == ""

    run(supervisor, story)


def test_a_lease_that_is_held_for_long_is_reported_once(client: Client, supervisor: WatchedSupervisor) -> None:
    with pgactor.label("the one that is held"), client.acquire() as lease:
        lease.fetchval("select 'its last statement'")
        until(lambda: only_lease(client).reported)
        assert client.status().counters["leases_held_long"] >= 1
    text = supervisor.log.read_text()
    (line,) = [each for each in text.splitlines() if "the one that is held" in each]
    assert "WARNING pgactor" in line
    assert f"is held for 0.2 s by web (pid {only_pid(line)}) (the one that is held, acquired at " in line
    assert line.endswith("idle); its last statement: select 'its last statement'")


def only_pid(line: str) -> str:
    return line.partition("(pid ")[2].partition(")")[0]


def test_whoever_waits_in_vain_is_told_who_holds_what_and_where(
    client: Client, supervisor: WatchedSupervisor
) -> None:
    with pgactor.label("first"):
        one = client.acquire()
    two = client.acquire()
    with Client(supervisor.ipc) as other:
        other.status()  # it has its link
        with pytest.raises(PoolTimeout, match="first, acquired at") as caught:
            other.acquire(timeout=0.1)
    assert [(each["label"], each["worker"], each["state"]) for each in caught.value.leases] == [
        ("first", "web", "idle"),
        ("", "web", "idle"),
    ]
    for lease in (one, two):
        lease.release()


def test_the_command_shows_the_table_of_leases(client: Client, supervisor: WatchedSupervisor) -> None:
    with pgactor.label("nightly"), client.acquire() as lease:
        lease.fetchval("select 42")
        command = [sys.executable, "-m", "pgactor", "status", "--endpoint", supervisor.ipc]
        told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=PATIENCE)
        (shown,) = json.loads(told.stdout)["leases"]
        assert (shown["label"], shown["worker"], shown["statement"]) == ("nightly", "web", "select 42")
        assert "test_acquirers.py" in shown["where"]
        text = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE, env={"COLUMNS": "250"}
        ).stdout
    table = text[text.index("leases") :]
    for word in ("held for", "acquired at", "nightly", "test_acquirers.py", "select 42", str(lease.token)):
        assert word in table


def test_a_statement_that_runs_is_shown_with_its_label(client: Client, supervisor: WatchedSupervisor) -> None:
    def call() -> None:
        with pgactor.label("slow one"):
            client.fetchval("select pg_sleep(30)", timeout=PATIENCE)

    with Client(supervisor.ipc) as other:
        caller = threading.Thread(target=pytest.raises, args=(pgactor.PgactorError, call), daemon=True)
        caller.start()
        until(lambda: "slow one" in [holder.label for holder in other.status().holders])
        client.close()
        caller.join(PATIENCE)


# --- deadlines ----------------------------------------------------------------------------------------------


def test_a_deadline_ends_a_statement_and_says_so(client: Client) -> None:
    told = r"deadline of the surrounding block \(0\.2 s\) ran out: the statement"
    with pytest.raises(RequestTimeout, match=told), pgactor.deadline(0.2):
        client.fetchval("select pg_sleep(30)")


def test_a_deadline_ends_the_wait_for_a_lease(client: Client) -> None:
    leases = [client.acquire() for _ in range(2)]
    with pytest.raises(PoolTimeout, match="deadline of the surrounding block"), pgactor.deadline(0.2):
        client.acquire(timeout=PATIENCE)
    for lease in leases:
        lease.release()


def test_a_transaction_whose_time_is_over_is_rolled_back_within_its_lease(client: Client) -> None:
    with client.acquire() as lease:
        lease.execute("create temp table late (id int)")

        def work(more: bool) -> None:
            with pgactor.deadline(1), lease.transaction():
                lease.execute("insert into late values (1)")
                until(lambda: pgactor.deadline.remaining() == 0)
                if more:
                    lease.execute("insert into late values (2)")

        with pytest.raises(RequestTimeout, match="before the transaction was committed; it was rolled back"):
            work(more=False)
        with pytest.raises(RequestTimeout, match="before the request was made"):
            work(more=True)
        assert not lease.is_in_transaction()
        assert lease.fetchval("select count(*) from late") == 0


def test_so_is_an_async_one(supervisor: WatchedSupervisor) -> None:
    async def work(lease: pgactor.AsyncLease) -> None:
        with pgactor.deadline(1):
            async with lease.transaction():
                await lease.execute("insert into late values (1)")
                while pgactor.deadline.remaining():
                    await asyncio.sleep(0.05)

    async def story(pool: AsyncClient) -> None:
        async with pool.acquire() as lease:
            await lease.execute("create temp table late (id int)")
            with pytest.raises(RequestTimeout, match="before the transaction was committed; it was rolled back"):
                await work(lease)
            assert not lease.is_in_transaction()
            assert await lease.fetchval("select count(*) from late") == 0

    run(supervisor, story)


# --- those who wait for each other --------------------------------------------------------------------------


def test_whoever_needs_more_leases_than_there_are_is_told_at_once(client: Client) -> None:
    started = time.monotonic()
    with client.acquire(), client.transaction(), pytest.raises(PoolDeadlock, match=r"acquired at .*test_acquirers"):
        client.acquire(timeout=PATIENCE)
    assert time.monotonic() - started < PATIENCE / 2


@contextmanager
def own_helper(client: Client) -> Iterator[pgactor.Lease]:
    with client.acquire() as lease:
        yield lease


def test_it_is_seen_through_helpers_and_calls(client: Client) -> None:
    def deeper() -> None:
        with own_helper(client):
            client.executemany("select $1::text", (("x" * 400_000,) for _ in range(4)), timeout=PATIENCE)

    with own_helper(client), pytest.raises(PoolDeadlock):
        deeper()


def test_two_threads_that_wait_for_each_other_are_one_too_many(client: Client) -> None:
    both = threading.Barrier(2)
    ends: list[str] = []

    def work() -> None:
        with client.acquire(timeout=PATIENCE):
            both.wait(PATIENCE)
            try:
                with client.acquire(timeout=PATIENCE):
                    ends.append("served")
            except PoolDeadlock:
                ends.append("refused")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(ends) == ["refused", "served"]


def test_two_tasks_that_wait_for_each_other_are_one_too_many(supervisor: WatchedSupervisor) -> None:
    async def story(pool: AsyncClient) -> list[str]:
        both = asyncio.Barrier(2)

        async def work() -> str:
            async with pool.transaction():
                await both.wait()
                try:
                    async with pool.acquire(timeout=PATIENCE):
                        return "served"
                except PoolDeadlock:
                    return "refused"

        return sorted(await asyncio.gather(work(), work()))

    assert run(supervisor, story) == ["refused", "served"]


def test_two_processes_that_wait_for_each_other_are_one_too_many(
    client: Client, supervisor: WatchedSupervisor
) -> None:
    script = (
        "import sys, pgactor\n"
        "with pgactor.Client(sys.argv[1]) as client, client.acquire():\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
        "    try:\n"
        "        client.acquire(timeout=30); print('served', flush=True)\n"
        "    except pgactor.PoolDeadlock: print('refused', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, supervisor.ipc], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with client.acquire():
            other.stdin.write("go on\n")
            other.stdin.flush()
            until(lambda: client.status().waiting == 1)
            with pytest.raises(PoolDeadlock):
                client.acquire(timeout=PATIENCE)
        assert other.stdout.readline() == "served\n"


def test_a_lease_that_another_task_will_release_is_waited_for(supervisor: WatchedSupervisor) -> None:
    """A dispatcher acquires and hands over: that it waits for the next one is no deadlock."""

    async def story(pool: AsyncClient) -> None:
        go = asyncio.Event()

        async def work(lease: pgactor.AsyncLease) -> None:
            await go.wait()
            await pool.release(lease)

        tasks = [asyncio.create_task(work(await pool.acquire())) for _ in range(2)]
        asyncio.get_running_loop().call_later(0.1, go.set)
        lease = await pool.acquire(timeout=PATIENCE)
        await asyncio.gather(*tasks)
        await pool.release(lease)

    run(supervisor, story)


def test_a_block_that_another_task_may_leave_is_waited_for(supervisor: WatchedSupervisor) -> None:
    """The child asks within its parent's block, and the parent does not wait for it."""

    async def story(pool: AsyncClient) -> None:
        async def child() -> None:
            async with pool.acquire(timeout=PATIENCE):
                pass

        async with pool.acquire(), pool.acquire():
            task = asyncio.create_task(child())
            while not (await pool.status()).waiting:
                await asyncio.sleep(0.01)
        await task

    run(supervisor, story)


def test_a_block_that_was_entered_for_somebody_else_is_waited_for(client: Client) -> None:
    """As a framework does that enters a dependency in one call and leaves it in another, in any thread."""
    with ExitStack() as stack:
        enter: Callable[[], object] = lambda: stack.enter_context(client.acquire())  # noqa: E731
        enter()
        suspended = own_helper(client).gen
        next(suspended)
        timer = threading.Timer(0.1, stack.close)
        timer.start()
        with client.acquire(timeout=PATIENCE):
            timer.join()
        suspended.close()


def test_a_block_that_is_left_is_held_no_more(client: Client) -> None:
    for _ in range(3):
        with client.acquire(), client.acquire():
            pass
    with client.acquire() as one:
        one.release()
        with client.acquire(), client.acquire():
            pass
