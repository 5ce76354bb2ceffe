"""Replies -> the results of calls, or the errors they raise: the same for both clients and both leases."""

from __future__ import annotations

from typing import Any, TypeVar

from ..errors import PgactorError
from ..messages import Batch, Done, Failed, Granted, Request, Results, Rows
from ..messages.pool import PoolStatus, StatusReport
from ..messages.session import Opened, Prepared
from ..rows import Record, RowDecoder
from .failures import counted_from, exception, of_statement
from .pending import Pending, PendingLease, Reply
from .surroundings import explained

R = TypeVar("R", Done, Rows, Results, Prepared, Opened, Granted, StatusReport)


def rows(pending: Pending, request: Request) -> list[Record]:
    """The rows of a reply."""
    reply = _expect(Rows, pending, request)
    found = _decode(reply, pending.rows)
    if pending.parts is not None:
        pending.parts += found  # which may be millions: not copied
        found = pending.parts
    return found if pending.decode is None else pending.decode(found)


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


def done(pending: Pending, request: Request, first: int = 0) -> None:
    """Nothing, if all went well. first: how many elements of an executemany other requests brought before."""
    if isinstance(pending.reply, Failed):
        counted_from(pending.reply, first)
    _expect(Done, pending, request)


def results(pending: Pending, request: Batch) -> list[Any]:
    """For each statement its rows or its command tag; its error, where it failed and is by itself."""
    reply = _expect(Results, pending, request)
    found: list[Any] = []
    for index, (each, shape) in enumerate(zip(reply.results, pending.shapes, strict=True)):
        match each:
            case Rows():
                found.append(_decode(each, shape))
            case Done():
                found.append(each.status or "")
            case Failed():
                each.index = index
                found.append(_failure(each, request))
    return found


def granted(pending: Pending, request: Request) -> tuple[Granted, float]:
    """The lease, and when it was asked for, by the monotonic clock."""
    reply = _expect(Granted, pending, request)
    assert isinstance(pending, PendingLease)  # noqa: S101  # of an Acquire it is
    return reply, pending.asked_at


def prepared(pending: Pending, request: Request) -> Prepared:
    """What is known of a statement that is prepared."""
    return _expect(Prepared, pending, request)


def opened(pending: Pending, request: Request) -> Opened:
    """The cursor."""
    return _expect(Opened, pending, request)


def pool_status(pending: Pending, request: Request) -> PoolStatus:
    """The state of the pool."""
    return _expect(StatusReport, pending, request).status


def in_transaction(reply: Reply | None) -> bool:
    """What the reply tells of the lease's transaction."""
    return isinstance(reply, Done | Rows | Prepared | Opened | Failed) and reply.in_transaction


def _expect(kind: type[R], pending: Pending, request: Request) -> R:
    reply = pending.reply
    if type(reply) is kind:
        return reply
    if pending.error is not None:
        raise pending.error
    if isinstance(reply, Failed):
        raise _failure(reply, request)
    raise PgactorError(f"the supervisor answered {type(request).__name__} with {type(reply).__name__}")


def _failure(failed: Failed, request: Request) -> BaseException:
    index = failed.index
    if isinstance(request, Batch) and index is not None and 0 <= index < len(request.statements):
        sql, _ = request.statements[index]
        return of_statement(exception(failed, sql), index, sql)
    return explained(exception(failed, getattr(request, "sql", None)))


def _decode(reply: Rows, shape: RowDecoder | None) -> list[Record]:
    if shape is None:
        raise PgactorError(f"the supervisor never told the columns of shape {reply.shape}")
    return shape.decode(reply.data)
