"""The holder that became idle last is used first, and those that share gather. (What the rules come to for whoever
waits is in test_lane.py.)"""

from __future__ import annotations

import itertools

import pytest

from pgactor.config.pool import PoolSettings
from pgactor.core.holder import Holder, HolderEvent, HolderState
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.scheduler import Scheduler
from pgactor.core.statement import LEAST_SECONDS

IDS = itertools.count()


@pytest.fixture
def holders() -> list[Holder]:
    holders = [Holder(number) for number in range(3)]
    for holder in holders:
        holder.state = HolderState.IDLE
    return holders


@pytest.fixture
def scheduler(holders: list[Holder]) -> Scheduler:
    scheduler = Scheduler(PoolSettings(min_size=0, max_size=3, pipeline_depth=4))
    for holder in holders:
        scheduler.put(holder)
    return scheduler


def short() -> Request:
    return Request(Worker(1, now=0.0), next(IDS), Kind.STATEMENT, 0.0, shares=True, cost=LEAST_SECONDS)


def alone() -> Request:
    return Request(Worker(1, now=0.0), next(IDS), Kind.STATEMENT, 0.0)


def send(scheduler: Scheduler, count: int) -> list[Holder]:
    """Send so many; returns where they went."""
    went = []
    for _ in range(count):
        request = short()
        holder = scheduler.join(0.0, request)
        assert holder is not None
        if holder.state is HolderState.IDLE:
            holder.apply(HolderEvent.RUN, 0.0)
        scheduler.sent(0.0, holder, request)
        went.append(holder)
    return went


def come_back(scheduler: Scheduler, holder: Holder, count: int) -> None:
    for request in list(holder.flight)[:count]:
        scheduler.came_back(0.0, holder, request)


def test_the_last_idle_is_the_first_used(scheduler: Scheduler, holders: list[Holder]) -> None:
    assert [scheduler.take(alone(), holders) for _ in holders] == holders[::-1]
    assert len(scheduler) == 0


def test_a_holder_that_is_idle_no_more_is_not_used(scheduler: Scheduler, holders: list[Holder]) -> None:
    scheduler.remove(holders[1])
    assert scheduler.snapshot() == [holders[0], holders[2]]
    assert [scheduler.take(alone(), holders), scheduler.take(alone(), holders)] == [holders[2], holders[0]]


def test_a_holder_that_comes_back_is_the_next_to_be_used(scheduler: Scheduler, holders: list[Holder]) -> None:
    scheduler.remove(holders[0])
    scheduler.put(holders[0])
    assert scheduler.take(alone(), holders) is holders[0]


def test_a_snapshot_stays_as_it_is(scheduler: Scheduler, holders: list[Holder]) -> None:
    for holder in scheduler.snapshot():
        scheduler.remove(holder)
    assert len(scheduler) == 0


def test_nothing_can_be_taken_where_none_is_idle(holders: list[Holder]) -> None:
    scheduler = Scheduler(PoolSettings())
    with pytest.raises(KeyError):
        scheduler.take(alone(), holders)
    with pytest.raises(KeyError):
        scheduler.remove(holders[0])


def test_one_backend_is_filled_after_the_other(scheduler: Scheduler, holders: list[Holder]) -> None:
    assert send(scheduler, 12) == [holders[2]] * 4 + [holders[1]] * 4 + [holders[0]] * 4
    assert scheduler.join(0.0, short()) is None


def test_room_on_any_backend_that_is_awake_is_found(scheduler: Scheduler, holders: list[Holder]) -> None:
    send(scheduler, 12)
    come_back(scheduler, holders[1], 2)
    assert send(scheduler, 2) == [holders[1]] * 2
    assert scheduler.join(0.0, short()) is None


def test_where_only_one_can_have_room_no_other_is_looked_at(scheduler: Scheduler, holders: list[Holder]) -> None:
    send(scheduler, 8)
    come_back(scheduler, holders[2], 1)
    assert scheduler.join(0.0, short(), holders[1]) is None
    assert scheduler.join(0.0, short(), holders[2]) is holders[2]


def test_a_closed_holder_is_joined_by_nobody(scheduler: Scheduler, holders: list[Holder]) -> None:
    send(scheduler, 5)
    scheduler.close(holders[2])
    come_back(scheduler, holders[2], 3)
    assert send(scheduler, 4) == [holders[1]] * 3 + [holders[0]]


def test_the_books_are_straight_when_all_has_come_back(scheduler: Scheduler, holders: list[Holder]) -> None:
    send(scheduler, 4)
    come_back(scheduler, holders[2], 4)
    assert (holders[2].flight, holders[2].load, holders[2].newcomers) == ({}, 0.0, False)
    assert send(scheduler, 1) == [holders[1]]
