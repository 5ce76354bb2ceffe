"""The arguments of every call -> messages, and replies -> results: the same for both clients and both leases.

Signatures and results are asyncpg's (https://magicstack.github.io/asyncpg/current/api/), but for `timeout`, which
also covers the wait for a backend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from ..errors import PgactorError, UnsupportedType
from ..messages import (
    Acquire,
    Done,
    Execute,
    ExecuteMany,
    Expire,
    Failed,
    Fetch,
    FetchMany,
    Granted,
    PoolStatus,
    Request,
    Rows,
    Status,
    StatusReport,
    Token,
)
from ..rows import Record
from ..values import pack_args
from .failures import data_error, exception
from .requests import Pending, Reply

R = TypeVar("R", Done, Rows, Granted, StatusReport)

UNSENT = -1
"""The id and epoch of a request that is not numbered yet."""


def execute(sql: str, args: Sequence[object], timeout: float | None, lease: Token | None) -> Execute:
    """The request of `execute`."""
    return Execute(UNSENT, UNSENT, timeout, _sql(sql), _args(args), lease)


def executemany(
    sql: str, args: Iterable[Sequence[object]], timeout: float | None, lease: Token | None
) -> ExecuteMany:
    """The request of `executemany`."""
    return ExecuteMany(UNSENT, UNSENT, timeout, _sql(sql), _many_args(args), lease)


def fetch(sql: str, args: Sequence[object], timeout: float | None, lease: Token | None, limit: int = 0) -> Fetch:
    """The request of `fetch`; of `fetchrow` and `fetchval` with a limit of 1."""
    return Fetch(UNSENT, UNSENT, timeout, _sql(sql), _args(args), limit, lease)


def fetchmany(sql: str, args: Iterable[Sequence[object]], timeout: float | None, lease: Token | None) -> FetchMany:
    """The request of `fetchmany`."""
    return FetchMany(UNSENT, UNSENT, timeout, _sql(sql), _many_args(args), lease)


def acquire(timeout: float | None, ttl: float | None) -> Acquire:
    """The request of `acquire`."""
    if ttl is not None and not ttl > 0:
        raise ValueError(f"ttl is expected to be greater than zero, in seconds (got {ttl!r})")
    return Acquire(UNSENT, UNSENT, timeout, ttl)


def status() -> Status:
    """The request of `status`."""
    return Status(UNSENT, UNSENT, None)


def expire() -> Expire:
    """The request of `expire_connections`."""
    return Expire(UNSENT, UNSENT, None)


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


def rows(pending: Pending, request: Request) -> list[Record]:
    """The rows of a reply."""
    reply = _expect(Rows, pending, request)
    if pending.rows is None:
        raise PgactorError(f"the supervisor never told the columns of shape {reply.shape}")
    return pending.rows.decode(reply.data)


def first_row(pending: Pending, request: Request) -> Record | None:
    """The first row of a reply, None if it has none."""
    found = rows(pending, request)
    return found[0] if found else None


def first_value(pending: Pending, request: Request, column: int) -> Any:
    """A value of the first row, None if there is no row."""
    row = first_row(pending, request)
    return None if row is None else row[column]


def command_tag(pending: Pending, request: Request) -> str:
    """PostgreSQL's word on what was done, such as 'UPDATE 3'."""
    return _expect(Done, pending, request).status or ""


def done(pending: Pending, request: Request) -> None:
    """Nothing, if all went well."""
    _expect(Done, pending, request)


def granted(pending: Pending, request: Request) -> Granted:
    """The lease."""
    return _expect(Granted, pending, request)


def pool_status(pending: Pending, request: Request) -> PoolStatus:
    """The state of the pool."""
    return _expect(StatusReport, pending, request).status


def in_transaction(reply: Reply | None) -> bool:
    """What the reply tells of the lease's transaction."""
    return isinstance(reply, Done | Rows | Failed) and reply.in_transaction


def _expect(kind: type[R], pending: Pending, request: Request) -> R:
    reply = pending.reply
    if type(reply) is kind:
        return reply
    if pending.error is not None:
        raise pending.error
    if isinstance(reply, Failed):
        raise exception(reply, getattr(request, "sql", None))
    raise PgactorError(f"the supervisor answered {type(request).__name__} with {type(reply).__name__}")


def _sql(sql: str) -> str:
    if not isinstance(sql, str):
        raise TypeError(f"a statement is expected to be a str, not {type(sql).__name__}")
    return sql


def _args(args: Sequence[object]) -> list[Any]:
    try:
        return pack_args(args)
    except UnsupportedType as error:
        raise data_error(str(error)) from error


def _many_args(args: Iterable[Sequence[object]]) -> list[list[Any]]:
    packed = []
    for number, each in enumerate(args):
        if not isinstance(each, Sequence) or isinstance(each, str | bytes):
            raise data_error(
                f"invalid input in executemany() argument sequence element #{number}: "
                f"expected a sequence, got {type(each).__name__}"
            )
        try:
            packed.append(pack_args(each))
        except UnsupportedType as error:
            raise data_error(f"in element #{number} of the argument sequence: {error}") from error
    return packed
