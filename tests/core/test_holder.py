"""A holder moves along TRANSITIONS, and in no other way."""

from __future__ import annotations

import itertools

import pytest

from pgactor.core.holder import TRANSITIONS, Holder, HolderEvent, HolderState, InvalidTransition
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.statement import Statement

PAIRS = list(itertools.product(HolderState, HolderEvent))
LISTED = [pair for pair in PAIRS if pair in TRANSITIONS]
UNLISTED = [pair for pair in PAIRS if pair not in TRANSITIONS]


def holder_in(state: HolderState) -> Holder:
    holder = Holder(3)
    holder.state = state
    holder.since = 5.0
    holder.incarnation = 2
    holder.uses = 9
    return holder


@pytest.mark.parametrize(("state", "event"), LISTED)
def test_a_listed_pair_moves_the_holder_and_notes_when(state: HolderState, event: HolderEvent) -> None:
    holder = holder_in(state)
    holder.apply(event, 8.0)
    assert holder.state is TRANSITIONS[state, event]
    assert holder.since == 8.0


@pytest.mark.parametrize(("state", "event"), UNLISTED)
def test_an_unlisted_pair_raises_and_moves_nothing(state: HolderState, event: HolderEvent) -> None:
    holder = holder_in(state)
    before = {name: getattr(holder, name) for name in Holder.__slots__}
    with pytest.raises(InvalidTransition, match=f"holder 3 is {state}: {event} cannot happen"):
        holder.apply(event, 8.0)
    assert {name: getattr(holder, name) for name in Holder.__slots__} == before


def test_every_state_can_be_reached_and_left() -> None:
    assert {state for state, _ in TRANSITIONS} == set(HolderState)
    assert set(TRANSITIONS.values()) == set(HolderState)


def test_every_event_can_happen_somewhere() -> None:
    assert {event for _, event in TRANSITIONS} == set(HolderEvent)


def test_a_backend_can_be_lost_in_every_state_that_has_one() -> None:
    lost = {state for (state, event), after in TRANSITIONS.items() if event is HolderEvent.GONE and after == "vacant"}
    assert lost == set(HolderState) - {HolderState.VACANT}


def test_clearing_forgets_the_backend_and_keeps_the_slot() -> None:
    holder = holder_in(HolderState.CLOSING)
    holder.backend_pid = 77
    holder.retire_at = 9.0
    holder.last_statement = Statement("select 1")
    holder.flight[Request(Worker(1, now=0.0), 1, Kind.STATEMENT, 0.0)] = None
    holder.load = holder.head_since = 3.0
    holder.newcomers = True
    holder.clear()
    assert not any((holder.uses, holder.backend_pid, holder.retire_at, holder.last_statement))
    assert not any((holder.flight, holder.head, holder.load, holder.head_since, holder.newcomers, holder.lease))
    assert (holder.number, holder.incarnation) == (3, 2)


def test_the_head_is_what_was_sent_first() -> None:
    holder = holder_in(HolderState.BUSY)
    assert holder.head is None
    first, second = [Request(Worker(1, now=0.0), number, Kind.STATEMENT, 0.0) for number in (1, 2)]
    holder.flight.update({first: None, second: None})
    assert holder.head is first


def test_one_that_drains_comes_to_rest_before_anything_else() -> None:
    after = {event for state, event in TRANSITIONS if state is HolderState.DRAINING}
    assert after == {HolderEvent.DRAINED, HolderEvent.RELEASE, HolderEvent.GONE}


def test_its_repr_tells_its_state() -> None:
    assert repr(holder_in(HolderState.IDLE)) == "<Holder 3 idle incarnation=2 uses=9>"
