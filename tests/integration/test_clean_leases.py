"""A lease that has left nothing in its session gives it back as it is; after any other one it is reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from pgactor import RequestTimeout
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import until

Steps = Callable[[Driven, str], Any]


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=1)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    return open_client(supervisor, kind)


@pytest.fixture
def touched(client: Driven, supervisor: WatchedSupervisor, db: Driven) -> Callable[[], bool]:
    """Whether the lease that has ended was followed by a reset."""
    before = client.status().counters["leases_returned_clean"]

    def was_reset() -> bool:
        until(lambda: client.status().idle == 1)
        (ran_last,) = supervisor.backends(db).values()
        returned_clean = client.status().counters["leases_returned_clean"] - before
        reset = "pg_prepared_statements" in ran_last or "DEALLOCATE" in ran_last
        assert returned_clean == (not reset)
        return reset

    client.fetch("select 1")  # or the last to run may be an earlier test's reset
    return was_reset


def transaction(lease: Driven, table: str) -> None:
    with lease.transaction():
        lease.execute(f"insert into {table} values (1)")
        assert lease.fetchval(f"select count(*) from {table}") == 1


def savepoints(lease: Driven, table: str) -> None:
    with lease.transaction(isolation="serializable"):
        with pytest.raises(asyncpg.DivisionByZeroError), lease.transaction():
            lease.fetch("select 1/0")
        with lease.transaction():
            lease.execute(f"insert into {table} values (1)")


def rolled_back(lease: Driven, table: str) -> None:
    begun = lease.transaction()
    begun.start()
    lease.execute(f"insert into {table} values (1)")
    with pytest.raises(asyncpg.DivisionByZeroError):
        lease.fetch("select 1/0")
    begun.rollback()


def by_hand(lease: Driven, table: str) -> None:
    lease.execute("begin isolation level repeatable read")
    lease.execute("set local work_mem = '77MB'")
    lease.execute("savepoint a")
    lease.execute("rollback to a")
    lease.execute("commit and chain")
    lease.execute("end;")


def many(lease: Driven, table: str) -> None:
    lease.executemany(f"insert into {table} values ($1)", [(n,) for n in range(10)])
    assert len(lease.fetchmany(f"select id from {table} where id = $1", [(1,), (2,)])) == 2


def failed(lease: Driven, table: str) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        lease.fetch("select * from there_is_none")


def nothing(lease: Driven, table: str) -> None:
    pass


@pytest.mark.parametrize("steps", [nothing, transaction, savepoints, rolled_back, by_hand, many, failed])
def test_a_lease_that_left_nothing_behind_is_not_reset(
    client: Driven, touched: Callable[[], bool], table: str, steps: Steps
) -> None:
    work_mem = client.fetchval("show work_mem") if steps is by_hand else ""
    client.fetch("select 1")
    with client.acquire() as lease:
        steps(lease, table)
    assert not touched()
    if steps is by_hand:
        assert client.fetchval("show work_mem") == work_mem


def execute(sql: str) -> Steps:
    def steps(lease: Driven, table: str) -> None:
        lease.execute(sql)

    return steps


def error_in_a_transaction(lease: Driven, table: str) -> None:
    lease.execute("begin")
    with pytest.raises(asyncpg.DivisionByZeroError):
        lease.fetch("select 1/0")


def clean_afterwards(lease: Driven, table: str) -> None:
    lease.execute("set work_mem = '77MB'")
    transaction(lease, table)


def set_by_the_way(lease: Driven, table: str) -> None:
    lease.executemany("select set_config('work_mem', $1, false)", [("77MB",)])


def cancelled(lease: Driven, table: str) -> None:
    lease.execute("begin")
    with pytest.raises(RequestTimeout):
        lease.fetch("select pg_sleep(60)", timeout=0.2)


TOUCHING: dict[str, Steps] = {
    "set": execute("set work_mem = '77MB'"),
    "set_config": lambda lease, _: lease.fetch("select set_config('work_mem', '77MB', false)"),
    "set_config of many": set_by_the_way,
    "a custom setting called local": execute("set local .work_mem = '77MB'"),
    "temporary table": execute("create temp table pgactor_it_temp (a int)"),
    "listen": execute("listen pgactor_it"),
    "advisory lock": lambda lease, _: lease.fetch("select pg_advisory_lock(7747)"),
    "prepare": execute("prepare pgactor_it as select 1"),
    "open transaction": execute("begin"),
    "open transaction, chained": execute("begin; commit and chain"),
    "error in a transaction": error_in_a_transaction,
    "several statements": execute("begin; set work_mem = '77MB'; commit"),
    "clean afterwards": clean_afterwards,
    "cancelled": cancelled,
}

TRACES = """
    select (select count(*) from pg_settings where source = 'session' and name in ('work_mem', 'local.work_mem')),
           current_setting('local.work_mem', true) = '77MB',
           to_regclass('pg_temp.pgactor_it_temp') is not null,
           (select count(*) from pg_listening_channels()),
           (select count(*) from pg_locks where locktype = 'advisory' and objid = 7747),
           (select count(*) from pg_prepared_statements where from_sql)
"""


@pytest.mark.parametrize("name", TOUCHING)
def test_any_other_lease_is_reset(client: Driven, touched: Callable[[], bool], table: str, name: str) -> None:
    with client.acquire() as lease:
        TOUCHING[name](lease, table)
    assert touched()
    with client.acquire() as lease:
        assert not lease.is_in_transaction()
        assert not any(lease.fetchrow(TRACES)), "it has left something behind"


@pytest.mark.parametrize("kind", ["sync-ipc"], indirect=True)
def test_a_lease_that_its_owner_dropped_is_judged_in_the_same_way(
    client: Driven, touched: Callable[[], bool], supervisor: WatchedSupervisor, open_client: OpenClient
) -> None:
    other = open_client(supervisor, "sync-ipc")
    other.acquire().execute("begin")
    other.close()
    assert touched()


@pytest.mark.parametrize("kind", ["sync-ipc"], indirect=True)
def test_where_every_statement_is_followed_by_a_reset_every_lease_is_too(
    start: Launch, open_client: OpenClient, kind: str
) -> None:
    client = open_client(start(max_size=1, pool={"reset_every_statement": True}), kind)
    with client.acquire() as lease:
        lease.fetch("select 1")
    until(lambda: client.status().idle == 1)
    assert client.status().counters["leases_returned_clean"] == 0
