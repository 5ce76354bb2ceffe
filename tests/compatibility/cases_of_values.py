"""What asyncpg is asked and given in test_values.py: literals of every type, and arguments for every type."""

from __future__ import annotations

import enum
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from types import MappingProxyType
from typing import Any

from asyncpg import BitString, Box, Circle, Line, LineSegment, Path, Point, Polygon, Range

S = "pgactor_t_values"
"""The schema of the types named here."""

SCHEMA = f"""
    drop schema if exists {S} cascade; create schema {S};
    create type {S}.mood as enum ('sad', 'glad', 'so so');
    create domain {S}.age as int check (value >= 0);
    create domain {S}.label as text not null;
    create type {S}.pair as (a int, b text);
    create domain {S}.full_pair as {S}.pair check ((value).a is not null);
    create type {S}.outer_pair as (p {S}.pair, m {S}.mood, r int4range, ps {S}.pair[], at timestamptz);
    create type {S}.nothing as ();
    create type {S}.moods as range (subtype = {S}.mood);
    create type {S}.floats as range (subtype = float8);
    create domain {S}.span as int4range check (not isempty(value));
    create domain {S}.ages as {S}.age[];
    create table {S}.t (id int, at timestamptz, note text);
"""

EXTENSIONS = ("hstore", "citext", "ltree", "cube", "vector")

SURVIVING: dict[str, list[str | None]] = {
    "bool": ["t", "f", None],
    "int2": ["-32768", "32767", None],
    "int4": ["-2147483648", "2147483647", None],
    "int8": ["-9223372036854775808", "9223372036854775807", None],
    "oid": ["4294967295", "0"],
    "xid": ["4294967295"],
    "cid": ["4294967295"],
    "xid8": ["18446744073709551615"],
    "pg_lsn": ["FFFFFFFF/FFFFFFFF", "0/0"],
    "float4": ["nan", "inf", "-inf", "-0", "1e-45", "3.4028235e38"],
    "float8": ["nan", "inf", "-inf", "-0", "5e-324", "1.7976931348623157e308", None],
    "text": ["", "é😀", "x" * 70_000, None],
    "varchar(3)": ["abc"],
    "bpchar": ["a  "],
    "char(4)": ["a"],
    "name": ["x" * 63],
    '"char"': ["x", ""],
    "xml": ["<a/>"],
    "json": [' {"a": [1, 2.50]} ', "null"],
    "jsonb": ['{"b": 1, "a": [1e400]}', '"\\u00e9"', "null"],
    "jsonpath": ["$.a[*]"],
    "money": ["-12.50", "92233720368547758.07"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "tsvector": ["'a':1A b:2 c"],
    "tsquery": ["a & (b | !c)"],
    "regclass": ["pg_class"],
    "regtype": ["int"],
    "regproc": ["now"],
    "regprocedure": ["now()"],
    "regnamespace": ["pg_catalog"],
    "regrole": ["pg_database_owner"],
    "regconfig": ["simple"],
    "refcursor": ["c"],
    "aclitem": ["=r/pg_database_owner"],
    "int2vector": ["1 2"],
    "oidvector": ["1 2"],
    "bytea": ["", "\\x00ff"],
    "timestamptz": ["2024-02-29 01:02:03.000004+05:30", "1890-01-01+00", "0001-01-02+00", None],
    f"{S}.mood": ["so so", None],
    f"{S}.age": ["7", None],
    f"{S}.label": ["x"],
}
"""Section T, row 1, with what is like it."""

CONVERTED: dict[str, list[str | None]] = {
    "numeric": ["NaN", "Infinity", "-Infinity", "1.10", "-0.00", "120000", "1e131071", "1e-16383", "9" * 1000, None],
    "numeric(20,4)": ["10000", "NaN"],
    "date": ["2024-02-29", "infinity", "-infinity", "0001-01-02", "9999-12-30", None],
    "time": ["00:00", "23:59:59.999999"],
    "timetz": ["10:00:00.5-07:30", "00:00+15:59", "10:00:00+01:02:03"],
    "timestamp": ["2024-02-29 01:02:03.000004", "infinity", "-infinity", "0001-01-02", "9999-12-31 23:59:59"],
    "timestamptz": ["infinity", "-infinity"],
    "interval": ["1 mon -3 days 00:00:00.000001", "-14 months", "1000000 years", "0", "2562047788 hours"],
    "uuid": ["12345678-1234-5678-1234-567812345678", None],
    "record": [],
    "tid": ["(1,2)", "(4294967295,65535)"],
    "pg_snapshot": ["10:20:10,14", "1:1:"],
    "txid_snapshot": ["10:20:10,14"],
    "point": ["(1.5,-2)", "(nan,inf)", None],
    "box": ["(1,2),(3,4)"],
    "line": ["{1,2,3.5}"],
    "lseg": ["[(1,2),(3,4)]"],
    "circle": ["<(1,2),3>"],
    "inet": ["10.0.0.7", "10.0.0.7/8", "::1", "fe80::1/64", "10.0.0.0/32", None],
    "cidr": ["10.0.0.0/8", "10.0.0.7/32", "::/0"],
    "path": ["[(1,2),(3,4)]", "((1,2),(3,4))", "((1,2))", None],
    "polygon": ["((1,2),(3,4),(5,6))", "((1,2))"],
    "bit(3)": ["101", None],
    "bit(8)": ["10100101"],
    "bit(17)": ["10100101101001011"],
    "varbit": ["", "1", "0" * 9, "1" * 1000],
    "int4range": ["empty", "[1,5)", "(,)", "[3,)", "(,3]", None],
    "int8range": ["[1,9223372036854775807)"],
    "numrange": ["[1.10,NaN]", "(1,2)"],
    "daterange": ["[2024-02-29,infinity)", "(,2024-01-01)"],
    "tsrange": ["[2024-02-29 01:02,infinity)", "(-infinity,2024-01-01]"],
    "tstzrange": ["[2024-02-29 01:02+01,)", "[2024-02-29 01:02+01,infinity]"],
    "int4multirange": ["{}", "{[1,3),[5,7)}", "{(,)}", None],
    "nummultirange": ["{[1.10,2.20]}"],
    "datemultirange": ["{[2024-01-01,2024-02-01),[2025-01-01,)}"],
    "tstzmultirange": ["{[2024-02-29 01:02+01,)}"],
    f"{S}.moods": ["[sad,glad]", "empty"],
    f"{S}.moods_multirange": ["{}"],
    f"{S}.floats": ["[0.5,inf)"],
    f"{S}.span": ["[1,5)"],
    f"{S}.ages": ["{1,NULL}"],
    f"{S}.pair": ["(1,x)", "(,)", '(1,"a ""b"" c")', None],
    f"{S}.full_pair": ["(1,x)"],
    f"{S}.nothing": ["()"],
    f"{S}.outer_pair": ['("(1,x)",glad,"[1,5)","{""(2,y)"",NULL}","2024-01-01 00:00+00")', "(,,,,)"],
    "pg_catalog.pg_type": [None],
}
"""Section T, row 2."""

EXPRESSIONS = [
    "row(1, 'x', null)",
    "row(1.50, row('x', b'101'), '(1,2)'::point, null::int4)",
    "array[row(1)]",
    f"row(row(1, 'x')::{S}.pair, 'sad'::{S}.mood)",
    "row()",
    "array[row(1, 'x'), row(2, null)]",
    f"(select array_agg(t) from (select row(n, 'x')::{S}.pair as t from generate_series(1, 3) n) x)",
    f"array[array[row(1, 'x')::{S}.pair], array[row(2, 'y')::{S}.pair]]",
    f"(select t from {S}.t right join (values (1)) v (n) on false)",
    f"row(5, '2024-01-01 00:00+00', 'n')::{S}.t",
    "pg_current_snapshot() is not null",
    "array[]::int4range[]",
    "null::point[]",
    '\'[0:1]={"(1,2)","(3,4)"}\'::point[]',
    f"array[null, '(1,x)']::{S}.pair[]",
]
"""What no literal makes."""


def bits(text: str) -> BitString:
    """asyncpg takes a str, whatever its annotation says."""
    return BitString(text)  # type: ignore[arg-type]


class Mood(enum.StrEnum):
    GLAD = "glad"


class Size(enum.IntEnum):
    TWO = 2


class Colour(enum.Enum):
    RED = "red"


class Whole:
    """A number of a class of one's own."""

    def __index__(self) -> int:
        return 3

    __int__ = __index__


class Sized:
    """A collection of a class of one's own."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))


Pair = namedtuple("Pair", ["a", "b"])

ANYTHING: list[Any] = [
    *(0, -1, 5, 2**15, 2**31, 2**63, 2**64, -(2**100), True, 2.9, -0.5, float("nan"), float("inf"), 1e300),
    *("", "1", "glad", "2024-01-01", "10.0.0.7", "10.0.0.7/8", "(1,2)", "NaN", "é\0", "x" * 100),
    *(b"", b"1", b"\xa5"),
    *(Decimal("1.50"), Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+20000"), Decimal("1E-20000"), Decimal("-0")),
    *(date(2024, 2, 29), date.min, date.max, date(9999, 12, 30), time(1, 2, 3, 4), time(1, 2, tzinfo=UTC)),
    time(1, 2, tzinfo=timezone(timedelta(hours=1, minutes=2, seconds=3))),
    *(datetime(2024, 7, 2, 3, 4, 5, 6), datetime(2024, 1, 2, tzinfo=UTC), datetime.min, datetime.max),
    datetime(2024, 1, 2, tzinfo=timezone(-timedelta(hours=7, minutes=30))),
    *(timedelta(days=-3, microseconds=7), timedelta(0), timedelta.max, timedelta.min),
    *(uuid.UUID(int=5), "12345678-1234-5678-1234-567812345678"),
    *(ip_address("10.0.0.7"), ip_address("::1"), ip_interface("10.0.0.7/8"), ip_network("10.0.0.0/8")),
    *(ip_interface("fe80::7/64"), ip_network("::/0")),
    *(Range(1, 5), Range(1, 5, upper_inc=True), Range(empty=True), Range(), Range(None, 5), Range(1.5, None)),
    *(Range(Decimal("1.10"), 2), Range(date(2024, 1, 1), None), Range("glad", "so so"), Range(5, 1), Range("x", 1)),
    *(Range(datetime(2024, 1, 1), datetime.max), Range(datetime(2024, 1, 1, tzinfo=UTC)), [Range(1, 2), Range(5, 7)]),
    *(bits("101"), bits(""), bits("1010 0101 1"), BitString.from_int(5, 17)),
    *(Point(1, 2), Box((3, 4), (1, 2)), Line(1, 2, 3), LineSegment((1, 2), (3, 4)), Polygon((1, 2), (3, 4))),
    *(Path((1, 2), (3, 4)), Path((1, 2), (3, 4), is_closed=True), Circle(Point(1, 2), 3), Circle((1, 2), 3.5)),  # type: ignore[arg-type]
    *((1, 2), [1, 2], (1, "x"), [1, "x"], (1,), (), [], (1, 2, 3), (None, None), (1.5, 2.5)),
    *([(1, 2), (3, 4)], ((1, 2), (3, 4)), [[1, 2], [3, 4]], [[1, 2], [3]], [[[1]]], [1, [2]], [None, 1]),
    *([(1, "x"), None], [{"a": 1}], [[(1, "x")], [(2, "y")]], ((1, 2), 3), (10, 20, (10, 14)), (10, 20, [10, 14])),
    *({7}, frozenset({7}), {1, "x"} - {1}, {"a": 1}, {"a": 1, "b": "x"}, {"b": "x"}, {"c": 1}, {}, {1: 2}),
    *({"p": (1, "x"), "m": "sad", "r": Range(1, 2), "ps": [(1, "x"), {"a": 2}], "at": datetime(2024, 1, 1)},),
    *(["sad", None], [Point(1, 2), None], [bits("1")], [ip_address("10.0.0.7"), "::1"], [Decimal(1), 2, "3"]),
    *([date(2024, 1, 2), None], [datetime(2024, 1, 2), datetime.max], [uuid.UUID(int=1), None], [time(1)]),
    *([Range(1, 2), (3, 4), (), None], [[Range(1, 2)], [(3, 4)]], [[Range(1, 2)], [Range(3, 4)]], [b"x", None]),
]
"""Arguments, each of which is given for every type of `TARGETS`."""

OF_A_CLASS_OF_ITS_OWN: list[Any] = [
    *(OrderedDict(b="x", a=1), MappingProxyType({"a": 1}), UserDict({"a": 4}), Pair(1, "x"), [Pair(1, "x")]),
    *(deque([1, 2]), range(3), {1: 2}.keys(), {1: 2}.values(), Sized(), bytearray(b"ab"), memoryview(b"abcd")[1:]),
    *(Whole(), Fraction(1, 2), Mood.GLAD, Size.TWO, ["sad", Mood.GLAD]),
]
"""Arguments that cross as what they are like; asyncpg's errors name what they are."""

TARGETS = [
    *(
        "bool",
        "int2",
        "int4",
        "int8",
        "oid",
        "xid8",
        "float4",
        "float8",
        "numeric",
        "text",
        '"char"',
        "jsonb",
        "bytea",
    ),
    *("date", "time", "timetz", "timestamp", "timestamptz", "interval", "uuid", "inet", "cidr", "macaddr", "money"),
    *("bit(3)", "varbit", "point", "box", "line", "lseg", "path", "polygon", "circle", "tid", "pg_snapshot"),
    *("int4range", "numrange", "daterange", "tsrange", "tstzrange", "int4multirange", "tstzmultirange", "record"),
    *(f"{S}.mood", f"{S}.age", f"{S}.pair", f"{S}.full_pair", f"{S}.outer_pair", f"{S}.moods", f"{S}.span"),
    *("int4[]", "numeric[]", "text[]", "date[]", "timestamptz[]", "uuid[]", "inet[]", "point[]", "int4range[]"),
    *("bytea[]", "varbit[]", f"{S}.mood[]", f"{S}.pair[]", f"{S}.ages", "int4multirange[]", "path[]", "time[]"),
]
