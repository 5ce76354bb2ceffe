"""One value of PostgreSQL's, by its bytes, as one value of msgpack's, by prefixes: what `RowEncoder` (rows.py) would
make of what asyncpg would make of it, but without making it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from math import prod
from struct import Struct
from typing import TypeAlias, cast

from ..values import ExtCode
from .quicktypes import QuickType, Wire

Convert: TypeAlias = Callable[[bytes], bytes]
"""A value without its length -> msgpack. Raises `Doubt`; for a date that Python does not have, ValueError or
OverflowError, as asyncpg does."""


class Doubt(Exception):
    """What came is not what PostgreSQL would send as a row of these types: whose rows are these?"""


NIL = b"\xc0"
BOOLS = (b"\xc2", b"\xc3")

# size, msgpack's prefix; the rest of the value stays as it is
SAME_BYTES = {
    Wire.INT2: (2, b"\xd1"),
    Wire.INT4: (4, b"\xd2"),
    Wire.INT8: (8, b"\xd3"),
    Wire.OID: (4, b"\xce"),
    Wire.FLOAT4: (4, b"\xca"),
    Wire.FLOAT8: (8, b"\xcb"),
    Wire.UUID: (16, b"\xc4\x10"),
}
# msgpack's prefix; the length and the rest stay as they are
SAME_LENGTH = {Wire.TEXT: b"\xdb", Wire.BYTES: b"\xc6"}

_int = Struct(">i")
_uint = Struct(">I")
_long = Struct(">q")
_dimensions = Struct(">ii4x")
str_header = Struct(">BI").pack
nanos_seconds = Struct(">Iq").pack

# --- dates: PostgreSQL counts days, and microseconds, from 2000 ------------------------------------------------

_EPOCH = datetime(2000, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
EPOCH_SECOND = 946684800
_MICROSECOND = timedelta(microseconds=1)
FIRST = (datetime.min - _EPOCH) // _MICROSECOND
LAST = (datetime.max - _EPOCH) // _MICROSECOND
_INFINITE_DAYS = {2**31 - 1: date.max, -(2**31): date.min}
_INFINITE = {2**63 - 1: datetime.max, -(2**63): datetime.min}


_MINUTES = [b"T%02d:%02d:" % divmod(minute, 60) for minute in range(24 * 60)]
_SECONDS = [b"%02d." % second for second in range(60)]
_THOUSANDTHS = [b"%03d" % number for number in range(1000)]


def timestamp(micros: int) -> bytes:
    """ISO 8601 text, of a moment between `FIRST` and `LAST`. By tables: datetime takes three times as long."""
    seconds, micros = divmod(micros, 1000000)
    days, seconds = divmod(seconds, 86400)
    minute, second = divmod(seconds, 60)
    millis, micros = divmod(micros, 1000)
    return b"".join(
        (b"\xba", _day(days), _MINUTES[minute], _SECONDS[second], _THOUSANDTHS[millis], _THOUSANDTHS[micros])
    )


def timestamptz(micros: int) -> bytes:
    """msgpack's timestamp, of a moment between `FIRST` and `LAST`."""
    return b"\xc7\x0c\xff" + nanos_seconds(micros % 1000000 * 1000, micros // 1000000 + EPOCH_SECOND)


@lru_cache(4096)
def _day(days: int) -> bytes:
    return (_INFINITE_DAYS.get(days) or date.fromordinal(days + _EPOCH_DAY)).isoformat().encode()


def _days(value: bytes) -> bytes:
    if len(value) != 4:
        raise Doubt("a date's length")
    return _day(*_int.unpack(value))


@lru_cache(4096)
def date_text(value: bytes) -> bytes:
    """The text of a date."""
    return b"\xaa" + _days(value)


def _micros(value: bytes) -> int:
    if len(value) != 8:
        raise Doubt("a timestamp's length")
    return cast(int, _long.unpack(value)[0])


def _moment(micros: int, epoch: datetime) -> datetime:
    # asyncpg's arithmetic: where that raises, this does, and the same. Its infinities are naive in either case.
    return _INFINITE.get(micros) or epoch + timedelta(0, *divmod(micros, 1000000))


def _any_moment(usual: Callable[[int], bytes]) -> Convert:
    def convert(value: bytes) -> bytes:
        micros = _micros(value)
        if FIRST <= micros <= LAST:
            return usual(micros)
        return b"\xba" + _moment(micros, _EPOCH).isoformat(timespec="microseconds").encode()

    return convert


def _moment_element(epoch: datetime) -> Convert:
    return lambda value: _ext(ExtCode.DATETIME, _moment(_micros(value), epoch).isoformat().encode())


def _ext(code: ExtCode, data: bytes) -> bytes:
    return bytes((0xC7, len(data), code)) + data


# --- value by value ------------------------------------------------------------------------------------------


def _with_prefix(size: int, prefix: bytes) -> Convert:
    def convert(value: bytes) -> bytes:
        if len(value) != size:
            raise Doubt(f"{len(value)} bytes instead of {size}")
        return prefix + value

    return convert


def _with_length(prefix: bytes) -> Convert:
    return lambda value: prefix + _uint.pack(len(value)) + value


def _bool(value: bytes) -> bytes:
    if value not in (b"\0", b"\1"):
        raise Doubt("a bool that is neither")
    return BOOLS[value[0]]


def numeric(value: bytes) -> bytes:
    """Decimal text, after its length.

    Of 120000 asyncpg makes Decimal("12E+4"), and so does this: the four zeros, which PostgreSQL does not store, go
    into the exponent, unless there are decimals. The numbers are equal, but they do not look the same.
    """
    if value.endswith(b"0000") and b"." not in value:
        zeros = (len(value) - len(value.rstrip(b"0"))) // 4 * 4
        value = b"%bE+%d" % (value[:-zeros], zeros)
    return _uint.pack(len(value)) + value


def _jsonb(value: bytes) -> bytes:
    if value[:1] != b"\1":
        raise Doubt("a jsonb of another version")
    return str_header(0xDB, len(value) - 1) + value[1:]


def _void(value: bytes) -> bytes:
    if value:
        raise Doubt("a void with something in it")
    return NIL


VALUES: dict[Wire, Convert] = {
    Wire.BOOL: _bool,
    **{wire: _with_prefix(size, prefix) for wire, (size, prefix) in SAME_BYTES.items()},
    **{wire: _with_length(prefix) for wire, prefix in SAME_LENGTH.items()},
    Wire.NUMERIC: lambda value: b"\xdb" + numeric(value),
    Wire.JSONB: _jsonb,
    Wire.DATE: date_text,
    Wire.TIMESTAMP: _any_moment(timestamp),
    Wire.TIMESTAMPTZ: _any_moment(timestamptz),
    Wire.VOID: _void,
}
# In an array the type travels with the value, as values.py's pack_result has it.
_ELEMENTS = VALUES | {
    Wire.DATE: lambda value: _ext(ExtCode.DATE, _days(value)),
    Wire.TIMESTAMP: _moment_element(_EPOCH),
    Wire.TIMESTAMPTZ: _moment_element(_EPOCH_UTC),
    Wire.UUID: _with_prefix(16, bytes((0xD8, ExtCode.UUID))),
}


def array_header(size: int) -> bytes:
    if size < 16:
        return bytes((0x90 | size,))
    return struct.pack(">BH", 0xDC, size) if size < 1 << 16 else struct.pack(">BI", 0xDD, size)


def _array(element: Convert) -> Convert:
    """Of any number of dimensions, as lists of lists. What it says of its elements' type is not looked at, just as
    asyncpg does not: a varchar[] that was cast to text[] goes on calling them varchar."""

    def convert(value: bytes) -> bytes:
        if len(value) < 12:
            raise Doubt("an array without a header")
        count, flags = _dimensions.unpack_from(value)
        at = 12 + 8 * count
        if not 0 <= count <= 6 or flags not in (0, 1) or at > len(value):
            raise Doubt("an array's header")
        sizes = struct.unpack_from(f">{2 * count}i", value, 12)[::2]
        total = prod(sizes) if sizes else 0
        if min(sizes, default=0) < 0 or total * 4 > len(value) - at:
            raise Doubt("an array's size")
        items: list[bytes] = []
        for _ in range(total):
            at = field(value, at, len(value), element, items)
        if at != len(value):
            raise Doubt("more in an array than its size says")
        if not total:
            return array_header(0)
        for size in reversed(sizes):
            header = array_header(size)
            items = [header + b"".join(items[first : first + size]) for first in range(0, len(items), size)]
        return items[0]

    return convert


def field(buffer: bytes, at: int, end: int, convert: Convert, out: list[bytes]) -> int:
    """Convert the value at `at`, after its length, and return where the next one begins."""
    start = at + 4
    if start > end:
        raise Doubt("a length that is cut short")
    (length,) = _int.unpack_from(buffer, at)
    if length == -1:
        out.append(NIL)
        return start
    stop = start + cast(int, length)
    if not start <= stop <= end:
        raise Doubt("a length that does not fit")
    out.append(convert(buffer[start:stop]))
    return stop


def converter(kind: QuickType) -> Convert:
    return VALUES[kind.wire] if kind.element is None else _array(_ELEMENTS[kind.element.wire])
