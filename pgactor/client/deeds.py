"""The requests of what a lease has open on its session: prepared statements, cursors. As calls.py, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, cast

from ..messages import ExecuteMany, Fetch, FetchMany, Token
from ..messages.session import Describe, FetchCursor, MoveCursor, OpenCursor, Prepare, Reset, SetCodec
from . import calls
from .calls import UNSENT
from .chunks import Chunk
from .codecs import FORMATS, check_format
from .failures import interface_error

Format = Literal["text", "binary", "tuple"]

PREFETCH = 50
"""How many rows an iteration fetches at a time, unless it is told."""

_MAX_ROWS = 2**31 - 1


def prepare(sql: str, name: str | None, timeout: float | None, lease: Token) -> Prepare:
    """The request of `prepare`."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"the name of a prepared statement is expected to be a str, not {type(name).__name__}")
    return Prepare(UNSENT, UNSENT, timeout, calls._sql(sql), lease, name)


def open_cursor(
    sql: str, args: Sequence[object], timeout: float | None, lease: Token, statement: int | None
) -> OpenCursor:
    """The request that opens a cursor. statement: the prepared one, if it is."""
    return OpenCursor(UNSENT, UNSENT, timeout, calls._sql(sql), calls._args(args), lease, statement)


def fetch_cursor(cursor: int, count: int, timeout: float | None, lease: Token) -> FetchCursor:
    """The request for a cursor's next rows."""
    return FetchCursor(UNSENT, UNSENT, timeout, cursor, _count(count), lease)


def move_cursor(cursor: int, count: int, timeout: float | None, lease: Token) -> MoveCursor:
    """The request that skips rows of a cursor."""
    return MoveCursor(UNSENT, UNSENT, timeout, cursor, _count(count), lease)


def describe(sql: str, timeout: float | None, lease: Token | None) -> Describe:
    """The request for the types of a statement's parameters."""
    return Describe(UNSENT, UNSENT, timeout, calls._sql(sql), lease)


def set_codec(
    typename: str, schema: str, format: str | None, builtin: str | None, timeout: float | None, lease: Token
) -> SetCodec:
    """The request of `set_type_codec`, `set_builtin_type_codec` and `reset_type_codec`."""
    if format is not None:
        check_format(format, FORMATS if builtin is None else FORMATS[:2])
    return SetCodec(UNSENT, UNSENT, timeout, typename, schema, lease, cast(Format | None, format), builtin)


def reset(timeout: float | None, lease: Token, *, schema_only: bool = False) -> Reset:
    """The request of `reset`, and of `reload_schema_state`."""
    return Reset(UNSENT, UNSENT, timeout, lease, schema_only)


def fetch(
    statement: int, sql: str, args: Sequence[object], timeout: float | None, lease: Token, limit: int = 0
) -> Fetch:
    """The request that runs a prepared statement."""
    request = calls.fetch(sql, args, timeout, lease, limit)
    request.statement = statement
    return request


def fetchmany(
    statement: int, sql: str, args: Iterable[Sequence[object]], timeout: float | None, lease: Token
) -> FetchMany:
    """The request that runs a prepared statement for each of many arguments."""
    request = calls.fetchmany(sql, args, timeout, lease)
    request.statement = statement
    return request


def executemany(statement: int, sql: str, chunk: Chunk, timeout: float | None, lease: Token) -> ExecuteMany:
    """The same, without rows."""
    request = calls.executemany(sql, chunk.args, timeout, lease)
    request.statement = statement
    return request


def moved(tag: str) -> int:
    """How many rows were skipped, by the command tag."""
    return int(tag.split()[1])


def check_prefetch(prefetch: int | None) -> int:
    """How many rows to fetch at a time. Raises asyncpg.InterfaceError for what is no such number."""
    if prefetch is None:
        return PREFETCH
    if prefetch <= 0:
        raise interface_error("prefetch argument must be greater than zero")
    return _count(prefetch)


def _count(count: int) -> int:
    if count > _MAX_ROWS:
        raise OverflowError("value too large to convert to int")
    return count
