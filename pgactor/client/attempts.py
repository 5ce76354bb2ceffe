"""When to try again to reach the supervisor, and when to give up. No I/O."""

from __future__ import annotations

import random
from typing import NamedTuple

from ..errors import SupervisorUnavailable
from .options import Options
from .requests import LostLink
from .surroundings import surroundings

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.5
SHORTEST_ATTEMPT_SECONDS = 0.05
"""Each request is worth one attempt, however short its timeout."""


class Limit(NamedTuple):
    """Until when a link is waited for, on the monotonic clock, and what sets that limit."""

    at: float
    seconds: float
    what: str

    @property
    def words(self) -> str:
        """The limit, for an error's text."""
        return f"{self.what} ({self.seconds:g} s)"


def connect_limit(options: Options, now: float, timeout: float | None) -> Limit:
    """The limit for a request that brings this timeout of its own."""
    if timeout is not None and timeout < options.connect_timeout:
        around = surroundings.get()
        if around is not None and around.bounds(now + timeout):
            return Limit(now + timeout, around.seconds, "the deadline of the surrounding block")
        return Limit(now + timeout, timeout, "the request's timeout")
    return Limit(now + options.connect_timeout, options.connect_timeout, "connect_timeout")


def unavailable(options: Options, limit: Limit, reason: str) -> SupervisorUnavailable:
    """The error for a supervisor that could not be reached."""
    return SupervisorUnavailable(
        f"no supervisor answered at {options.endpoint} within {limit.words}: {reason}; is `pgactor serve` "
        "running with this endpoint?"
    )


class Attempts:
    """Attempts to connect, until the limit: with growing, jittered pauses, so that not all workers come at once."""

    def __init__(self, options: Options, limit: Limit) -> None:
        self._options = options
        self._limit = limit
        self._pause = FIRST_PAUSE_SECONDS
        self._reason = ""  # of the last attempt that had one

    def seconds(self, now: float) -> float:
        """How long the next attempt may take."""
        return max(SHORTEST_ATTEMPT_SECONDS, self._limit.at - now)

    def pause(self, error: OSError, now: float) -> float:
        """How many seconds to wait after a failed attempt. Raises what to tell the caller if there is to be no other
        one: at the limit, and where another attempt cannot fare better."""
        if isinstance(error, LostLink) and error.reason is not None:
            raise error.reason from None
        reason = error.strerror or str(error) or "whoever listens there did not answer"
        if isinstance(error, TimeoutError) and self._reason:
            reason = self._reason  # the last attempt has little time, and says nothing of why the others failed
        else:
            self._reason = reason
        if isinstance(error, PermissionError):
            raise unavailable(self._options, self._limit, f"{reason}; the socket is for its owner alone") from None
        if now >= self._limit.at:
            raise unavailable(self._options, self._limit, reason) from None
        pause = min(self._pause * random.uniform(0.5, 1.0), self._limit.at - now)  # noqa: S311
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        return pause
