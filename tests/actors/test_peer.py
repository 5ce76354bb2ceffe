"""Replies on their way to one worker."""

from __future__ import annotations

import asyncio

import msgspec

from pgactor import wire
from pgactor.actors.peer import ENOUGH_BYTES, GATHER_SECONDS, GATHERED_BYTES, GATHERED_REPLIES, STALLED_SECONDS, Peer
from pgactor.errors import MessageTooLarge, UnsupportedType
from pgactor.messages import DEFAULT_MAX_FRAME_BYTES, SHAPES_PER_LINK, Done, Failed, Message, Rows
from pgactor.messages.copying import Chunk
from pgactor.messages.unions import FromSupervisor
from tests.client.virtual import run, turns

CAP = 1024
_DECODER = wire.supervisor_frames(DEFAULT_MAX_FRAME_BYTES)


class MemoryPeer(Peer):
    """A link that keeps what is written. frames: as they were written."""

    road = "ipc"

    def __init__(self, *, max_frame_bytes: int = CAP, road: str = "ipc") -> None:
        super().__init__(max_frame_bytes=max_frame_bytes)
        self.road = road
        self.frames: list[bytes] = []
        self.ends: list[str] = []
        self.unsent = 0

    def unsent_size(self) -> int:
        return self.unsent

    def write(self, frame: bytes, rest: bytes = b"") -> None:
        assert not self.closed
        self.frames.append(frame + rest)

    def close(self, reason: str) -> None:
        self.flush()
        self.closed = True
        self.ends.append(reason)

    @property
    def said(self) -> list[list[Message]]:
        """What was written, frame by frame."""
        return [_messages(frame) for frame in self.frames]


def _messages(frame: bytes) -> list[Message]:
    messages: list[Message] = []
    for message in _DECODER.decode(frame):
        assert not isinstance(message, wire.Malformed)
        messages.append(message)
    return messages


def sized(id: int, size: int) -> FromSupervisor:
    """A reply of this many bytes."""
    message = Done(id, "")
    message.status = "x" * (size - len(wire.encode_message(message)) - 2)
    assert len(wire.encode_message(message)) == size
    return message


def test_data_leaves_at_once_and_behind_what_was_said_before() -> None:
    async def story() -> None:
        peer = MemoryPeer(max_frame_bytes=2**20)
        peer.send(Chunk(1, b"small"), may_wait=True)
        data = bytes(200_000)
        peer.send_data(wire.head_of_chunk(1, len(data)), data)
        assert peer.said == [[Chunk(1, b"small")], [Chunk(1, data)]]
        peer.closed = True
        peer.send_data(wire.head_of_chunk(1, len(data)), data)
        assert len(peer.frames) == 2, "nobody is there"

    run(story())


def test_what_may_wait_waits_for_so_many_bytes_only() -> None:
    async def story() -> None:
        peer = MemoryPeer(max_frame_bytes=2**20)
        for count in (7, 1, 7):
            for _ in range(count):
                peer.send(Chunk(1, bytes(GATHERED_BYTES // 8)), may_wait=True)
            await turns()
        assert [len(frame) for frame in peer.said] == [8], "the others wait for more"

    run(story())


def test_the_replies_of_one_turn_leave_with_one_write() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        for number in range(20):
            assert peer.send(Done(number))
        assert peer.frames == [], "not before the turn has ended"
        await turns()
        assert peer.said == [[Done(number) for number in range(20)]]
        peer.send(Done(20))
        await turns()
        assert peer.said[1:] == [[Done(20)]]

    run(story())


def test_a_turn_without_replies_writes_nothing() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.flush()
        await turns()
        assert peer.frames == []

    run(story())


def test_frames_stay_under_the_cap_and_in_order() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        replies = [sized(number, 400) for number in range(7)]
        for reply in replies:
            peer.send(reply)
        await turns()
        assert all(len(frame) <= CAP for frame in peer.frames)
        assert [len(frame) for frame in peer.said] == [2, 2, 2, 1]
        assert [message for frame in peer.said for message in frame] == replies

    run(story())


def test_the_largest_reply_that_fits_is_sent_and_the_next_larger_one_is_not() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        assert peer.send(sized(1, CAP - 8))
        assert not peer.send(sized(2, CAP - 7))
        await turns()
        first, second = (message for frame in peer.said for message in frame)
        assert isinstance(first, Done)
        assert isinstance(second, Failed)
        assert all(len(frame) <= CAP for frame in peer.frames)

    run(story())


def test_a_reply_that_is_too_large_becomes_an_error_of_its_request() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        rows = Rows(5, 1, None, msgspec.Raw(msgspec.msgpack.encode(["x" * 5000])), in_transaction=True)
        assert not peer.send(rows)
        await turns()
        ((failure,),) = peer.said
        assert isinstance(failure, Failed)
        assert (failure.id, failure.code) == (5, MessageTooLarge.code)
        assert f"over the cap of {CAP} (max_frame_bytes)" in failure.message
        assert failure.in_transaction, "its lease is where it was"

    run(story())


def test_an_error_that_is_too_large_becomes_a_smaller_one() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.send(Failed(5, UnsupportedType.code, "x" * 5000))
        await turns()
        ((failure,),) = peer.said
        assert isinstance(failure, Failed)
        assert (failure.id, failure.code) == (5, MessageTooLarge.code)

    run(story())


def test_nothing_is_sent_to_a_link_that_is_closed() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.send(Done(1))
        peer.close("enough")
        assert peer.said == [[Done(1)]]
        assert not peer.send(Done(2))
        await turns()
        assert len(peer.frames) == 1

    run(story())


def test_what_has_gathered_for_a_link_that_breaks_is_dropped() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.send(Done(1))
        peer.closed = True
        await turns()
        assert peer.frames == []

    run(story())


def test_only_the_shapes_that_were_told_last_are_remembered() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        for number in range(SHAPES_PER_LINK + 2):
            peer.remember(number)
        assert list(peer.shapes) == list(range(2, SHAPES_PER_LINK + 2))

    run(story())


def test_replies_that_may_wait_leave_together_a_moment_later() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.send(Done(0), may_wait=True)
        await turns()
        peer.send(Done(1), may_wait=True)
        await turns()
        assert peer.frames == []
        await asyncio.sleep(GATHER_SECONDS)
        assert peer.said == [[Done(0), Done(1)]]

    run(story())


def test_enough_replies_do_not_wait_any_longer() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        for number in range(GATHERED_REPLIES):
            peer.send(Done(number), may_wait=True)
        await turns()
        assert [len(frame) for frame in peer.said] == [GATHERED_REPLIES]
        await asyncio.sleep(2 * GATHER_SECONDS)
        assert len(peer.frames) == 1

    run(story())


def test_a_reply_that_may_not_wait_takes_the_waiting_ones_along() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.send(Done(0), may_wait=True)
        peer.send(Done(1))
        peer.send(Done(2), may_wait=True)
        await turns()
        assert peer.said == [[Done(0), Done(1), Done(2)]]
        await asyncio.sleep(2 * GATHER_SECONDS)
        assert len(peer.frames) == 1

    run(story())


def test_a_reply_that_is_encoded_already_is_sent_like_any_other() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        assert peer.send_encoded(0, wire.encode_message(Done(0)))
        peer.send(Done(1))
        assert peer.send_encoded(2, wire.encode_message(sized(2, CAP - 8)))
        await turns()
        assert [message for frame in peer.said for message in frame] == [Done(0), Done(1), sized(2, CAP - 8)]
        assert all(len(frame) <= CAP for frame in peer.frames)

    run(story())


def test_such_a_reply_that_is_too_large_becomes_an_error_of_its_request() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        assert not peer.send_encoded(5, wire.encode_message(sized(5, CAP - 7)))
        await turns()
        ((failure,),) = peer.said
        assert isinstance(failure, Failed)
        assert (failure.id, failure.code, failure.in_transaction) == (5, MessageTooLarge.code, False)

    run(story())


def test_such_a_reply_may_wait_for_others_but_not_on_a_closed_link() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.send_encoded(1, wire.encode_message(Done(1)), may_wait=True)
        await turns()
        assert peer.frames == []
        await asyncio.sleep(GATHER_SECONDS)
        assert peer.said == [[Done(1)]]
        peer.close("enough")
        assert not peer.send_encoded(2, wire.encode_message(Done(2)))

    run(story())


# --- large results ------------------------------------------------------------------------------------------


def test_who_waits_for_room_is_called_once_there_is() -> None:
    async def story() -> None:
        peer, called = MemoryPeer(), []
        assert peer.has_room(lambda: called.append(0))
        peer.unsent = ENOUGH_BYTES + 1
        assert not peer.has_room(lambda: called.append(1))
        assert not peer.has_room(lambda: called.append(2))
        peer.room_made()
        assert called == []
        peer.unsent = ENOUGH_BYTES
        peer.room_made()
        peer.room_made()
        assert called == [1, 2]

    run(story())


def test_what_has_gathered_takes_room_until_it_is_written() -> None:
    async def story() -> None:
        peer, called = MemoryPeer(max_frame_bytes=4 * ENOUGH_BYTES), []
        peer.send(Done(1, "x" * ENOUGH_BYTES))
        assert not peer.has_room(lambda: called.append(1))
        await turns()
        assert called == [1]

    run(story())


def test_a_worker_that_others_wait_behind_and_that_reads_nothing_is_disconnected() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.unsent = 10 * ENOUGH_BYTES
        peer.has_room(lambda: None)
        for _ in range(3):
            peer.unsent -= ENOUGH_BYTES
            await asyncio.sleep(STALLED_SECONDS)
            assert not peer.closed, "it reads, if slowly"
        await asyncio.sleep(2 * STALLED_SECONDS)
        (reason,) = peer.ends
        assert "read nothing" in reason

    run(story())


def test_a_worker_that_nobody_waits_behind_may_read_when_it_likes() -> None:
    async def story() -> None:
        peer = MemoryPeer()
        peer.unsent = 2 * ENOUGH_BYTES
        peer.has_room(lambda: None)
        peer.unsent = 0
        peer.room_made()
        await asyncio.sleep(3 * STALLED_SECONDS)
        assert not peer.closed

    run(story())
