"""How many connections there may be changes while they are used; and leases whose connection is tested first."""

from __future__ import annotations

import pytest

from pgactor.core import report
from pgactor.core.holder import Holder, HolderState
from pgactor.errors import PoolTimeout
from tests.fakes import DONE, Bench

VERIFIED = {"recycling": "verified"}


# --- more ---------------------------------------------------------------------------------------------------


def test_whoever_waits_gets_a_connection_when_there_may_be_more() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    first, second = bench.submit(worker), bench.submit(worker)
    bench.resize(2)
    bench.open_all()
    assert bench.runs(first)
    assert bench.runs(second)


def test_a_higher_min_size_is_opened_at_once() -> None:
    bench = Bench.ready(1)
    bench.resize(4, 3)
    bench.open_all()
    assert bench.states() == ["idle"] * 3 + ["vacant"]


def test_one_worker_may_have_more_out_when_there_are_more_connections() -> None:
    bench = Bench.ready(1, worker_window=0, pipeline_depth=1)
    assert bench.pool.window.most == 2
    bench.resize(7)
    assert bench.pool.window.most == 7


# --- fewer --------------------------------------------------------------------------------------------------


def test_idle_ones_that_are_too_many_are_closed_at_once_the_longest_idle_first() -> None:
    bench = Bench.ready(3)
    last = bench.scheduler.snapshot()[-1]
    bench.resize(1)
    assert bench.in_state(HolderState.IDLE) == [last]
    bench.settle()
    assert bench.states().count("vacant") == 2
    assert bench.pool.settings.min_size == 1, "it is brought down to max_size"


def test_those_that_are_not_open_yet_are_given_up_first() -> None:
    bench = Bench(min_size=3, max_size=3, opens_at_once=3)
    bench.start()
    opened = bench.open()
    bench.resize(1)
    assert bench.in_state(HolderState.IDLE) == [opened]
    bench.settle()
    assert bench.pool.fleet.alive == 1


def test_leased_ones_are_closed_at_release_and_only_as_many_as_are_too_many() -> None:
    bench = Bench.ready(3)
    worker = bench.worker()
    leases = [bench.lease(worker) for _ in range(3)]
    bench.resize(2)
    assert bench.states() == ["leased"] * 3
    for lease in leases:
        bench.release(lease)
    assert sorted(bench.states()) == ["closing", "idle", "idle"]


def test_one_that_works_is_closed_when_its_statement_is_done() -> None:
    bench = Bench.ready(2)
    worker = bench.worker()
    requests = [bench.submit(worker), bench.submit(worker)]
    bench.resize(1)
    bench.finish(requests[0])
    assert bench.outcomes[requests[0]] == DONE
    assert sorted(bench.states()) == ["busy", "closing"]


def test_one_that_is_always_fed_is_closed_too() -> None:
    bench = Bench.ready(2, pipeline_depth=2)
    worker = bench.worker()
    for _ in range(6):
        bench.send(worker)
    assert bench.states() == ["busy", "busy"]
    bench.resize(1)
    holder = bench.pool.holders[0]
    while holder.state is not HolderState.CLOSING:
        assert holder.flight
        bench.come_back(holder, 1)
    assert bench.states()[1] == "busy"


def test_none_is_opened_while_there_are_too_many() -> None:
    bench = Bench.ready(3)
    worker = bench.worker()
    leases = [bench.lease(worker) for _ in range(3)]
    bench.resize(1)
    waiting = bench.submit(worker)
    opens = bench.opens
    bench.release(leases[0])
    bench.release(leases[1])
    bench.settle()
    assert bench.opens == opens
    bench.release(leases[2])
    assert bench.runs(waiting)


def test_after_up_and_down_numbers_are_used_again() -> None:
    bench = Bench.ready(2)
    for size in (4, 1, 3):
        bench.resize(size)
        bench.settle()
    assert len(bench.pool.holders) == 4
    status = report.status(bench.pool, bench.now)
    assert (status.max_size, status.size, status.available) == (3, 1, 1)
    assert len(status.holders) <= 4


@pytest.mark.parametrize(
    ("max_size", "min_size", "words"),
    [
        (0, None, "max_size is expected to be greater than zero"),
        (2, 3, "min_size is greater than max_size"),
        (2, -1, "min_size is expected to be greater or equal to zero"),
        (262_144, None, "max_size is expected to be at most 262143"),
    ],
)
def test_sizes_that_cannot_be_change_nothing(max_size: int, min_size: int | None, words: str) -> None:
    bench = Bench.ready(2)
    with pytest.raises(ValueError, match=words):
        bench.resize(max_size, min_size)
    assert (bench.pool.settings.min_size, bench.pool.settings.max_size) == (2, 2)
    assert bench.states() == ["idle", "idle"]


# --- leases whose connection is tested first -----------------------------------------------------------------


def in_test(bench: Bench) -> Holder:
    """The holder whose connection is being tested for a lease."""
    (holder,) = bench.in_state(HolderState.BUSY)
    return holder


def test_a_lease_is_granted_when_its_connection_has_answered() -> None:
    bench = Bench.ready(1, **VERIFIED)
    request = bench.acquire(bench.worker())
    assert request not in bench.outcomes
    uses = in_test(bench).uses
    bench.finish(request)
    assert bench.states() == ["leased"]
    assert bench.pool.holders[0].uses == uses - 1, "the test is no use"


def test_a_connection_that_does_not_answer_is_replaced_for_the_lease() -> None:
    for unrun in (0, 1):
        bench = Bench.ready(2, **VERIFIED)
        request = bench.acquire(bench.worker())
        bench.cut(in_test(bench), unrun=unrun)
        assert request not in bench.outcomes
        bench.finish(request)
        assert "leased" in bench.states()


def test_whoever_gives_up_during_the_test_leaves_the_connection_idle() -> None:
    bench = Bench.ready(1, **VERIFIED)
    request = bench.acquire(bench.worker())
    bench.withdraw(request)
    bench.finish(request)
    assert bench.states() == ["idle"]


def test_whoever_runs_out_of_time_during_the_test_is_told_of_the_pool() -> None:
    bench = Bench.ready(1, **VERIFIED)
    request = bench.acquire(bench.worker(), timeout=1.0)
    bench.advance(1.0)
    assert isinstance(bench.outcomes[request], PoolTimeout)
    bench.finish(request)
    assert bench.states() == ["idle"]


def test_a_connection_that_is_to_be_replaced_is_not_granted_after_its_test() -> None:
    bench = Bench.ready(1, **VERIFIED)
    request = bench.acquire(bench.worker())
    bench.expire_connections()
    bench.finish(request)
    assert bench.states() == ["closing"]
    bench.close(bench.pool.holders[0])
    bench.open_all()
    bench.finish(request)
    assert bench.states() == ["leased"]
