"""The conductor: the only one who talks to the brain.

What workers send and what backends report goes to the brain; what the brain decides is carried out here. All of it
happens in the callbacks of one event loop, so the brain is never asked twice at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import asyncpg

from .. import wire
from ..config import Settings
from ..core import report
from ..core.actions import Action, Close, Disconnect, Grant, Interrupt, Open, Refuse, Reset, Run, TellLeaseEnded
from ..core.holder import Holder
from ..core.lease import LeaseBusy
from ..core.pool import Pool
from ..core.request import Kind, Request
from ..core.roster import Worker
from ..core.statement import Statement
from ..errors import ConfigError, LeaseError, ProtocolError, SupervisorUnavailable
from ..messages import (
    PROTOCOL_VERSION,
    Acquire,
    Batch,
    Bye,
    Cancel,
    Done,
    Execute,
    ExecuteMany,
    Expire,
    Failed,
    Fetch,
    FetchMany,
    FromWorker,
    Granted,
    Heartbeat,
    Hello,
    LeaseEnded,
    Release,
    Results,
    Rows,
    StatementRequest,
    Status,
    StatusReport,
    Token,
    Welcome,
)
from ..messages import Request as AnyRequest
from ..version import __version__
from . import batches
from .backend import Backend
from .failures import failed, in_words, statement_failed
from .fields import array_header
from .group import Group
from .lane import Lane
from .peer import Peer
from .plan import Plan
from .session import Session, as_exception
from .shapes import Shape, ShapeTable

log = logging.getLogger("pgactor.conductor")

CLOCK_SECONDS = 0.002
"""How much too early a timer of the event loop may come. It may also come long before the next deadline: when the one
that it was set for has been cancelled."""

_BUSY = asyncpg.InterfaceError("cannot perform operation: another operation is in progress")

REPLIES_TO_COME = 8
"""A reply waits for others only if its worker awaits so many more: one that awaits nothing else gets it at once."""

STATEMENTS = (Fetch, Execute, ExecuteMany, FetchMany, Batch)

MESSAGES_PER_TURN = 64
"""How many messages of one worker are heard before others have their turn."""

MAX_BACKLOG = 4096
"""How many may wait to be heard before no more of the worker's are read."""

_ROWS = b"\x96\xa4rows\xcf"
_FALSE = b"\xc2"
"""How a Rows message begins, before its id in 8 bytes, and ends, outside of a transaction."""

_PERMANENT = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
    ConfigError,
)
"""Failures to connect that waiting does not mend."""


class Conductor:
    """Joins the workers, the brain and the backends of one pool."""

    def __init__(self, settings: Settings, *, connect: Callable[[], Awaitable[Session]], epoch: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._connect = connect
        self._shapes = ShapeTable()
        self._frames = wire.worker_frames(settings.max_frame_bytes)
        self._backends: dict[Holder, Backend] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._drained: asyncio.Event = asyncio.Event()
        self.malformed_messages = 0
        self.pool = Pool(settings.pool, epoch=epoch, random=Random(), started_at=self._loop.time())  # noqa: S311
        self._lane = Lane(settings, self._shapes, self.pool.counters)
        self._resets = settings.pool.reset_every_statement

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the first connections."""
        self._do(self.pool.start(self._loop.time()))

    async def drain(self, seconds: float) -> None:
        """Let work in progress end, for so many seconds, then end it."""
        self._do(self.pool.drain(self._loop.time()))
        try:
            async with asyncio.timeout(seconds):
                await self._drained.wait()
        except TimeoutError:
            log.warning("work was still in progress after drain_timeout_seconds: it is ended")
            self._do(self.pool.terminate(self._loop.time()))
            try:
                async with asyncio.timeout(self._settings.pool.reset_timeout_seconds):
                    await self._drained.wait()
            except TimeoutError:
                log.warning("%d connections did not close in time", len(self._backends))
        if self._timer is not None:
            self._timer.cancel()
        tasks = [backend.task for backend in self._backends.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what workers say ---------------------------------------------------------------------------------

    def frame(self, peer: Peer, frame: bytes) -> None:
        """A frame of messages from a worker."""
        try:
            messages = self._frames.decode(frame)
        except ProtocolError as error:
            self.malformed(peer, str(error))
            peer.send(failed(None, error))
            return
        if peer.backlog:
            peer.backlog.extend(messages)
            if len(peer.backlog) > MAX_BACKLOG:
                peer.pause_reading()
        elif len(messages) <= MESSAGES_PER_TURN:
            self._hear(peer, messages)
        else:
            peer.backlog.extend(messages)
            self._hear_more(peer)

    def _hear_more(self, peer: Peer) -> None:
        """Hear a worker that has much to say, but not for so long that others have to wait."""
        backlog = peer.backlog
        self._hear(peer, [backlog.popleft() for _ in range(min(len(backlog), MESSAGES_PER_TURN))])
        if peer.closed:
            backlog.clear()
        elif backlog:
            self._loop.call_soon(self._hear_more, peer)
        else:
            peer.resume_reading()

    def _hear(self, peer: Peer, messages: Sequence[FromWorker | wire.Malformed]) -> None:
        self._lane.turn.enter()
        now = self._loop.time()
        actions: list[Action] = []
        for message in messages:
            if peer.closed:
                break
            worker = peer.worker
            if worker is not None and isinstance(message, STATEMENTS):  # most are: no detour for them
                worker.heard_at = now
                if message.epoch == self.pool.epoch:
                    self._statement(now, worker, message, actions)
                else:
                    peer.send(failed(message.id, _other_life()))
                continue
            self._do(actions)
            actions.clear()
            if isinstance(message, wire.Malformed):
                self.malformed(peer, message.reason)
                peer.send(failed(message.id, ProtocolError(f"the message was not understood: {message.reason}")))
            elif isinstance(message, Hello):
                self._hello(peer, message)
            elif worker is None:
                self.malformed(peer, "said no hello")
                no_hello = ProtocolError("the first message on a link is expected to be a hello")
                peer.send(failed(message.id if isinstance(message, AnyRequest) else None, no_hello))
            else:
                self._message(peer, worker, message)
        self._do(actions)

    def disconnected(self, peer: Peer, reason: str) -> None:
        """A worker's link has ended."""
        if peer.worker is not None:
            self._do(self.pool.lost(self._loop.time(), peer.worker, reason, in_order=peer.said_goodbye))

    def malformed(self, peer: Peer | None, reason: str) -> None:
        """Something could not be read: counted, and said once in a while."""
        self.malformed_messages += 1
        self.pool.counters["malformed_messages"] = self.malformed_messages
        if self.malformed_messages & (self.malformed_messages - 1) == 0:
            who = peer.worker or f"a stranger (pid {peer.pid})" if peer is not None else "a stranger"
            log.warning("malformed message %d, from %s: %s", self.malformed_messages, who, reason)

    def _hello(self, peer: Peer, hello: Hello) -> None:
        if hello.version != PROTOCOL_VERSION:
            error = ProtocolError(
                f"the worker speaks version {hello.version} of the protocol, this supervisor (pgactor {__version__}) "
                f"speaks {PROTOCOL_VERSION}: use the same pgactor on both sides"
            )
            self.malformed(peer, str(error))
            peer.send(failed(None, error))
            peer.close(str(error))
            return
        if peer.worker is not None:
            peer.send(failed(None, ProtocolError("hello was said already on this link")))
            return
        peer.max_frame_bytes = min(peer.max_frame_bytes, max(hello.max_frame_bytes, 1024))
        silence = self._settings.silence_seconds if peer.road == "tcp" else None
        peer.worker = self.pool.roster.join(
            now=self._loop.time(),
            label=hello.label[:200],
            pid=peer.pid or hello.pid,
            road=peer.road,
            silence_limit=silence,
            link=peer,
        )
        peer.send(
            Welcome(
                PROTOCOL_VERSION,
                self.pool.epoch,
                f"pgactor {__version__}",
                self._settings.max_frame_bytes,
                self._settings.heartbeat_seconds if silence else 0.0,
            )
        )

    def _message(self, peer: Peer, worker: Worker, message: FromWorker) -> None:
        worker.heard_at = now = self._loop.time()
        if isinstance(message, AnyRequest) and message.epoch != self.pool.epoch:
            peer.send(failed(message.id, _other_life()))
            return
        match message:
            case Acquire():
                self._acquire(now, worker, message)
            case Release(lease=token):
                self._do(self.pool.release(now, worker, token))
            case Heartbeat(leases=tokens):
                self.pool.heard(now, worker, tokens)
            case Cancel(id=id):
                self._do(self.pool.withdraw(now, worker, id))
            case Status(id=id):
                peer.send(StatusReport(id, report.status(self.pool, now)))
            case Expire(id=id):
                self._do(self.pool.expire_connections(now))
                peer.send(Done(id))
            case Bye():
                peer.said_goodbye = True
                peer.close("it said goodbye")

    def _statement(self, now: float, worker: Worker, message: StatementRequest, actions: list[Action]) -> None:
        if isinstance(message, Batch):
            self._batch(now, worker, message, actions)
            return
        statement = self._lane.statements.get(message.sql)
        request = Request(
            worker,
            message.id,
            Kind.STATEMENT if statement.leaves_nothing and not self._resets else Kind.SESSION,
            now,
            statement,
            message,
            None if message.timeout is None else now + message.timeout,
        )
        if message.lease is None:
            self._lane.admit(request)
            try:
                self.pool.submit(now, request, actions)
            except ProtocolError as error:
                self._refuse_id(worker, error)
        else:
            self._on_lease(now, request, message.lease)

    def _batch(self, now: float, worker: Worker, message: Batch, actions: list[Action]) -> None:
        alone = all(self._lane.statements.get(sql).leaves_nothing for sql, _ in message.statements)
        kind = Kind.STATEMENT if alone and not self._resets else Kind.SESSION
        deadline = None if message.timeout is None else now + message.timeout
        request = Request(worker, message.id, kind, now, Statement(batches.in_words(message)), message, deadline)
        self._lane.admit(request)
        try:
            self.pool.submit(now, request, actions)
        except ProtocolError as error:
            self._refuse_id(worker, error)

    def _on_lease(self, now: float, request: Request, token: Token) -> None:
        worker = request.worker
        self._lane.count("lease")
        try:
            self._do(self.pool.submit_on_lease(now, request, token))
        except ProtocolError as error:
            self._refuse_id(worker, error)
        except LeaseBusy:
            worker.link.send(failed(request.id, _BUSY, in_transaction=self._in_transaction(token)))
        except LeaseError as error:
            worker.link.send(failed(request.id, error))

    def _acquire(self, now: float, worker: Worker, message: Acquire) -> None:
        ttl = self._settings.pool.lease_ttl_seconds if message.ttl is None else message.ttl
        deadline = None if message.timeout is None else now + message.timeout
        actions: list[Action] = []
        try:
            request = Request(worker, message.id, Kind.LEASE, now, None, message, deadline, ttl)
            self.pool.submit(now, request, actions)
        except ProtocolError as error:
            self._refuse_id(worker, error)
        self._do(actions)

    def _refuse_id(self, worker: Worker, error: ProtocolError) -> None:
        """The request has no id of its own to be answered with."""
        self.malformed(worker.link, str(error))
        worker.link.send(failed(None, error))

    def _in_transaction(self, token: Token | None) -> bool:
        """Whether the lease's backend is inside a transaction: a statement that is refused leaves it as it was."""
        backend = None if token is None else self._backends.get(self.pool.holders[token.holder])
        return backend is not None and backend.in_transaction

    # --- what backends report -----------------------------------------------------------------------------

    def opened(self, backend: Backend) -> None:
        self._do(self.pool.opened(self._loop.time(), backend.holder, backend.incarnation, backend.pid))

    def open_failed(self, backend: Backend, error: BaseException) -> None:
        self._forget(backend)
        log.warning("cannot connect to PostgreSQL: %s", in_words(error))
        permanent = isinstance(error, _PERMANENT)
        now, words = self._loop.time(), in_words(error)
        self._do(self.pool.open_failed(now, backend.holder, backend.incarnation, words, permanent=permanent))

    def answer(self, request: Request, reply: Done | Rows | Results | Failed, shape: Shape | None) -> None:
        if not self.pool.answer(request):
            return
        peer: Peer = request.worker.link
        if isinstance(reply, Results):
            batches.send_results(peer, reply)
        elif shape is not None and isinstance(reply, Rows) and shape.number not in peer.shapes:
            reply.columns = shape.columns
            if peer.send(reply):
                peer.remember(shape.number)
        else:
            more_to_come = len(request.worker.requests) >= REPLIES_TO_COME
            peer.send(reply, may_wait=more_to_come and len(self.pool.queue) > len(self.pool.holders))

    def rows(self, request: Request, plan: Plan, rows: list[bytes]) -> None:
        if not self.pool.answer(request):
            return
        peer: Peer = request.worker.link
        shape = plan.shape
        known = shape.number in peer.shapes
        columns = shape.as_known if known else shape.as_told
        head = (_ROWS, request.id.to_bytes(8, "big"), columns, array_header(len(rows)))
        may_wait = len(request.worker.requests) >= REPLIES_TO_COME
        if peer.send_encoded(request.id, b"".join((*head, *rows, _FALSE)), may_wait=may_wait) and not known:
            peer.remember(shape.number)

    def tag(self, request: Request, tag: bytes) -> None:
        if self.pool.answer(request):
            request.worker.link.send(Done(request.id, tag.decode()))

    def failed(self, request: Request, error: Exception) -> None:
        if self.pool.answer(request):
            request.worker.link.send(statement_failed(request.id, error))

    def results(self, request: Request, group: Group) -> None:
        if not self.pool.answer(request):
            return
        peer: Peer = request.worker.link
        if group.error is not None:
            index, error = group.error
            sql = "" if index is None else group.statements[index][0].sql
            named = index if isinstance(request.payload, Batch) else None
            peer.send(statement_failed(request.id, as_exception(error, sql), index=named))
        elif isinstance(request.payload, Batch):
            batches.send_results(peer, batches.results_of(request.id, group))
        else:
            peer.send(Done(request.id))

    def came_back(self, backend: Backend, requests: list[Request]) -> None:
        actions: list[Action] = []
        self.pool.counters["statements_pipelined"] += len(requests)
        self.pool.came_back(self._loop.time(), backend.holder, backend.incarnation, requests, actions)
        self._do(actions)

    def diverted(self, backend: Backend, request: Request) -> None:
        self._do(self.pool.diverted(self._loop.time(), backend.holder, backend.incarnation, request))

    def finished(self, backend: Backend, request: Request, touched: bool) -> None:
        now = self._loop.time()
        self.pool.counters["statements_in_session"] += 1
        self._do(self.pool.finished(now, backend.holder, backend.incarnation, request, touched=touched))

    def unrun(self, backend: Backend, request: Request) -> None:
        self._do(self.pool.unrun(self._loop.time(), backend.holder, backend.incarnation, request))

    def reset_done(self, backend: Backend) -> None:
        self._do(self.pool.reset_done(self._loop.time(), backend.holder, backend.incarnation))

    def closed(self, backend: Backend) -> None:
        self._forget(backend)
        self._do(self.pool.closed(self._loop.time(), backend.holder, backend.incarnation))

    def gone(self, backend: Backend, reason: str) -> None:
        self._forget(backend)
        log.warning("backend %d (pid %d) is gone: %s", backend.holder.number, backend.pid, reason)
        self._do(self.pool.gone(self._loop.time(), backend.holder, backend.incarnation, reason))

    def _forget(self, backend: Backend) -> None:
        if self._backends.get(backend.holder) is backend:
            del self._backends[backend.holder]

    # --- what the brain decides ---------------------------------------------------------------------------

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if type(action) is Run:  # most are
                self._backends[action.holder].run(action.request)
                continue
            match action:
                case Grant(request, lease):
                    waited = lease.granted_at - request.since
                    granted = Granted(request.id, lease.token, lease.ttl, lease.holder.backend_pid, waited)
                    request.worker.link.send(granted)
                case Refuse(request, error):
                    token = None if request.lease is None else request.lease.token
                    refusal = failed(request.id, error, in_transaction=self._in_transaction(token))
                    request.worker.link.send(refusal)
                case Interrupt(holder, request):
                    self._backends[holder].interrupt(request)
                case Reset(holder):
                    self._backends[holder].reset()
                case Open(holder):
                    self._backends[holder] = Backend(
                        holder,
                        connect=self._connect,
                        reports=self,
                        shapes=self._shapes,
                        reset_timeout=self._settings.pool.reset_timeout_seconds,
                        lane=self._lane,
                        max_bytes=self._settings.max_frame_bytes,
                    )
                case Close(holder):
                    self._backends[holder].close()
                case TellLeaseEnded(lease, error):
                    lease.worker.link.send(LeaseEnded(lease.token, error.code, str(error)))
                case Disconnect(worker, reason):
                    worker.link.close(reason)
        self._watch_the_clock()
        if self.pool.closing and self.pool.drained:
            self._drained.set()

    def _watch_the_clock(self) -> None:
        """Have the brain ticked when its next deadline is due."""
        if self._timer is not None and self._timer_due <= self.pool.deadlines.soonest:
            return  # it comes early enough, and will look again
        due = self.pool.next_deadline()
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                return  # it comes early enough, and will look again
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_due = due  # uvloop's timers do not all know it
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now, due = self._loop.time(), self.pool.next_deadline()
        if due is not None and now < due <= now + CLOCK_SECONDS:
            now = due  # call_at may come a clock's resolution too early; without this it would come again and again
        self._do(self.pool.tick(now))


def _other_life() -> SupervisorUnavailable:
    return SupervisorUnavailable("the request was meant for an earlier life of the supervisor; it was not run")


def new_epoch() -> int:
    """A number for this life of the supervisor, higher than that of any before it."""
    return time.time_ns() // 1000
