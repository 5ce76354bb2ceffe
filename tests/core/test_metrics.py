"""What is measured: how long requests wait and take."""

from __future__ import annotations

import pytest

from pgactor.core import report
from pgactor.core.metrics import DEPTH_BOUNDS, SECONDS_BOUNDS, Tally
from pgactor.messages.histogram import Histogram
from tests.fakes import Bench


def histograms(bench: Bench) -> dict[str, Histogram]:
    return bench.pool.metrics.histograms()


def bucket_of(seconds: float) -> int:
    return next(index for index, bound in enumerate(SECONDS_BOUNDS) if seconds <= bound)


def test_a_statement_that_is_sent_at_once_has_not_waited() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker(), "select 1")
    bench.advance(0.3)
    bench.finish(request)
    told = histograms(bench)
    assert told["wait"].count == told["service"].count == told["total"].count == 1
    assert told["wait"].counts[0] == 1
    assert told["wait"].total == 0
    assert told["service"].counts[bucket_of(0.3)] == told["total"].counts[bucket_of(0.3)] == 1
    assert told["total"].total == pytest.approx(0.3)


def test_a_statement_that_has_waited_is_counted_in_its_parts() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    first, second = bench.submit(worker, "select 1"), bench.submit(worker, "select 2")
    bench.advance(2.0)
    bench.finish(first)
    bench.advance(0.5)
    bench.finish(second)
    told = histograms(bench)
    assert told["wait"].total == pytest.approx(2.0)
    assert told["service"].total == pytest.approx(2.5)
    assert told["total"].total == pytest.approx(4.5)
    assert told["wait"].counts[bucket_of(2.0)] == 1
    assert told["service"].counts[bucket_of(0.5)] == 1
    assert told["total"].counts[bucket_of(2.5)] == 1


def test_leases_are_counted_by_how_long_they_wait_and_are_held() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.acquire(bench.worker())
    bench.advance(3.0)
    bench.release(lease)
    told = histograms(bench)
    assert told["lease"].total == pytest.approx(3.0)
    assert told["lease"].count == 1
    assert told["wait"].counts[0] == 1
    assert told["wait"].counts[bucket_of(3.0)] == 1
    assert told["total"].count == 0


def test_the_test_of_a_connection_is_the_lease_s_wait_and_no_statement() -> None:
    bench = Bench.ready(1, recycling="verified")
    request = bench.acquire(bench.worker())
    bench.advance(0.2)
    bench.finish(request)
    told = histograms(bench)
    assert told["wait"].total == pytest.approx(0.2)
    assert told["wait"].count == 1
    assert told["service"].count == 0


def test_the_hands_may_know_the_time_more_exactly() -> None:
    bench = Bench.ready(1)
    request = bench.submit(bench.worker(), "select 1")
    bench.pool.metrics.moment = bench.now + 0.0007
    bench.finish(request)
    assert histograms(bench)["total"].total == pytest.approx(0.0007)


def test_a_statement_knows_how_often_and_how_long_it_ran() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    for seconds in (0.1, 0.3, 0.2):
        request = bench.submit(worker, "select 1")
        bench.advance(seconds)
        bench.finish(request)
    assert request.statement is not None
    told = report.statement_status(request.statement)
    assert (told.statement, told.count, told.mean_seconds, told.max_seconds) == ("select 1", 3, 0.2, 0.3)


def test_the_age_of_the_queue_is_that_of_its_oldest() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    assert report.status(bench.pool, bench.now).oldest_waiting_seconds == 0
    bench.lease(worker)
    bench.submit(worker)
    bench.advance(1.0)
    bench.submit(bench.worker())
    bench.advance(0.5)
    assert report.status(bench.pool, bench.now).oldest_waiting_seconds == 1.5


@pytest.mark.parametrize(
    ("seconds", "index"),
    [(0.0, 0), (31e-6, 0), (33e-6, 1), (63e-6, 1), (0.9e-3, 5), (60.0, 21), (70.0, 22), (1e9, 22)],
)
def test_a_time_is_in_the_bucket_between_two_bounds(seconds: float, index: int) -> None:
    tally = Tally()
    tally.add(seconds)
    told = tally.seconds()
    assert told.counts == [int(each == index) for each in range(len(SECONDS_BOUNDS) + 1)]
    assert (told.bounds[index - 1] if index else -1) < seconds
    assert index == len(SECONDS_BOUNDS) or seconds <= told.bounds[index]


def test_a_time_below_zero_is_none() -> None:
    tally = Tally()
    tally.add(-0.5)
    assert tally.seconds().counts[0] == 1
    assert tally.seconds().total == 0


def test_those_that_come_and_go_together_are_counted_together() -> None:
    bench = Bench.ready(1)
    worker = bench.worker()
    early = [bench.submit(worker, "select 1") for _ in range(3)]
    bench.advance(0.1)
    late = bench.submit(worker, "select 1")
    bench.pool.metrics.came_back(bench.now + 0.1, 4, [*early, late, early[0]])
    told = histograms(bench)["total"]
    assert told.counts[bucket_of(0.2)] == 4
    assert told.counts[bucket_of(0.1)] == 1
    assert told.total == pytest.approx(0.9)


def test_depths_are_counted_up_to_their_bound() -> None:
    bench = Bench.ready(1)
    for depth in (1, 2, 3, 4, 5, 1024, 5000):
        bench.pool.metrics.came_back(0.0, depth, [])
    told = histograms(bench)["depth"]
    assert told.bounds == DEPTH_BOUNDS
    assert told.counts == [1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert told.total == 6039


class TestHistogram:
    def test_a_quantile_lies_in_its_bucket(self) -> None:
        told = Histogram([1.0, 2.0, 4.0], [10, 0, 10, 0], 40.0)
        assert told.quantile(0.5) == 1.0
        assert told.quantile(0.25) == 0.5
        assert told.quantile(0.75) == 3.0
        assert told.quantile(1.0) == 4.0
        assert told.mean == 2.0

    def test_what_is_beyond_the_bounds_is_told_as_the_greatest(self) -> None:
        assert Histogram([1.0, 2.0], [0, 0, 3], 90.0).quantile(0.5) == 2.0

    def test_of_nothing_all_is_zero(self) -> None:
        nothing = Histogram([1.0], [0, 0], 0.0)
        assert (nothing.count, nothing.mean, nothing.quantile(0.5)) == (0, 0.0, 0.0)

    def test_the_time_since_is_the_difference(self) -> None:
        earlier, now = Histogram([1.0], [1, 2], 3.0), Histogram([1.0], [4, 2], 5.0)
        assert now.since(earlier) == Histogram([1.0], [3, 0], 2.0)

    def test_since_another_life_it_is_all(self) -> None:
        earlier, now = Histogram([1.0], [5, 2], 3.0), Histogram([1.0], [4, 2], 5.0)
        assert now.since(earlier) is now
        assert now.since(Histogram()) is now
