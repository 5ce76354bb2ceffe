"""A batch on its backend: the statements one after another, in one transaction or each by itself. The session lane.

A batch never leaves a transaction open: what a statement began is rolled back. When the task is cancelled in the
middle nothing more is sent here; whoever cancelled it finds the session inside the transaction and rolls it back.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from ..core.request import Kind, Request
from ..core.roster import Worker
from ..core.statement import Statement
from ..messages import Batch, Done, Failed, Results, Rows
from .failures import as_exception, never_began, statement_failed
from .fields import array_header
from .group import Group
from .peer import Peer
from .session import Session
from .shapes import ShapeTable

CONTROL_TAGS = frozenset(
    {"BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PREPARE TRANSACTION"}
)
"""The tags of statements that begin, end or divide a transaction."""


class StatementFailed(Exception):
    """A statement failed: which, and its error."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index, error)
        self.index = index
        self.error = error


def request_of(now: float, since: float, worker: Worker, batch: Batch, kind: Kind) -> Request:
    """The batch as a request to the brain. since: when it came."""
    deadline = None if batch.timeout is None else now + batch.timeout
    return Request(worker, batch.id, kind, since, Statement(in_words(batch)), batch, deadline)


async def run_batch(session: Session, batch: Batch, shapes: ShapeTable, first: str = "") -> Results | Failed:
    """Run the batch. Rows in the results come with their columns. first: for a worker that may only read, what
    follows BEGIN READ ONLY.

    Raises what asyncpg raises where nothing has happened yet, or where the session itself is at fault.
    """
    if not batch.atomic:
        return await _one_by_one(session, batch, shapes)
    try:
        try:
            return await _all_or_nothing(session, batch, shapes, first)
        except StatementFailed as failure:
            if not isinstance(failure.error, asyncpg.InvalidCachedStatementError):
                raise
        # A table has changed since the statement was prepared, perhaps by the batch itself. Nothing has happened.
        return await _all_or_nothing(session, batch, shapes, first, prepare_anew=True)
    except StatementFailed as failure:
        return statement_failed(batch.id, failure.error, index=failure.index)


async def _all_or_nothing(
    session: Session, batch: Batch, shapes: ShapeTable, first: str, *, prepare_anew: bool = False
) -> Results:
    await session.execute(begin_transaction(batch, readonly=bool(first)) + first)
    results: list[Done | Rows | Failed] = []
    try:
        for index, (sql, args) in enumerate(batch.statements):
            if prepare_anew:
                session.forget_statements()
            try:
                results.append(await _statement(session, index, sql, args, shapes))
                if not session.is_in_transaction():  # it was a way to end it that its tag does not tell
                    raise _controls(index, sql)
            except Exception as error:
                raise StatementFailed(index, _as_lost(error)) from None
        try:
            await session.execute("COMMIT")
        except Exception as error:
            raise _as_lost(error) from None
    except Exception:
        if not session.is_closed() and session.is_in_transaction():
            await session.execute("ROLLBACK")
        raise
    return Results(batch.id, results)


async def _one_by_one(session: Session, batch: Batch, shapes: ShapeTable) -> Results | Failed:
    results: list[Done | Rows | Failed] = []
    for index, (sql, args) in enumerate(batch.statements):
        try:
            results.append(await _statement(session, index, sql, args, shapes))
        except Exception as error:
            if index == 0 and never_began(error):
                raise
            if session.is_closed() or never_began(error):
                return statement_failed(batch.id, _as_lost(error), index=index)
            results.append(statement_failed(index, error))
            if session.is_in_transaction():
                await session.execute("ROLLBACK")
            elif getattr(error, "severity", None) is None:  # not PostgreSQL's own, which ends at its Sync
                await session.finish()
    return Results(batch.id, results)


async def _statement(
    session: Session, index: int, sql: str, args: Sequence[object], shapes: ShapeTable
) -> Done | Rows:
    records, shape, tag = await session.rows_and_tag(sql, args, shapes)
    if tag in CONTROL_TAGS:
        raise _controls(index, sql)
    if not shape.columns:
        return Done(index, tag)
    return Rows(index, shape.number, shape.columns, msgspec.Raw(shape.encode(records)))


def begin_transaction(batch: Batch, *, readonly: bool = False) -> str:
    """The statement that begins an atomic batch. readonly: whatever it says itself."""
    level = "" if batch.isolation is None else f" ISOLATION LEVEL {batch.isolation.replace('_', ' ').upper()}"
    return f"BEGIN{level}{' READ ONLY' if batch.readonly or readonly else ''}"


def _controls(index: int, sql: str) -> asyncpg.InterfaceError:
    return asyncpg.InterfaceError(
        f"statement {index} of the batch begins or ends a transaction: {sql[:100]!r}; a batch does that itself, and "
        "what came before a COMMIT in it may have taken effect"
    )


def _as_lost(error: Exception) -> Exception:
    """The error; where asyncpg could not send the statement since PostgreSQL had said goodbye, that."""
    if not never_began(error):
        return error
    return asyncpg.ConnectionDoesNotExistError("PostgreSQL closed the connection in the middle of the batch")


# --- for the conductor ----------------------------------------------------------------------------------------


def in_words(batch: Batch) -> str:
    """The batch for people, in the place of a statement's text."""
    first = batch.statements[0][0] if batch.statements else ""
    return f"batch of {len(batch.statements)}: {first}"


def results_of(id: int, group: Group) -> Results:
    """What the statement lane has found."""
    results: list[Done | Rows | Failed] = []
    for index, result in enumerate(group.results):
        assert result is not None  # noqa: S101  # it has ended, and not with an error
        if result.error is not None:
            results.append(statement_failed(index, as_exception(result.error, group.statements[index][0].sql)))
        elif result.plan.width:
            shape = result.plan.shape
            rows = msgspec.Raw(array_header(len(result.rows)) + b"".join(result.rows))
            results.append(Rows(index, shape.number, shape.columns, rows))
        else:
            results.append(Done(index, result.tag.decode()))
    return Results(id, results)


def send_results(peer: Peer, results: Results) -> None:
    """Send the results; of each shape in them that the worker was told before, without the columns."""
    told_before = dict(peer.shapes)
    for each in results.results:
        if isinstance(each, Rows):
            if each.shape in peer.shapes:
                each.columns = None
            else:
                peer.remember(each.shape)
    if not peer.send(results):
        peer.shapes = told_before
