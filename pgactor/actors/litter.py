"""What connections and links that have ended leave behind: cycles of old objects. Python's collector looks for them
seldom here (supervisor.GC_THRESHOLD), and would leave them lying for hours."""

from __future__ import annotations

import asyncio
import gc

ENOUGH = 50
"""After so many have ended, their litter is collected."""

DELAY_SECONDS = 1.0
"""A moment later, so that all of them have ended, and no more often than that: it takes some milliseconds."""


class Litter:
    """Counts what has ended."""

    def __init__(self) -> None:
        self._count = 0
        self._is_due = False

    def add(self) -> None:
        """Something has ended."""
        self._count += 1
        if self._count >= ENOUGH and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(DELAY_SECONDS, self._collect)

    def _collect(self) -> None:
        self._count, self._is_due = 0, False
        gc.collect()
