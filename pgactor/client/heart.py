"""The heartbeat of a blocking client: a thread that renews leases while the process computes.

It is there only while leases are held, and a little longer, so that a worker that takes one lease after another does
not start a thread for each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

IDLE_SECONDS = 1.0
IDLE_ROUNDS = 3
"""After so many rounds of so many seconds without a lease the thread ends."""


class Heart:
    """Calls `beat` often enough. interval: tells how many seconds may pass until the next beat; None: there is no
    lease to renew."""

    def __init__(self, beat: Callable[[], None], interval: Callable[[], float | None]) -> None:
        self._beat = beat
        self._interval = interval
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._next_beat = 0.0
        self._ended = False

    def watch(self, within: float) -> None:
        """There is a lease that must be renewed within so many seconds."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._live, name="pgactor-heartbeat", daemon=True)
                thread.start()  # if it cannot be, the next lease tries again
                self._thread = thread
            elif time.monotonic() + within < self._next_beat:
                self._changed.notify()

    def end(self) -> None:
        """There will be no lease any more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _live(self) -> None:
        idle_rounds = 0
        while True:
            with self._changed:
                interval = self._interval()
                idle_rounds = 0 if interval is not None else idle_rounds + 1
                if self._ended or idle_rounds > IDLE_ROUNDS:
                    self._thread = None
                    return
                pause = IDLE_SECONDS if interval is None else interval
                self._next_beat = time.monotonic() + pause
                self._changed.wait(pause)
            if interval is not None:
                self._beat()
