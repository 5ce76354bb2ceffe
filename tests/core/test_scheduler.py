"""The holder that became idle last is used first."""

from __future__ import annotations

import pytest

from pgactor.core.holder import Holder
from pgactor.core.scheduler import Scheduler


@pytest.fixture
def holders() -> list[Holder]:
    return [Holder(number) for number in range(3)]


@pytest.fixture
def scheduler(holders: list[Holder]) -> Scheduler:
    scheduler = Scheduler()
    for holder in holders:
        scheduler.put(holder)
    return scheduler


def test_the_last_idle_is_the_first_used(scheduler: Scheduler, holders: list[Holder]) -> None:
    assert [scheduler.take() for _ in holders] == holders[::-1]
    assert len(scheduler) == 0


def test_a_holder_that_is_idle_no_more_is_not_used(scheduler: Scheduler, holders: list[Holder]) -> None:
    scheduler.remove(holders[1])
    assert scheduler.snapshot() == [holders[0], holders[2]]
    assert [scheduler.take(), scheduler.take()] == [holders[2], holders[0]]


def test_a_holder_that_comes_back_is_the_next_to_be_used(scheduler: Scheduler, holders: list[Holder]) -> None:
    scheduler.remove(holders[0])
    scheduler.put(holders[0])
    assert scheduler.take() is holders[0]


def test_a_snapshot_stays_as_it_is(scheduler: Scheduler, holders: list[Holder]) -> None:
    for holder in scheduler.snapshot():
        scheduler.remove(holder)
    assert len(scheduler) == 0


def test_nothing_can_be_taken_where_none_is_idle(holders: list[Holder]) -> None:
    scheduler = Scheduler()
    with pytest.raises(KeyError):
        scheduler.take()
    with pytest.raises(KeyError):
        scheduler.remove(holders[0])
