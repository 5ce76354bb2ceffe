"""How many connections there are, how they are opened, and when each is replaced."""

from __future__ import annotations

import pytest

from pgactor.core.holder import Holder, HolderState
from pgactor.core.request import Kind
from pgactor.errors import DatabaseUnavailable
from tests.fakes import DONE, Bench

FOREVER: dict[str, float] = {"max_lifetime_seconds": 0, "max_inactive_connection_lifetime": 0}
"""Connections that do not age."""


def use(bench: Bench, *, times: int = 1) -> Holder:
    """Run statements one after another; returns the holder that ran the last."""
    worker = bench.worker()
    for _ in range(times):
        request = bench.submit(worker)
        assert request.holder is not None
        holder = request.holder
        bench.finish(request)
    return holder


def spread(bench: Bench, count: int) -> list[Holder]:
    """Run so many statements at the same time, on connections opened for them; returns the holders."""
    worker = bench.worker()
    requests = [bench.submit(worker) for _ in range(count)]
    bench.open_all()
    holders = [request.holder for request in requests]
    for request in requests:
        bench.finish(request)
    return [holder for holder in holders if holder is not None]


# --- size ---------------------------------------------------------------------------------------------------


def test_min_size_connections_are_opened_at_start() -> None:
    bench = Bench(min_size=3, max_size=5)
    bench.start()
    bench.open_all()
    assert bench.states() == ["idle"] * 3 + ["vacant"] * 2


def test_none_is_opened_at_start_when_min_size_is_zero() -> None:
    bench = Bench(min_size=0, max_size=5)
    bench.start()
    assert bench.opens == 0
    request = bench.submit(bench.worker())
    bench.open()
    assert bench.runs(request)


def test_a_connection_is_opened_for_each_that_waits_up_to_max_size() -> None:
    bench = Bench(min_size=0, max_size=3, opens_at_once=10)
    worker = bench.worker()
    for _ in range(5):
        bench.submit(worker)
    bench.open_all()
    assert bench.states() == ["busy"] * 3
    assert bench.opens == 3


def test_only_a_few_are_opened_at_once() -> None:
    bench = Bench(min_size=5, max_size=5, opens_at_once=2)
    bench.start()
    bench.open()
    assert len(bench.opening()) == 2
    bench.open()
    assert len(bench.opening()) == 2
    bench.open_all()
    assert bench.states() == ["idle"] * 5


def test_at_start_one_is_opened_alone_so_that_errors_show_early() -> None:
    bench = Bench(min_size=4, max_size=4, opens_at_once=10)
    bench.start()
    bench.submit(bench.worker())
    bench.submit(bench.worker())
    assert len(bench.opening()) == 1
    bench.open()
    assert len(bench.opening()) == 3


def test_while_the_first_one_fails_the_others_wait() -> None:
    bench = Bench(min_size=3, max_size=3, opens_at_once=10, reopen_backoff_seconds=1.0)
    bench.start()
    bench.fail_open()
    assert bench.opening() == []
    bench.advance(1.0)
    assert len(bench.opening()) == 1
    bench.open()
    assert len(bench.opening()) == 2


def test_init_size_connections_are_opened_at_start_and_min_size_of_them_kept() -> None:
    bench = Bench(init_size=4, min_size=1, max_size=5, max_inactive_connection_lifetime=10, max_lifetime_seconds=0)
    bench.start()
    bench.open_all()
    assert bench.states() == ["idle"] * 4 + ["vacant"]
    bench.advance(60)
    bench.settle()
    assert bench.states().count("idle") == 1
    bench.cut(next(holder for holder in bench.pool.holders if holder.state == "idle"))
    bench.advance(1)
    bench.open_all()
    assert bench.states().count("idle") == 1


def test_one_that_is_lost_before_init_size_are_there_is_opened_again() -> None:
    bench = Bench(init_size=2, min_size=0, max_size=2, reopen_backoff_seconds=0.1)
    bench.start()
    bench.cut(bench.open())
    bench.advance(1)
    bench.open_all()
    assert bench.states() == ["idle"] * 2


def test_one_that_waits_does_not_have_two_opened() -> None:
    bench = Bench(min_size=0, max_size=5)
    worker = bench.worker()
    bench.submit(worker)
    bench.withdraw(bench.submit(worker))
    bench.submit(worker)
    assert bench.opens == 2


def test_a_connection_that_is_lost_is_replaced_up_to_min_size_after_a_pause() -> None:
    bench = Bench.ready(2, reopen_backoff_seconds=0.1)
    bench.cut(bench.pool.holders[0])
    assert bench.states() == ["vacant", "idle"]
    bench.advance(0.04)
    assert bench.opening() == []
    bench.advance(0.06)
    bench.open()
    assert bench.states() == ["idle"] * 2


def test_a_connection_opened_for_nobody_stays_idle() -> None:
    bench = Bench(min_size=0, max_size=1)
    bench.withdraw(bench.submit(bench.worker()))
    bench.open()
    assert bench.states() == ["idle"]


def test_an_incarnation_is_never_used_again() -> None:
    bench = Bench.ready(1)
    holder = bench.pool.holders[0]
    for incarnation in range(1, 5):
        assert holder.incarnation == incarnation
        assert holder.backend_pid == 100 + incarnation
        bench.cut(holder)
        assert holder.backend_pid == 0
        bench.advance(1.0)
        bench.open()


def test_a_spoiled_connection_is_closed_when_it_comes_back() -> None:
    bench = Bench.ready(2, **FOREVER)
    lease = bench.lease(bench.worker())
    holder, request = lease.holder, bench.submit(bench.worker())
    assert request.holder is not None
    for each in (holder, request.holder):
        bench.pool.spoiled(bench.now, each, each.incarnation)
    assert sorted(bench.states()) == ["busy", "leased"]
    bench.release(lease)
    assert holder.state == "closing"
    bench.finish(request)
    assert bench.states() == ["closing"] * 2
    bench.settle()
    assert bench.states() == ["idle"] * 2


def test_that_an_earlier_connection_was_spoiled_says_nothing_of_the_next() -> None:
    bench = Bench.ready(1, **FOREVER)
    holder = bench.pool.holders[0]
    bench.cut(holder)
    bench.advance(1)
    bench.open()
    bench.pool.spoiled(bench.now, holder, holder.incarnation - 1)
    use(bench)
    assert bench.states() == ["idle"]


# --- replacement --------------------------------------------------------------------------------------------


def test_a_connection_is_replaced_after_max_queries() -> None:
    bench = Bench.ready(1, max_queries=3)
    holder = use(bench, times=2)
    assert bench.states() == ["idle"]
    use(bench)
    assert bench.states() == ["closing"]
    bench.settle()
    assert (holder.state, holder.incarnation, holder.uses) == ("idle", 2, 0)


def test_statements_on_a_lease_count_as_queries() -> None:
    bench = Bench.ready(1, max_queries=2)
    lease = bench.lease(bench.worker())
    for _ in range(2):
        bench.finish(bench.submit_on(lease))
    assert bench.states() == ["leased"]
    bench.release(lease)
    assert bench.states() == ["closing"]


def test_max_queries_zero_means_never() -> None:
    bench = Bench.ready(1, max_queries=0)
    assert use(bench, times=100).incarnation == 1


def test_a_connection_is_replaced_at_the_end_of_its_lifetime() -> None:
    bench = Bench.ready(1, max_lifetime_seconds=100, max_lifetime_jitter=0, max_inactive_connection_lifetime=0)
    bench.advance(99.9)
    assert bench.states() == ["idle"]
    bench.advance(0.2)
    assert bench.states() == ["closing"]
    bench.settle()
    assert bench.states() == ["idle"]
    assert bench.pool.holders[0].incarnation == 2


def test_lifetimes_are_jittered_so_that_connections_do_not_end_together() -> None:
    bench = Bench.ready(20, max_lifetime_seconds=100, max_lifetime_jitter=0.1, max_inactive_connection_lifetime=0)
    ends = {holder.retire_at for holder in bench.pool.holders}
    assert len(ends) == 20
    assert all(end is not None and bench.now + 90 <= end <= bench.now + 100 for end in ends)


def test_a_connection_in_use_outlives_its_lifetime_until_it_comes_back() -> None:
    bench = Bench.ready(1, max_lifetime_seconds=100, max_lifetime_jitter=0)
    request = bench.submit(bench.worker())
    bench.advance(200)
    assert bench.states() == ["busy"]
    bench.finish(request)
    assert bench.states() == ["closing"]


def test_a_lease_outlives_the_lifetime_of_its_connection() -> None:
    bench = Bench.ready(1, max_lifetime_seconds=100, max_lifetime_jitter=0)
    lease = bench.lease(bench.worker(), ttl=1000)
    bench.advance(200)
    bench.finish(bench.submit_on(lease))
    assert bench.states() == ["leased"]
    bench.release(lease)
    assert bench.states() == ["closing"]


def test_a_connection_that_is_too_old_after_its_reset_is_closed() -> None:
    bench = Bench.ready(1, max_lifetime_seconds=100, max_lifetime_jitter=0)
    bench.finish(bench.submit(bench.worker(), "set a = 1", kind=Kind.SESSION))
    bench.advance(200)
    assert bench.states() == ["resetting"]
    bench.reset(bench.pool.holders[0])
    assert bench.states() == ["closing"]


def test_an_idle_connection_above_min_size_is_closed() -> None:
    bench = Bench(min_size=1, max_size=3, max_inactive_connection_lifetime=300, max_lifetime_seconds=0)
    bench.start()
    bench.open_all()
    spread(bench, 3)
    bench.advance(299)
    assert bench.states() == ["idle"] * 3
    bench.advance(2)
    bench.settle()
    assert sorted(bench.states()) == ["idle", "vacant", "vacant"]


@pytest.mark.parametrize("min_size", [0, 1, 2, 3, 4])
def test_connections_that_idle_together_never_leave_less_than_min_size(min_size: int) -> None:
    """Those that are being closed are not there any more."""
    bench = Bench(min_size=min_size, max_size=4, max_inactive_connection_lifetime=300, max_lifetime_seconds=0)
    bench.start()
    spread(bench, 4)
    opens = bench.opens
    bench.advance(400)
    assert len(bench.in_state(HolderState.IDLE)) == min_size
    assert len(bench.in_state(HolderState.CLOSING)) == 4 - min_size
    bench.settle()
    assert bench.opens == opens


def test_a_connection_that_is_being_opened_does_not_replace_an_idle_one() -> None:
    bench = Bench(min_size=1, max_size=3, max_inactive_connection_lifetime=300, max_lifetime_seconds=0)
    bench.start()
    bench.open_all()
    bench.advance(299)
    worker = bench.worker()
    first, second = bench.submit(worker), bench.submit(worker)
    bench.withdraw(second)
    bench.finish(first)
    bench.advance(400)
    assert sorted(bench.states()) == ["idle", "opening", "vacant"]


def test_a_connection_that_is_used_now_and_then_is_not_closed() -> None:
    bench = Bench(min_size=0, max_size=1, max_inactive_connection_lifetime=300, max_lifetime_seconds=0)
    holder = spread(bench, 1)[0]
    for _ in range(20):
        bench.advance(250)
        use(bench)
    assert holder.incarnation == 1
    bench.advance(299)
    assert bench.states() == ["idle"]
    bench.advance(1)
    assert bench.states() == ["closing"]


def test_the_time_that_a_connection_idles_is_counted_from_its_last_use() -> None:
    bench = Bench(min_size=0, max_size=1, max_inactive_connection_lifetime=300, max_lifetime_seconds=0)
    spread(bench, 1)
    bench.advance(100)
    use(bench)
    bench.advance(299)
    assert bench.states() == ["idle"]
    bench.advance(1)
    assert bench.states() == ["closing"]


def test_a_connection_that_is_no_more_has_no_timer() -> None:
    bench = Bench(min_size=0, max_size=1)
    holder = spread(bench, 1)[0]
    assert holder in bench.pool.deadlines
    bench.cut(holder)
    assert bench.pool.next_deadline() is None


@pytest.mark.parametrize("start", [0.1, 1.1, 15.9, 1000.3, 65535.95])
def test_an_idle_connection_is_closed_at_its_time_whatever_the_clock_shows(start: float) -> None:
    """Sums of floats are rounded: a time that has come must not be taken for one that has not."""
    bench = Bench(now=start, min_size=0, max_size=1, max_inactive_connection_lifetime=0.7, max_lifetime_seconds=0)
    spread(bench, 1)
    bench.advance(0.71)
    assert bench.states() == ["closing"]


def test_the_connections_that_are_not_needed_are_the_ones_that_idle() -> None:
    bench = Bench(min_size=1, max_size=3, max_inactive_connection_lifetime=300, max_lifetime_seconds=0)
    bench.start()
    last = spread(bench, 3)[-1]
    for _ in range(10):
        bench.advance(100)
        assert use(bench) is last
    bench.settle()
    assert bench.in_state(HolderState.IDLE) == [last]


def test_connections_without_any_age_limit_have_no_timers() -> None:
    bench = Bench.ready(2, **FOREVER)
    use(bench, times=3)
    assert bench.pool.next_deadline() is None


# --- expire_connections -------------------------------------------------------------------------------------


def test_expiring_replaces_idle_connections_now_and_used_ones_when_they_come_back() -> None:
    bench = Bench.ready(4)
    worker = bench.worker()
    lease = bench.lease(worker)
    running = bench.submit(worker)
    touching = bench.submit(worker, "set a = 1", kind=Kind.SESSION)
    bench.expire_connections()
    assert sorted(bench.states()) == ["busy", "busy", "closing", "leased"]
    bench.finish(touching, touched=True)
    bench.finish(running)
    bench.release(lease)
    bench.settle()
    assert bench.states() == ["idle"] * 4
    assert {holder.incarnation for holder in bench.pool.holders} == {2}


def test_a_connection_that_was_being_opened_is_of_the_old_generation() -> None:
    bench = Bench(min_size=1, max_size=1)
    bench.start()
    bench.expire_connections()
    holder = bench.open()
    assert bench.states() == ["closing"]
    bench.settle()
    assert (holder.state, holder.incarnation) == ("idle", 2)


# --- a database that does not answer ------------------------------------------------------------------------


def test_failed_opens_are_tried_again_one_at_a_time_with_doubled_pauses() -> None:
    bench = Bench(min_size=3, max_size=3, reopen_backoff_seconds=1.0, reopen_backoff_max_seconds=8.0)
    bench.start()
    while bench.opening():
        bench.fail_open()
    assert bench.opens == 1
    pauses = []
    for _ in range(6):
        began = bench.now
        while not bench.opening():
            bench.advance(0.25)
        assert len(bench.opening()) == 1
        pauses.append(bench.now - began)
        bench.fail_open()
    full = [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert all(half / 2 <= pause <= half + 0.25 for half, pause in zip(full, pauses, strict=True))


def test_requests_wait_through_a_short_outage() -> None:
    bench = Bench(min_size=0, max_size=2, database_grace_seconds=5.0)
    request = bench.submit(bench.worker())
    bench.fail_open()
    bench.advance(4.0)
    assert request not in bench.outcomes
    bench.open()
    bench.finish(request)
    assert bench.outcomes[request] == DONE


def test_after_the_grace_period_requests_are_refused() -> None:
    bench = Bench(min_size=0, max_size=2, database_grace_seconds=5.0)
    worker = bench.worker()
    first = bench.submit(worker)
    bench.fail_open(error="connection refused")
    bench.advance(6.0)
    second = bench.submit(worker)
    assert bench.outcomes == {}
    bench.fail_open(error="still refused")
    for request in (first, second):
        error = bench.error(request)
        assert isinstance(error, DatabaseUnavailable)
        assert error.retry
        assert "for 6.0 s; the last attempt: still refused" in str(error)
    assert bench.pool.counters["refused_database_unavailable"] == 2


def test_while_the_database_is_down_requests_are_refused_until_a_new_attempt() -> None:
    bench = Bench(min_size=1, max_size=2, database_grace_seconds=1.0, reopen_backoff_seconds=1.0)
    worker = bench.worker()
    bench.start()
    bench.fail_open()
    bench.advance(2.0)
    bench.fail_open()
    assert isinstance(bench.error(bench.submit(worker)), DatabaseUnavailable)
    bench.advance(2.0)
    hopeful = bench.submit(worker)
    assert hopeful not in bench.outcomes, "an attempt is under way"
    bench.open()
    bench.finish(hopeful)
    assert bench.outcomes[hopeful] == DONE


def test_a_new_attempt_is_worth_waiting_for() -> None:
    bench = Bench(min_size=0, max_size=1, database_grace_seconds=1.0)
    worker = bench.worker()
    bench.submit(worker, timeout=0.0)
    bench.fail_open()
    bench.advance(60.0)
    assert bench.opening() == [], "nobody waits for one"
    request = bench.submit(worker)
    bench.open()
    bench.finish(request)
    assert bench.outcomes[request] == DONE


def test_whoever_comes_while_a_connection_lives_may_wait_for_it() -> None:
    bench = Bench(min_size=0, max_size=2, database_grace_seconds=1.0, reopen_backoff_seconds=1.0)
    worker = bench.worker()
    running = bench.submit(worker)
    bench.open()
    bench.submit(worker)
    bench.fail_open()
    bench.advance(2.0)
    bench.fail_open()
    request = bench.submit(worker)
    assert request not in bench.outcomes
    bench.finish(running)


def test_nobody_is_refused_while_a_connection_lives() -> None:
    bench = Bench(min_size=0, max_size=2, database_grace_seconds=1.0, queue_timeout_seconds=1000.0)
    worker = bench.worker()
    running = bench.submit(worker)
    bench.open()
    waiting = bench.submit(worker)
    for _ in range(5):
        bench.fail_open()
        bench.advance(6.0)
    assert waiting not in bench.outcomes
    bench.finish(running)
    bench.finish(waiting)
    assert bench.outcomes[waiting] == DONE


def test_a_permanent_error_refuses_at_once() -> None:
    bench = Bench(min_size=0, max_size=2)
    request = bench.submit(bench.worker())
    bench.fail_open(error='database "x" does not exist', permanent=True)
    assert isinstance(bench.error(request), DatabaseUnavailable)
    assert 'database "x" does not exist' in str(bench.error(request))


def test_a_permanent_error_refuses_nobody_while_a_connection_lives() -> None:
    bench = Bench(min_size=0, max_size=2)
    worker = bench.worker()
    running = bench.submit(worker)
    bench.open()
    waiting = bench.submit(worker)
    bench.fail_open(permanent=True)
    assert waiting not in bench.outcomes
    bench.finish(running)
    assert bench.runs(waiting)


def test_after_an_outage_everything_is_as_before() -> None:
    bench = Bench(min_size=2, max_size=4, database_grace_seconds=1.0)
    bench.start()
    for _ in range(5):
        while bench.opening():
            bench.fail_open()
        bench.advance(5.0)
    bench.open_all()
    assert len(bench.in_state(HolderState.IDLE)) == 2
    worker = bench.worker()
    requests = [bench.submit(worker) for _ in range(4)]
    assert len(bench.opening()) == 2
    bench.open_all()
    assert all(bench.runs(request) for request in requests)


def test_a_restart_of_the_database_is_not_met_by_a_storm() -> None:
    bench = Bench.ready(8, opens_at_once=8, reopen_backoff_seconds=0.5)
    for holder in bench.pool.holders:
        bench.cut(holder)
    assert bench.opening() == []
    bench.advance(0.5)
    assert len(bench.opening()) == 8
    for _ in range(8):
        bench.fail_open()
    bench.advance(5.0)
    assert len(bench.opening()) == 1
    bench.open_all()
    assert bench.states() == ["idle"] * 8


def test_a_connection_lost_while_it_opens_counts_as_a_failure() -> None:
    bench = Bench(min_size=1, max_size=1)
    bench.start()
    bench.cut(bench.opening()[0])
    assert bench.pool.counters["connections_failed"] == 1
    assert bench.pool.fleet.opener.last_error == "the server closed the connection"
    bench.advance(1.0)
    bench.open()
    assert bench.states() == ["idle"]


@pytest.mark.parametrize("backoff", [0.0, 0.1])
def test_without_a_grace_period_the_first_failure_refuses(backoff: float) -> None:
    bench = Bench(min_size=0, max_size=1, database_grace_seconds=0, reopen_backoff_seconds=backoff)
    request = bench.submit(bench.worker())
    bench.fail_open()
    assert isinstance(bench.error(request), DatabaseUnavailable)
