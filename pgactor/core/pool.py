"""The pool: requests, holders and leases, joined.

Every method is told `now`, decides at once, changes state at once, and returns what is to be done. Nothing here
waits. A request ends in exactly one answer: `answer` is the only door to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ..config import PoolSettings
from ..errors import (
    DatabaseUnavailable,
    LeaseError,
    LeaseLost,
    OutcomeUnknown,
    PgactorError,
    PoolClosing,
    RequestCancelled,
    RequestTimeout,
)
from ..messages import Token
from . import report
from .actions import Action, Disconnect, Grant, Reset, Run, TellLeaseEnded
from .deadlines import Deadlines
from .desk import Desk
from .fleet import Fleet
from .holder import Holder, HolderEvent, HolderState
from .lease import Lease, LeaseBusy, LeaseTable, expired
from .request import Kind, Request
from .roster import Roster, Worker


class Pool:
    """All that the supervisor knows and decides."""

    def __init__(self, settings: PoolSettings, *, epoch: int, random: Random, started_at: float = 0.0) -> None:
        self.settings = settings
        self.epoch = epoch
        self.started_at = started_at
        self.closing = False
        self.leases = LeaseTable(epoch)
        self.roster = Roster()
        self.deadlines: Deadlines[object] = Deadlines()
        self.fleet = Fleet(settings, self.deadlines, random)
        self.holders = self.fleet.holders
        self.scheduler = self.fleet.scheduler
        self.counters = dict.fromkeys(report.COUNTERS, 0)
        self.desk = Desk(settings, self.deadlines, self.counters)
        self.queue = self.desk.queue

    # --- workers ------------------------------------------------------------------------------------------

    def lost(self, now: float, worker: Worker, reason: str, *, in_order: bool = False) -> list[Action]:
        """The worker is gone: what it waits for is dropped, what it holds is taken back. in_order: it said so."""
        actions: list[Action] = []
        if not self.roster.leave(worker):
            return actions
        self.deadlines.cancel(worker)
        for lease in list(worker.leases.values()):
            self._end_lease(now, lease, LeaseLost(f"its worker {worker} is gone: {reason}"), actions, tell=False)
        for request in list(worker.requests.values()):
            self.desk.withdraw(request, RequestCancelled(f"its worker {worker} is gone: {reason}"), actions)
        self.counters["workers_lost"] += not in_order
        self._move_on(now, actions)
        return actions

    def heard(self, now: float, worker: Worker, tokens: list[Token]) -> None:
        """The worker lives, and holds these leases still."""
        worker.heard_at = now
        for token in tokens:
            try:
                self.leases.check(token, worker, now).renew(now)
            except LeaseError:
                continue  # it was told, or will be at the next use

    # --- requests -----------------------------------------------------------------------------------------

    def submit(self, now: float, request: Request, actions: list[Action]) -> None:
        """A request for any backend. (It adds to the actions given, as requests come many at a time.)

        Raises `ProtocolError` if its id is in use.
        """
        self.desk.enrol(now, request)
        statement = request.statement
        if request.work is not None and statement is not None and not request.worker.leases:
            seconds = statement.seconds
            if seconds is not None and seconds < self.settings.pipeline_short_seconds:
                request.shares = True
                request.cost = statement.cost
                if not (len(self.queue.sharing) or self.closing):
                    holder = self.scheduler.join(now, request)
                    if holder is not None:
                        self._run(now, holder, request, actions)
                        return
        if self.closing:
            self.desk.refuse(request, PoolClosing("the supervisor is shutting down; try again shortly"), actions)
        elif self._database_is_down(now):
            self.desk.refuse(request, self._unavailable(now), actions)
        elif not (request.shares or len(self.queue.alone)) and self._alone_may_go(now):
            self._assign(now, self.scheduler.take(), request, actions)
        elif len(self.queue) >= self.settings.max_waiting:
            self.counters["refused_queue_full"] += 1
            self.desk.refuse(request, report.queue_full(self, now), actions)
        else:
            self.desk.wait(now, request)
            if request.shares:  # there is no room, for it or for those before it: no need to look again
                self.fleet.open_more(now, len(self.queue), actions)
            else:
                self._move_on(now, actions)

    def submit_on_lease(self, now: float, request: Request, token: Token) -> list[Action]:
        """A statement for a lease's backend.

        Raises `LeaseExpired`, `LeaseLost`, `LeaseBusy` or `ProtocolError`; then the request is not known here.
        """
        lease = self.leases.check(token, request.worker, now)
        if lease.next is not None or (lease.running is not None and not lease.running.answered):
            raise LeaseBusy
        self.desk.enrol(now, request)
        lease.renew(now)
        request.lease = lease
        actions: list[Action] = []
        if lease.running is None:
            self._start(now, lease.holder, request, actions)
        else:  # its predecessor is being cancelled
            lease.next = request
            if request.deadline is not None:
                self.deadlines.set(request, request.deadline)
        return actions

    def withdraw(self, now: float, worker: Worker, id: int) -> list[Action]:
        """The worker waits for its request no more. Unknown ids are ignored: the answer may be on its way."""
        actions: list[Action] = []
        request = worker.requests.get(id)
        if request is not None:
            self.desk.withdraw(request, RequestCancelled("the worker withdrew the request"), actions)
            self._move_on(now, actions)
        return actions

    def answer(self, request: Request) -> bool:
        """Take the right to answer the request. False: it has been answered, the result is of no use."""
        return self.desk.answer(request)

    def release(self, now: float, worker: Worker, token: Token) -> list[Action]:
        """The owner gives its lease back. A token that names no lease of this worker is ignored."""
        actions: list[Action] = []
        try:
            lease = self.leases.check(token, worker, now)
        except LeaseError:
            return actions
        reason = LeaseLost(f"lease {token} has been released")
        self._end_lease(now, lease, reason, actions, tell=False)
        return actions

    # --- what the hands report ----------------------------------------------------------------------------

    def opened(self, now: float, holder: Holder, incarnation: int, backend_pid: int) -> list[Action]:
        """The holder's connection is open."""
        actions: list[Action] = []
        if not self.fleet.is_stale(holder, incarnation) and holder.state is HolderState.OPENING:
            self.counters["connections_opened"] += 1
            self.fleet.opened(now, holder, backend_pid)
            self._settle(now, holder, actions)
        return actions

    def open_failed(
        self, now: float, holder: Holder, incarnation: int, error: str, *, permanent: bool = False
    ) -> list[Action]:
        """The holder's connection could not be opened. permanent: waiting will not help (a wrong password)."""
        actions: list[Action] = []
        if self.fleet.is_stale(holder, incarnation) or holder.state is not HolderState.OPENING:
            return self.closed(now, holder, incarnation)
        self.counters["connections_failed"] += 1
        self.fleet.opener.failed(now, error)
        self.fleet.vacate(now, holder, HolderEvent.GONE)
        grace_is_over = self.fleet.opener.failing_for(now) >= self.settings.database_grace_seconds
        if not self.fleet.alive and (permanent or grace_is_over):
            for request in self.queue.clear():
                self.desk.refuse(request, self._unavailable(now), actions)
        self._move_on(now, actions)
        return actions

    def finished(
        self, now: float, holder: Holder, incarnation: int, request: Request, *, touched: bool = False
    ) -> list[Action]:
        """The request has been answered and the backend is quiet. touched: it may have left something behind."""
        actions: list[Action] = []
        if self.fleet.is_stale(holder, incarnation) or request not in holder.flight:
            return actions
        self.scheduler.came_back(now, holder, request)
        lease = request.lease
        if lease is not None:
            lease.running = None
            if (following := lease.next) is not None:
                lease.next = None
                self._start(now, holder, following, actions)
        elif (touched or request.kind is Kind.SESSION) and not self.fleet.is_due_to_retire(now, holder):
            holder.apply(HolderEvent.RELEASE, now)
            actions.append(Reset(holder))
        else:
            self._drained(now, holder, actions)
        return actions

    def came_back(
        self, now: float, holder: Holder, incarnation: int, requests: Sequence[Request], actions: list[Action]
    ) -> None:
        """The requests, sent to the holder one behind the other, have been answered and left nothing behind."""
        if self.fleet.is_stale(holder, incarnation):
            return
        for request in requests:
            self.scheduler.came_back(now, holder, request)
        if not holder.flight:
            self._drained(now, holder, actions)
        elif holder.newcomers:
            if self.fleet.is_due_to_retire(now, holder):
                self._claim(now, holder)
            elif len(self.queue.sharing) and (self._share(now, actions, holder) or self.closing):
                self._move_on(now, actions)

    def diverted(self, now: float, holder: Holder, incarnation: int, request: Request) -> list[Action]:
        """The statement lane cannot run the request, and has not: asyncpg is to."""
        actions: list[Action] = []
        if self.fleet.is_stale(holder, incarnation) or request not in holder.flight:
            return actions
        request.work = None
        if not request.shares:  # it is alone there
            if request.answered:  # it was withdrawn
                return self.finished(now, holder, incarnation, request)
            actions.append(Run(holder, request))
            return actions
        self.scheduler.came_back(now, holder, request)
        request.shares = False
        if not request.answered:
            self.fleet.winding_down = False  # a drain runs it yet
            self.desk.wait(now, request)
        if not holder.flight:
            self._drained(now, holder, actions)
        else:
            self._move_on(now, actions)
        return actions

    def unrun(self, now: float, holder: Holder, incarnation: int, request: Request) -> list[Action]:
        """The connection was lost before the request began; `gone` follows. It waits for another backend."""
        actions: list[Action] = []
        if self.fleet.is_stale(holder, incarnation) or request not in holder.flight or request.answered:
            return actions
        if request.lease is not None:
            lost = f"lease {request.lease.token} lost its connection to PostgreSQL before the statement began"
            self.desk.refuse(request, LeaseLost(lost), actions)
        else:
            self.scheduler.came_back(now, holder, request)
            self.fleet.winding_down = False  # a drain runs it yet
            self.desk.wait(now, request)
        return actions

    def reset_done(self, now: float, holder: Holder, incarnation: int) -> list[Action]:
        """The holder's session is as new."""
        actions: list[Action] = []
        if not self.fleet.is_stale(holder, incarnation) and holder.state is HolderState.RESETTING:
            holder.apply(HolderEvent.RESET_DONE, now)
            self._settle(now, holder, actions)
        return actions

    def closed(self, now: float, holder: Holder, incarnation: int) -> list[Action]:
        """The holder's connection is closed, as was asked."""
        actions: list[Action] = []
        if not self.fleet.is_stale(holder, incarnation) and holder.state is HolderState.CLOSING:
            self.fleet.vacate(now, holder, HolderEvent.CLOSED)
            self._move_on(now, actions)
        return actions

    def gone(self, now: float, holder: Holder, incarnation: int, reason: str) -> list[Action]:
        """The holder's connection was lost, of itself or because it had to be cut."""
        if self.fleet.is_stale(holder, incarnation):
            return []
        if holder.state is HolderState.OPENING:
            return self.open_failed(now, holder, incarnation, reason)
        if holder.state is HolderState.CLOSING:
            return self.closed(now, holder, incarnation)
        actions: list[Action] = []
        self.counters["connections_lost"] += 1
        self.fleet.opener.died(now)
        flight, lease = holder.flight, holder.lease
        self.fleet.vacate(now, holder, HolderEvent.GONE)
        for request in flight:
            unknown = f"the connection to PostgreSQL was lost while the statement ran: {reason}"
            self.desk.refuse(request, OutcomeUnknown(unknown), actions)
            request.holder = None
        if lease is not None:
            lost = f"lease {lease.token} lost its connection to PostgreSQL: {reason}; acquire again"
            self._end_lease(now, lease, LeaseLost(lost), actions)
        self._move_on(now, actions)
        return actions

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
                    self._request_is_late(now, key, actions)
                case Request():  # it has found a backend
                    if key.deadline is not None:
                        self.deadlines.set(key, key.deadline)
                case Lease():
                    if now < key.expires_at:
                        self.deadlines.set(key, key.expires_at)
                    else:
                        self.counters["leases_expired"] += 1
                        self._end_lease(now, key, expired(key, now), actions)
                case Holder():
                    self.fleet.aged(now, key, actions)
                case Worker():
                    self._worker_is_silent(now, key, actions)
        self._move_on(now, actions)  # which is all there is to do when the opener's pause is over
        return actions

    # --- administration -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Open the first min_size connections."""
        actions: list[Action] = []
        self._move_on(now, actions)
        return actions

    def expire_connections(self, now: float) -> list[Action]:
        """Replace every connection: idle ones now, used ones when they come back."""
        actions: list[Action] = []
        self.fleet.generation += 1
        self.fleet.retire_idle(now, actions)
        return actions

    def drain(self, now: float) -> list[Action]:
        """Take no new requests; let those that are here end, then close every connection."""
        actions: list[Action] = []
        self.closing = True
        self._move_on(now, actions)
        return actions

    def terminate(self, now: float) -> list[Action]:
        """End everything now: requests are refused, leases ended, connections closed."""
        actions: list[Action] = []
        self.closing = True
        self.fleet.winding_down = True
        for request in self.queue.clear():
            self.desk.refuse(request, PoolClosing("the supervisor is shutting down; it was not run"), actions)
        for lease in self.leases.all():
            self._end_lease(now, lease, LeaseLost("the supervisor is shutting down"), actions)
        for holder in self.holders:
            for request in holder.flight:
                if not request.answered:
                    self.desk.withdraw(request, OutcomeUnknown("the supervisor was shut down"), actions)
        self._wind_down(now, actions)
        return actions

    @property
    def drained(self) -> bool:
        """Whether no connection is left and nobody waits."""
        return not len(self.queue) and not self.fleet.alive

    # --- inside -------------------------------------------------------------------------------------------

    def _database_is_down(self, now: float) -> bool:
        """Whether PostgreSQL has refused every connection for so long that waiting is in vain; a new attempt
        is worth waiting for."""
        return (
            self.fleet.opener.failures > 0
            and self.fleet.opener.failing_for(now) >= self.settings.database_grace_seconds
            and now < self.fleet.opener.not_before
            and not self.fleet.alive
        )

    def _unavailable(self, now: float) -> DatabaseUnavailable:
        self.counters["refused_database_unavailable"] += 1
        return DatabaseUnavailable(
            f"PostgreSQL accepts no connection and has not for {self.fleet.opener.failing_for(now):.1f} s; "
            f"the last attempt: {self.fleet.opener.last_error}"
        )

    def _assign(self, now: float, holder: Holder, request: Request, actions: list[Action]) -> None:
        """Give an idle holder to the request."""
        if request.kind is not Kind.LEASE:
            self._run(now, holder, request, actions)
            return
        holder.apply(HolderEvent.GRANT, now)
        lease = self.leases.grant(
            now, holder, request.worker, ttl=request.ttl, max_hold=self.settings.max_hold_seconds
        )
        holder.lease = lease
        holder.last_statement = None
        request.worker.leases[lease.token.fence] = lease
        self.deadlines.set(lease, lease.expires_at)
        self.counters["leases_granted"] += 1
        self.answer(request)
        actions.append(Grant(request, lease))

    def _run(self, now: float, holder: Holder, request: Request, actions: list[Action]) -> None:
        """Send the request to a holder that is idle, or that others share."""
        if holder.state is HolderState.IDLE:
            holder.apply(HolderEvent.RUN, now)
        self._start(now, holder, request, actions)

    def _start(self, now: float, holder: Holder, request: Request, actions: list[Action]) -> None:
        holder.uses += 1
        holder.last_statement = request.statement
        request.holder = holder
        self.scheduler.sent(now, holder, request)
        if request.lease is not None:
            request.lease.running = request
        if request.deadline is not None and request not in self.deadlines:
            self.deadlines.set(request, request.deadline)  # if it has waited, `tick` does so when that time is over
        actions.append(Run(holder, request))

    def _settle(self, now: float, holder: Holder, actions: list[Action]) -> None:
        """The holder is idle again."""
        self.fleet.settle(now, holder, actions)
        self._move_on(now, actions)

    def _drained(self, now: float, holder: Holder, actions: list[Action]) -> None:
        """All that was sent to the holder has come back."""
        holder.apply(HolderEvent.DRAINED, now)
        self._settle(now, holder, actions)

    def _claim(self, now: float, holder: Holder) -> None:
        """Let the holder come to rest: it takes no newcomers."""
        self.scheduler.close(holder)
        holder.apply(HolderEvent.CLAIM, now)

    def _move_on(self, now: float, actions: list[Action]) -> None:
        """Bring waiting requests and holders together; open what is missing; wind down when nobody waits."""
        alone, sharing = self.queue.alone, self.queue.sharing
        while len(alone) and self._alone_may_go(now):
            self._assign(now, self.scheduler.take(), alone.pop(), actions)
        if len(sharing):
            self._share(now, actions)
        if len(alone) and not len(self.scheduler):
            while (claimed := self.scheduler.claim(now, self.holders, len(alone))) is not None:
                self._claim(now, claimed)
            again = self.scheduler.claim_again_at(now, self.holders)
            if again is not None and alone not in self.deadlines:
                self.deadlines.set(alone, again)
        if self.closing and not len(self.queue):
            self._wind_down(now, actions)
        else:
            self.fleet.open_more(now, len(self.queue), actions)

    def _alone_may_go(self, now: float) -> bool:
        """Whether a request that travels alone may have a holder that is idle now."""
        if not len(self.scheduler):
            return False
        if self.scheduler.alone_may_take(now, self.holders, len(self.queue.sharing)):
            return True
        if self.scheduler not in self.deadlines:  # when no more others come, it may
            self.deadlines.set(self.scheduler, self.scheduler.still_coming_until())
        return False

    def _share(self, now: float, actions: list[Action], only: Holder | None = None) -> bool:
        """Send those that share to the holders that have room. only: no other has room for the first of them.

        Returns whether some are to travel alone now, as their worker has got a lease since they came.
        """
        sharing = self.queue.sharing
        cost = sharing.peek().cost
        found_alone = False
        while len(sharing):
            request = sharing.peek()
            if request.cost < cost:
                only = None
            if request.worker.leases:
                sharing.remove(request)
                request.shares = False
                self.queue.push(request)
                found_alone = True
                continue
            holder = self.scheduler.join(now, request, only)
            if holder is None:
                break
            self._run(now, holder, sharing.pop(), actions)
        return found_alone

    def _wind_down(self, now: float, actions: list[Action]) -> None:
        """Retire every holder that works for nobody; the others are retired as they come back."""
        self.fleet.winding_down = True
        self.fleet.retire_idle(now, actions)
        for holder in self.holders:
            if holder.state in (HolderState.OPENING, HolderState.RESETTING):
                self.fleet.retire(now, holder, actions)

    def _end_lease(
        self, now: float, lease: Lease, reason: LeaseError, actions: list[Action], *, tell: bool = True
    ) -> None:
        """End the lease; its backend is reset or closed, unless it is gone already."""
        self.leases.end(lease, reason)
        lease.worker.leases.pop(lease.token.fence, None)
        self.deadlines.cancel(lease)
        if lease.running is not None:
            unknown = f"the lease ended while the statement ran, which may have taken effect: {reason}"
            self.desk.refuse(lease.running, OutcomeUnknown(unknown), actions)
        if lease.next is not None:
            self.desk.refuse(lease.next, reason, actions)
            lease.next = None
        if tell:
            actions.append(TellLeaseEnded(lease, reason))
        holder = lease.holder
        if holder.lease is not lease:
            return
        holder.lease = None
        if self.fleet.is_due_to_retire(now, holder):
            self.fleet.retire(now, holder, actions)
        else:
            holder.apply(HolderEvent.RELEASE, now)
            actions.append(Reset(holder))

    def _request_is_late(self, now: float, request: Request, actions: list[Action]) -> None:
        waited = now - request.since
        error: PgactorError
        if request.holder is None and request.lease is None:
            self.counters["refused_pool_timeout"] += 1
            error = report.pool_timeout(self, now, request)
        else:
            self.counters["requests_timed_out"] += 1
            error = RequestTimeout(
                f"the statement was cancelled after {waited:.2f} s, the end of its timeout; give it a longer "
                "one (timeout=...) or make it faster"
            )
        self.desk.withdraw(request, error, actions)

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
