"""How busy the machine is: how much longer than at their best all statements take now.

A statement is slow if it takes longer than others do, not if everything does: where the processors are all in use a
look-up of 20 us takes milliseconds, and is still best off behind its like. Measured with other programs on the same
two processors: without this, look-ups counted as slow there, travelled alone, and 20 000 a second came through in
the place of 45 000.
"""

from __future__ import annotations

from .statement import LEAST_SECONDS, Statement

MOST = 50.0
"""The greatest slowdown that is believed."""

_STEP = 1.03
_FORGETTING = 1.001


class Pace:
    """slowdown: 1.0 when statements take as long as at their best."""

    def __init__(self) -> None:
        self.slowdown = 1.0

    def at_best(self, seconds: float, statement: Statement) -> float:
        """How long a statement that has taken so many seconds would take were the machine idle.

        The slowdown follows the median of what statements take in parts of their best, by small steps: those that are
        slow for reasons of their own do not move it.
        """
        best = statement.best
        if best is None:
            statement.best = max(seconds, LEAST_SECONDS)
        elif seconds < best:
            statement.best = max(seconds, LEAST_SECONDS)
            self.slowdown = max(self.slowdown / _STEP, 1.0)
        else:
            statement.best = best * _FORGETTING
            if seconds > best * self.slowdown:
                self.slowdown = min(self.slowdown * _STEP, MOST)
            else:
                self.slowdown = max(self.slowdown / _STEP, 1.0)
        return seconds / self.slowdown
