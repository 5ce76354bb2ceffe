"""The pool: requests, holders and leases, joined. What workers ask and what the hands report comes in here.

Every method is told `now`, decides at once, changes state at once, and returns what is to be done. Nothing here
waits. A request ends in exactly one answer: `answer` is the only door to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ..config.pool import PoolSettings
from ..errors import LeaseLost, OutcomeUnknown, PoolClosing, RequestCancelled
from ..messages import Token
from . import report
from .actions import Action, Disconnect
from .connecting import Connecting
from .deadlines import Deadlines
from .deadlock import hold_up
from .dealing import Dealing
from .desk import Desk
from .fleet import Fleet
from .holder import Holder
from .lease import Lease, expired
from .leasing import Leasing
from .metrics import Metrics
from .request import Request
from .roster import Roster, Worker
from .statement import LEAST_SECONDS


class Pool:
    """All that the supervisor knows and decides."""

    def __init__(self, settings: PoolSettings, *, epoch: int, random: Random, started_at: float = 0.0) -> None:
        self.settings = settings
        self.epoch = epoch
        self.started_at = started_at
        self.unused_since = started_at  # when its last worker left
        self.roster = Roster()
        self.deadlines: Deadlines[object] = Deadlines()
        self.counters = dict.fromkeys(report.COUNTERS, 0)
        self.metrics = Metrics()
        self.fleet = Fleet(settings, self.deadlines, random)
        self.desk = Desk(settings, self.fleet.scheduler.window, self.deadlines, self.counters)
        self.leasing = Leasing(
            settings, self.fleet, self.desk, self.deadlines, self.counters, self.metrics, epoch=epoch
        )
        self.dealing = Dealing(self.fleet, self.desk, self.leasing, self.deadlines, self.counters, self.metrics)
        self.connecting = Connecting(self.fleet, self.desk, self.leasing, self.dealing, self.counters)
        self.holders = self.fleet.holders
        self.scheduler = self.fleet.scheduler
        self.leases = self.leasing.table
        self.queue = self.desk.queue
        self.window = self.scheduler.window

    @property
    def closing(self) -> bool:
        """Whether no new requests are taken."""
        return self.desk.closing

    @property
    def drained(self) -> bool:
        """Whether no connection is left and nobody waits."""
        return not len(self.queue) and not self.fleet.alive

    # --- workers ------------------------------------------------------------------------------------------

    def lost(self, now: float, worker: Worker, reason: str, *, in_order: bool = False) -> list[Action]:
        """The worker is gone: what it waits for is dropped, what it holds is taken back. in_order: it said so."""
        actions: list[Action] = []
        if not self.roster.leave(worker):
            return actions
        self.unused_since = now
        self.deadlines.cancel(worker)
        for lease in list(worker.leases.values()):
            self.leasing.end(now, lease, LeaseLost(f"its worker {worker} is gone: {reason}"), actions, tell=False)
        for request in list(worker.requests.values()):
            self.desk.withdraw(request, RequestCancelled(f"its worker {worker} is gone: {reason}"), actions)
        self.counters["workers_lost"] += not in_order
        self.dealing.move_on(now, actions)
        return actions

    def heard(self, now: float, worker: Worker, tokens: list[Token]) -> None:
        """The worker lives, and holds these leases still."""
        worker.heard_at = now
        self.leasing.heard(now, worker, tokens)

    # --- requests -----------------------------------------------------------------------------------------

    def submit(self, now: float, request: Request, actions: list[Action]) -> None:
        """A request for any backend. (It adds to the actions given, as requests come many at a time.)

        Raises `ProtocolError` if its id is in use.
        """
        desk = self.desk
        desk.enrol(now, request)
        statement = request.statement
        if request.work is not None and statement is not None and not request.worker.leases:
            seconds = statement.seconds
            if seconds is not None and seconds < self.settings.pipeline_short_seconds:
                request.shares = True
                request.cost = seconds if seconds > LEAST_SECONDS else LEAST_SECONDS  # noqa: FURB136  # a call would cost more
                if not (self.queue.sharing.count or desk.closing) and self.window.is_open(request.worker):
                    holder = self.scheduler.join(now, request)
                    if holder is not None:
                        self.fleet.send(now, holder, request, actions)
                        return
        if desk.closing:
            desk.refuse(request, PoolClosing("the supervisor is shutting down; try again shortly"), actions)
        elif self.fleet.refuses(now):
            self.dealing.refuse_unavailable(now, request, actions)
        elif not (request.shares or self.queue.round_of(request).count) and self.dealing.may_go(now, request):
            self.dealing.assign(now, request, actions)
        elif len(self.queue) >= self.settings.max_waiting and self._has_its_share(request.worker):
            self.counters["refused_queue_full"] += 1
            desk.refuse(request, report.queue_full(self.fleet, len(self.queue), now), actions)
        else:
            desk.wait(now, request)
            if request.shares:  # there is no room, for it or for those before it: no need to look again
                self.fleet.open_more(now, self.queue.count, actions)
            else:
                self.dealing.move_on(now, actions)

    def acquire(self, now: float, request: Request, tokens: Sequence[Token], actions: list[Action]) -> None:
        """A request for a lease. tokens: the leases that its worker holds until it is answered.

        Raises `ProtocolError` if its id is in use.
        """
        self.submit(now, request, actions)
        if tokens:
            hold_up(request, tokens)
            self.dealing.move_on(now, actions)

    def _has_its_share(self, worker: Worker) -> bool:
        """Whether it is not only for others that the queue is full."""
        return len(worker.requests) * len(self.roster) > self.settings.max_waiting

    def submit_on_lease(self, now: float, request: Request, token: Token) -> list[Action]:
        """A statement for a lease's backend.

        Raises `LeaseExpired`, `LeaseLost`, `LeaseBusy` or `ProtocolError`; then the request is not known here.
        """
        return self.leasing.submit(now, request, token)

    def withdraw(self, now: float, worker: Worker, id: int) -> list[Action]:
        """The worker waits for its request no more. Unknown ids are ignored: the answer may be on its way."""
        actions: list[Action] = []
        request = worker.requests.get(id)
        if request is not None:
            self.desk.withdraw(request, RequestCancelled("the worker withdrew the request"), actions)
            self.dealing.move_on(now, actions)
        return actions

    def answer(self, request: Request) -> bool:
        """Take the right to answer the request. False: it has been answered, the result is of no use."""
        return self.desk.answer(request)

    def release(self, now: float, worker: Worker, token: Token) -> list[Action]:
        """The owner gives its lease back. A token that names no lease of this worker is ignored."""
        actions: list[Action] = []
        self.leasing.release(now, worker, token, actions)
        self.dealing.move_on(now, actions)
        return actions

    # --- what the hands report ----------------------------------------------------------------------------

    def opened(self, now: float, holder: Holder, incarnation: int, backend_pid: int) -> list[Action]:
        """The holder's connection is open."""
        return self.connecting.opened(now, holder, incarnation, backend_pid)

    def open_failed(
        self, now: float, holder: Holder, incarnation: int, error: str, *, permanent: bool = False
    ) -> list[Action]:
        """The holder's connection could not be opened. permanent: waiting will not help (a wrong password)."""
        return self.connecting.open_failed(now, holder, incarnation, error, permanent=permanent)

    def finished(
        self, now: float, holder: Holder, incarnation: int, request: Request, *, touched: bool = False
    ) -> list[Action]:
        """The request has been answered and the backend is quiet. touched: it may have left something behind; on a
        lease: it left the session inside a transaction."""
        return self.dealing.finished(now, holder, incarnation, request, touched=touched)

    def came_back(
        self, now: float, holder: Holder, incarnation: int, requests: Sequence[Request], actions: list[Action]
    ) -> None:
        """The requests, sent to the holder one behind the other, have been answered and left nothing behind."""
        if self.fleet.is_stale(holder, incarnation):
            return
        self.metrics.came_back(now, len(holder.flight), requests)
        came_back, unparked = self.dealing.came_back, False
        for request in requests:
            unparked |= came_back(now, holder, request)
        if not holder.flight:
            self.dealing.drained(now, holder, actions)
            return
        if holder.newcomers and self.fleet.is_due_to_retire(now, holder):
            self.dealing.claim(now, holder)
        if unparked or (
            holder.newcomers
            and self.queue.sharing.count
            and (self.dealing.share(now, actions, holder) or self.closing)
        ):
            self.dealing.move_on(now, actions)

    def diverted(self, now: float, holder: Holder, incarnation: int, request: Request) -> list[Action]:
        """The statement lane cannot run the request, and has not: asyncpg is to."""
        return self.dealing.diverted(now, holder, incarnation, request)

    def unrun(self, now: float, holder: Holder, incarnation: int, request: Request) -> list[Action]:
        """The connection was lost before the request began; `gone` follows."""
        return self.connecting.unrun(now, holder, incarnation, request)

    def reset_done(self, now: float, holder: Holder, incarnation: int) -> list[Action]:
        """The holder's session is as new."""
        return self.connecting.reset_done(now, holder, incarnation)

    def spoiled(self, now: float, holder: Holder, incarnation: int) -> None:
        """The holder's session is fit for nobody, as a hook that failed left it: close it when it comes back."""
        if not self.fleet.is_stale(holder, incarnation):
            self.fleet.spoil(now, holder)

    def closed(self, now: float, holder: Holder, incarnation: int) -> list[Action]:
        """The holder's connection is closed, as was asked."""
        return self.connecting.closed(now, holder, incarnation)

    def gone(self, now: float, holder: Holder, incarnation: int, reason: str) -> list[Action]:
        """The holder's connection was lost, of itself or because it had to be cut."""
        return self.connecting.gone(now, holder, incarnation, reason)

    # --- time ---------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `tick` is to be called next; None: nothing is due ever."""
        return self.deadlines.next()

    def tick(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
        for key in self.deadlines.due(now):
            match key:
                case Request() if key.holder is None or (key.deadline is not None and key.deadline <= now):
                    self.dealing.late(now, key, actions)
                case Request():  # it has found a backend
                    if key.deadline is not None:
                        self.deadlines.set(key, key.deadline)
                case Lease():
                    if now < key.expires_at:
                        self.leasing.still_held(now, key, actions)
                    else:
                        self.counters["leases_expired"] += 1
                        self.leasing.end(now, key, expired(key, now), actions)
                case Holder():
                    self.fleet.aged(now, key, actions)
                case Worker():
                    self._worker_is_silent(now, key, actions)
        self.dealing.move_on(now, actions)  # which is all there is to do when the opener's pause is over
        return actions

    # --- administration -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Open the first init_size connections."""
        actions: list[Action] = []
        self.fleet.start()
        self.dealing.move_on(now, actions)
        return actions

    def expire_connections(self, now: float) -> list[Action]:
        """Replace every connection: idle ones now, used ones when they come back."""
        actions: list[Action] = []
        self.fleet.generation += 1
        self.fleet.retire_idle(now, actions)
        return actions

    def resize(self, now: float, max_size: int, min_size: int | None = None) -> list[Action]:
        """Change how many connections there may be, and are kept up; min_size: None leaves it, or brings it down to
        max_size. Those that are too many are closed when nobody uses them.

        Raises ValueError for sizes that cannot be; then nothing has changed.
        """
        actions: list[Action] = []
        self.fleet.resize(now, max_size, min_size, actions)
        self.settings = self.fleet.settings
        self.window.most = self.settings.most_in_flight
        self.dealing.move_on(now, actions)
        return actions

    def reach(self, now: float) -> list[Action]:
        """Somebody wants to know whether PostgreSQL can be reached: open a connection, if there is none."""
        actions: list[Action] = []
        if not self.fleet.alive and not self.closing:
            self.fleet.open_more(now, 1, actions)
        return actions

    def drain(self, now: float) -> list[Action]:
        """Take no new requests; let those that are here end, then close every connection."""
        actions: list[Action] = []
        self.desk.closing = True
        self.dealing.move_on(now, actions)
        return actions

    def terminate(self, now: float) -> list[Action]:
        """End everything now: requests are refused, leases ended, connections closed."""
        actions: list[Action] = []
        self.desk.closing = True
        self.fleet.winding_down = True
        for request in self.queue.clear():
            self.desk.refuse(request, PoolClosing("the supervisor is shutting down; it was not run"), actions)
        for lease in self.leases.all():
            self.leasing.end(now, lease, LeaseLost("the supervisor is shutting down"), actions)
        for holder in self.holders:
            for request in holder.flight:
                if not request.answered:
                    self.desk.withdraw(request, OutcomeUnknown("the supervisor was shut down"), actions)
        self.fleet.wind_down(now, actions)
        return actions

    def _worker_is_silent(self, now: float, worker: Worker, actions: list[Action]) -> None:
        limit = worker.silence_limit
        if limit is None or not worker.engaged:
            return
        due = worker.heard_at + limit
        if now < due:  # not `now - heard_at < limit`: rounded, it may be true at `due` itself, forever
            self.deadlines.set(worker, due)
        else:
            reason = f"nothing was heard of it for {now - worker.heard_at:.1f} s"
            actions.extend(self.lost(now, worker, reason))
            actions.append(Disconnect(worker, reason))
