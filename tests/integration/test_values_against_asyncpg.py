"""asyncpg itself is the measure: what it returns, and what it makes of an argument, must not depend on whether
the values crossed between processes on the way."""

from __future__ import annotations

import enum
import os
import time as clock
from collections import namedtuple
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
import pytest

from pgactor.rows import Column, ColumnKind, Record, RowDecoder, RowEncoder, kind_of
from pgactor.values import pack_args, unpack

SCHEMA = """
    create type pg_temp.mood as enum ('sad', 'happy');
    create domain pg_temp.age as int check (value >= 0);
    create domain pg_temp.label as text;
    create type pg_temp.pair as (left_one int, right_one text);
"""

RESULTS: dict[str, list[str | None]] = {
    "bool": [None, "true", "false"],
    "int2": [None, "-32768", "32767"],
    "int4": [None, "-2147483648", "2147483647", "0"],
    "int8": [None, "-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "xid": ["0", "4294967295"],
    "cid": ["4294967295"],
    "xid8": ["18446744073709551615"],
    "pg_lsn": ["0/1", "FFFFFFFF/FFFFFFFF"],
    "float4": [None, "1.1", "-0", "3.4028235e38", "1e-45", "inf", "-inf", "nan"],
    "float8": [None, "1", "0.1", "-0", "1.7976931348623157e308", "5e-324", "inf", "-inf", "nan"],
    "numeric": [None, "1", "1.10", "-0.000", "1e30", "NaN", "Infinity", "-Infinity", "9" * 500, "1e-300"],
    "numeric(10,4)": ["1"],
    "text": [None, "", "a", "naïve 😀 \u0001", "x" * 70_000],
    "varchar": ["a"],
    "bpchar": ["a  "],
    "char(5)": ["a"],
    "name": ["a"],
    '"char"': ["x", ""],
    "xml": ["<a/>"],
    "money": ["-12.50"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "tsvector": ["a b"],
    "tsquery": ["a & b"],
    "jsonpath": ["$.a"],
    "refcursor": ["c"],
    "aclitem": ["=r/pg_database_owner"],
    "cstring": ["x"],
    "regproc": ["now"],
    "regprocedure": ["now()"],
    "regoper": ["||/"],
    "regoperator": ["+(int,int)"],
    "regclass": ["pg_class"],
    "regtype": ["int"],
    "regconfig": ["simple"],
    "regdictionary": ["simple"],
    "regnamespace": ["pg_catalog"],
    "regrole": ["pg_database_owner"],
    "regcollation": ['"C"'],
    "pg_temp.mood": [None, "sad"],
    "pg_temp.age": [None, "7"],
    "pg_temp.label": [None, "seven"],
    "bytea": [None, "", r"\x00ff"],
    "uuid": [None, "12345678-1234-5678-1234-567812345678"],
    "date": [None, "2024-02-29", "0001-01-02", "9999-12-30", "infinity", "-infinity"],
    "time": [None, "00:00", "01:02:03.000004", "23:59:59.999999"],
    "timetz": [None, "10:00+00", "10:00:00.5-07:30", "10:00:00+01:02:03"],
    "timestamp": [
        *(None, "2024-02-29 01:02:03.000004", "1890-01-01", "0001-01-02", "9999-12-30", "infinity", "-infinity"),
    ],
    "timestamptz": [
        *(None, "2024-02-29 01:02:03.000004+05:30", "1890-01-01 UTC", "0001-01-02 UTC", "9999-12-30 UTC"),
        *("infinity", "-infinity"),
    ],
    "interval": [
        *(None, "0", "1 us", "-1 us", "-1 day -00:00:00.5", "14 months", "-14 months 3 days", "1000000 years"),
        "2562047788 hours",
    ],
    "json": [None, '{"a": [1, 2.50, null]}', "null"],
    "jsonb": [None, '{"a": [1, 2.50, null]}', '"x"'],
    "inet": [None, "10.0.0.7", "10.0.0.7/8", "::1", "fe80::1/64", "10.0.0.0/32"],
    "cidr": [None, "10.0.0.0/8", "10.0.0.7/32", "::/0"],
    "tid": ["(1,2)"],
    "pg_snapshot": ["10:20:10,14"],
    "int2vector": ["1 2"],
    "void": [None],
    "int4[]": [None, "{}", "{1,NULL,3}", "{{1,2},{3,4}}", "{{{1,2},{3,4}},{{5,6},{7,NULL}}}", "[0:1]={1,2}"],
    "int8[]": ["{9223372036854775807}"],
    "bool[]": ["{t,f,NULL}"],
    "float8[]": ["{nan,1}"],
    "text[]": ['{a,"",NULL,"NULL"}', "{{a,b},{c,NULL}}"],
    "bytea[]": [r'{"\\x00ff"}'],
    "numeric[]": ["{1.10,NaN,NULL}", "{{1.0},{2.00}}"],
    "uuid[]": ["{12345678-1234-5678-1234-567812345678,NULL}", "{}"],
    "date[]": ["{2024-02-29,infinity,NULL}"],
    "time[]": ["{01:02:03}"],
    "timetz[]": ["{10:00+05:30}"],
    "timestamp[]": ["{2024-02-29 01:02:03,infinity}"],
    "timestamptz[]": ["{2024-02-29 01:02:03+05:30,infinity,NULL}"],
    "interval[]": ["{1 day,-14 months}"],
    "json[]": ['{"{}"}'],
    "jsonb[]": ['{"{}"}'],
    "inet[]": ["{10.0.0.7,10.0.0.7/8,::1}"],
    "cidr[]": ["{10.0.0.0/8}"],
    "pg_temp.mood[]": ["{sad,NULL}"],
    "pg_temp.age[]": ["{1,NULL}"],
    "pg_temp.label[]": ["{x}"],
    "int4multirange": ["{}"],
}

Pair = namedtuple("Pair", ["left", "right"])


class Mood(enum.StrEnum):
    SAD = "sad"


class Size(enum.IntEnum):
    TWO = 2


ARGUMENTS: list[tuple[str, Any]] = [
    ("int4", 2**31),
    ("int4", Size.TWO),
    ("int4", True),
    ("int4", 2.9),
    ("int4", "1"),
    ("bool", datetime(2024, 1, 1)),
    ("int8", 2**63),
    ("int8", 2**64),
    ("float8", 1),
    ("float8", Decimal("1.5")),
    ("float8", float("-inf")),
    ("numeric", 10**30),
    ("numeric", -(10**30)),
    ("numeric", 1.5),
    ("numeric", "1.50"),
    ("numeric", Size.TWO),
    ("numeric", Decimal("1.500")),
    ("text", Mood.SAD),
    ("text", datetime(2024, 1, 1)),
    ("text", 5),
    ("pg_temp.mood", Mood.SAD),
    ("pg_temp.mood", "angry"),
    ("pg_temp.age", -1),
    ("bytea", bytearray(b"ab")),
    ("bytea", memoryview(b"abcd")[1:]),
    ("bytea", "text"),
    ("uuid", "12345678-1234-5678-1234-567812345678"),
    ("uuid", UUID(int=5)),
    ("date", date.max),
    ("date", datetime(2024, 1, 2, 3)),
    ("date", datetime(2024, 1, 2, 3, tzinfo=UTC)),
    ("time", time(1, 2, 3, 4)),
    ("time", time(1, 2, tzinfo=ZoneInfo("Europe/Berlin"))),
    ("time", datetime(2024, 1, 1, 5)),
    ("timetz", time(1, 2, tzinfo=timezone(timedelta(hours=1, minutes=2, seconds=3)))),
    ("timetz", time(1, 2, tzinfo=timezone(-timedelta(hours=7, minutes=30)))),
    ("timetz", time(1, 2)),
    ("timestamp", datetime(2024, 1, 2, 3, 4, 5, 6)),
    ("timestamp", date(2024, 1, 2)),
    ("timestamp", datetime.max),
    ("timestamp", datetime.min),
    ("timestamp", datetime(2024, 1, 2, tzinfo=UTC)),
    ("timestamptz", datetime(2024, 1, 2, 3, 4, 5, 6)),
    ("timestamptz", datetime(2024, 1, 2, tzinfo=UTC)),
    ("timestamptz", datetime(2024, 7, 2, tzinfo=ZoneInfo("Europe/Berlin"))),
    ("timestamptz", datetime(2024, 1, 2, tzinfo=timezone(timedelta(seconds=7)))),
    ("timestamptz", date(2024, 1, 2)),
    ("timestamptz", datetime.max),
    ("timestamptz", datetime.min),
    ("timestamptz", "2024-01-01"),
    ("interval", timedelta(days=-3, microseconds=7)),
    ("inet", "10.0.0.7/8"),
    ("inet", ip_address("10.0.0.7")),
    ("inet", ip_interface("fe80::7/64")),
    ("inet", ip_network("10.0.0.0/8")),
    ("inet", datetime(2024, 1, 1)),
    ("cidr", ip_network("10.0.0.0/8")),
    ("cidr", ip_interface("10.0.0.7/8")),
    ("int4[]", (1, None, 3)),
    ("int4[]", {7}),
    ("int4[]", frozenset({7})),
    ("int4[]", [[1, 2], [3, 4]]),
    ("int4[]", [[1, 2], [3]]),
    ("int4[]", [Size.TWO, 2.0]),
    ("int4[]", "text"),
    ("int4[]", 1),
    ("numeric[]", [1, "2.0", Decimal("3.00"), 10**30]),
    ("timestamptz[]", [datetime(2024, 1, 2), datetime(2024, 1, 2, tzinfo=UTC), datetime.max]),
    ("pg_temp.pair", (1, "x")),
    ("pg_temp.pair", Pair(1, "x")),
    ("pg_temp.pair", (1,)),
    ("pg_temp.pair[]", [(1, "x"), None]),
    ("point", (1, 2)),
    ("path", ((1, 2), (3, 4))),
    ("path", [(1, 2), (3, 4)]),
    ("int4range", (1, 5)),
    ("int4range[]", [(1, 5), (7,)]),
    ("tid", (1, 2)),
]


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        yield connection
    finally:
        await connection.close()


@contextmanager
def local_time_zone(name: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    clock.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        clock.tzset()


def portrait(value: Any) -> Any:
    """All of a value that must survive: its type, its text, and those of all in it."""
    if isinstance(value, asyncpg.Record | Record):
        return "record", [(name, portrait(inner)) for name, inner in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [portrait(inner) for inner in value]
    if isinstance(value, UUID):
        return UUID, str(value)  # asyncpg's is a subclass of its own
    if isinstance(value, asyncpg.Path):
        return type(value), value.is_closed, portrait(value.points)
    return type(value), repr(value)


async def outcome(query: Awaitable[Any]) -> Any:
    """A portrait of what a query returns or raises."""
    try:
        return portrait(await query)
    except Exception as exc:
        return type(exc), str(exc)


def through_the_wire(*args: Any) -> list[Any]:
    decoder = msgspec.msgpack.Decoder(list[Any], ext_hook=unpack)
    return decoder.decode(msgspec.msgpack.encode(pack_args(args)))


async def columns_of(connection: asyncpg.Connection[Any], sql: str) -> tuple[Column, ...]:
    attributes = (await connection.prepare(sql)).get_attributes()
    return tuple(Column(a.name, kind_of(a.type.oid), a.type.name) for a in attributes)


@pytest.mark.parametrize(
    ("type_name", "literal"),
    [(type_name, literal) for type_name, literals in RESULTS.items() for literal in literals],
    ids=lambda text: "NULL" if text is None else text[:40],
)
async def test_a_result_and_the_same_value_as_an_argument(
    connection: asyncpg.Connection[Any], type_name: str, literal: str | None
) -> None:
    text = "NULL" if literal is None else f"$lit${literal}$lit$"
    sql = f"select {text}::{type_name} as v, array_length(array[1], 1) as n"
    try:
        rows = await connection.fetch(sql)
    except asyncpg.FeatureNotSupportedError as exc:
        pytest.skip(str(exc))  # xml, in a PostgreSQL built without it
    columns = await columns_of(connection, sql)
    received = RowDecoder(columns).decode(RowEncoder(columns).encode(rows))
    assert [portrait(row) for row in received] == [portrait(row) for row in rows]

    echo = f"select $1::{type_name} as v, ($1::{type_name})::text as t"
    direct = await outcome(connection.fetchrow(echo, rows[0]["v"]))
    assert await outcome(connection.fetchrow(echo, *through_the_wire(received[0]["v"]))) == direct


@pytest.mark.parametrize(("type_name", "value"), ARGUMENTS)
async def test_an_argument_gives_the_same_row_or_the_same_error(
    connection: asyncpg.Connection[Any], type_name: str, value: Any
) -> None:
    echo = f"select $1::{type_name} as v, ($1::{type_name})::text as t"
    direct = await outcome(connection.fetchrow(echo, value))
    assert await outcome(connection.fetchrow(echo, *through_the_wire(value))) == direct


async def test_an_anonymous_record_is_a_tuple(connection: asyncpg.Connection[Any]) -> None:
    sql = "select row(1.50, row('x', null)) as v"
    columns = await columns_of(connection, sql)
    ((value,),) = RowDecoder(columns).decode(RowEncoder(columns).encode(await connection.fetch(sql)))
    assert portrait(value) == portrait((Decimal("1.50"), ("x", None)))


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("select 1 as a, 2 as b, 3 as a", ["a", "b", "a"]),
        ("select", []),
        ('select 1, 2 as "a=b "', ["?column?", "a=b "]),
    ],
)
async def test_names_behave_as_asyncpgs(connection: asyncpg.Connection[Any], sql: str, names: list[str]) -> None:
    theirs = await connection.fetch(sql)
    columns = await columns_of(connection, sql)
    ours = RowDecoder(columns).decode(RowEncoder(columns).encode(theirs))
    for one, other in zip(ours, theirs, strict=True):
        assert list(one.keys()) == list(other.keys()) == names
        assert list(one.values()) == list(other.values())
        assert list(one.items()) == list(other.items())
        assert dict(one) == dict(other)
        assert repr(one) == repr(other)
        assert len(one) == len(other)
        assert all(one[name] == other[name] for name in names)


async def test_every_typed_kind_is_tried_above(connection: asyncpg.Connection[Any]) -> None:
    kinds = {column.kind for name in RESULTS for column in await columns_of(connection, f"select null::{name}")}
    assert kinds == set(ColumnKind)


@pytest.mark.parametrize(
    "moment", [datetime(2024, 7, 1, 12), datetime(2024, 3, 31, 2, 30), datetime(2024, 10, 27, 2, 30, fold=1)], ids=str
)
async def test_a_naive_datetime_means_the_time_zone_of_the_worker(
    connection: asyncpg.Connection[Any], moment: datetime
) -> None:
    sql = "select $1::timestamptz, $2::timestamptz[], $3::timestamp"
    with local_time_zone("Europe/Berlin"):
        meant = await connection.fetchrow(sql, moment, [moment], moment)
        packed = msgspec.msgpack.encode(pack_args((moment, [moment], moment)))
    with local_time_zone("America/New_York"):
        args = msgspec.msgpack.decode(packed, ext_hook=unpack)
        assert await connection.fetchrow(sql, *args) == meant
        assert await connection.fetchrow(sql, moment, [moment], moment) != meant
