"""Fakes that stand in for the outside world.

`Bench` puts the brain on a bench: a clock that only the test moves, and hands that carry out nothing before the test
says so. It does with a `Pool` what the conductor does, and after every step it checks that the pool's books agree
with each other and with what the hands have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from pgactor.config import PoolSettings
from pgactor.core.actions import Action, Close, Grant, Interrupt, Open, Refuse, Reset, Run, TellLeaseEnded
from pgactor.core.holder import Holder, HolderState
from pgactor.core.lease import Lease
from pgactor.core.pool import Pool
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.scheduler import GATHERED_SECONDS, Scheduler
from pgactor.core.statement import LEAST_SECONDS, Statement, StatementTable
from pgactor.core.waitqueue import Round
from pgactor.errors import PgactorError
from pgactor.messages import Token

DONE = "done"
"""The outcome of a request whose result was given to the worker."""

Outcome = Lease | Exception | str


@dataclass(eq=False, slots=True)
class FakeBackend:
    """One connection, and what the hands were told to do with it and have not done yet.

    flight: what was sent to it and has not come back. interrupted: those of them that were to be cancelled.
    """

    holder: Holder
    incarnation: int
    is_open: bool = False
    flight: list[Request] = field(default_factory=list)
    interrupted: set[Request] = field(default_factory=set)
    resetting: bool = False
    closing: bool = False

    @property
    def running(self) -> Request | None:
        """What it works on."""
        return self.flight[0] if self.flight else None


def has_room(settings: PoolSettings, now: float, holder: Holder, request: Request) -> bool:
    """Whether the rules allow it to send the request behind those that the holder works on."""
    return (
        holder.state is HolderState.BUSY
        and holder.newcomers  # one that was closed stays so until it has come to rest
        and request.shares
        and len(holder.flight) < settings.pipeline_depth
        and all(other.shares and not may_lock(other) for other in holder.flight)
        and holder.load + request.cost <= GATHERED_SECONDS
        and now - holder.head_since <= settings.pipeline_stall_seconds
    )


def may_lock(request: Request) -> bool:
    """Whether nobody may stand behind the request."""
    return request.statement is not None and request.statement.may_lock


def first_of(round: Round) -> Request:
    """The request whose turn it is, found without a touch."""
    left = {worker: line.credit for worker, line in round._lines.items()}
    while True:
        worker = next(iter(left))
        if left[worker] > 1e-9:
            return round._lines[worker].requests[0]
        left[worker] = left.pop(worker) + round._credit


class WatchedScheduler(Scheduler):
    """A scheduler under whose eyes nothing is sent that may not be, at that moment.

    together: how many were sent behind others. claims: how many holders were claimed. looks: how often it was looked
    whether a holder has room.
    """

    def __init__(self, settings: PoolSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.together = 0
        self.claims = 0
        self.looks = 0

    def sent(self, now: float, holder: Holder, request: Request) -> None:
        """As the scheduler's."""
        assert request not in holder.flight
        if request.shares:
            assert holder.state is HolderState.BUSY, "nobody joins one that drains"
            assert request.kind is Kind.STATEMENT
            assert request.work is not None
            assert request.lease is None
            assert not request.worker.leases, "whoever has a lease stands behind nobody"
        if holder.flight:
            assert holder.newcomers
            assert has_room(self.settings, now, holder, request), "it may not stand behind these"
            self.together += 1
        elif request.shares:
            awake = [other for other in self._sharing if has_room(self.settings, now, other, request)]
            assert not awake, "nobody is woken while one that is awake has room"
        super().sent(now, holder, request)

    def _has_room(self, now: float, holder: Holder, request: Request) -> bool:
        self.looks += 1
        return super()._has_room(now, holder, request)

    def claim(self, now: float, holders: list[Holder], waiting: int) -> Holder | None:
        """As the scheduler's."""
        claimed = super().claim(now, holders, waiting)
        self.claims += claimed is not None
        return claimed


class Bench:
    """A pool, a clock and a pair of hands.

    outcomes: the answer of each request that has one. backends: the connections that exist. past: those that did.
    told: the leases whose owners were told of their end. opens: how many connections were ordered. sent: what was
    sent to backends, in order.
    """

    def __init__(self, *, seed: int = 1, now: float = 1000.0, **settings: Any) -> None:
        self.now = now
        self.settings = PoolSettings(**settings)
        self.pool = Pool(self.settings, epoch=7, random=Random(seed), started_at=now)
        self.scheduler = self.pool.scheduler = self.pool.fleet.scheduler = WatchedScheduler(self.settings)
        self.statements = StatementTable()
        self.outcomes: dict[Request, Outcome] = {}
        self.requests: list[Request] = []
        self.backends: dict[Holder, FakeBackend] = {}
        self.past: list[FakeBackend] = []
        self.told: dict[Lease, PgactorError] = {}
        self.opens = 0
        self.sent: list[Request] = []
        self._highest_fence = 0
        self._ids = itertools.count(1)

    @classmethod
    def ready(cls, size: int = 1, **settings: Any) -> Bench:
        """A bench whose pool has opened all the connections it may."""
        bench = cls(**{"min_size": size, "max_size": size, "opens_at_once": size} | settings)
        bench.start()
        bench.open_all()
        return bench

    # --- what workers do ------------------------------------------------------------------------------------

    def worker(self, label: str = "", *, pid: int = 0, silence_limit: float | None = None) -> Worker:
        """A worker says hello; with a silence_limit its end cannot be seen, as on tcp."""
        road = "ipc" if silence_limit is None else "tcp"
        return self.pool.roster.join(
            now=self.now, label=label, pid=pid, road=road, silence_limit=silence_limit, link=None
        )

    def submit(
        self,
        worker: Worker,
        statement: str = "select 1",
        *,
        kind: Kind = Kind.STATEMENT,
        timeout: float | None = None,
        ttl: float = 30.0,
    ) -> Request:
        """The worker asks for any backend, for what asyncpg runs."""
        return self.enter(self._request(worker, statement, kind, timeout, ttl))

    def send(
        self,
        worker: Worker,
        sql: str = "select 1",
        *,
        seconds: float | None = LEAST_SECONDS,
        timeout: float | None = None,
    ) -> Request:
        """The worker sends what the statement lane runs. seconds: how long it is known to take; None: nothing new."""
        request = self._request(worker, sql, Kind.STATEMENT, timeout, 0.0)
        request.work = "bytes"
        if seconds is not None:
            self.statement(sql).seconds = seconds
        return self.enter(request)

    def flood(
        self, worker: Worker, count: int, sql: str = "select 1", *, seconds: float = LEAST_SECONDS
    ) -> list[Request]:
        """The worker sends so many statements at once, in one message."""
        self.statement(sql).seconds = seconds
        requests = [self._request(worker, sql, Kind.STATEMENT, None, 0.0) for _ in range(count)]
        actions: list[Action] = []
        for request in requests:
            request.work = "bytes"
            self.pool.submit(self.now, request, actions)
        self._do(actions)
        return requests

    def statement(self, sql: str) -> Statement:
        """What is known of the statement."""
        return self.statements.get(sql)

    def enter(self, request: Request) -> Request:
        """The request comes to the pool."""
        actions: list[Action] = []
        self.pool.submit(self.now, request, actions)
        self._do(actions)
        return request

    def acquire(self, worker: Worker, *, timeout: float | None = None, ttl: float = 30.0) -> Request:
        """The worker asks for a lease."""
        return self.submit(worker, "", kind=Kind.LEASE, timeout=timeout, ttl=ttl)

    def lease(self, worker: Worker, *, ttl: float = 30.0) -> Lease:
        """The worker asks for a lease and gets it at once."""
        outcome = self.outcomes[self.acquire(worker, ttl=ttl)]
        assert isinstance(outcome, Lease)
        return outcome

    def submit_on(
        self,
        lease: Lease,
        statement: str = "select 1",
        *,
        worker: Worker | None = None,
        token: Token | None = None,
        timeout: float | None = None,
    ) -> Request:
        """The lease's owner, or another worker, sends a statement with its token, or another one."""
        request = self._request(worker or lease.worker, statement, Kind.SESSION, timeout, 0.0)
        try:
            self._do(self.pool.submit_on_lease(self.now, request, token or lease.token))
        except Exception:
            self.requests.pop()
            raise
        return request

    def withdraw(self, request: Request) -> None:
        """The worker waits for the request no more."""
        self._do(self.pool.withdraw(self.now, request.worker, request.id))

    def release(self, lease: Lease, *, worker: Worker | None = None, token: Token | None = None) -> None:
        """The lease's owner, or another worker, gives back its token, or another one."""
        self._do(self.pool.release(self.now, worker or lease.worker, token or lease.token))

    def heartbeat(self, worker: Worker, *tokens: Token) -> None:
        """The worker tells that it lives and which leases it holds."""
        self.pool.heard(self.now, worker, list(tokens))
        self.check()

    def lose(self, worker: Worker) -> None:
        """The worker's link ends."""
        self._do(self.pool.lost(self.now, worker, "its link ended"))

    # --- what the hands do ----------------------------------------------------------------------------------

    def opening(self) -> list[Holder]:
        """The holders whose connections are being opened, the first ordered first."""
        return [holder for holder, backend in self.backends.items() if not backend.is_open and not backend.closing]

    def open(self, holder: Holder | None = None) -> Holder:
        """A connection that was ordered is open: the first one, or the holder's."""
        holder = holder or self.opening()[0]
        backend = self.backends[holder]
        backend.is_open = True
        pid = 100 * (holder.number + 1) + backend.incarnation
        self._do(self.pool.opened(self.now, holder, backend.incarnation, pid))
        return holder

    def open_all(self) -> None:
        """Every connection that is ordered is open."""
        while self.opening():
            self.open()

    def fail_open(
        self, holder: Holder | None = None, error: str = "connection refused", *, permanent: bool = False
    ) -> None:
        """A connection that was ordered could not be opened: the first one, or the holder's."""
        holder = holder or self.opening()[0]
        backend = self._forget(holder)
        self._do(self.pool.open_failed(self.now, holder, backend.incarnation, error, permanent=permanent))

    def finish(self, request: Request, *, touched: bool = False) -> None:
        """The request's statement has ended, well or because it was interrupted, and the backend is quiet."""
        holder = request.holder
        assert holder is not None, f"{request!r} does not run"
        backend = self.backends[holder]
        assert backend.running is request
        if request.work is not None:
            self.come_back(holder, 1)
            return
        self._back(backend)
        self._do(self.pool.finished(self.now, holder, backend.incarnation, request, touched=touched))

    def come_back(self, holder: Holder, count: int | None = None) -> list[Request]:
        """The first so many of those that the statement lane sent to the holder have ended; None: all of them."""
        backend = self.backends[holder]
        requests = [self._back(backend) for _ in range(len(backend.flight) if count is None else count)]
        assert all(request.work is not None for request in requests)
        actions: list[Action] = []
        self.pool.came_back(self.now, holder, backend.incarnation, requests, actions)
        self._do(actions)
        return requests

    def divert(self, request: Request) -> None:
        """The statement lane finds that it cannot run the request, which it has been given."""
        holder = request.holder
        assert holder is not None, f"{request!r} does not run"
        backend = self.backends[holder]
        backend.flight.remove(request)
        backend.interrupted.discard(request)
        self._do(self.pool.diverted(self.now, holder, backend.incarnation, request))

    def _back(self, backend: FakeBackend) -> Request:
        request = backend.flight.pop(0)
        if request in backend.interrupted:
            backend.interrupted.remove(request)
        else:
            self.give_result(request)
        return request

    def give_result(self, request: Request) -> None:
        """The request's statement has a result; the backend is not quiet yet."""
        if self.pool.answer(request):
            self._answered(request, DONE)

    def reset(self, holder: Holder) -> None:
        """The holder's session is as new."""
        backend = self.backends[holder]
        assert backend.resetting
        if backend.running is not None:
            self.finish(backend.running)
        backend.resetting = False
        self._do(self.pool.reset_done(self.now, holder, backend.incarnation))

    def close(self, holder: Holder) -> None:
        """The holder's connection is closed, as was asked."""
        backend = self.backends[holder]
        assert backend.closing
        if backend.running is not None:
            self.finish(backend.running)
        assert not backend.flight
        self._forget(holder)
        self._do(self.pool.closed(self.now, holder, backend.incarnation))

    def cut(self, holder: Holder, *, unrun: int = 0) -> None:
        """The holder's connection is lost. unrun: the last so many of those in flight had not begun."""
        backend = self._forget(holder)
        actions: list[Action] = []
        for request in backend.flight[len(backend.flight) - unrun :]:
            actions += self.pool.unrun(self.now, holder, backend.incarnation, request)
        actions += self.pool.gone(self.now, holder, backend.incarnation, "the server closed the connection")
        self._do(actions)

    def settle(self) -> None:
        """The hands do all that they were told; statements that nobody interrupted go on running."""
        while any(self._one_order(backend) for backend in list(self.backends.values())):
            pass

    def _one_order(self, backend: FakeBackend) -> bool:
        if backend.closing:
            self.close(backend.holder)
        elif not backend.is_open:
            self.open(backend.holder)
        elif backend.resetting:
            self.reset(backend.holder)
        elif backend.running in backend.interrupted:
            assert backend.running is not None
            self.finish(backend.running)
        else:
            return False
        return True

    # --- time and administration ----------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass; what falls due is done at its very moment."""
        until = self.now + seconds
        while (due := self.pool.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self._do(self.pool.tick(self.now))
        self.now = until

    def start(self) -> None:
        """The supervisor starts."""
        self._do(self.pool.start(self.now))

    def expire_connections(self) -> None:
        """Every connection is to be replaced."""
        self._do(self.pool.expire_connections(self.now))

    def drain(self) -> None:
        """The supervisor stops when all work is done."""
        self._do(self.pool.drain(self.now))

    def terminate(self) -> None:
        """The supervisor stops now."""
        self._do(self.pool.terminate(self.now))

    # --- what can be seen -----------------------------------------------------------------------------------

    def error(self, request: Request) -> PgactorError:
        """The error that the request was answered with."""
        outcome = self.outcomes[request]
        assert isinstance(outcome, PgactorError), outcome
        return outcome

    def runs(self, request: Request) -> bool:
        """Whether the request has a backend."""
        return request.holder is not None

    def running_together(self, holder: Holder | None = None) -> int:
        """How many the holder, or the first one, works on."""
        return len((holder or self.pool.holders[0]).flight)

    def in_state(self, state: HolderState) -> list[Holder]:
        """The holders in this state."""
        return [holder for holder in self.pool.holders if holder.state is state]

    def states(self) -> list[str]:
        """The state of each holder, in order."""
        return [holder.state.value for holder in self.pool.holders]

    # --- inside ---------------------------------------------------------------------------------------------

    def _request(self, worker: Worker, sql: str, kind: Kind, timeout: float | None, ttl: float) -> Request:
        worker.heard_at = self.now
        deadline = None if timeout is None else self.now + timeout
        statement = self.statement(sql) if sql else None
        request = Request(worker, next(self._ids), kind, self.now, statement, deadline=deadline, ttl=ttl)
        self.requests.append(request)
        return request

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Open(holder):
                    assert holder not in self.backends, "a holder has one connection at a time"
                    self.backends[holder] = FakeBackend(holder, holder.incarnation)
                    self.opens += 1
                case Close(holder):
                    self.backends[holder].closing = True
                    self.backends[holder].interrupted.update(self.backends[holder].flight)
                case Reset(holder):
                    self.backends[holder].resetting = True
                    self.backends[holder].interrupted.update(self.backends[holder].flight)
                case Run(holder, request):
                    self._run(self.backends[holder], request)
                case Interrupt(holder, request):
                    assert request in self.backends[holder].flight
                    self.backends[holder].interrupted.add(request)
                case Grant(request, lease):
                    assert lease.worker is request.worker
                    assert lease.token.fence > self._highest_fence, "fences only rise"
                    self._highest_fence = lease.token.fence
                    self._answered(request, lease)
                case Refuse(request, error):
                    self._answered(request, error)
                case TellLeaseEnded(lease, ended):
                    assert lease not in self.told, "an owner is told once"
                    self.told[lease] = ended
        self.check()

    def _run(self, backend: FakeBackend, request: Request) -> None:
        assert backend.is_open
        if backend.flight:
            assert request.shares, "only those that share have company"
            assert all(other.shares for other in backend.flight)
        assert not backend.resetting
        assert not backend.closing
        assert request not in self.outcomes, "an answered request never runs"
        assert backend.holder.lease is request.lease, "only its lease's statements run on a leased holder"
        if request.lease is not None:
            assert request.lease.worker is request.worker
            assert request.lease in self.pool.leases.all()
        backend.flight.append(request)
        self.sent.append(request)

    def _answered(self, request: Request, outcome: Outcome) -> None:
        assert request not in self.outcomes, f"{request!r} was answered twice"
        self.outcomes[request] = outcome

    def _forget(self, holder: Holder) -> FakeBackend:
        backend = self.backends.pop(holder)
        self.past.append(backend)
        return backend

    # --- the books ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The pool's books agree with each other and with the hands."""
        self._check_holders()
        self._check_leases()
        self._check_requests()
        self._check_progress()

    def _check_holders(self) -> None:
        pool, fleet = self.pool, self.pool.fleet
        for holder in pool.holders:
            assert (holder in self.backends) == (holder.state is not HolderState.VACANT)
            assert (holder.lease is not None) == (holder.state is HolderState.LEASED)
            if holder.state in (HolderState.BUSY, HolderState.DRAINING):
                assert holder.flight
            elif holder.state in (HolderState.IDLE, HolderState.OPENING, HolderState.VACANT):
                assert not holder.flight
            else:
                assert len(holder.flight) <= 1
            self._check_flight(holder)
        for holder, backend in self.backends.items():
            assert holder.incarnation == backend.incarnation
            assert list(holder.flight) == backend.flight
            assert backend.interrupted <= set(backend.flight)
        scheduler = self.scheduler
        assert fleet.alive == len(self.backends) <= self.settings.max_size
        assert set(scheduler.snapshot()) == set(self.in_state(HolderState.IDLE))
        assert len(scheduler) == len(self.in_state(HolderState.IDLE))
        assert set(scheduler._sharing) == {holder for holder in pool.holders if holder.newcomers}
        assert scheduler._current is None or scheduler._current.newcomers
        assert fleet.opener.opening == len(self.in_state(HolderState.OPENING)) <= self.settings.opens_at_once

    def _check_flight(self, holder: Holder) -> None:
        flight = list(holder.flight)
        assert len(flight) <= self.settings.pipeline_depth
        assert abs(holder.load - sum(request.cost for request in flight)) < 1e-12
        assert len(flight) < 2 or all(request.shares for request in flight), "only those that share have company"
        assert not any(may_lock(request) for request in flight[:-1]), "nobody stands behind what may lock"
        if holder.newcomers:
            assert holder.state is HolderState.BUSY
            assert not may_lock(flight[-1])
            assert flight[-1].shares

    def _check_leases(self) -> None:
        pool = self.pool
        leases = pool.leases.all()
        assert len(leases) == len(pool.leases) == len(self.in_state(HolderState.LEASED))
        for lease in leases:
            assert lease.holder.lease is lease, "a holder has one owner"
            assert lease.worker in pool.roster
            assert lease.worker.leases[lease.token.fence] is lease
            assert lease.running is lease.holder.head
            assert lease in pool.deadlines
            assert lease not in self.told
        assert sum(len(worker.leases) for worker in pool.roster.all()) == len(leases)

    def _check_requests(self) -> None:
        pool = self.pool
        waiting = list(pool.queue)
        again = self.settings.max_size * self.settings.pipeline_depth  # those that did not begin wait again
        assert len(waiting) == len(pool.queue) <= self.settings.max_waiting + again
        assert all(request.shares for request in pool.queue.sharing)
        assert not any(request.shares for request in pool.queue.alone)
        for request in waiting:
            assert request in pool.deadlines, "whoever waits has a deadline"
        places = [*waiting, *(lease.next for lease in pool.leases.all() if lease.next is not None)]
        for request in places:
            assert request.holder is None
        for holder, backend in self.backends.items():
            for request in backend.flight:
                assert request.holder is holder
                if not request.answered:
                    places.append(request)
        unanswered = [request for worker in pool.roster.all() for request in worker.requests.values()]
        assert len(places) == len(set(places)), "a request is in one place"
        assert set(places) == set(unanswered)
        assert all(not request.answered and request not in self.outcomes for request in unanswered)

    def _check_progress(self) -> None:
        pool, fleet, scheduler = self.pool, self.pool.fleet, self.scheduler
        alone, sharing = pool.queue.alone, pool.queue.sharing
        if len(sharing):
            first = first_of(sharing)
            assert not len(scheduler), "nobody who shares waits while a backend is idle"
            assert not first.worker.leases
            for holder in pool.holders:
                assert not has_room(self.settings, self.now, holder, first), "nobody waits where there is room"
        if len(alone) and len(scheduler):  # it may not go, since others come that share: as long as they do
            due = pool.next_deadline()
            assert scheduler in pool.deadlines
            assert due is not None
            assert due <= scheduler.still_coming_until()
        elif len(alone) and Scheduler.claim(scheduler, self.now, pool.holders, len(alone)) is not None:
            looked_at_soon = alone in pool.deadlines or self.in_state(HolderState.CLOSING)
            assert looked_at_soon, "whoever waits alone claims a backend"
        for worker in pool.roster.all():
            assert worker.silence_limit is None or not worker.engaged or worker in pool.deadlines
        assert fleet.winding_down == (pool.closing and not len(pool.queue))
        if fleet.winding_down:
            assert not len(scheduler)
        elif fleet.alive < max(self.settings.min_size, bool(len(pool.queue))):
            assert fleet.opener.opening or fleet.opener in pool.deadlines, "what is missing is opened in time"


def tokens_that_are_not(lease: Lease) -> Iterator[Token]:
    """Tokens that resemble the lease's and name no lease."""
    epoch, holder, fence = lease.token.epoch, lease.token.holder, lease.token.fence
    yield Token(epoch - 1, holder, fence)
    yield Token(epoch, holder + 1, fence)
    yield Token(epoch, holder, fence - 1)
    yield Token(epoch, holder, fence + 1)
