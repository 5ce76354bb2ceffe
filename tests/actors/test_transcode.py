"""Transcoded rows are compared with the session lane's: asyncpg's records, through RowEncoder and RowDecoder.

PostgreSQL itself makes the bytes: a tuple of COPY's binary format is what a DataRow has in it.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgactor.actors.arguments import argument_encoder
from pgactor.actors.quicktypes import LOOKUP, QuickType, QuickTypes, Wire
from pgactor.actors.transcode import Doubt, row_transcoder
from pgactor.errors import ProtocolError
from pgactor.rows import Column, Record, RowDecoder, RowEncoder
from pgactor.values import WorkerDatetime
from tests.integration.test_values_against_asyncpg import RESULTS, SCHEMA, columns_of, portrait

COMPLETE = b"C\0\0\0\x0dSELECT 1\0"
BUILTIN = QuickTypes()


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        yield connection
    finally:
        await connection.close()


def quick(*oids: int) -> tuple[QuickType, ...]:
    found = tuple(BUILTIN.get(oid) for oid in oids)
    assert None not in found
    return found  # type: ignore[return-value]  # just checked


def data_row(body: bytes) -> bytes:
    return b"D" + struct.pack(">i", len(body) + 4) + body


def row_of(*values: bytes | None) -> bytes:
    fields = [b"\xff\xff\xff\xff" if value is None else struct.pack(">i", len(value)) + value for value in values]
    return data_row(struct.pack(">H", len(values)) + b"".join(fields))


def transcoded(types: tuple[QuickType, ...], data: bytes) -> list[bytes]:
    """The rows, of a buffer that has something before and behind them."""
    out: list[bytes] = []
    buffer = b"??" + data + COMPLETE
    assert row_transcoder(types)(buffer, 2, len(buffer), out) == 2 + len(data)
    return out


def decoded(columns: Sequence[Column], rows: list[bytes]) -> list[Record]:
    return RowDecoder(tuple(columns)).decode(b"\xdd" + struct.pack(">I", len(rows)) + b"".join(rows))


def columns_for(types: Sequence[QuickType]) -> tuple[Column, ...]:
    return tuple(Column(f"c{at}", kind.kind, kind.name) for at, kind in enumerate(types))


def portraits(rows: Sequence[Any]) -> list[Any]:
    return [portrait(row) for row in rows]


async def types_of(connection: asyncpg.Connection[Any], sql: str) -> list[QuickType | None]:
    oids = [attribute.type.oid for attribute in (await connection.prepare(sql)).get_attributes()]
    known = QuickTypes()
    for row in await connection.fetch(LOOKUP, known.unknown(oids)):
        known.learn(*row)
    return [known.get(oid) for oid in oids]


async def sent(connection: asyncpg.Connection[Any], sql: str, types: Sequence[QuickType]) -> bytes:
    """The DataRows of a query, as PostgreSQL would send them in these types' formats."""
    names = [f"c{at}" for at in range(len(types))]
    columns = [f"{name}::text" if kind.format == 0 else name for name, kind in zip(names, types, strict=True)]
    source = f"({sql}) as r({', '.join(names)})" if names else f"({sql}) as r"
    copied = bytearray()

    async def write(data: bytes) -> None:
        copied.extend(data)

    await connection.copy_from_query(f"select {', '.join(columns)} from {source}", output=write, format="binary")
    return b"".join(map(data_row, tuples(bytes(copied[19:]))))


def tuples(data: bytes) -> Iterator[bytes]:
    """The tuples of a binary COPY, without its header."""
    at = 0
    while (count := struct.unpack_from(">h", data, at)[0]) != -1:
        start, at = at, at + 2
        for _ in range(count):
            at += 4 + max(struct.unpack_from(">i", data, at)[0], 0)
        yield data[start:at]


async def assert_same_as_the_session_lane(connection: asyncpg.Connection[Any], sql: str) -> list[Record]:
    found = await types_of(connection, sql)
    types = tuple(kind for kind in found if kind is not None)
    assert len(types) == len(found)
    columns = await columns_of(connection, sql)
    assert [(each.kind, each.type) for each in columns] == [(kind.kind, kind.name) for kind in types]
    async with connection.transaction():  # in which now() stands still
        records = await connection.fetch(sql)
        messages = await sent(connection, sql, types)
    theirs = RowDecoder(columns).decode(RowEncoder(columns).encode(records))
    ours = decoded(columns, transcoded(types, messages))
    assert portraits(ours) == portraits(theirs) == portraits(records)
    return ours


# -- against PostgreSQL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_name", "literal"),
    [(type_name, literal) for type_name, literals in RESULTS.items() for literal in literals],
    ids=lambda text: "NULL" if text is None else text[:40],
)
async def test_a_value_is_what_the_session_lane_makes_of_it(
    connection: asyncpg.Connection[Any], type_name: str, literal: str | None
) -> None:
    text = "NULL" if literal is None else f"$lit${literal}$lit$"
    sql = f"select {text}::{type_name} as v, 1 as n, {text}::{type_name} as w from generate_series(1, 3)"
    try:
        types = await types_of(connection, sql)
    except asyncpg.FeatureNotSupportedError as exc:
        pytest.skip(str(exc))  # xml, in a PostgreSQL built without it
    if None in types:
        pytest.skip("not quick")
    await assert_same_as_the_session_lane(connection, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select x::int4, x::text, null::text, x::int8, now() from generate_series(1, 100) x",
        "select x::int4, case when x % 3 = 0 then 'text' end, x / 3.0, x::float8 from generate_series(-50, 50) x",
        "select date '1600-01-01' + x * 1000, timestamp '1600-01-01' + x * interval '1000 days 1.000001 s', "
        "timestamptz '1600-01-01' + x * interval '1000 days 0.999999 s' from generate_series(1, 300) x",
        "select timestamp '9999-12-31 23:59:59.999999', timestamptz '9999-12-31 23:59:59.999999 UTC', "
        "timestamp '0001-01-01', timestamptz '0001-01-01 UTC', date '0001-01-01', date '9999-12-31'",
        "select timestamp '2000-01-01' - interval '1 us', timestamptz '1970-01-01 UTC' - interval '1 us'",
        "select date 'infinity', timestamp '-infinity', timestamptz 'infinity', 'x'::text from generate_series(1, 2)",
        "select repeat('é', x), repeat('x', x)::bytea, to_jsonb(repeat('x', x)) "
        "from generate_series(0, 66000, 999) x",
        "select x, -x, x * 1.0, x / 3 from generate_series(0, 12) n, lateral (select 10::numeric ^ n as x) a",
        "select trunc(x), -trunc(x * 7), x, x * 1e20 from generate_series(0, 12) n, lateral (select 10.0 ^ n x) a",
        "select 120000::numeric, 100000000, 10000000000000000000000000000000::numeric, 1230000.0, 0.0000, 0::numeric",
        "select x::numeric, (x || '0000')::numeric from generate_series(-20, 250000, 5000) x",
        "select x::oid, x::numeric(14, 4), md5(x::text)::uuid, x > 2147483648 from "
        "unnest(array[0, 2147483647, 4294967295]) x",
        "select pg_sleep(0), 1 as n, pg_sleep(0), null::void",
        "select",
        "select from generate_series(1, 5)",
        "select 1 where false",
        """select 'x'::"char", ''::"char", '\\351'::"char", null::"char" """,
        "select 5::pg_temp.age, 'x'::pg_temp.label, null::pg_temp.age",
        "select 'sad'::pg_temp.mood, array['sad', null]::pg_temp.mood[]",
        "select array['a', 'b']::varchar[]::text[], array[1, 2]::pg_temp.age[]::int[]",
        "select array[[1, 2], [3, null]], '{}'::text[], '{{}}'::int[], '[5:6]={1,2}'::int[], array[null]::bool[]",
        "select array_agg(x), array_agg(x::text) from generate_series(1, 70000) x",
        "select array_agg(now()), array_agg(current_date), array_agg(localtimestamp) from generate_series(1, 20)",
        "select array['1600-01-01 00:00:00.5', '2024-07-01', '-infinity']::timestamptz[], "
        "array['1600-01-01 00:00:00.5', '2024-07-01', 'infinity']::timestamp[]",
        "select array[array_fill(1, array[2, 2, 2, 2, 2])]",
    ],
)
async def test_rows_are_what_the_session_lane_makes_of_them(connection: asyncpg.Connection[Any], sql: str) -> None:
    await assert_same_as_the_session_lane(connection, sql)


async def test_a_void_is_none(connection: asyncpg.Connection[Any]) -> None:
    (row,) = await assert_same_as_the_session_lane(connection, "select pg_sleep(0) as v")
    assert row["v"] is None
    assert transcoded(quick(2278), row_of(b"")) == transcoded(quick(2278), row_of(None)) == [b"\x91\xc0"]


@pytest.mark.parametrize("count", [1, 2, 14, 15, 16, 17, 63, 64, 65, 1600])
async def test_a_row_may_have_any_number_of_columns(connection: asyncpg.Connection[Any], count: int) -> None:
    kinds = ["{}::int", "null::int", "'{}'::text", "{} % 2 = 0", "{}::numeric"]
    columns = [kinds[at % (5 if count < 500 else 1)].format(at) for at in range(count)]
    await assert_same_as_the_session_lane(connection, f"select {', '.join(columns)} from generate_series(1, 2)")


@pytest.mark.parametrize(
    "expression",
    [
        "date '0044-03-15 BC'",
        "date '4713-01-01 BC'",
        "date '10000-01-01'",
        "date '5874897-12-31'",
        "timestamp '0001-12-31 23:59:59.999999 BC'",
        "timestamp '4713-01-01 BC'",
        "timestamp '10000-01-01'",
        "timestamp '294276-12-31'",
        "timestamptz '0001-12-31 23:59:59.999999 UTC BC'",
        "timestamptz '10000-01-01 UTC'",
        "timestamptz '294276-12-31 UTC'",
        "array[date '2024-01-01', '10000-01-01']",
        "array[timestamp '0044-03-15 BC']",
        "array[timestamptz '10000-01-01 UTC']",
    ],
)
async def test_a_date_that_python_does_not_have_is_asyncpgs_error(
    connection: asyncpg.Connection[Any], expression: str
) -> None:
    sql = f"select 1 as n, {expression} as v"
    with pytest.raises((ValueError, OverflowError)) as theirs:
        await connection.fetch(sql)
    types = tuple(kind for kind in await types_of(connection, sql) if kind is not None)
    with pytest.raises(theirs.type) as ours:
        transcoded(types, await sent(connection, sql, types))
    assert (ours.type, str(ours.value)) == (theirs.type, str(theirs.value))


# -- by hand --------------------------------------------------------------------------------------------------------

INT, TEXT, BOOL, JSONB, VOID, INTS, DATE, TIMESTAMPTZ, UUID_, TIMESTAMP = (
    23,
    25,
    16,
    3802,
    2278,
    1007,
    1082,
    1184,
    2950,
    1114,
)
ONE = b"\0\0\0\1"


def array(*words: int, data: bytes = b"") -> bytes:
    return struct.pack(f">{len(words)}i", *words) + data


DOUBTS: dict[str, tuple[tuple[int, ...], bytes]] = {
    "too few columns": ((INT, INT), row_of(ONE)),
    "too many columns": ((INT,), row_of(ONE, ONE)),
    "columns where there are none": ((), row_of(ONE)),
    "no columns": ((INT,), row_of()),
    "more columns announced than there are": ((INT, INT), data_row(b"\0\2" + b"\0\0\0\4" + ONE)),
    "more bytes than columns": ((INT,), data_row(b"\0\1" + b"\0\0\0\4" + ONE + b"\0")),
    "bytes where there are no columns": ((), data_row(b"\0\0\0")),
    "a length cut short": ((INT, INT), data_row(b"\0\2" + b"\0\0\0\4" + ONE + b"\0\0")),
    "a text longer than its row": ((TEXT,), data_row(b"\0\1" + b"\0\0\0\5" + b"abcd")),
    "a negative length": ((TEXT,), data_row(b"\0\1" + b"\xff\xff\xff\xfe" + b"abcd")),
    "a text's length into the next row": ((TEXT,), data_row(b"\0\1" + b"\0\0\0\x0f") + row_of(b"abcd")),
    "an int of two bytes": ((INT,), row_of(b"\0\1")),
    "an int of eight bytes": ((INT, TEXT), row_of(bytes(8), b"")),
    "a uuid of four bytes": ((UUID_,), row_of(ONE)),
    "a date of eight bytes": ((DATE,), row_of(bytes(8))),
    "a moment of four bytes": ((TIMESTAMPTZ,), row_of(ONE)),
    "a moment of no bytes": ((TIMESTAMP,), row_of(b"")),
    "a bool that is two": ((BOOL,), row_of(b"\2")),
    "a bool of two bytes": ((BOOL,), row_of(b"\0\1")),
    "a bool of no bytes": ((BOOL,), row_of(b"")),
    "a jsonb of version 2": ((JSONB,), row_of(b"\2{}")),
    "a jsonb of no version": ((JSONB,), row_of(b"")),
    "a void with something in it": ((VOID,), row_of(b"x")),
    "a message shorter than any row": ((INT,), b"D\0\0\0\5\0"),
    "a message of negative length": ((INT,), b"D\xff\xff\xff\xff" + bytes(20)),
    "an array without a header": ((INTS,), row_of(array(1, 0))),
    "an array of 7 dimensions": ((INTS,), row_of(array(7, 0, 23, *([1, 1] * 7), 4, 1))),
    "an array of -1 dimensions": ((INTS,), row_of(array(-1, 0, 23))),
    "an array with flag 2": ((INTS,), row_of(array(1, 2, 23, 1, 1, 4, 1))),
    "an array without its dimension": ((INTS,), row_of(array(1, 0, 23))),
    "an array of size -1": ((INTS,), row_of(array(1, 0, 23, -1, 1))),
    "an array of size -1 x -1": ((INTS,), row_of(array(2, 0, 23, -1, 1, -1, 1, 4, 1))),
    "an array of fewer elements": ((INTS,), row_of(array(1, 0, 23, 2, 1, 4, 1))),
    "an array of more elements": ((INTS,), row_of(array(1, 0, 23, 1, 1, 4, 1, 4, 2))),
    "an array of huge size": ((INTS,), row_of(array(2, 0, 23, 2**31 - 1, 1, 2**31 - 1, 1))),
    "an array of no dimensions and elements": ((INTS,), row_of(array(0, 0, 23, 4, 1))),
    "an element of two bytes": ((INTS,), row_of(array(1, 0, 23, 1, 1, data=b"\0\0\0\2\0\1"))),
    "an element longer than its array": ((INTS,), row_of(array(1, 0, 23, 1, 1, 9, 1))),
}


@pytest.mark.parametrize("what", DOUBTS)
def test_a_row_that_breaks_the_grammar_is_doubted(what: str) -> None:
    oids, data = DOUBTS[what]
    for behind in (b"", COMPLETE, row_of(ONE) * 20):
        for wide in (0, 70):  # the generated way, and the one for wide rows
            if wide and what in ("columns where there are none", "bytes where there are no columns"):
                continue
            buffer = data + behind
            with pytest.raises(Doubt):
                row_transcoder(quick(*oids, *[INT] * wide))(buffer, 0, len(buffer), [])


def test_the_rows_before_a_doubtful_one_are_there() -> None:
    out: list[bytes] = []
    data = row_of(ONE) * 3 + row_of(ONE, ONE)
    with pytest.raises(Doubt):
        row_transcoder(quick(INT))(data, 0, len(data), out)
    assert out == [b"\x91\xd2\0\0\0\1"] * 3


def test_text_is_not_looked_at() -> None:
    rows = transcoded(quick(INT, TEXT), row_of(ONE, b"\xff"))
    with pytest.raises(ProtocolError, match="cannot be decoded: 'utf-8' codec"):
        decoded(columns_for(quick(INT, TEXT)), rows)


@pytest.mark.parametrize("message", [b"C", b"E", b"N", b"Z", b"T", b"n"])
def test_it_stops_at_another_message(message: bytes) -> None:
    data = row_of(ONE) * 2
    for behind in (message, message + b"\0\0\0\4", message + row_of(ONE)[1:] * 5):
        out: list[bytes] = []
        assert row_transcoder(quick(INT))(data + behind, 0, len(data + behind), out) == len(data)
        assert len(out) == 2


def test_the_end_of_what_has_come_may_be_before_the_end_of_the_buffer() -> None:
    data = row_of(ONE) * 3
    for end in range(len(data) + 1):
        out: list[bytes] = []
        whole = end // len(row_of(ONE))
        assert row_transcoder(quick(INT))(data, 0, end, out) == whole * len(row_of(ONE))
        assert len(out) == whole


def test_a_function_is_made_once_for_its_types() -> None:
    assert row_transcoder(quick(INT, TEXT)) is row_transcoder(quick(INT, TEXT))


# -- any row --------------------------------------------------------------------------------------------------------

NAIVE = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda moment: moment.replace(fold=0))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "oid": st.integers(0, 2**32 - 1),
    "float4": st.floats(width=32),
    "float8": st.floats(),
    "numeric": st.decimals(-(10**20), 10**20, places=2),
    "text": st.text(),
    "varchar": st.text(min_size=30, max_size=300),
    "jsonb": st.text(),
    "bytea": st.binary(),
    "uuid": st.uuids(),
    "date": st.dates(date(1, 1, 2), date(9999, 12, 30)),
    "timestamp": NAIVE,
    "timestamptz": NAIVE.map(lambda moment: moment.replace(tzinfo=UTC)),
}
TYPES = {kind.name: kind for oid in range(16384) if (kind := BUILTIN.get(oid)) and kind.argument}
NAMES = [*VALUES, *(f"{name}[]" for name in VALUES if name != "numeric")]


def a_value(name: str) -> st.SearchStrategy[Any]:
    element = name.removesuffix("[]")
    return VALUES[name] if element == name else st.lists(st.none() | VALUES[element], max_size=20)


@st.composite
def results(draw: st.DrawFn) -> tuple[tuple[QuickType, ...], list[tuple[Any, ...]], list[bytes]]:
    """Types, rows of such values, and the rows' DataRows: a Bind message's parameters are what a row has in it."""
    names = draw(st.lists(st.sampled_from(NAMES), max_size=8))
    nullable = draw(st.booleans())
    types = tuple(TYPES[name] for name in names)
    row = st.tuples(*(a_value(name) | st.none() if nullable else a_value(name) for name in names))
    rows = draw(st.lists(row, max_size=4))
    encode = argument_encoder(types)
    return types, rows, [data_row(encode([as_argument(value) for value in values])) for values in rows]


def as_argument(value: Any) -> Any:
    if isinstance(value, list):
        return [as_argument(each) for each in value]
    return WorkerDatetime.of(value) if isinstance(value, datetime) and value.tzinfo is None else value


@given(results())
def test_any_rows_come_as_the_session_lane_has_them(
    given: tuple[tuple[QuickType, ...], list[tuple[Any, ...]], list[bytes]],
) -> None:
    types, rows, messages = given
    columns = columns_for(types)
    ours = decoded(columns, transcoded(types, b"".join(messages)))
    assert portraits(ours) == portraits(RowDecoder(columns).decode(RowEncoder(columns).encode(rows)))
    assert [portrait(tuple(row)) for row in ours] == portraits(rows)


@given(results())
def test_rows_in_pieces_come_as_they_become_whole(
    given: tuple[tuple[QuickType, ...], list[tuple[Any, ...]], list[bytes]],
) -> None:
    types, _, messages = given
    data = b"".join(messages) + COMPLETE
    ends = [sum(map(len, messages[:count])) for count in range(len(messages) + 1)]
    transcode = row_transcoder(types)
    whole: list[bytes] = []
    assert transcode(data, 0, len(data), whole) == ends[-1]
    for cut in range(len(data)):
        out: list[bytes] = []
        at = transcode(data[:cut], 0, cut, out)
        assert at == max(end for end in ends if end <= cut)
        assert out == whole[: ends.index(at)] if len(set(ends)) == len(ends) else True
        assert transcode(data, at, len(data), out) == ends[-1]
        assert out == whole


@given(results(), st.data())
def test_broken_rows_are_rows_or_doubted(
    given: tuple[tuple[QuickType, ...], list[tuple[Any, ...]], list[bytes]], data: st.DataObject
) -> None:
    types, _, messages = given
    broken = bytearray(b"".join(messages) + COMPLETE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    out: list[bytes] = []
    with suppress(Doubt, ValueError, OverflowError):
        assert 0 <= row_transcoder(types)(bytes(broken), 0, len(broken), out) <= len(broken)
    for row in out:
        with suppress(ProtocolError):  # text that is none, or no number
            (record,) = decoded(columns_for(types), [row])
            assert len(record) == len(types)


def test_every_quick_type_is_tried_above() -> None:
    missing = {kind.wire for kind in TYPES.values()} - {TYPES[name].wire for name in NAMES}
    assert missing == set()
    assert {Wire.VOID, *(kind.wire for kind in TYPES.values())} == set(Wire)


def test_a_row_is_small_msgpack_of_the_kinds_that_a_shape_names() -> None:
    types = quick(INT, TEXT, BOOL, UUID_, 1700, TIMESTAMPTZ)
    now = datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC)
    body = argument_encoder(types)([7, "Ada", True, UUID(int=5), Decimal("1.50"), now])
    (row,) = transcoded(types, data_row(body))
    assert msgspec.msgpack.decode(row) == [7, "Ada", True, UUID(int=5).bytes, "1.50", now]
