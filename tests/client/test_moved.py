"""What a client makes of another supervisor in the place of the one on its link."""

from __future__ import annotations

import pytest

from pgactor.client import calls
from pgactor.client.pending import Pending
from pgactor.client.requests import LostLink, Requests, Unsent
from pgactor.errors import OutcomeUnknown, PoolClosing
from pgactor.messages import PROTOCOL_VERSION, Done, Failed, Welcome
from pgactor.messages.operating import Moved

from .memory import frame, granted, options
from .test_requests import HeldToken

CLOSING = PoolClosing.code


def linked() -> Requests:
    """A link that is welcome."""
    requests = Requests(options())
    requests.feed(frame(Welcome(PROTOCOL_VERSION, 7, "memory", 1 << 20)))
    return requests


def ask(requests: Requests) -> Pending:
    return requests.begin(calls.fetch("select 1", (), None, None))


def test_it_is_told_once_that_what_is_new_goes_elsewhere() -> None:
    requests, told = linked(), []
    requests.on_moved = lambda: told.append(True)
    requests.feed(frame(Moved(), Moved()))
    assert told == [True]
    assert requests.moved


def test_what_is_refused_after_that_may_be_sent_again_and_before_that_it_is_an_error() -> None:
    requests = linked()
    early, late = ask(requests), ask(requests)
    requests.feed(frame(Failed(early.id, CLOSING, "closing"), Moved(), Failed(late.id, CLOSING, "closing")))
    assert isinstance(early.reply, Failed)
    assert isinstance(late.error, Unsent)


def test_what_has_begun_is_answered_on_the_old_link() -> None:
    requests = linked()
    pending = ask(requests)
    requests.feed(frame(Moved()))
    assert not requests.is_idle
    requests.feed(frame(Done(pending.id, "SELECT 1")))
    assert isinstance(pending.reply, Done)
    assert requests.is_idle


def test_when_it_is_over_what_has_no_answer_was_not_run() -> None:
    requests = linked()
    answered, unanswered = ask(requests), ask(requests)
    with pytest.raises(LostLink) as caught:
        requests.feed(frame(Done(answered.id, "SELECT 1"), Moved(over=True)))
    requests.lose(caught.value)
    assert isinstance(answered.reply, Done)
    assert isinstance(unanswered.error, Unsent)


def test_when_the_link_is_lost_before_that_nobody_knows() -> None:
    requests = linked()
    pending = ask(requests)
    requests.feed(frame(Moved()))
    requests.lose(LostLink("cut"))
    assert isinstance(pending.error, OutcomeUnknown)


def test_a_lease_needs_its_link_from_the_answer_to_its_end() -> None:
    requests = linked()
    pending = requests.begin(calls.acquire(None, None))
    requests.feed(frame(Moved(), granted(pending.id)))
    assert not requests.is_idle, "it is on its way to its owner"
    requests.hold(HeldToken())
    assert not requests.is_idle
    requests.leases.clear()
    assert requests.is_idle


def test_a_lease_that_nobody_takes_does_not() -> None:
    requests = linked()
    pending = requests.begin(calls.acquire(None, None))
    requests.feed(frame(Moved(), granted(pending.id)))
    assert pending.reply is not None
    requests.unwanted(pending.reply)
    assert requests.is_idle
