"""When a turn of the event loop began, and how long the one before kept it busy.

A reply that is there when the loop comes back from its work, without having slept, may have come at any time
meanwhile. Whoever measures how long PostgreSQL took takes that doubt away: or a busy supervisor would call every
statement slow.
"""

from __future__ import annotations

import asyncio
from time import monotonic

ASLEEP_SECONDS = 100e-6
"""A loop that was away for so long between two turns had nothing to do."""


class Turn:
    """The turn of the loop that is on. began: in seconds of `time.monotonic`. lag: how many seconds before that what
    is read in it may have come."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = 0.0
        self._on = False
        self.began = 0.0
        self.lag = 0.0

    def enter(self) -> None:
        """Something is read. (What runs first in a turn, and at its end, is known by this only.)"""
        if self._on:
            return
        self._on = True
        now = monotonic()
        self.lag = 0.0 if now - self._ended > ASLEEP_SECONDS else now - self.began
        self.began = now
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._on = False
        self._ended = monotonic()
