"""The dialogue on one link, without a link."""

from __future__ import annotations

import os

import msgspec
import pytest

from pgactor import wire
from pgactor.client import calls, replies
from pgactor.client.acquirer import Entered
from pgactor.client.attempts import connect_limit, unavailable
from pgactor.client.frames import encode_frame
from pgactor.client.pending import Pending
from pgactor.client.requests import LostLink, Requests
from pgactor.errors import (
    LeaseExpired,
    LeaseLost,
    MessageTooLarge,
    OutcomeUnknown,
    PoolClosing,
    ProtocolError,
    SupervisorUnavailable,
)
from pgactor.messages import (
    PROTOCOL_VERSION,
    SHAPES_PER_LINK,
    Cancel,
    Done,
    Failed,
    LeaseEnded,
    Part,
    Release,
    Token,
    Welcome,
)
from pgactor.messages.session import Notice, Settings
from pgactor.rows import Column, ColumnKind

from .memory import COLUMNS, ENDPOINT, frame, granted, options, part, rows

WELCOME = Welcome(PROTOCOL_VERSION, 7, "memory", 1 << 20)


class HeldToken:
    """A lease, as the dialogue sees it."""

    def __init__(self, fence: int = 1) -> None:
        self.entered: Entered | None = None
        self.token = Token(7, 0, fence)
        self.ttl = 30.0
        self.renewals: list[float] = []
        self.end: BaseException | None = None
        self.told: list[Settings | Notice] = []

    def ended(self, error: BaseException) -> None:
        self.end = error

    def pushed(self, message: Settings | Notice) -> None:
        self.told.append(message)

    def renewed(self, at: float) -> bool:
        self.renewals.append(at)
        return True


def dialogue() -> Requests:
    """One that has been welcomed."""
    requests = Requests(options())
    requests.feed(frame(WELCOME))
    return requests


def begin(requests: Requests) -> Pending:
    return requests.begin(calls.fetch("select 1", (), None, None))


# --- requests and replies -----------------------------------------------------------------------------------


def test_hello_tells_who_speaks() -> None:
    hello = Requests(options(max_frame_bytes=5000)).hello()
    assert (hello.version, hello.label, hello.pid, hello.max_frame_bytes) == (
        PROTOCOL_VERSION,
        "test",
        os.getpid(),
        5000,
    )


def test_ids_count_up_and_the_epoch_is_the_supervisors() -> None:
    requests = dialogue()
    messages = [calls.execute("select 1", (), None, None) for _ in range(3)]
    pendings = [requests.begin(message) for message in messages]
    assert [pending.id for pending in pendings] == [message.id for message in messages] == [0, 1, 2]
    assert {message.epoch for message in messages} == {7}
    assert len(requests) == 3


def test_replies_find_their_requests_in_whatever_order_they_come() -> None:
    requests = dialogue()
    first, second, third = (begin(requests) for _ in range(3))
    ended, unwanted = requests.feed(frame(Done(2, "THIRD"), Failed(0, "pool_closing", "no")))
    assert (ended, unwanted) == ([third, first], [])
    assert isinstance(third.reply, Done)
    assert third.reply.status == "THIRD"
    assert isinstance(first.reply, Failed)
    assert not second.done
    assert len(requests) == 1


def test_a_reply_to_nobody_is_dropped() -> None:
    requests = dialogue()
    assert requests.feed(frame(Done(99), Failed(98, "pool", "x"), rows(97, 1))) == ([], [])


def test_a_second_reply_to_the_same_request_is_dropped() -> None:
    requests = dialogue()
    pending = begin(requests)
    assert requests.feed(frame(Done(0, "ONE"), Done(0, "TWO"))) == ([pending], [])
    assert isinstance(pending.reply, Done)
    assert pending.reply.status == "ONE"


def test_a_lease_that_nobody_waits_for_is_given_back() -> None:
    requests = dialogue()
    assert requests.feed(frame(granted(5, fence=3), Done(6))) == ([], [Release(Token(7, 0, 3))])


def test_who_waits_no_more_withdraws_the_request_once() -> None:
    requests = dialogue()
    pending = begin(requests)
    assert requests.forget(pending) == Cancel(0)
    assert requests.forget(pending) is None
    assert requests.feed(frame(granted(0, fence=4))) == ([], [Release(Token(7, 0, 4))])


def test_a_request_that_has_ended_is_not_withdrawn() -> None:
    requests = dialogue()
    pending = begin(requests)
    requests.feed(frame(Done(0)))
    assert requests.forget(pending) is None


# --- shapes -------------------------------------------------------------------------------------------------


def test_a_shape_is_told_once_and_used_again() -> None:
    requests = dialogue()
    first, second = begin(requests), begin(requests)
    requests.feed(frame(rows(0, 10)))
    requests.feed(frame(rows(1, 20, columns=None)))
    request = calls.fetch("select 1", (), None, None)
    assert replies.rows(first, request) == [(10,)]
    assert replies.rows(second, request)[0]["n"] == 20


def test_rows_that_came_in_parts_are_one_result() -> None:
    requests = dialogue()
    pending = begin(requests)
    assert requests.feed(frame(part(0, 1, 2, columns=COLUMNS), part(0, 3))) == ([], [])
    assert requests.feed(frame(part(0), rows(0, 4, 5, columns=None))) == ([pending], [])
    assert replies.rows(pending, calls.fetch("select 1", (), None, None)) == [(1,), (2,), (3,), (4,), (5,)]


def test_parts_of_a_request_that_failed_count_for_nothing() -> None:
    requests = dialogue()
    pending = begin(requests)
    requests.feed(frame(part(0, 1, columns=COLUMNS), Failed(0, "pool", "no")))
    with pytest.raises(Exception, match="no"):
        replies.rows(pending, calls.fetch("select 1", (), None, None))


def test_a_part_for_nobody_is_dropped_and_its_shape_learned() -> None:
    requests = dialogue()
    pending = begin(requests)
    requests.feed(frame(part(99, 1, columns=COLUMNS), rows(0, 2, columns=None)))
    assert replies.rows(pending, calls.fetch("select 1", (), None, None)) == [(2,)]


def test_a_part_that_cannot_be_read_ends_the_link() -> None:
    for wrong in (part(0, 1, shape=12), Part(0, 1, list(COLUMNS), msgspec.Raw(b"\x91\x91\xa1x"))):
        requests = dialogue()
        begin(requests)
        with pytest.raises(LostLink):
            requests.feed(frame(wrong))


def test_a_shape_is_learned_from_a_reply_that_nobody_waits_for() -> None:
    requests = dialogue()
    requests.feed(frame(rows(99, 10)))
    pending = begin(requests)
    requests.feed(frame(rows(0, 20, columns=None)))
    assert replies.rows(pending, calls.fetch("select 1", (), None, None)) == [(20,)]


def test_rows_of_a_shape_that_was_never_told_are_an_error() -> None:
    requests = dialogue()
    pending = begin(requests)
    requests.feed(frame(rows(0, 1, shape=12, columns=None)))
    with pytest.raises(Exception, match="never told the columns of shape 12"):
        replies.rows(pending, calls.fetch("select 1", (), None, None))


def test_only_the_shapes_that_were_told_last_are_remembered() -> None:
    requests = dialogue()
    requests.feed(frame(*(rows(99, shape=number) for number in range(SHAPES_PER_LINK + 1))))
    oldest, second = begin(requests), begin(requests)
    requests.feed(frame(rows(0, shape=0, columns=None), rows(1, shape=1, columns=None)))
    assert oldest.rows is None
    assert second.rows is not None


def test_a_forgotten_shape_that_is_told_again_is_known_again() -> None:
    requests = dialogue()
    other = (Column("renamed", ColumnKind.INT, "int8"),)
    requests.feed(frame(*(rows(99, shape=number) for number in range(SHAPES_PER_LINK + 1))))
    requests.feed(frame(rows(99, shape=0, columns=other)))
    pending = begin(requests)
    requests.feed(frame(rows(0, 5, shape=0, columns=None)))
    assert list(replies.rows(pending, calls.fetch("select 1", (), None, None))[0].keys()) == ["renamed"]


# --- leases -------------------------------------------------------------------------------------------------


def test_a_heartbeat_renews_every_lease_from_when_it_is_sent() -> None:
    requests = dialogue()
    leases = [HeldToken(1), HeldToken(2)]
    requests.leases = {lease.token.fence: lease for lease in leases}
    assert requests.heartbeat(123.0).leases == [lease.token for lease in leases]
    assert [lease.renewals for lease in leases] == [[123.0], [123.0]]


def test_a_lease_is_told_why_it_ended_and_renewed_no_more() -> None:
    requests = dialogue()
    lease = HeldToken(1)
    requests.leases = {1: lease}
    requests.feed(frame(LeaseEnded(lease.token, "lease_expired", "too long")))
    assert isinstance(lease.end, LeaseExpired)
    assert str(lease.end) == "too long"
    assert requests.heartbeat(1.0).leases == []


def test_the_end_of_a_lease_that_was_given_back_means_nothing() -> None:
    assert dialogue().feed(frame(LeaseEnded(Token(7, 0, 8), "lease_lost", "gone"))) == ([], [])


# --- the end of the link ------------------------------------------------------------------------------------


def test_a_failure_of_no_request_ends_the_link_and_says_why() -> None:
    with pytest.raises(LostLink, match="no such message") as caught:
        dialogue().feed(frame(Failed(None, "protocol", "no such message")))
    assert isinstance(caught.value.reason, ProtocolError)


def test_a_failure_of_no_request_that_is_not_ours_has_no_reason_to_raise() -> None:
    with pytest.raises(LostLink) as caught:
        dialogue().feed(frame(Failed(None, "python", "boom", "ValueError")))
    assert caught.value.reason is None


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x81\x01\x02", b"hello"])
def test_a_frame_that_is_none_ends_the_link(garbage: bytes) -> None:
    with pytest.raises(LostLink) as caught:
        dialogue().feed(garbage)
    assert isinstance(caught.value.reason, ProtocolError)


def test_a_message_that_cannot_be_read_ends_the_link() -> None:
    unreadable = wire.join([wire.encode_message(Done(0)), b"\x92\xa4done\xa1x"])
    with pytest.raises(LostLink, match="cannot be read"):
        dialogue().feed(unreadable)


def test_a_frame_over_the_cap_ends_the_link() -> None:
    requests = Requests(options(max_frame_bytes=2000))
    requests.feed(frame(WELCOME))
    with pytest.raises(LostLink, match="max_frame_bytes") as caught:
        requests.feed(frame(Done(0, "x" * 3000)))
    assert isinstance(caught.value.reason, MessageTooLarge)


def test_what_the_last_frame_answered_before_the_end_is_answered() -> None:
    requests = dialogue()
    answered, unanswered = begin(requests), begin(requests)
    with pytest.raises(LostLink) as caught:
        requests.feed(frame(Done(0, "FIRST"), Failed(None, "protocol", "the end")))
    assert requests.lose(caught.value) == [unanswered, answered]
    assert answered.error is None
    assert isinstance(answered.reply, Done)
    assert isinstance(unanswered.error, OutcomeUnknown)


def test_a_lost_link_ends_every_request_with_an_unknown_outcome() -> None:
    requests = dialogue()
    pendings = [begin(requests) for _ in range(2)]
    assert requests.lose(LostLink("it broke", PoolClosing("bye"))) == pendings
    for pending in pendings:
        assert pending.done
        assert isinstance(pending.error, OutcomeUnknown)
        assert f"at {ENDPOINT} was lost before it answered: it broke" in str(pending.error)
    assert len(requests) == 0


def test_a_lost_link_ends_every_lease() -> None:
    requests = dialogue()
    leases = [HeldToken(1), HeldToken(2)]
    requests.leases = {lease.token.fence: lease for lease in leases}
    cause = LostLink("it broke")
    requests.lose(cause)
    assert requests.lost is cause
    assert requests.leases == {}
    for lease in leases:
        assert isinstance(lease.end, LeaseLost)
        assert "it broke" in str(lease.end)


# --- texts and sizes ----------------------------------------------------------------------------------------


def test_a_request_over_the_supervisors_cap_is_refused_before_it_is_sent() -> None:
    request = calls.execute("x" * 100, (), None, None)
    assert encode_frame([request], 200)
    with pytest.raises(MessageTooLarge, match="over the supervisor's cap of 50"):
        encode_frame([request], 50)


def test_who_cannot_be_reached_is_named_with_the_reason_and_the_time() -> None:
    given = options(connect_timeout=2.5)
    error = unavailable(given, connect_limit(given, 100.0, None), "connection refused")
    assert isinstance(error, SupervisorUnavailable)
    assert ENDPOINT in str(error)
    assert "within connect_timeout (2.5 s): connection refused" in str(error)


def test_columns_of_another_shape_do_not_change_the_first() -> None:
    requests = dialogue()
    requests.feed(frame(rows(99, shape=1), rows(98, shape=2, columns=(Column("m", ColumnKind.INT, "int8"),))))
    pending = begin(requests)
    requests.feed(frame(rows(0, 5, shape=1, columns=None)))
    assert pending.rows is not None
    assert pending.rows.columns == COLUMNS
