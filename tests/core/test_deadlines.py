"""One heap of timers, and its size follows the living."""

from __future__ import annotations

import math
from random import Random

from pgactor.core.deadlines import Deadlines


def test_what_is_due_comes_earliest_first_and_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, when in (("late", 9.0), ("first", 1.0), ("second", 2.0)):
        deadlines.set(key, when)
    assert list(deadlines.due(2.0)) == ["first", "second"]
    assert list(deadlines.due(2.0)) == []
    assert len(deadlines) == 1


def test_a_deadline_is_due_at_its_very_moment() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 0.1 + 0.2)
    assert list(deadlines.due(0.3)) == []
    assert list(deadlines.due(0.1 + 0.2)) == ["a"]


def test_equal_deadlines_come_in_the_order_in_which_they_were_set() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key in "cab":
        deadlines.set(key, 1.0)
    assert list(deadlines.due(1.0)) == ["c", "a", "b"]


def test_a_new_deadline_takes_the_place_of_the_old_one() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)
    assert deadlines.next() == 5.0
    assert list(deadlines.due(4.0)) == []
    deadlines.set("a", 2.0)
    assert list(deadlines.due(9.0)) == ["a"]


def test_a_cancelled_deadline_never_comes() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    assert "a" in deadlines
    deadlines.cancel("a")
    deadlines.cancel("a")
    assert "a" not in deadlines
    assert deadlines.next() is None
    assert list(deadlines.due(9.0)) == []


def test_what_is_set_or_cancelled_while_the_due_ones_are_handled_counts() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key in "abc":
        deadlines.set(key, 1.0)
    seen = []
    for key in deadlines.due(1.0):
        seen.append(key)
        if key == "a":
            deadlines.cancel("b")
            deadlines.set("d", 0.5)
            deadlines.set("a", 2.0)
    assert seen == ["a", "d", "c"]
    assert deadlines.next() == 2.0


def test_the_heap_does_not_grow_with_what_is_dead() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(10):
        deadlines.set(key, 1000.0 + key)
    for key in range(10_000):
        deadlines.set(10 + key, 500.0)
        deadlines.cancel(10 + key)
    assert len(deadlines) == 10
    assert len(deadlines._heap) <= 65
    assert list(deadlines.due(2000.0)) == list(range(10))


def test_it_does_what_a_dictionary_of_times_would_do() -> None:
    random = Random(5)
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, float] = {}
    now = 0.0
    for _ in range(5000):
        key = random.randrange(200)
        match random.randrange(4):
            case 0 | 1:
                plain[key] = now + random.random()
                deadlines.set(key, plain[key])
            case 2:
                plain.pop(key, None)
                deadlines.cancel(key)
            case _:
                now += random.random() / 20
                due = [key for key, when in plain.items() if when <= now]
                assert sorted(deadlines.due(now)) == sorted(due)
                for key in due:
                    del plain[key]
        assert len(deadlines) == len(plain)
        assert deadlines.next() == min(plain.values(), default=None)


def test_nothing_is_due_before_the_soonest_time() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.soonest == math.inf
    deadlines.set("a", 5.0)
    deadlines.set("b", 3.0)
    assert deadlines.soonest == 3.0
    deadlines.cancel("b")
    assert deadlines.soonest <= 5.0
    assert deadlines.next() == deadlines.soonest == 5.0
