"""What is done to a pool while it serves: a pause, other settings, and its connections handed over."""

from __future__ import annotations

from pgactor.core.holder import HolderState
from pgactor.core.request import Kind
from pgactor.errors import DatabaseUnavailable, PoolClosing, PoolTimeout
from tests.fakes import DONE, Bench


def is_quiet(bench: Bench) -> bool:
    """Whether nothing runs."""
    return bench.pool.operating.is_quiet


# --- pause --------------------------------------------------------------------------------------------------


def test_in_a_pause_what_comes_waits_and_what_runs_ends() -> None:
    bench = Bench.ready(3)
    worker = bench.worker()
    running = bench.submit(worker)
    bench.pause()
    assert not is_quiet(bench)
    waiting = [bench.submit(worker), bench.send(worker), bench.acquire(worker)]
    assert not any(bench.runs(request) for request in waiting)
    bench.finish(running)
    assert bench.outcomes[running] == DONE
    assert is_quiet(bench)
    assert not any(bench.runs(request) for request in waiting)
    bench.resume()
    bench.settle()
    assert [bench.runs(request) for request in waiting[:2]] == [True, True]
    assert waiting[2] in bench.outcomes


def test_nobody_joins_those_that_share_a_backend_in_a_pause() -> None:
    bench = Bench.ready(1)
    first, second = bench.worker(), bench.worker()
    gone = bench.send(first)
    bench.pause()
    waiting = bench.flood(second, 3)
    bench.come_back(bench.pool.holders[0])
    assert bench.outcomes[gone] == DONE
    assert bench.states() == ["idle"]
    bench.resume()
    assert all(bench.runs(request) for request in waiting)


def test_whoever_waits_in_a_pause_keeps_its_deadlines() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    bench.pause()
    soon, later = bench.submit(worker, timeout=1.0), bench.submit(worker)
    bench.advance(1.0)
    assert isinstance(bench.outcomes[soon], PoolTimeout)
    assert later not in bench.outcomes
    bench.advance(4.0)
    assert isinstance(bench.outcomes[later], PoolTimeout)


def test_a_lease_that_is_held_goes_on_in_a_pause_and_is_waited_for() -> None:
    bench = Bench.ready(2)
    lease = bench.lease(bench.worker())
    bench.pause()
    statement = bench.submit_on(lease)
    bench.finish(statement)
    assert bench.outcomes[statement] == DONE
    assert not is_quiet(bench)
    bench.release(lease)
    bench.settle()
    assert is_quiet(bench)


def test_in_a_pause_nothing_is_opened_and_nobody_is_refused_for_a_database_that_is_down() -> None:
    bench = Bench.ready(1, database_grace_seconds=1.0, queue_timeout_seconds=100.0, max_lifetime_seconds=0)
    worker = bench.worker()
    bench.cut(bench.pool.holders[0])
    bench.advance(0.2)
    bench.fail_open()
    for _ in range(3):
        bench.advance(2.0)
        bench.fail_open()
    assert isinstance(bench.outcomes[bench.submit(worker)], DatabaseUnavailable)
    bench.pause()
    opens = bench.opens
    waiting = bench.submit(worker)
    bench.advance(50.0)
    assert bench.opens == opens
    assert waiting not in bench.outcomes
    bench.resume()
    bench.open_all()
    assert bench.runs(waiting)


def test_a_connection_that_was_being_opened_when_the_pause_began_may_fail_for_whatever_reason() -> None:
    bench = Bench(min_size=0, max_size=1)
    waiting = bench.submit(bench.worker())
    bench.pause()
    bench.fail_open(error="the database is being renamed", permanent=True)
    assert waiting not in bench.outcomes
    bench.advance(5.0)
    bench.resume()
    bench.open_all()
    assert bench.runs(waiting)


def test_a_pool_that_begins_anew_is_as_paused_and_as_small_as_the_one_before() -> None:
    before, bench = Bench(min_size=0, max_size=4), Bench(min_size=0, max_size=4)
    before.lend(3)
    before.pause()
    bench.pool.operating.take_over(before.pool.operating)
    waiting = [bench.submit(bench.worker()) for _ in range(4)]
    assert bench.opens == 0
    bench.resume()
    bench.open_all()
    assert bench.opens == 1
    assert [bench.runs(each) for each in waiting].count(True) == 1


def test_a_drain_ends_a_pause() -> None:
    bench = Bench.ready(1)
    bench.pause()
    waiting = bench.submit(bench.worker())
    bench.drain()
    bench.finish(waiting)
    assert bench.outcomes[waiting] == DONE
    bench.pause()
    bench.settle()
    assert bench.pool.drained


def test_a_pool_that_is_not_paused_goes_on_at_resume() -> None:
    bench = Bench.ready(1)
    running = bench.submit(bench.worker())
    bench.resume()
    assert bench.runs(running)


# --- other settings -----------------------------------------------------------------------------------------


def test_other_settings_are_gone_by_at_once() -> None:
    bench = Bench.ready(1, max_inactive_connection_lifetime=0, max_lifetime_seconds=0)
    worker = bench.worker()
    bench.configure(
        max_size=3,
        queue_timeout_seconds=2.0,
        max_inactive_connection_lifetime=7.0,
        max_hold_seconds=4.0,
        opens_at_once=3,
        reopen_backoff_seconds=9.0,
    )
    assert bench.pool.fleet.opener.at_once == 3
    assert bench.pool.fleet.opener.backoff == 9.0
    lease = bench.lease(worker)
    waiting = bench.submit(worker, kind=Kind.LEASE)
    bench.advance(2.0)
    assert isinstance(bench.outcomes[waiting], PoolTimeout)
    for _ in range(2):
        bench.advance(1.0)
        bench.heartbeat(worker, lease.token)
    assert lease in bench.told, "max_hold_seconds"


def test_connections_that_idle_for_too_long_by_the_new_settings_are_closed() -> None:
    bench = Bench.ready(1, max_inactive_connection_lifetime=0, max_lifetime_seconds=0)
    bench.configure(min_size=0, max_inactive_connection_lifetime=7.0)
    bench.advance(7.0)
    assert bench.states() == ["closing"]


def test_a_smaller_size_closes_those_that_are_too_many() -> None:
    bench = Bench.ready(3)
    bench.configure(max_size=1, min_size=1)
    bench.settle()
    assert sorted(bench.states()) == ["idle", "vacant", "vacant"]


# --- hand-over ----------------------------------------------------------------------------------------------


def test_what_another_supervisor_has_is_not_opened_here() -> None:
    bench = Bench(min_size=2, max_size=3, opens_at_once=3)
    bench.lend(3)
    bench.start()
    waiting = [bench.submit(bench.worker()) for _ in range(3)]
    assert bench.opens == 0
    bench.lend(2)
    bench.open_all()
    assert bench.pool.fleet.alive == 1
    bench.lend(0)
    bench.open_all()
    assert all(bench.runs(request) for request in waiting)


def test_connections_that_another_supervisor_is_to_have_are_closed_as_they_come_back() -> None:
    bench = Bench.ready(3)
    request = bench.submit(bench.worker())
    bench.lend(3)
    bench.settle()
    assert sorted(bench.states()) == ["busy", "vacant", "vacant"]
    bench.finish(request)
    bench.settle()
    assert bench.states() == ["vacant"] * 3


def test_a_larger_share_elsewhere_than_there_is_leaves_nothing() -> None:
    bench = Bench.ready(2)
    bench.lend(9)
    bench.settle()
    assert bench.pool.fleet.limit == 0
    assert bench.pool.drained


def test_a_pool_that_goes_gives_up_what_it_does_not_need_and_never_asks_for_it_back() -> None:
    bench = Bench.ready(3)
    worker = bench.worker()
    lease, running = bench.lease(worker), bench.submit(bench.worker())
    bench.drain()
    assert bench.pool.operating.give_up() == 3, "one is closing yet"
    bench.settle()
    assert bench.pool.operating.give_up() == 2
    bench.finish(running)
    bench.settle()
    assert bench.pool.operating.give_up() == 1
    bench.release(lease)
    bench.settle()
    assert bench.pool.operating.give_up() == 0
    assert bench.pool.drained
    assert isinstance(bench.outcomes[bench.submit(worker)], PoolClosing)


def test_one_connection_is_kept_for_those_that_wait() -> None:
    bench = Bench.ready(1)
    first, second = bench.submit(bench.worker()), bench.submit(bench.worker())
    bench.drain()
    bench.cut(bench.pool.holders[0])
    assert bench.pool.fleet.alive == 0
    assert bench.pool.operating.give_up() == 1
    bench.advance(1.0)
    bench.open_all()
    bench.finish(second)
    bench.settle()
    assert first in bench.outcomes
    assert bench.outcomes[second] == DONE
    assert bench.pool.operating.give_up() == 0


def test_a_hand_over_that_came_to_nothing_is_undone() -> None:
    bench = Bench.ready(2, min_size=2)
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.drain()
    bench.settle()
    assert bench.pool.operating.give_up() == 1
    assert isinstance(bench.outcomes[bench.submit(worker)], PoolClosing)
    bench._do(bench.pool.operating.reopen(bench.now))
    assert not bench.opening(), "the other one's connections may be there yet"
    bench.lend(0)
    bench.open_all()
    assert bench.runs(bench.submit(worker))
    assert len(bench.in_state(HolderState.LEASED)) == 1
    bench.release(lease)
