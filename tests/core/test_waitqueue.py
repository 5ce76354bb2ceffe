"""Workers take turns by the time that they take of the backends; each worker's requests keep their order."""

from __future__ import annotations

import pytest

from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.waitqueue import CREDIT_SECONDS, Round, WaitQueue
from pgactor.core.window import Window

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

    def pop(self, count: int, *, now: float = 0.0) -> list[str]:
        return [self.names[self.serve(now)] for _ in range(count)]

    def serve(self, now: float = 0.0) -> Request:
        request = self.round.peek(now)
        assert request is not None
        self.round.serve(request)
        return request

    def letters(self, count: int) -> str:
        return "".join(name[0] for name in self.pop(count))

    @property
    def first(self) -> str:
        request = self.round.peek(0.0)
        assert request is not None
        return self.names[request]


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
    assert crowd.round.peek(0.0) is None
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


def test_what_does_not_wait_cannot_be_taken_out(crowd: Crowd) -> None:
    crowd.push("a1", "a2")
    gone = crowd.serve()
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


# --- overload -----------------------------------------------------------------------------------------------


def wait(crowd: Crowd, name: str, since: float, until: float) -> None:
    """It waits from then until then."""
    crowd.push(name)
    crowd.requests[name].half_time = (since + until) / 2


def test_order_is_kept_while_the_oldest_has_more_than_half_of_its_time_left(crowd: Crowd) -> None:
    for n in range(4):
        wait(crowd, f"a{n}", n * 0.1, n * 0.1 + 1.0)
    assert crowd.pop(1, now=0.49) == ["a0"]
    assert crowd.pop(1, now=0.59) == ["a1"]
    assert crowd.pop(2, now=0.69) == ["a2", "a3"]


def test_the_newest_goes_first_when_the_oldest_has_used_up_half_of_its_time(crowd: Crowd) -> None:
    for n in range(4):
        wait(crowd, f"a{n}", n * 0.1, n * 0.1 + 1.0)
    assert crowd.pop(4, now=0.5) == ["a3", "a2", "a1", "a0"]


def test_order_is_restored_when_the_oldest_is_gone(crowd: Crowd) -> None:
    wait(crowd, "a0", 0.0, 0.4)
    for n in (1, 2, 3):
        wait(crowd, f"a{n}", n * 0.1, n * 0.1 + 10.0)
    assert crowd.pop(1, now=0.35) == ["a3"]
    crowd.round.remove(crowd.requests["a0"])
    assert crowd.pop(2, now=0.4) == ["a1", "a2"]


def test_one_workers_late_requests_do_not_change_the_order_of_anothers(alone: Crowd) -> None:
    wait(alone, "a0", 0.0, 1.0)
    wait(alone, "a1", 0.3, 1.3)
    wait(alone, "b0", 0.4, 1.4)
    wait(alone, "b1", 0.5, 1.5)
    assert alone.pop(4, now=0.6) == ["a1", "b0", "a0", "b1"]


# --- the three of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "shares"),
    [("sharing", Kind.STATEMENT, True), ("alone", Kind.STATEMENT, False), ("alone", Kind.SESSION, False),
     ("leases", Kind.LEASE, False)],
)  # fmt: skip
def test_each_kind_waits_in_a_round_of_its_own(name: str, kind: Kind, shares: bool) -> None:
    queue, request = WaitQueue(Window(1000)), Request(Worker(1, now=0.0), 1, kind, 0.0, shares=shares)
    queue.round_of(request).push(request)
    assert list(getattr(queue, name)) == list(queue) == [request]
    assert len(queue) == 1
    queue.round_of(request).remove(request)
    assert len(queue) == 0


def test_clearing_the_queue_takes_everybody_out() -> None:
    queue, worker = WaitQueue(Window(1000)), Worker(1, now=0.0)
    requests = [
        Request(worker, 1, Kind.STATEMENT, 0.0, shares=True),
        Request(worker, 2, Kind.STATEMENT, 0.0),
        Request(worker, 3, Kind.LEASE, 0.0),
    ]
    for request in requests:
        queue.round_of(request).push(request)
    assert set(queue.clear()) == set(requests)
    assert len(queue) == 0
