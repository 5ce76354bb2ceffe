"""What goes wrong with prepared statements that many backends share, injected: tables that change under load, names
that are lost, errors that look as if a statement had never run, texts of every kind."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor, outcome
from tests.integration.lanes import LANES, QUICK_COMMIT, count, results, together, train

pytestmark = pytest.mark.either_lane

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def supervisor(launch: Launch, lane: str) -> WatchedSupervisor:
    return launch(max_size=4, pool={"statement_lane": lane, "pipeline_short_seconds": 1}, connect=QUICK_COMMIT)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    return open_client(supervisor, "async-ipc")


@pytest.fixture
def other(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    return open_client(supervisor, "async-tcp")


@pytest.fixture(scope="module")
def schema(db: Driven) -> Iterator[str]:
    name = "pgactor_hazards"
    db.execute(f"""
        drop schema if exists {name} cascade; create schema {name};
        create sequence {name}.runs;
        create function {name}.fails(code text) returns int language plpgsql as $$
            begin perform nextval('{name}.runs'); raise exception 'so it is' using errcode = code; end $$;
        create function {name}.fails_early(code text) returns int immutable language plpgsql as $$
            begin perform nextval('{name}.runs'); raise exception 'so it is' using errcode = code; end $$;
        create function {name}.executes(name text) returns int language plpgsql as $$
            begin perform nextval('{name}.runs'); execute 'execute ' || name; return 1; end $$;
        create function {name}.executes_early(name text) returns int immutable language plpgsql as $$
            begin return {name}.executes(name); end $$;
    """)
    yield name
    db.execute(f"drop schema {name} cascade")


def all_at_once(client: Driven, other: Driven, calls: list[tuple[Any, ...]]) -> list[Any]:
    """Half of the calls by each client, at the same time; their results in the order given."""
    begun = together(client, *calls[::2]), together(other, *calls[1::2])
    got = [None] * len(calls)
    got[::2], got[1::2] = results(begun[0]), results(begun[1])
    return got


# --- a table that changes under load ----------------------------------------------------------------------


def day(number: int) -> date:
    return date(2020, 1, 1) + timedelta(number)


CHANGES: dict[str, tuple[str, str, Callable[[int], Any], Callable[[int], Any]]] = {
    # before, after, a value before, the same after
    "int8 to float8": ("int8", "float8", lambda n: n, float),
    "float8 to int8": ("float8", "int8", float, lambda n: n),
    "text to int": ("text", "int", str, lambda n: n),
    "int to text": ("int", "text", lambda n: n, str),
    "int4 to int8": ("int4", "int8", lambda n: n, lambda n: n),
    "int to int[]": ("int", "int[]", lambda n: n, lambda n: [n]),
    "date to text": ("date", "text", day, lambda n: day(n).isoformat()),
    "int to oid": ("int", "oid", lambda n: n, lambda n: n),
    "text to bytea": ("text", "bytea", str, lambda n: str(n).encode()),
    "float8 to float4": ("float8", "float4", float, float),
}
USING = {"int to int[]": "array[v]", "text to bytea": "convert_to(v, 'UTF8')"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_column_of_another_type_is_never_misread_nor_miswritten(
    client: Driven, other: Driven, db: Driven, schema: str, change: str
) -> None:
    """Some backends have prepared the statements when the type changes, some see them for the first time later."""
    before, after, value, changed = CHANGES[change]
    table = f"{schema}.t{next(_numbers)}"
    db.execute(f"create table {table} (id int, v {before})")
    write, read = f"insert into {table} values ($1, $2) returning v", f"select v from {table} where id = $1"
    for n in range(1, 9):
        assert client.fetchval(write, n, value(n)) == value(n)
    train(client, read, 5)
    stop = threading.Event()
    wrong: list[Any] = []

    def load() -> None:
        while not stop.is_set():
            got = results(together(other, *[("fetchval", read, n) for n in range(1, 9)]))
            wrong.extend(each for n, each in enumerate(got, 1) if not same(each, value(n), changed(n)))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        how = USING.get(change, f"v::text::{after}")
        db.execute(f"alter table {table} alter column v type {after} using {how}")
        calls = [(sql, n) for n in range(101, 201) for sql in (read, write)]
        got = all_at_once(client, other, [("fetchval", sql, n, *([changed(n)] * (sql == write))) for sql, n in calls])
        old = all_at_once(client, other, [("fetchval", write, n, value(n)) for n in range(201, 301)])
    finally:
        stop.set()
        thread.join()
    assert not wrong
    for (sql, n), each in zip(calls, got, strict=True):
        assert same(each, changed(n)) or (sql == read and each is None)
    stored = {row["id"]: row["v"] for row in db.fetch(f"select id, v from {table}")}
    assert all(same(v, changed(n)) for n, v in stored.items())
    assert set(range(101, 201)) <= set(stored)
    for n, each in enumerate(old, 201):
        assert (n in stored) == (not isinstance(each, Exception)), each
        assert n in stored or isinstance(each, asyncpg.DataError | asyncpg.DatatypeMismatchError)
    assert client.fetchval(read, 7) == changed(7)


def same(value: object, *candidates: object) -> bool:
    return any(type(value) is type(each) and value == each for each in candidates)


def test_columns_come_and_go_under_load(client: Driven, other: Driven, db: Driven, schema: str) -> None:
    table = f"{schema}.t{next(_numbers)}"
    db.execute(f"create table {table} (id int primary key, a text)")
    db.execute(f"insert into {table} select n, n::text from generate_series(1, 20) n")
    read, write = f"select * from {table} where id = $1", f"update {table} set id = id where id = $1 returning *"
    stop, served = threading.Event(), [0, 0]
    wrong: list[Any] = []

    def load(number: int) -> None:
        while not stop.is_set():
            keys = [random.randint(1, 20) for _ in range(20)]
            sent = [(write if n % 5 == number else read, key) for n, key in enumerate(keys)]
            got = results(together((client, other)[number], *[("fetchrow", *each) for each in sent]))
            for (_, key), row in zip(sent, got, strict=True):
                fine = not isinstance(row, Exception) and {"id": key, **dict(row)} == dict(row)
                expected = {"id": key, "a": str(key), "b": key * 1.5, "c": key, "z": str(key)}
                if not fine or any(expected[name] != each for name, each in row.items()):
                    wrong.append(row)
            served[number] += 1

    threads = [threading.Thread(target=load, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            for ddl in (
                "add column b float8",
                "add column c int8",
                "drop column b",
                "alter column c type int4",
                "rename column a to z",
                "drop column c",
                "rename column z to a",
            ):
                before = list(served)
                filled = {"add column b float8": "b = id * 1.5", "add column c int8": "c = id"}.get(ddl)
                fill = f"; update {table} set {filled}" if filled else ""
                db.execute(f"begin; alter table {table} {ddl}{fill}; commit")
                while not wrong and any(now < then + 2 for now, then in zip(served, before, strict=True)):
                    threading.Event().wait(0.005)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_type_that_is_dropped_and_made_anew_is_another_type(
    client: Driven, other: Driven, db: Driven, schema: str
) -> None:
    """PostgreSQL itself goes on with a prepared `$1::mood` of the old one, which is no more; so it is in asyncpg."""
    mood, table = f"{schema}.mood{next(_numbers)}", f"{schema}.t{next(_numbers)}"
    db.execute(f"create table {table} (id int)")
    made = {"type as enum ('sad', 'glad')": "sad", "type as enum ('glad', 'sad', 'x')": "x", "domain as int": 7}
    for what, value in made.items():
        kind, definition = what.split(" ", 1)
        db.execute(f"create {kind} {mood} {definition}; alter table {table} add column v {mood}")
        db.execute(f"truncate {table}; insert into {table} values (1, '{value}')")
        for _ in range(3):
            assert all_at_once(client, other, [("fetchval", f"select v from {table}")] * 20) == [value] * 20
        db.execute(f"alter table {table} drop column v; drop {kind} {mood}")
        assert isinstance(client.begin("fetchval", f"select v from {table}").exception(10), asyncpg.PostgresError)


def test_a_table_of_the_same_name_in_another_schema_is_another_table(
    client: Driven, db: Driven, schema: str, lane: str
) -> None:
    sql = "select * from homonym where 1 = $1"
    db.execute("create table public.homonym as select 1 as one")
    try:
        for _ in range(3):
            assert client.fetch(sql, 1) == [(1,)]
        with client.acquire() as lease:
            lease.execute("create temp table homonym as select 'x'::text as other, 2.5::float8 as more")
            assert lease.fetch(sql, 1) == [("x", 2.5)]
        assert client.fetch(sql, 1) == [(1,)]
    finally:
        db.execute("drop table public.homonym")


# --- names that are lost ----------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["deallocate all", "discard all", "discard plans"])
def test_statements_survive_their_deallocation_inside_a_lease(
    client: Driven, other: Driven, db: Driven, schema: str, lane: str, deed: str
) -> None:
    table = f"{schema}.t{next(_numbers)}"
    db.execute(f"create table {table} (id int)")
    read, write = "select $1::int + 1", f"insert into {table} values ($1)"
    train(client, read, 1)
    client.execute(write, 0)
    sent = 0
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(client.acquire()).execute(deed)
        calls = [("fetchval", read, n) for n in range(20)] + [("execute", write, n) for n in range(20)]
        assert all_at_once(client, other, calls) == [*range(1, 21), *["INSERT 0 1"] * 20]
        sent += 20
    assert db.fetchval(f"select count(*) from {table}") == 1 + sent
    assert count(client, "in_session_names_lost") == 0
    before = count(client, "statements_pipelined")
    assert client.fetchval(read, 1) == 2
    assert count(client, "statements_pipelined") == before + (lane == "on")


def test_a_flood_of_statements_leaves_a_bounded_number_of_names(
    start: Launch, open_client: OpenClient, lane: str
) -> None:
    client = open_client(
        start(max_size=2, pool={"statement_lane": lane}, connect={"statement_cache_size": 50}), "async-ipc"
    )
    for first in range(0, 3000, 100):
        calls = [("fetchval", f"select $1::int + {n}", 1) for n in range(first, first + 100)]
        assert results(together(client, *calls)) == list(range(first + 1, first + 101))
    for _ in range(2):
        with client.acquire() as one, client.acquire() as two:
            for lease in (one, two):
                assert lease.fetchval("select count(*) from pg_prepared_statements") < 50 + 50 + 40


def test_a_table_that_changes_all_the_time_leaves_a_bounded_number_of_names(
    start: Launch, open_client: OpenClient, db: Driven, table: str, lane: str
) -> None:
    client = open_client(start(max_size=1, pool={"statement_lane": lane}), "async-ipc")
    for number in range(30):
        db.execute(f"alter table {table} add column c{number} int")
        for _ in range(2):
            assert client.fetch(f"select * from {table}") == []
    names = "select count(*) from pg_prepared_statements where statement like $1"
    with client.acquire() as lease:
        assert lease.fetchval(names, f"select * from {table}%") <= 2


def test_backends_that_see_a_change_one_after_the_other_keep_no_old_names(
    start: Launch, open_client: OpenClient, db: Driven, table: str, lane: str
) -> None:
    client = open_client(start(max_size=2, pool={"statement_lane": lane}), "async-ipc")
    sql = f"select * from {table}"
    names = "select count(*) from pg_prepared_statements where statement like $1"
    for number in range(10):
        for _ in range(2):
            held, free = client.acquire(), client.acquire()
            free.release()
            assert client.fetch(sql) == []  # by the one, then by the other
            held.release()
        db.execute(f"alter table {table} add column c{number} int")
    with client.acquire() as one, client.acquire() as two:
        assert max(lease.fetchval(names, f"{sql}%") for lease in (one, two)) <= 3


# --- errors that look as if nothing had run ---------------------------------------------------------------

CODES = ("26000", "0A000", "57014", "42601", "40001", "40P01", "57P01", "08006", "XX000", "P7777", "22000", "25P02")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["fails", "fails_early"])
def test_an_error_that_a_function_raises_reaches_the_caller_and_it_ran_once(
    client: Driven, db: Driven, schema: str, lane: str, name: str, code: str
) -> None:
    for sql, args in ((f"select {schema}.{name}($1)", (code,)), (f"select {schema}.{name}('{code}')", ())):
        theirs = outcome(lambda: db.fetchval(sql, *args))  # noqa: B023  # called at once
        for method in ("fetchval", "execute", "fetchval"):
            before = db.fetchval(f"select nextval('{schema}.runs')")
            ours = outcome(lambda: getattr(client, method)(sql, *args))  # noqa: B023
            ran = db.fetchval(f"select nextval('{schema}.runs')") - before - 1
            assert ours[:3] == theirs[:3]
            assert ours[1] is type(asyncpg.PostgresError.new({"C": code, "M": ""}))
            assert ran == 1
    assert client.fetchval("select 1") == 1


@pytest.mark.parametrize("name", ["executes", "executes_early"])
def test_a_function_that_executes_a_name_that_is_not_there_runs_once(
    client: Driven, db: Driven, schema: str, lane: str, name: str
) -> None:
    """PostgreSQL's error is the very one that a lost statement's is, but for its context."""
    for sql, args in ((f"select {schema}.{name}($1)", ("absent",)), (f"select {schema}.{name}('absent')", ())):
        for _ in range(3):
            before = db.fetchval(f"select nextval('{schema}.runs')")
            with pytest.raises(asyncpg.InvalidSQLStatementNameError, match='"absent" does not exist'):
                client.fetchval(sql, *args)
            assert db.fetchval(f"select nextval('{schema}.runs')") - before - 1 == 1
    train(client, "select $1::int", 1)
    before = count(client, "statements_pipelined")
    assert client.fetchval("select $1::int", 5) == 5
    assert count(client, "statements_pipelined") == before + (lane == "on")


def test_a_deferred_constraint_that_fails_at_commit_is_the_reply(
    client: Driven, other: Driven, db: Driven, schema: str
) -> None:
    table = f"{schema}.t{next(_numbers)}"
    db.execute(f"create table {table} (id int, late int unique deferrable initially deferred)")
    returning, plain = f"insert into {table} values ($1, $2) returning id", f"insert into {table} values ($1, $2)"
    assert client.fetchval(returning, 0, 0) == 0
    assert client.execute(plain, 1, 1) == "INSERT 0 1"
    calls = [("fetchval", returning, n, n % 2) for n in range(10)] + [("execute", plain, n, 0) for n in range(10)]
    for each in all_at_once(client, other, calls):
        assert isinstance(each, asyncpg.UniqueViolationError)
        assert "duplicate key value violates unique constraint" in str(each)
    assert db.fetch(f"select id, late from {table} order by id") == [(0, 0), (1, 1)]
