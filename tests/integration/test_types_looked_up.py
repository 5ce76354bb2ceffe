"""Types that the statement lane does not know are looked up on a session that is at hand: that disturbs nobody."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor
from tests.integration.lanes import LANES, count

pytestmark = pytest.mark.either_lane

S = "pgactor_looked_up"

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def supervisor(launch: Launch, lane: str) -> WatchedSupervisor:
    return launch(max_size=4, pool={"statement_lane": lane})


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    return open_client(supervisor, "async-ipc")


@pytest.fixture
def other(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    return open_client(supervisor, "async-tcp")


@pytest.fixture(scope="module")
def schema(db: Driven) -> Iterator[None]:
    db.execute(f"drop schema if exists {S} cascade; create schema {S}")
    yield
    db.execute(f"drop schema {S} cascade")


@pytest.fixture
def enums(db: Driven, schema: None) -> list[str]:
    """Types that nobody has met."""
    names = [f"{S}.enum{next(_numbers)}" for _ in range(50)]
    for name in names:
        db.execute(f"create type {name} as enum ('a')")
    return names


@pytest.mark.parametrize(
    "loop",
    [
        ["begin", "select 1 / 0", "select 2", "rollback"],
        ["begin", "set transaction isolation level serializable", "rollback"],
    ],
    ids=["failed", "begun"],
)
def test_a_transaction_of_a_lease_is_no_place_to_look_types_up(
    client: Driven, other: Driven, enums: list[str], loop: list[str]
) -> None:
    stop = threading.Event()
    replies: set[str] = set()
    with other.acquire() as lease:

        def insist() -> None:
            while not stop.is_set():
                for sql in loop:
                    error = lease.begin("execute", sql).exception(10)
                    replies.add(f"{sql}: {type(error).__name__}")

        thread = threading.Thread(target=insist)
        thread.start()
        try:
            assert [client.fetchval(f"select 'a'::{name}") for name in enums] == ["a"] * len(enums)
            unknown = count(client, "in_session_types")
            assert [client.fetchval(f"select 'a'::{name}") for name in enums] == ["a"] * len(enums)
            assert count(client, "in_session_types") == unknown  # all of them are known now
        finally:
            stop.set()
            thread.join()
    expected = {"select 1 / 0": "DivisionByZeroError", "select 2": "InFailedSQLTransactionError"}
    assert replies == {f"{sql}: {expected.get(sql, 'NoneType')}" for sql in loop}


def test_a_timeout_while_types_are_looked_up_costs_no_backend(
    start: Launch, open_client: OpenClient, enums: list[str], lane: str
) -> None:
    client = open_client(start(max_size=1, pool={"statement_lane": lane}), "async-ipc")
    for number, name in enumerate(enums):
        with suppress(TimeoutError):
            client.fetchval(f"select 'a'::{name}", timeout=0.0002 * (number % 30))
        assert client.fetchval("select 1", timeout=3) == 1


def test_an_array_of_an_enum_is_known_though_the_enum_was_never_met(
    client: Driven, enums: list[str], lane: str
) -> None:
    for sql in (f"select array['a']::{enums[0]}[]", f"select array[$1]::{enums[1]}[], $1::{enums[1]}"):
        args = ["a"] if "$1" in sql else []
        assert client.fetchval(sql, *args) == ["a"]
        before = count(client, "statements_pipelined")
        assert client.fetchval(sql, *args) == ["a"]
        assert count(client, "statements_pipelined") == before + (lane == "on")
