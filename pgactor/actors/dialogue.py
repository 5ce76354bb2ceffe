"""The dialogue with the workers: what they send becomes requests to the brain.

A worker that has much to say is heard a bit at a time, so that others are not kept waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from .. import wire
from ..config import DEFAULT_POOL, Settings
from ..core import report
from ..core.actions import Action
from ..core.lease import Lease
from ..core.pool import Pool
from ..core.request import Kind, Request
from ..core.roster import Worker
from ..errors import LeaseError, PgactorError, ProtocolError, SupervisorUnavailable
from ..messages import (
    Acquire,
    Batch,
    Bye,
    Cancel,
    Done,
    Execute,
    ExecuteMany,
    Fetch,
    FetchMany,
    Heartbeat,
    Hello,
    Release,
    Token,
)
from ..messages import Request as AnyRequest
from ..messages.copying import Chunk, CopyIn, CopyOut, Credit, EndOfChunks
from ..messages.listening import Listen, Unlisten
from ..messages.operating import OperatorRequest
from ..messages.pool import Expire, PoolStatus, Resize, SetConnectArgs, Status, StatusReport
from ..messages.unions import FromWorker, LeaseNotice, StatementRequest
from . import batches, copying, greeting, strangers
from .administration import Administration, SetArguments
from .failures import failed, in_words
from .faults import tell
from .lane import Lane
from .letting import Letting
from .limits import SMALL_BYTES, Limits
from .listener import Listener
from .litter import Litter
from .peer import Peer
from .permits import known
from .tenants import TenantRequest

log = logging.getLogger("pgactor.dialogue")

STATEMENTS = (Fetch, Execute, ExecuteMany, FetchMany, Batch)

MESSAGES_PER_TURN = 32
"""How many messages of one worker are heard before others have their turn."""

MAX_BACKLOG = 4096
"""How many may wait to be heard before no more of the worker's are read."""

_OF_NO_LEASE = ProtocolError(
    "a prepared statement is a lease's: a request that gives the number of one is expected to give its lease, too"
)


class Dialogue:
    """Takes the frames of all workers.

    do: carries out what the brain decides. tell: takes what a lease's worker says to its session. in_transaction:
    whether a lease's backend is inside a transaction. set_connect_args: replaces the connect arguments of new
    connections. cancelled: is told of requests that are withdrawn, by their workers and ids. operate: carries out
    what concerns more than this pool. pool_name: the pool's. pool_names: those of all pools of the supervisor.
    add_to_status: adds what is known of the supervisor.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        lane: Lane,
        listener: Listener,
        *,
        do: Callable[[list[Action]], None],
        tell: Callable[[Lease, LeaseNotice], None],
        in_transaction: Callable[[Token | None], bool],
        set_connect_args: SetArguments | None = None,
    ) -> None:
        self.administration = Administration(pool, set_connect_args, do=do)
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._resets = settings.pool.resets_always
        self._limits = Limits(settings.pool)
        self._lane = lane
        self._listener = listener
        self._do = do
        self._tell = tell
        self._letting = Letting(pool, lane, do=do, in_transaction=in_transaction, refuse_id=self._refuse_id)
        self._frames = wire.worker_frames(settings.max_frame_bytes)
        self.pool = pool
        self.cancelled: Callable[[Worker, int], None] = lambda _, __: None
        self.litter = Litter()
        self.operate: Callable[[Peer, OperatorRequest], None] = lambda _, __: None
        self.pool_name = DEFAULT_POOL
        self.pool_names: Callable[[], list[str]] = lambda: [self.pool_name]
        self.add_to_status: Callable[[PoolStatus], None] = lambda _: None

    def take_over(self, other: Dialogue) -> None:
        """Say of the pool's names and of the supervisor what the other one has said, and have operators heard by
        whom it had."""
        self.pool_name, self.pool_names, self.add_to_status = other.pool_name, other.pool_names, other.add_to_status
        self.operate = other.operate

    def state(self, now: float) -> PoolStatus:
        """The state of the pool, and what is known of the supervisor."""
        state = report.status(self.pool, now)
        state.pool, state.pools = self.pool_name, self.pool_names()
        state.slowest = [report.statement_status(each) for each in self._lane.statements.slowest(report.SLOWEST)]
        self.add_to_status(state)
        return state

    def configure(self, settings: Settings) -> None:
        """Go by other settings."""
        self._settings = settings
        self._limits.configure(settings.pool)

    def frame(self, peer: Peer, frame: bytes) -> None:
        """A frame of messages from a worker."""
        try:
            self._frame(peer, frame)
        except Exception as error:
            self._failed(peer, error)

    def _failed(self, peer: Peer, error: Exception) -> None:
        tell(f"{peer.worker} said something, and its link is ended", error)
        peer.backlog.clear()
        peer.send(failed(None, SupervisorUnavailable(f"the supervisor met an unexpected error: {in_words(error)}")))
        peer.close(in_words(error))

    def _frame(self, peer: Peer, frame: bytes) -> None:
        try:
            messages = self._frames.decode(frame)
        except ProtocolError as error:
            self.malformed(peer, str(error))
            peer.send(failed(None, error))
            return
        if len(frame) > SMALL_BYTES and peer.worker is not None:
            messages = self._limits.within(peer, peer.worker, messages, len(frame))
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
        try:
            self._hear(peer, [backlog.popleft() for _ in range(min(len(backlog), MESSAGES_PER_TURN))])
        except Exception as error:
            self._failed(peer, error)
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
        ended: PgactorError | None = None
        try:
            for message in messages:
                if peer.closed:
                    break
                worker = peer.worker
                if worker is not None and isinstance(message, STATEMENTS):  # most are: no detour for them
                    worker.heard_at = now
                    if message.epoch != self.pool.epoch:
                        peer.send(failed(message.id, strangers.other_life()))
                    elif len(worker.requests) >= self._limits.requests:
                        peer.send(failed(message.id, self._limits.too_many_requests()))
                    else:
                        self._statement(now, worker, message, actions)
                    continue
                decided, actions = actions, []  # so that nothing is done twice, whatever comes in between
                self._do(decided)
                if isinstance(message, wire.Malformed):
                    self.malformed(peer, message.reason)
                    peer.send(failed(message.id, ProtocolError(f"the message was not understood: {message.reason}")))
                elif isinstance(message, Hello):
                    self._hello(peer, message)
                elif worker is None:
                    self.malformed(peer, "said no hello")
                    ended = strangers.answer(peer, message) or ended
                else:
                    self._message(peer, worker, message)
        finally:  # whatever was decided is done
            if ended is not None:
                peer.send(failed(None, ended))
            self._do(actions)

    def disconnected(self, peer: Peer, reason: str) -> None:
        """A worker's link has ended."""
        self.litter.add()
        if peer.worker is not None:
            try:
                self._listener.leave(peer)
            finally:
                self._do(self.pool.lost(self._loop.time(), peer.worker, reason, in_order=peer.said_goodbye))

    def malformed(self, peer: Peer | None, reason: str) -> None:
        """Something could not be read: counted, and said once in a while."""
        self.pool.counters["malformed_messages"] += 1
        count = self.pool.counters["malformed_messages"]
        if count & (count - 1) == 0:
            who = peer.worker or f"a stranger (pid {peer.pid})" if peer is not None else "a stranger"
            fields = {"pool": self.pool_name, "worker": str(who)}
            log.warning("malformed message %d, from %s: %s", count, who, reason, extra=fields)

    def _hello(self, peer: Peer, hello: Hello) -> None:
        if (error := greeting.misfit(hello)) is not None:
            self.malformed(peer, str(error))
            peer.send(failed(None, error))
            peer.close(str(error))
        elif peer.worker is not None:
            peer.send(failed(None, ProtocolError("hello was said already on this link")))
        else:
            peer.send(greeting.join(self._loop.time(), peer, hello, self.pool, self._settings))

    def _message(self, peer: Peer, worker: Worker, message: FromWorker) -> None:
        worker.heard_at = now = self._loop.time()
        if isinstance(message, AnyRequest):
            if message.epoch != self.pool.epoch:
                peer.send(failed(message.id, strangers.other_life()))
                return
            if len(worker.requests) >= self._limits.requests:
                peer.send(failed(message.id, self._limits.too_many_requests()))
                return
        match message:
            case Acquire():
                if (error := self._limits.too_many_leases(worker)) is not None:
                    peer.send(failed(message.id, error))
                else:
                    self._letting.acquire(now, worker, message)
            case Release(lease=token):
                self._do(self.pool.release(now, worker, token))
            case Heartbeat(leases=tokens):
                self.pool.heard(now, worker, tokens)
            case Cancel(id=id):
                self._do(self.pool.withdraw(now, worker, id))
                self._listener.withdraw(peer, id)
                self.cancelled(worker, id)
            case Status(id=id):
                state = self.state(now)
                state.pools = known(peer.permit, state.pools)
                peer.send(StatusReport(id, state))
            case CopyOut() | CopyIn():
                self._letting.copy(now, worker, message, peer)
            case Chunk() | EndOfChunks() | Credit():
                copying.hear(worker, message)
            case Expire() | Resize() | SetConnectArgs():
                answer = self.administration.hear(now, worker.road, peer.permit, message)
                if isinstance(message, Expire) and isinstance(answer, Done):
                    self._listener.renew()
                peer.send(answer)
            case Listen(lease=None):
                self._listener.listen(peer, message)
            case Unlisten(lease=None):
                self._listener.unlisten(peer, message)
            case Bye():
                peer.said_goodbye = True
                peer.close("it said goodbye")
            case _ if isinstance(message, OperatorRequest):
                self.operate(peer, message)
            case _ if isinstance(message, TenantRequest):
                self._letting.tenant(now, worker, message)
            case _ if isinstance(message, LeaseNotice):
                with suppress(LeaseError):  # it was told, or will be at the next use
                    self._tell(self.pool.leases.check(message.lease, worker, now), message)

    def _statement(self, now: float, worker: Worker, message: StatementRequest, actions: list[Action]) -> None:
        if isinstance(message, Batch):
            alone = all(self._lane.statements.get(sql).leaves_nothing for sql, _ in message.statements)
            kind = Kind.STATEMENT if alone and not self._resets else Kind.SESSION
            request = batches.request_of(now, self._lane.turn.began, worker, message, kind)
        else:
            lease = message.lease
            statement = self._lane.statements.get(message.sql)
            clean = statement.leaves_nothing if lease is None else statement.keeps_clean
            request = Request(
                worker,
                message.id,
                Kind.STATEMENT if clean and not self._resets else Kind.SESSION,
                self._lane.turn.began,
                statement,
                message,
                None if message.timeout is None else now + message.timeout,
            )
            if lease is not None:
                self._letting.submit(now, request, lease, actions)
                return
            if not isinstance(message, Execute) and message.statement is not None:
                worker.link.send(failed(message.id, _OF_NO_LEASE))
                return
        if message.waited:
            request.waited = message.waited
        if worker.reads_only:
            self._lane.count("read_only")
        else:
            self._lane.admit(request)
        try:
            self.pool.submit(now, request, actions)
        except ProtocolError as error:
            self._refuse_id(worker, error)

    def _refuse_id(self, worker: Worker, error: ProtocolError) -> None:
        """The request has no id of its own to be answered with."""
        self.malformed(worker.link, str(error))
        worker.link.send(failed(None, error))
