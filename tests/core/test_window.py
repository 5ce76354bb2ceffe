"""A worker has about twice as much out as the others at most; what it has more waits where nobody stands behind
it."""

from __future__ import annotations

import itertools

from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.statement import LEAST_SECONDS
from pgactor.core.window import LEAST_SECONDS_OUT, Window
from tests.fakes import Bench

IDS = itertools.count()
FEW = round(LEAST_SECONDS_OUT / LEAST_SECONDS)


def send(window: Window, worker: Worker, times: int, cost: float = LEAST_SECONDS) -> list[Request]:
    requests = [Request(worker, next(IDS), Kind.STATEMENT, 0.0, shares=True, cost=cost) for _ in range(times)]
    for request in requests:
        window.went_out(request)
    return requests


def test_alone_a_worker_may_have_as_many_out_as_the_settings_say() -> None:
    window, worker = Window(32), Worker(1, now=0.0)
    send(window, worker, 31)
    assert window.is_open(worker)
    send(window, worker, 1)
    assert not window.is_open(worker)


def test_a_few_may_always_go_but_for_the_settings() -> None:
    window, worker, other = Window(2), Worker(1, now=0.0), Worker(2, now=0.0)
    send(window, other, 1)
    send(window, worker, 1)
    assert window.is_open(worker)
    send(window, worker, 1)
    assert not window.is_open(worker)


def test_beside_others_it_is_about_twice_as_much_as_they_have() -> None:
    window, worker = Window(1000), Worker(1, now=0.0)
    for number in range(3):
        send(window, Worker(2 + number, now=0.0), 8)
    sent = 0
    while window.is_open(worker):
        send(window, worker, 1)
        sent += 1
    assert FEW + 2 * 8 <= sent <= FEW + 2 * 8 + 1


def test_it_is_time_that_counts() -> None:
    window, quick, slow = Window(1000), Worker(1, now=0.0), Worker(2, now=0.0)
    send(window, slow, 2, cost=1e-3)
    send(window, quick, 50)
    assert window.is_open(quick)


def test_what_comes_back_opens_it_again() -> None:
    window, worker = Window(3), Worker(1, now=0.0)
    requests = send(window, worker, 3)
    assert not window.is_open(worker)
    window.came_back(requests[0])
    assert window.is_open(worker)
    for request in requests[1:]:
        window.came_back(request)
    assert (window.workers, window.load, worker.flying, worker.load) == (0, 0.0, 0, 0.0)


def test_of_a_flood_only_a_window_is_out_and_another_worker_goes_at_once() -> None:
    bench = Bench.ready(2, pipeline_depth=8, worker_window=8)
    flooding, other = bench.worker(), bench.worker()
    bench.flood(flooding, 1000)
    assert flooding.flying == 8
    assert bench.runs(bench.send(other))


def test_what_is_parked_goes_when_others_of_its_worker_come_back() -> None:
    bench = Bench.ready(1, pipeline_depth=8, worker_window=4)
    worker = bench.worker()
    bench.flood(worker, 20)
    (holder,) = bench.pool.holders
    for left in (16, 15, 14):
        assert len(bench.pool.queue) == left
        bench.come_back(holder, 1)
        assert worker.flying == 4


def test_what_is_parked_can_be_withdrawn() -> None:
    bench = Bench.ready(1, worker_window=1)
    worker = bench.worker()
    bench.send(worker)
    parked = [bench.send(worker) for _ in range(3)]
    for request in parked:
        bench.withdraw(request)
    assert len(bench.pool.queue) == 0


def test_a_full_queue_is_full_for_the_worker_that_fills_it_only() -> None:
    bench = Bench.ready(1, pipeline_depth=1, worker_window=1, max_waiting=100)
    flooding, other = bench.worker(), bench.worker()
    requests = [bench.send(flooding) for _ in range(200)]
    refused = [request for request in requests if request in bench.outcomes]
    assert len(refused) == 99
    waiting = bench.send(other)
    assert waiting not in bench.outcomes
