"""Whatever a worker does to a session, the next one finds it as new. There is one backend, so it is the same one."""

from __future__ import annotations

import asyncpg
import pytest

from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import until


@pytest.fixture(scope="module", params=[1000, 0], ids=["", "no-statement-cache"])
def supervisor(launch: Launch, request: pytest.FixtureRequest) -> WatchedSupervisor:
    return launch(max_size=1, min_size=1, connect={"statement_cache_size": request.param})


@pytest.fixture(params=["sync-ipc", "async-tcp"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def one(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    """The worker who leaves something behind."""
    return open_client(supervisor, kind)


@pytest.fixture
def other(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    """The worker who comes next."""
    return open_client(supervisor, "async-ipc")


PID = "pg_backend_pid()"

LEFT_BEHIND: dict[str, tuple[str, str]] = {
    "SET": ("set work_mem = '77MB'", "current_setting('work_mem')"),
    "SET TIME ZONE": ("set time zone 'Asia/Tokyo'", "current_setting('TimeZone')"),
    "SET search_path": ("set search_path = pg_temp, nowhere", "current_schemas(true)::text"),
    "SET of a custom setting": ("set my.secret = 'x'", "nullif(current_setting('my.secret', true), '')"),
    "SET statement_timeout": ("set statement_timeout = 12345", "current_setting('statement_timeout')"),
    "SET default_transaction_read_only": (
        "set default_transaction_read_only = on",
        "current_setting('transaction_read_only')",
    ),
    "SET ROLE": ("set role pg_monitor", "current_user"),
    "SET SESSION AUTHORIZATION": ("set session authorization pg_monitor", "session_user"),
    "set_config": ("select set_config('work_mem', '77MB', false)", "current_setting('work_mem')"),
    "set_config in a longer statement": (
        "with a as (select 1) select 2, (select pg_catalog.set_config('work_mem', '77MB', false)) from a",
        "current_setting('work_mem')",
    ),
    "a temporary table": ("create temp table leftover (id int)", "to_regclass('pg_temp.leftover')::text"),
    "SELECT INTO TEMP": ("select 1 as id into temp leftover", "to_regclass('pg_temp.leftover')::text"),
    "a temporary table over a real one": (
        "create temp table pg_class as select 1 as id",
        "to_regclass('pg_temp.pg_class')::text",
    ),
    "an advisory lock": (
        "select pg_advisory_lock(4711)",
        f"(select count(*) from pg_locks where locktype = 'advisory' and pid = {PID})",
    ),
    "a shared advisory lock, tried": (
        "select pg_try_advisory_lock_shared(4711)",
        f"(select count(*) from pg_locks where locktype = 'advisory' and pid = {PID})",
    ),
    "LISTEN": ("listen gossip", "(select count(*) from pg_listening_channels())"),
    "a cursor WITH HOLD": ("declare c cursor with hold for select 1", "(select count(*) from pg_cursors)"),
    "PREPARE": ("prepare leftover as select 1", "(select count(*) from pg_prepared_statements where from_sql)"),
    "PREPARE with a strange name": (
        'prepare "a""b; --" as select 1',
        "(select count(*) from pg_prepared_statements where from_sql)",
    ),
    "DO": (
        "do $$ begin perform set_config('my.secret', 'x', false); end $$",
        "nullif(current_setting('my.secret', true), '')",
    ),
    "several at once": ("select 1; set work_mem = '77MB'; select 2", "current_setting('work_mem')"),
    "behind a comment": ("/* select */ -- select\n set work_mem = '77MB'", "current_setting('work_mem')"),
    "a failed transaction": ("begin; set local work_mem = '77MB'; savepoint s", "current_setting('work_mem')"),
    "DISCARD ALL": ("discard all", "1"),
    "DEALLOCATE ALL": ("deallocate all", "1"),
}  # fmt: skip


SEVERAL = ("several at once", "a failed transaction")
WAYS = ("one-shot", "fetched", "lease", "lease, failed")


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in LEFT_BEHIND for way in WAYS if not (way == "fetched" and name in SEVERAL)],
)
def test_nothing_is_left_for_the_next_worker(one: Driven, other: Driven, name: str, way: str) -> None:
    deed, question = LEFT_BEHIND[name]
    before = other.fetchrow(f"select {PID}, {question}")
    if way == "one-shot":
        one.execute(deed)
    elif way == "fetched":
        one.fetch(deed)
    else:
        with one.acquire() as lease:
            lease.execute(deed)
            if way == "lease, failed":
                with pytest.raises(asyncpg.PostgresError):
                    lease.execute("select no_such_column")
    assert other.fetchrow(f"select {PID}, {question}") == before


def test_a_session_that_is_left_in_a_transaction_is_rolled_back(
    one: Driven, other: Driven, db: Driven, table: str
) -> None:
    one.execute(f"begin; insert into {table} values (1)")
    other.execute(f"insert into {table} values (2)")
    assert db.fetch(f"select id from {table}") == [(2,)]
    with one.acquire() as lease:
        lease.execute("begin")
        lease.execute(f"insert into {table} values (3)")
    other.execute(f"insert into {table} values (4)")
    assert db.fetch(f"select id from {table} order by id") == [(2,), (4,)]


def test_an_advisory_lock_is_free_for_everybody_afterwards(one: Driven, db: Driven) -> None:
    one.fetchval("select pg_advisory_lock(4712)")
    until(lambda: db.fetchval("select pg_try_advisory_lock(4712)"))
    db.execute("select pg_advisory_unlock(4712)")


@pytest.mark.parametrize("deed", ["deallocate all", "discard all", "discard plans; deallocate prepare all"])
@pytest.mark.parametrize("way", ["one-shot", "lease"])
def test_cached_statements_of_others_survive_their_deallocation(
    start: Launch, open_client: OpenClient, deed: str, way: str
) -> None:
    """On a fresh backend: it has never been reset before."""
    supervisor = start(max_size=1)
    one, other = open_client(supervisor, "sync-ipc"), open_client(supervisor, "async-tcp")

    def spoil(client: Driven) -> None:
        if way == "one-shot":
            for each in deed.split(";"):
                client.execute(each)
            return
        with client.acquire() as lease:
            for each in deed.split(";"):
                lease.execute(each)

    statements = ["select $1::int + 5", "select $1::text || 'x'"]
    for _ in range(3):
        assert other.fetchval(statements[0], 1) == 6
        assert other.fetchval(statements[1], "a") == "ax"
        assert other.fetchmany(statements[0], [(1,), (2,)]) == [(6,), (7,)]
        spoil(one)
    assert other.fetchval(statements[0], 2) == 7
    assert other.fetchval(f"select count(*) from pg_stat_activity where pid = {PID}") == 1


LEAVES_NOTHING = [
    "select 41",
    "  -- a comment\n /* and another */ select 42;",
    "values (1), (2)",
    "with a as (select 1) select * from a",
    "(select 1) union (select 2)",
]
TOUCHES = [
    "set work_mem = '8MB'",
    "show work_mem",
    "select set_config('work_mem', '8MB', true)",
    "select 1; select 2",
    "begin",
    "explain select 1",
    "do $$ begin end $$",
]


def _ran_last(supervisor: WatchedSupervisor, db: Driven) -> str:
    (query,) = supervisor.backends(db).values()
    return query


@pytest.mark.parametrize("sql", LEAVES_NOTHING)
def test_a_statement_that_leaves_nothing_is_not_followed_by_a_reset(
    one: Driven, supervisor: WatchedSupervisor, db: Driven, sql: str
) -> None:
    one.fetch(sql)
    until(lambda: one.status().idle == 1)
    assert _ran_last(supervisor, db) == sql


@pytest.mark.parametrize("name", ["insert", "update", "delete", "table"])
def test_nor_is_a_plain_write(one: Driven, supervisor: WatchedSupervisor, db: Driven, table: str, name: str) -> None:
    sql = {
        "insert": f"insert into {table} values (1) returning id",
        "update": f"update {table} set name = 'x'",
        "delete": f"delete from {table}",
        "table": f"table {table}",
    }[name]
    one.execute(sql)
    until(lambda: one.status().idle == 1)
    assert _ran_last(supervisor, db) == sql


@pytest.mark.parametrize("sql", TOUCHES)
def test_any_other_statement_is_followed_by_a_reset(
    one: Driven, supervisor: WatchedSupervisor, db: Driven, sql: str
) -> None:
    one.execute(sql)
    until(lambda: one.status().idle == 1)
    assert "pg_prepared_statements" in _ran_last(supervisor, db)


def test_a_reset_after_every_statement_can_be_had(start: Launch, open_client: OpenClient, db: Driven) -> None:
    """For databases whose functions change the session."""
    supervisor = start(max_size=1, pool={"reset_every_statement": True})
    client = open_client(supervisor, "sync-ipc")
    db.execute(
        "create function pgactor_it_hides() returns text language sql as "
        "$$ select set_config('work_mem', '77MB', false) $$"
    )
    try:
        before = client.fetchval("show work_mem")
        assert client.fetchval("select pgactor_it_hides()") == "77MB"
        assert client.fetchval("show work_mem") == before
    finally:
        db.execute("drop function pgactor_it_hides()")


def test_a_session_that_cannot_be_reset_is_replaced(
    one: Driven, other: Driven, supervisor: WatchedSupervisor, db: Driven
) -> None:
    """A role that may not do anything: even so the next worker gets a good session."""
    (before,) = supervisor.backends(db)
    with one.acquire() as lease:
        lease.execute("set role pg_monitor")
        lease.execute("set search_path = ''")
        lease.execute("begin read only")
    assert other.fetchval("select current_user = session_user")
    assert other.fetchval(f"select {PID}") == before


def test_a_changed_table_is_read_by_its_new_columns(one: Driven, other: Driven, db: Driven, table: str) -> None:
    sql = f"select * from {table}"
    one.execute(f"insert into {table} values (1, 'a')")
    assert one.fetchrow(sql) == other.fetchrow(sql) == (1, "a")
    db.execute(f"alter table {table} add column more int8 default 9, alter column id type float8")
    for client in (one, other, one):
        row = client.fetchrow(sql)
        assert dict(row) == {"id": 1.0, "name": "a", "more": 9}
        assert isinstance(row["id"], float)
