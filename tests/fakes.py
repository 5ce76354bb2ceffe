"""Fakes that stand in for the outside world.

`Bench` puts the brain on a bench: a clock that only the test moves, and hands that carry out nothing before the test
says so. It does with a `Pool` what the conductor does, and after every step it checks that the pool's books agree
with each other and with what the hands have seen.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest

from pgactor.config.pool import PoolSettings
from pgactor.core.actions import (
    Action,
    Close,
    Grant,
    Interrupt,
    Open,
    Refuse,
    ReportLease,
    Reset,
    Run,
    TellLeaseEnded,
)
from pgactor.core.holder import Holder, HolderState
from pgactor.core.lease import Lease
from pgactor.core.pool import Pool
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.scheduler import GATHERED_SECONDS, STILL_COMING_SECONDS, Scheduler
from pgactor.core.statement import LEAST_SECONDS, Statement, StatementTable
from pgactor.core.waitqueue import Round, WaitQueue
from pgactor.errors import PgactorError, PoolDeadlock
from pgactor.messages import Acquire, Token

DONE = "done"
"""The outcome of a request whose result was given to the worker."""

Outcome = Lease | Exception | str


@dataclass(eq=False, slots=True)
class FakeBackend:
    """One connection, and what the hands were told to do with it and have not done yet.

    flight: what was sent to it and has not come back. interrupted: those of them that were to be cancelled. touched:
    something may have been left in its session. in_transaction: the session is inside a transaction.
    """

    holder: Holder
    incarnation: int
    is_open: bool = False
    flight: list[Request] = field(default_factory=list)
    interrupted: set[Request] = field(default_factory=set)
    touched: bool = False
    in_transaction: bool = False
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


def first_of(round: Round, now: float) -> Request | None:
    """The request whose turn it is, found without a touch; None if its worker's line is to be parked at the next
    look, as what is out of others may have become less since."""
    left = {worker: line.credit for worker, line in round._lines.items()}
    while left:
        worker = next(iter(left))
        if left[worker] > 1e-9:
            if round._window is not None and not round._window.is_open(worker):
                return None
            requests = round._lines[worker].requests
            return requests[0] if now < requests[0].half_time else requests[-1]
        left[worker] = left.pop(worker) + round._credit
    return None


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

    def claim(self, now: float, holders: list[Holder], queue: WaitQueue) -> Holder | None:
        """As the scheduler's."""
        claimed = super().claim(now, holders, queue)
        self.claims += claimed is not None
        return claimed


class Bench:
    """A pool, a clock and a pair of hands.

    outcomes: the answer of each request that has one. backends: the connections that exist. past: those that did.
    told: the leases whose owners were told of their end. awaited: for which request the holder of each lease waits.
    reported: the leases that are held for long. opens: how many connections were ordered. sent: what was sent to
    backends, in order.
    """

    def __init__(self, *, seed: int = 1, now: float = 1000.0, **settings: Any) -> None:
        self.now = now
        self.settings = PoolSettings(**{"worker_window": 10**6} | settings)
        self.pool = Pool(self.settings, epoch=7, random=Random(seed), started_at=now)
        self.scheduler = WatchedScheduler(self.settings)
        self.scheduler.window = self.pool.window
        self.pool.scheduler = self.pool.fleet.scheduler = self.pool.dealing.scheduler = self.scheduler
        self.statements = StatementTable()
        self.outcomes: dict[Request, Outcome] = {}
        self.requests: list[Request] = []
        self.backends: dict[Holder, FakeBackend] = {}
        self._checks = 0
        self.past: list[FakeBackend] = []
        self.told: dict[Lease, PgactorError] = {}
        self.awaited: dict[Lease, Request] = {}
        self.reported: list[Lease] = []
        self.opens = 0
        self.most_workers = 0
        self.most_slots = self.settings.max_size
        self._too_many = 0
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
        self.most_workers += 1
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
        return self.acquire_by(worker, timeout=timeout, ttl=ttl)

    def acquire_by(
        self,
        worker: Worker,
        *,
        timeout: float | None = None,
        ttl: float = 30.0,
        holds: Sequence[Lease] = (),
        payload: Acquire | None = None,
    ) -> Request:
        """The same, by a message. holds: the leases that it says it holds until it has its answer."""
        request = self._request(worker, "", Kind.LEASE, timeout, ttl)
        request.payload = payload
        for lease in holds:
            if lease.worker is worker and lease in self.pool.leases.all():
                self.awaited[lease] = request
        actions: list[Action] = []
        self.pool.acquire(self.now, request, [lease.token for lease in holds], actions)
        self._do(actions)
        return request

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
        clean = self.statement(statement).keeps_clean and not self.settings.resets_always
        kind = Kind.STATEMENT if clean else Kind.SESSION
        request = self._request(worker or lease.worker, statement, kind, timeout, 0.0)
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
        """The request's statement has ended, well or because it was interrupted, and the backend is quiet. touched: a
        transaction is open."""
        holder = request.holder
        assert holder is not None, f"{request!r} does not run"
        backend = self.backends[holder]
        assert backend.running is request
        if request.work is not None:
            self.come_back(holder, 1)
            return
        self._back(backend)
        backend.touched |= request.kind is Kind.SESSION
        touched = touched and request.kind is not Kind.LEASE  # which is an empty query
        backend.in_transaction = touched
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
        elif request.kind is not Kind.LEASE:  # else its connection was tested
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
        backend.resetting = backend.touched = backend.in_transaction = False
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

    def resize(self, max_size: int, min_size: int | None = None) -> None:
        """There may be more connections, or fewer."""
        actions = self.pool.resize(self.now, max_size, min_size)
        self.settings = self.pool.settings
        self.most_slots = max(self.most_slots, max_size)
        self._too_many = len(self.backends)
        self._do(actions)

    def pause(self) -> None:
        """No request gets a backend from now on."""
        self.pool.operating.pause()
        self.check()

    def resume(self) -> None:
        """They get one again."""
        self._do(self.pool.operating.resume(self.now))

    def configure(self, **settings: Any) -> None:
        """The pool is given other settings."""
        actions = self.pool.operating.configure(self.now, msgspec.structs.replace(self.settings, **settings))
        self.settings = self.pool.settings
        self.most_slots = max(self.most_slots, self.settings.max_size)
        self._too_many = len(self.backends)
        self._do(actions)

    def lend(self, elsewhere: int) -> None:
        """Another supervisor has so many connections."""
        actions = self.pool.operating.lend(self.now, elsewhere)
        self._too_many = len(self.backends)
        self._do(actions)

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
        victims: list[Request] = []
        for action in actions:
            match action:
                case Open(holder):
                    assert holder not in self.backends, "a holder has one connection at a time"
                    self.backends[holder] = FakeBackend(holder, holder.incarnation)
                    self.opens += 1
                    assert len(self.backends) <= self.pool.fleet.limit, "nothing is opened beyond max_size"
                    assert not self.pool.desk.paused, "nothing is opened in a pause"
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
                    self.backends[holder].touched |= request.lease is not None
                case Grant(request, lease):
                    assert lease.worker is request.worker
                    self._assert_clean(self.backends[lease.holder])
                    assert lease.token.fence > self._highest_fence, "fences only rise"
                    self._highest_fence = lease.token.fence
                    self._answered(request, lease)
                case Refuse(request, error):
                    self._answered(request, error)
                    if isinstance(error, PoolDeadlock):
                        victims.append(request)
                case TellLeaseEnded(lease, ended):
                    assert lease not in self.told, "an owner is told once"
                    self.told[lease] = ended
                case ReportLease(lease):
                    assert lease not in self.reported, "a lease is reported once"
                    assert self.now >= lease.granted_at + self.settings.lease_warning_seconds
                    self.reported.append(lease)
        if victims:
            assert all(self._stuck([victim]) for victim in victims), "whoever holds nothing is in nobody's way"
            waiting = [*self.pool.queue.leases, *victims]
            assert len(self._stuck(waiting)) >= self.settings.max_size, "a false alarm: somebody could release one"
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
        else:
            self._assert_clean(backend)
            assert not self.pool.desk.paused or not request.shares, "nobody is sent off in a pause"
        backend.flight.append(request)
        self.sent.append(request)

    def _assert_clean(self, backend: FakeBackend) -> None:
        assert not backend.touched, "nobody meets what another one left behind"
        assert not backend.in_transaction, "nobody gets into another one's transaction"

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
        self._checks += 1
        if len(self.pool.queue) > 2000 and self._checks % 10:
            return  # to read thousands of lines at each step would take a minute
        self._check_holders()
        self._check_leases()
        self._check_requests()
        self._check_deadlock()
        self._check_window()
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
            if holder.leased != (holder.state is HolderState.LEASED):
                assert holder.leased
                tested = holder.head is not None and holder.head.kind is Kind.LEASE
                assert holder.state in (HolderState.RESETTING, HolderState.CLOSING) or tested
        for holder, backend in self.backends.items():
            assert holder.incarnation == backend.incarnation
            assert list(holder.flight) == backend.flight
            assert backend.interrupted <= set(backend.flight)
        scheduler = self.scheduler
        assert fleet.alive == len(self.backends) <= max(fleet.limit, self._too_many)
        self._too_many = fleet.alive if fleet.alive > fleet.limit else 0  # it only falls
        assert fleet.shrinking == (fleet.alive > fleet.limit)
        if fleet.shrinking and fleet.surplus > 0:
            spared = (HolderState.IDLE, HolderState.OPENING)
            assert not any(holder.state in spared for holder in pool.holders), "those too many are closed first"
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
        again = self.most_slots * self.settings.pipeline_depth  # those that did not begin wait again
        # where it is full, whoever has less than a worker's share of it may yet come
        assert len(waiting) == len(pool.queue) <= 2 * self.settings.max_waiting + again + self.most_workers
        assert all(request.shares for request in pool.queue.sharing)
        assert all(not request.shares and request.kind is not Kind.LEASE for request in pool.queue.alone)
        assert all(not request.shares and request.kind is Kind.LEASE for request in pool.queue.leases)
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

    def _stuck(self, waiting: Iterable[Request]) -> set[Lease]:
        """The living leases that their holders keep until one of these is answered."""
        requests, living = set(waiting), self.pool.leases.all()
        return {each for each in living if self.awaited.get(each) in requests and self.now < each.expires_at}

    def _check_deadlock(self) -> None:
        stuck = self._stuck(self.pool.queue.leases)
        assert len(stuck) < self.settings.max_size, "all leases are held by those who wait for more"

    def _check_window(self) -> None:
        pool, sharing = self.pool, self.pool.queue.sharing
        out = Counter(request.worker for holder in pool.holders for request in holder.flight if request.shares)
        assert pool.window.load == pytest.approx(sum(worker.load for worker in out), abs=1e-9)
        assert pool.window.workers == len(out)
        for worker in {*pool.roster.all(), *out}:
            assert worker.flying == out[worker]
            assert (worker.load > 0) == (worker.flying > 0)
        for worker, line in sharing._parked.items():
            assert worker.flying > 0, "what is parked is looked at again when one of its worker's comes back"
            assert line.requests
        assert sharing.count == sum(len(line.requests) for line in sharing._lines.values())

    def _check_progress(self) -> None:
        pool, fleet, scheduler, queue = self.pool, self.pool.fleet, self.scheduler, self.pool.queue
        if pool.desk.paused:
            assert not pool.closing
            return
        first = first_of(queue.sharing, self.now)
        if first is not None:
            assert not len(scheduler), "nobody who shares waits while a backend is idle"
            assert not first.worker.leases
            if first is first_of(queue.sharing, -math.inf):  # whoever comes is not looked at even if it goes first
                for holder in pool.holders:
                    assert not has_room(self.settings, self.now, holder, first), "nobody waits where there is room"
        look_again_at = pool.dealing._look_again_at if scheduler in pool.deadlines else math.inf
        for waiting in (queue.alone, queue.leases):
            if not len(waiting):
                continue
            if len(scheduler):  # it may not go, since others come: as long as they do
                first = first_of(waiting, self.now)
                assert first is not None
                may_go = scheduler.may_take(self.now, first, pool.holders, queue)
                assert not may_go or look_again_at <= self.now, "nobody waits for what may be had"
                assert look_again_at <= self.now + STILL_COMING_SECONDS
            elif Scheduler.claim(scheduler, self.now, pool.holders, queue) is not None:
                looked_at_soon = look_again_at < math.inf or self.in_state(HolderState.CLOSING)
                assert looked_at_soon, "whoever waits alone claims a backend"
        for worker in pool.roster.all():
            assert worker.silence_limit is None or not worker.engaged or worker in pool.deadlines
        assert fleet.winding_down == (pool.closing and not len(pool.queue))
        if fleet.winding_down:
            assert not len(scheduler)
        elif fleet.alive < min(fleet.limit, max(self.settings.min_size, bool(len(pool.queue)))):
            assert fleet.opener.opening or fleet.opener in pool.deadlines, "what is missing is opened in time"


def tokens_that_are_not(lease: Lease) -> Iterator[Token]:
    """Tokens that resemble the lease's and name no lease."""
    epoch, holder, fence = lease.token.epoch, lease.token.holder, lease.token.fence
    yield Token(epoch - 1, holder, fence)
    yield Token(epoch, holder + 1, fence)
    yield Token(epoch, holder, fence - 1)
    yield Token(epoch, holder, fence + 1)
