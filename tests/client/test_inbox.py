"""Notes on their way to subscribers: order, bounds, gaps, and who is woken."""

from __future__ import annotations

import pytest

from pgactor.client.inbox import LISTENER_LOST, Ears, Inbox, Note
from pgactor.client.pending import Pending
from pgactor.messages import Token
from pgactor.messages.listening import Gap, Notification


def notes(inbox: Inbox) -> list[Note]:
    return list(iter(inbox.take, None))


def test_notes_come_out_as_they_came_in() -> None:
    inbox = Inbox(["a"], 10)
    inbox.put(Note("a", "1"), Note("a", "2"))
    inbox.put(Note("a", "3"))
    assert [note.payload for note in notes(inbox)] == ["1", "2", "3"]
    assert inbox.take() is None


def test_when_there_are_too_many_the_oldest_go_and_each_channel_s_gap_is_told_first() -> None:
    inbox = Inbox(["a", "b"], 2)
    inbox.put(*(Note("ab"[number % 2], str(number)) for number in range(7)))
    (one, other, *rest) = notes(inbox)
    assert {one.channel: one.gap[0], other.channel: other.gap[0]} == {"a": "3", "b": "2"}
    assert [note.payload for note in rest] == ["5", "6"]


def test_a_gap_that_has_to_go_is_part_of_a_gap() -> None:
    inbox = Inbox(["a"], 1)
    inbox.gap("lost", ["a", "nobody's"])
    inbox.put(Note("a", "1"))
    assert [bool(note.gap) for note in notes(inbox)] == [True, False]


def test_whoever_waits_is_woken_by_a_note_once() -> None:
    inbox, pending = Inbox(["a"], 10), Pending(-1)
    assert inbox.wait(pending)
    assert inbox.put(Note("a")) == [pending]
    assert pending.done
    assert inbox.put(Note("a")) == []
    assert not inbox.wait(Pending(-2)), "there is one to take"


def test_whoever_waits_no_more_is_not_woken() -> None:
    inbox, pending = Inbox(["a"], 10), Pending(-1)
    inbox.wait(pending)
    inbox.wait_no_more(pending)
    inbox.wait_no_more(pending)
    assert inbox.wake() == []
    assert not pending.done


def test_each_inbox_hears_its_channels_only_and_each_note_once() -> None:
    ears, one, both = Ears(), Inbox(["a"], 10), Inbox(["a", "b", "a"], 10)
    ears.add(one)
    ears.add(both)
    for channel in ("a", "b", "c"):
        assert ears.take(Notification(channel, "x", 1), []) == []
    assert [note.channel for note in notes(one)] == ["a"]
    assert [note.channel for note in notes(both)] == ["a", "b"]
    ears.remove(both)
    ears.remove(both)
    ears.take(Notification("a", "y", 1), [])
    assert [note.payload for note in notes(one)] == ["y"]
    assert notes(both) == []


def test_an_abandoned_inbox_is_found_with_the_next_note() -> None:
    ears, inbox = Ears(), Inbox(["a", "b"], 10)
    ears.add(inbox)
    inbox.abandoned = True
    assert ears.take(Notification("b", "x", 1), []) == [inbox]
    assert ears.take(Notification("a", "x", 1), []) == []


def test_a_gap_is_told_once_to_each_inbox_and_of_its_own_channels() -> None:
    ears, one, both = Ears(), Inbox(["a"], 10), Inbox(["a", "b"], 10)
    ears.add(one)
    ears.add(both)
    pending = Pending(-1)
    one.wait(pending)
    assert ears.gap(Gap(["a", "b", "c"])) == [pending]
    assert notes(one) == [Note("a", gap=LISTENER_LOST)]
    assert [note.channel for note in notes(both)] == ["a", "b"]


@pytest.mark.parametrize("how", ["the lease ends", "the link is lost"])
def test_a_lease_s_notes_go_to_the_lease_until_it_ends(how: str) -> None:
    ears, inbox, heard = Ears(), Inbox(["a"], 10), list[Notification | None]()
    ears.add(inbox)

    def hears(message: Notification | None) -> list[Pending]:
        heard.append(message)
        return []

    ears.leases[7] = hears
    message = Notification("a", "x", 1, Token(1, 0, 7))
    for _ in range(2):
        ears.take(message, [])
        assert ears.lose() == [] if how == "the link is lost" else ears.lease_ended(7) == []
    assert heard == [message, None]
    assert notes(inbox) == []
