"""The state in figures and in words."""

from __future__ import annotations

from typing import NoReturn

import pytest

from pgactor.core import report
from pgactor.core.holder import Holder
from pgactor.core.request import Kind, Request
from pgactor.errors import QueueFull
from pgactor.messages.pool import HolderStatus, WorkerStatus
from pgactor.version import __version__
from tests.fakes import Bench


def queue_full(bench: Bench) -> QueueFull:
    return report.queue_full(bench.pool.fleet, len(bench.pool.queue), bench.now)


def test_the_status_counts_what_there_is() -> None:
    bench = Bench(min_size=0, max_size=6, opens_at_once=6)
    web, job = bench.worker("web", pid=10), bench.worker(silence_limit=10)
    requests = [bench.submit(web, f"select {n}") for n in range(3)]
    for _ in range(3):
        bench.open()
    bench.finish(requests[0], touched=True)
    bench.finish(requests[1])
    bench.lease(job)
    bench.submit(web)
    bench.advance(1.5)
    status = report.status(bench.pool, bench.now)
    assert (status.version, status.epoch, status.uptime_seconds) == (__version__, 7, 1.5)
    assert (status.min_size, status.max_size, status.size) == (0, 6, 3)
    assert (status.idle, status.busy, status.leased, status.resetting) == (0, 1, 1, 1)
    assert (status.opening, status.waiting, status.database) == (1, 1, "ok")
    assert status.workers == [
        WorkerStatus(1, "web", 10, "ipc", 1.5, waiting=1, running=1, leases=0),
        WorkerStatus(2, "", 0, "tcp", 1.5, waiting=0, running=0, leases=1),
    ]
    assert status.holders == [
        HolderStatus(0, "resetting", 1.5, 101, 1, statement="select 0"),
        HolderStatus(1, "leased", 1.5, 201, 1, worker="worker 2", lease="1.1"),
        HolderStatus(2, "busy", 1.5, 301, 1, worker="web (pid 10)", statement="select 2"),
        HolderStatus(3, "opening", 1.5),
        HolderStatus(4, "vacant", bench.now),
        HolderStatus(5, "vacant", bench.now),
    ]


def test_the_counters_rise() -> None:
    bench = Bench.ready(1)
    assert set(bench.pool.counters) == set(report.COUNTERS)
    bench.lease(bench.worker())
    counters = report.status(bench.pool, bench.now).counters
    assert {name: count for name, count in counters.items() if count} == {
        "requests": 1,
        "leases_granted": 1,
        "connections_opened": 1,
    }
    bench.pool.counters["requests"] += 1
    assert counters["requests"] == 1, "a report does not change any more"


def test_the_status_tells_why_the_database_cannot_be_reached() -> None:
    bench = Bench(min_size=1)
    bench.start()
    bench.fail_open(error="connection refused")
    assert report.status(bench.pool, bench.now).database == "failing: connection refused"


def test_a_fresh_lease_is_not_shown_with_the_statement_of_another_worker() -> None:
    bench = Bench.ready(1)
    bench.finish(bench.submit(bench.worker("first"), "select secret"))
    lease = bench.lease(bench.worker("second"))
    status = report.holder_status(lease.holder, bench.now)
    assert (status.worker, status.statement) == ("second", "")


def test_long_statements_are_shortened_to_one_line() -> None:
    bench = Bench.ready(1)
    bench.submit(bench.worker(), "select\n\n  " + ", ".join(["a_column"] * 10_000))
    statement = report.holder_status(bench.pool.holders[0], bench.now).statement
    assert len(statement) == report.STATEMENT_LENGTH
    assert statement.startswith("select a_column, a_column")
    assert statement.endswith("...")


def test_twenty_holders_are_told_in_words_and_the_others_counted() -> None:
    bench = Bench.ready(23)
    worker = bench.worker()
    for _ in range(23):
        bench.submit(worker, kind=Kind.SESSION)
    text = str(queue_full(bench))
    assert len(text.splitlines()) == 22
    assert text.endswith("\n  and 3 more")


def test_an_empty_pool_is_told_in_one_line() -> None:
    bench = Bench(min_size=0, max_size=2)
    assert str(queue_full(bench)) == (
        "0 requests are waiting already (max_waiting); it was not run. "
        "max_size 2, size 0, idle 0, busy 0, leased 0, resetting 0, opening 0, waiting 0"
    )


class Unwalkable(dict[int, Request]):
    """Requests that may be found by their id and not be gone through one by one."""

    def values(self) -> NoReturn:
        raise AssertionError("this would stop a supervisor with ten thousand waiting requests")


def test_an_error_does_not_count_the_requests_of_each_worker() -> None:
    bench = Bench.ready(1, max_waiting=1)
    worker = bench.worker()
    late = [bench.submit(worker) for _ in range(2)][1]
    worker.requests = Unwalkable(worker.requests)
    assert "waiting 1" in str(report.pool_timeout(bench.pool.fleet, len(bench.pool.queue), bench.now, late))
    assert "waiting 1" in str(queue_full(bench))


@pytest.mark.long
def test_the_state_is_found_out_once_for_thousands_that_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    bench.submit(worker)
    for _ in range(2000):
        bench.submit(worker)
    looked: list[float] = []
    look = report.holder_status

    def counting(holder: Holder, now: float) -> HolderStatus:
        looked.append(now)
        return look(holder, now)

    monkeypatch.setattr(report, "holder_status", counting)
    bench.advance(bench.pool.settings.queue_timeout_seconds)
    assert bench.pool.counters["refused_pool_timeout"] == 2000
    assert len(looked) == 1
    first = queue_full(bench)
    bench.advance(report.TOLD_SECONDS)
    bench.submit(bench.worker("later"))
    assert str(first) != str(queue_full(bench)), "later it is found out anew"
    assert len(looked) == 2


def why_not_ready(bench: Bench) -> str | None:
    return report.why_not_ready(bench.pool, bench.now)


def test_it_is_ready_while_there_is_a_connection() -> None:
    assert why_not_ready(Bench.ready(1)) == ""


def test_without_a_connection_nobody_knows_until_one_is_opened() -> None:
    bench = Bench(min_size=0, max_size=1)
    assert why_not_ready(bench) is None
    bench._do(bench.pool.reach(bench.now))
    bench._do(bench.pool.reach(bench.now))  # one is enough
    assert bench.opens == 1
    bench.open()
    assert why_not_ready(bench) == ""


def test_it_is_not_ready_while_postgresql_refuses_connections() -> None:
    bench = Bench(min_size=0, max_size=1)
    bench._do(bench.pool.reach(bench.now))
    bench.fail_open(error="connection refused")
    assert "connection refused" in (why_not_ready(bench) or "")


def test_it_is_not_ready_when_the_queue_is_full_or_it_shuts_down() -> None:
    bench = Bench.ready(1, max_waiting=1)
    bench.lease(bench.worker())
    bench.submit(bench.worker())
    assert why_not_ready(bench) == "1 requests are waiting already (max_waiting)"
    bench.drain()
    assert why_not_ready(bench) == "the supervisor is shutting down"
    bench._do(bench.pool.reach(bench.now))
