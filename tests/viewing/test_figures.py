"""Rates and percentiles are of what happened between two statuses; what is not known is None."""

from __future__ import annotations

import pytest

from pgactor.messages.pool import HolderStatus, PoolStatus
from pgactor.viewing.figures import STATES, figures
from tests.viewing.statuses import status, times


def test_rates_are_differences_by_the_supervisors_own_clock() -> None:
    before = status(at=10, requests=100, counters={"leases_granted": 4, "refused_queue_full": 1})
    now = status(
        at=12, requests=400, counters={"leases_granted": 5, "refused_queue_full": 1, "requests_timed_out": 3}
    )
    found = figures(before, now)
    assert (found.seconds, found.requests, found.leases, found.refused) == (2, 150, 0.5, 1.5)


def test_of_a_single_status_there_are_no_rates_but_there_is_the_state() -> None:
    found = figures(None, status(requests=400, histograms={"total": times(5, 0, 0, 0)}))
    assert (found.seconds, found.requests, found.refused, found.leases, found.spreads) == (None, None, None, None, {})
    assert found.states["idle"] == 4


@pytest.mark.parametrize("before", [status(at=500, requests=900), status(at=5, epoch=2), status(at=10)])
def test_there_is_no_difference_of_two_lives_of_the_supervisor_nor_of_one_moment(before: PoolStatus) -> None:
    found = figures(before, status(at=10, requests=40))
    assert (found.seconds, found.requests) == (None, None)


def test_percentiles_are_of_what_was_measured_meanwhile() -> None:
    before = status(at=10, histograms={"total": times(1000, 0, 0, 0, total=0.5), "wait": times(7, 0, 0, 0)})
    now = status(at=11, histograms={"total": times(1000, 99, 1, 0, total=1.5), "wait": times(7, 0, 0, 0)})
    found = figures(before, now)
    assert set(found.spreads) == {"total"}  # nobody's wait ended meanwhile
    total = found.spreads["total"]
    assert (total.count, total.beyond) == (100, False)
    assert total.mean == pytest.approx(0.01)
    assert 0.001 < total.p50 < total.p95 < total.p99 < 0.0101


def test_a_percentile_that_is_larger_than_the_histogram_can_tell_is_told_to_be_a_lower_limit() -> None:
    now = status(at=11, histograms={"total": times(50, 0, 0, 50), "wait": times(200, 0, 0, 1)})
    spreads = figures(status(at=10), now).spreads
    assert (spreads["total"].p99, spreads["total"].beyond, spreads["wait"].beyond) == (0.1, True, False)


def test_a_point_keeps_what_charts_draw() -> None:
    holders = [HolderStatus(0, "leased", 1.0), HolderStatus(1, "vacant", 1.0), HolderStatus(2, "leased", 1.0)]
    before = status(at=10, histograms={"total": times(0, 0, 0, 0)})
    now = status(
        at=11, requests=9, holders=holders, waiting=3, oldest_waiting_seconds=0.2,
        histograms={"total": times(9, 0, 0, 0)},
    )  # fmt: skip
    point = figures(before, now).point(99.0)
    assert (point.at, point.requests, point.refused, point.waiting, point.oldest_seconds) == (99, 9, 0, 3, 0.2)
    assert dict(zip(STATES, point.states, strict=True)) == {**dict.fromkeys(STATES, 0), "leased": 2, "vacant": 1}
    assert point.p50 is not None
    first = figures(None, now).point(98.0)
    assert (first.requests, first.p50, first.p95, first.p99) == (None, None, None, None)
