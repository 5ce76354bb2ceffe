"""Metrics: how long requests wait and take, and how deep pipelines are, in histograms.

The buckets' bounds are powers of two, so that a bucket is found by `bit_length`. Most statements are sent to a
backend at once: of such a one a single time is counted, as its wait is none and its service all. And those that came
in one turn of the event loop, and come back in one, are counted together.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..messages.histogram import Histogram
from .request import Kind, Request

FIRST, LAST = 5, 26
"""The bounds of times: 2**5 us, 2**6 us and so on to 2**26 us, which is 67 s."""

SECONDS_BOUNDS = [2**power / 1e6 for power in range(FIRST, LAST + 1)]
DEPTH_BOUNDS = [float(2**power) for power in range(11)]
"""Statements in flight: 1, 2, 4 and so on to 1024, the greatest pipeline_depth that makes sense."""


class Tally:
    """Counts in the place. counts: by the `bit_length` of microseconds, or of one less than a number. total: what was
    counted, added up."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * 72
        self.total = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a time, so many times. One below zero is a clock's, and none."""
        if seconds < 0.0:
            seconds = 0.0
        self.counts[int(seconds * 1e6).bit_length()] += times
        self.total += seconds * times

    def seconds(self, *others: Tally) -> Histogram:
        """The histogram of times, of these and of others."""
        counts = [sum(each) for each in zip(self.counts, *(other.counts for other in others), strict=True)]
        folded = [sum(counts[: FIRST + 1]), *counts[FIRST + 1 : LAST + 1], sum(counts[LAST + 1 :])]
        return Histogram(SECONDS_BOUNDS, folded, self.total + sum(other.total for other in others))

    def depths(self) -> Histogram:
        """The histogram of numbers."""
        most = len(DEPTH_BOUNDS)
        return Histogram(DEPTH_BOUNDS, [*self.counts[:most], sum(self.counts[most:])], self.total)


class Metrics:
    """What is measured in one pool.

    moment: what time it is, told by the hands where they know it more exactly than `now`, which may be a millisecond
    old. errors: how often each class of error was the answer. at_once: from their coming to their coming back, those
    that were sent at once. waits, services, totals: of those that had to wait, until they were sent, from then on,
    and together; waits are of leases, too. held: leases. depths: how many were in flight when some came back.
    """

    def __init__(self) -> None:
        self.moment = 0.0
        self.errors: dict[str, int] = {}
        self.at_once = Tally()
        self.waits = Tally()
        self.services = Tally()
        self.totals = Tally()
        self.held = Tally()
        self.depths = Tally()

    def at(self, now: float) -> float:
        """What time it is, as exactly as that is known."""
        return max(now, self.moment)

    def granted(self, now: float, request: Request) -> None:
        """The request has got its lease."""
        self.waits.add((request.sent or now) - request.since)

    def ended(self, now: float, granted_at: float) -> None:
        """A lease has ended."""
        self.held.add(now - granted_at)

    def came_back(self, now: float, depth: int, requests: Sequence[Request]) -> None:
        """These have come back from one backend, of so many that were there."""
        self.depths.counts[(depth - 1).bit_length()] += 1
        self.depths.total += depth
        moment = self.at(now)
        since, sent, times = 0.0, 0.0, 0
        for request in requests:
            if request.since != since or request.sent != sent:
                if times:
                    self._count(moment, since, sent, times)
                since, sent, times = request.since, request.sent, 1
            else:
                times += 1
        if times:
            self._count(moment, since, sent, times)

    def finished(self, now: float, request: Request) -> None:
        """The one that asyncpg ran has come back."""
        if request.kind is Kind.LEASE:  # a test of its connection
            return
        moment = self.at(now)
        self._count(moment, request.since, request.sent, 1)
        if request.statement is not None:
            request.statement.ran(max(0.0, moment - (request.sent or request.since)))

    def _count(self, moment: float, since: float, sent: float, times: int) -> None:
        if sent:
            self.waits.add(sent - since, times)
            self.services.add(moment - sent, times)
            self.totals.add(moment - since, times)
        else:
            self.at_once.add(moment - since, times)

    def histograms(self) -> dict[str, Histogram]:
        """All, by their names."""
        at_once = Tally()
        at_once.counts[0] = sum(self.at_once.counts)
        return {
            "wait": self.waits.seconds(at_once),
            "service": self.services.seconds(self.at_once),
            "total": self.totals.seconds(self.at_once),
            "lease": self.held.seconds(),
            "depth": self.depths.depths(),
        }
