"""Frames <-> messages. A frame is one msgpack array of messages, so that a turn of the event loop costs one
send however many requests were made in it.

A frame that does not decode as a whole is read message by message, so that one malformed message costs only
its own request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from . import values
from .errors import MessageTooLarge, ProtocolError
from .messages import Message
from .messages.copying import Chunk
from .messages.unions import FromSupervisor, FromWorker

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_raw_parts = msgspec.msgpack.Decoder(list[msgspec.Raw])
_loose = msgspec.msgpack.Decoder()
_NO_ID_OF_ITS_OWN = ("hello", "welcome", "cancel", "chunk", "end_of_chunks", "credit")
"""Messages whose second element is no request's id, or that of a request which is to be answered by itself."""

MOST_ONE_BY_ONE = 10_000
"""A frame with something malformed in it is read message by message only if there are no more than these: each costs
a hundred times its bytes and more."""


class Malformed(msgspec.Struct):
    """A message that could not be read: why, and of which request, where that much could be read."""

    id: int | None
    reason: str


def encode_message(message: Message) -> bytes:
    """Encode one message; frames are joined from these with `join`."""
    return _encoder.encode(message)


def encode(messages: Sequence[Message]) -> bytes:
    """Encode a frame of messages."""
    return _encoder.encode(messages)


def join(encoded: Sequence[bytes]) -> bytes:
    """Make one frame of messages that are encoded already."""
    return array_header(len(encoded)) + b"".join(encoded)


def head_of_chunk(id: int, size: int) -> bytes:
    """How a frame begins that holds one chunk of a copy, of so many bytes: they follow, and need not be copied."""
    return array_header(1) + encode_message(Chunk(id, b""))[:-2] + b"\xc6" + size.to_bytes(4, "big")


def array_header(n: int) -> bytes:
    """How a msgpack array of so many elements begins."""
    if n < 16:
        return bytes((0x90 | n,))
    if n < 65536:
        return b"\xdc" + n.to_bytes(2, "big")
    return b"\xdd" + n.to_bytes(4, "big")


class FrameDecoder(Generic[M]):
    """Decodes the frames of one direction."""

    def __init__(self, messages: Any, *, max_frame_bytes: int) -> None:
        self._whole: msgspec.msgpack.Decoder[list[M]] = msgspec.msgpack.Decoder(
            list[messages], ext_hook=values.unpack
        )
        self._one: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(messages, ext_hook=values.unpack)
        self.max_frame_bytes = max_frame_bytes

    def decode(self, frame: bytes | memoryview) -> Sequence[M | Malformed]:
        """Return the frame's messages, `Malformed` in the place of each that could not be read.

        Raises `MessageTooLarge` or `ProtocolError` when the frame as a whole is unreadable.
        """
        if len(frame) > self.max_frame_bytes:
            raise MessageTooLarge(
                f"a frame of {len(frame)} bytes is over the cap of {self.max_frame_bytes} (max_frame_bytes)"
            )
        try:
            return self._whole.decode(frame)
        except Exception:  # whatever an extension value raised; the slow way finds out which message it was
            return list(self._one_by_one(frame))

    def _one_by_one(self, frame: bytes | memoryview) -> Iterable[M | Malformed]:
        if _length(frame) > MOST_ONE_BY_ONE:
            raise ProtocolError(
                f"a frame is not a msgpack array of messages: it has more than {MOST_ONE_BY_ONE} parts, and not all "
                "of them can be read"
            )
        try:
            parts = _raw_parts.decode(frame)
        except Exception as error:
            raise ProtocolError(f"a frame is not a msgpack array of messages: {error}") from None
        for part in parts:
            try:
                yield self._one.decode(part)
            except Exception as error:
                yield Malformed(_id_of(part), _reason(error))


def _length(frame: bytes | memoryview) -> int:
    """How many elements the frame says it has; 0 if it is no array."""
    match bytes(frame[:1]):
        case b"\xdc":
            return int.from_bytes(frame[1:3])
        case b"\xdd":
            return int.from_bytes(frame[1:5])
    return 0  # no array, or one of 15 at most


def _id_of(message: msgspec.Raw) -> int | None:
    """The id of a message that is otherwise unreadable: by the protocol, a request's second element.

    Only the first two elements are looked at, since any other may be the one that is at fault.
    """
    try:
        tag, second = (_loose.decode(part) for part in _raw_parts.decode(message)[:2])
    except Exception:
        return None
    return second if type(second) is int and second >= 0 and tag not in _NO_ID_OF_ITS_OWN else None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "values are nested too deeply"
    return str(error) or type(error).__name__


def worker_frames(max_frame_bytes: int) -> FrameDecoder[FromWorker]:
    """The decoder of what workers send, for the supervisor."""
    return FrameDecoder(FromWorker, max_frame_bytes=max_frame_bytes)


def supervisor_frames(max_frame_bytes: int) -> FrameDecoder[FromSupervisor]:
    """The decoder of what the supervisor sends, for workers."""
    return FrameDecoder(FromSupervisor, max_frame_bytes=max_frame_bytes)
