"""Metrics: how long requests wait and take, and how deep pipelines are, in histograms.

The buckets' bounds are powers of two, so that a bucket is found by `bit_length`. Most statements are sent to a
backend at once: of such a one a single time is counted, as its wait is none and its service all; so a statement costs
one increment.
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

    def add(self, seconds: float) -> None:
        """Count a time."""
        self.counts[int(seconds * 1e6).bit_length()] += 1
        self.total += seconds

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

    def sent(self, now: float, request: Request) -> None:
        """The request has waited for a backend and is sent to one."""
        request.sent = max(now, self.moment)

    def granted(self, now: float, request: Request) -> None:
        """The request has got its lease."""
        self.waits.add(max(0.0, now - request.since, self.moment - request.since if request.sent else 0.0))

    def ended(self, now: float, granted_at: float) -> None:
        """A lease has ended."""
        self.held.add(max(0.0, now - granted_at))

    def came_back(self, now: float, depth: int, requests: Sequence[Request]) -> None:
        """These have come back from one backend, of so many that were there."""
        self.depths.counts[(depth - 1).bit_length()] += 1
        self.depths.total += depth
        moment = max(now, self.moment)
        counts, total = self.at_once.counts, 0.0
        for request in requests:
            if request.sent:
                self._had_waited(moment, request)
            else:
                seconds = moment - request.since
                counts[int(seconds * 1e6).bit_length()] += 1
                total += seconds
        self.at_once.total += total

    def finished(self, now: float, request: Request) -> None:
        """The one that asyncpg ran has come back."""
        moment = max(now, self.moment, request.sent, request.since)
        if request.kind is Kind.LEASE:  # a test of its connection
            return
        if request.sent:
            self._had_waited(moment, request)
        else:
            self.at_once.add(moment - request.since)
        if request.statement is not None:
            request.statement.ran(moment - (request.sent or request.since))

    def _had_waited(self, moment: float, request: Request) -> None:
        self.waits.add(max(0.0, request.sent - request.since))
        self.services.add(max(0.0, moment - request.sent))
        self.totals.add(max(0.0, moment - request.since))

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
