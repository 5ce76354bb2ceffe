"""Arguments of a statement, as a worker gave them -> the parameters of a Bind message.

What is encoded here stores the very value that asyncpg would have stored. Whatever is not plainly so (another type,
a subclass, a number out of range, a moment that asyncpg takes for an infinity) is `NotQuick`, and asyncpg decides.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import repeat
from struct import Struct
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

from ..values import WorkerDate, WorkerDatetime
from .quicktypes import QuickType, Wire

Encoder: TypeAlias = Callable[[Sequence[Any]], bytes]
"""The arguments -> their number, and each with its length. Raises `NotQuick`."""


class NotQuick(Exception):
    """These arguments are asyncpg's to judge."""


_MAX_GENERATED = 64
"""More parameters are gone through one by one: a function for a thousand takes too long to compile."""

_MAX_DIGITS = 1000

_NULL = b"\xff\xff\xff\xff"
_array_header = Struct(">iiI").pack
_dimension = Struct(">ii").pack

# --- dates: PostgreSQL counts days, and microseconds, from 2000 ------------------------------------------------

_EPOCH = datetime(2000, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_FIRST_DAY, _LAST_DAY = date.min.toordinal(), date.max.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min - _EPOCH) // _MICROSECOND
_LAST = (datetime.max - _EPOCH) // _MICROSECOND


def _days(value: date) -> int:
    day = value.toordinal()
    if not _FIRST_DAY < day < _LAST_DAY:  # asyncpg's infinities
        raise NotQuick
    return day - _EPOCH_DAY


def _micros(since_epoch: timedelta) -> int:
    micros = (since_epoch.days * 86400 + since_epoch.seconds) * 1000000 + since_epoch.microseconds
    if not _FIRST < micros < _LAST:  # asyncpg's infinities, and what its conversion to UTC has no room for
        raise NotQuick
    return micros


def _timestamp(value: Any) -> int:
    if type(value) is not WorkerDatetime:
        raise NotQuick
    return _micros(_wall_clock(value))


def _timestamptz(value: Any) -> int:
    if type(value) is datetime and value.tzinfo is not None:
        return _micros(value - _EPOCH_UTC)
    if type(value) is not WorkerDatetime or value.worker_offset is None:
        raise NotQuick
    wall_clock = _wall_clock(value)
    _micros(wall_clock)
    return _micros(wall_clock - value.worker_offset)


def _wall_clock(value: datetime) -> timedelta:
    return value - _EPOCH


def _numeric(value: Decimal) -> bytes:
    # Far out, asyncpg, which has it in binary, and PostgreSQL, which would read the text, raise different errors.
    text = str(value).encode()
    if len(text) > _MAX_DIGITS or not value.is_finite() or (b"E" in text and abs(value.adjusted()) > _MAX_DIGITS):
        raise NotQuick
    return text


# --- how each type is encoded ------------------------------------------------------------------------------------


class _Way(NamedTuple):
    """How a value `{v}` is checked, and made into what a Struct packs (`code`) or into bytes."""

    check: str
    value: str
    code: str = ""
    """Empty for a value whose size is not fixed."""


_WAYS = {
    Wire.BOOL: _Way("type({v}) is bool", "{v}", "?"),
    Wire.INT2: _Way("type({v}) is int", "{v}", "h"),
    Wire.INT4: _Way("type({v}) is int", "{v}", "i"),
    Wire.INT8: _Way("type({v}) is int", "{v}", "q"),
    Wire.OID: _Way("type({v}) is int", "{v}", "I"),
    Wire.FLOAT4: _Way("type({v}) is float", "{v}", "f"),
    Wire.FLOAT8: _Way("type({v}) is float", "{v}", "d"),
    Wire.UUID: _Way("type({v}) is UUID", "{v}.bytes", "16s"),
    Wire.DATE: _Way("(type({v}) is WorkerDate or type({v}) is date)", "days({v})", "i"),
    Wire.TIMESTAMP: _Way("{v} is not None", "timestamp({v})", "q"),
    Wire.TIMESTAMPTZ: _Way("{v} is not None", "timestamptz({v})", "q"),
    Wire.TEXT: _Way("type({v}) is str", "{v}.encode()"),
    Wire.JSONB: _Way("type({v}) is str", "b'\\1' + {v}.encode()"),
    Wire.NUMERIC: _Way("type({v}) is Decimal", "numeric({v})"),
    Wire.BYTES: _Way("type({v}) is bytes", "{v}"),
    Wire.ARRAY: _Way("type({v}) is list", "{array}({v})"),
}
# Lists of them are packed without a look at each.
_NUMBERS = dict.fromkeys((Wire.INT2, Wire.INT4, Wire.INT8, Wire.OID), int) | {Wire.FLOAT4: float, Wire.FLOAT8: float}

_NAMES = {
    "Decimal": Decimal,
    "UUID": UUID,
    "WorkerDate": WorkerDate,
    "date": date,
    "days": _days,
    "error": struct.error,
    "join": b"".join,
    "NotQuick": NotQuick,
    "numeric": _numeric,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
}

_ENCODE = """
def encode(args):
    try:
        [{values}] = args
        if {checks}:
            {prepare}
            return join(({pieces},))
    except (ValueError, OverflowError, error):  # another number of them; a text, a number that cannot be encoded
        raise NotQuick from None
    return one_by_one(args)
"""


@lru_cache(1024)
def argument_encoder(types: tuple[QuickType, ...]) -> Encoder:
    """The function that encodes arguments for parameters of these types, each of which may be an argument's."""
    one_by_one = _one_by_one(types)
    return _generate(types, one_by_one) if len(types) <= _MAX_GENERATED else one_by_one


def formats(types: Iterable[QuickType]) -> bytes:
    """A Bind message's section of format codes, for parameters or columns of these types."""
    codes = [kind.format for kind in types]
    if len(set(codes)) == 1:
        del codes[1:]  # one stands for all
    return struct.pack(f">H{len(codes)}H", len(codes), *codes)


def _generate(types: tuple[QuickType, ...], one_by_one: Encoder) -> Encoder:
    """The fast path, for arguments of which none is null: values of fixed size that stand in a line, their lengths,
    and the length of what comes next are packed by one Struct."""
    names: dict[str, Any] = {**_NAMES, "one_by_one": one_by_one}
    values = [f"v{number}" for number in range(len(types))]
    checks, prepare, pieces = ["True"], ["pass"], []
    code, fields = ">H", [str(len(types))]
    for number, (kind, name) in enumerate(zip(types, values, strict=True)):
        way = _WAYS[kind.wire]
        checks.append(way.check.format(v=name))
        value = way.value.format(v=name, array=f"array{number}")
        code += "i" + way.code
        if way.code:
            fields += [str(struct.calcsize(">" + way.code)), value]
            continue
        if kind.element is not None:
            names[f"array{number}"] = _array(kind.element)
        prepare.append(f"{name} = {value}")
        names[f"pack{number}"] = Struct(code).pack
        pieces += [f"pack{number}({', '.join([*fields, f'len({name})'])})", name]
        code, fields = ">", []
    if fields:
        names["pack"] = Struct(code).pack
        pieces.append(f"pack({', '.join(fields)})")
    source = _ENCODE.format(
        values=", ".join(values),
        checks=" and ".join(checks),
        prepare="; ".join(prepare),
        pieces=", ".join(pieces),
    )
    exec(source, names)  # noqa: S102  # of our own making: numbers and names from the tables above
    return cast(Encoder, names["encode"])


def _one_by_one(types: tuple[QuickType, ...]) -> Encoder:
    encoders = [_encoder(kind) for kind in types]
    count = struct.pack(">H", len(types))

    def encode(args: Sequence[Any]) -> bytes:
        if len(args) != len(encoders):
            raise NotQuick
        try:
            values = [encoder(value) for encoder, value in zip(encoders, args, strict=True)]
        except (ValueError, OverflowError, struct.error):
            raise NotQuick from None
        return count + b"".join(values)

    return encode


_ONE = """
def encode(value):
    if value is None:
        return null
    if not ({check}):
        raise NotQuick
    value = {value}
    return {packed}
"""


@lru_cache(1024)
def _encoder(kind: QuickType) -> Callable[[Any], bytes]:
    """Of a single value, which may be None: with its length. Raises what its Struct or its conversion raises, too."""
    way = _WAYS[kind.wire]
    names: dict[str, Any] = {**_NAMES, "null": _NULL, "pack": Struct(">i" + way.code).pack}
    if kind.element is not None:
        names["array"] = _array(kind.element)
    source = _ONE.format(
        check=way.check.format(v="value"),
        value=way.value.format(v="value", array="array"),
        packed=f"pack({struct.calcsize('>' + way.code)}, value)" if way.code else "pack(len(value)) + value",
    )
    exec(source, names)  # noqa: S102  # as above
    return cast(Callable[[Any], bytes], names["encode"])


def _array(element: QuickType) -> Callable[[list[Any]], bytes]:
    """Of a list that is flat. Raises what `_encoder` raises."""
    encode = _encoder(element)
    number = _NUMBERS.get(element.wire)
    pack = Struct(">i" + _WAYS[element.wire].code).pack
    size = struct.calcsize(">" + _WAYS[element.wire].code)

    def encode_array(values: list[Any]) -> bytes:
        if not values:
            return _array_header(0, 0, element.oid)
        if number is not None and {*map(type, values)} == {number}:
            items = map(pack, repeat(size), values)
        else:
            items = map(encode, values)
        # one dimension, counted from 1; no word on NULLs, as PostgreSQL looks for itself
        return _array_header(1, 0, element.oid) + _dimension(len(values), 1) + b"".join(items)

    return encode_array
