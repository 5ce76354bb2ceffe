"""Python values <-> msgpack, nothing erased.

The rule: what leaves one process enters the other as the same value of the same type. None, bool, int (within
64 bits), float, str, bytes and lists of such values are msgpack's own and cross as they are. Everything else
crosses as a numbered ext type (`ExtCode`), and a type that has no number is refused, because msgpack left to
itself would make a list of a set, a str of a Decimal and a bare value of an Enum member.

Subclasses cross as what asyncpg takes them for: a StrEnum member as its str, an IntEnum member as its int, a
named tuple as a tuple, asyncpg's own UUID as uuid.UUID. A plain Enum member has no such reading and is refused.
A tzinfo crosses as its offset at that moment; `fold`, which the offset has settled, does not cross.

There are two ways in, and one way out:

* `pack_args` and `pack_argument` for what a worker sends. A naive datetime means the worker's time zone there,
  so it takes its UTC offset along and comes out as a `WorkerDatetime`.
* `pack_result` for what PostgreSQL returned. There a naive datetime is a plain `timestamp`.
* `unpack` is the `ext_hook` of every msgspec decoder, on both sides.
"""

from __future__ import annotations

import enum
import ipaddress as ip
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from .errors import UnsupportedType


class ExtCode(enum.IntEnum):
    """The msgpack ext types of the wire. A number never changes its meaning; all text is UTF-8."""

    INT = 1
    """An integer beyond 64 bits: two's complement, big-endian, as many bytes as it needs."""
    DECIMAL = 2
    """Decimal text, as in `1.10`, `1E+3`, `NaN`, `-Infinity`."""
    DATE = 3
    """`YYYY-MM-DD`."""
    TIME = 4
    """`HH:MM:SS[.ffffff]`, then `+HH:MM[:SS[.ffffff]]` if it has an offset."""
    DATETIME = 5
    """`DATE` text, `T`, `TIME` text. Naive without an offset, aware with one."""
    WORKER_DATETIME = 6
    """A naive datetime given as an argument, as `DATETIME` text with the offset it has where it was given, or with
    none where there is none (the first and the last day of the calendar)."""
    TIMEDELTA = 7
    """Days, seconds and microseconds: three signed 32-bit integers, big-endian."""
    UUID = 8
    """Its 16 bytes, big-endian."""
    TUPLE = 9
    """A msgpack array of the elements, each packed by these same rules."""
    SET = 10
    FROZENSET = 11
    """As `TUPLE`, in no particular order; so is `SET`."""
    IP_ADDRESS = 12
    """An IPv4 or IPv6 address in its usual text."""
    IP_NETWORK = 13
    """`address/prefix`, the host bits being zero."""
    IP_INTERFACE = 14
    """`address/prefix`, with any host bits."""


Packed: TypeAlias = "bool | int | float | str | bytes | Ext | list[Packed] | None"
"""What `pack_argument` and `pack_result` return: only what msgspec encodes without erasing anything."""

# What msgpack carries as it is; int too, but only within 64 bits.
_PLAIN = frozenset({type(None), bool, float, str, bytes})
PLAIN = _PLAIN | {int}
"""The types whose values msgspec encodes without erasing anything; an int that is too large raises OverflowError."""
_INT_MIN = -(1 << 63)
_INT_MAX = (1 << 64) - 1
_DAYS = struct.Struct(">iii")


class WorkerDatetime(datetime):
    """A naive datetime that means the time zone of the worker it came from.

    `worker_offset` is the UTC offset it has there, None where it has none (next to datetime.min and max).
    """

    worker_offset: timedelta | None = None

    @classmethod
    def of(cls, moment: datetime) -> WorkerDatetime:
        """The wall clock time of `moment`, with its offset, if it has one, set aside."""
        self = cls.combine(moment.date(), moment.time())
        self.worker_offset = moment.utcoffset()
        return self

    def astimezone(self, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain one
        """As datetime.astimezone(), but from the worker's time zone instead of this process's."""
        zone = self.tzinfo if self.worker_offset is None else timezone(self.worker_offset)
        return datetime.combine(self.date(), self.time(), zone).astimezone(tz)

    def __repr__(self) -> str:
        return repr(datetime.combine(self.date(), self.timetz()))


WorkerDatetime.__name__ = "datetime"  # asyncpg's errors name the type of an argument: what the user gave


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
    moment = moment.replace(tzinfo=None)
    try:
        # Not astimezone().utcoffset(): in the hour that a change to summer time skips, that is the offset after
        # the change, whereas the conversion to UTC, which is what asyncpg asks for, uses the one before.
        offset = moment.replace(tzinfo=UTC) - moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return _ext(ExtCode.WORKER_DATETIME, moment.isoformat().encode())
    return _ext(ExtCode.WORKER_DATETIME, moment.replace(tzinfo=timezone(offset)).isoformat().encode())


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
    date: _pack_text(ExtCode.DATE, date.isoformat),
    time: _pack_text(ExtCode.TIME, time.isoformat),
    datetime: _pack_datetime,
    timedelta: lambda value: _ext(ExtCode.TIMEDELTA, _DAYS.pack(value.days, value.seconds, value.microseconds)),
    UUID: lambda value: _ext(ExtCode.UUID, value.bytes),
    **dict.fromkeys((ip.IPv4Address, ip.IPv6Address), _pack_text(ExtCode.IP_ADDRESS, str)),
    **dict.fromkeys((ip.IPv4Network, ip.IPv6Network), _pack_text(ExtCode.IP_NETWORK, str)),
    **dict.fromkeys((ip.IPv4Interface, ip.IPv6Interface), _pack_text(ExtCode.IP_INTERFACE, str)),
}


def _unsupported(kind: type) -> UnsupportedType:
    hint = " (give its .value)" if issubclass(kind, enum.Enum) else ""
    return UnsupportedType(f"a value of type {kind.__module__}.{kind.__qualname__} does not cross yet{hint}")


def _packer(pack_datetime: Callable[[datetime], Packed]) -> Callable[[object], Packed]:
    """A function that packs any value, and datetimes with `pack_datetime`."""

    def pack(value: object) -> Packed:
        try:
            return (packers.get(type(value)) or inherited(type(value)))(value)
        except RecursionError:
            raise UnsupportedType("it is nested too deeply") from None

    def inherited(kind: type) -> Callable[[Any], Packed]:
        for base in kind.__mro__:
            if base in packers:
                return packers[base]
            # asyncpg's Point, Box, ... are tuples to Python but not to whoever reads them. (Its UUID is a UUID.)
            if base.__module__.startswith("asyncpg.") and not issubclass(base, UUID):
                break
        raise _unsupported(kind)

    def pack_list(values: Collection[object]) -> list[Packed]:
        if _all_plain(values):
            return list(values)  # type: ignore[arg-type]  # just checked
        return [pack(value) for value in values]

    def pack_nested(code: ExtCode) -> Callable[[Collection[object]], Packed]:
        return lambda values: _ext(code, msgspec.msgpack.encode(pack_list(values)))

    packers = _PACKERS | {
        datetime: pack_datetime,
        list: pack_list,
        tuple: pack_nested(ExtCode.TUPLE),
        set: pack_nested(ExtCode.SET),
        frozenset: pack_nested(ExtCode.FROZENSET),
    }
    return pack


pack_argument = _packer(_pack_worker_datetime)
"""One query argument, ready for msgspec. Raises UnsupportedType, naming the type, if it cannot cross."""

pack_result = _packer(_pack_datetime)
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


def _moment(parse: Callable[[str], Any]) -> Callable[[memoryview], Any]:
    def unpacker(data: memoryview) -> Any:
        text = str(data, "utf-8")
        value = parse(text)
        if text[-16:-6] in ("+00:00:00.", "-00:00:00."):  # fromisoformat() takes so small an offset for none
            value = value.replace(tzinfo=timezone(timedelta(microseconds=int(text[-16] + text[-6:]))))
        return value

    return unpacker


_elements = msgspec.msgpack.Decoder(list[Any], ext_hook=unpack).decode
_datetime = _moment(datetime.fromisoformat)
_UNPACKERS: dict[int, Callable[[memoryview], object]] = {
    ExtCode.INT: lambda data: int.from_bytes(data, "big", signed=True),
    ExtCode.DECIMAL: _text(Decimal),
    ExtCode.DATE: _text(date.fromisoformat),
    ExtCode.TIME: _moment(time.fromisoformat),
    ExtCode.DATETIME: _datetime,
    ExtCode.WORKER_DATETIME: lambda data: WorkerDatetime.of(_datetime(data)),
    ExtCode.TIMEDELTA: lambda data: timedelta(*_DAYS.unpack(data)),
    ExtCode.UUID: lambda data: UUID(bytes=bytes(data)),
    ExtCode.TUPLE: lambda data: tuple(_elements(data)),
    ExtCode.SET: lambda data: set(_elements(data)),
    ExtCode.FROZENSET: lambda data: frozenset(_elements(data)),
    ExtCode.IP_ADDRESS: _text(ip.ip_address),
    ExtCode.IP_NETWORK: _text(ip.ip_network),
    ExtCode.IP_INTERFACE: _text(ip.ip_interface),
}
