"""Workers take turns; each worker's requests keep their order."""

from __future__ import annotations

import pytest

from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.waitqueue import WaitQueue


class Crowd:
    """Workers by letter, and a queue; a request is written 'a1'."""

    def __init__(self) -> None:
        self.queue = WaitQueue()
        self.workers = {letter: Worker(number, now=0.0) for number, letter in enumerate("abc")}
        self.requests: dict[str, Request] = {}

    def push(self, *names: str) -> None:
        for name in names:
            request = Request(self.workers[name[0]], int(name[1:]), Kind.STATEMENT, now=0.0, statement=name)
            self.requests[name] = request
            self.queue.push(request)

    def pop(self, count: int) -> list[str]:
        return [self.queue.pop().statement for _ in range(count)]


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def test_one_worker_is_served_in_order(crowd: Crowd) -> None:
    crowd.push("a1", "a2", "a3")
    assert crowd.pop(3) == ["a1", "a2", "a3"]


def test_a_look_at_whose_turn_it_is_changes_nothing(crowd: Crowd) -> None:
    with pytest.raises(StopIteration):
        crowd.queue.peek()
    crowd.push("a1", "b1")
    assert crowd.queue.peek().statement == "a1"
    assert crowd.pop(2) == ["a1", "b1"]


def test_workers_take_turns(crowd: Crowd) -> None:
    crowd.push("a1", "a2", "a3", "b1", "b2", "c1")
    assert crowd.pop(6) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_whoever_was_served_goes_to_the_end_of_the_round(crowd: Crowd) -> None:
    crowd.push("a1", "a2", "b1")
    assert crowd.pop(1) == ["a1"]
    crowd.push("c1")
    assert crowd.pop(3) == ["b1", "a2", "c1"]


def test_whoever_comes_with_nothing_waiting_joins_at_the_end(crowd: Crowd) -> None:
    crowd.push("a1", "b1")
    assert crowd.pop(1) == ["a1"]
    crowd.push("a2")
    assert crowd.pop(2) == ["b1", "a2"]


def test_a_thousand_requests_of_one_worker_do_not_delay_another(crowd: Crowd) -> None:
    crowd.push(*(f"a{n}" for n in range(1000)), "b1")
    assert "b1" in crowd.pop(2)


def test_a_request_that_is_taken_out_is_not_served(crowd: Crowd) -> None:
    crowd.push("a1", "a2", "b1")
    crowd.queue.remove(crowd.requests["a1"])
    crowd.queue.remove(crowd.requests["b1"])
    assert len(crowd.queue) == 1
    assert crowd.pop(1) == ["a2"]
    assert len(crowd.queue) == 0


def test_nobody_can_be_taken_from_an_empty_queue(crowd: Crowd) -> None:
    with pytest.raises(IndexError, match="nobody waits"):
        crowd.queue.pop()


def test_what_does_not_wait_cannot_be_taken_out(crowd: Crowd) -> None:
    crowd.push("a1", "a2")
    gone = crowd.queue.pop()
    with pytest.raises(ValueError):
        crowd.queue.remove(gone)
    crowd.pop(1)
    with pytest.raises(KeyError):
        crowd.queue.remove(gone)
    assert len(crowd.queue) == 0


def test_clearing_takes_everybody_out(crowd: Crowd) -> None:
    crowd.push("a1", "b1", "a2")
    assert set(crowd.queue) == set(crowd.requests.values())
    assert set(crowd.queue.clear()) == set(crowd.requests.values())
    assert len(crowd.queue) == 0
    assert list(crowd.queue) == []
    crowd.push("b2")
    assert crowd.pop(1) == ["b2"]
