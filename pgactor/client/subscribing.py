"""A subscription, whatever shell is around it: when it may be used, and when it tries again. No I/O."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import (
    ClientClosed,
    ClientError,
    LeaseLost,
    OutcomeUnknown,
    PoolError,
    RequestTimeout,
    SupervisorUnavailable,
)
from . import calls
from .inbox import LINK_LOST, Inbox

POLL_SECONDS = 0.001
"""How long a note is waited for at least, so that what has come is read."""

ANSWER_SECONDS = 5.0
"""How long PostgreSQL may take at least to listen again, or no more."""

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
"""Between two attempts to subscribe again; doubled with each that fails."""

PASSING = (SupervisorUnavailable, OutcomeUnknown, LeaseLost, PoolError, RequestTimeout)
"""Failures to subscribe again that time may mend."""


class Subscribing:
    """channels: what it hears."""

    def __init__(self, channels: Iterable[str], timeout: float | None, buffer_size: int) -> None:
        self._inbox = Inbox(channels, buffer_size)
        self.channels = self._inbox.channels
        if not self.channels:
            raise ValueError("listen() is expected to be given at least one channel")
        if buffer_size < 1:
            raise ValueError(f"buffer_size is expected to be greater than zero (got {buffer_size!r})")
        calls.listen(self.channels, None)  # raises what is wrong with them
        self._timeout = calls.check_timeout(timeout, None)
        self._closed = False
        self._begun_in = 0  # the process
        self._try_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._begun_in else "not begun"
        return f"<{type(self).__name__} {', '.join(self.channels)} {state}>"

    def __del__(self) -> None:
        # It may be in the middle of anything that this is called, so it only leaves a mark: when the next note comes
        # the link drops the inbox, and tells the supervisor.
        if (inbox := getattr(self, "_inbox", None)) is not None:
            inbox.abandoned = True

    def _require_usable(self) -> None:
        if self._closed:
            raise ClientClosed("the subscription is closed")
        if self._begun_in not in (0, os.getpid()):
            raise ClientError(
                "the subscription belongs to the parent of this process: call listen() for one of your own"
            )

    def _began(self) -> None:
        """It hears its channels, for the first time or again."""
        if self._begun_in:
            self._inbox.gap(LINK_LOST, self.channels)
        self._begun_in = os.getpid()
        self._pause = FIRST_PAUSE_SECONDS
        self._try_at = 0.0

    def _failed(self, now: float) -> None:
        """It could not subscribe again; later it may."""
        self._try_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
