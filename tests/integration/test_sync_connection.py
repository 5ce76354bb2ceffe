"""FEATURES row A20 on a blocking lease: what is not awaited. That its results and errors are asyncpg's is tested with
the async ones', in tests/compatibility/test_connection.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import asyncpg
import pytest

from pgactor import Client, Lease, LeaseLost
from tests.integration.conftest import Launch
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import until

pytestmark = pytest.mark.either_lane

NOTICE = "do $$begin raise notice 'hello'; end$$"


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=3)


@pytest.fixture
def client(supervisor: WatchedSupervisor) -> Iterator[Client]:
    with Client(supervisor.ipc) as client:
        yield client


@pytest.fixture
def lease(client: Client) -> Iterator[Lease]:
    with client.acquire() as lease:
        yield lease


def test_a_prepared_statement_is_used_without_await(lease: Lease) -> None:
    stmt = lease.prepare("select n, n * $1 as m from generate_series(1, 3) n")
    assert [row["m"] for row in stmt.fetch(10)] == [10, 20, 30]
    assert stmt.get_statusmsg() == "SELECT 3"
    assert stmt.fetchrow(2) == (1, 2)
    assert stmt.fetchval(2, column=1) == 2
    assert [each.name for each in stmt.get_attributes()] == ["n", "m"]
    assert stmt.explain(1)[0]["Plan"]["Node Type"] == "Function Scan"
    with lease.transaction():
        assert [row["m"] for row in stmt.cursor(3)] == [3, 6, 9]


def test_a_prepared_executemany_of_many_chunks_is_all_or_nothing(lease: Lease) -> None:
    lease.execute("create temp table things (a int, b text)")
    insert = lease.prepare("insert into things values ($1, $2)")
    insert.executemany((n, "x" * 1000) for n in range(3000))
    assert lease.fetchval("select count(*) from things") == 3000
    with pytest.raises(asyncpg.DataError, match="element #2999 of"):
        insert.executemany((n if n < 2999 else "wrong", "x" * 1000) for n in range(3000))
    assert lease.fetchval("select count(*) from things") == 3000


def test_a_cursor_is_iterated_and_goes_on_from_where_it_stands(lease: Lease) -> None:
    with lease.transaction():
        cursor = lease.cursor("select n from generate_series(1, 200) n", prefetch=30)
        assert cursor.fetchrow() == (1,)
        assert cursor.forward(9) == 9
        assert cursor.fetch(2) == [(11,), (12,)]
        assert [row["n"] for row in cursor] == list(range(13, 201))
        assert list(cursor) == []
    with pytest.raises(asyncpg.NoActiveSQLTransactionError):
        lease.cursor("select 1")
    with pytest.raises(asyncpg.InterfaceError, match="prefetch argument must be greater than zero"):
        lease.cursor("select 1", prefetch=0)


def test_a_cursor_of_many_rows_is_read_in_the_end_though_others_run_between(lease: Lease) -> None:
    seen = 0
    with lease.transaction():
        for row in lease.cursor("select n, repeat('x', 1000) as pad from generate_series(1, 20000) n", prefetch=5000):
            seen += 1
            assert row["n"] == seen
            if seen % 4000 == 0:
                assert lease.fetchval("select $1::int", seen) == seen
    assert seen == 20000


def test_a_committed_cursor_leaves_the_session_clean(client: Client) -> None:
    before = client.status().counters["leases_returned_clean"]
    with client.acquire() as lease, lease.transaction():
        assert [row["n"] for row in lease.cursor("select generate_series(1, 3) as n")] == [1, 2, 3]
    until(lambda: client.status().counters["leases_returned_clean"] == before + 1)


def test_statements_that_nobody_uses_are_closed(lease: Lease) -> None:
    def prepared() -> int:
        count: int = lease.fetchval("select count(*) from pg_prepared_statements where statement like '%mark%'")
        return count

    base = prepared()
    statements = [lease.prepare(f"select {n} as mark") for n in range(5)]
    assert prepared() == base + 5
    del statements
    lease.prepare("select 1")  # asyncpg closes them at the next one
    assert prepared() == base


def test_settings_follow_the_session(lease: Lease) -> None:
    settings = lease.get_settings()
    lease.execute("set timezone = 'Asia/Tokyo'")
    assert settings.TimeZone == "Asia/Tokyo"
    lease.reset()
    assert settings.TimeZone != "Asia/Tokyo"
    assert lease.get_server_version() >= (13, 0)
    assert lease.get_server_pid() == lease.fetchval("select pg_backend_pid()")


def test_the_next_lease_of_a_session_has_its_own_settings(client: Client) -> None:
    with client.acquire() as lease:
        zone = lease.get_settings().TimeZone
        lease.execute("set timezone = 'Asia/Tokyo'")
    for _ in range(4):
        with client.acquire() as lease:
            assert lease.get_settings().TimeZone == zone == lease.fetchval("show timezone")


def test_log_listeners_are_called_before_the_call_returns(lease: Lease) -> None:
    heard: list[Any] = []

    def listen(of: Lease, message: Any) -> None:
        heard.append((of is lease, message.message, message.query))

    lease.add_log_listener(listen)
    lease.execute(NOTICE)
    assert heard == [(True, "hello", NOTICE)]
    lease.remove_log_listener(listen)
    lease.execute(NOTICE)
    assert len(heard) == 1


def test_notices_are_nobody_elses(client: Client) -> None:
    heard: list[str] = []
    with client.acquire() as lease:
        lease.add_log_listener(lambda _, message: heard.append(message.message))
        lease.fetchval("select 1")
    for _ in range(3):
        with client.acquire() as other:
            other.execute(NOTICE)
        client.execute(NOTICE)
    assert heard == []


def test_a_listener_that_raises_is_logged_and_harms_nobody(lease: Lease, caplog: pytest.LogCaptureFixture) -> None:
    def listen(of: Lease, message: Any) -> None:
        raise ZeroDivisionError

    lease.add_log_listener(listen)
    lease.execute(NOTICE)
    assert lease.fetchval("select 1") == 1
    assert "a listener of <Lease" in caplog.text
    lease.remove_log_listener(listen)


def test_a_coroutine_function_is_refused(lease: Lease) -> None:
    async def listen(of: Lease, message: Any) -> None: ...

    with pytest.raises(asyncpg.InterfaceError, match="a blocking lease cannot await"):
        lease.add_log_listener(listen)
    with pytest.raises(asyncpg.InterfaceError, match="expected a callable"):
        lease.add_termination_listener(3)  # type: ignore[arg-type]


def test_query_loggers_hear_of_each_statement(lease: Lease) -> None:
    heard: list[Any] = []
    with lease.query_logger(heard.append):
        lease.fetchval("select $1::int", 1)
        lease.executemany("select $1::int", [(1,)])
        with pytest.raises(asyncpg.DivisionByZeroError):
            lease.execute("select 1/0")
    lease.execute("select 2")
    assert [(each.query, each.args) for each in heard] == [
        ("select $1::int", (1,)),
        ("select $1::int", [(1,)]),
        ("select 1/0", ()),
    ]
    assert isinstance(heard[2].exception, asyncpg.DivisionByZeroError)


def test_termination_listeners_hear_of_a_session_that_is_gone(client: Client, db: Driven) -> None:
    heard: list[Any] = []
    lease = client.acquire()
    lease.add_termination_listener(heard.append)
    db.execute("select pg_terminate_backend($1)", lease.get_server_pid())
    until(lambda: not db.fetchval("select count(*) from pg_stat_activity where pid = $1", lease.backend_pid))
    with pytest.raises(LeaseLost):
        lease.execute("select 1")
    assert lease.is_closed()
    assert heard == [lease]
    lease.release()
    assert heard == [lease]


@pytest.mark.parametrize("how", ["terminate", "close"])
def test_terminate_and_close_end_it_at_once(client: Client, how: str) -> None:
    heard: list[Any] = []
    lease = client.acquire()
    lease.add_termination_listener(heard.append)
    stmt = lease.prepare("select 1")
    getattr(lease, how)()
    assert heard == [lease]
    with pytest.raises(asyncpg.InterfaceError, match=r"cannot call Connection.is_closed\(\): connection has"):
        lease.is_closed()
    with pytest.raises(asyncpg.InterfaceError, match=r"PreparedStatement.fetch\(\): the underlying connection is"):
        stmt.fetch()
    until(lambda: client.status().leased == 0)


def test_after_the_release_everything_that_was_opened_is_refused(client: Client) -> None:
    lease = client.acquire()
    stmt = lease.prepare("select 1")
    transaction = lease.transaction()
    transaction.start()
    cursor = lease.cursor("select 1")
    rows = iter(cursor)
    lease.release()
    calls: dict[str, Callable[[], Any]] = {
        "PreparedStatement.fetch": stmt.fetch,
        "PreparedStatement.get_name": stmt.get_name,
        "PreparedStatement.cursor": stmt.cursor,
        "Cursor.fetch": partial(cursor.fetch, 1),
        "Cursor.__iter__": partial(iter, cursor),
        "Cursor.__next__": partial(next, rows),
        "Transaction.commit": transaction.commit,
        "Transaction.rollback": transaction.rollback,
    }
    for name, call in calls.items():
        with pytest.raises(asyncpg.InterfaceError) as caught:
            call()
        assert str(caught.value) == (
            f"cannot call {name}(): the underlying connection has been released back to the pool"
        )


def test_a_prepared_statement_and_a_cursor_are_cancelled_at_their_timeout(lease: Lease) -> None:
    stmt = lease.prepare("select pg_sleep($1::float8)::text")
    with pytest.raises(TimeoutError):
        stmt.fetch(30, timeout=0.1)
    assert stmt.fetchval(0) == ""
    with pytest.raises(TimeoutError), lease.transaction():
        lease.cursor("select pg_sleep(n) from generate_series(30, 40) n").fetch(2, timeout=0.1)
    assert lease.fetchval("select 1") == 1
    assert not lease.is_in_transaction()


def test_codecs_are_the_applications_own(lease: Lease) -> None:
    lease.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    assert lease.fetchval("select $1::json", {"a": [1]}) == {"a": [1]}
    assert lease.prepare("select $1::json[]").fetchval([{"b": 1}, None, 2]) == [{"b": 1}, None, 2]
    lease.execute("create temp table documents (j json)")
    lease.executemany("insert into documents values ($1)", ([{"n": n}] for n in range(3)))
    with lease.transaction():
        assert [row["j"]["n"] for row in lease.cursor("select j from documents")] == [0, 1, 2]
    lease.reset_type_codec("json", schema="pg_catalog")
    assert lease.fetchval("select $1::json", "[1]") == "[1]"
