"""Values, texts and results of every kind: the statement lane, the session lane and asyncpg itself make the same of
them, be it a value or an error, the first time and later."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from pgactor import MessageTooLarge
from tests.integration.cases_of_values import OTHERWISE, QUERIES, TEXTS, WRITES, Case, S
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor, outcome
from tests.integration.lanes import LANES, QUICK_COMMIT, count, results, together, train

pytestmark = pytest.mark.either_lane

CAP = 2_000_000

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def schema(db: Driven) -> Iterator[str]:
    db.execute(f"""
        drop schema if exists {S} cascade; create schema {S};
        create type {S}.mood as enum ('sad', 'glad', 'so so');
        create domain {S}.age as int check (value >= 0);
        create domain {S}.label as text not null;
        create domain {S}.moods as {S}.mood;
        create domain {S}.ages as int[];
        create type {S}.pair as (a int, b text);
        create function {S}.nothing() returns void language sql as $$ $$;
        create function {S}.notice(text) returns text language plpgsql as $$
            begin raise notice 'hear, hear: %', $1; raise warning '%', repeat('x', 20000); return $1; end $$;
        create function {S}.rows() returns table (a int, b text) language plpgsql as $$
            begin raise notice 'one'; return query values (1, 'x'); raise notice 'two';
            return query values (2, null); raise info 'three'; end $$;
        create function {S}.late() returns setof int language plpgsql as $$
            begin return next 1; return next 2; raise exception 'late' using errcode = 'P7777'; end $$;
        create table {S}.t (id int, name text);
        create table {S}.ruled (id int, name text);
        create rule r1 as on insert to {S}.ruled where new.id = 1 do instead nothing;
        create rule r2 as on insert to {S}.ruled where new.id = 2 do instead update {S}.t set name = 'ruled';
        create rule r3 as on delete to {S}.ruled do instead insert into {S}.t values (99, 'deleted');
        create rule r4 as on update to {S}.ruled do also select * from {S}.t;
        create table {S}.unruly (id int);
        create rule r5 as on insert to {S}.unruly do instead update {S}.t set name = 'unruly';
        create table {S}.silent (id int);
        create rule r6 as on insert to {S}.silent do instead nothing;
        create table {S}.reading (id int);
        create rule r7 as on insert to {S}.reading do instead select 5 as five, 'x'::text as x;
        create function {S}.tells() returns trigger language plpgsql as $$
            begin raise notice 'inserted %', new.id; return new; end $$;
        create table {S}.loud (id int, name text);
        create trigger tells before insert on {S}.loud for each row execute function {S}.tells();
        create table {S}.of_all (
            i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, t text, vc varchar(5), c char(5), b bool,
            by bytea, u uuid, d date, ts timestamp, tz timestamptz, j json, jb jsonb, m {S}.mood, a {S}.age,
            ia int[], ta text[]
        );
    """)
    yield S
    db.execute(f"drop schema {S} cascade")


@pytest.fixture(scope="module")
def lanes(launch: Launch) -> dict[str, WatchedSupervisor]:
    return {
        lane: launch(max_size=1, pool={"statement_lane": lane, "pipeline_short_seconds": 1}, connect=QUICK_COMMIT)
        for lane in LANES
    }


@pytest.fixture
def clients(lanes: dict[str, WatchedSupervisor], open_client: OpenClient) -> dict[str, Driven]:
    return {lane: open_client(lanes[lane], "async-ipc") for lane in LANES}


def differences(
    clients: dict[str, Driven], db: Driven, schema: str, method: str, sql: str, args: tuple[Any, ...]
) -> list[Any]:
    """Run it by asyncpg, in the session lane, and three times in the statement lane, on the same rows each time: what
    does not come to the same, with both."""

    def run(target: Driven) -> Any:
        db.execute(f"truncate {schema}.t, {schema}.of_all, {schema}.ruled, {schema}.loud")
        db.execute(f"insert into {schema}.t values (1, 'a'), (2, null)")
        result = plain(outcome(lambda: getattr(target, method)(sql, *args)))
        after = outcome(lambda: db.fetch(f"select * from {schema}.t order by id, name"))
        return result, after, db.fetchval(f"select count(*) from {schema}.of_all")

    theirs = run(db)
    got = [(lane, run(clients[lane])) for lane in ("off", "on", "on", "on")]
    found = [(lane, sql, args, ours, theirs) for lane, ours in got if ours != theirs]
    return found + lost(clients, sql)


def lost(clients: dict[str, Driven], sql: str) -> list[Any]:
    """The lanes that do not answer after the statement."""
    return [(lane, sql, "next") for lane, each in clients.items() if each.fetchval("select 1") != 1]


def plain(result: Any) -> Any:
    """With asyncpg's own class of UUIDs, whose values are equal, made Python's."""
    if isinstance(result, list | tuple):
        return type(result)(map(plain, result))
    return UUID if isinstance(result, type) and issubclass(result, UUID) else result


# A test takes many statements, as there are hundreds: it names all that differ.


@pytest.mark.parametrize("method", ["fetch", "fetchrow", "execute"])
@pytest.mark.parametrize("kind", QUERIES)
def test_a_query_comes_to_the_same_in_both_lanes(
    clients: dict[str, Driven], db: Driven, schema: str, kind: str, method: str
) -> None:
    assert [each for case in QUERIES[kind] for each in differences(clients, db, schema, method, *case)] == []


@pytest.mark.parametrize("method", ["fetch", "fetchval", "execute"])
def test_a_write_comes_to_the_same_in_both_lanes(
    clients: dict[str, Driven], db: Driven, schema: str, method: str
) -> None:
    assert [each for case in WRITES for each in differences(clients, db, schema, method, *case)] == []


@pytest.mark.parametrize("method", ["fetch", "execute"])
def test_a_text_comes_to_the_same_in_both_lanes(
    clients: dict[str, Driven], db: Driven, schema: str, method: str
) -> None:
    found: list[Any] = []
    for sql in TEXTS:
        if sql in OTHERWISE:
            ours = [outcome(lambda: getattr(clients[lane], method)(sql)) for lane in ("off", "on", "on", "on")]  # noqa: B023
            found += [(sql, ours)] if ours != [ours[0]] * 4 else []
            found += lost(clients, sql)
        else:
            found += differences(clients, db, schema, method, sql, ())
    assert found == []


def test_an_enum_is_not_known_at_first_and_then_runs_in_the_statement_lane(
    clients: dict[str, Driven], db: Driven, schema: str
) -> None:
    name = f"{S}.colour{next(_numbers)}"
    db.execute(f"create type {name} as enum ('red', 'blue')")
    client = clients["on"]
    sql = f"select $1::{name}, array[$1]::{name}[]"
    unknown, pipelined = count(client, "in_session_types"), count(client, "statements_pipelined")
    assert client.fetchrow(sql, "red") == ("red", ["red"])
    assert count(client, "in_session_types") == unknown + 1
    for _ in range(3):
        assert client.fetchrow(sql, "blue") == ("blue", ["blue"])
    assert count(client, "in_session_types") == unknown + 1
    assert count(client, "statements_pipelined") == pipelined + 3
    db.execute(f"alter type {name} add value 'green'; alter type {name} rename value 'red' to 'rouge'")
    assert client.fetchrow(sql, "green") == ("green", ["green"])
    assert client.fetchrow(sql, "rouge") == ("rouge", ["rouge"])
    for lane in clients.values():
        with pytest.raises(asyncpg.InvalidTextRepresentationError, match=r'invalid input value for enum .*: "red"'):
            lane.fetchrow(sql, "red")


def test_what_is_quick_runs_in_the_statement_lane(clients: dict[str, Driven], schema: str) -> None:
    for client, expected in ((clients["on"], 10), (clients["off"], 0)):
        before = count(client, "statements_pipelined")
        for _ in range(5):
            client.fetch(f"select $1::int, $2::{S}.mood, $3::text[], 'x'::{S}.label, now()", 1, "sad", ["x"])
            client.execute(f"insert into {S}.t values ($1, $2)", 1, "x")
        assert expected - 1 <= count(client, "statements_pipelined") - before <= expected  # the enum's first time


# --- what is big, and what comes in between -----------------------------------------------------------------


@pytest.mark.parametrize("lane", LANES)
def test_big_values_and_results_come_whole_and_neighbours_keep_their_own(
    clients: dict[str, Driven], schema: str, lane: str
) -> None:
    client = clients[lane]
    small = "select $1::int, repeat(chr(97 + $1::int % 26), $1::int)"
    train(client, small, 5)
    text, data = "é" * 2_500_000, bytes(range(256)) * 20_000
    long = "select n, repeat('x', 1000) as x from generate_series(1, $1::int) n"
    for _ in range(2):
        got = results(
            together(
                client,
                *[("fetchrow", small, n) for n in range(20)],
                ("fetchval", "select $1::text", text),
                *[("fetchrow", small, n) for n in range(20, 40)],
                ("fetchval", "select $1::bytea", data),
                ("fetch", long, 20_000),
                ("execute", long, 20_000),
                *[("fetchrow", small, n) for n in range(40, 60)],
            )
        )
        shorts = [each for each in got if isinstance(each, tuple)]
        assert shorts == [(n, chr(97 + n % 26) * n) for n in range(60)]
        assert got[20] == text
        assert got[41] == data
        assert [row[0] for row in got[42]] == list(range(1, 20_001))
        assert {row[1] for row in got[42]} == {"x" * 1000}
        assert got[43] == "SELECT 20000"


@pytest.mark.parametrize("lane", LANES)
def test_a_row_over_the_cap_is_an_error_for_its_own_worker_only_and_many_rows_come_in_parts(
    start: Launch, open_client: OpenClient, lane: str
) -> None:
    supervisor = start(max_size=1, max_frame_bytes=CAP, pool={"statement_lane": lane, "pipeline_short_seconds": 1})
    client = open_client(supervisor, "async-ipc")
    small, rows = "select $1::int", "select repeat('x', 1000) from generate_series(1, $1::int)"
    value = "select repeat('x', $1::int)"
    for sql in (small, rows, value):
        train(client, sql, 1)
    (before,) = {client.fetchval("select pg_backend_pid()")}
    for size in (CAP + 1, 2 * CAP + 100, 5 * CAP, 20 * CAP):
        calls: list[tuple[Any, ...]] = [("fetchval", small, n) for n in range(10)]
        calls[3], calls[6] = ("fetch", rows, size // 1000), ("fetchval", value, size)
        got = results(together(client, *calls))
        assert got[3] == [("x" * 1000,)] * (size // 1000)
        assert isinstance(got[6], MessageTooLarge)
        assert "max_frame_bytes" in str(got[6])
        assert got[:3] + got[4:6] + got[7:] == [0, 1, 2, 4, 5, 7, 8, 9]
    assert client.fetchval("select pg_backend_pid()") == before
    assert len(client.fetch(rows, 1000)) == 1000


@pytest.mark.parametrize("lane", LANES)
def test_notices_notifications_and_errors_in_between_are_nobody_elses(
    clients: dict[str, Driven], db: Driven, schema: str, lane: str
) -> None:
    client = clients[lane]
    texts: list[Case] = [
        (f"select {S}.notice($1)", ("x",)),
        (f"select a from {S}.rows()", ()),
        ("select 1 / ($1::int - 1)", (1,)),
        ("select pg_notify('gossip', $1)", ("x",)),
        (f"insert into {S}.loud values ($1, 'y') returning id", (7,)),
        (f"select {S}.nothing()", ()),
        ("select $1::int", (5,)),
    ]
    expected = ["x", 1, asyncpg.DivisionByZeroError, None, 7, None, 5]
    for sql, args in texts[:2] + texts[3:]:
        client.fetchval(sql, *args)
    with client.acquire() as lease:
        lease.execute("listen gossip")
        db.execute("notify gossip, 'from outside'")
        assert lease.fetchval("select 1") == 1
    for _ in range(10):
        db.execute("notify gossip, 'from outside'")
        got = results(together(client, *[("fetchval", sql, *args) for sql, args in texts]))
        assert [type(each) if isinstance(each, Exception) else each for each in got] == expected
