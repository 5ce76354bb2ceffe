"""Requests as frames that the supervisor takes, and the error where it takes them and does not answer."""

from __future__ import annotations

from .. import wire
from ..errors import MessageTooLarge, OutcomeUnknown
from ..messages import Message
from .options import ANSWER_GRACE_SECONDS, Options


def not_answered(options: Options) -> OutcomeUnknown:
    """The error for a supervisor that took a request and does not answer in time."""
    return OutcomeUnknown(
        f"the supervisor at {options.endpoint} did not answer within the request's timeout and "
        f"{ANSWER_GRACE_SECONDS:g} s more: it may be stuck; the request may have taken effect"
    )


def too_large(size: int, cap: int) -> MessageTooLarge:
    """The error for a request of more bytes than the supervisor takes."""
    return MessageTooLarge(
        f"the request is {size} bytes, over the supervisor's cap of {cap} (max_frame_bytes); send fewer or smaller "
        "arguments at a time"
    )


def encode_frame(messages: list[Message], cap: int) -> bytes:
    """One frame of the messages. Raises `MessageTooLarge` when it is over the supervisor's cap, in bytes."""
    frame = wire.encode(messages)
    if len(frame) > cap:
        raise too_large(len(frame), cap)
    return frame
