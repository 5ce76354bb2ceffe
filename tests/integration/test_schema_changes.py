"""A table that changes under statements that backends have prepared."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from pgactor import Client
from tests.supervising import StartSupervisor


@pytest.fixture
def client(start_supervisor: StartSupervisor) -> Iterator[Client]:
    """A worker on one connection, with a table whose statements the backend has prepared and run."""
    with Client(start_supervisor(max_size=1).ipc) as client:
        client.execute("DROP TABLE IF EXISTS changing")
        client.execute("CREATE TABLE changing (id int, what int)")
        client.execute("INSERT INTO changing VALUES (1, 10)")
        for _ in range(2):
            assert client.fetch("SELECT * FROM changing WHERE id = $1", 1) == [(1, 10)]
        yield client
        client.execute("DROP TABLE changing")


def test_a_new_column_is_there_at_once(client: Client) -> None:
    client.execute("ALTER TABLE changing ADD COLUMN more text DEFAULT 'x'")
    (row,) = client.fetch("SELECT * FROM changing WHERE id = $1", 1)
    assert dict(row) == {"id": 1, "what": 10, "more": "x"}


@pytest.mark.parametrize(
    ("kind", "value"), [("bigint", 10), ("text", "10"), ("float8", 10.0), ("numeric", 10), ("bool", True)]
)
def test_a_column_of_another_type_is_read_as_such(client: Client, kind: str, value: object) -> None:
    client.execute(f"ALTER TABLE changing ALTER COLUMN what TYPE {kind} USING what::{kind}")
    (row,) = client.fetch("SELECT * FROM changing WHERE id = $1", 1)
    assert row["what"] == value
    assert client.fetchval("SELECT what FROM changing") == value


def test_within_a_transaction_the_change_is_an_error_as_in_asyncpg(client: Client) -> None:
    with client.acquire() as lease:
        assert lease.fetch("SELECT * FROM changing WHERE id = $1", 1)
        lease.execute("ALTER TABLE changing ADD COLUMN more text")
        with pytest.raises(asyncpg.InvalidCachedStatementError), lease.transaction():
            lease.fetch("SELECT * FROM changing WHERE id = $1", 1)
        with lease.transaction():  # and the next one is none the worse for it
            assert lease.fetch("SELECT * FROM changing WHERE id = $1", 1) == [(1, 10, None)]
        assert lease.fetch("SELECT * FROM changing WHERE id = $1", 1) == [(1, 10, None)]


def test_more_statements_than_asyncpg_keeps_are_all_right(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=1, connect={"statement_cache_size": 5})
    with Client(supervisor.ipc) as client:
        for _ in range(3):
            for number in range(12):
                assert client.fetchval(f"SELECT $1::int + {number}", 1) == number + 1
