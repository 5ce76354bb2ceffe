"""No SET, temporary table, advisory lock, prepared statement, cursor, LISTEN or open transaction of one worker ever
reaches another, whichever way it was left and whichever lane it went. docs/session-effects.md tells of this."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import asyncpg
import pytest

from pgactor import PgactorError
from tests.forked import ForkedProcess
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor, wait_for_statement
from tests.integration.lanes import LANES
from tests.integration.session_deeds import DEEDS, LOCK, RUN_BY_OTHERS, SET, SEVERAL, S, leave
from tests.supervising import until

pytestmark = pytest.mark.either_lane

SIZE = 1
"""Of the pools: whoever comes next then has the very backend that was used before."""
WAYS: dict[str, Callable[[Driven, str, tuple[Any, ...]], Any]] = {
    "execute": lambda c, sql, args: c.execute(sql, *args),
    "fetch": lambda c, sql, args: c.fetch(sql, *args),
    "fetchrow": lambda c, sql, args: c.fetchrow(sql, *args),
    "fetchval": lambda c, sql, args: c.fetchval(sql, *args),
    "executemany": lambda c, sql, args: c.executemany(sql, [args, args]),
    "fetchmany": lambda c, sql, args: c.fetchmany(sql, [args]),
    "batch": lambda c, sql, args: c.batch([("select 1",), (sql, *args)]),
    "lease": lambda c, sql, args: on_lease(c, sql, args),
    "lease, in pieces": lambda c, sql, args: in_pieces(c, sql, args),
    "transaction": lambda c, sql, args: in_transaction(c, sql, args),
}


def on_lease(client: Driven, sql: str, args: tuple[Any, ...]) -> None:
    with client.acquire() as lease:
        for method in (lease.execute, lease.fetch):
            with suppress(asyncpg.PostgresError):
                method(sql, *args)


def in_pieces(client: Driven, sql: str, args: tuple[Any, ...]) -> None:
    with client.acquire() as lease:
        lease.execute("begin")
        with suppress(asyncpg.PostgresError):
            lease.fetch(sql, *args)
        lease.execute("commit")
        lease.fetchval("select 1")


def in_transaction(client: Driven, sql: str, args: tuple[Any, ...]) -> None:
    with client.transaction() as tx:
        tx.execute(sql, *args)


SEEN = {
    "advisory locks": "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    "settings": "select md5(string_agg(name || '=' || coalesce(setting, '-'), ',' order by name)) from pg_settings "
    "where name <> 'application_name' and name not like '%.%'",  # PL/pgSQL has its own, once it is loaded
    "a setting": "select current_setting('work_mem')",
    "another": "select nullif(current_setting('my.secret', true), '')",
    "prepared statements": "select count(*) from pg_prepared_statements where from_sql",
    "cursors": "select count(*) from pg_cursors",
    "channels": "select count(*) from pg_listening_channels()",
    "users": "select current_user || ' ' || session_user",
    "temporary things": "select (select count(*) from pg_class where relnamespace = pg_my_temp_schema()) "
    "+ (select count(*) from pg_type where typnamespace = pg_my_temp_schema()) "
    "+ (select count(*) from pg_proc where pronamespace = pg_my_temp_schema())",
    "path": "select current_schemas(false)::text",
}


LOOK = "select " + ", ".join(f'({sql}) as "{name}"' for name, sql in SEEN.items())


def look(client: Driven, usual: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What a worker sees of each backend of the pool. Those where it is not as usual are reset afterwards, so that
    nothing is seen twice."""
    with ExitStack() as stack:
        leases = [stack.enter_context(client.acquire(timeout=10)) for _ in range(SIZE)]
        seen = [dict(lease.fetchrow(LOOK)) for lease in leases]
        for lease, each in zip(leases, seen, strict=True):
            if each != usual:
                lease.execute("reset all")
        return seen


@pytest.fixture(scope="module", autouse=True)
def schema(db: Driven) -> Iterator[None]:
    db.execute(f"""
        drop schema if exists {S} cascade; create schema {S};
        create table {S}.t (id int);
        create view {S}.locking as select 1 as id;
        create function {S}.sets() returns text language plpgsql as $$
            begin return set_config('work_mem', '77MB', false); end $$;
        create function {S}.locks() returns int language plpgsql as $$
            begin perform pg_advisory_lock(1); return 1; end $$;
        create function {S}.makes() returns int language plpgsql as $$
            begin create temp table if not exists left_over (id int); return 1; end $$;
        create function {S}.listens() returns int language plpgsql as $$ begin listen gossip; return 1; end $$;
        create function {S}.prepares() returns int language plpgsql as $$
            begin execute 'prepare left_over as select 1'; return 1; end $$;
        create view {S}.viewed as select {S}.sets();
        create table {S}.triggering (id int);
        create function {S}.on_insert() returns trigger language plpgsql as $$
            begin perform set_config('work_mem', '77MB', false); return new; end $$;
        create trigger t before insert on {S}.triggering for each row execute function {S}.on_insert();
    """)
    yield
    db.execute(f"drop schema {S} cascade")


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def supervisor(launch: Launch, lane: str) -> WatchedSupervisor:
    return launch(
        max_size=SIZE, min_size=SIZE, pool={"statement_lane": lane}, heartbeat_seconds=0.1, silence_seconds=0.5
    )


@pytest.fixture
def kind(lane: str) -> str:
    """Each lane by another client and another road; that clients and roads are alike is tested elsewhere."""
    return {"on": "sync-ipc", "off": "async-tcp"}[lane]


@pytest.fixture
def one(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    """The worker who leaves something behind."""
    return open_client(supervisor, kind)


@pytest.fixture
def other(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    """Who comes next."""
    return open_client(supervisor, "async-ipc")


@pytest.fixture(scope="module")
def untouched(launch: Launch, lane: str, loop_thread: Any) -> dict[str, Any]:
    """What a backend looks like that nobody has used."""
    from pgactor import AsyncClient

    client = Driven(AsyncClient(launch(max_size=SIZE, pool={"statement_lane": lane}).ipc), loop_thread)
    try:
        first, *others = look(client)
        assert others == [first] * (SIZE - 1)
        return first
    finally:
        client.close()


def nobody_is_in_a_transaction(supervisor: WatchedSupervisor, db: Driven) -> bool:
    sql = "select count(*) from pg_stat_activity where application_name = $1 and state like 'idle in transaction%'"
    return bool(db.fetchval(sql, supervisor.name) == 0)


@pytest.mark.parametrize(
    ("sql", "args"),
    [
        *DEEDS,
        *RUN_BY_OTHERS,
    ],
)
def test_nothing_that_a_statement_leaves_reaches_another_worker(
    one: Driven,
    other: Driven,
    db: Driven,
    supervisor: WatchedSupervisor,
    untouched: dict[str, Any],
    lane: str,
    sql: str,
    args: tuple[Any, ...],
) -> None:
    try:
        for way, do in WAYS.items():
            for _ in range(2 if lane == "on" else 1):  # the statement lane knows it the second time
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, PgactorError):
                    do(one, sql, args)
            until(lambda: nobody_is_in_a_transaction(supervisor, db))
            for seen in look(other, untouched):
                assert seen == untouched, way
    finally:
        look(other, untouched)  # what a hole let through must not reach the next test
        db.execute(f"drop table if exists {S}.made; alter role current_user reset all")


@pytest.mark.parametrize(
    "sql", [f"select {LOCK}, pg_sleep(9)", f"{SET}; select pg_sleep(9)", f"{SET}; begin; select pg_sleep(9)"]
)
def test_nor_does_what_one_left_that_ran_out_of_time(
    one: Driven, other: Driven, untouched: dict[str, Any], sql: str
) -> None:
    for way in ("execute", "fetch"):
        with pytest.raises((TimeoutError, asyncpg.PostgresError)):
            getattr(one, way)(sql, timeout=0.1)
        assert look(other) == [untouched] * SIZE


_marks = itertools.count(1)


@pytest.mark.parametrize("road", ["ipc", "tcp"])
@pytest.mark.parametrize("way", ["resting", "running", "alone"])
@pytest.mark.parametrize(
    "sql", [SEVERAL[-4], SET, f"select {LOCK}", "begin; create temp table left_over ()", "listen gossip"]
)
def test_nor_does_what_a_killed_worker_left(
    supervisor: WatchedSupervisor, other: Driven, db: Driven, untouched: dict[str, Any], road: str, way: str, sql: str
) -> None:
    mark = f"{supervisor.name} {next(_marks)}"
    worker = ForkedProcess(leave, getattr(supervisor, road), way, sql, mark)
    try:
        wait_for_statement(db, mark, state="idle%" if way == "resting" else "active")
    finally:
        worker.kill()
        worker.wait()
    assert look(other) == [untouched] * SIZE
    assert nobody_is_in_a_transaction(supervisor, db)


# --- what a function of the user's hides ------------------------------------------------------------------

HIDDEN = {
    f"select {S}.sets()": "a setting",
    f"select * from {S}.viewed": "a setting",
    f"insert into {S}.triggering values (1)": "a setting",
    f"select {S}.locks()": "advisory locks",
    f"select {S}.makes()": "temporary things",
    f"select {S}.listens()": "channels",
    f"select {S}.prepares()": "prepared statements",
}


@pytest.mark.parametrize("sql", HIDDEN)
def test_what_a_function_hides_reaches_others_until_the_next_reset(
    one: Driven, other: Driven, untouched: dict[str, Any], sql: str
) -> None:
    """As the documentation says."""
    one.execute(sql)
    assert sum(seen[HIDDEN[sql]] != untouched[HIDDEN[sql]] for seen in look(other)) == 1
    assert look(other) == [untouched] * SIZE


@pytest.mark.parametrize("sql", HIDDEN)
@pytest.mark.parametrize("way", WAYS)
def test_but_not_with_reset_every_statement(
    resetting: WatchedSupervisor, open_client: OpenClient, kind: str, untouched: dict[str, Any], sql: str, way: str
) -> None:
    one, other = open_client(resetting, kind), open_client(resetting, "async-ipc")
    for _ in range(2):
        with suppress(asyncpg.DuplicatePreparedStatementError):
            WAYS[way](one, sql, ())
    assert look(other) == [untouched] * SIZE


@pytest.fixture(scope="module")
def resetting(launch: Launch, lane: str) -> WatchedSupervisor:
    return launch(max_size=SIZE, min_size=SIZE, pool={"statement_lane": lane, "reset_every_statement": True})
