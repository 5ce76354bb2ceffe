from __future__ import annotations

import enum
import math
import os
import subprocess
import sys
import time as clock
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import asyncpg.pgproto.pgproto
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgactor.errors import UnsupportedType
from pgactor.records import Record, WorkerRecord, record
from pgactor.values import ExtCode, WorkerDate, WorkerDatetime, pack_args, pack_argument, pack_result, unpack

ODD: Any = object()
"""What nobody can take for a value."""

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.Decoder(ext_hook=unpack).decode


def portrait(value: Any) -> Any:
    """All of a value that must survive: its type, its text, and those of all in it."""
    if isinstance(value, list | tuple):
        return type(value), tuple(portrait(element) for element in value)
    if isinstance(value, set | frozenset):
        return type(value), frozenset(portrait(element) for element in value)
    if isinstance(value, WorkerDate):
        return date, repr(value)
    if isinstance(value, dict):
        return dict, tuple((portrait(key), portrait(element)) for key, element in value.items())
    if isinstance(value, asyncpg.Path):
        return type(value), value.is_closed, portrait(value.points)
    if isinstance(value, asyncpg.Range):
        bounds = portrait((value.lower, value.upper))
        return asyncpg.Range, bounds, value.lower_inc, value.upper_inc, value.isempty
    return type(value), repr(value)


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


def unfolded(value: Any) -> Any:
    """Which of two equal wall clock times is meant, the offset tells once a value is on its way."""
    return value.replace(fold=0)


offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)  # a signalling NaN has no hash; the quiet one is below
    | st.dates()
    | st.times().map(unfolded)
    | st.times(timezones=offsets).map(unfolded)
    | st.datetimes(timezones=offsets).map(unfolded)
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.ip_addresses().map(ip_network)
    | st.ip_addresses().map(ip_interface)
)
hashables = st.recursive(scalars, lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner), max_leaves=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(hashables)
        | st.frozensets(hashables)
        | st.dictionaries(hashables, inner)
        | st.builds(asyncpg.Range, inner, inner, lower_inc=st.booleans(), upper_inc=st.booleans())
    ),
    max_leaves=10,
)


@given(values)
def test_any_value_comes_back_the_same_from_either_way_in(value: Any) -> None:
    assert portrait(decode(encode(pack_argument(value)))) == portrait(value)
    assert portrait(decode(encode(pack_result(value)))) == portrait(value)


@given(st.datetimes().map(unfolded))
def test_a_naive_datetime_in_a_result_is_a_plain_naive_datetime(value: datetime) -> None:
    assert portrait(decode(encode(pack_result(value)))) == portrait(value)


@pytest.mark.parametrize(
    "value",
    [
        -(1 << 63) - 1,
        -(1 << 63),
        (1 << 64) - 1,
        1 << 64,
        -(10**5000),
        Decimal("1.10"),
        Decimal("1E+100"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        Decimal("-0"),
        time(1, 2, 3, 4, timezone(timedelta(hours=1, minutes=2, seconds=3, microseconds=4))),
        date.max,
        datetime.max.replace(tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(-timedelta(hours=3, seconds=7))),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
        time(1, tzinfo=timezone(-timedelta(microseconds=300_000))),
        timedelta.max,
        timedelta.min,
        UUID(int=5),
        ip_address("fe80::1%eth0"),
        ip_interface("10.0.0.7/8"),
        ip_network("::/0"),
        (),
        (1, [2, (3, {4})]),
        frozenset({(1, 2)}),
        {},
        {"a": {1: [None]}, (1, 2): "x"},
        asyncpg.Range(),
        asyncpg.Range(empty=True),
        asyncpg.Range(Decimal("1.10"), None, lower_inc=False),
        [asyncpg.Range(1, 2), asyncpg.Range(datetime(2024, 1, 1, tzinfo=UTC), upper_inc=True)],
        asyncpg.BitString(),
        asyncpg.BitString.from_int(5, 3),
        asyncpg.BitString.from_int(5, 17),
        asyncpg.Point(1, math.nan),
        asyncpg.Box(asyncpg.Point(3, 4), asyncpg.Point(1, 2)),
        asyncpg.Line(1, 2.5, Decimal(3)),  # type: ignore[arg-type]  # it takes anything
        asyncpg.LineSegment((1, 2), (3, 4)),
        asyncpg.Path((1, 2), (3, 4)),
        asyncpg.Path((1, 2), (3, 4), is_closed=True),
        asyncpg.Polygon((1, 2), (3, 4)),
        asyncpg.Circle(asyncpg.Point(1, 2), 3),
        asyncpg.Circle((1, 2), 3),  # type: ignore[arg-type]  # as asyncpg itself does
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_at_the_edges_come_back_the_same(value: Any) -> None:
    for pack in (pack_argument, pack_result):
        back = decode(encode(pack(value)))
        # The text of so long an integer is not to be had.
        assert back == value if isinstance(value, int) else portrait(back) == portrait(value)


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    ONE = "one"


class Number(enum.IntEnum):
    ONE = 1


class Shout(str):
    def __str__(self) -> str:
        return self.upper()


Pair = namedtuple("Pair", ["left", "right"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Word.ONE, "one"),
        (Number.ONE, 1),
        (Shout("hush"), "hush"),
        (type("Metres", (float,), {})(1.5), 1.5),
        (type("Money", (Decimal,), {})("1.50"), Decimal("1.50")),
        (type("Moment", (datetime,), {})(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        (type("Id", (UUID,), {})(int=5), UUID(int=5)),
        (asyncpg.pgproto.pgproto.UUID(UUID(int=5).hex), UUID(int=5)),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (Pair(1, Word.ONE), (1, "one")),
        ([Word.ONE, bytearray(b"x")], ["one", b"x"]),
        (type("Ids", (list,), {})([1, 2]), [1, 2]),
        (time(1, 2, tzinfo=ZoneInfo("Europe/Berlin")), time(1, 2)),
    ],
)
def test_a_subclass_crosses_as_what_asyncpg_takes_it_for(value: Any, expected: Any) -> None:
    assert portrait(decode(encode(pack_argument(value)))) == portrait(expected)


class NotATime(datetime):
    """As pandas' NaT: an instance of datetime that is no moment."""

    def date(self) -> date:
        raise ValueError("NaTType does not support date")


class Without:
    """As one of numpy's arrays without a dimension."""

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")

    def __iter__(self) -> Iterator[int]:
        raise TypeError("iteration over a 0-d array")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Colour.RED, "Colour"),
        (object(), "builtins.object"),
        (NotATime(1, 1, 1), "NotATime"),
        (asyncpg.Range(ODD), "builtins.object"),
        ((n for n in [1]), "builtins.generator"),
        (1j, "builtins.complex"),
        (Without(), "Without"),
        (Fraction(1, 3), r"Fraction\(1, 3\) is no float and no Decimal"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unsupported_type_is_named_wherever_it_stands(value: object, name: str) -> None:
    for pack in (pack_argument, pack_result):
        for place in (value, [1, value], ("x", [value]), {"a": value}):
            with pytest.raises(UnsupportedType, match=name):
                pack(place)


def test_an_enum_member_is_refused_with_advice() -> None:
    with pytest.raises(UnsupportedType, match=r"Colour does not cross \(give its \.value\)"):
        pack_argument(Colour.RED)


def test_the_error_says_which_argument_it_is() -> None:
    with pytest.raises(UnsupportedType, match=r"^query argument \$2: a value of type builtins\.object "):
        pack_args((1, asyncpg.Range(ODD), object()))


def test_plain_arguments_are_passed_as_they_are() -> None:
    args = (None, True, 1, 1.5, "x", b"y")
    assert pack_args(args) == list(args)
    assert pack_args(()) == []
    assert decode(encode(pack_args((1 << 64, "x", [1 << 70], [1, None])))) == [1 << 64, "x", [1 << 70], [1, None]]


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value in (loop, (loop,)):
        with pytest.raises(UnsupportedType, match="nested too deeply"):
            pack_argument(value)


# -- naive datetimes as arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(
    "moment",
    [
        datetime(2024, 1, 15, 12, 0, 0, 123456),
        datetime(2024, 7, 15, 12, 0),
        datetime(2024, 10, 27, 2, 30),  # happens twice in Berlin
        datetime(2024, 3, 31, 2, 30),  # never happens there
        datetime(1, 1, 2),
        datetime(1890, 1, 1),  # local mean time, with seconds
    ],
    ids=str,
)
def test_a_naive_argument_means_the_workers_time_zone(moment: datetime, fold: int) -> None:
    moment = moment.replace(fold=fold)
    with local_time_zone("Europe/Berlin"):
        meant = moment.astimezone(UTC)
        data = encode(pack_argument([moment]))
    with local_time_zone("America/New_York"):
        (got,) = decode(data)
        assert got.astimezone(UTC) == meant
        assert got.astimezone() == meant


def test_a_naive_argument_looks_like_any_naive_datetime() -> None:
    moment = datetime(2024, 1, 15, 12, 0, 0, 123456)
    got = decode(encode(pack_argument(moment)))
    assert isinstance(got, WorkerDatetime)
    assert (repr(got), str(got), got, got.tzinfo) == (repr(moment), str(moment), moment, None)
    assert type(got).__name__ == "datetime"
    assert got.replace(tzinfo=UTC).astimezone(UTC) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_infinities_cross_from_any_time_zone(moment: datetime, zone: str) -> None:
    with local_time_zone(zone):
        assert decode(encode(pack_argument(moment))) == moment


# -- dates and rows as arguments -------------------------------------------------------------------------------


def test_a_date_as_an_argument_means_midnight_in_the_workers_time_zone() -> None:
    day = date(2024, 7, 1)
    with local_time_zone("Asia/Kolkata"):
        got = decode(encode(pack_argument(day)))
    assert isinstance(got, WorkerDate)
    with local_time_zone("America/New_York"):
        assert got.astimezone(UTC) == datetime(2024, 6, 30, 18, 30, tzinfo=UTC)
    assert type(decode(encode(pack_result(day)))) is date


def test_a_date_as_an_argument_looks_like_any_date_and_like_no_datetime() -> None:
    day = date(2024, 7, 1)
    got: Any = decode(encode(pack_argument(day)))
    assert (repr(got), str(got), got.isoformat(), got.toordinal()) == (repr(day), str(day), str(day), day.toordinal())
    assert got == day
    assert got == decode(encode(pack_argument(day)))
    assert got != datetime(2024, 7, 1)
    assert {got: 1}[day] == 1
    assert (type(got).__name__, repr(type(got))) == ("date", "<class 'datetime.date'>")
    for name in ("hour", "minute", "second", "microsecond", "tzinfo", "fold", "days"):
        with pytest.raises(AttributeError, match=f"^'datetime.date' object has no attribute '{name}'$"):
            getattr(got, name)


def test_a_row_comes_out_as_a_record_of_a_result_and_as_no_tuple_of_an_argument() -> None:
    row = record(("a", "b", "a"), (1, Decimal("1.50"), None))
    back = decode(encode(pack_result([row])))
    assert portrait(back) == portrait([row])
    assert isinstance(back[0], Record)
    given: Any = decode(encode(pack_argument(row)))
    assert isinstance(given, WorkerRecord)
    assert not isinstance(given, tuple)
    assert (len(given), list(given), repr(given)) == (3, list(row), repr(row))
    assert (given["b"], given[0], given.get("x", 5), "a" in given) == (Decimal("1.50"), 1, 5, True)
    assert list(given.keys()) == ["a", "b", "a"]
    assert list(given.items()) == list(row.items())
    assert list(given.values()) == list(row)
    assert repr(type(given)) == "<class 'asyncpg.protocol.record.Record'>"


# -- whatever the bytes are ------------------------------------------------------------------------------------


@given(
    st.sampled_from(ExtCode) | st.integers(-128, 127), st.binary(max_size=40) | st.text(max_size=40).map(str.encode)
)
def test_malformed_data_gives_a_value_or_a_clean_error(code: int, data: bytes) -> None:
    with suppress(ValueError):
        unpack(int(code), memoryview(data))


@pytest.mark.parametrize(
    ("code", "data", "message"),
    [
        (99, b"", "unknown ext type 99"),
        (ExtCode.DECIMAL, b"one", "malformed DECIMAL"),
        (ExtCode.DATE, b"\xff", "malformed DATE"),
        (ExtCode.TIMEDELTA, b"\x7f" * 12, "malformed TIMEDELTA"),
        (ExtCode.TIMEDELTA, b"", "malformed TIMEDELTA"),
        (ExtCode.UUID, b"short", "malformed UUID"),
        (ExtCode.TUPLE, b"\x01", "malformed TUPLE"),
        (ExtCode.TUPLE, b"\xdd\xff\xff\xff\xff", "malformed TUPLE"),
        (ExtCode.SET, b"\x91\x90", "malformed SET: unhashable"),
        (ExtCode.IP_NETWORK, b"10.0.0.1/8", "malformed IP_NETWORK"),
        (ExtCode.DICT, b"\x91\x01", "malformed DICT"),
        (ExtCode.DICT, b"\x92\x90\x01", "malformed DICT: unhashable"),
        (ExtCode.RECORD, b"\x92\x91\xa1a\x90", "malformed RECORD: a record of 1 names and 0 values"),
        (ExtCode.RECORD, b"\x92\x91\x01\x91\x01", "malformed RECORD"),
        (ExtCode.WORKER_RECORD, b"\x91\x90", "malformed WORKER_RECORD"),
        (ExtCode.WORKER_DATE, b"2024-01-01", "malformed WORKER_DATE: no offset"),
        (ExtCode.WORKER_DATE, b"2024-02-30+00:00", "malformed WORKER_DATE"),
        (ExtCode.RANGE, b"\x93\x01\x02\xc3", "malformed RANGE"),
        (ExtCode.BIT_STRING, b"\x92\x20\xc4\x01\x00", "malformed BIT_STRING"),
        (ExtCode.POINT, b"\x91\x01", "malformed POINT"),
        (ExtCode.BOX, b"\x92\x01\x02", "malformed BOX"),
        (ExtCode.PATH, b"\x90", "malformed PATH"),
    ],
)
def test_malformed_data_is_named(code: int, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(encode(msgspec.msgpack.Ext(int(code), data)))


@pytest.mark.parametrize("code", [ExtCode.TUPLE, ExtCode.FROZENSET])
def test_a_value_nested_without_end_is_an_error_of_one_line(code: ExtCode) -> None:
    data = b"\x90"
    for _ in range(5000):
        data = b"\x91" + encode(msgspec.msgpack.Ext(int(code), data))
    with pytest.raises(ValueError, match=r"^values are nested too deeply$"):
        decode(data)
    with pytest.raises(ValueError, match=r"^values are nested too deeply$"):
        unpack(int(code), memoryview(b"\x91" * 100_000 + b"\xc0"))


def test_the_wire_numbers_never_change() -> None:
    assert {code.name: code.value for code in ExtCode} == {
        "INT": 1,
        "DECIMAL": 2,
        "DATE": 3,
        "TIME": 4,
        "DATETIME": 5,
        "WORKER_DATETIME": 6,
        "TIMEDELTA": 7,
        "UUID": 8,
        "TUPLE": 9,
        "SET": 10,
        "FROZENSET": 11,
        "IP_ADDRESS": 12,
        "IP_NETWORK": 13,
        "IP_INTERFACE": 14,
        "DICT": 15,
        "RECORD": 16,
        "WORKER_RECORD": 17,
        "WORKER_DATE": 18,
        "RANGE": 19,
        "BIT_STRING": 20,
        "POINT": 21,
        "BOX": 22,
        "LINE": 23,
        "LINE_SEGMENT": 24,
        "PATH": 25,
        "POLYGON": 26,
        "CIRCLE": 27,
        "CODED": 28,
    }


def test_importing_values_and_rows_is_cheap() -> None:
    code = "import sys, pgactor.values, pgactor.rows; print({'asyncpg', 'asyncio', 'zmq'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
