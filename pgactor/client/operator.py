"""What an operator asks of a supervisor, for the command line."""

from __future__ import annotations

from ..messages.operating import Drain, Pause, Resume
from . import replies
from .calls import UNSENT
from .channel import Channel
from .options import make_options

ANSWER_SECONDS = 10.0
"""How long a supervisor may take to answer what it answers at once."""


def pause(endpoint: str, pools: list[str] | None, timeout: float | None, *, connect_timeout: float) -> None:
    """Let new requests wait; returns when nothing runs. Raises `RequestTimeout`; the pause goes on then."""
    _ask(endpoint, Pause(UNSENT, UNSENT, timeout, pools), connect_timeout)


def resume(endpoint: str, pools: list[str] | None, *, connect_timeout: float) -> None:
    """Serve them again."""
    _ask(endpoint, Resume(UNSENT, UNSENT, ANSWER_SECONDS, pools), connect_timeout)


def drain(endpoint: str, pools: list[str] | None, *, connect_timeout: float) -> None:
    """Have the supervisor end, or only these pools. Returns when that has begun."""
    _ask(endpoint, Drain(UNSENT, UNSENT, ANSWER_SECONDS, pools), connect_timeout)


def _ask(endpoint: str, request: Pause | Resume | Drain, connect_timeout: float) -> None:
    channel = Channel(make_options(endpoint, connect_timeout, None, "pgactor operator", None))
    try:
        pending, _ = channel.call(request)
        replies.done(pending, request)
    finally:
        channel.close()
