"""Rows on their way from the supervisor to a worker, and what they become there: Records.

The rule: a shape (the columns of a statement's result) is described once, its rows often. A column whose
PostgreSQL type has one Python type goes as msgspec encodes that type in C (a Decimal as text, a UUID as 16
bytes), and the worker, which knows the shape, decodes all its columns with one typed decoder, also in C: the
type is in the shape, so nothing is erased. A column of kind `any` (arrays, enums, addresses, all that may differ
from row to row) is packed value by value as values.py says, so there the type travels with the value.

asyncpg's quirks are kept: an infinite timestamptz is a *naive* datetime.max or min, "char" is bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import GenericAlias
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from .errors import ProtocolError, UnsupportedType
from .records import Record, members
from .values import pack_result, unpack

__all__ = ["Column", "ColumnKind", "Record", "RowDecoder", "RowEncoder", "kind_of", "record_class"]


class Row(Record):
    """A Record of a shape, whose rows it can decode."""

    __slots__ = ()

    _kinds: ClassVar[tuple[ColumnKind, ...]] = ()
    _decode: ClassVar[Callable[[bytes | memoryview | msgspec.Raw], list[Record]]]

    def __reduce__(self) -> tuple[Callable[..., Record], tuple[Any, ...]]:
        return _record, (self._names, self._kinds, tuple(self))


@lru_cache(1024)
def record_class(names: tuple[str, ...], kinds: tuple[ColumnKind, ...]) -> type[Row]:
    """The class of the Records whose columns have these names and kinds. Call it with an iterable of the values."""
    record: type[Row] = type("Record", (Row,), {**members(names), "_kinds": kinds})
    record._decode = _decoder_of(record)
    return record


def _decoder_of(record: Any) -> Any:
    """What decodes rows into such Records.

    msgspec makes named tuples in C, in less than half the time of one that Python is to call a class for. So a Record
    is one, for as long as it takes to tell msgspec of it.
    """
    types = {f"column_{position}": _PYTHON_TYPE[kind] for position, kind in enumerate(record._kinds)}
    told = {"_fields": tuple(types), "_field_defaults": {}, "__annotations__": types}
    for name, value in told.items():
        setattr(record, name, value)
    decoder = msgspec.msgpack.Decoder(GenericAlias(list, (record,)), ext_hook=unpack)
    for name in (*told, "__msgspec_cache__"):
        delattr(record, name)
    return decoder.decode


def _record(names: tuple[str, ...], kinds: tuple[ColumnKind, ...], values: tuple[Any, ...]) -> Record:
    return record_class(names, kinds)(values)


class ColumnKind(enum.StrEnum):
    """How the values of a column travel. Any of them may be null."""

    ANY = "any"
    """Each value as values.py packs it."""
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STR = "str"
    BYTES = "bytes"
    DECIMAL = "decimal"
    """Decimal text."""
    DATE = "date"
    """ISO 8601 text."""
    TIME = "time"
    """ISO 8601 text, without an offset."""
    DATETIME = "datetime"
    """msgpack's timestamp if it is aware, ISO 8601 text if it is naive."""
    TIMEDELTA = "timedelta"
    """ISO 8601 duration text."""
    UUID = "uuid"
    """Its 16 bytes."""


class Column(msgspec.Struct, array_like=True, frozen=True):
    """A column of a shape."""

    name: str
    kind: ColumnKind
    type: str
    """The name of its PostgreSQL type, for people to read."""


_KIND_OF_OID = {
    16: ColumnKind.BOOL,
    # int8, int2, int4, oid, xid, cid, pg_lsn, xid8
    **dict.fromkeys((20, 21, 23, 26, 28, 29, 3220, 5069), ColumnKind.INT),
    # float4, float8
    **dict.fromkeys((700, 701), ColumnKind.FLOAT),
    # name, text, json, xml, money, bpchar, varchar, refcursor, cstring, jsonpath, jsonb
    **dict.fromkeys((19, 25, 114, 142, 790, 1042, 1043, 1790, 2275, 4072, 3802), ColumnKind.STR),
    # macaddr8, macaddr, aclitem, tsvector, tsquery
    **dict.fromkeys((774, 829, 1033, 3614, 3615), ColumnKind.STR),
    # regproc, regprocedure, regoper, regoperator, regclass, regtype
    **dict.fromkeys((24, 2202, 2203, 2204, 2205, 2206), ColumnKind.STR),
    # regconfig, regdictionary, regnamespace, regrole, regcollation
    **dict.fromkeys((3734, 3769, 4089, 4096, 4191), ColumnKind.STR),
    # bytea, "char"
    **dict.fromkeys((17, 18), ColumnKind.BYTES),
    1082: ColumnKind.DATE,
    1083: ColumnKind.TIME,
    # timestamp, timestamptz
    **dict.fromkeys((1114, 1184), ColumnKind.DATETIME),
    1186: ColumnKind.TIMEDELTA,
    1700: ColumnKind.DECIMAL,
    2950: ColumnKind.UUID,
}


def kind_of(oid: int) -> ColumnKind:
    """The kind of a column of the PostgreSQL type `oid`, as asyncpg's own codecs decode it; `any` if unknown.

    timetz (1266) is `any` on purpose: msgspec's text of a time has no room for seconds in its offset.
    """
    return _KIND_OF_OID.get(oid, ColumnKind.ANY)


_PYTHON_TYPE: dict[ColumnKind, Any] = {
    ColumnKind.ANY: Any,
    ColumnKind.BOOL: bool | None,
    ColumnKind.INT: int | None,
    ColumnKind.FLOAT: float | None,
    ColumnKind.STR: str | None,
    ColumnKind.BYTES: bytes | None,
    ColumnKind.DECIMAL: Decimal | None,
    ColumnKind.DATE: date | None,
    ColumnKind.TIME: time | None,
    ColumnKind.DATETIME: datetime | None,
    ColumnKind.TIMEDELTA: timedelta | None,
    ColumnKind.UUID: UUID | None,
}

_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode


class RowEncoder:
    """Encodes the rows of one shape: the supervisor's side."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns
        self._any = [(at, column) for at, column in enumerate(columns) if column.kind is ColumnKind.ANY]

    def encode(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """A msgpack array of one array per row. The rows may be asyncpg's Records.

        Raises UnsupportedType, naming the column and its PostgreSQL type, for a value that cannot cross.
        """
        try:
            return _encode(self._pack(rows) if self._any else list(map(tuple, rows)))
        except (TypeError, OverflowError, RecursionError) as exc:
            raise self._explain(rows, exc) from None

    def _pack(self, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
        packed = list(map(list, rows))
        for at, _ in self._any:
            for row in packed:
                row[at] = pack_result(row[at])
        return packed

    def _explain(self, rows: Sequence[Sequence[Any]], error: Exception) -> Exception:
        for at, column in enumerate(self.columns):
            pack = pack_result if column.kind is ColumnKind.ANY else _encode
            try:
                for row in rows:
                    pack(row[at])
            except (TypeError, OverflowError, RecursionError):
                return UnsupportedType(
                    f'column "{column.name}" has type {column.type}, which does not cross to workers; '
                    "cast it, e.g. to text"
                )
        return error


class RowDecoder:
    """Decodes the rows of one shape into Records: the worker's side."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns
        record = record_class(tuple(column.name for column in columns), tuple(column.kind for column in columns))
        self._decode = record._decode

    def decode(self, data: bytes | memoryview | msgspec.Raw) -> list[Record]:
        """The rows that a RowEncoder of the same columns encoded.

        Raises ProtocolError if they are not such rows; the text names the column if one is at fault.
        """
        try:
            return self._decode(data)
        except (ValueError, RecursionError) as exc:
            raise ProtocolError(self._explain(str(exc))) from exc

    def _explain(self, text: str) -> str:
        import re

        place = re.search(r" - at `\$\[(\d+)\]\[(\d+)\]", text)
        if place is None or int(place[2]) >= len(self.columns):
            return f"the rows of this result cannot be decoded: {text}"
        column = self.columns[int(place[2])]
        return f'row {place[1]}, column "{column.name}" ({column.type}): {text[: place.start()]}'
