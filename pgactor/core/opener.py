"""When to open a connection: a few at a time, and after failures not before a jittered back-off has passed.

The back-off is the pool's and not one holder's: when PostgreSQL is down, it is down for all of them, and what it
needs when it comes back is not a storm.
"""

from __future__ import annotations

from random import Random


class Opener:
    """Keeps count of the connections being opened, and of failures.

    at_once: how many may be opening at the same time. backoff, backoff_max: seconds to wait after the first
    failure, doubled with each further one up to the maximum, then multiplied by a random 0.5 to 1.
    """

    def __init__(self, *, at_once: int, backoff: float, backoff_max: float, random: Random) -> None:
        self.at_once = at_once
        self.backoff = backoff
        self.backoff_max = backoff_max
        self.opening = 0
        self.failures = 0
        self.failing_since: float | None = None
        self.last_error = ""
        self.not_before = 0.0
        self._random = random

    def configure(self, *, at_once: int, backoff: float, backoff_max: float) -> None:
        """Go by other limits."""
        self.at_once, self.backoff, self.backoff_max = at_once, backoff, backoff_max

    def may_open(self, now: float) -> bool:
        """Whether another connection may be opened now. While the last attempt failed, one at a time."""
        return now >= self.not_before and self.opening < (1 if self.failures else self.at_once)

    def started(self) -> None:
        """An open has begun."""
        self.opening += 1

    def succeeded(self) -> None:
        """An open has succeeded: PostgreSQL is there."""
        self.opening -= 1
        self.failures = 0
        self.failing_since = None
        self.last_error = ""
        self.not_before = 0.0

    def failed(self, now: float, error: str) -> None:
        """An open has failed."""
        self.opening -= 1
        self.last_error = error
        if self.failing_since is None:
            self.failing_since = now
        elif now < self.not_before:
            return  # it was begun together with the one that failed before it, and tells nothing new
        wait = min(self.backoff * 2 ** min(self.failures, 30), self.backoff_max)
        self.failures += 1
        self.not_before = now + wait * self._random.uniform(0.5, 1.0)

    def failing_for(self, now: float) -> float:
        """How many seconds ago the failures began; 0 if there are none."""
        return 0.0 if self.failing_since is None else now - self.failing_since

    def died(self, now: float) -> None:
        """A backend has died of itself: if PostgreSQL is restarting, all of them do, here and elsewhere."""
        self.not_before = max(self.not_before, now + self.backoff * self._random.uniform(0.5, 1.0))

    def abandoned(self) -> None:
        """An open was given up by us: it says nothing about PostgreSQL."""
        self.opening -= 1
