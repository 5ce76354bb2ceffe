"""A lease that is held for long is reported once, with all that is known of it."""

from __future__ import annotations

from pgactor.core import report
from pgactor.core.lease import Lease
from pgactor.errors import PoolTimeout
from pgactor.messages import Acquire
from pgactor.messages.pool import LeaseStatus
from tests.fakes import Bench

ASKED = Acquire(1, 7, None, None, "nightly report", "/app/jobs.py:12 in run")


def lease(bench: Bench, payload: Acquire | None = ASKED, *, ttl: float = 1000.0) -> Lease:
    outcome = bench.outcomes[bench.acquire_by(bench.worker("web", pid=10), ttl=ttl, payload=payload)]
    assert isinstance(outcome, Lease)
    return outcome


def test_a_lease_is_reported_once_when_it_has_been_held_for_long() -> None:
    bench = Bench.ready(2, lease_warning_seconds=5)
    first = lease(bench)
    bench.advance(4.9)
    assert not bench.reported
    bench.advance(0.1)
    second = lease(bench)
    assert bench.reported == [first]
    bench.advance(60)
    assert bench.reported == [first, second]
    assert bench.pool.counters["leases_held_long"] == 2


def test_a_lease_that_is_renewed_again_and_again_is_reported_too_and_expires_in_its_time() -> None:
    bench = Bench.ready(1, lease_warning_seconds=5)
    held = lease(bench, ttl=2)
    for _ in range(7):
        bench.advance(1)
        bench.heartbeat(held.worker, held.token)
    assert bench.reported == [held]
    bench.advance(2)
    assert held in bench.told


def test_a_lease_that_was_released_in_time_is_not_reported() -> None:
    bench = Bench.ready(1, lease_warning_seconds=5)
    bench.release(lease(bench))
    bench.advance(60)
    assert not bench.reported


def test_none_is_reported_where_nobody_wants_to_know() -> None:
    bench = Bench.ready(1, lease_warning_seconds=0)
    lease(bench)
    bench.advance(900)
    assert not bench.reported


def test_the_report_tells_who_and_where_and_what() -> None:
    bench = Bench.ready(1)
    held = lease(bench)
    bench.finish(bench.submit_on(held, "select\n 1"), touched=True)
    bench.advance(31)
    assert report.held_long(held, bench.now) == (
        "lease 0.1 is held for 31.0 s by web (pid 10) (nightly report, acquired at /app/jobs.py:12 in run, "
        "in transaction); its last statement: select 1"
    )


def test_what_is_not_known_is_left_out() -> None:
    bench = Bench.ready(1)
    held = lease(bench, None)
    bench.advance(31)
    assert report.held_long(held, bench.now) == "lease 0.1 is held for 31.0 s by web (pid 10) (idle)"


def test_the_status_has_a_table_of_all_leases_the_oldest_first() -> None:
    bench = Bench.ready(3, lease_warning_seconds=5)
    waiting, running, idle = lease(bench), lease(bench), lease(bench, None)
    bench.submit_on(running, "select 1")
    bench.advance(6)
    bench.submit(bench.worker())
    bench.acquire_by(waiting.worker, holds=[waiting])
    by_lease = report.status(bench.pool, bench.now).leases
    assert by_lease == [
        LeaseStatus(
            str(waiting.token), waiting.holder.number, "web", 10, "nightly report", "/app/jobs.py:12 in run", 6.0,
            "waiting", "", waiting.holder.backend_pid, True,
        ),
        LeaseStatus(
            str(running.token), running.holder.number, "web", 10, "nightly report", "/app/jobs.py:12 in run", 6.0,
            "running", "select 1", running.holder.backend_pid, True,
        ),
        LeaseStatus(
            str(idle.token), idle.holder.number, "web", 10, "", "", 6.0, "idle", "", idle.holder.backend_pid, True
        ),
    ]  # fmt: skip


def test_whoever_waits_in_vain_is_told_the_same_in_words_and_as_data() -> None:
    bench = Bench.ready(2)
    lease(bench)
    busy = bench.submit(bench.worker("job"), "select 2")
    busy.payload = ASKED
    late = bench.acquire(bench.worker(), timeout=1)
    bench.advance(1)
    error = bench.error(late)
    assert isinstance(error, PoolTimeout)
    text = str(error)
    assert " by web (pid 10) as lease " in text
    assert " (nightly report, acquired at /app/jobs.py:12 in run, idle)" in text
    assert " by job (nightly report): select 2" in text
    (told,) = error.leases
    assert (told["where"], told["label"], told["state"], told["seconds"]) == (
        "/app/jobs.py:12 in run", "nightly report", "idle", 1.0
    )  # fmt: skip


def test_what_a_worker_says_of_itself_takes_one_line_of_a_bounded_length() -> None:
    bench = Bench.ready(1)
    held = lease(bench, Acquire(1, 7, None, None, "a\nb" + "x" * 10_000, "c\nd" + "x" * 10_000))
    text = report.held_long(held, bench.now)
    assert "\n" not in text
    assert len(text) < 600


def test_what_a_worker_says_of_itself_moves_no_cursor() -> None:
    bench = Bench.ready(1)
    held = lease(bench, Acquire(1, 7, None, None, "x\x1b[2Jy", "a\nb"))
    assert (held.label, held.where) == ("x\ufffd[2Jy", "a\ufffdb")
    assert report.held_long(held, bench.now).isprintable()
