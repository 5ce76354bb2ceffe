"""The arguments of every call -> messages: the same for both clients and both leases.

Signatures and results are asyncpg's (https://magicstack.github.io/asyncpg/current/api/), but for `timeout`, which
also covers the wait for a backend.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, get_args

from ..errors import UnsupportedType
from ..messages import Acquire, Batch, Execute, ExecuteMany, Fetch, FetchMany, IsolationLevel, Token
from ..messages.listening import Listen, Unlisten
from ..messages.pool import Expire, Resize, SetConnectArgs, Status
from ..values import pack_args
from .failures import data_error, interface_error, of_statement

UNSENT = -1
"""The id and epoch of a request that is not numbered yet."""

NOTIFY = "select pg_notify($1, $2)"
"""NOTIFY, with arguments."""

_LEVELS = get_args(IsolationLevel)
_CONTROL = re.compile(
    r"(?:\s|;|--[^\n\r]*|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/)*+"  # white space, comments (not nested)
    r"((?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction)\b)"
    r"(?!\s+prepared\b)",
    re.IGNORECASE,
)
"""How a statement begins that begins, ends or divides a transaction."""


def execute(sql: str, args: Sequence[object], timeout: float | None, lease: Token | None) -> Execute:
    """The request of `execute`."""
    return Execute(UNSENT, UNSENT, timeout, _sql(sql), _args(args), lease)


def executemany(sql: str, args: list[list[Any]], timeout: float | None, lease: Token | None) -> ExecuteMany:
    """The request of `executemany`, with arguments from `chunks`."""
    return ExecuteMany(UNSENT, UNSENT, timeout, _sql(sql), args, lease)


def fetch(sql: str, args: Sequence[object], timeout: float | None, lease: Token | None, limit: int = 0) -> Fetch:
    """The request of `fetch`; of `fetchrow` and `fetchval` with a limit of 1."""
    return Fetch(UNSENT, UNSENT, timeout, _sql(sql), _args(args), limit, lease)


def fetchmany(sql: str, args: Iterable[Sequence[object]], timeout: float | None, lease: Token | None) -> FetchMany:
    """The request of `fetchmany`."""
    many = [pack_element(number, each) for number, each in enumerate(args)]
    return FetchMany(UNSENT, UNSENT, timeout, _sql(sql), many, lease)


def batch(
    statements: Iterable[str | Sequence[object]],
    timeout: float | None,
    *,
    atomic: bool = True,
    isolation: IsolationLevel | None = None,
    readonly: bool = False,
) -> Batch:
    """The request of `batch`. Raises ValueError, TypeError, asyncpg.DataError or asyncpg.InterfaceError for what
    cannot be one; those of a statement name its index."""
    if isolation is not None and isolation not in _LEVELS:
        raise ValueError(f"isolation is expected to be one of {', '.join(_LEVELS)}; got {isolation!r}")
    if isinstance(statements, str | bytes):
        raise TypeError(f"a batch is expected to be an iterable of statements, not {type(statements).__name__}")
    packed = [_statement(index, each) for index, each in enumerate(statements)]
    return Batch(UNSENT, UNSENT, timeout, packed, atomic, isolation, readonly)


def acquire(
    timeout: float | None, ttl: float | None, label: str = "", where: str = "", holds: Sequence[Token] = ()
) -> Acquire:
    """The request of `acquire`. label, where, holds: see acquirer.py."""
    if ttl is not None and not ttl > 0:
        raise ValueError(f"ttl is expected to be greater than zero, in seconds (got {ttl!r})")
    return Acquire(UNSENT, UNSENT, timeout, ttl, label, where, list(holds))


def status() -> Status:
    """The request of `status`."""
    return Status(UNSENT, UNSENT, None)


def expire() -> Expire:
    """The request of `expire_connections`."""
    return Expire(UNSENT, UNSENT, None)


def listen(channels: Sequence[str], timeout: float | None, lease: Token | None = None) -> Listen:
    """The request to listen. Raises TypeError or ValueError for what is no channel's name."""
    for channel in channels:
        if not isinstance(channel, str):
            raise TypeError(f"a channel's name is expected to be a str, not {type(channel).__name__}")
    return Listen(UNSENT, UNSENT, timeout, list(channels), lease)


def unlisten(channels: Sequence[str], timeout: float | None, lease: Token | None = None) -> Unlisten:
    """The request to listen no more."""
    return Unlisten(UNSENT, UNSENT, timeout, list(channels), lease)


def resize(max_size: int, min_size: int | None) -> Resize:
    """The request of `resize`. Raises TypeError or ValueError for sizes that cannot be."""
    for name, size, least in (("max_size", max_size, 1), ("min_size", min_size, 0)):
        if size is None and name == "min_size":
            continue
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{name} is expected to be an int, not {type(size).__name__}")
        if size < least:
            raise ValueError(f"{name} is expected to be greater {'than' if least else 'or equal to'} zero")
    if min_size is not None and min_size > max_size:
        raise ValueError("min_size is greater than max_size")
    return Resize(UNSENT, UNSENT, None, max_size, min_size)


def set_connect_args(dsn: str | None, arguments: dict[str, Any]) -> SetConnectArgs:
    """The request of `set_connect_args`. Raises TypeError for arguments that do not cross to the supervisor."""
    for name, value in arguments.items():
        if not _is_plain(value):
            raise TypeError(
                f"{name} cannot be sent to the supervisor: connect arguments are expected to be str, numbers, bool, "
                f"and lists and dicts of these, not {type(value).__name__}"
            )
    return SetConnectArgs(UNSENT, UNSENT, None, dsn, arguments)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    return value is None or type(value) in (str, int, float, bool)


def check_timeout(timeout: float | None, default: float | None) -> float | None:
    """The timeout to use, in seconds. Raises `ValueError` for what is none, as asyncpg does."""
    if timeout is None:
        return default
    try:
        seconds = math.nan if isinstance(timeout, bool) else float(timeout)
    except (TypeError, ValueError):
        seconds = math.nan
    if math.isnan(seconds):
        raise ValueError(f"invalid timeout value: expected non-negative float (got {timeout!r})")
    return None if seconds == math.inf else max(0.0, seconds)


def until(timeout: float | None) -> float | None:
    """When the timeout ends, by the monotonic clock."""
    return None if timeout is None else monotonic() + timeout


def remaining(end: float | None) -> float | None:
    """The timeout that is left until then."""
    return None if end is None else max(0.0, end - monotonic())


def _sql(sql: str) -> str:
    if not isinstance(sql, str):
        raise TypeError(f"a statement is expected to be a str, not {type(sql).__name__}")
    return sql


def _args(args: Sequence[object]) -> list[Any]:
    try:
        return pack_args(args)
    except UnsupportedType as error:
        raise data_error(str(error)) from error


def pack_element(number: int, element: object) -> list[Any]:
    """An element of many arguments, ready to be sent. Raises asyncpg.DataError, which names it by its number."""
    if not isinstance(element, Sequence) or isinstance(element, str | bytes):
        raise data_error(
            f"invalid input in executemany() argument sequence element #{number}: "
            f"expected a sequence, got {type(element).__name__}"
        )
    try:
        return pack_args(element)
    except UnsupportedType as error:
        raise data_error(f"in element #{number} of the argument sequence: {error}") from error


def _statement(index: int, statement: object) -> tuple[str, list[Any]]:
    if isinstance(statement, str):
        sql, args = statement, []
    elif isinstance(statement, Sequence) and not isinstance(statement, bytes) and statement:
        sql, *args = statement
        if not isinstance(sql, str):
            raise TypeError(f"statement {index} of the batch is expected to be a str, not {type(sql).__name__}")
    else:
        raise TypeError(
            f"statement {index} of the batch is expected to be a str or a sequence (sql, *args), "
            f"not {type(statement).__name__ if statement else repr(statement)}"
        )
    if control := _CONTROL.match(sql):
        misuse = interface_error(
            f"statement {index} of the batch is a {control[1].upper()}: a batch begins and ends its transactions "
            "itself; for your own, use client.transaction()"
        )
        raise of_statement(misuse, index, sql)
    try:
        return sql, pack_args(args)
    except UnsupportedType as error:
        wrong = data_error(f"in statement {index} of the batch: {error}")
        raise of_statement(wrong, index, sql) from error
