"""Those who hold all leases and wait for more are told so; nobody else is."""

from __future__ import annotations

import pytest

from pgactor.core.lease import Lease
from pgactor.core.request import Request
from pgactor.errors import PoolDeadlock, PoolTimeout
from pgactor.messages import Token
from tests.fakes import Bench


def lease_of(bench: Bench, request: Request) -> Lease:
    outcome = bench.outcomes[request]
    assert isinstance(outcome, Lease)
    return outcome


def test_whoever_holds_the_only_lease_and_asks_for_another_is_told_at_once() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker("web", pid=10))
    request = bench.acquire_by(lease.worker, holds=[lease], timeout=60)
    error = bench.error(request)
    assert isinstance(error, PoolDeadlock)
    assert not error.retry
    assert "as lease 0.1 (waiting for another lease)" in str(error)
    assert [(each["lease"], each["worker"], each["pid"]) for each in error.leases] == [("0.1", "web", 10)]
    assert bench.pool.counters["refused_deadlock"] == 1


def test_the_last_to_come_is_refused_and_what_it_gives_back_serves_the_first() -> None:
    bench = Bench.ready(2)
    first, second = (bench.lease(bench.worker()) for _ in range(2))
    waiting = bench.acquire_by(first.worker, holds=[first])
    assert waiting not in bench.outcomes
    late = bench.acquire_by(second.worker, holds=[second])
    assert isinstance(bench.error(late), PoolDeadlock)
    assert waiting not in bench.outcomes
    bench.release(second)
    assert lease_of(bench, waiting).worker is first.worker


def test_it_is_the_last_to_come_whoever_holds_the_older_lease() -> None:
    bench = Bench.ready(2)
    first, second = (bench.lease(bench.worker()) for _ in range(2))
    waiting = bench.acquire_by(second.worker, holds=[second])
    bench.advance(0.1)
    assert isinstance(bench.error(bench.acquire_by(first.worker, holds=[first])), PoolDeadlock)
    assert waiting not in bench.outcomes


def test_a_lease_that_nobody_says_is_held_up_may_be_released_by_anybody() -> None:
    bench = Bench.ready(2)
    first, second = (bench.lease(bench.worker()) for _ in range(2))
    waiting = [bench.acquire_by(first.worker, holds=[first]), bench.acquire(second.worker)]
    bench.advance(10)
    assert not any(request in bench.outcomes for request in waiting)
    bench.release(second)
    assert lease_of(bench, waiting[0])


def test_others_who_wait_in_vain_wait_on() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5)
    lease = bench.lease(bench.worker())
    patient = bench.acquire(bench.worker())
    assert isinstance(bench.error(bench.acquire_by(lease.worker, holds=[lease])), PoolDeadlock)
    assert patient not in bench.outcomes
    bench.advance(5)
    assert isinstance(bench.error(patient), PoolTimeout)


def test_several_leases_of_one_holder_count_as_many() -> None:
    bench = Bench.ready(3)
    worker = bench.worker()
    leases = [bench.lease(worker) for _ in range(3)]
    waiting = bench.acquire_by(worker, holds=leases[:2])
    assert waiting not in bench.outcomes
    assert isinstance(bench.error(bench.acquire_by(worker, holds=leases[2:])), PoolDeadlock)
    assert isinstance(bench.error(bench.acquire_by(worker, holds=leases)), PoolDeadlock)
    assert waiting not in bench.outcomes


def test_a_connection_that_a_statement_uses_is_nobodys_lease() -> None:
    bench = Bench.ready(2)
    lease = bench.lease(bench.worker())
    statement = bench.submit(bench.worker())
    waiting = bench.acquire_by(lease.worker, holds=[lease])
    assert waiting not in bench.outcomes
    bench.finish(statement)
    assert lease_of(bench, waiting)


def test_a_pool_that_may_grow_is_in_no_deadlock() -> None:
    bench = Bench(min_size=1, max_size=2)
    bench.start()
    bench.open_all()
    lease = bench.lease(bench.worker())
    waiting = bench.acquire_by(lease.worker, holds=[lease])
    assert waiting not in bench.outcomes
    bench.open_all()
    assert lease_of(bench, waiting)


def test_a_pool_that_is_made_smaller_may_come_into_one() -> None:
    bench = Bench.ready(3)
    leases = [bench.lease(bench.worker()) for _ in range(3)]
    waiting = [bench.acquire_by(lease.worker, holds=[lease]) for lease in leases[:2]]
    assert not any(request in bench.outcomes for request in waiting)
    bench.resize(2)
    assert isinstance(bench.error(waiting[1]), PoolDeadlock)
    assert waiting[0] not in bench.outcomes


def test_whoever_gives_up_waiting_holds_nothing_up() -> None:
    bench = Bench.ready(2)
    first, second = (bench.lease(bench.worker()) for _ in range(2))
    bench.withdraw(bench.acquire_by(first.worker, holds=[first]))
    bench.acquire_by(first.worker, holds=[first], timeout=1)
    bench.advance(1)
    waiting = bench.acquire_by(second.worker, holds=[second])
    bench.advance(1)
    assert waiting not in bench.outcomes


def test_a_lease_that_has_expired_is_held_by_nobody() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker, ttl=1.0)
    bench.now += 2.0  # and its timer is late
    waiting = bench.acquire_by(worker, holds=[lease])
    assert waiting not in bench.outcomes
    bench.advance(0)
    bench.settle()
    assert lease_of(bench, waiting)


def test_nobody_can_say_so_of_anothers_lease_or_of_none() -> None:
    bench = Bench.ready(1)
    lease, stranger = bench.lease(bench.worker()), bench.worker()
    waiting = bench.acquire_by(stranger, holds=[lease])
    assert waiting not in bench.outcomes
    own = lease.token
    for token in (Token(own.epoch - 1, own.holder, own.fence), Token(own.epoch, own.holder + 1, own.fence)):
        request = Request(lease.worker, 1000 + token.holder + token.epoch, waiting.kind, bench.now)
        bench.pool.acquire(bench.now, request, [token], [])
        assert not request.answered
        bench.pool.withdraw(bench.now, lease.worker, request.id)


def test_a_holder_whose_connection_is_being_tested_for_it_does_not_wait_in_vain() -> None:
    bench = Bench.ready(2, recycling="verified")
    worker = bench.worker()
    request = bench.acquire(worker)
    bench.finish(request)
    first = lease_of(bench, request)
    second = bench.acquire_by(worker, holds=[first])
    assert bench.runs(second)
    assert second not in bench.outcomes
    bench.finish(second)
    third = bench.acquire_by(worker, holds=[first, lease_of(bench, second)])
    assert isinstance(bench.error(third), PoolDeadlock)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_who_ask_for_a_second_lease_are_served_but_for_one_at_a_time(size: int) -> None:
    bench = Bench.ready(size)
    leases = [bench.lease(bench.worker()) for _ in range(size)]
    waiting = [bench.acquire_by(lease.worker, holds=[lease]) for lease in leases]
    refused = waiting[-1]
    assert [request for request in waiting if request in bench.outcomes] == [refused]
    bench.release(leases[-1])
    for _, request in zip(leases[:-1], waiting[:-1], strict=True):
        bench.release(lease_of(bench, request))
        assert bench.pool.counters["refused_deadlock"] == 1
