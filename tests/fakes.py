"""Fakes that stand in for the outside world.

`Bench` puts the brain on a bench: a clock that only the test moves, and hands that carry out nothing before the test
says so. It does with a `Pool` what the conductor does, and after every step it checks that the pool's books agree
with each other and with what the hands have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from pgactor.config import PoolSettings
from pgactor.core.actions import Action, Close, Grant, Interrupt, Open, Refuse, Reset, Run, TellLeaseEnded
from pgactor.core.holder import Holder, HolderState
from pgactor.core.lease import Lease
from pgactor.core.pool import Pool
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.errors import PgactorError
from pgactor.messages import Token

DONE = "done"
"""The outcome of a request whose result was given to the worker."""

Outcome = Lease | Exception | str


@dataclass(eq=False, slots=True)
class FakeBackend:
    """One connection, and what the hands were told to do with it and have not done yet."""

    holder: Holder
    incarnation: int
    is_open: bool = False
    running: Request | None = None
    interrupted: bool = False
    resetting: bool = False
    closing: bool = False


class Bench:
    """A pool, a clock and a pair of hands.

    outcomes: the answer of each request that has one. backends: the connections that exist. past: those that did.
    told: the leases whose owners were told of their end. opens: how many connections were ordered.
    """

    def __init__(self, *, seed: int = 1, now: float = 1000.0, **settings: Any) -> None:
        self.now = now
        self.settings = PoolSettings(**settings)
        self.pool = Pool(self.settings, epoch=7, random=Random(seed), started_at=now)
        self.outcomes: dict[Request, Outcome] = {}
        self.requests: list[Request] = []
        self.backends: dict[Holder, FakeBackend] = {}
        self.past: list[FakeBackend] = []
        self.told: dict[Lease, PgactorError] = {}
        self.opens = 0
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
        """The worker asks for any backend."""
        request = self._request(worker, statement, kind, timeout, ttl)
        self._do(self.pool.submit(self.now, request))
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
        backend.running = None
        if not backend.interrupted:
            self.give_result(request)
        backend.interrupted = False
        self._do(self.pool.finished(self.now, holder, backend.incarnation, request, touched=touched))

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
        self._forget(holder)
        self._do(self.pool.closed(self.now, holder, backend.incarnation))

    def cut(self, holder: Holder, *, before_it_ran: bool = False) -> None:
        """The holder's connection is lost, before or while the statement that was sent to it runs."""
        backend = self._forget(holder)
        actions: list[Action] = []
        if before_it_ran and backend.running is not None:
            actions += self.pool.unrun(self.now, holder, backend.incarnation, backend.running)
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
        elif backend.running is not None and backend.interrupted:
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

    def in_state(self, state: HolderState) -> list[Holder]:
        """The holders in this state."""
        return [holder for holder in self.pool.holders if holder.state is state]

    def states(self) -> list[str]:
        """The state of each holder, in order."""
        return [holder.state.value for holder in self.pool.holders]

    # --- inside ---------------------------------------------------------------------------------------------

    def _request(self, worker: Worker, statement: str, kind: Kind, timeout: float | None, ttl: float) -> Request:
        worker.heard_at = self.now
        deadline = None if timeout is None else self.now + timeout
        request = Request(
            worker, next(self._ids), kind, now=self.now, statement=statement, deadline=deadline, ttl=ttl
        )
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
                    self.backends[holder].interrupted = True
                case Reset(holder):
                    self.backends[holder].resetting = True
                    self.backends[holder].interrupted = self.backends[holder].running is not None
                case Run(holder, request):
                    self._run(self.backends[holder], request)
                case Interrupt(holder, request):
                    assert self.backends[holder].running is request
                    self.backends[holder].interrupted = True
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
        assert backend.running is None, "a backend runs one statement at a time"
        assert not backend.resetting
        assert not backend.closing
        assert request not in self.outcomes, "an answered request never runs"
        assert backend.holder.lease is request.lease, "only its lease's statements run on a leased holder"
        if request.lease is not None:
            assert request.lease.worker is request.worker
            assert request.lease in self.pool.leases.all()
        backend.running = request
        backend.interrupted = False

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
            if holder.state is HolderState.BUSY:
                assert holder.busy_with is not None
            if holder.state in (HolderState.IDLE, HolderState.OPENING, HolderState.VACANT):
                assert holder.busy_with is None
        for holder, backend in self.backends.items():
            assert holder.incarnation == backend.incarnation
            assert holder.busy_with is backend.running
        assert fleet.alive == len(self.backends) <= self.settings.max_size
        assert set(fleet.idle.snapshot()) == set(self.in_state(HolderState.IDLE))
        assert len(fleet.idle) == len(self.in_state(HolderState.IDLE))
        assert fleet.opener.opening == len(self.in_state(HolderState.OPENING)) <= self.settings.opens_at_once

    def _check_leases(self) -> None:
        pool = self.pool
        leases = pool.leases.all()
        assert len(leases) == len(pool.leases) == len(self.in_state(HolderState.LEASED))
        for lease in leases:
            assert lease.holder.lease is lease, "a holder has one owner"
            assert lease.worker in pool.roster
            assert lease.worker.leases[lease.token.fence] is lease
            assert lease.running is lease.holder.busy_with
            assert lease in pool.deadlines
            assert lease not in self.told
        assert sum(len(worker.leases) for worker in pool.roster.all()) == len(leases)

    def _check_requests(self) -> None:
        pool = self.pool
        waiting = list(pool.queue)
        assert len(waiting) == len(pool.queue) <= self.settings.max_waiting + self.settings.max_size
        for request in waiting:
            assert request in pool.deadlines, "whoever waits has a deadline"
        places = [*waiting, *(lease.next for lease in pool.leases.all() if lease.next is not None)]
        for request in places:
            assert request.holder is None
        for holder, backend in self.backends.items():
            if backend.running is not None:
                assert backend.running.holder is holder
                if not backend.running.answered:
                    places.append(backend.running)
        unanswered = [request for worker in pool.roster.all() for request in worker.requests.values()]
        assert len(places) == len(set(places)), "a request is in one place"
        assert set(places) == set(unanswered)
        assert all(not request.answered and request not in self.outcomes for request in unanswered)

    def _check_progress(self) -> None:
        pool, fleet = self.pool, self.pool.fleet
        assert not (len(pool.queue) and len(pool.idle)), "nobody waits while a backend is idle"
        for worker in pool.roster.all():
            assert worker.silence_limit is None or not worker.engaged or worker in pool.deadlines
        assert fleet.winding_down == (pool.closing and not len(pool.queue))
        if fleet.winding_down:
            assert not len(pool.idle)
        elif fleet.alive < max(self.settings.min_size, bool(len(pool.queue))):
            assert fleet.opener.opening or fleet.opener in pool.deadlines, "what is missing is opened in time"


def tokens_that_are_not(lease: Lease) -> Iterator[Token]:
    """Tokens that resemble the lease's and name no lease."""
    epoch, holder, fence = lease.token.epoch, lease.token.holder, lease.token.fence
    yield Token(epoch - 1, holder, fence)
    yield Token(epoch, holder + 1, fence)
    yield Token(epoch, holder, fence - 1)
    yield Token(epoch, holder, fence + 1)
