"""A long random life of a pool, with the books checked after every step.

`Bench` asserts after each step what must hold always (see `Bench.check`); here is what happens in between, and what
must be true in the end. A walk is repeated by its seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

import pytest

from pgactor.core.actions import Action
from pgactor.core.holder import HolderState
from pgactor.core.lease import Lease, LeaseBusy
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.errors import LeaseError, PgactorError
from pgactor.messages import Token
from tests.fakes import DONE, Bench, FakeBackend, Outcome

T = TypeVar("T")

STEPS = 4000
MAX_WORKERS = 8

KNOWN = {
    "select 1": 10e-6,
    "select 2": 60e-6,
    "select 3": 0.0003,
    "select 4": 0.0009,
    "select 5": 0.3,
    "select 6 for update": 30e-6,
    "update t set a = 1": 0.0002,
    "insert into t values (1)": 2.0,
}
"""Statements that the statement lane runs, and how long each is known to take."""


def settings_by(random: Random) -> dict[str, float | int | str | None]:
    """Small limits of all kinds, so that each of them is met often."""
    max_size = random.randint(1, 6)
    return {
        "max_size": max_size,
        "min_size": random.randint(0, max_size),
        "max_queries": random.choice([0, 3, 20]),
        "max_inactive_connection_lifetime": random.choice([0, 0.7, 5.0]),
        "max_lifetime_seconds": random.choice([0, 20.0]),
        "max_lifetime_jitter": random.choice([0.0, 0.1, 1.0]),
        "max_waiting": random.choice([3, 20, 200]),
        "queue_timeout_seconds": random.choice([1.0, 10.0]),
        "max_hold_seconds": random.choice([None, 4.0]),
        "lease_warning_seconds": random.choice([0.0, 0.2, 3.0]),
        "opens_at_once": random.randint(1, 3),
        "reopen_backoff_seconds": random.choice([0.0, 0.1, 1.0]),
        "database_grace_seconds": random.choice([0.0, 3.0]),
        "pipeline_depth": random.choice([1, 2, 5, 32]),
        "pipeline_short_seconds": random.choice([0.001, 0.001, 0.001, 0.0001, 0.0, 1.0]),
        "pipeline_stall_seconds": random.choice([0.0, 0.01, 0.01, 0.01, 5.0]),
        "worker_window": random.choice([0, 1, 10**6]),
        "lease_share": random.choice([0.0, 0.5, 0.75, 0.75, 1.0]),
        "recycling": random.choice(["reset", "reset", "clean", "verified"]),
    }


class Walk:
    """Random workers and random hands around one pool."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.bench = Bench(seed=seed, now=self.random.uniform(0.0, 1e5), **settings_by(self.random))
        self.trace: deque[str] = deque(maxlen=30)
        self.outage = False
        self.moments = self.random.choice([[0.001, 0.05, 0.2, 1.0], [0.00002, 0.0005, 0.02, 0.3], [0.0, 0.0002, 0.2]])
        self.steps: list[Callable[[], str]] = [
            *[self.time_passes] * 6,
            *[self.a_worker_asks] * 5,
            *[self.a_worker_sends] * 10,
            *[self.a_worker_sends_many] * 2,
            *[self.an_owner_uses_its_lease] * 8,
            *[self.an_order_is_carried_out] * 14,
            *[self.a_statement_ends] * 6,
            *[self.some_come_back] * 12,
            *[self.a_statement_is_diverted] * 2,
            *[self.an_owner_releases] * 2,
            *[self.an_owner_asks_for_another] * 3,
            *[self.a_worker_withdraws] * 3,
            *[self.a_worker_is_heard] * 3,
            *[self.a_worker_joins] * 3,
            self.a_worker_is_lost,
            self.a_stale_token_is_used,
            self.a_backend_is_lost,
            self.a_late_report_comes,
            self.the_pool_is_resized,
            *[self.the_pool_is_paused_or_goes_on] * 2,
            self.another_supervisor_has_some,
            self.the_database_comes_or_goes,
        ]

    def run(self) -> None:
        """Walk, stop, and see that nothing is left."""
        try:
            self.bench.start()
            for number in range(STEPS):
                step = self.random.choice(self.steps)
                self.note(f"{number}: {step.__name__}", step)
                if number % 300 == 299:
                    self.note("the connections expire", self.expire)
            end = self.random.choice([self.let_it_come_to_rest, self.drain, self.terminate])
            self.note(end.__name__, end)
            self.nothing_is_left()
        except BaseException as error:
            error.add_note("\n".join([*self.trace, repr(self.bench.settings)]))
            raise

    def note(self, name: str, step: Callable[[], str]) -> None:
        """Do the step, and remember it."""
        self.trace.append(f"{self.bench.now:.3f} {name}")
        if said := step():
            self.trace[-1] += f" {said}"

    # --- choices --------------------------------------------------------------------------------------------

    def one_of(self, things: Sequence[T]) -> T | None:
        return self.random.choice(things) if things else None

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def any_worker(self) -> Worker | None:
        return self.one_of(self.bench.pool.roster.all())

    def any_lease(self) -> Lease | None:
        return self.one_of(self.bench.pool.leases.all())

    def any_timeout(self) -> float | None:
        return self.random.choice([None, None, 0.0, 0.5, 3.0, 60.0])

    # --- workers --------------------------------------------------------------------------------------------

    def a_worker_joins(self) -> str:
        if len(self.bench.pool.roster) >= MAX_WORKERS:
            return ""
        return repr(self.bench.worker(silence_limit=self.random.choice([None, 0.7, 2.0])))

    def a_worker_is_lost(self) -> str:
        worker = self.any_worker()
        if worker is None or self.chance(0.5):
            return ""
        self.bench.lose(worker)
        self.bench.lose(worker)
        return repr(worker)

    def a_worker_asks(self) -> str:
        worker = self.any_worker()
        if worker is None:
            return ""
        kind = self.random.choice([Kind.STATEMENT, Kind.STATEMENT, Kind.SESSION, Kind.LEASE])
        ttl = self.random.choice([0.3, 2.0, 30.0])
        return repr(self.bench.submit(worker, kind=kind, timeout=self.any_timeout(), ttl=ttl))

    def a_worker_sends(self) -> str:
        worker = self.any_worker()
        return "" if worker is None else repr(self.send(worker, self.random.choice(list(KNOWN))))

    def a_worker_sends_many(self) -> str:
        worker = self.any_worker()
        if worker is None:
            return ""
        sqls = [self.random.choice(list(KNOWN)[:3]) for _ in range(self.random.randint(2, 40))]
        for sql in sqls:
            self.send(worker, sql)
        return f"{len(sqls)} by {worker!r}"

    def send(self, worker: Worker, sql: str) -> Request:
        if self.chance(0.05):
            sql += f" -- never run: {len(self.bench.requests)}"
        return self.bench.send(worker, sql, seconds=KNOWN.get(sql), timeout=self.any_timeout())

    def an_owner_uses_its_lease(self) -> str:
        lease = self.any_lease()
        if lease is None:
            return ""
        try:
            sql = self.random.choice(["select 1", "select 2", "begin", "commit", "set a = 1"])
            request = self.bench.submit_on(lease, sql, timeout=self.any_timeout())
        except LeaseBusy:
            assert lease.running is not None
            return f"{lease!r}, which is busy"
        except LeaseError as error:
            assert self.bench.now >= lease.expires_at
            return str(error)
        return repr(request)

    def an_owner_asks_for_another(self) -> str:
        lease = self.any_lease()
        if lease is None:
            return ""
        worker = lease.worker if self.chance(0.9) else self.any_worker()
        assert worker is not None
        holds = [lease, *(each for each in worker.leases.values() if self.chance(0.5))]
        return repr(self.bench.acquire_by(worker, timeout=self.any_timeout(), ttl=30.0, holds=holds))

    def an_owner_releases(self) -> str:
        lease = self.any_lease()
        if lease is not None:
            self.bench.release(lease)
        return repr(lease)

    def a_worker_withdraws(self) -> str:
        request = self.one_of(self.bench.requests[-20:])
        if request is None:
            return ""
        known = request.id in request.worker.requests
        self.bench.withdraw(request)
        assert request in self.bench.outcomes or not known
        self.bench.withdraw(request)
        return repr(request)

    def a_worker_is_heard(self) -> str:
        worker = self.any_worker()
        if worker is None:
            return ""
        tokens = [lease.token for lease in self.bench.pool.leases.all() if self.chance(0.7)]
        self.bench.heartbeat(worker, *tokens)
        return repr(worker)

    def a_stale_token_is_used(self) -> str:
        worker, lease = self.any_worker(), self.any_lease()
        if worker is None or lease is None:
            return ""
        epoch, holder, fence = lease.token.epoch, lease.token.holder, lease.token.fence
        token = self.random.choice(
            [
                Token(epoch - 1, holder, fence),
                Token(epoch, holder + 1, fence),
                Token(epoch, holder, self.random.randint(0, fence - 1) if fence else -1),
                Token(epoch, holder, 10**9),
            ]
        )
        if self.chance(0.5) and lease.worker is not worker:
            token = lease.token
        if token.fence != fence and self.chance(0.9):
            worker = lease.worker
        living = [other.token for other in worker.leases.values()]
        if token in living:
            return ""
        before = (self.bench.states(), [each.expires_at for each in self.bench.pool.leases.all()])
        with pytest.raises(LeaseError):
            self.bench.submit_on(lease, worker=worker, token=token)
        self.bench.release(lease, worker=worker, token=token)
        self.bench.heartbeat(worker, token)
        assert before == (self.bench.states(), [each.expires_at for each in self.bench.pool.leases.all()])
        return f"{token} by {worker!r}"

    # --- hands ----------------------------------------------------------------------------------------------

    def an_order_is_carried_out(self) -> str:
        waiting = [b for b in self.bench.backends.values() if b.closing or b.resetting or not b.is_open]
        backend = self.one_of(waiting)
        if backend is None:
            return ""
        self.carry_out(backend)
        return repr(backend.holder)

    def carry_out(self, backend: FakeBackend) -> None:
        bench, holder = self.bench, backend.holder
        if backend.closing:
            if backend.is_open or self.chance(0.5):
                bench.close(holder)
            else:
                bench.fail_open(holder, "it was given up")
        elif backend.is_open:
            bench.reset(holder)
        elif self.outage or self.chance(0.1):
            bench.fail_open(holder, "no luck", permanent=self.chance(0.1))
        else:
            bench.open(holder)

    def a_statement_ends(self) -> str:
        running = [b.running for b in self.bench.backends.values() if b.running is not None]
        request = self.one_of([request for request in running if request.work is None])
        if request is None:
            return ""
        if self.chance(0.2) and not request.answered and request.kind is not Kind.LEASE:
            self.bench.give_result(request)
            return f"{request!r}, but its backend is not quiet"
        self.bench.finish(request, touched=self.chance(0.1))
        return repr(request)

    def any_in_the_lane(self) -> FakeBackend | None:
        """A backend on which the statement lane works."""
        backends = self.bench.backends.values()
        return self.one_of([b for b in backends if b.running is not None and b.running.work is not None])

    def some_come_back(self) -> str:
        backend = self.any_in_the_lane()
        if backend is None:
            return ""
        if self.chance(0.1):
            assert backend.running is not None
            if not backend.running.answered:
                self.bench.give_result(backend.running)
            return f"{backend.running!r}, but it is not quiet"
        count = self.random.randint(1, len(backend.flight))
        return repr(self.bench.come_back(backend.holder, count)[-5:])

    def a_statement_is_diverted(self) -> str:
        backend = self.any_in_the_lane()
        if backend is None:
            return ""
        request = self.random.choice(backend.flight)
        self.bench.divert(request)
        return repr(request)

    def a_backend_is_lost(self) -> str:
        backend = self.one_of(list(self.bench.backends.values()))
        if backend is None or self.chance(0.3):
            return ""
        self.cut(backend)
        return repr(backend.holder)

    def cut(self, backend: FakeBackend) -> None:
        unrun = self.random.choice([0, 0, len(backend.flight), self.random.randint(0, len(backend.flight))])
        self.bench.cut(backend.holder, unrun=unrun)

    def a_late_report_comes(self) -> str:
        backend, request = self.one_of(self.bench.past[-20:]), self.one_of(self.bench.requests[-20:])
        if backend is None or request is None:
            return ""
        pool, now, holder, incarnation = self.bench.pool, self.bench.now, backend.holder, backend.incarnation
        actions: list[Action] = []
        reports: list[Callable[[], object]] = [
            lambda: pool.opened(now, holder, incarnation, 1),
            lambda: pool.open_failed(now, holder, incarnation, "late"),
            lambda: pool.finished(now, holder, incarnation, request, touched=True),
            lambda: pool.unrun(now, holder, incarnation, request),
            lambda: pool.diverted(now, holder, incarnation, request),
            lambda: pool.came_back(now, holder, incarnation, [request], actions),
            lambda: pool.reset_done(now, holder, incarnation),
            lambda: pool.closed(now, holder, incarnation),
            lambda: pool.gone(now, holder, incarnation, "late"),
        ]
        before = (self.bench.states(), pool.counters.copy(), len(pool.queue))
        assert not self.random.choice(reports)(), "a late report has no consequences"
        assert not actions
        assert before == (self.bench.states(), pool.counters, len(pool.queue))
        self.bench.check()
        return repr(holder)

    # --- the rest of the world ------------------------------------------------------------------------------

    def time_passes(self) -> str:
        seconds = self.random.choice(self.moments)
        if self.chance(0.03):
            seconds *= 10
        if self.chance(0.1):
            self.bench.now += seconds  # the loop was busy: what is due comes late
            seconds = 0.0
        self.bench.advance(seconds)
        return f"to {self.bench.now:.3f}"

    def the_database_comes_or_goes(self) -> str:
        self.outage = not self.outage and self.chance(0.4)
        if self.outage and self.chance(0.5):
            for backend in list(self.bench.backends.values()):
                self.cut(backend)
        return "it is gone" if self.outage else "it is there"

    def expire(self) -> str:
        self.bench.expire_connections()
        return ""

    def the_pool_is_resized(self) -> str:
        if self.chance(0.5):
            return ""
        max_size = self.random.randint(1, 8)
        min_size = self.random.choice([None, None, 0, self.random.randint(0, max_size)])
        self.bench.resize(max_size, min_size)
        return f"to {min_size}, {max_size}"

    def the_pool_is_paused_or_goes_on(self) -> str:
        if self.chance(0.2):
            self.bench.pause()
            return "paused"
        self.bench.resume()
        return ""

    def another_supervisor_has_some(self) -> str:
        if self.chance(0.6):
            return ""
        elsewhere = self.random.randint(0, self.bench.settings.max_size) if self.chance(0.5) else 0
        self.bench.lend(elsewhere)
        return f"{elsewhere}"

    # --- the end --------------------------------------------------------------------------------------------

    def quiesce(self) -> None:
        """Everybody comes to an end: owners release, statements end, orders are carried out, time passes."""
        bench = self.bench
        bench.resume()
        bench.lend(0)
        for _ in range(200):
            for lease in bench.pool.leases.all():
                bench.release(lease)
            for backend in list(bench.backends.values()):
                if bench.backends.get(backend.holder) is not backend or backend.running is None:
                    continue
                if backend.running.work is not None:
                    bench.come_back(backend.holder)
                else:
                    bench.finish(backend.running, touched=self.chance(0.2))
            bench.settle()
            bench.advance(0.1)
        bench.settle()

    def let_it_come_to_rest(self) -> str:
        self.quiesce()
        idle = self.bench.in_state(HolderState.IDLE)
        assert len(idle) >= self.bench.settings.min_size
        assert len(idle) <= self.bench.settings.max_size
        assert len(idle) + len(self.bench.in_state(HolderState.VACANT)) == len(self.bench.pool.holders)
        return f"with {len(idle)} idle"

    def drain(self) -> str:
        self.bench.drain()
        for number in range(100):  # work goes on meanwhile
            step = self.random.choice(self.steps)
            self.note(f"{number} of the drain: {step.__name__}", step)
        self.quiesce()
        assert self.bench.pool.drained
        assert set(self.bench.states()) == {"vacant"}
        return ""

    def terminate(self) -> str:
        if self.chance(0.5):
            self.bench.drain()
        self.bench.terminate()
        assert len(self.bench.outcomes) == len(self.bench.requests), "everybody is answered at once"
        opens = self.bench.opens
        for number in range(30):
            step = self.random.choice(self.steps)
            self.note(f"{number} of the end: {step.__name__}", step)
        self.quiesce()
        assert self.bench.opens == opens
        assert self.bench.pool.drained
        assert set(self.bench.states()) == {"vacant"}
        return ""

    def nothing_is_left(self) -> None:
        bench, pool = self.bench, self.bench.pool
        for request in bench.requests:
            assert_answered(request, bench.outcomes.get(request))
        assert not len(pool.queue)
        assert not len(pool.leases)
        assert not any(worker.requests or worker.leases for worker in pool.roster.all())
        timers = [*bench.in_state(HolderState.IDLE), *pool.roster.all()]
        timers += [pool.fleet.opener, pool.scheduler]
        assert set(pool.deadlines._living) <= set(timers), "nobody else may still have one"


def assert_answered(request: Request, outcome: Outcome | None) -> None:
    """The request has the one answer that fits its kind."""
    assert request.answered
    if isinstance(outcome, Lease):
        assert request.kind is Kind.LEASE
    elif outcome == DONE:
        assert request.kind is not Kind.LEASE
    else:
        assert isinstance(outcome, PgactorError)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(24))
def test_the_books_agree_after_every_step_of_a_random_walk(seed: int) -> None:
    Walk(seed).run()
