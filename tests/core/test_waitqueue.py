"""Workers take turns by the time that they take of the backends; each worker's requests keep their order."""

from __future__ import annotations

from itertools import islice

import pytest

from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.waitqueue import CREDIT_SECONDS, Round, WaitQueue

US = 1e-6


class Crowd:
    """Workers by letter, and a round; a request is written 'a1'."""

    def __init__(self, round: Round) -> None:
        self.round = round
        self.workers = {letter: Worker(number, now=0.0) for number, letter in enumerate("abc")}
        self.requests: dict[str, Request] = {}
        self.names: dict[Request, str] = {}

    def push(self, *names: str, cost: float = 20 * US) -> None:
        for name in names:
            request = Request(self.workers[name[0]], int(name[1:]), Kind.STATEMENT, 0.0, cost=cost)
            self.requests[name] = request
            self.names[request] = name
            self.round.push(request)

    def pop(self, count: int) -> list[str]:
        return [self.names[self.round.pop()] for _ in range(count)]

    def letters(self, count: int) -> str:
        return "".join(name[0] for name in self.pop(count))

    @property
    def first(self) -> str:
        return self.names[self.round.peek()]


@pytest.fixture
def alone() -> Crowd:
    """Where each request is a turn."""
    return Crowd(Round())


@pytest.fixture
def sharing() -> Crowd:
    """Where time is dealt out."""
    return Crowd(Round(CREDIT_SECONDS))


@pytest.fixture(params=[None, CREDIT_SECONDS])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    """Both kinds, one after the other."""
    return Crowd(Round(request.param))


# --- both kinds ---------------------------------------------------------------------------------------------


def test_one_worker_is_served_in_order(crowd: Crowd) -> None:
    crowd.push("a1", "a2", "a3")
    assert crowd.pop(3) == ["a1", "a2", "a3"]


def test_a_look_at_whose_turn_it_is_changes_nothing(crowd: Crowd) -> None:
    with pytest.raises(StopIteration):
        crowd.round.peek()
    crowd.push("a1", "b1")
    assert crowd.first == crowd.first == "a1"
    assert crowd.pop(2) == ["a1", "b1"]


def test_a_request_that_is_taken_out_is_not_served(crowd: Crowd) -> None:
    crowd.push("a1", "a2", "b1")
    crowd.round.remove(crowd.requests["a1"])
    crowd.round.remove(crowd.requests["b1"])
    assert len(crowd.round) == 1
    assert crowd.pop(1) == ["a2"]
    assert len(crowd.round) == 0


def test_nobody_can_be_taken_from_an_empty_round(crowd: Crowd) -> None:
    with pytest.raises(IndexError, match="nobody waits"):
        crowd.round.pop()


def test_what_does_not_wait_cannot_be_taken_out(crowd: Crowd) -> None:
    crowd.push("a1", "a2")
    gone = crowd.round.pop()
    with pytest.raises(ValueError):
        crowd.round.remove(gone)
    crowd.pop(1)
    with pytest.raises(KeyError):
        crowd.round.remove(gone)
    assert len(crowd.round) == 0


def test_clearing_takes_everybody_out(crowd: Crowd) -> None:
    crowd.push("a1", "b1", "a2")
    assert set(crowd.round) == set(crowd.requests.values())
    crowd.round.clear()
    assert len(crowd.round) == 0
    assert list(crowd.round) == []
    crowd.push("b2")
    assert crowd.pop(1) == ["b2"]


# --- each request a turn ------------------------------------------------------------------------------------


def test_workers_take_turns(alone: Crowd) -> None:
    alone.push("a1", "a2", "a3", "b1", "b2", "c1")
    assert alone.pop(6) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_what_a_request_costs_is_no_matter_where_each_is_a_turn(alone: Crowd) -> None:
    alone.push("a1", "a2", cost=30.0)
    alone.push("b1", "b2", cost=0.0)
    assert alone.pop(4) == ["a1", "b1", "a2", "b2"]


def test_whoever_was_served_goes_to_the_end_of_the_round(alone: Crowd) -> None:
    alone.push("a1", "a2", "b1")
    assert alone.pop(1) == ["a1"]
    alone.push("c1")
    assert alone.pop(3) == ["b1", "c1", "a2"]


def test_whoever_comes_with_nothing_waiting_joins_at_the_end(alone: Crowd) -> None:
    alone.push("a1", "b1")
    assert alone.pop(1) == ["a1"]
    alone.push("a2")
    assert alone.pop(2) == ["b1", "a2"]


def test_a_thousand_requests_of_one_worker_do_not_delay_another(alone: Crowd) -> None:
    alone.push(*(f"a{n}" for n in range(1000)), "b1")
    assert "b1" in alone.pop(2)


# --- time is dealt out --------------------------------------------------------------------------------------


def test_a_turn_of_the_shortest_statements_is_ten_of_them(sharing: Crowd) -> None:
    sharing.push(*(f"a{n}" for n in range(30)), *(f"b{n}" for n in range(30)))
    assert sharing.letters(60) == 3 * ("a" * 10 + "b" * 10)


def test_ten_thousand_requests_of_one_worker_delay_another_by_one_turn(sharing: Crowd) -> None:
    sharing.push(*(f"a{n}" for n in range(10_000)))
    sharing.pop(5)
    sharing.push("b1")
    assert sharing.letters(10).index("b") == 5, "what was left of the turn"


def test_a_worker_of_long_statements_gets_as_many_fewer_of_them(sharing: Crowd) -> None:
    sharing.push(*(f"a{n}" for n in range(1000)), cost=500 * US)
    sharing.push(*(f"b{n}" for n in range(1000)), cost=50 * US)
    dealt = sharing.letters(550)
    assert dealt.count("a") == pytest.approx(50, abs=2)
    assert dealt.count("b") == pytest.approx(500, abs=2)


def test_a_statement_of_many_turns_is_paid_for_before_the_next_one(sharing: Crowd) -> None:
    sharing.push("a1", "a2", cost=5 * CREDIT_SECONDS)
    sharing.push(*(f"b{n}" for n in range(60)))
    assert sharing.letters(62) == "a" + "b" * 50 + "a" + "b" * 10


def test_who_waits_with_nobody_else_is_served_whatever_it_owes(sharing: Crowd) -> None:
    sharing.push("a1", "a2", cost=0.1)
    assert sharing.pop(2) == ["a1", "a2"]


def test_what_was_taken_out_is_not_paid_for(sharing: Crowd) -> None:
    sharing.push("a1", "a2", cost=5 * CREDIT_SECONDS)
    sharing.push("b1")
    sharing.round.remove(sharing.requests["a1"])
    assert sharing.pop(2) == ["a2", "b1"]


def test_no_time_is_saved_up(sharing: Crowd) -> None:
    sharing.push(*(f"b{n}" for n in range(100)))
    for n in range(20):  # it asks for little, and often
        sharing.push(f"a{n}")
        sharing.round.remove(sharing.requests[f"a{n}"])
    sharing.push(*(f"a{n}" for n in range(100, 200)))
    assert sharing.letters(30) == "b" * 10 + "a" * 10 + "b" * 10


# --- the two of them ----------------------------------------------------------------------------------------


def test_those_that_share_and_those_that_do_not_wait_apart() -> None:
    queue, worker = WaitQueue(), Worker(1, now=0.0)
    requests = [Request(worker, n, Kind.STATEMENT, 0.0, shares=n % 2 == 0, cost=20 * US) for n in range(4)]
    for request in requests:
        queue.push(request)
    assert list(queue.sharing) == requests[::2]
    assert list(queue.alone) == requests[1::2]
    assert set(queue) == set(requests)
    assert len(queue) == 4
    for request in islice(requests, 2):
        queue.remove(request)
    assert (len(queue.sharing), len(queue.alone)) == (1, 1)
    assert set(queue.clear()) == set(requests[2:])
    assert len(queue) == 0
