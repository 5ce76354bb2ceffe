"""A PostgreSQL that falls silent: what is sent to it vanishes, and no connection ends. Nobody waits longer than their
time, whoever has another connection notices nothing, and what is dead is replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import asyncpg
import psutil
import pytest

from pgactor import DatabaseUnavailable, LeaseLost, OutcomeUnknown, PoolClosing, PoolTimeout, RequestTimeout
from tests.endtoend.processes import ask
from tests.faults.postgres_servers import MakeProxy, Proxy, Serve, Server, full_service
from tests.integration.conftest import OpenClient
from tests.integration.driving import Driven, WatchedSupervisor, linked
from tests.integration.lanes import DEEP, results, together, train
from tests.supervising import LANE, until

pytestmark = pytest.mark.xdist_group("postgres blackhole")

RESET_SECONDS = 0.6
CONNECT_SECONDS = 0.8
IMPATIENT: dict[str, Any] = {"reset_timeout_seconds": RESET_SECONDS}
AMPLE = 15.0
"""Seconds within which something has ended whose limit is below one, on a busy machine too."""


@pytest.fixture(params=["on", "off"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def behind(serve: Serve, postgres: Server, proxy: Proxy, request: pytest.FixtureRequest) -> WatchedSupervisor:
    """A supervisor with two connections, through the proxy; in each lane, where the test asks for that."""
    lane = request.getfixturevalue("lane") if "lane" in request.fixturenames else LANE
    return serve_through(serve, postgres, proxy, lane)


def serve_through(serve: Serve, postgres: Server, proxy: Proxy, lane: str, **settings: Any) -> WatchedSupervisor:
    pool = {**IMPATIENT, "statement_lane": lane, **settings.pop("pool", {})}
    connect = {"timeout": CONNECT_SECONDS, **settings.pop("connect", {})}
    return serve(postgres.dsn(proxy.port), **{"max_size": 2, "pool": pool, "connect": connect, **settings})


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def connections(supervisor: WatchedSupervisor, proxy: Proxy) -> int:
    """How many sockets the supervisor has open to the proxy."""
    found = psutil.Process(supervisor.pid).net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == proxy.port for each in found)


# --- at connect -----------------------------------------------------------------------------------------------


def test_a_server_that_is_silent_at_connect_is_said_in_time_and_not_stormed(
    behind: WatchedSupervisor, open_client: OpenClient, proxy: Proxy
) -> None:
    client = linked(open_client(behind, "sync-ipc"))
    proxy.blacken()
    began = time.monotonic()
    with takes_at_most(AMPLE), pytest.raises(PoolTimeout, match=r"opening 1\b"):
        client.fetchval("select 1", timeout=0.3)
    waiting = [client.begin("fetchval", "select 7", timeout=30) for _ in range(8)]
    until(lambda: client.status().counters["connections_failed"] >= 2)
    status = client.status()
    assert status.database == f"failing: TimeoutError: no connection within {CONNECT_SECONDS:g} s"
    assert status.opening <= 1
    assert connections(behind, proxy) <= 1, "those given up are closed"
    assert len(proxy.attempts) <= 1 + (time.monotonic() - began) / CONNECT_SECONDS, "one at a time"
    proxy.heal()
    assert [each.result(AMPLE) for each in waiting] == [7] * 8
    full_service(client, 2)


def test_requests_are_refused_with_the_reason_after_the_grace_period(
    serve: Serve, open_client: OpenClient, postgres: Server, proxy: Proxy
) -> None:
    pool = {"database_grace_seconds": 0.5, "reopen_backoff_max_seconds": 0.2}
    proxy.blacken()
    client = open_client(serve_through(serve, postgres, proxy, LANE, pool=pool), "sync-ipc")
    reason = f"PostgreSQL accepts no connection .* no connection within {CONNECT_SECONDS:g} s"
    with takes_at_most(AMPLE), pytest.raises(DatabaseUnavailable, match=reason):
        client.fetchval("select 1", timeout=20)
    proxy.heal()
    full_service(client, 2)


def test_who_wants_to_listen_to_a_silent_server_is_served_when_it_speaks(
    behind: WatchedSupervisor, open_client: OpenClient, proxy: Proxy
) -> None:
    """By attempts that are bounded, as all are."""
    proxy.blacken()
    client = open_client(behind, "sync-ipc", request_timeout=30)
    began = time.monotonic()
    subscription = client.listen("silence")
    listening = subscription.begin("__enter__")
    until(lambda: len(proxy.attempts) >= 2)
    assert len(proxy.attempts) <= 1 + (time.monotonic() - began) / CONNECT_SECONDS
    assert not listening.done()
    proxy.heal()
    listening.result(AMPLE)
    client.notify("silence", "over")
    assert next(iter(subscription.target)).payload == "over"
    subscription.close()


def test_a_connection_that_listens_and_is_swallowed_is_found_out_and_the_gap_is_told(
    serve: Serve, postgres: Server, proxy: Proxy, open_client: OpenClient
) -> None:
    supervisor = serve_through(serve, postgres, proxy, "on", pool={"listen_check_seconds": 0.5})
    client = open_client(supervisor, "async-tcp", request_timeout=30)
    channel = "swallowed"
    subscription = client.listen(channel)
    subscription.__enter__()
    client.notify(channel, "before")
    assert subscription.get(timeout=AMPLE).payload == "before"
    proxy.blacken(new=False)  # as a firewall that has forgotten what there was
    with takes_at_most(AMPLE):
        assert subscription.get(timeout=AMPLE).gap
    ask(postgres.dsn(), f"notify {channel}, 'behind'")
    assert subscription.get(timeout=AMPLE).payload == "behind"
    subscription.close()


# --- in the middle --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lane")
def test_a_reply_that_stops_in_the_middle_ends_at_its_timeout_and_holds_up_nobody(
    behind: WatchedSupervisor, open_client: OpenClient, proxy: Proxy
) -> None:
    one, other = (open_client(behind, "async-ipc") for _ in range(2))
    big = "select repeat('x', 1000) from generate_series(1, 100000)"
    with takes_at_most(AMPLE):
        proxy.pieces, proxy.pause = 65536, 0.01
        reading = one.begin("fetch", big, timeout=1.5)
        until(lambda: proxy.replied > 300_000)
        proxy.pieces = 0
        proxy.blacken(new=False)
        with takes_at_most(1.0):
            assert other.fetchval("select 7", timeout=5) == 7
        with pytest.raises(RequestTimeout):
            reading.result(AMPLE)
    full_service(other, 2)
    assert connections(behind, proxy) == 2


def test_what_stands_behind_a_silent_statement_is_unknown_if_it_was_sent_and_never_run_twice(
    serve: Serve, open_client: OpenClient, postgres: Server, proxy: Proxy, admin: Driven
) -> None:
    """The requests arrive, and the replies do not: the writes have happened, and nobody can say so."""
    admin.execute("""
        drop table if exists sent; create table sent (n int);
        create or replace function keep(n int) returns int language sql
            as 'insert into sent values (n) returning n'
    """)  # a write that does not look like one, and so stands in one line with others
    supervisor = serve_through(serve, postgres, proxy, "on", max_size=1, pool=DEEP)
    client = open_client(supervisor, "async-ipc")
    keep = "select keep($1)"
    unknown: list[int] = []
    for first in range(0, 80, 8):
        train(client, keep, -1)
        proxy.blacken(requests=False, new=False)
        sent = range(first, first + 8)
        with takes_at_most(AMPLE):
            got = results(together(client, *[("fetchval", keep, n, {"timeout": 20 if n % 8 else 0.5}) for n in sent]))
        assert isinstance(got[0], RequestTimeout)
        unknown += [n for n, each in zip(sent, got, strict=True) if isinstance(each, OutcomeUnknown)]
        done = [n for n in sent if n % 8 and n not in unknown]
        assert [each for each in got if isinstance(each, int)] == done, got
        written = [row["n"] for row in admin.fetch("select n from sent where n >= 0 order by n")]
        assert written == sorted(set(written)), "nothing ran twice"
        assert set(done) <= set(written)
        proxy.heal()
        if unknown:  # on a busy machine they may all have waited, as nothing is sent behind what is slow
            return
    raise AssertionError("none was ever sent behind the one that was silent")


@pytest.mark.parametrize(("recycling", "lane"), [("reset", "on"), ("reset", "off"), ("verified", "on")])
def test_dead_connections_cost_a_timeout_each_and_none_where_they_are_verified(
    serve: Serve, open_client: OpenClient, postgres: Server, proxy: Proxy, lane: str, recycling: str
) -> None:
    """As behind a firewall that has forgotten them: new ones work."""
    supervisor = serve_through(serve, postgres, proxy, lane, pool={"recycling": recycling})
    client = open_client(supervisor, "async-ipc")
    full_service(client, 2)
    proxy.blacken(new=False)
    failures = 0

    def answered() -> bool:
        nonlocal failures
        try:
            return bool(client.fetchval("select 7", timeout=2 if recycling == "verified" else 0.3) == 7)
        except RequestTimeout:
            failures += 1
        except PoolTimeout:  # both are being given up
            assert recycling == "reset"
        return False

    until(answered)
    assert failures <= (0 if recycling == "verified" else 2)
    full_service(client, 2)
    assert connections(supervisor, proxy) == 2


def test_a_lease_on_a_dead_connection_is_released_at_once_and_its_connection_replaced(
    behind: WatchedSupervisor, open_client: OpenClient, proxy: Proxy
) -> None:
    client = open_client(behind, "sync-ipc")
    lease = client.acquire()
    lease.execute("begin")
    proxy.blacken(new=False)
    with takes_at_most(AMPLE):
        with pytest.raises(RequestTimeout):
            lease.execute("select 1", timeout=0.3)
        with takes_at_most(RESET_SECONDS):
            lease.release()
    full_service(client, 2)
    assert connections(behind, proxy) == 2


# --- while cancelling -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lane")
def test_a_cancel_request_that_vanishes_holds_up_no_other_holder(
    behind: WatchedSupervisor, open_client: OpenClient, proxy: Proxy
) -> None:
    """The connections that there are go on; the cancel request, which takes one of its own, is swallowed."""
    one, other = (open_client(behind, "async-ipc") for _ in range(2))
    full_service(one, 2)
    proxy.blacken(present=False)
    late = one.begin("fetchval", "select pg_sleep(60)", timeout=0.4)
    lease = other.acquire(timeout=5)
    with pytest.raises(RequestTimeout):
        late.result(AMPLE)
    until(lambda: len(proxy.attempts) > 2)  # the cancel request is on its way to nowhere
    for _ in range(20):
        with takes_at_most(RESET_SECONDS):
            assert lease.fetchval("select 7", timeout=5) == 7
    lease.release()
    assert other.fetchval("select 7", timeout=5) == 7
    until(lambda: connections(behind, proxy) <= 2)
    proxy.heal()
    full_service(one, 2)
    assert connections(behind, proxy) == 2


def test_a_lease_whose_statement_cannot_be_cancelled_is_lost_and_says_why(
    behind: WatchedSupervisor, open_client: OpenClient, proxy: Proxy
) -> None:
    client = open_client(behind, "sync-ipc")
    with client.acquire() as lease:
        lease.execute("select 1")
        proxy.blacken()
        with takes_at_most(AMPLE):
            with pytest.raises(RequestTimeout):
                lease.execute("select pg_sleep(60)", timeout=0.3)
            until(lambda: client.status().leased == 0)
        with pytest.raises(LeaseLost, match=r"acquire again"):
            lease.execute("select 1")
    proxy.heal()
    full_service(client, 2)
    assert connections(behind, proxy) == 2


@pytest.mark.parametrize("what", ["in use", "being opened"])
def test_a_supervisor_before_a_silent_server_stops_in_time(
    serve: Serve, open_client: OpenClient, postgres: Server, proxy: Proxy, what: str
) -> None:
    supervisor = serve_through(
        serve, postgres, proxy, LANE, max_size=3, drain_timeout_seconds=0.3, connect={"timeout": 30}
    )
    client = open_client(supervisor, "async-ipc")
    calls: list[Future[Any]] = []
    if what == "being opened":
        proxy.blacken()
        calls.append(client.begin("fetchval", "select 1", timeout=60))
        until(lambda: proxy.attempts)
    else:
        full_service(client, 3)
        lease = client.acquire()
        lease.execute("begin")
        proxy.blacken()
        calls.append(client.begin("fetchval", "select 1", timeout=60))
        until(lambda: client.status().busy == 1)
        assert (client.status().leased, client.status().idle) == (1, 1)
    with takes_at_most(AMPLE):
        assert supervisor.stop() == 0
    for call in calls:
        assert isinstance(call.exception(AMPLE), PoolClosing if what == "being opened" else OutcomeUnknown)


# --- a slow server --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lane")
def test_replies_that_come_in_dribs_and_drabs_are_whole(
    behind: WatchedSupervisor, open_client: OpenClient, proxy: Proxy
) -> None:
    """Seven bytes at a time: no message comes whole, on opening, in statements, in a reset."""
    proxy.pieces = 7
    client, other = (open_client(behind, "async-ipc") for _ in range(2))
    rows = "select n, repeat('x', n) as text, n * 1.5::float8 as half from generate_series(1, $1::int) n"
    for _ in range(3):
        got = results(
            together(client, *[("fetch", rows, size) for size in (1, 20, 3)], ("fetchval", "select 1 / $1::int", 0))
        )
        assert isinstance(got.pop(), asyncpg.DivisionByZeroError)
        for size, found in zip((1, 20, 3), got, strict=True):
            assert [tuple(each) for each in found] == [(n, "x" * n, n * 1.5) for n in range(1, size + 1)]
    with other.acquire() as lease:
        lease.execute("create temp table mine (n int)")
        assert lease.fetchval("select 7") == 7
    until(lambda: client.status().resetting == 0)
    assert client.fetchval("select to_regclass('mine')") is None


def test_a_slow_server_keeps_deadlines_and_whoever_is_elsewhere_is_not_slowed(
    serve: Serve, open_client: OpenClient, postgres: Server, make_proxy: MakeProxy, proxy: Proxy
) -> None:
    """Two pools of one supervisor, one of them behind a line of a few hundred bytes a second."""
    quick = make_proxy(postgres)
    more = f'[pools.quick]\nmax_size = 2\n[pools.quick.connect]\ndsn = "{postgres.dsn(quick.port)}"\n'
    supervisor = serve_through(serve, postgres, proxy, LANE, toml=more)
    slow, fast = open_client(supervisor, "async-ipc"), open_client(supervisor, "async-ipc", pool="quick")
    full_service(slow, 1)
    proxy.pieces, proxy.pause = 10, 0.02
    late = slow.begin("fetch", "select repeat('x', 100) from generate_series(1, 1000)", timeout=0.7)
    with takes_at_most(AMPLE):
        assert [fast.fetchval("select $1::int", n, timeout=0.7) for n in range(100)] == list(range(100))
        with pytest.raises(RequestTimeout):
            late.result(AMPLE)
    proxy.pieces = 0
    full_service(slow, 2)
