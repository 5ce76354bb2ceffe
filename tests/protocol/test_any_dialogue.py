"""Whatever is said, in whatever order and however it is cut into frames: each request ends once, and what cannot be
understood ends the link, or costs one message, and nothing else.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pgactor import wire
from pgactor.client import calls
from pgactor.client.options import Options
from pgactor.client.pending import Pending, Reply
from pgactor.client.requests import LostLink, Requests
from pgactor.errors import OutcomeUnknown, ProtocolError
from pgactor.messages import Done, Failed, Granted, LeaseEnded, Message, Part, Release, Request, Rows, Welcome
from pgactor.messages.unions import FromSupervisor
from protocols import cases

CAP = 64 * 1024 * 1024
MOST = 6
"""How many requests there are."""


def said(examples: tuple[cases.MessageCase, ...], *kinds: Any) -> list[Message]:
    """Of the vectors' messages, those of these kinds."""
    return [message for case in examples for message in case.messages if isinstance(message, kinds)]


TAKEN = typing.get_args(Reply)
REPLIES = [
    message
    for message in said(cases.FROM_SUPERVISOR, *TAKEN)
    if not isinstance(message, Rows) and getattr(message, "id", None) is not None
]
PASSING = [
    message
    for message in said(cases.FROM_SUPERVISOR, *typing.get_args(FromSupervisor))
    if not isinstance(message, (*TAKEN, Welcome, LeaseEnded)) and not getattr(message, "over", False)
]
"""What answers nothing, and ends nothing: parts, chunks and credits too, which name a request."""


def dialogue() -> tuple[Requests, list[Pending]]:
    """One that has been welcomed, with some requests."""
    requests = Requests(Options("ipc:///run/nowhere.sock", 10.0, None, "test", 1 << 20))
    requests.feed(wire.encode([cases.WELCOME]))
    return requests, [requests.begin(calls.fetch("select 1", (), None, None)) for _ in range(MOST)]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[list[Message]], dict[int, Message]]:
    """Frames of a supervisor that answers each request once, or not at all, and says other things besides; and the
    answers."""
    answers: dict[int, Message] = {}
    for number in draw(st.lists(st.integers(0, MOST - 1), unique=True)):
        if draw(st.booleans()):
            answers[number] = cases.rows(number, 1, cases.USERS, [(number, "Ada")], first=False)
        else:
            answers[number] = msgspec.structs.replace(draw(st.sampled_from(REPLIES)), id=number)
    speech: list[Message] = list(answers.values())
    for message in draw(st.lists(st.sampled_from(PASSING), max_size=12)):
        place = draw(st.integers(0, len(speech)))
        if hasattr(message, "id"):  # of a request that is not answered yet, or of one that never was
            later = [each.id for each in speech[place:] if isinstance(each, Rows)]
            numbers = [number for number in range(MOST + 2) if number not in answers or number in later]
            passing = msgspec.structs.replace(message, id=draw(st.sampled_from(numbers)))
            speech.insert(place, msgspec.structs.replace(passing, columns=None) if type(message) is Part else passing)
        else:
            speech.insert(place, message)
    speech.insert(0, cases.rows(MOST, 1, cases.USERS, []))  # nobody waits for these rows; they tell the shape
    frames: list[list[Message]] = [[]]
    for message in speech:
        if draw(st.booleans()):
            frames.append([])
        frames[-1].append(message)
    return frames, answers


@given(conversations())
def test_each_request_ends_by_its_reply_and_by_nothing_else(
    conversation: tuple[list[list[Message]], dict[int, Message]],
) -> None:
    frames, answers = conversation
    requests, pendings = dialogue()
    ended: list[Pending] = []
    for frame in frames:
        ended += requests.feed(wire.encode(frame))[0]
    assert [pending.id for pending in ended] == list(answers)
    assert len(requests) == MOST - len(answers)
    for pending in pendings:
        assert pending.done is (pending.id in answers)
        assert type(pending.reply) is type(answers.get(pending.id))
    lost = requests.lose(LostLink("the end"))
    assert {pending.id for pending in lost} == set(range(MOST)) - answers.keys()
    assert all(isinstance(pending.error, OutcomeUnknown) for pending in lost)


@given(st.lists(st.sampled_from(said(cases.FROM_SUPERVISOR, Granted)), max_size=4), st.integers(0, MOST))
def test_each_lease_that_nobody_waits_for_is_given_back_once(leases: list[Message], forgotten: int) -> None:
    requests, pendings = dialogue()
    for pending in pendings[:forgotten]:
        requests.forget(pending)
    granted = [msgspec.structs.replace(lease, id=number) for number, lease in enumerate(leases)]
    _, unwanted = requests.feed(wire.encode(granted))
    assert unwanted == [Release(lease.lease) for lease in granted[:forgotten] if isinstance(lease, Granted)]


@st.composite
def spoilt(draw: st.DrawFn, examples: tuple[cases.MessageCase, ...]) -> bytes:
    """The bytes of a good frame, a few of them changed, taken out or put in."""
    frame = bytearray(draw(st.sampled_from(examples)).frame)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame)))
        frame[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(frame)


@given(st.lists(spoilt(cases.FROM_SUPERVISOR), min_size=1, max_size=3))
def test_a_worker_loses_the_link_by_what_it_cannot_read_and_no_request(frames: list[bytes]) -> None:
    requests, pendings = dialogue()
    ended: list[Pending] = []
    try:
        for frame in frames:
            ended += requests.feed(frame)[0]
    except LostLink as lost:
        ended += requests.lose(lost)
    else:
        ended += requests.lose(LostLink("the end"))
    assert sorted(pending.id for pending in ended) == list(range(MOST))
    assert all(pending.done for pending in pendings)


NAMING = {"cancel", "chunk", "end_of_chunks", "credit"}
"""Messages from a worker that name a request and are not it."""


@st.composite
def misshapen(draw: st.DrawFn) -> bytes:
    """A frame of one message from a worker, with one field changed, or without its last ones."""
    case = draw(st.sampled_from([case for case in cases.FROM_WORKER if len(case.messages) == 1]))
    (message,) = msgspec.msgpack.decode(case.frame)
    at = draw(st.integers(0, len(message) - 1))
    if draw(st.booleans()):
        del message[at:]
    else:
        message[at] = draw(st.sampled_from([None, -1, 1, 1.5, "x", b"x", [], [[]], {}, {"x": 1}, 1 << 63]))
    return msgspec.msgpack.encode([message])


@settings(max_examples=1000)
@given(misshapen() | spoilt(cases.FROM_WORKER))
def test_a_supervisor_answers_no_request_for_the_fault_of_a_message_that_names_it(frame: bytes) -> None:
    frames = wire.worker_frames(CAP)
    try:
        read = list(frames.decode(frame))
    except ProtocolError:
        return
    parts = msgspec.msgpack.decode(frame, type=list[msgspec.Raw])
    for message, part in zip(read, parts, strict=True):
        if isinstance(message, wire.Malformed):
            assert message.reason
            assert message.id is None or tag_of(part) not in NAMING
        elif isinstance(message, Request):
            assert message.id >= 0


def tag_of(message: msgspec.Raw) -> str | None:
    """The first element of a message; None if it has none that is text."""
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.decode(message, type=list[msgspec.Raw])[0], type=str)
    except (msgspec.DecodeError, IndexError):
        return None


def test_there_is_something_to_say_of_each_kind() -> None:
    def kinds(of: list[Message]) -> Iterator[type]:
        return (type(message) for message in of)

    assert {Done, Failed, Granted} <= set(kinds(REPLIES))
    assert set(kinds(PASSING)) | set(kinds(REPLIES)) >= set(typing.get_args(FromSupervisor)) - {
        Welcome,
        LeaseEnded,
        Rows,
    }
