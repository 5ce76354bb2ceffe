"""pg_terminate_backend while a connection is being opened, made new, cancelled, held, in a cursor or in a COPY. (Idle
ones, statements in flight, transactions and the connection that listens: tests/integration.)"""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from pgactor import LeaseLost, OutcomeUnknown, RequestTimeout
from tests.faults.postgres_servers import Proxy, Serve, Server, full_service
from tests.integration.conftest import OpenClient
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import until

pytestmark = pytest.mark.xdist_group("postgres terminates")

ENDED = (OutcomeUnknown, LeaseLost, asyncpg.AdminShutdownError)


@pytest.fixture
def supervisor(serve: Serve, postgres: Server, proxy: Proxy) -> WatchedSupervisor:
    return serve(postgres.dsn(proxy.port), max_size=2)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    return open_client(supervisor, "async-tcp")


Terminate = Callable[[], int]


@pytest.fixture
def terminate(supervisor: WatchedSupervisor, admin: Driven) -> Terminate:
    """Ends all of the supervisor's backends; returns how many there were."""

    def end_all() -> int:
        pids = list(supervisor.backends(admin))
        admin.fetch("select pg_terminate_backend(pid) from unnest($1::int[]) pid", pids)

        def are_gone() -> bool:
            admin.execute("select pg_stat_clear_snapshot()")  # it may be in a transaction
            return not set(pids) & set(supervisor.backends(admin))

        until(are_gone)
        return len(pids)

    return end_all


def test_being_opened(
    client: Driven, supervisor: WatchedSupervisor, proxy: Proxy, admin: Driven, terminate: Terminate
) -> None:
    """Whoever waits for it has another, and learns nothing of it."""
    proxy.blacken(requests=False)
    calls = [client.begin("fetchval", "select 7", timeout=20) for _ in range(5)]
    until(lambda: supervisor.backends(admin))
    assert client.status().opening == 1
    assert terminate() == 1
    proxy.heal()
    assert [call.result(20) for call in calls] == [7] * 5
    assert client.status().counters["connections_failed"] == 1
    full_service(client, 2)


def test_being_made_new(client: Driven, proxy: Proxy, terminate: Terminate) -> None:
    with client.acquire() as lease:
        lease.execute("set work_mem = '1MB'")
        proxy.blacken(requests=False, new=False)
    until(lambda: client.status().resetting == 1)
    assert terminate() == 1
    proxy.heal()
    assert client.fetchval("show work_mem", timeout=20) != "1MB"
    until(lambda: client.status().counters["connections_lost"] == 1)
    full_service(client, 2)


def test_being_cancelled(client: Driven, proxy: Proxy, terminate: Terminate) -> None:
    """The cancel request never arrives, and need not."""
    full_service(client, 1)
    proxy.blacken(present=False)
    attempts = len(proxy.attempts)
    late = client.begin("fetchval", "select pg_sleep(60)", timeout=0.3)
    until(lambda: len(proxy.attempts) > attempts)
    assert terminate() == 1
    with pytest.raises(RequestTimeout):
        late.result(20)
    proxy.heal()
    full_service(client, 2)


def test_held_and_idle(client: Driven, terminate: Terminate) -> None:
    """The others are served; the lease is lost, once and for all, and its release is nobody's trouble."""
    with client.acquire() as lease:
        lease.execute("set work_mem = '1MB'")
        assert terminate() == 1
        until(lambda: client.status().leased == 0)
        for _ in range(2):
            with pytest.raises(LeaseLost, match=r"lost its connection to PostgreSQL: .*acquire again"):
                lease.execute("select 1")
        assert client.fetchval("show work_mem", timeout=20) != "1MB"
    full_service(client, 2)


def test_in_a_cursor(supervisor: WatchedSupervisor, open_client: OpenClient, terminate: Terminate) -> None:
    client = open_client(supervisor, "sync-ipc")
    with client.target.acquire() as lease:
        seen = 0
        with pytest.raises(ENDED), lease.transaction():  # noqa: PT012  # it is somewhere in the loop
            for row in lease.cursor("select n from generate_series(1, 100000) n", prefetch=10):
                seen += 1
                assert row["n"] == seen, "nothing is left out before the end"
                if seen == 15:
                    terminate()
        assert 15 <= seen < 100000
    full_service(client, 2)


@pytest.mark.parametrize("way", ["in", "out"])
def test_in_a_copy(client: Driven, admin: Driven, terminate: Terminate, proxy: Proxy, way: str) -> None:
    """What was copied in is not there; what was copied out is not said to be all."""
    admin.execute("drop table if exists copied; create table copied (n int, text text)")
    lease = client.acquire()
    if way == "in":
        admin.execute("begin; lock table copied")  # it is under way until this is over
        copy = lease.begin("copy_records_to_table", "copied", records=[(n, "x") for n in range(5000)])
        until(lambda: admin.fetchval("select count(*) from pg_locks where not granted"))
    else:
        proxy.pieces, proxy.pause = 65536, 0.01
        query, taken = "select n, repeat('x', 1000) from generate_series(1, 1000000) n", bytearray()

        async def take(data: bytes) -> None:
            taken.extend(data)

        copy = lease.begin("copy_from_query", query, output=take)
        until(lambda: len(taken) > 100_000)
    assert not copy.done()
    assert terminate() == 1
    proxy.pieces = 0
    if way == "in":
        admin.execute("rollback")
    with pytest.raises(ENDED):
        copy.result(20)
    lease.release()
    assert admin.fetchval("select count(*) from copied") == 0
    full_service(client, 2)
