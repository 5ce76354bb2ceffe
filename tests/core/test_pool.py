"""What a user of the pool would notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgactor.core.actions import Action
from pgactor.core.holder import Holder, HolderState
from pgactor.core.lease import Lease, LeaseBusy
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.errors import (
    DatabaseUnavailable,
    LeaseError,
    LeaseExpired,
    LeaseLost,
    OutcomeUnknown,
    PgactorError,
    PoolClosing,
    PoolTimeout,
    ProtocolError,
    QueueFull,
    RequestCancelled,
    RequestTimeout,
)
from pgactor.messages import Token
from tests.fakes import DONE, Bench, tokens_that_are_not

HOLD: dict[str, float] = {"queue_timeout_seconds": 1000.0}
"""Nobody gives up waiting."""


# --- statements ---------------------------------------------------------------------------------------------


def test_a_statement_runs_at_once_on_an_idle_backend() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker(), "select 2")
    assert bench.states() == ["busy"]
    bench.finish(request)
    assert bench.outcomes[request] == DONE
    assert bench.states() == ["idle"]


def test_the_backend_that_became_idle_last_is_used_first() -> None:
    bench = Bench.ready(3)
    worker = bench.worker()
    requests = [bench.submit(worker) for _ in range(3)]
    holders = [request.holder for request in requests]
    for n in (2, 0, 1):
        bench.finish(requests[n])
    again = [bench.submit(worker).holder for _ in range(3)]
    assert again == [holders[n] for n in (1, 0, 2)]


def test_a_statement_that_may_leave_something_is_followed_by_a_reset() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker(), "set a = 1", kind=Kind.SESSION)
    bench.finish(request)
    assert bench.outcomes[request] == DONE
    assert bench.states() == ["resetting"]
    bench.settle()
    assert bench.states() == ["idle"]


def test_a_backend_that_was_found_touched_is_reset_too() -> None:
    bench = Bench.ready(1)
    bench.finish(bench.submit(bench.worker()), touched=True)
    assert bench.states() == ["resetting"]


def test_nobody_is_served_by_a_backend_that_is_being_reset() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    bench.finish(bench.submit(worker, kind=Kind.SESSION))
    request = bench.submit(worker)
    assert not bench.runs(request)
    bench.settle()
    assert bench.runs(request)


def test_a_request_id_that_is_in_use_is_refused_and_changes_nothing() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    request = bench.submit(worker)
    twin = Request(worker, request.id, Kind.STATEMENT, bench.now)
    with pytest.raises(ProtocolError, match=f"request id {request.id} is in use"):
        bench.enter(twin)
    bench.check()
    assert worker.requests[request.id] is request
    bench.finish(request)
    bench.enter(twin)
    assert worker.requests[request.id] is twin


def test_workers_may_use_the_same_ids() -> None:
    bench = Bench.ready(2)
    requests = [Request(bench.worker(), 5, Kind.STATEMENT, bench.now) for _ in range(2)]
    for request in requests:
        bench.enter(request)
    assert all(bench.runs(request) for request in requests)


# --- waiting ------------------------------------------------------------------------------------------------


def test_whoever_finds_no_idle_backend_waits_for_one() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    first, second = bench.submit(worker), bench.submit(worker)
    assert not bench.runs(second)
    bench.finish(first)
    assert bench.runs(second)
    bench.finish(second)
    assert bench.outcomes[second] == DONE


@pytest.mark.long
def test_workers_take_turns_however_many_requests_each_has() -> None:
    bench = Bench.ready(1, **HOLD)
    greedy, modest = bench.worker(), bench.worker()
    running = bench.submit(greedy)
    for _ in range(1000):
        bench.submit(greedy)
    one = bench.submit(modest)
    served = 0
    while not bench.runs(one):
        bench.finish(running)
        running = next(request for request in bench.requests if bench.runs(request))
        served += 1
    assert served <= 2


def test_workers_that_wait_for_leases_take_turns_too() -> None:
    bench = Bench.ready(1, **HOLD)
    greedy, modest = bench.worker(), bench.worker()
    lease = bench.lease(greedy)
    second, *_ = [bench.acquire(greedy) for _ in range(10)]
    one = bench.acquire(modest)
    for waiting in (second, one):
        bench.release(lease)
        granted = bench.outcomes[waiting]
        assert isinstance(granted, Lease)
        lease = granted


def test_whoever_waits_longer_than_the_queue_timeout_is_told_which_limit_it_was() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    bench.submit(worker)
    patient, unlimited = bench.submit(worker, timeout=60.0), bench.submit(worker)
    bench.advance(4.9)
    assert bench.outcomes == {}
    bench.advance(0.1)
    for request in (patient, unlimited):
        error = bench.error(request)
        assert isinstance(error, PoolTimeout)
        assert str(error).startswith(
            "no backend came free within 5.00 s (the supervisor's queue_timeout_seconds); it was not run. "
        )
    assert bench.pool.counters["refused_pool_timeout"] == 2


def test_whoever_runs_out_of_its_own_time_while_waiting_is_told_so() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    bench.submit(worker)
    hasty = bench.submit(worker, timeout=2.0)
    bench.advance(2.0)
    error = bench.error(hasty)
    assert isinstance(error, PoolTimeout)
    assert str(error).startswith("no backend came free within 2.00 s (the request's own timeout); it was not run. ")


def test_whoever_gave_up_waiting_is_not_run_later() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    running, late = bench.submit(worker), bench.submit(worker)
    bench.advance(5.0)
    bench.finish(running)
    assert bench.states() == ["idle"]
    assert isinstance(bench.error(late), PoolTimeout)


def test_what_a_request_has_waited_in_its_worker_counts() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    bench.submit(worker)
    patient = Request(worker, 98, Kind.STATEMENT, bench.now, waited=3.0)
    overdue = Request(worker, 99, Kind.STATEMENT, bench.now, waited=7.0)
    bench.enter(patient)
    bench.enter(overdue)
    bench.advance(0.0)
    assert "within 7.00 s (the supervisor's queue_timeout_seconds)" in str(bench.error(overdue))
    bench.advance(1.9)
    assert patient not in bench.outcomes
    bench.advance(0.1)
    assert "within 5.00 s (the supervisor's queue_timeout_seconds)" in str(bench.error(patient))


def test_a_request_may_bring_a_limit_of_its_own_for_the_queue() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    bench.submit(worker)
    request = Request(worker, 99, Kind.STATEMENT, bench.now, queue_deadline=bench.now + 1.0)
    bench.enter(request)
    bench.advance(1.0)
    assert isinstance(bench.error(request), PoolTimeout)


def test_a_running_statement_has_no_limit_but_its_own() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    request = bench.submit(worker)
    queued = bench.submit(worker)
    bench.advance(4.0)
    bench.finish(request)
    bench.advance(1000.0)
    assert bench.runs(queued)
    bench.finish(queued)
    assert bench.outcomes[queued] == DONE


def test_more_than_max_waiting_are_refused() -> None:
    bench = Bench.ready(1, max_waiting=2)
    worker = bench.worker()
    running, *_ = [bench.submit(worker) for _ in range(3)]
    refused = bench.submit(worker)
    error = bench.error(refused)
    assert isinstance(error, QueueFull)
    assert str(error).startswith("2 requests are waiting already (max_waiting); it was not run. max_size 1, ")
    assert error.facts["waiting"] == 2
    assert bench.pool.counters["refused_queue_full"] == 1
    bench.finish(running)
    assert bench.submit(worker) not in bench.outcomes


def test_the_text_of_a_pool_timeout_tells_who_holds_what() -> None:
    bench = Bench.ready(2, queue_timeout_seconds=3.0)
    web, celery = bench.worker("web", pid=10), bench.worker("celery", pid=20)
    lease = bench.lease(web)
    bench.submit_on(lease, "update t\n  set a = 1")
    bench.submit(celery, "select pg_sleep(60)")
    bench.advance(1.0)
    late = bench.submit(celery)
    bench.advance(3.0)
    error = bench.error(late)
    assert str(error).split("it was not run. ")[1].splitlines() == [
        "max_size 2, size 2, idle 0, busy 1, leased 1, resetting 0, opening 0, waiting 1",
        "  0: busy for 4.0 s by celery (pid 20): select pg_sleep(60)",
        "  1: leased for 4.0 s by web (pid 10) as lease 1.1 (running): update t set a = 1",
    ]
    assert error.facts["holders"][1] == {
        "number": 1,
        "state": "leased",
        "seconds": 4.0,
        "worker": "web (pid 10)",
        "lease": "1.1",
        "statement": "update t set a = 1",
    }
    assert {name: error.facts[name] for name in ("max_size", "size", "idle", "waiting")} == {
        "max_size": 2,
        "size": 2,
        "idle": 0,
        "waiting": 1,
    }


def test_the_text_of_a_pool_timeout_tells_that_the_database_refuses() -> None:
    bench = Bench(min_size=0, max_size=1, queue_timeout_seconds=3.0, database_grace_seconds=100.0)
    late = bench.submit(bench.worker())
    bench.fail_open(error="too many clients")
    bench.advance(2.0)
    bench.fail_open(error="too many clients")
    bench.advance(1.0)
    assert "PostgreSQL refuses connections: too many clients" in str(bench.error(late))


# --- withdrawing --------------------------------------------------------------------------------------------


def test_a_withdrawn_request_that_waits_never_runs() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    running, waiting = bench.submit(worker), bench.submit(worker)
    bench.withdraw(waiting)
    assert isinstance(bench.error(waiting), RequestCancelled)
    bench.finish(running)
    assert bench.states() == ["idle"]


def test_a_withdrawn_request_that_runs_is_interrupted_and_answered_once() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker())
    bench.withdraw(request)
    assert isinstance(bench.error(request), RequestCancelled)
    assert bench.backends[bench.pool.holders[0]].interrupted
    assert bench.states() == ["busy"], "until the backend is quiet"
    bench.settle()
    assert bench.states() == ["idle"]


def test_a_result_that_comes_after_the_withdrawal_is_of_no_use() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker())
    bench.withdraw(request)
    assert not bench.pool.answer(request)


def test_a_withdrawal_that_comes_after_the_result_is_ignored() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker())
    bench.give_result(request)
    bench.withdraw(request)
    assert not bench.backends[bench.pool.holders[0]].interrupted
    bench.finish(request)
    bench.withdraw(request)
    assert bench.outcomes[request] == DONE


def test_a_statement_that_runs_out_of_time_is_interrupted() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker(), timeout=2.5)
    bench.advance(2.5)
    error = bench.error(request)
    assert isinstance(error, RequestTimeout)
    assert "cancelled after 2.50 s" in str(error)
    assert bench.pool.counters["requests_timed_out"] == 1
    bench.settle()
    assert bench.states() == ["idle"]


def test_the_time_spent_waiting_counts_for_a_requests_own_timeout() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    first, second = bench.submit(worker), bench.submit(worker, timeout=5.0)
    bench.advance(4.0)
    bench.finish(first)
    bench.advance(1.0)
    assert isinstance(bench.error(second), RequestTimeout)


# --- leases -------------------------------------------------------------------------------------------------


def test_a_lease_has_its_backend_for_itself() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker)
    other = bench.submit(worker)
    for _ in range(3):
        bench.finish(bench.submit_on(lease))
    assert not bench.runs(other)
    bench.release(lease)
    bench.settle()
    assert bench.runs(other)


def test_a_lease_that_may_have_left_something_is_reset_before_its_backend_is_used_again() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    bench.finish(bench.submit_on(lease, "set a = 1"))
    bench.release(lease)
    assert bench.states() == ["resetting"]
    assert lease not in bench.told, "the owner knows"
    bench.settle()
    assert bench.states() == ["idle"]
    assert bench.pool.counters["leases_returned_clean"] == 0


CLEAN: list[list[tuple[str, bool]]] = [
    [],
    [("select 1", False)],
    [("insert into t values (1)", False), ("update t set a = 1", False)],
    [("begin", True), ("insert into t values (1)", True), ("commit", False)],
    [("begin", True), ("savepoint a", True), ("select 1/0", True), ("rollback to a", True), ("commit;", False)],
    [("begin", True), ("select 1/0", True), ("rollback", False)],
    [("select 1/0", False)],
    [("begin", True), ("set local a = 1", True), ("commit and chain", True), ("end", False)],
]
"""Statements that run on a lease, and whether PostgreSQL is in a transaction after each."""

UNCLEAN: list[list[tuple[str, bool]]] = [
    [("set a = 1", False)],
    [("set a = 1", False), ("select 1", False), ("begin", True), ("rollback", False)],
    [("begin", True)],
    [("begin", True), ("select 1/0", True)],
    [("select hidden()", True)],
    [("begin", True), ("commit and chain", True)],
    [("prepare transaction 'x'", False)],
    [("begin; set a = 1; commit", False)],
]


def run_on(bench: Bench, lease: Lease, steps: list[tuple[str, bool]]) -> None:
    for sql, in_transaction in steps:
        bench.finish(bench.submit_on(lease, sql), touched=in_transaction)


@pytest.mark.parametrize("steps", CLEAN)
def test_a_lease_that_left_nothing_behind_is_not_reset(steps: list[tuple[str, bool]]) -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    waiting = bench.submit(bench.worker())
    run_on(bench, lease, steps)
    bench.release(lease)
    assert bench.runs(waiting)
    assert bench.pool.counters["leases_returned_clean"] == 1


@pytest.mark.parametrize("steps", UNCLEAN)
def test_any_other_lease_is_reset(steps: list[tuple[str, bool]]) -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    run_on(bench, lease, steps)
    bench.release(lease)
    assert bench.states() == ["resetting"]
    bench.settle()
    assert bench.runs(bench.submit(bench.worker()))
    assert bench.pool.counters["leases_returned_clean"] == 0


@pytest.mark.parametrize("end", ["lost", "expired"])
@pytest.mark.parametrize(("steps", "state"), [(CLEAN[3], "idle"), (UNCLEAN[2], "resetting")])
def test_it_does_not_matter_how_a_lease_ends(end: str, steps: list[tuple[str, bool]], state: str) -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker(), ttl=10)
    run_on(bench, lease, steps)
    if end == "lost":
        bench.lose(lease.worker)
    else:
        bench.advance(10.0)
    assert bench.states() == [state]


def test_a_lease_whose_statement_was_cancelled_is_reset() -> None:
    """It may have been cancelled before it ran, or in the middle of what asyncpg does besides."""
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    run_on(bench, lease, [("begin", True)])
    cancelled = bench.submit_on(lease)
    bench.withdraw(cancelled)
    bench.finish(cancelled)
    bench.release(lease)
    assert bench.states() == ["resetting"]


def test_a_lease_on_which_nobody_knows_what_ran_is_reset() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    request = Request(lease.worker, 99, Kind.STATEMENT, bench.now)
    bench.requests.append(request)
    bench._do(bench.pool.submit_on_lease(bench.now, request, lease.token))
    bench.finish(request)
    bench.release(lease)
    assert bench.states() == ["resetting"]


def test_where_every_statement_is_followed_by_a_reset_every_lease_is_too() -> None:
    bench = Bench.ready(1, reset_every_statement=True)
    lease = bench.lease(bench.worker())
    run_on(bench, lease, [("select 1", False)])
    bench.release(lease)
    assert bench.states() == ["resetting"]


def test_a_clean_lease_on_a_backend_that_has_served_its_time_is_closed() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    bench.expire_connections()
    bench.release(lease)
    assert bench.states() == ["closing"]


def test_a_clean_lease_ends_a_drain() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    bench.drain()
    bench.release(lease)
    bench.settle()
    assert bench.pool.drained


def test_whoever_uses_a_released_lease_is_told_so() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    bench.release(lease)
    with pytest.raises(LeaseLost, match=f"lease {lease.token} has been released"):
        bench.submit_on(lease)


def test_releasing_twice_is_harmless_even_if_the_backend_serves_another() -> None:
    bench = Bench.ready(1)
    first = bench.lease(bench.worker())
    bench.release(first)
    bench.settle()
    second = bench.lease(bench.worker())
    bench.release(first)
    assert bench.states() == ["leased"]
    bench.finish(bench.submit_on(second))


def test_a_lease_can_be_waited_for() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker)
    waiting = bench.acquire(worker)
    bench.release(lease)
    bench.settle()
    assert isinstance(bench.outcomes[waiting], Lease)


def test_whoever_waits_too_long_for_a_lease_gets_a_pool_timeout() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker, ttl=100)
    waiting = bench.acquire(worker, timeout=1.0)
    bench.advance(1.0)
    assert isinstance(bench.error(waiting), PoolTimeout)
    bench.release(lease)
    bench.settle()
    assert bench.states() == ["idle"]


def test_a_lease_is_not_bound_by_the_timeout_of_its_request() -> None:
    bench = Bench.ready(1)
    waiting = bench.acquire(bench.worker(), timeout=1.0)
    bench.advance(10.0)
    assert isinstance(bench.outcomes[waiting], Lease)
    assert bench.states() == ["leased"]


def test_a_lease_whose_owner_is_silent_expires() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker(), ttl=10)
    bench.advance(9.9)
    assert bench.states() == ["leased"]
    bench.advance(0.1)
    assert bench.states() == ["idle"]
    assert isinstance(bench.told[lease], LeaseExpired)
    assert bench.pool.counters["leases_expired"] == 1
    with pytest.raises(LeaseExpired, match="not renewed within its ttl of 10 s"):
        bench.submit_on(lease)


def test_a_heartbeat_renews_the_leases_it_names() -> None:
    bench = Bench.ready(2)
    worker = bench.worker()
    named, forgotten = bench.lease(worker, ttl=10), bench.lease(worker, ttl=10)
    bench.advance(6.0)
    bench.heartbeat(worker, named.token)
    bench.advance(6.0)
    assert list(bench.told) == [forgotten]
    bench.advance(4.0)
    assert list(bench.told) == [forgotten, named]


def test_a_heartbeat_with_tokens_that_name_nothing_renews_the_others() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker, ttl=10)
    bench.advance(6.0)
    bench.heartbeat(worker, *tokens_that_are_not(lease), lease.token)
    bench.advance(6.0)
    assert bench.told == {}


def test_a_statement_renews_its_lease() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker(), ttl=10)
    for _ in range(5):
        bench.advance(9.0)
        bench.finish(bench.submit_on(lease))
    assert bench.states() == ["leased"]


def test_a_lease_that_has_expired_cannot_be_renewed_by_a_late_word() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker, ttl=10)
    bench.now += 10.0  # the pool's own timer is late
    bench.heartbeat(worker, lease.token)
    with pytest.raises(LeaseExpired):
        bench.submit_on(lease)
    bench.release(lease)
    assert bench.states() == ["leased"]
    bench.advance(0.0)
    assert bench.states() == ["idle"]


def test_max_hold_ends_a_lease_however_often_it_is_renewed() -> None:
    bench = Bench.ready(1, max_hold_seconds=25.0)
    worker = bench.worker()
    lease = bench.lease(worker, ttl=10)
    for _ in range(3):
        bench.advance(8.0)
        bench.heartbeat(worker, lease.token)
        assert bench.told == {}
    bench.advance(1.0)
    assert "ended at max_hold: it was held for 25.0 s" in str(bench.told[lease])


def test_a_statement_that_runs_when_its_lease_expires_is_answered_and_cancelled() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker(), ttl=10)
    request = bench.submit_on(lease)
    bench.advance(10.0)
    assert isinstance(bench.error(request), OutcomeUnknown)
    assert bench.states() == ["resetting"]
    assert bench.backends[lease.holder].interrupted
    bench.settle()
    assert bench.states() == ["idle"]


def test_a_lease_does_one_thing_at_a_time() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    running = bench.submit_on(lease)
    with pytest.raises(LeaseBusy):
        bench.submit_on(lease)
    bench.check()
    bench.finish(running)
    bench.finish(bench.submit_on(lease))


def test_a_statement_waits_for_its_cancelled_predecessor_to_come_back() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    cancelled = bench.submit_on(lease)
    bench.withdraw(cancelled)
    following = bench.submit_on(lease, "rollback")
    assert not bench.runs(following)
    bench.finish(cancelled)
    assert following.holder is lease.holder
    bench.finish(following)
    assert bench.outcomes[following] == DONE


def test_one_statement_at_most_waits_for_the_cancelled_one() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    cancelled = bench.submit_on(lease)
    bench.withdraw(cancelled)
    bench.submit_on(lease)
    with pytest.raises(LeaseBusy):
        bench.submit_on(lease)


def test_a_statement_that_waits_for_a_cancelled_one_can_be_withdrawn() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    cancelled = bench.submit_on(lease)
    bench.withdraw(cancelled)
    following = bench.submit_on(lease)
    bench.withdraw(following)
    assert isinstance(bench.error(following), RequestCancelled)
    bench.finish(cancelled)
    assert bench.backends[lease.holder].running is None
    assert bench.states() == ["leased"]


def test_a_statement_that_waits_for_a_cancelled_one_has_its_own_time() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker(), ttl=100)
    cancelled = bench.submit_on(lease)
    bench.withdraw(cancelled)
    following = bench.submit_on(lease, timeout=2.0)
    bench.advance(2.0)
    assert isinstance(bench.error(following), RequestTimeout)


def test_a_statement_on_a_lease_that_runs_out_of_time_does_not_end_the_lease() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    request = bench.submit_on(lease, timeout=1.0)
    bench.advance(1.0)
    assert isinstance(bench.error(request), RequestTimeout)
    bench.settle()
    assert bench.states() == ["leased"]
    bench.finish(bench.submit_on(lease, "rollback"))


def test_releasing_ends_what_runs_and_what_waits() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    cancelled = bench.submit_on(lease)
    bench.withdraw(cancelled)
    following = bench.submit_on(lease)
    bench.release(lease)
    assert isinstance(bench.error(following), LeaseLost)
    assert isinstance(bench.error(cancelled), RequestCancelled)
    bench.settle()
    assert bench.states() == ["idle"]


def test_a_release_while_a_statement_runs_cancels_it() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    running = bench.submit_on(lease)
    bench.release(lease)
    assert isinstance(bench.error(running), OutcomeUnknown)
    assert bench.backends[lease.holder].interrupted
    assert bench.states() == ["resetting"]
    bench.settle()
    assert bench.states() == ["idle"]


def test_a_stale_token_touches_nothing() -> None:
    bench = Bench.ready(2)
    owner, stranger = bench.worker("owner"), bench.worker("stranger")
    lease = bench.lease(owner, ttl=10)
    ended = bench.lease(owner)
    bench.release(ended)
    bench.settle()
    attempts: list[tuple[Worker, Token]] = [(owner, token) for token in tokens_that_are_not(lease)]
    attempts += [(stranger, lease.token), (owner, ended.token)]
    bench.advance(5.0)
    states, expires_at = bench.states(), lease.expires_at
    for worker, token in attempts:
        with pytest.raises(LeaseError):
            bench.submit_on(lease, worker=worker, token=token)
        bench.release(lease, worker=worker, token=token)
        bench.heartbeat(worker, token)
        assert bench.states() == states
        assert lease.expires_at == expires_at
        assert not owner.requests
        assert not stranger.requests
    assert bench.pool.counters["requests"] == 2


# --- workers ------------------------------------------------------------------------------------------------


def test_what_a_lost_worker_waits_for_is_dropped() -> None:
    bench = Bench.ready(1)
    lost, other = bench.worker("lost"), bench.worker("other")
    running = bench.submit(other)
    waiting = bench.submit(lost)
    bench.lose(lost)
    assert isinstance(bench.error(waiting), RequestCancelled)
    bench.finish(running)
    assert bench.states() == ["idle"]


def test_what_a_lost_worker_runs_is_cancelled() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    running = bench.submit(worker)
    bench.lose(worker)
    assert isinstance(bench.error(running), RequestCancelled)
    bench.settle()
    assert bench.states() == ["idle"]


def test_what_a_lost_worker_leases_is_taken_back_at_once() -> None:
    bench = Bench.ready(2)
    worker = bench.worker()
    lease, used = bench.lease(worker), bench.lease(worker)
    running = bench.submit_on(used)
    bench.lose(worker)
    assert bench.states() == ["resetting", "idle"]
    assert isinstance(bench.error(running), OutcomeUnknown)
    assert bench.told == {}, "there is nobody to tell"
    assert not worker.leases
    with pytest.raises(LeaseLost, match="its worker worker 1 is gone: its link ended"):
        bench.pool.leases.check(lease.token, worker, bench.now)


def test_a_lease_of_a_lost_worker_serves_whoever_waits() -> None:
    bench = Bench.ready(1)
    lost, other = bench.worker(), bench.worker()
    bench.lease(lost)
    waiting = bench.submit(other)
    bench.lose(lost)
    bench.settle()
    assert bench.runs(waiting)


def test_a_worker_is_lost_once() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    bench.lose(worker)
    bench.lose(worker)
    assert bench.pool.counters["workers_lost"] == 1


def test_a_worker_that_said_goodbye_is_not_counted_as_lost() -> None:
    bench = Bench.ready(1)
    bench.pool.lost(bench.now, bench.worker(), "it said goodbye", in_order=True)
    assert bench.pool.counters["workers_lost"] == 0
    assert len(bench.pool.roster) == 0


def test_a_lost_worker_is_not_listened_for() -> None:
    bench = Bench.ready(1)
    worker = bench.worker(silence_limit=10.0)
    bench.submit(worker)
    bench.lose(worker)
    assert worker not in bench.pool.deadlines


def test_a_silent_tcp_worker_that_holds_something_is_lost() -> None:
    bench = Bench.ready(1)
    worker = bench.worker(silence_limit=10.0)
    bench.lease(worker, ttl=1000)
    bench.advance(9.9)
    assert worker in bench.pool.roster
    bench.advance(0.1)
    assert worker not in bench.pool.roster
    assert bench.states() == ["idle"]


def test_a_silent_tcp_worker_that_waits_for_a_reply_is_lost() -> None:
    bench = Bench.ready(1)
    worker = bench.worker(silence_limit=10.0)
    request = bench.submit(worker)
    bench.advance(10.0)
    assert "nothing was heard of it for 10.0 s" in str(bench.error(request))


def test_a_tcp_worker_that_is_heard_stays() -> None:
    bench = Bench.ready(1)
    worker = bench.worker(silence_limit=10.0)
    lease = bench.lease(worker, ttl=1000)
    for _ in range(10):
        bench.advance(7.0)
        bench.heartbeat(worker, lease.token)
    assert worker in bench.pool.roster
    bench.advance(10.0)
    assert worker not in bench.pool.roster


def test_a_tcp_worker_that_holds_nothing_may_be_silent() -> None:
    bench = Bench.ready(1)
    worker = bench.worker(silence_limit=10.0)
    bench.finish(bench.submit(worker))
    bench.advance(1000.0)
    assert worker in bench.pool.roster
    bench.submit(worker)
    bench.advance(10.0)
    assert worker not in bench.pool.roster


def test_an_ipc_worker_may_be_silent_while_its_statement_runs() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    bench.submit(worker)
    bench.advance(10_000.0)
    assert worker in bench.pool.roster


@pytest.mark.parametrize("start", [0.1, 0.9, 1.3, 1000.3, 65535.95])
def test_a_worker_is_lost_at_its_time_whatever_the_clock_shows(start: float) -> None:
    """Sums of floats are rounded: a time that has come must not be taken for one that has not, again and again."""
    bench = Bench(now=start, min_size=0, max_size=1)
    worker = bench.worker(silence_limit=0.7)
    bench.submit(worker)
    bench.advance(0.71)
    assert worker not in bench.pool.roster


# --- backends that are lost ---------------------------------------------------------------------------------


def test_an_idle_backend_that_is_lost_is_not_used() -> None:
    bench = Bench.ready(2)
    bench.cut(bench.pool.holders[1])
    request = bench.submit(bench.worker())
    assert request.holder is bench.pool.holders[0]
    assert bench.pool.counters["connections_lost"] == 1


def test_a_statement_whose_backend_is_lost_has_an_unknown_outcome() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker())
    bench.cut(bench.pool.holders[0])
    assert isinstance(bench.error(request), OutcomeUnknown)
    assert "lost while the statement ran: the server closed the connection" in str(bench.error(request))
    assert not bench.runs(request)


def test_a_statement_that_was_withdrawn_before_its_backend_is_lost_is_answered_once() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker())
    bench.withdraw(request)
    bench.cut(bench.pool.holders[0])
    assert isinstance(bench.error(request), RequestCancelled)


def test_a_statement_that_did_not_begin_waits_for_another_backend() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    request = bench.submit(worker)
    bench.cut(bench.pool.holders[0], unrun=1)
    assert request not in bench.outcomes
    bench.advance(1.0)
    bench.open()
    bench.finish(request)
    assert bench.outcomes[request] == DONE


def test_a_statement_that_did_not_begin_waits_no_longer_than_others() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0, database_grace_seconds=100.0)
    request = bench.submit(bench.worker())
    bench.cut(bench.pool.holders[0], unrun=1)
    bench.advance(5.0)
    assert isinstance(bench.error(request), PoolTimeout)


def test_a_withdrawn_statement_that_did_not_begin_is_not_run_again() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker())
    bench.withdraw(request)
    bench.cut(bench.pool.holders[0], unrun=1)
    bench.advance(1.0)
    bench.open()
    assert bench.states() == ["idle"]


def test_a_lease_whose_backend_is_lost_ends() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.cut(lease.holder)
    assert isinstance(bench.told[lease], LeaseLost)
    assert "lost its connection to PostgreSQL: the server closed the connection" in str(bench.told[lease])
    assert not worker.leases
    with pytest.raises(LeaseLost, match="lost its connection"):
        bench.submit_on(lease)


@pytest.mark.parametrize(("unrun", "error"), [(0, OutcomeUnknown), (1, LeaseLost)])
def test_statements_of_a_lease_whose_backend_is_lost_are_answered(unrun: int, error: type[PgactorError]) -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    running = bench.submit_on(lease)
    bench.cut(lease.holder, unrun=unrun)
    assert isinstance(bench.error(running), error)


def test_what_waits_on_a_lease_whose_backend_is_lost_did_not_run() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    cancelled = bench.submit_on(lease)
    bench.withdraw(cancelled)
    following = bench.submit_on(lease)
    bench.cut(lease.holder)
    assert isinstance(bench.error(cancelled), RequestCancelled)
    assert isinstance(bench.error(following), LeaseLost)


def lost_while_opening(bench: Bench) -> None:
    bench.start()


def lost_while_idle(bench: Bench) -> None:
    bench.start()
    bench.open()


def lost_while_busy(bench: Bench) -> None:
    lost_while_idle(bench)
    bench.submit(bench.worker())


def lost_while_leased(bench: Bench) -> None:
    lost_while_idle(bench)
    bench.submit_on(bench.lease(bench.worker()))


def lost_while_resetting(bench: Bench) -> None:
    lost_while_idle(bench)
    lease = bench.lease(bench.worker())
    bench.submit_on(lease)
    bench.release(lease)


def lost_while_closing(bench: Bench) -> None:
    lost_while_idle(bench)
    bench.expire_connections()


@pytest.mark.parametrize(
    ("state", "reach"),
    [
        (HolderState.OPENING, lost_while_opening),
        (HolderState.IDLE, lost_while_idle),
        (HolderState.BUSY, lost_while_busy),
        (HolderState.LEASED, lost_while_leased),
        (HolderState.RESETTING, lost_while_resetting),
        (HolderState.CLOSING, lost_while_closing),
    ],
)
def test_a_backend_can_be_lost_in_any_state_and_is_replaced(
    state: HolderState, reach: Callable[[Bench], None]
) -> None:
    bench = Bench(min_size=1, max_size=1)
    reach(bench)
    holder = bench.pool.holders[0]
    assert holder.state is state
    bench.cut(holder)
    assert holder.state in (HolderState.VACANT, HolderState.OPENING)
    bench.advance(1.0)
    bench.settle()
    assert bench.states() == ["idle"]
    assert holder.incarnation == 2
    assert set(bench.outcomes) == set(bench.requests)


def every_late_report(bench: Bench, holder: Holder, incarnation: int, request: Request) -> list[object]:
    pool, now = bench.pool, bench.now
    return [
        *pool.unrun(now, holder, incarnation, request),
        *pool.opened(now, holder, incarnation, 1),
        *pool.open_failed(now, holder, incarnation, "late"),
        *pool.finished(now, holder, incarnation, request, touched=True),
        *pool.reset_done(now, holder, incarnation),
        *pool.closed(now, holder, incarnation),
        *pool.gone(now, holder, incarnation, "late"),
    ]


@pytest.mark.parametrize("replaced", [True, False])
def test_what_is_said_of_an_earlier_backend_is_out_of_date(replaced: bool) -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    old = bench.submit(worker)
    holder = bench.pool.holders[0]
    bench.cut(holder)
    if replaced:
        bench.advance(1.0)
        bench.open()
        bench.submit(worker)
    before = (repr(holder), dict(bench.pool.counters))
    assert every_late_report(bench, holder, 1, old) == []
    assert (repr(holder), dict(bench.pool.counters)) == before
    bench.check()


def test_reports_that_do_not_fit_the_state_are_dropped() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    request = bench.submit(worker)
    bench.finish(request)
    holder = bench.pool.holders[0]
    pool, now = bench.pool, bench.now
    assert pool.unrun(now, holder, 1, request) == []
    assert pool.opened(now, holder, 1, 1) == []
    assert pool.open_failed(now, holder, 1, "late") == []
    assert pool.finished(now, holder, 1, request) == []
    assert pool.reset_done(now, holder, 1) == []
    assert pool.closed(now, holder, 1) == []
    assert bench.states() == ["idle"]
    bench.check()


def test_an_open_that_fails_after_it_was_given_up_is_a_close() -> None:
    bench = Bench(min_size=1, max_size=1)
    bench.start()
    holder = bench.opening()[0]
    bench.terminate()
    assert bench.states() == ["closing"]
    bench.fail_open(holder)
    assert bench.states() == ["vacant"]
    assert bench.pool.counters["connections_failed"] == 0
    assert bench.pool.drained


# --- drain and terminate ------------------------------------------------------------------------------------


def test_a_drained_pool_takes_nothing_new() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    bench.drain()
    assert isinstance(bench.error(bench.submit(worker)), PoolClosing)
    assert isinstance(bench.error(bench.acquire(worker)), PoolClosing)


def test_a_drain_lets_what_is_here_end() -> None:
    bench = Bench.ready(2, **HOLD)
    worker = bench.worker()
    lease = bench.lease(worker)
    running, waiting = bench.submit(worker), bench.submit(worker)
    bench.drain()
    bench.finish(running)
    bench.finish(waiting)
    assert bench.outcomes == {bench.requests[0]: lease, running: DONE, waiting: DONE}
    on_lease = bench.submit_on(lease)
    bench.finish(on_lease)
    assert bench.outcomes[on_lease] == DONE
    bench.settle()
    assert sorted(bench.states()) == ["leased", "vacant"]
    bench.release(lease)
    bench.settle()
    assert bench.pool.drained
    assert bench.states() == ["vacant"] * 2


def test_a_drain_closes_what_works_for_nobody() -> None:
    bench = Bench(min_size=3, max_size=4, opens_at_once=2)
    bench.start()
    bench.open()
    bench.finish(bench.submit(bench.worker(), kind=Kind.SESSION))
    bench.open()
    assert sorted(bench.states()) == ["idle", "opening", "resetting", "vacant"]
    bench.drain()
    assert sorted(bench.states()) == ["closing", "closing", "closing", "vacant"]
    bench.settle()
    assert bench.pool.drained
    assert bench.opens == 3


def test_a_drain_opens_what_the_waiting_ones_need() -> None:
    bench = Bench(min_size=0, max_size=1)
    request = bench.submit(bench.worker())
    bench.drain()
    bench.fail_open()
    bench.advance(1.0)
    bench.open()
    bench.finish(request)
    assert bench.outcomes[request] == DONE
    bench.settle()
    assert bench.pool.drained


def test_a_drain_runs_a_statement_whose_backend_was_lost_before_it_began() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker())
    bench.drain()
    bench.cut(bench.pool.holders[0], unrun=1)
    bench.advance(1.0)
    bench.open()
    bench.finish(request)
    assert bench.outcomes[request] == DONE
    bench.settle()
    assert bench.pool.drained


def test_a_drain_ends_when_the_last_one_that_waits_gives_up() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    running, waiting = bench.submit(worker), bench.submit(worker)
    bench.drain()
    bench.advance(5.0)
    assert isinstance(bench.error(waiting), PoolTimeout)
    bench.finish(running)
    bench.settle()
    assert bench.pool.drained


@pytest.mark.parametrize("timeout", [None, 2.0])
def test_a_drain_opens_nothing_for_those_who_have_given_up(timeout: float | None) -> None:
    bench = Bench(min_size=0, max_size=1)
    request = bench.submit(bench.worker(), timeout=timeout)
    bench.drain()
    assert bench.states() == ["opening"]
    if timeout is None:
        bench.withdraw(request)
    else:
        bench.advance(timeout)
    assert bench.states() == ["closing"]
    bench.settle()
    assert bench.pool.drained


def test_a_drain_opens_nothing_for_those_who_are_lost() -> None:
    bench = Bench(min_size=0, max_size=1)
    worker = bench.worker()
    bench.submit(worker)
    bench.drain()
    bench.lose(worker)
    assert bench.states() == ["closing"]


def test_a_drain_ends_when_there_is_no_database() -> None:
    bench = Bench(min_size=0, max_size=1, database_grace_seconds=1.0)
    request = bench.submit(bench.worker())
    bench.drain()
    bench.fail_open()
    bench.advance(5.0)
    bench.fail_open()
    assert isinstance(bench.error(request), DatabaseUnavailable)
    assert bench.pool.drained


def test_a_drain_does_not_replace_a_lost_backend() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    bench.drain()
    bench.cut(lease.holder)
    bench.advance(60.0)
    assert bench.opens == 1
    assert bench.pool.drained


def test_a_termination_ends_everything_now() -> None:
    bench = Bench.ready(3, **HOLD)
    worker = bench.worker()
    lease = bench.lease(worker)
    on_lease = bench.submit_on(lease)
    withdrawn = bench.submit(worker)
    bench.withdraw(withdrawn)
    running, waiting = bench.submit(worker), bench.submit(worker)
    bench.terminate()
    assert isinstance(bench.error(on_lease), OutcomeUnknown)
    assert isinstance(bench.error(withdrawn), RequestCancelled)
    assert isinstance(bench.error(running), OutcomeUnknown)
    assert isinstance(bench.error(waiting), PoolClosing)
    assert isinstance(bench.told[lease], LeaseLost)
    assert isinstance(bench.error(bench.submit(worker)), PoolClosing)
    assert sorted(bench.states()) == ["busy", "busy", "closing"]
    assert not any(backend.resetting for backend in bench.backends.values()), "there is no use in that"
    bench.settle()
    assert bench.pool.drained
    assert bench.opens == 3


def test_a_termination_may_follow_a_drain() -> None:
    bench = Bench.ready(1)
    lease = bench.lease(bench.worker())
    bench.drain()
    bench.terminate()
    assert isinstance(bench.told[lease], LeaseLost)
    bench.settle()
    assert bench.pool.drained


def test_an_empty_pool_is_drained_at_once() -> None:
    bench = Bench(min_size=0)
    bench.drain()
    assert bench.pool.drained


def test_a_busy_backend_serves_the_next_statement_without_being_idle() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    first, second = bench.submit(worker), bench.submit(worker)
    holder = bench.pool.holders[0]
    bench.advance(3.0)
    bench.finish(first)
    assert (holder.state, holder.head, holder.since) == ("busy", second, bench.now)


def test_a_lease_that_waits_is_not_given_to_a_busy_backend() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    running = bench.submit(worker)
    waiting = bench.acquire(worker)
    bench.finish(running)
    assert bench.states() == ["leased"]
    assert isinstance(bench.outcomes[waiting], Lease)


def test_a_request_that_waited_for_less_than_the_queue_timeout_has_its_own_time_still() -> None:
    bench = Bench.ready(1, queue_timeout_seconds=5.0)
    worker = bench.worker()
    running, waiting = bench.submit(worker), bench.submit(worker, timeout=8.0)
    bench.advance(4.0)
    bench.finish(running)
    bench.advance(3.9)
    assert waiting not in bench.outcomes
    bench.advance(0.2)
    assert isinstance(bench.error(waiting), RequestTimeout)


def test_word_of_a_connection_that_was_replaced_changes_nothing() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    request = bench.send(worker)
    holder = request.holder
    assert holder is not None
    before = holder.incarnation - 1
    actions: list[Action] = []
    bench.pool.came_back(bench.now, holder, before, [request], actions)
    assert bench.pool.diverted(bench.now, holder, before, request) == actions == []
    assert request in holder.flight
    bench.come_back(holder)
    assert bench.outcomes[request] is DONE


def test_nothing_follows_what_comes_back_while_the_pool_is_paused() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    holder = bench.flood(worker, 3)[0].holder
    assert holder is not None
    bench.pause()
    waiting = bench.send(worker)
    for _ in range(3):
        bench.come_back(holder, 1)
        assert not bench.runs(waiting)
    bench.resume()
    assert bench.runs(waiting)
