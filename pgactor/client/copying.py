"""COPY, as far as both clients do it alike: the requests, and the data in chunks. No I/O.

The options are asyncpg's, and are PostgreSQL's own: https://www.postgresql.org/docs/current/sql-copy.html.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, TypedDict
from uuid import UUID

import msgspec

from ..errors import UnsupportedType
from ..messages import Token
from ..messages.copying import CopyIn, CopyOut
from ..values import PLAIN, pack_args
from ..wire import array_header
from .calls import UNSENT, _args
from .failures import unencodable_argument

WINDOW_BYTES = 1024 * 1024
"""How much of a copy may be on its way from the supervisor."""

CREDIT_BYTES = WINDOW_BYTES // 4
"""With so much dealt with the supervisor is told so: of each chunk would be much too often."""

CHUNK_BYTES = 256 * 1024
"""How much data goes in one chunk. With smaller ones the supervisor's turns are shorter, but it has a third more to
do, and others wait longer for a processor than they would for a turn."""

RECORDS_BYTES = 32 * 1024
"""How much of records goes in one: the supervisor encodes them for PostgreSQL at a stretch."""

LARGEST_BATCH = 32
"""How many records are encoded at once."""

READ_BYTES = 512 * 1024
"""How much is read from a file at once, as by asyncpg."""

FRAME_ROOM_BYTES = 64
"""What a frame has around a chunk's data, at most."""

NOWHERE = Token(0, 0, 0)
"""The lease of a request that has none yet."""

_encode = msgspec.msgpack.Encoder().encode
_SEQUENCES = frozenset({tuple, list})
_LASTING = PLAIN | {date, datetime, time, timedelta, Decimal, UUID}


class QueryOutOptions(TypedDict, total=False):
    """Of copy_from_query."""

    format: str | None
    oids: bool | None
    delimiter: str | None
    null: str | None
    header: bool | None
    quote: str | None
    escape: str | None
    force_quote: bool | Iterable[str] | None
    encoding: str | None


class TableOutOptions(QueryOutOptions, total=False):
    """Of copy_from_table."""

    columns: Iterable[str] | None
    schema_name: str | None


class RecordsOptions(TypedDict, total=False):
    """Of copy_records_to_table."""

    columns: Iterable[str] | None
    schema_name: str | None
    where: str | None


class TableInOptions(TableOutOptions, total=False):
    """Of copy_to_table."""

    freeze: bool | None
    force_not_null: Iterable[str] | None
    force_null: Iterable[str] | None
    where: str | None


_OPTIONS: dict[str, type[Any]] = {
    "copy_from_table": TableOutOptions,
    "copy_from_query": QueryOutOptions,
    "copy_to_table": TableInOptions,
    "copy_records_to_table": RecordsOptions,
}
_LISTS = ("columns", "force_quote", "force_not_null", "force_null")


def copy_from_table(table_name: str, timeout: float | None, options: TableOutOptions) -> CopyOut:
    """The request of `copy_from_table`, but for its lease."""
    given = _given("copy_from_table", options)
    return CopyOut(UNSENT, UNSENT, timeout, "copy_from_table", _table(table_name), [], given, WINDOW_BYTES, NOWHERE)


def copy_from_query(query: str, args: Sequence[object], timeout: float | None, options: QueryOutOptions) -> CopyOut:
    """The request of `copy_from_query`, but for its lease."""
    if not isinstance(query, str):
        raise TypeError(f"a query is expected to be a str, not {type(query).__name__}")
    given = _given("copy_from_query", options)
    return CopyOut(UNSENT, UNSENT, timeout, "copy_from_query", query, _args(args), given, WINDOW_BYTES, NOWHERE)


def copy_to_table(table_name: str, timeout: float | None, options: TableInOptions) -> CopyIn:
    """The request of `copy_to_table`, but for its lease."""
    given = _given("copy_to_table", options)
    return CopyIn(UNSENT, UNSENT, timeout, "copy_to_table", _table(table_name), given, NOWHERE)


def copy_records_to_table(table_name: str, timeout: float | None, options: RecordsOptions) -> CopyIn:
    """The request of `copy_records_to_table`, but for its lease."""
    given = _given("copy_records_to_table", options)
    return CopyIn(UNSENT, UNSENT, timeout, "copy_records_to_table", _table(table_name), given, NOWHERE)


def path_of(place: object) -> str | bytes | None:
    """The path that a sink or a source is; None: it is none."""
    try:
        path: str | bytes = os.fspath(place)  # type: ignore[call-overload]  # what is no path raises
    except TypeError:
        return None
    return path


def no_output(output: object) -> TypeError:
    """The error for an output that is none."""
    return TypeError(
        "output is expected to be a file-like object, a path-like object or a coroutine function, "
        f"not {type(output).__name__}"
    )


def chunk_bytes(cap: int) -> int:
    """How much data goes in one chunk, where frames have a cap in bytes."""
    return max(1, min(CHUNK_BYTES, cap - FRAME_ROOM_BYTES))


def in_words(error: Exception | None) -> str | None:
    """Why a source has no more, for the supervisor."""
    return None if error is None else f"{type(error).__name__}: {error}"[:1000].encode(errors="replace").decode()


class Over(Exception):
    """The copy has ended, whatever its source still has."""


class Pieces:
    """Gathers small pieces of data, and divides large ones, into chunks of a size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._gathered = bytearray()

    def add(self, piece: Any) -> Iterator[bytes]:
        """Take in bytes, or what supports the buffer protocol; the chunks that are full. Raises TypeError."""
        view = memoryview(piece)
        view = view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())
        gathered, size, at = self._gathered, self._size, 0
        while at < len(view):
            if not gathered and len(view) - at >= size:
                yield bytes(view[at : at + size])
                at += size
                continue
            more = view[at : at + size - len(gathered)]
            gathered += more
            at += len(more)
            if len(gathered) == size:
                yield bytes(gathered)
                gathered.clear()

    def rest(self) -> Iterator[bytes]:
        """The last chunk, if there is one."""
        if self._gathered:
            yield bytes(self._gathered)


def lasting(record: Any) -> tuple[Any, ...] | None:
    """The record, as it stays whatever its source does with lists and buffers that it uses again; None: as what it
    is now only encoding it can tell."""
    if type(record) in _SEQUENCES and _LASTING.issuperset(map(type, record)):
        return tuple(record)
    return None


class Records:
    """Gathers records into chunks. Those of a batch are encoded at once, where nothing in them needs packing."""

    def __init__(self, encode: Callable[[Sequence[Any]], list[Any]] | None = None) -> None:
        """encode: the codecs' work on the values of each."""
        self._encode = encode
        self._batch: list[Any] = []
        self._batch_size = 1
        self._encoded = bytearray()
        self._count = 0  # of the records encoded
        self._before = 0  # how many records other chunks have

    def add(self, record: Any) -> bytes | None:
        """Take in a record; the chunk, if it is full. Raises what tells that it is no record, or cannot be sent."""
        if self._encode is not None:
            record = self._encode(record if isinstance(record, Sequence) else _indexed(record))
        if type(record) in _SEQUENCES and PLAIN.issuperset(map(type, record)):
            self._batch.append(tuple(record))  # its source may fill the same list again
            if len(self._batch) < self._batch_size:
                return None
            self._encode_batch()
        else:
            self._encode_batch()
            self._encode_record(record)
        return self._chunk() if len(self._encoded) >= RECORDS_BYTES else None

    def rest(self) -> bytes | None:
        """The last chunk, if there is one."""
        self._encode_batch()
        return self._chunk() if self._count else None

    def _chunk(self) -> bytes:
        count = self._count
        chunk = array_header(count) + self._encoded
        self._encoded.clear()
        self._count = 0
        self._before += count
        self._batch_size = min(LARGEST_BATCH, 1 + count // 8)  # large records are not kept waiting for others
        return chunk

    def _encode_batch(self) -> None:
        batch, self._batch = self._batch, []
        with suppress(OverflowError, UnicodeEncodeError):  # it cannot be encoded as it is: the other way tells
            self._encoded += memoryview(_encode(batch))[len(array_header(len(batch))) :]
            self._count += len(batch)
            return
        for record in batch:
            self._encode_record(record)

    def _encode_record(self, record: Any) -> None:
        number = self._before + self._count
        values = record if isinstance(record, Sequence) else _indexed(record)
        try:
            packed = pack_args(values)
        except UnsupportedType as error:
            raise TypeError(f"in record #{number}: {error}") from error
        try:
            self._encoded += _encode(packed)
        except UnicodeEncodeError as error:
            raise unencodable_argument(packed, error, f" in record #{number}") from error
        self._count += 1


def as_binary(request: CopyIn) -> CopyIn:
    """The same copy, of records, as one of data in PostgreSQL's binary format."""
    options = {**request.options, "format": "binary"}
    return CopyIn(request.id, request.epoch, request.timeout, "copy_to_table", request.table, options, request.lease)


def columns_of(request: CopyIn) -> str:
    """A statement whose columns are those that are copied to."""
    columns, schema = request.options.get("columns"), request.options.get("schema_name")
    table = f"{_quoted(schema)}.{_quoted(request.table)}" if schema else _quoted(request.table)
    return f"SELECT {', '.join(map(_quoted, columns)) if columns else '*'} FROM {table}"  # noqa: S608  # quoted


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _table(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a table's name is expected to be a str, not {type(name).__name__}")
    return name


def _given(method: str, options: Any) -> dict[str, Any]:
    """The options that were given, checked."""
    known = _OPTIONS[method].__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"Connection.{method}() got an unexpected keyword argument '{name}'")
    given = {name: value for name, value in options.items() if value is not None}
    for name in _LISTS:
        if not isinstance(given.get(name, True), bool):
            given[name] = list(given[name])
    for name, value in given.items():
        if not isinstance(value, str | bool | int | list):
            raise TypeError(f"{method}(): {name} is expected to be a str or a bool, not {type(value).__name__}")
    return given


def _indexed(record: Any) -> list[object]:
    """The values of what is no sequence but may be asked for them by their numbers. Raises what it raises."""
    values = [record[0]]
    with suppress(IndexError, KeyError):  # it has no more
        for number in count(1):
            values.append(record[number])  # noqa: PERF401  # what came before is to stay
    return values
