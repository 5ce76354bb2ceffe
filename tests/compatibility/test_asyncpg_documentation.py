"""What asyncpg's documentation shows how to do, done with both: nothing but the pool's making differs.

Each story follows one of its examples (usage: conversion of types, transactions, pools; API: connections, prepared
statements, cursors, COPY, listeners, Records) and tells what came of it; both sides must tell the same.
"""

from __future__ import annotations

import asyncio
import datetime
import io
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from tests.compatibility.sides import Side, Sides, until
from tests.integration.conftest import Launch
from tests.integration.driving import WatchedSupervisor


@pytest.fixture(scope="module")
def watched(launch: Launch) -> WatchedSupervisor:
    return launch(min_size=1, max_size=4)


@pytest.fixture
def sides(dsn: str, watched: WatchedSupervisor) -> Sides:
    return Sides(dsn, watched)


async def numbers(count: int) -> AsyncIterator[tuple[int, str]]:
    for number in range(count):
        yield number, str(number)


# --- usage: a first look ------------------------------------------------------------------------------------


async def test_A20_documentation_a_table_a_row_and_its_record(sides: Sides) -> None:
    """The first example: make a table, insert a row, read it back as a Record."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            await con.execute("create temp table people (id serial primary key, name text, born date)")
            born = datetime.date(1984, 3, 1)
            await con.execute("insert into people (name, born) values ($1, $2)", "Bob", born)
            row = await con.fetchrow("select * from people where name = $1", "Bob")
            return row["id"], row["name"], row["born"], tuple(row), dict(row)

    assert (await sides.tell(story))[:2] == (1, "Bob")


# --- usage: conversion of types -----------------------------------------------------------------------------


async def test_A20_documentation_json_converted_by_a_codec(sides: Sides) -> None:
    """Automatic conversion of JSON, by a text codec."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            await con.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            data = {"foo": "bar", "spam": 1}
            return await con.fetchval("select $1::json", data)

    assert await sides.tell(story) == {"foo": "bar", "spam": 1}


class Shape(NamedTuple):
    """As a geometry library has it: what PostGIS' values are made of and made into."""

    kind: str
    coordinates: tuple[float, ...]


async def test_A20_documentation_a_geometry_converted_by_a_binary_codec(sides: Sides) -> None:
    """A library's objects for values of a type: its own bytes both ways. (PostGIS is not here; bytea stands in.)"""

    async def story(side: Side) -> Any:
        def encode(shape: Shape) -> bytes:
            return json.dumps(shape).encode()

        def decode(data: bytes) -> Shape:
            kind, coordinates = json.loads(bytes(data))
            return Shape(kind, tuple(coordinates))

        async with side.pool() as pool, pool.acquire() as con:
            await con.set_type_codec("bytea", encoder=encode, decoder=decode, format="binary", schema="pg_catalog")
            await con.execute("create temp table places (name text, place bytea)")
            here = Shape("Point", (-73.985661, 40.748447))
            await con.execute("insert into places values ($1, $2)", "here", here)
            row = await con.fetchrow("select * from places where name = 'here'")
            return row["place"] == here, row["place"], type(row["place"]) is Shape

    assert (await sides.tell(story))[0]


async def test_A20_documentation_intervals_as_another_class_by_a_tuple_codec(sides: Sides) -> None:
    """dateutil's relativedelta in the place of timedelta: months, days, microseconds."""

    class Delta(NamedTuple):
        months: int
        days: int
        microseconds: int

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            await con.set_type_codec(
                "interval", schema="pg_catalog", encoder=tuple, decoder=lambda told: Delta(*told), format="tuple"
            )
            result = await con.fetchval("select $1::interval", Delta(25, 14, 0))
            return result.months, result.days, result.microseconds, type(result) is Delta

    assert await sides.tell(story) == (25, 14, 0, True)


async def test_A20_documentation_numerics_as_floats(sides: Sides) -> None:
    """Decoding numeric columns as floats, for whoever can do without the exactness."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            exact = await con.fetchval("select $1::numeric", Decimal("11.123"))
            await con.set_type_codec("numeric", encoder=str, decoder=float, schema="pg_catalog", format="text")
            return exact, await con.fetchval("select $1::numeric", 11.123)

    assert await sides.tell(story) == (Decimal("11.123"), 11.123)


async def test_A20_documentation_a_builtin_codec_for_an_extensions_type(sides: Sides) -> None:
    """hstore by asyncpg's own codec; where the extension is not there, both say so."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            if not await con.fetchval("select true from pg_available_extensions where name = 'hstore'"):
                with pytest.raises(ValueError, match="unknown type") as caught:
                    await con.set_builtin_type_codec("hstore", codec_name="pg_contrib.hstore")
                return str(caught.value)
            tr = con.transaction()
            await tr.start()
            try:
                await con.execute("create schema doc_hstore; create extension hstore schema doc_hstore")
                await con.set_builtin_type_codec("hstore", schema="doc_hstore", codec_name="pg_contrib.hstore")
                found = await con.fetchval("select $1::doc_hstore.hstore", {"a": "1", "b": None})
            finally:
                await tr.rollback()
            return found, type(found) is dict

    assert await sides.tell(story)


async def test_A20_documentation_in_and_any(sides: Sides) -> None:
    """Why `in $1` does not work, and `= any($1::int[])` does."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            with pytest.raises(asyncpg.PostgresSyntaxError) as caught:
                await con.fetch("select n from generate_series(1, 5) n where n in $1", [1, 2])
            rows = await con.fetch("select n from generate_series(1, 5) n where n = any($1::int[])", [1, 2])
            return str(caught.value), rows

    assert len((await sides.tell(story))[1]) == 2


async def test_A20_documentation_ranges_composites_and_arrays(sides: Sides) -> None:
    """What the table of types says of ranges, composite values, and arrays."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            await con.execute("create temp table two (x int, y text)")
            pair = await con.fetchval("select $1::two", (1, "a"))
            return [
                await con.fetchval("select $1::int4range", asyncpg.Range(1, 5)),
                await con.fetchval("select $1::int4range", (1, 5)),
                (pair["x"], pair["y"], tuple(pair)),
                await con.fetchval("select $1::two[]", [(1, "a"), (2, None)]),
                await con.fetchval("select $1::int[][]", [[1, 2], [3, 4]]),
                await con.fetchval("select $1::numeric[]", [Decimal("1.10"), None]),
            ]

    assert (await sides.tell(story))[2] == (1, "a", (1, "a"))


# --- usage: transactions ------------------------------------------------------------------------------------


async def test_A20_documentation_transactions_as_blocks_by_hand_and_within_each_other(sides: Sides) -> None:
    """A transaction as a block, one begun and ended by hand, and a savepoint that is undone."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            await con.execute("create temp table marks (a int)")
            async with con.transaction():
                await con.execute("insert into marks values (1)")
            tr = con.transaction(isolation="serializable")
            await tr.start()
            try:
                await con.execute("insert into marks values (2)")
                await con.execute("select 1 / 0")
            except asyncpg.DivisionByZeroError:
                await tr.rollback()
            else:
                await tr.commit()
            async with con.transaction():
                try:
                    async with con.transaction():
                        await con.execute("insert into marks values (1), (2), (3)")
                        raise LookupError
                except LookupError:
                    pass
                await con.execute("insert into marks values (100)")
            inside = con.is_in_transaction()
            return inside, await con.fetch("select a from marks order by a")

    found = await sides.tell(story)
    assert [row["a"] for row in found[1]] == [1, 100]


# --- usage: pools -------------------------------------------------------------------------------------------


async def test_A7_documentation_a_web_service_that_takes_a_connection_for_each_request(sides: Sides) -> None:
    """The web service of the pools' example: each request a connection, a transaction, a power of two."""

    async def story(side: Side) -> Any:
        async with side.pool(command_timeout=60) as pool:

            async def handle(power: int) -> str:
                async with pool.acquire() as con, con.transaction():
                    return f"2 ^ {power} is {await con.fetchval('select 2 ^ $1', power)}"

            return await asyncio.gather(*(handle(power) for power in range(8)))

    assert (await sides.tell(story))[3] == "2 ^ 3 is 8.0"


async def test_A6_documentation_init_sets_codecs_for_every_connection(sides: Sides) -> None:
    """`init`, as the example of an idiomatic set-up has it."""

    async def init(con: Any) -> None:
        await con.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    async def story(side: Side) -> Any:
        async with side.pool(init=init) as pool:
            con = await pool.acquire()
            try:
                mine = await con.fetchval("select $1::jsonb", [1])
            finally:
                await pool.release(con)
            return mine, await pool.fetchval("select $1::jsonb", {"x": None}), await pool.execute("select 1")

    assert (await sides.tell(story))[:2] == ([1], {"x": None})


# --- API: statements ----------------------------------------------------------------------------------------


async def test_A20_documentation_execute_and_executemany(sides: Sides) -> None:
    """execute as a script and with arguments, executemany as one that happens or does not."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            script = "create temp table tab (a int); insert into tab values (100), (200), (300)"
            told = [await con.execute(script), await con.execute("insert into tab values ($1), ($2)", 10, 20)]
            told += [await con.executemany("insert into tab values ($1)", [(n,) for n in range(3)])]
            with pytest.raises(asyncpg.DataError):
                await con.executemany("insert into tab values ($1)", [(7,), ("x",)])
            return [*told, await con.fetchval("select count(*) from tab"), await con.fetch("select a from tab")]

    assert (await sides.tell(story))[:4] == ["INSERT 0 3", "INSERT 0 2", None, 8]


async def test_A20_documentation_a_prepared_statement(sides: Sides) -> None:
    """A statement prepared once and run several times, with its types and its plan."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            stmt = await con.prepare("select 2 ^ $1 as power")
            typed = await con.prepare("select ($1::int, $2::text)")
            return [
                await stmt.fetchval(10),
                await stmt.fetchval(20),
                [kind.name for kind in typed.get_parameters()],
                [(each.name, each.type.name) for each in stmt.get_attributes()],
                stmt.get_statusmsg(),
                stmt.get_query(),
                "Plan" in (await stmt.explain(5))[0],
            ]

    assert (await sides.tell(story))[:3] == [1024.0, 1048576.0, ["int4", "text"]]


# --- API: cursors -------------------------------------------------------------------------------------------


async def test_A20_documentation_cursors_iterated_and_by_hand(sides: Sides) -> None:
    """A cursor in `async for`, one moved and fetched from by hand, one of a prepared statement, none outside."""

    async def story(side: Side) -> Any:
        series = "select generate_series(0, $1::int)"
        async with side.pool() as pool, pool.acquire() as con:
            async with con.transaction():
                iterated = [record[0] async for record in con.cursor(series, 100)]
                cur = await con.cursor(series, 100)
                await cur.forward(10)
                by_hand = (await cur.fetchrow())[0], [row[0] for row in await cur.fetch(5)]
                stmt = await con.prepare("select generate_series(0, 10)")
                of_statement = [record[0] async for record in stmt.cursor(prefetch=3)]
            with pytest.raises(asyncpg.NoActiveSQLTransactionError) as caught:
                await con.cursor(series, 1)
            return iterated, by_hand, of_statement, str(caught.value)

    found = await sides.tell(story)
    assert found[1] == (10, [11, 12, 13, 14, 15])


# --- API: COPY ----------------------------------------------------------------------------------------------


async def test_A20_documentation_copies_out_and_in(sides: Sides, table: str, tmp_path: Path) -> None:
    """Each of the COPY methods, with the kinds of sinks and sources that its example shows."""

    async def story(side: Side) -> Any:
        path = tmp_path / f"{side.name}.csv"
        async with side.pool() as pool, pool.acquire() as con:
            await con.execute(f"truncate {table}")
            told = [await con.copy_records_to_table(table, records=[(1, "ham"), (2, "eggs")])]
            told += [await con.copy_records_to_table(table, records=numbers_from(3), columns=["id", "name"])]
            told += [await con.copy_from_table(table, columns=("id", "name"), output=str(path), format="csv")]
            found = path.read_text()
            told += [
                await con.copy_from_query(f"select id from {table} where id > $1", 1, output=(out := io.BytesIO()))
            ]
            await con.execute(f"truncate {table}")
            told += [await con.copy_to_table(table, source=str(path), format="csv"), found, out.getvalue()]
            return [*told, await con.fetch(f"select * from {table} order by id")]

    def numbers_from(first: int) -> Any:
        async def each() -> AsyncIterator[tuple[int, str]]:
            async for number, name in numbers(3):
                yield number + first, name

        return each()

    assert (await sides.tell(story))[:3] == ["COPY 2", "COPY 3", "COPY 5"]


# --- API: listeners -----------------------------------------------------------------------------------------


async def test_A20_documentation_listeners_of_notifications_and_of_the_log(sides: Sides) -> None:
    """add_listener, add_log_listener, and a query logger as a block."""

    async def story(side: Side) -> Any:
        heard: list[Any] = []
        logged: list[str] = []
        queries: list[str] = []

        def on_note(con: Any, pid: int, channel: str, payload: str) -> None:
            heard.append((pid == con.get_server_pid(), channel, payload))

        async with side.pool() as pool, pool.acquire() as con:
            await con.add_listener("doc_news", on_note)
            await con.execute("notify doc_news, 'hello'")
            await until(lambda: heard)
            await con.remove_listener("doc_news", on_note)

            def on_log(con: Any, message: Any) -> None:
                logged.append(message.message)

            con.add_log_listener(on_log)
            await con.execute("do $$ begin raise notice 'by the way'; end $$")
            await until(lambda: logged)
            con.remove_log_listener(on_log)
            with con.query_logger(lambda record: queries.append(record.query)):
                await con.fetchval("select 1")
                await until(lambda: queries)
        return heard, logged, queries

    assert await sides.tell(story) == ([(True, "doc_news", "hello")], ["by the way"], ["select 1"])


# --- API: Records -------------------------------------------------------------------------------------------


async def test_A20_documentation_what_a_record_can_do(sides: Sides) -> None:
    """Everything that the page on Records shows of one."""

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            r = await con.fetchrow("select oid, rolname, rolsuper from pg_roles where rolname = 'pg_monitor'")
            return [
                len(r), r[1], r["rolname"], r[-1], r[1:], "rolname" in r, "nothing" in r, r.get("nothing", 5),
                list(r.keys()), list(r.values()) == list(r), dict(r.items()) == dict(r), repr(r)[:12],
                r == tuple(r), hash(r) == hash(tuple(r)),
            ]  # fmt: skip

    assert (await sides.tell(story))[1] == "pg_monitor"


async def test_A20_documentation_a_record_class_with_attributes(sides: Sides) -> None:
    """A Record whose fields are attributes, too."""

    class Dotted(asyncpg.Record):
        def __getattr__(self, name: str) -> Any:
            return self[name]

    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            row: Any = await con.fetchrow("select 1 as one, 'x' as two", record_class=Dotted)
            (first,) = await con.fetch("select 3 as three", record_class=Dotted)
            return row.one, row.two, row["one"], first.three

    assert await sides.tell(story) == (1, "x", 1, 3)
