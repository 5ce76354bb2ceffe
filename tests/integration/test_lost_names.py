"""A lease made PostgreSQL forget all prepared statements of a backend: batches that come there next do not notice."""

from __future__ import annotations

import asyncpg
import pytest

from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import LANE

PID = "select pg_backend_pid(), $1::text"


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=1)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    return open_client(supervisor, "sync-ipc")


def forget(client: Driven) -> None:
    with client.acquire() as lease:
        lease.execute("deallocate all")


@pytest.mark.parametrize("isolation", [None, "repeatable_read"])
def test_an_atomic_batch_of_several_statements(client: Driven, table: str, isolation: str | None) -> None:
    """BEGIN, its statements and COMMIT were all prepared; with a level of its own, BEGIN was not."""
    batch = [(f"insert into {table} values ($1, $2)", 1, "a"), (PID, "x"), (f"delete from {table} where id = $1", 1)]
    first = client.batch(batch)
    for _ in range(2):
        forget(client)
        again = client.batch(batch, isolation=isolation)
        assert again == first  # also PostgreSQL's process
        forget(client)
        with pytest.raises(asyncpg.DivisionByZeroError) as raised:
            client.batch([*batch, ("select 1 / $1::int", 0)], isolation=isolation)
        assert raised.value.batch_index == 3  # type: ignore[attr-defined]
    assert client.fetchval(PID, "x") == first[1][0][0]


def test_statements_that_are_independent(client: Driven, table: str) -> None:
    batch = [(f"insert into {table} values ($1, $2)", 1, "a"), (PID, "x"), (f"delete from {table} where id = $1", 1)]
    first = client.batch(batch, atomic=False)
    forget(client)
    assert client.batch(batch, atomic=False) == first


def test_a_statement_with_many_arguments(client: Driven, db: Driven, table: str) -> None:
    insert = f"insert into {table} values ($1, $2)"
    client.executemany(insert, [(1, "a"), (2, "b")])
    pid = client.fetchval(PID, "x")
    forget(client)
    client.executemany(insert, [(3, "c"), (4, "d")])
    assert [row[0] for row in db.fetch(f"select id from {table} order by id")] == [1, 2, 3, 4]
    assert client.fetchval(PID, "x") == pid


def test_a_table_that_has_changed_under_two_statements_of_a_batch(client: Driven, db: Driven, table: str) -> None:
    batch = [f"select * from {table}", f"select * from {table} where id = 1"]
    db.execute(f"insert into {table} values (1, 'a')")
    assert client.batch(batch) == [[(1, "a")], [(1, "a")]]
    db.execute(f"alter table {table} add column more int default 7")
    assert client.batch(batch) == [[(1, "a", 7)], [(1, "a", 7)]]


def test_a_transaction_on_the_next_lease(client: Driven) -> None:
    """In a transaction a lost name could not be made up for."""
    for _ in range(2):
        with client.acquire() as lease, lease.transaction():
            assert lease.fetchval(PID, "x")
        forget(client)


def test_the_same_lease(client: Driven) -> None:
    """asyncpg knows nothing of the names that it has lost; the statement lane leaves what follows to it."""
    with client.acquire() as lease:
        lease.fetchval("select $1::int + 77", 1)
        lease.execute("deallocate all")
        if LANE == "on":
            assert lease.fetchval("select $1::int + 77", 1) == 78
        else:
            with pytest.raises(asyncpg.InvalidSQLStatementNameError):
                lease.fetchval("select $1::int + 77", 1)


def test_a_transaction_begun_by_hand_does_not_enter_by_the_name_of_a_batchs_own(client: Driven) -> None:
    client.batch([(PID, "x")], isolation="serializable")
    pid = client.fetchval(PID, "x")
    client.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
    assert client.fetchval(PID, "x") == pid
