"""Frames <-> messages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pgactor import wire
from pgactor.errors import MessageTooLarge, ProtocolError
from pgactor.messages import Bye, Cancel, Done, Execute, Fetch, Heartbeat, Rows, Token, Welcome
from pgactor.messages.pool import Status
from pgactor.messages.unions import FromSupervisor, FromWorker

CAP = 1 << 20


def from_worker(*messages: Any) -> list[FromWorker | wire.Malformed]:
    """What the supervisor reads in a frame of these messages, given as plain arrays."""
    return list(wire.worker_frames(CAP).decode(msgspec.msgpack.encode(list(messages))))


def from_supervisor(*messages: Any) -> list[FromSupervisor | wire.Malformed]:
    return list(wire.supervisor_frames(CAP).decode(msgspec.msgpack.encode(list(messages))))


def malformed(message: FromWorker | FromSupervisor | wire.Malformed) -> wire.Malformed:
    assert isinstance(message, wire.Malformed)
    return message


def nested(depth: int) -> msgspec.Raw:
    return msgspec.Raw(b"\x91" * depth + b"\xc0")


# -- joining ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 65535, 65536])
def test_joined_messages_are_the_frame_of_them_all(count: int) -> None:
    messages = [Cancel(number) for number in range(count)]
    assert wire.join([wire.encode_message(message) for message in messages]) == wire.encode(messages)
    if count <= 17:
        assert wire.worker_frames(CAP).decode(wire.encode(messages)) == messages


def test_an_empty_frame_is_legal_in_both_directions() -> None:
    assert wire.encode([]) == b"\x90"
    assert wire.worker_frames(CAP).decode(b"\x90") == []
    assert wire.supervisor_frames(CAP).decode(b"\x90") == []


def test_a_frame_may_be_a_view_of_a_larger_buffer() -> None:
    buffer = b"?" + wire.encode([Bye()]) + b"?"
    assert wire.worker_frames(CAP).decode(memoryview(buffer)[1:-1]) == [Bye()]


# -- what a reader forgives ------------------------------------------------------------------------------------


def test_fields_beyond_those_known_are_ignored() -> None:
    assert from_worker(["status", 1, 2, None, "new", [1]]) == [Status(1, 2, None)]
    assert from_worker(["heartbeat", [[1, 2, 3, "new"]]]) == [Heartbeat([Token(1, 2, 3)])]
    assert from_supervisor(["done", 1, "SELECT 1", False, "new"]) == [Done(1, "SELECT 1")]


def test_missing_fields_take_their_defaults() -> None:
    assert from_worker(["fetch", 1, 2, None, "select 1"]) == [Fetch(1, 2, None, "select 1", [], 0, None)]
    assert from_supervisor(["welcome", 1, 2, "x", 3]) == [Welcome(1, 2, "x", 3, 0.0)]


def test_an_integer_is_taken_for_a_float() -> None:
    (status,) = from_worker(["status", 1, 2, 5])
    assert isinstance(status, Status)
    assert type(status.timeout) is float


@pytest.mark.parametrize("id", [0, 1, 1 << 31, 1 << 53, (1 << 63) - 1])
def test_every_id_that_the_protocol_allows_is_read(id: int) -> None:
    assert from_worker(["status", id, 1, None]) == [Status(id, 1, None)]
    assert malformed(from_worker(["status", id, 1, "?"])[0]).id == id


def test_arrays_may_be_nested_a_hundred_deep() -> None:
    (message,) = from_worker(["execute", 1, 2, None, "select $1", nested(98)])
    assert isinstance(message, Execute)


# -- what it does not ------------------------------------------------------------------------------------------


def test_one_malformed_message_costs_only_itself() -> None:
    first, second, third, fourth = from_worker(["cancel", 1], ["status", 2, 3, "soon"], 5, ["bye"])
    assert (first, fourth) == (Cancel(1), Bye())
    assert malformed(second) == wire.Malformed(2, "Expected `float | null`, got `str` - at `$[3]`")
    assert malformed(third) == wire.Malformed(None, "Expected `array`, got `int`")


def test_a_malformed_reply_costs_only_itself() -> None:
    first, second = from_supervisor(["done", 1, 2], ["done", 2])
    assert malformed(first).id == 1
    assert second == Done(2)


@pytest.mark.parametrize(
    "message",
    [
        ["fetch", 7],
        ["explode", 7, 1, None],
        ["fetch", 7, 1, None, b"select 1"],
        ["fetch", 7, 1, None, "select $1", [msgspec.msgpack.Ext(99, b"")]],
        ["fetch", 7, 1, None, "select $1", [msgspec.msgpack.Ext(8, b"short")]],
        ["fetch", 7, 1, None, msgspec.Raw(b"\xa2\xff\xff")],
        ["fetch", 7, 1, None, "select $1", [msgspec.Raw(b"\xd4\xff\x00")]],
        ["fetch", 7, 1, None, msgspec.Raw(b"\x81\x90\x90")],
    ],
    ids=[
        "fields are missing",
        "the tag is unknown",
        "a field has the wrong type",
        "an ext type is unknown",
        "an ext value is malformed",
        "a text is not UTF-8",
        "a timestamp is malformed",
        "a map has an array for a key",
    ],
)
def test_the_id_is_saved_when(message: list[Any]) -> None:
    assert malformed(from_worker(message)[0]).id == 7


@pytest.mark.parametrize(
    "message",
    [
        5,
        [],
        ["explode"],
        ["status", -1, 1, "?"],
        ["status", 1.0, 1, None],
        ["status", True, 1, None],
        ["status", "7", 1, None],
        ["status", None, 1, None],
        [msgspec.Raw(b"\xa2\xff\xff"), 7],
        ["release", None],
        ["hello", 1, 5],
    ],
)
def test_no_id_is_invented(message: Any) -> None:
    assert malformed(from_worker(message)[0]).id is None


def test_the_version_of_a_welcome_is_not_taken_for_an_id() -> None:
    assert malformed(from_supervisor(["welcome", 1, "?"])[0]).id is None


def test_a_reason_is_never_empty() -> None:
    deep: object = msgspec.msgpack.Ext(9, b"\x90")
    for _ in range(600):
        deep = msgspec.msgpack.Ext(9, msgspec.msgpack.encode([deep]))
    (message,) = from_worker(["fetch", 1, 2, None, "select $1", [deep]])
    assert malformed(message) == wire.Malformed(1, "values are nested too deeply")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x80",
        b"\xc1",
        b"\x91",
        b"\x90\x90",
        b"\xdd\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n",
        b"\x91\x96\xa5fetch\x01\x01\xc0\xa0" + b"\x91" * 100_000 + b"\xc0",
    ],
    ids=[
        "is empty",
        "is a map",
        "is not msgpack",
        "is cut short",
        "has something behind it",
        "announces more than it has",
        "is text",
        "is nested too deeply",
    ],
)
def test_a_frame_is_refused_as_a_whole_if_it(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"a frame is not a msgpack array of messages: .") as caught:
        wire.worker_frames(CAP).decode(frame)
    assert not isinstance(caught.value, MessageTooLarge)


@pytest.mark.parametrize("count", [wire.MOST_ONE_BY_ONE, wire.MOST_ONE_BY_ONE + 1, 100_000])
def test_a_frame_of_a_great_many_things_that_are_no_messages_is_refused_before_each_of_them_is(count: int) -> None:
    frames, frame = wire.worker_frames(CAP), wire.array_header(count) + b"\xc0" * count
    if count <= wire.MOST_ONE_BY_ONE:
        assert all(isinstance(each, wire.Malformed) for each in frames.decode(frame))
    else:
        with pytest.raises(ProtocolError, match="more than 10000 parts"):
            frames.decode(frame)


def test_a_frame_of_a_great_many_good_messages_is_read() -> None:
    count = 2 * wire.MOST_ONE_BY_ONE
    assert len(wire.worker_frames(CAP).decode(wire.encode([Bye()] * count))) == count


def test_a_frame_may_be_as_large_as_the_cap_and_no_larger() -> None:
    frame = wire.encode([Fetch(1, 2, None, "x" * 1000)])
    assert len(wire.worker_frames(len(frame)).decode(frame)) == 1
    with pytest.raises(MessageTooLarge, match=rf"{len(frame)} bytes .* {len(frame) - 1} \(max_frame_bytes\)"):
        wire.worker_frames(len(frame) - 1).decode(frame)


# -- rows ------------------------------------------------------------------------------------------------------


def test_rows_are_not_decoded_before_their_shape_is_known() -> None:
    (message,) = from_supervisor(["rows", 1, 2, None, [[msgspec.msgpack.Ext(99, b"")]]])
    assert isinstance(message, Rows)
    assert bytes(message.data) == msgspec.msgpack.encode([[msgspec.msgpack.Ext(99, b"")]])
