"""What is encoded is given to PostgreSQL, by COPY's binary format, whose fields are those of a Bind message; what it
stored is compared with what it stored of the same value from asyncpg."""

from __future__ import annotations

import enum
import math
import struct
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgactor.actors.arguments import NotQuick, argument_encoder, formats
from pgactor.actors.quicktypes import LOOKUP, QuickType, QuickTypes
from pgactor.values import WorkerDate, WorkerDatetime, pack_args, unpack
from tests.integration.test_values_against_asyncpg import ARGUMENTS, SCHEMA, local_time_zone

BUILTIN = QuickTypes()
TYPES = {kind.name: kind for oid in range(16384) if (kind := BUILTIN.get(oid)) and kind.argument}


class Size(enum.IntEnum):
    TWO = 2


class Text(str):
    __slots__ = ()


NEW_YORK = timezone(timedelta(hours=-5))
ODD = timezone(timedelta(hours=1, minutes=2, seconds=3, microseconds=4))

SAME: list[tuple[str, Any]] = [
    *(("bool", value) for value in (True, False)),
    *(("int2", value) for value in (0, -(2**15), 2**15 - 1)),
    *(("int4", value) for value in (0, -1, -(2**31), 2**31 - 1)),
    *(("int8", value) for value in (0, -(2**63), 2**63 - 1)),
    *(("oid", value) for value in (0, 2**32 - 1)),
    *(("float4", value) for value in (0.0, -0.0, 1.1, 3.4028234e38, 1e-45, 1e-60, math.inf, -math.inf, math.nan)),
    *(("float8", value) for value in (0.0, -0.0, 1.1, 1.7976931348623157e308, 5e-324, math.inf, -math.inf, math.nan)),
    *(("numeric", Decimal(text)) for text in ("0", "-0.00", "1.50", "1E+5", "12E+10", "0E+5", "0E-10", "1E-10")),
    *(("numeric", Decimal(text)) for text in ("1E+500", "1E-500", "123456789.123456789", "9" * 500, "-1.5E+30")),
    *((name, text) for name in ("text", "varchar", "bpchar", "name") for text in ("", "Ada", "naïve 😀")),
    ("text", "x" * 100_000),
    *((name, text) for name in ("json", "jsonb") for text in ("null", '{"a": [1, 2.50, "é"]}')),
    *(("bytea", value) for value in (b"", b"\0\xff", bytes(1000))),
    ("uuid", UUID("12345678-1234-5678-1234-567812345678")),
    *(("date", value) for value in (date(1, 1, 2), date(1999, 12, 31), date(2024, 2, 29), date(9999, 12, 30))),
    *(("timestamptz", datetime(2024, 7, 1, 12, 30, 1, 7, tzinfo=zone)) for zone in (UTC, NEW_YORK, ODD)),
    *(("timestamptz", datetime(1, 1, 2, tzinfo=zone)) for zone in (UTC, NEW_YORK, ODD)),
    ("timestamptz", datetime(9999, 12, 31, 23, 59, 59, 999998, tzinfo=UTC)),
    *((name, datetime(2024, 7, 1, 12, 30, 1, 7)) for name in ("timestamp", "timestamptz")),
    *((name, datetime(2024, 3, 31, 2, 30)) for name in ("timestamp", "timestamptz")),
    *((name, datetime(2024, 10, 27, 2, 30, fold=1)) for name in ("timestamp", "timestamptz")),
    *((name, datetime(1890, 1, 1)) for name in ("timestamp", "timestamptz")),
    ("timestamp", datetime(1, 1, 1, 0, 0, 0, 1)),
    ("timestamp", datetime(9999, 12, 31, 23, 59, 59, 999998)),
    *((f"{name}[]", []) for name in ("int4", "text", "jsonb", "timestamptz")),
    *((f"{name}[]", [None]) for name in ("bool", "int4", "text", "uuid")),
    ("bool[]", [True, None, False]),
    ("int2[]", [1, -1]),
    ("int4[]", [7]),
    ("int4[]", list(range(300))),
    ("int8[]", [2**63 - 1, None, -(2**63)]),
    ("oid[]", [0, 2**32 - 1]),
    ("float4[]", [1.1, None, math.nan]),
    ("float8[]", [1.1, -math.inf]),
    ("text[]", ["", "NULL", None, 'a"b\\c,{}', "é"]),
    ("varchar[]", ["a"]),
    ("json[]", ["{}", None]),
    ("jsonb[]", ['{"a":  1}', None]),
    ("bytea[]", [b"", b"\0", None]),
    ("uuid[]", [UUID(int=0), None]),
    ("date[]", [date(2024, 2, 29), None]),
    ("timestamp[]", [datetime(2024, 2, 29, 1), None]),
    ("timestamptz[]", [datetime(2024, 2, 29, 1), None, datetime(2024, 2, 29, tzinfo=ODD)]),
    ("pg_temp.mood", "sad"),
    ("pg_temp.mood[]", ["sad", None, "happy"]),
]

NO_INTS: list[Any] = [(1, 2), {1}, [1.0], [True], [1, "2"], [[1], [2]], [[]], [2**31], "x", 1, b"x"]
NOT_QUICK: list[tuple[str, Any]] = [
    *(("bool", value) for value in (1, 0, "true", 1.0)),
    *(("int2", value) for value in (2**15, -(2**15) - 1, True, 1.0, "1", Size.TWO, Decimal(1))),
    *(("int4", value) for value in (2**31, -(2**31) - 1, 2**70, True, 1.0, "1", Size.TWO)),
    *(("int8", value) for value in (2**63, -(2**63) - 1, 2**70, True, 1.0)),
    *(("oid", value) for value in (-1, 2**32, False)),
    *(("float4", value) for value in (1, "1", Decimal(1), 3.5e38, -1e300)),
    *(("float8", value) for value in (1, "1", Decimal(1), True)),
    *(("numeric", value) for value in (1, 1.5, "1.5", Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"))),
    *(("numeric", Decimal(text)) for text in ("1E+1001", "1E-20000", "1E+999999", "0E+200000", "9" * 1001)),
    *((name, wrong) for name in ("text", "json", "jsonb", "name") for wrong in (1, b"x", "\ud800", Text("x"), ["x"])),
    *(("bytea", value) for value in ("x", bytearray(b"x"), memoryview(b"x"), [1])),
    *(("uuid", value) for value in ("12345678-1234-5678-1234-567812345678", 5, bytes(16))),
    ("uuid", asyncpg.pgproto.pgproto.UUID(bytes(16))),
    *(("date", value) for value in (date.min, date.max, datetime(2024, 1, 1), "2024-01-01")),
    *(("timestamp", value) for value in (date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01", 5)),
    *(("timestamptz", value) for value in (date(2024, 1, 1), "2024-01-01", 5)),
    *((name, WorkerDate.of(date(2024, 1, 1), timedelta())) for name in ("timestamp", "timestamptz", "text", "int4")),
    *(("date", WorkerDate.of(value, timedelta())) for value in (date.min, date.max)),
    *(
        (name, WorkerDatetime.of(value))
        for name in ("timestamp", "timestamptz")
        for value in (datetime.min, datetime.max)
    ),
    ("timestamptz", WorkerDatetime.of(datetime(2024, 1, 1))),  # it has no offset
    ("timestamptz", WorkerDatetime.of(datetime.max.replace(tzinfo=NEW_YORK))),
    ("timestamptz", datetime.max.replace(tzinfo=UTC)),
    ("timestamptz", datetime.min.replace(tzinfo=UTC)),
    ("timestamptz", datetime.max.replace(tzinfo=NEW_YORK)),
    ("timestamptz", datetime.min.replace(tzinfo=ODD)),
    *((name, datetime(2024, 1, 1)) for name in ("timestamp", "timestamptz")),  # naive, and of no worker
    *(("int4[]", value) for value in NO_INTS),
    *(("float8[]", value) for value in ([1], [1.0, 1], [True])),
    *(("text[]", value) for value in (("a",), [1], ["\ud800"], [["a"]], "abc")),
    ("float4[]", [1.0, 1e39]),
    ("date[]", [date.max]),
    ("timestamptz[]", [datetime(2024, 1, 1)]),
]


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        yield connection
    finally:
        await connection.close()


async def type_of(connection: asyncpg.Connection[Any], name: str) -> QuickType | None:
    known = QuickTypes()
    oid = (await connection.prepare(f"select $1::{name}")).get_parameters()[0].oid
    for row in await connection.fetch(LOOKUP, known.unknown([oid])):
        known.learn(*row)
    kind = known.get(oid)
    return kind if kind is not None and kind.argument else None


def received(value: Any) -> Any:
    """A value as it comes out of a worker's message."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(pack_args([value])), ext_hook=unpack)[0]


async def assert_stored_alike(connection: asyncpg.Connection[Any], name: str, kind: QuickType, value: Any) -> None:
    """What our encoding of it stores is what asyncpg's does."""
    await connection.execute(f"create temp table stored (v {name})")
    await connection.execute("insert into stored values ($1)", value)
    encoded = argument_encoder((kind,))([value])
    assert encoded[:2] == b"\0\1"
    if kind.format == 0:
        text = None if value is None else encoded[6:].decode()
        await connection.execute("insert into stored values ($1::text::numeric)", text)
    else:
        data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + encoded + b"\xff\xff"
        await connection.copy_to_table("stored", source=BytesIO(data), format="binary", schema_name="pg_temp")
    send = await connection.fetchval("select typsend::text from pg_type where oid = $1", kind.oid)
    theirs, ours = await connection.fetch(f"select v is null, {send}(v), v::text from stored")
    assert tuple(ours) == tuple(theirs)


@pytest.mark.parametrize(("name", "value"), SAME, ids=lambda value: repr(value)[:40])
async def test_a_quick_argument_stores_what_asyncpg_stores(
    connection: asyncpg.Connection[Any], name: str, value: Any
) -> None:
    kind = await type_of(connection, name)
    assert kind is not None
    with local_time_zone("Europe/Berlin"):
        await assert_stored_alike(connection, name, kind, received(value))


@pytest.mark.parametrize(("name", "value"), ARGUMENTS)
async def test_any_other_argument_stores_what_asyncpg_stores_or_is_not_quick(
    connection: asyncpg.Connection[Any], name: str, value: Any
) -> None:
    kind = await type_of(connection, name)
    if kind is None:
        pytest.skip("not quick")
    value = received(value)
    try:
        argument_encoder((kind,))([value])
    except NotQuick:
        return
    if name == "pg_temp.mood" and value == "angry":
        pytest.skip("PostgreSQL refuses it, on either way")
    await assert_stored_alike(connection, name, kind, value)


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
async def test_none_is_null(connection: asyncpg.Connection[Any], kind: QuickType) -> None:
    await assert_stored_alike(connection, kind.name, kind, None)
    assert argument_encoder((kind, kind))([None, None]) == b"\0\2" + b"\xff" * 8


@pytest.mark.parametrize("day", [date(1, 1, 2), date(2024, 2, 29), date(9999, 12, 30)])
def test_a_date_is_quick_whether_it_brings_the_workers_offset_or_not(day: date) -> None:
    encode = argument_encoder((TYPES["date"], TYPES["date[]"]))
    worker_date = WorkerDate.of(day, timedelta(hours=5))
    assert encode([day, [day]]) == encode([worker_date, [worker_date]])


@pytest.mark.parametrize(("name", "value"), NOT_QUICK)
def test_another_argument_is_not_quick(name: str, value: Any) -> None:
    for types, args in (
        ([name], [value]),
        ([name, "int4"], [value, None]),  # one by one
        (["text", name], ["x", value]),
        ([name] + ["int4"] * 70, [value] + [1] * 70),  # not generated
    ):
        with pytest.raises(NotQuick):
            argument_encoder(tuple(TYPES[each] for each in types))(args)


@pytest.mark.parametrize("count", [0, 1, 2, 64, 65])
def test_another_number_of_arguments_is_not_quick(count: int) -> None:
    encode = argument_encoder((TYPES["int4"],) * count)
    assert encode([1] * count) == struct.pack(">H", count) + b"\0\0\0\4\0\0\0\1" * count
    assert encode((1,) * count) == encode([1] * count)
    for other in {count - 1, count + 1, 0} - {count, -1}:
        with pytest.raises(NotQuick):
            encode([1] * other)
        with pytest.raises(NotQuick):
            encode([None] * other)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "float8": st.floats(),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False),
    "text": st.text(),
    "jsonb": st.text(),
    "bytea": st.binary(),
    "uuid": st.uuids(),
    "date": st.dates(),
    "timestamptz": st.datetimes(timezones=st.sampled_from([UTC, NEW_YORK, ODD])),
    "int4[]": st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)),
    "text[]": st.lists(st.none() | st.text()),
}


@given(st.lists(st.sampled_from(sorted(VALUES)), max_size=6), st.data())
def test_arguments_together_are_encoded_as_each_alone(names: list[str], data: st.DataObject) -> None:
    nullable = data.draw(st.booleans())
    args = [data.draw(VALUES[name] | st.none() if nullable else VALUES[name]) for name in names]
    kinds = tuple(TYPES[name] for name in names)
    try:
        alone = [argument_encoder((kind,))([arg])[2:] for kind, arg in zip(kinds, args, strict=True)]
    except NotQuick:
        with pytest.raises(NotQuick):
            argument_encoder(kinds)(args)
        return
    assert argument_encoder(kinds)(args) == struct.pack(">H", len(kinds)) + b"".join(alone)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.datetimes().map(WorkerDatetime.of)
    | st.times()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner),
)


@given(st.sampled_from(list(TYPES.values())), ANYTHING)
def test_anything_is_encoded_or_not_quick(kind: QuickType, value: Any) -> None:
    try:
        encoded = argument_encoder((kind,))([value])
    except NotQuick:
        return
    assert struct.unpack_from(">i", encoded, 2)[0] == (-1 if value is None else len(encoded) - 6)


def test_an_encoder_is_made_once_for_its_types() -> None:
    kinds = (TYPES["int4"], TYPES["text"])
    assert argument_encoder(kinds) is argument_encoder((TYPES["int4"], TYPES["text"]))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], b"\0\0"),
        (["int4"], b"\0\1\0\1"),
        (["int4", "text", "int4[]"], b"\0\1\0\1"),
        (["numeric"], b"\0\1\0\0"),
        (["numeric", "numeric"], b"\0\1\0\0"),
        (["int4", "numeric", "text"], b"\0\3\0\1\0\0\0\1"),
    ],
)
def test_formats_say_which_values_are_text(names: list[str], expected: bytes) -> None:
    assert formats([TYPES[name] for name in names]) == expected
