"""RAISE EXCEPTION may have any SQLSTATE. Class 01 is asyncpg.PostgresWarning, which is no PostgresError and refuses
to have its attributes set: the worker has it as PostgreSQL's error all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor

RAISE = "do $$ begin raise exception 'low on paper' using errcode = '01000'; end $$"


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=2)


@pytest.fixture(params=["sync-ipc", "async-ipc"])
def client(supervisor: WatchedSupervisor, open_client: OpenClient, request: pytest.FixtureRequest) -> Driven:
    return open_client(supervisor, request.param)


@pytest.fixture
def refusing(db: Driven, table: str) -> Iterator[str]:
    """A table whose trigger raises the error."""
    db.execute(
        f"create function {table}_f() returns trigger language plpgsql as "
        f"'begin raise exception ''low on paper'' using errcode = ''01000''; end'"
    )
    db.execute(f"create trigger refuse before insert on {table} for each row execute function {table}_f()")
    yield table
    db.execute(f"drop function {table}_f() cascade")


def raised(call: Callable[..., object], *args: Any, **options: Any) -> Any:
    with pytest.raises(asyncpg.PostgresWarning, match="low on paper") as caught:
        call(*args, **options)
    assert caught.value.sqlstate == "01000"
    return caught.value


def test_a_batch_tells_which_statement_it_was(client: Driven, refusing: str) -> None:
    for statements in (["select 1", RAISE], ["select 1", f"insert into {refusing} values (1)"]):
        raised_one = raised(client.batch, statements)
        _, returned = client.batch(statements, atomic=False)
        error: Any
        for error in (raised_one, returned):
            assert error.batch_index == 1
            assert error.__notes__ == [f"statement 1 of the batch: {statements[1]}"]
            assert type(error) is asyncpg.PostgresWarning


def test_a_copy_ends_with_it(client: Driven, refusing: str) -> None:
    with client.acquire() as lease:
        raised(lease.copy_records_to_table, refusing, records=[(1, "a"), (2, "b")])
        assert lease.fetchval("select 1") == 1
