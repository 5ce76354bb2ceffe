"""The session lane on one backend: asyncpg runs each statement, one after another.

The way of a request: what must come before it (is the connection alive, the setup hook, types that the statement lane
wants to know), the statement itself or what a lease's tenancy does, the answer, which is reported here, and the
session's rest (rest.py). Nobody may want it any more meanwhile (interrupting.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from ..core.lease import Lease
from ..core.request import Request
from ..errors import RequestCancelled
from ..messages import Acquire, Batch, Done, Execute, ExecuteMany, Fetch, FetchMany, Rows
from ..messages.session import Describe, Prepare
from .batches import run_batch
from .copying import Copy
from .failures import EXPECTED, failed, in_words, never_began, statement_failed
from .hooks import Hooks, Setup
from .interrupting import Interrupting
from .lane import Lane
from .reading import TAKE_SNAPSHOT, Reading
from .reports import Answer, BackendReports
from .rest import Rest
from .session import Session, ShapedSink
from .shapes import Shape, ShapeTable
from .streaming import pass_all_on, pass_on
from .tenancy import Tenancy, described
from .tenants import is_tenants

if TYPE_CHECKING:
    from .backend import Backend

log = logging.getLogger("pgactor.backend")


class NeverBegan(Exception):
    """The statement was not even sent."""


class SessionLane:
    """The session lane on one backend. lane: the statement lane's; patience: seconds for PostgreSQL to show that it
    is alive."""

    def __init__(
        self,
        backend: Backend,
        session: Session,
        *,
        reports: BackendReports,
        shapes: ShapeTable,
        lane: Lane | None,
        hooks: Hooks,
        recycling: str,
        patience: float,
        max_bytes: int,
    ) -> None:
        self._backend = backend
        self._session = session
        self._reports = reports
        self._shapes = shapes
        self._lane = lane
        self._hooks = hooks
        self._recycling = recycling
        self._patience = patience
        self._max_bytes = max_bytes
        self.reading = Reading(session)
        self.rest = Rest(session, hooks=hooks, recycling=recycling, seconds=patience)
        self.interrupting = Interrupting(session, backend.task, patience=patience)

    def let(self, lease: Lease) -> Tenancy:
        """The session is the lease's from now on."""
        return Tenancy(
            self._session,
            lease,
            self._shapes,
            pass_on=self._encoded,
            sink=self._sink,
            schema_changed=self._reports.schema_changed,
        )

    async def set_up(self, setup: Setup) -> None:
        """Call the setup hook for a lease, and report."""
        error: Exception | None = RequestCancelled(
            "the setup hook was interrupted: the lease had ended, or nobody waited for it"
        )
        try:
            with self.interrupting.during(setup):
                await self._hooks.prepare(self._session, setup.request.deadline)
                error = None
        except Exception as failure:
            error = failure
        self._reports.set_up(self._backend, setup, error)

    async def run(self, request: Request) -> bool:
        """Run the statement, answer and come to rest; False if the connection did not survive it. Raises
        `NeverBegan`."""
        session = self._session
        if session.is_closed():
            raise NeverBegan
        synced = False
        with self.interrupting.during(request):
            synced = await self._answer(request)
        if not synced and not session.is_closed():
            await self.rest.settle(self.reading)
        if session.is_closed():
            return False
        request.payload = None  # whoever still remembers the request, as the heap of deadlines does, needs it no more
        self._reports.finished(self._backend, request, session.is_in_transaction())
        return True

    async def _answer(self, request: Request) -> bool:
        """Run the statement and answer. Returns whether PostgreSQL has had its Sync, with nothing under way."""
        message = request.payload
        try:
            if self._recycling == "verified" and request.lease is None:
                await self._verify()
                if isinstance(message, Acquire):
                    return True
            if self._hooks.setup is not None and request.lease is None and not await self._is_ready_for(request):
                return False
            if self._lane is not None and self._lane.wanted and _may_look_types_up(request):
                await self._look_types_up(self._lane, on_lease=request.lease is not None)
            if _may_listen(request):
                self._session.expect_notifications()
            tenancy = None if request.lease is None else self._backend.tenancy
            if tenancy is not None:
                await tenancy.tidy(message)
            if request.worker.reads_only:
                reply, shape = await self._read(request, tenancy)
            elif tenancy is not None and is_tenants(message):
                reply, shape = await tenancy.perform(request)
            else:
                reply, shape = await self._perform(request)
        except NeverBegan:
            raise
        except Exception as error:
            if never_began(error):
                raise NeverBegan from None
            self._tell_settings(request)
            self._reports.answer(
                request, statement_failed(message.id, error, in_transaction=self._backend.in_transaction), None
            )
            return getattr(error, "severity", None) is not None  # PostgreSQL's own errors end at its Sync
        self._tell_settings(request)
        self._reports.answer(request, reply, shape)
        if isinstance(message, Prepare):
            return message.name == ""  # which the Sync, a statement of its own, would undo
        return not isinstance(message, ExecuteMany | FetchMany | Describe) or bool(getattr(message, "args", ()))

    def _tell_settings(self, request: Request) -> None:
        """Before it has its answer, the lease's worker is told what has changed."""
        if request.lease is not None and self._backend.tenancy is not None:
            self._backend.tenancy.tell_settings()

    async def _is_ready_for(self, request: Request) -> bool:
        """Call the setup hook before the request; if that fails, its error is the answer."""
        try:
            await self._hooks.prepare(self._session)
        except BaseException as error:
            if isinstance(error, Exception) and never_began(error):
                raise
            self._reports.spoiled(self._backend)
            if not isinstance(error, Exception):
                raise  # it was interrupted
            self._reports.answer(request, failed(request.id, error), None)
            return False
        return True

    async def _verify(self) -> None:
        """See that PostgreSQL answers. A connection that does not counts as lost before the request began."""
        try:
            async with asyncio.timeout(self._patience):
                await self._session.execute("")
        except EXPECTED as error:
            log.warning("backend %d does not answer: %s", self._backend.holder.number, in_words(error))
            raise NeverBegan from None

    async def _look_types_up(self, lane: Lane, *, on_lease: bool) -> None:
        """While the session is at hand: what the statement lane wants to know of types. On a lease, whose transaction
        may have failed, asyncpg is about to look them up itself."""
        asked = list(lane.wanted)
        try:
            lane.learn(asked, await self._session.types_of(asked))
        except EXPECTED as error:
            if self._session.is_closed():
                raise NeverBegan from None
            if not on_lease:
                log.warning("types could not be looked up: %s", in_words(error))
                lane.learn(asked, ())

    async def _read(self, request: Request, tenancy: Tenancy | None) -> tuple[Answer, Shape | None]:
        """What a worker that may only read asks for."""
        message = request.payload
        does = tenancy.perform if tenancy is not None and is_tenants(message) else self._perform
        for last in (False, True):
            try:
                reply, shape = await self.reading.run(message, partial(does, request), on_lease=tenancy is not None)
                break
            except asyncpg.InvalidCachedStatementError:  # it did not run, since a table has changed
                if last or self._session.is_in_transaction():
                    raise
        if hasattr(reply, "in_transaction"):
            reply.in_transaction = self._session.is_in_transaction()
        return reply, shape

    async def _perform(self, request: Request) -> tuple[Answer, Shape | None]:
        session = self._session
        match request.payload:
            case Fetch(id=id, sql=sql, args=args, limit=0):
                records, shape = await session.rows(sql, args, 0, self._shapes, self._sink(request))
            case Fetch(id=id, sql=sql, args=args, limit=limit):
                records, shape = await session.rows(sql, args, limit, self._shapes)
            case Execute(id=id, sql=sql, args=args) if request.worker.reads_only:  # one statement, and no more
                _, _, status = await session.rows_and_tag(sql, args, self._shapes)
                return Done(id, status, session.is_in_transaction()), None
            case Execute(id=id, sql=sql, args=args):
                status = await session.execute(sql, *args)
                return Done(id, status, session.is_in_transaction()), None
            case ExecuteMany(id=id, sql=sql, args=args):
                await session.executemany(sql, args)
                return Done(id, None, session.is_in_transaction()), None
            case FetchMany(id=id, sql=sql, args=args):
                records, shape = await session.rows_of_many(sql, args, self._shapes)
            case Batch():
                first = TAKE_SNAPSHOT if request.worker.reads_only else ""
                return await run_batch(session, request.payload, self._shapes, first), None
            case Copy():
                return await request.payload.run(session), None
            case Describe():
                return await described(session, request.payload), None
            case other:
                raise RuntimeError(f"{type(other).__name__} needs a lease")
        data = await self._encoded(request, shape, records)
        return Rows(id, shape.number, None, data, session.is_in_transaction()), shape

    def _sink(self, request: Request) -> ShapedSink:
        """Passes on what comes of a large result before its end."""

        async def sink(shape: Shape, rows: list[Any]) -> None:
            await pass_all_on(request, shape, rows, self._reports, self._max_bytes)

        return sink

    async def _encoded(self, request: Request, shape: Shape, records: Sequence[Sequence[Any]]) -> msgspec.Raw:
        """The rows for a reply; those that are too many for one are passed on before it."""
        return msgspec.Raw(await pass_on(request, shape, records, self._reports, self._max_bytes))


def _may_look_types_up(request: Request) -> bool:
    """Whether there may be a look-up before the request: on a lease only if its own types are not known."""
    if request.lease is None:
        return True
    plan = None if request.statement is None else request.statement.plan
    return plan is not None and plan.why_not == "types"


def _may_listen(request: Request) -> bool:
    """Whether notifications may come to the session after the request."""
    statement = request.statement
    return statement is not None and not statement.leaves_nothing and "listen" in statement.sql.lower()
