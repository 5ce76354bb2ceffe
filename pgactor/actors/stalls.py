"""Stalls of the event loop: everything waits while one callback is at work, so one that takes long is told of.

A thread asks the loop for a sign of life, a few times per `seconds`. When none comes for that long, the thread looks
where the loop's own thread is, and writes that down; when it comes at last, the loop knows how long it took.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from ..core.metrics import Tally

log = logging.getLogger("pgactor.stalls")

LOOKS = 4
"""How often a sign of life is asked for, in the time that makes a stall."""

STUCK_SECONDS = 5.0
"""A stall that has not ended by then is told of before it ends."""

INNERMOST = 3
"""How many calls of the stack are told, besides the callback."""

_LIBRARIES = ("uvloop", "asyncio")
_TURNS = ("_run", "_run_once", "run", "run_forever", "run_until_complete")
"""The event loop's own calls, from which callbacks are called."""


class Stalls:
    """Watches one event loop. seconds: what is longer is a stall. count, longest_seconds: of those since the start.
    last: the last one, in words. lags: how long each sign of life took."""

    def __init__(self, seconds: float) -> None:
        self.count = 0
        self.longest_seconds = 0.0
        self.last = ""
        self.lags = Tally()
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._asked_at = 0.0
        self._place = ""
        self._lives = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def start(self) -> None:
        """Watch it from now on; where `seconds` is 0, nothing is."""
        if self._seconds:
            self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._lives.set()
        if self._thread.is_alive():
            self._thread.join(1)

    # --- in the thread ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        due = time.monotonic() + self._seconds / LOOKS
        while not self._stopped.wait(self._seconds / LOOKS):
            self._place = ""
            self._lives.clear()
            self._asked_at = now = time.monotonic()
            if now >= due + self._seconds:  # this thread was kept waiting, too
                self._asked_at, self._place = due, place(None)
            try:
                self._loop.call_soon_threadsafe(self._live)
            except RuntimeError:  # the loop is closed
                return
            if not self._lives.wait(self._seconds):
                self._place = place(sys._current_frames().get(self._watched))
                if not self._lives.wait(max(0.0, STUCK_SECONDS - self._seconds)):
                    log.error("the event loop has been stuck for %g s, %s", STUCK_SECONDS, self._place)
                    self._lives.wait()
            due = time.monotonic() + self._seconds / LOOKS

    # --- in the loop --------------------------------------------------------------------------------------

    def _live(self) -> None:
        seconds = time.monotonic() - self._asked_at
        self.lags.add(seconds)
        if seconds >= self._seconds:
            self.count += 1
            self.longest_seconds = max(self.longest_seconds, seconds)
            self.last = f"{seconds:.2f} s, {self._place or 'which cannot be told'}"
            log.warning("the event loop stood still for %s", self.last)
        self._lives.set()


def place(frame: FrameType | None) -> str:
    """Where a thread is: the callback, and its innermost calls."""
    calls: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent.name in _LIBRARIES and frame.f_code.co_name in _TURNS:
            break
        calls.append(f"{frame.f_code.co_qualname} ({path.parent.name}/{path.name}:{frame.f_lineno})")
        frame = frame.f_back
    if not calls:
        return "in no callback: the process was stopped, or had no processor"
    if len(calls) > INNERMOST + 1:
        calls[INNERMOST:-1] = ["..."]
    return "in " + " > ".join(reversed(calls))
