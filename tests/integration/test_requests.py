"""Statements go all the way to PostgreSQL and back, by both clients and both roads, as asyncpg would run them."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import ExitStack
from typing import Any

import asyncpg
import pytest

from pgactor import AsyncClient, Client, MessageTooLarge, UnsupportedType
from pgactor.rows import Record
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import ALL_KINDS, Driven, LoopThread, WatchedSupervisor, outcome
from tests.supervising import until

CAP = 100_000


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=4)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    return open_client(supervisor, kind)


@pytest.fixture(scope="module")
def schema(dsn: str, loop_thread: Any) -> Iterator[str]:
    """Functions and constraints that fail in their own ways."""

    async def run(sql: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()

    loop_thread.run(
        run("""
        drop schema if exists pgactor_it cascade;
        create schema pgactor_it;
        create function pgactor_it.fails(int) returns int language plpgsql as $$
            begin perform 1 / $1; raise exception 'odd: %', $1 using hint = 'even', detail = 'so', errcode = 'P7777';
            end $$;
        create function pgactor_it.nothing() returns void language sql as $$ $$;
        create table pgactor_it.parent (id int primary key);
        create table pgactor_it.child (
            id int constraint child_key unique, parent int constraint known_parent references pgactor_it.parent,
            age int not null constraint of_age check (age >= 18),
            late int unique deferrable initially deferred
        );
        insert into pgactor_it.child values (1, null, 20, 1);
        """)
    )
    yield "pgactor_it"
    loop_thread.run(run("drop schema pgactor_it cascade"))


WORKING: dict[str, Callable[[Driven, str], Any]] = {
    "a select's tag": lambda c, t: c.execute("select 1"),
    "an insert's tag": lambda c, t: c.execute(f"insert into {t} values (1, 'a'), (2, 'b')"),
    "an insert's tag with args": lambda c, t: c.execute(f"insert into {t} values ($1, $2)", 7, "seven"),
    "the tag of the last of several": lambda c, t: c.execute(
        f"insert into {t} values (1); update {t} set name = 'x'; select 1, 2"
    ),
    "copy": lambda c, t: c.execute("copy (select 1) to stdout"),
    "several that share a transaction": lambda c, t: [
        outcome(lambda: c.execute(f"insert into {t} values (1); select 1 / 0")),
        c.fetch(f"select * from {t}"),
    ],
    "an empty statement": lambda c, t: [c.fetch(""), c.fetchrow("-- nothing"), c.fetchval("/* nothing */")],
    "a final semicolon": lambda c, t: c.fetch("select 1 as one;"),
    "a tag of DDL": lambda c, t: c.execute("create temp table quite_temporary ()"),
    "no rows": lambda c, t: [c.fetch(f"select * from {t}"), c.fetchrow(f"select * from {t}")],
    "no row's value": lambda c, t: c.fetchval(f"select id from {t}"),
    "rows": lambda c, t: c.fetch("select n, n::text as t, n / 2.0 as half from generate_series(1, 300) n"),
    "the first row": lambda c, t: c.fetchrow("select n from generate_series(5, 9) n"),
    "a value": lambda c, t: c.fetchval("select 1, 'two'"),
    "a value of another column": lambda c, t: c.fetchval("select 1, 'two'", column=1),
    "a value of a column that is not there": lambda c, t: c.fetchval("select 1", column=3),
    "a null": lambda c, t: c.fetchval("select null::int"),
    "no columns": lambda c, t: c.fetch("select from generate_series(1, 3)"),
    "one row without columns": lambda c, t: c.fetchrow("select"),
    "columns of the same name": lambda c, t: c.fetchrow("select 1 as a, 2 as b, 3 as a"),
    "a void": lambda c, t: c.fetchval("select pgactor_it.nothing()"),
    "rows of a statement without rows": lambda c, t: c.fetch(f"update {t} set name = 'x'"),
    "rows of returning": lambda c, t: c.fetch(f"insert into {t} values (1, 'a'), (2, 'b') returning id, name"),
    "the first row of returning, all inserted": lambda c, t: [
        c.fetchrow(f"insert into {t} values (1, 'a'), (2, 'b') returning id"),
        c.fetchval(f"select count(*) from {t}"),
    ],
    "show": lambda c, t: c.fetch("show server_version_num"),
    "explain": lambda c, t: c.fetch("explain (costs off) select 1"),
    "values and table": lambda c, t: [c.fetch("values (1, 'a'), (2, 'b')"), c.fetch(f"table {t}")],
    "executemany": lambda c, t: [
        c.executemany(f"insert into {t} values ($1, $2)", [(n, str(n)) for n in range(100)]),
        c.fetchrow(f"select count(*), sum(id), max(name) from {t}"),
    ],
    "executemany of nothing": lambda c, t: c.executemany(f"insert into {t} values ($1, $2)", []),
    "executemany of lists": lambda c, t: c.executemany(f"insert into {t} values ($1, $2)", [[1, "a"]]),
    "executemany, atomic": lambda c, t: [
        outcome(lambda: c.executemany(f"insert into {t} values ($1)", [(1,), (2,), (1,)])),
        c.fetch(f"select * from {t}"),
    ],
    "executemany, atomic when an argument is wrong": lambda c, t: [
        outcome(lambda: c.executemany(f"insert into {t} values ($1)", [(1,), ("two",)])),
        c.fetch(f"select * from {t}"),
    ],
    "fetchmany": lambda c, t: c.fetchmany(f"insert into {t} values ($1) returning id, name", [(1,), (2,), (3,)]),
    "fetchmany of nothing": lambda c, t: c.fetchmany("select $1::int", []),
    "fetchmany, atomic": lambda c, t: [
        outcome(lambda: c.fetchmany(f"insert into {t} values ($1) returning id", [(1,), (1,)])),
        c.fetch(f"select * from {t}"),
    ],
    "a megabyte there and back": lambda c, t: c.fetchval("select $1::text", "x" * 1_000_000),
    "a statement of a megabyte": lambda c, t: c.fetchval(f"select length('{'x' * 1_000_000}')"),
    "a huge statement that is wrong": lambda c, t: c.fetchval(f"selec '{'x' * 100_000}'"),
    "1600 columns": lambda c, t: c.fetchrow("select " + ", ".join(f"{n} as c{n}" for n in range(1600))),
    "a thousand arguments": lambda c, t: c.fetchval(
        "select " + " + ".join(f"${n}::int" for n in range(1, 1001)), *range(1000)
    ),
}

FAILING: dict[str, Callable[[Driven, str], Any]] = {
    "a syntax error": lambda c, t: c.fetch("selec 1"),
    "a syntax error in execute": lambda c, t: c.execute("select 1; selec 2"),
    "an unknown table": lambda c, t: c.fetch("select * from no_such_table"),
    "a unique violation": lambda c, t: c.execute("insert into pgactor_it.child values ($1, null, 20)", 1),
    "a check violation": lambda c, t: c.execute("insert into pgactor_it.child values (2, null, 3)"),
    "a not-null violation": lambda c, t: c.execute("insert into pgactor_it.child values (2, null, null)"),
    "a foreign key violation": lambda c, t: c.execute("insert into pgactor_it.child values (2, 77, 20)"),
    "a deferred violation": lambda c, t: c.execute("insert into pgactor_it.child values ($1, null, 20, 1)", 9),
    "division by zero": lambda c, t: c.fetchval("select 1 / $1::int", 0),
    "division by zero in a later row": lambda c, t: c.fetch("select 1 / (3 - n) from generate_series(1, 5) n"),
    "an error inside a function": lambda c, t: c.fetchval("select pgactor_it.fails(0)"),
    "an error that a function raises": lambda c, t: c.fetchval("select pgactor_it.fails(3)"),
    "too few arguments": lambda c, t: c.fetch("select $1::int, $2::int", 1),
    "too many arguments": lambda c, t: c.fetch("select $1::int", 1, 2),
    "no arguments": lambda c, t: c.fetch("select $1::int"),
    "arguments for execute of several": lambda c, t: c.execute("select $1::int; select 2", 1),
    "an argument of the wrong type": lambda c, t: c.fetch("select $1::int, $2::int", 1, "two"),
    "an argument out of range": lambda c, t: c.fetch("select $1::int", 2**40),
    "an argument that is no such enum": lambda c, t: c.fetch("select $1::regtype", "nonsense"),
    "too few in executemany": lambda c, t: c.executemany(f"insert into {t} values ($1, $2)", [(1, "a"), (2,)]),
    "a wrong type in executemany": lambda c, t: c.executemany(f"insert into {t} values ($1)", [(1,), ("b",)]),
    "no sequence in executemany": lambda c, t: c.executemany(f"insert into {t} values ($1)", [1]),
    "a lone surrogate as an argument": lambda c, t: c.fetchval("select $1::text", "\ud800"),
    "a lone surrogate among the arguments": lambda c, t: c.fetchval("select $1::int, $2::text[]", 1, ["\ud800"]),
    "a zero byte in an argument": lambda c, t: c.fetchval("select $1::text", "a\0b"),
    "a timeout that is true": lambda c, t: c.fetch("select 1", timeout=True),
    "a transaction that is not there": lambda c, t: c.execute("savepoint s"),
    "a statement_timeout": lambda c, t: c.execute("set statement_timeout = 20; select pg_sleep(5)"),
}


@pytest.fixture(scope="module")
def everywhere(supervisor: WatchedSupervisor, loop_thread: LoopThread) -> Iterator[dict[str, Driven]]:
    """Each client on each road, and a lease of each client."""
    with ExitStack() as stack:
        ways: dict[str, Driven] = {}
        for road, endpoint in (("ipc", supervisor.ipc), ("tcp", supervisor.tcp)):
            ways[f"sync-{road}"] = Driven(Client(endpoint), None)
            ways[f"async-{road}"] = Driven(AsyncClient(endpoint), loop_thread)
        for client in list(ways.values()):
            stack.callback(client.close)
        ways["sync-lease"] = stack.enter_context(ways["sync-tcp"].acquire())
        ways["async-lease"] = stack.enter_context(ways["async-ipc"].acquire())
        yield ways


@pytest.mark.parametrize("name", WORKING)
def test_it_returns_what_asyncpg_returns(
    everywhere: dict[str, Driven], db: Driven, schema: str, table: str, name: str
) -> None:
    theirs = outcome(lambda: WORKING[name](db, table))
    for way, client in everywhere.items():
        db.execute(f"truncate {table}")
        assert outcome(lambda: WORKING[name](client, table)) == theirs, way  # noqa: B023  # called at once


@pytest.mark.parametrize("name", FAILING)
def test_it_raises_what_asyncpg_raises(
    everywhere: dict[str, Driven], db: Driven, schema: str, table: str, name: str
) -> None:
    theirs = outcome(lambda: FAILING[name](db, table))
    assert theirs[0] == "raised"
    db.execute("reset all")
    for way, client in everywhere.items():
        assert outcome(lambda: FAILING[name](client, table)) == theirs, way  # noqa: B023  # called at once
        if way.endswith("lease"):
            client.execute("reset all")
        assert client.fetchval("select 1") == 1


@pytest.mark.parametrize("kind", ALL_KINDS, indirect=True)
def test_the_fields_of_a_unique_violation_cross(client: Driven, schema: str) -> None:
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        client.execute("insert into pgactor_it.child values (1, null, 20)")
    error: Any = caught.value
    assert (error.sqlstate, error.schema_name, error.table_name) == ("23505", "pgactor_it", "child")
    assert error.constraint_name == "child_key"
    assert error.detail == "Key (id)=(1) already exists."
    assert error.severity == "ERROR"
    assert error.query == "insert into pgactor_it.child values (1, null, 20)"


@pytest.mark.parametrize("kind", ALL_KINDS, indirect=True)
def test_a_record_is_a_record(client: Driven) -> None:
    (row,) = client.fetch("select 1 as id, 'x' as name, null as nothing")
    assert issubclass(type(row), Record)
    assert (row[0], row["name"], row[-1], row[:2]) == (1, "x", None, (1, "x"))
    assert dict(row) == {"id": 1, "name": "x", "nothing": None}
    assert row == (1, "x", None)
    assert "name" in row
    assert "x" not in row
    assert row.get("absent", 7) == 7
    with pytest.raises(KeyError):
        row["absent"]
    with pytest.raises(IndexError):
        row[3]
    assert pickle.loads(pickle.dumps(row)) == copy.deepcopy(row) == row
    assert repr(row) == "<Record id=1 name='x' nothing=None>"


@pytest.mark.parametrize("timeout", ["soon", True, math.nan, [], object()])
def test_a_timeout_that_is_no_number_is_refused(client: Driven, timeout: Any) -> None:
    for call in (client.fetch, client.execute):
        with pytest.raises(ValueError, match="invalid timeout value: expected non-negative float"):
            call("select 1", timeout=timeout)
    with pytest.raises(ValueError, match="invalid timeout value"):
        client.acquire(timeout=timeout)


@pytest.mark.parametrize("timeout", [math.inf, 1e18, 10**9, 2_147_484])
def test_a_timeout_may_be_as_long_as_one_likes(client: Driven, timeout: float) -> None:
    assert client.fetchval("select 7", timeout=timeout) == 7
    client.acquire(timeout=timeout).release()


def test_a_ttl_that_is_not_positive_is_refused(client: Driven) -> None:
    for ttl in (0, -1, math.nan):
        with pytest.raises(ValueError, match="ttl is expected to be greater than zero"):
            client.acquire(ttl=ttl)


def test_a_statement_that_is_no_text_is_refused(client: Driven) -> None:
    with pytest.raises(TypeError, match="a statement is expected to be a str, not bytes"):
        client.fetch(b"select 1")


def test_an_object_as_an_argument_is_asyncpgs_data_error_and_names_the_argument(client: Driven) -> None:
    with pytest.raises(asyncpg.DataError, match=r"query argument \$2: a value of type builtins.object") as caught:
        client.fetch("select $1::int, $2::int", 1, object())
    assert isinstance(caught.value.__cause__, UnsupportedType)
    with pytest.raises(asyncpg.DataError, match=r"element #1 .*query argument \$1: a value of type builtins.object"):
        client.executemany("select $1::int", [(1,), (object(),)])
    assert client.fetchval("select 1") == 1


@pytest.mark.parametrize("sql", ["", " \n", "-- nothing", ";"])
def test_a_text_without_a_statement_has_an_empty_tag(client: Driven, sql: str) -> None:
    assert client.execute(sql) == ""  # asyncpg trips over it
    with client.acquire() as lease:
        assert lease.execute(sql) == ""
        assert lease.fetchval("select 1") == 1


def test_a_statement_that_is_no_unicode_is_refused(client: Driven) -> None:
    with pytest.raises(UnicodeEncodeError):  # asyncpg's connection does not survive it
        client.fetchval("select '\ud800'")
    with pytest.raises(asyncpg.DataError, match=r"argument \$2 in element #1 of executemany\(\) sequence: '.ud800'"):
        client.executemany("select $1::int, $2::text", [(1, "a"), (2, "\ud800")])
    assert client.fetchval("select 1") == 1


def test_a_string_is_no_sequence_of_arguments(client: Driven) -> None:
    with pytest.raises(asyncpg.DataError, match="element #1: expected a sequence, got str"):
        client.executemany("select $1::text", [("a",), "b"])


@pytest.mark.parametrize(
    "prepare_only",
    [
        lambda c, t: c.executemany(f"insert into {t} values ($1, $2)", []),
        lambda c, t: c.fetchmany(f"select * from {t} where id = $1", []),
        lambda c, t: outcome(lambda: c.fetch(f"select * from {t} where id = $1", "not a number")),
        lambda c, t: outcome(lambda: c.fetch(f"select * from {t} where id = $1")),
        lambda c, t: outcome(lambda: c.executemany(f"insert into {t} values ($1)", [("not a number",)])),
        lambda c, t: outcome(lambda: c.fetch(f"select id, name::text, 1 as i from {t} where id = $1", "x")),
    ],
)
def test_a_statement_that_never_ran_leaves_no_lock(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, table: str, prepare_only: Any
) -> None:
    client = open_client(supervisor, "sync-ipc")
    prepare_only(client, table)
    held = "select count(*) from pg_locks where relation = $1::text::regclass and pid <> pg_backend_pid()"
    until(lambda: db.fetchval(held, table) == 0)
    with client.acquire() as lease:
        prepare_only(lease, table)
        until(lambda: db.fetchval(held, table) == 0)


@pytest.fixture(scope="module")
def small_frames(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=3, max_frame_bytes=CAP)


@pytest.fixture
def capped(small_frames: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    return open_client(small_frames, kind)


def test_a_result_around_the_cap_arrives_or_is_refused_and_the_client_goes_on(capped: Driven) -> None:
    refused = arrived = tried = 0
    for size in range(CAP - 130, CAP + 4, 3):
        tried += 1
        try:
            assert len(capped.fetchval("select repeat('x', $1) as filler", size)) == size
            arrived += 1
        except MessageTooLarge as error:
            refused += f"over the cap of {CAP} (max_frame_bytes)" in str(error)
    assert arrived
    assert refused
    assert arrived + refused == tried
    assert capped.fetchval("select 1") == 1


def test_columns_whose_first_result_was_too_large_are_still_told(capped: Driven) -> None:
    with pytest.raises(MessageTooLarge, match="fetch fewer rows or columns"):
        capped.fetch("select repeat('x', $1) as seen_first_too_large", CAP)
    assert capped.fetchrow("select repeat('x', $1) as seen_first_too_large", 3) == ("xxx",)


def test_results_that_are_too_large_together_arrive_one_by_one(capped: Driven) -> None:
    calls = [capped.begin("fetchval", "select repeat('x', $1) || pg_sleep(0.05)", CAP // 2) for _ in range(12)]
    wait(calls, 30)
    assert [len(call.result(0)) for call in calls] == [CAP // 2] * 12


def test_a_request_around_the_cap_arrives_or_is_refused_here(capped: Driven) -> None:
    before = capped.status().counters
    refused = arrived = tried = 0
    for size in range(CAP - 100, CAP + 4, 3):
        tried += 1
        try:
            assert capped.fetchval("select length($1::text)", "x" * size) == size
            arrived += 1
        except MessageTooLarge as error:
            refused += f"over the supervisor's cap of {CAP} (max_frame_bytes)" in str(error)
    assert arrived
    assert refused
    assert arrived + refused == tried
    after = capped.status().counters
    assert after["requests"] - before["requests"] == arrived  # the others were never sent
    assert after["malformed_messages"] == before["malformed_messages"]
    assert capped.fetchval("select 1") == 1


@pytest.mark.parametrize("kind", ALL_KINDS, indirect=True)
def test_many_at_once_each_get_their_own_answer(client: Driven) -> None:
    calls = [client.begin("fetchval", "select $1::int * 2", n) for n in range(60)]
    assert [call.result(30) for call in calls] == [n * 2 for n in range(60)]
