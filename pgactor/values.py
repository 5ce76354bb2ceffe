"""Python values <-> msgpack, nothing erased.

The rule: what leaves one process enters the other as the same value of the same type. None, bool, int (within
64 bits), float, str, bytes and lists of such values are msgpack's own and cross as they are. Everything else
crosses as a numbered ext type (`ExtCode`), and a type that has no number is refused, because msgpack left to
itself would make a list of a set, a str of a Decimal and a bare value of an Enum member.

Subclasses cross as what asyncpg takes them for: a StrEnum member as its str, an IntEnum member as its int, a
named tuple as a tuple, asyncpg's own UUID as uuid.UUID. So do values of any class that behave like another type: a
mapping as a dict, a sized iterable as a list, what has an `__index__` as an int, a number that a float holds exactly
as a float. A plain Enum member has no such reading and is refused. A tzinfo crosses as its offset at that moment;
`fold`, which the offset has settled, does not cross.

There are two ways in, and one way out:

* `pack_args` and `pack_argument` for what a worker sends. A naive datetime means the worker's time zone there,
  and so does a date, so they take its UTC offset along and come out as a `WorkerDatetime` and a `WorkerDate`; a row
  comes out as a `WorkerRecord`.
* `pack_result` for what PostgreSQL returned. There a naive datetime is a plain `timestamp`, and a composite value
  comes out as a Record.
* `unpack` is the `ext_hook` of every msgspec decoder, on both sides.
"""

from __future__ import annotations

import enum
import ipaddress as ip
import operator
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from .errors import UnsupportedType
from .extcodes import ExtCode
from .moments import WorkerDate, WorkerDatetime, date_here, datetime_here, parse_datetime, parse_time, worker_date
from .pgtypes import pg_types, record_class
from .records import Record, WorkerRecord, record

__all__ = ["ExtCode", "Packed", "WorkerDate", "WorkerDatetime", "pack_args", "pack_argument", "pack_result", "unpack"]


Packed: TypeAlias = "bool | int | float | str | bytes | Ext | list[Packed] | None"
"""What `pack_argument` and `pack_result` return: only what msgspec encodes without erasing anything."""

# What msgpack carries as it is; int too, but only within 64 bits.
_PLAIN = frozenset({type(None), bool, float, str, bytes})
PLAIN = _PLAIN | {int}
"""The types whose values msgspec encodes without erasing anything; an int that is too large raises OverflowError."""
_INT_MIN = -(1 << 63)
_INT_MAX = (1 << 64) - 1
_DAYS = struct.Struct(">iii")


class Coded:
    """A value in PostgreSQL's words, to be decoded by the worker.

    type: the schema and the name of its type, with a dot between them. value: a str, bytes or a tuple.
    """

    __slots__ = ("type", "value")

    def __init__(self, type: str, value: Any) -> None:
        self.type = type
        self.value = value

    def __repr__(self) -> str:
        return f"<Coded {self.type} {self.value!r}>"


def pack_args(args: Sequence[object]) -> list[Packed]:
    """The arguments of a query, ready for msgspec.

    Raises UnsupportedType if the type of an argument, or of anything in it, cannot cross; the text begins with
    the argument's place, as in `query argument $2: `.
    """
    if _all_plain(args):
        return list(args)  # type: ignore[arg-type]  # just checked
    packed = []
    for number, value in enumerate(args, 1):
        try:
            packed.append(pack_argument(value))
        except UnsupportedType as exc:
            raise UnsupportedType(f"query argument ${number}: {exc}") from None
    return packed


def _all_plain(values: Iterable[object]) -> bool:
    for value in values:
        if type(value) is int:
            if not _INT_MIN <= value <= _INT_MAX:
                return False
        elif type(value) not in _PLAIN:
            return False
    return True


def _ext(code: ExtCode, data: bytes) -> Ext:
    return Ext(int(code), data)  # it takes no subclass of int


def _pack_int(value: int) -> Packed:
    value = int.__int__(value)
    if _INT_MIN <= value <= _INT_MAX:
        return value
    return _ext(ExtCode.INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _pack_datetime(value: datetime) -> Packed:
    return _ext(ExtCode.DATETIME, _plain_datetime(value).isoformat().encode())


def _pack_worker_datetime(value: datetime) -> Packed:
    moment = _plain_datetime(value)
    if moment.utcoffset() is not None:
        return _pack_datetime(moment)
    return _ext(ExtCode.WORKER_DATETIME, datetime_here(moment).encode())


def _plain_datetime(value: datetime) -> datetime:
    try:
        return value if type(value) is datetime else datetime.combine(value.date(), value.timetz())
    except (TypeError, ValueError):  # pandas' NaT is a datetime by its type, and no moment at all
        raise _unsupported(type(value)) from None


def _pack_text(code: ExtCode, text: Callable[[Any], str]) -> Callable[[Any], Packed]:
    return lambda value: _ext(code, text(value).encode())


# They get subclasses too, and ask of them no more than asyncpg would.
_PACKERS: dict[type, Callable[[Any], Packed]] = {
    type(None): lambda value: None,
    bool: bool,
    int: _pack_int,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes,
    bytearray: bytes,
    memoryview: bytes,
    Decimal: _pack_text(ExtCode.DECIMAL, Decimal.__str__),
    time: _pack_text(ExtCode.TIME, time.isoformat),
    timedelta: lambda value: _ext(ExtCode.TIMEDELTA, _DAYS.pack(value.days, value.seconds, value.microseconds)),
    UUID: lambda value: _ext(ExtCode.UUID, value.bytes),
    **dict.fromkeys((ip.IPv4Address, ip.IPv6Address), _pack_text(ExtCode.IP_ADDRESS, str)),
    **dict.fromkeys((ip.IPv4Network, ip.IPv6Network), _pack_text(ExtCode.IP_NETWORK, str)),
    **dict.fromkeys((ip.IPv4Interface, ip.IPv6Interface), _pack_text(ExtCode.IP_INTERFACE, str)),
}


def _pack_number(value: Any) -> Packed:
    number = float(value)
    if number != value and value == value:  # a fraction: asyncpg has it for a float8, but not for a numeric
        raise UnsupportedType(f"{value!r} is no float and no Decimal, and cannot be made one without a loss")
    return number


def _unsupported(kind: type) -> UnsupportedType:
    hint = " (give its .value)" if issubclass(kind, enum.Enum) else ""
    return UnsupportedType(f"a value of type {kind.__module__}.{kind.__qualname__} does not cross{hint}")


def _packer(dates: dict[type, Callable[[Any], Packed]], record_code: ExtCode) -> Callable[[object], Packed]:
    """A function that packs any value: dates by these packers, and records as that type."""

    def pack(value: object) -> Packed:
        try:
            return (packers.get(type(value)) or inherited(type(value)))(value)
        except RecursionError:
            raise UnsupportedType("it is nested too deeply") from None

    def inherited(kind: type) -> Callable[[Any], Packed]:
        for base in kind.__mro__:
            if base not in packers and base.__module__.startswith("asyncpg."):
                packers.update(of_asyncpg())
            if base in packers:
                return packers[base]
        if issubclass(kind, Mapping):
            return pack_mapping
        if issubclass(kind, Iterable) and issubclass(kind, Sized):
            return pack_iterable
        if hasattr(kind, "__index__"):
            return lambda value: _pack_int(operator.index(value))
        if hasattr(kind, "__float__"):
            return _pack_number
        raise _unsupported(kind)

    def of_asyncpg() -> dict[type, Callable[[Any], Packed]]:
        """Of its own classes; it has been imported, or there would be no such value."""

        def pack_parts(code: ExtCode, parts: Callable[[Any], Sequence[object]]) -> Callable[[Any], Packed]:
            return lambda value: nested(code, parts(value))

        known = {kind.cls: pack_parts(code, kind.parts) for code, kind in pg_types().items()}
        return known | {record_class(): pack_record}

    def pack_list(values: Collection[object]) -> list[Packed]:
        if _all_plain(values):
            return list(values)  # type: ignore[arg-type]  # just checked
        return [pack(value) for value in values]

    def pack_iterable(values: Iterable[object]) -> list[Packed]:
        try:
            return pack_list(list(values))
        except TypeError as error:  # numpy's arrays without a dimension
            if isinstance(error, UnsupportedType):
                raise
            raise _unsupported(type(values)) from None

    def pack_mapping(mapping: Mapping[Any, Any]) -> Packed:
        return nested(ExtCode.DICT, [each for item in mapping.items() for each in item])

    def pack_record(row: Any) -> Packed:
        return nested(record_code, ([*row.keys()], [*row.values()]))

    def nested(code: ExtCode, values: Collection[object]) -> Packed:
        try:
            return _ext(code, msgspec.msgpack.encode(pack_list(values)))
        except UnicodeEncodeError as error:
            return error.object  # whoever encodes the whole message meets it again, and says where it is

    def pack_nested(code: ExtCode) -> Callable[[Collection[object]], Packed]:
        return lambda values: nested(code, values)

    packers: dict[type, Callable[[Any], Packed]] = {
        **_PACKERS,
        **dates,
        list: pack_list,
        tuple: pack_nested(ExtCode.TUPLE),
        set: pack_nested(ExtCode.SET),
        frozenset: pack_nested(ExtCode.FROZENSET),
        Coded: lambda coded: pack_nested(ExtCode.CODED)((coded.type, coded.value)),
        dict: pack_mapping,
        Record: pack_record,
    }
    return pack


_ARGUMENT_DATES: dict[type, Callable[[Any], Packed]] = {
    date: _pack_text(ExtCode.WORKER_DATE, date_here),
    datetime: _pack_worker_datetime,
}
_RESULT_DATES: dict[type, Callable[[Any], Packed]] = {
    date: _pack_text(ExtCode.DATE, date.isoformat),
    datetime: _pack_datetime,
}

pack_argument = _packer(_ARGUMENT_DATES, ExtCode.WORKER_RECORD)
"""One query argument, ready for msgspec. Raises UnsupportedType, naming the type, if it cannot cross."""

pack_result = _packer(_RESULT_DATES, ExtCode.RECORD)
"""One value that PostgreSQL returned, ready for msgspec. Raises UnsupportedType, naming the type."""


class _Malformed(ValueError):
    pass


def unpack(code: int, data: memoryview) -> object:
    """The value of an ext type: the `ext_hook` of msgspec's decoders.

    Whatever the bytes are, nothing but ValueError is raised: for an unknown code, for malformed data, and for
    values nested more deeply than the interpreter's recursion limit.
    """
    unpacker = _UNPACKERS.get(code)
    if unpacker is None:
        raise _Malformed(f"unknown ext type {code}")
    try:
        return unpacker(data)
    except _Malformed:
        raise
    except RecursionError:
        raise _Malformed("values are nested too deeply") from None
    except Exception as exc:
        raise _Malformed(f"malformed {ExtCode(code).name}: {exc}") from exc


def _text(parse: Callable[[str], object]) -> Callable[[memoryview], object]:
    return lambda data: parse(str(data, "utf-8"))


def _pairs(elements: list[Any]) -> dict[Any, Any]:
    return dict(zip(elements[::2], elements[1::2], strict=True))


def _pg_type(code: ExtCode) -> Callable[[memoryview], object]:
    return lambda data: pg_types()[code].whole(*_elements(data))


_elements = msgspec.msgpack.Decoder(list[Any], ext_hook=unpack).decode
_names_and_values = msgspec.msgpack.Decoder(tuple[list[str], list[Any]], ext_hook=unpack).decode
_UNPACKERS: dict[int, Callable[[memoryview], object]] = {
    ExtCode.INT: lambda data: int.from_bytes(data, "big", signed=True),
    ExtCode.DECIMAL: _text(Decimal),
    ExtCode.DATE: _text(date.fromisoformat),
    ExtCode.TIME: _text(parse_time),
    ExtCode.DATETIME: _text(parse_datetime),
    ExtCode.WORKER_DATETIME: _text(lambda text: WorkerDatetime.of(parse_datetime(text))),
    ExtCode.TIMEDELTA: lambda data: timedelta(*_DAYS.unpack(data)),
    ExtCode.UUID: lambda data: UUID(bytes=bytes(data)),
    ExtCode.TUPLE: lambda data: tuple(_elements(data)),
    ExtCode.SET: lambda data: set(_elements(data)),
    ExtCode.FROZENSET: lambda data: frozenset(_elements(data)),
    ExtCode.CODED: lambda data: Coded(*_elements(data)),
    ExtCode.IP_ADDRESS: _text(ip.ip_address),
    ExtCode.IP_NETWORK: _text(ip.ip_network),
    ExtCode.IP_INTERFACE: _text(ip.ip_interface),
    ExtCode.DICT: lambda data: _pairs(_elements(data)),
    ExtCode.RECORD: lambda data: record(*_names_and_values(data)),
    ExtCode.WORKER_RECORD: lambda data: WorkerRecord(*_names_and_values(data)),
    ExtCode.WORKER_DATE: _text(worker_date),
    **{code: _pg_type(code) for code in ExtCode if ExtCode.RANGE <= code <= ExtCode.CIRCLE},
}
