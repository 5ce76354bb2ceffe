"""A lease whose statements run in both lanes, in turns, is as one connection of asyncpg."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import asyncpg
import pytest

from pgactor import LeaseLost, OutcomeUnknown, RequestTimeout
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor, outcome, wait_for_statement
from tests.integration.lanes import LANES, count
from tests.supervising import until

pytestmark = pytest.mark.either_lane

QUICK = "select $1::int + 1"
UNKNOWN = "select $1::int + 1, '10.0.0.1'::inet"
"""It has a type that only asyncpg knows."""

LARGE = "select n, inet '1.1.1.1', repeat('x', 300) from generate_series(1, $1::int) n"
"""Of a type that only asyncpg knows, and drawn off on its way there."""

SLEEP = {"the statement lane's": "select 1 from pg_sleep($1)", "asyncpg's": "select inet '1.1.1.1' from pg_sleep($1)"}


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def supervisor(launch: Launch, lane: str) -> WatchedSupervisor:
    return launch(max_size=1, pool={"statement_lane": lane})


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient) -> Iterator[Driven]:
    client = open_client(supervisor, "async-ipc")
    yield client
    until(lambda: client.status().leased == 0)


@pytest.fixture
def bare(dsn: str, loop_thread: LoopThread) -> Iterator[Driven]:
    """A connection of asyncpg's own."""

    async def connect() -> Any:
        return await asyncpg.connect(dsn)

    connection = Driven(loop_thread.run(connect()), loop_thread)
    yield connection
    connection.close()


def steps(table: str) -> list[tuple[Any, ...]]:
    """What may come after each other on a connection, in any order."""
    return [
        *[("execute", sql) for sql in ("begin", "commit", "rollback", "savepoint a", "rollback to a", "release a")],
        *[("execute", sql) for sql in ("BEGIN ISOLATION LEVEL REPEATABLE READ;", "commit and chain", "abort", "END")],
        ("execute", "start transaction read only"),
        ("execute", "set local timezone to 'Asia/Tokyo'"),
        ("execute", f"insert into {table} values ($1, $2)", 1, "one"),
        ("execute", f"insert into {table} values (2, 'two') on conflict do nothing"),
        ("execute", f"update {table} set name = $1", "other"),
        ("execute", f"delete from {table}"),
        ("execute", f"select $1 from {table}"),
        ("execute", "select 1 /"),
        ("executemany", f"insert into {table} values ($1, $2)", [(3, "a"), (4, "b")]),
        ("executemany", f"insert into {table} values ($1, $2)", [(6, "c"), ("no int", "d")]),
        ("executemany", f"insert into {table} values ($1, $2::inet::text)", [(7, "1.1.1.1"), ("no int", "1.1.1.1")]),
        ("fetchmany", f"insert into {table} values ($1, $2::inet::text) returning id", [(8, "1.1.1.1"), (9, 2)]),
        *[("fetch", sql) for sql in ("begin", "commit", "rollback", "savepoint a", "rollback to a", "release a")],
        *[("execute", sql) for sql in ("rollback and chain", "commit; begin", "discard plans")],
        ("fetch", LARGE, 2000),
        ("fetch", f"select *, 1 / (n - 1500) from ({LARGE}) as large", 2000),
        ("fetch", f"select * from {table} order by id"),
        ("fetch", f"select id, 'x'::inet from {table}"),
        ("fetch", f"select *, inet '1.1.1.1' from {table} order by id"),
        ("fetch", "select n from generate_series(1, $1::int) n", 3000),
        ("fetchrow", "select n, $1::text from generate_series(1, 3) n", "x"),
        ("fetchval", QUICK, 1),
        ("fetchval", QUICK, "no int"),
        ("fetchval", UNKNOWN, 1),
        ("fetchval", "select 1 / $1::int", 0),
        ("fetchval", "select current_setting('timezone')"),
        ("fetch", f"insert into {table} values ($1, $2) returning id", 5, None),
        ("fetch", "select * from there_is_no_such_table"),
    ]


def told(connection: Driven, step: tuple[Any, ...]) -> Any:
    """What comes of a step, without where in PostgreSQL's own code an error was raised."""
    name, *args = step
    found = outcome(lambda: getattr(connection, name)(*args))
    if found[0] == "raised":
        fields = {key: value for key, value in found[3].items() if not key.startswith("server_source")}
        found = (*found[:3], fields)
    if "no int" in str(args):  # where a transaction has failed it depends on what is prepared who complains
        found = found[:1]
    return step, found, connection.is_in_transaction()


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_statements_has_the_results_and_errors_of_asyncpg(
    client: Driven, bare: Driven, table: str, seed: int
) -> None:
    random = Random(seed)
    chosen = random.choices(steps(table), k=60)
    expected = [told(bare, step) for step in chosen]
    bare.execute("rollback")
    bare.execute(f"delete from {table}")
    with client.acquire() as lease:
        for step, wanted in zip(chosen, expected, strict=True):
            assert told(lease, step) == wanted
    until(lambda: client.status().idle == 1)
    assert client.fetchval("select current_setting('timezone')") == bare.fetchval(
        "select current_setting('timezone')"
    )


def test_the_usual_transaction_is_run_by_the_statement_lane_alone(client: Driven, table: str, lane: str) -> None:
    for _ in range(2):
        before, in_session = count(client, "statements_pipelined"), count(client, "statements_in_session")
        with client.acquire() as lease, lease.transaction():
            lease.execute(f"insert into {table} values ($1, $2) on conflict do nothing", 1, "a")
            with lease.transaction():
                assert lease.fetchval(f"select name from {table} where id = $1", 1) == "a"
        ran = count(client, "statements_pipelined") - before, count(client, "statements_in_session") - in_session
        assert ran == ((6, 0) if lane == "on" else (0, 6))


@pytest.mark.parametrize("how", SLEEP)
def test_a_timeout_in_a_transaction_ends_the_statement_and_no_more(client: Driven, table: str, how: str) -> None:
    with client.acquire() as lease:
        pid = lease.fetchval("select pg_backend_pid()")
        lease.execute("begin")
        lease.execute(f"insert into {table} values (1, 'a')")
        with pytest.raises(RequestTimeout):
            lease.fetch(SLEEP[how], 30, timeout=0.1)
        assert lease.is_in_transaction()
        for sql in (QUICK, UNKNOWN):
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                lease.fetchval(sql, 1)
        lease.execute("rollback")
        assert not lease.is_in_transaction()
        assert lease.fetchval(QUICK, 1) == 2
        assert lease.fetchval("select pg_backend_pid()") == pid
    assert client.fetchval(f"select count(*) from {table}") == 0


@pytest.mark.parametrize("how", SLEEP)
def test_a_release_ends_what_runs_and_rolls_back(client: Driven, db: Driven, table: str, how: str) -> None:
    pid = client.fetchval("select pg_backend_pid()")
    lease = client.acquire()
    lease.execute("begin")
    lease.execute(f"insert into {table} values (1, 'a')")
    running = lease.begin("fetch", SLEEP[how], 30)
    wait_for_statement(db, "pg_sleep($1)")
    lease.terminate()
    assert isinstance(
        running.exception(30), asyncpg.PostgresError | asyncpg.InterfaceError | OutcomeUnknown | LeaseLost
    )
    assert client.fetchval(f"select count(*) from {table}") == 0
    assert client.fetchval("select pg_backend_pid()") == pid


def test_a_release_after_an_error_in_a_transaction_rolls_back(client: Driven, table: str) -> None:
    for failing in (("fetchval", "select 1 / $1::int", 0), ("fetchval", UNKNOWN, "x"), ("execute", "select nothing")):
        with client.acquire() as lease:
            lease.execute("begin")
            lease.execute(f"insert into {table} values (1, 'a')")
            with pytest.raises((asyncpg.PostgresError, asyncpg.DataError)):
                getattr(lease, failing[0])(*failing[1:])
        with client.acquire() as lease:
            assert not lease.is_in_transaction()
            assert lease.fetchval(f"select count(*) from {table}") == 0
            with lease.transaction():
                assert lease.fetchval(QUICK, 1) == 2


@pytest.mark.parametrize("when", ["while a statement runs", "between two"])
@pytest.mark.parametrize("how", SLEEP)
def test_the_loss_of_the_backend_ends_the_lease(client: Driven, db: Driven, table: str, when: str, how: str) -> None:
    with client.acquire() as lease:
        lease.execute("begin")
        lease.execute(f"insert into {table} values (1, 'a')")
        pid = lease.fetchval("select pg_backend_pid()")
        if when == "between two":
            db.fetch("select pg_terminate_backend($1)", pid)
            until(lambda: client.status().leased == 0)
            error: Any = LeaseLost
            with pytest.raises(error):
                lease.fetchval(QUICK, 1)
        else:
            running = lease.begin("fetch", SLEEP[how], 30)
            wait_for_statement(db, "pg_sleep($1)")
            db.fetch("select pg_terminate_backend($1)", pid)
            assert isinstance(running.exception(30), asyncpg.AdminShutdownError | OutcomeUnknown)
        with pytest.raises(LeaseLost):
            lease.execute("commit")
    assert client.fetchval(f"select count(*) from {table}") == 0


def test_a_lease_whose_table_it_changes_itself_goes_on(client: Driven, table: str) -> None:
    with client.acquire() as lease:
        lease.execute(f"insert into {table} values (1, 'a')")
        lease.fetch(f"select name from {table} where id = $1", 1)
        with lease.transaction():
            lease.execute(f"alter table {table} alter column name type int using 7")
            assert lease.fetchval(f"select name from {table} where id = 0 + $1", 1) == 7
            lease.execute("savepoint a")
            assert lease.fetchval(f"select name from {table} where id = 0 + $1", 1) == 7


def test_what_set_local_changes_is_right_in_the_rest_of_the_transaction_and_not_after(client: Driven) -> None:
    with client.acquire() as lease:
        zone = lease.fetchval("select current_setting('timezone')")
        with lease.transaction():
            lease.execute("set local timezone to 'Asia/Tokyo'")
            assert lease.get_settings().TimeZone == "Asia/Tokyo"
            lease.execute("set local client_encoding to 'LATIN1'")
            assert lease.fetchval("select $1::text || chr(233)", "é") == "éé"
        assert lease.get_settings().TimeZone == zone
        assert lease.fetchval("select $1::text || chr(233)", "é") == "éé"


def test_a_parameter_that_a_function_changes_is_told_before_the_answer(client: Driven, db: Driven) -> None:
    db.execute(
        "create or replace function pgactor_be_tokyo() returns text language sql"
        " as $$ select set_config('TimeZone', 'Asia/Tokyo', true) $$"
    )
    try:
        with client.acquire() as lease:
            zone = lease.get_settings().TimeZone
            with lease.transaction():
                assert lease.fetchval("select pgactor_be_tokyo()") == "Asia/Tokyo"
                assert lease.get_settings().TimeZone == "Asia/Tokyo"
            assert lease.get_settings().TimeZone == zone
    finally:
        db.execute("drop function pgactor_be_tokyo")


def test_cursors_copies_and_prepared_statements_between_quick_ones(
    supervisor: WatchedSupervisor, open_client: OpenClient, table: str
) -> None:
    client = open_client(supervisor, "sync-ipc").target
    with client.acquire() as lease:
        with lease.transaction():
            lease.execute(f"insert into {table} values (1, 'a'), (2, 'b')")
            cursor = lease.cursor(f"select id from {table} order by id", prefetch=1)
            seen = [(row["id"], lease.fetchval(QUICK, row["id"])) for row in cursor]
            assert seen == [(1, 2), (2, 3)]
            lease.copy_records_to_table(table, records=[(3, "c")])
            assert lease.fetchval(f"select count(*) from {table}") == 3
        assert not lease.is_in_transaction()
        with lease.transaction():
            prepared = lease.prepare(f"select name from {table} where id = $1")
            assert lease.fetchval(QUICK, 1) == 2
            assert prepared.fetchval(3) == "c"
            assert lease.fetchval(QUICK, 2) == 3
    assert client.fetchval(f"select count(*) from {table}") == 3


def test_a_notice_reaches_a_log_listener_with_its_statement(client: Driven, db: Driven) -> None:
    db.execute(
        "create or replace function pgactor_says(text) returns int language plpgsql"
        " as $$ begin raise notice 'said %', $1; return 1; end $$"
    )
    heard: list[str] = []

    def listener(_: Any, message: Any) -> None:
        heard.append(message.message)

    try:
        with client.acquire() as lease:
            with lease.transaction():
                assert lease.fetchval("select pgactor_says($1)", "unheard") == 1
                lease.add_log_listener(listener)
                assert lease.fetchval("select pgactor_says($1)", "a") == 1
                assert lease.fetchval(QUICK, 1) == 2
            until(lambda: heard == ["said a"])
            lease.remove_log_listener(listener)
            assert lease.fetchval("select pgactor_says($1)", "no more") == 1
            assert heard == ["said a"]
    finally:
        db.execute("drop function pgactor_says")


def test_statements_run_while_notifications_come_in_pieces(client: Driven, db: Driven) -> None:
    heard: list[str] = []
    burst = "select pg_notify('pgactor_pieces', n || repeat('n', 7900)) from generate_series(1, 500) n"
    with client.acquire() as lease:
        assert lease.fetchval(QUICK, 1) == 2
        pid = lease.fetchval("select pg_backend_pid()")
        lease.add_listener("pgactor_pieces", lambda *told: heard.append(told[-1]))
        for _ in range(8):
            sent = db.begin("execute", burst)
            for _ in range(10):
                assert lease.fetchval(UNKNOWN, 1) == 2
                assert lease.fetchval(QUICK, 1) == 2
            sent.result(30)
        until(lambda: len(heard) == 8 * 500)
        assert {len(each.strip("0123456789")) for each in heard} == {7900}
        assert lease.fetchval("select pg_backend_pid()") == pid


def test_an_enum_that_only_leases_use_becomes_known(client: Driven, db: Driven, lane: str, table: str) -> None:
    name = f"mood_{table}"
    db.execute(f"create type {name} as enum ('good', 'bad')")
    try:
        with client.acquire() as lease:
            for _ in range(3):
                with lease.transaction():
                    assert lease.fetchval(f"select $1::{name}", "good") == "good"
            before = count(client, "statements_pipelined")
            assert lease.fetchval(f"select $1::{name}", "bad") == "bad"
            assert count(client, "statements_pipelined") == before + (lane == "on")
    finally:
        db.execute(f"drop type {name}")
