"""When a turn of the event loop began, and how long the one before kept it busy.

A reply that is there when the loop comes back from its work, without having slept, may have come at any time
meanwhile. Whoever measures how long PostgreSQL took takes that doubt away: or a busy supervisor would call every
statement slow.

After a short turn the loop stays awake for a moment. The next thing often comes at once (PostgreSQL's reply, or the
next request of a worker that waits for each reply), and to be woken costs more than a look-up does. After a long turn
it does not: where there is so much to do, the others need the processor.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic

ASLEEP_SECONDS = 100e-6
"""A loop that was away for so long between two turns had nothing to do."""


class Turn:
    """The turn of the loop that is on. began: in seconds of `time.monotonic`. lag: how many seconds before that what
    is read in it may have come.

    awake_seconds: for how long the loop stays awake after a turn that took less; 0: not at all.
    """

    def __init__(self, awake_seconds: float = 0.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._awake_seconds = awake_seconds
        self._awake = False
        self._awake_until = 0.0
        self._looked = 0.0  # when the loop last saw all that there was
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
        self.lag = now - self._looked if self._awake or now - self._ended <= ASLEEP_SECONDS else 0.0
        self.began = self._looked = now
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._on = False
        self._ended = now = monotonic()
        if now - self.began < self._awake_seconds:
            self._awake_until = now + self._awake_seconds
            if not self._awake:
                self._awake = True
                self._loop.call_soon(self._stay_awake)

    def _stay_awake(self) -> None:
        """With something to do, be it only this, the loop looks for what has come, and does not sleep."""
        now = monotonic()
        if not self._on:
            self._looked = now
        if self._on or now < self._awake_until:
            self._loop.call_soon(self._stay_awake)
        else:
            self._awake = False


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
