"""What two statuses of a pool tell: rates, and the state at the later one. Plain data in and out.

What cannot be known is None and never 0: of a single status there are no rates, nor of two between which the
supervisor was restarted.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..messages.pool import PoolStatus
from .alerts import REFUSALS, Alert, alerts

STATES = ("idle", "busy", "draining", "leased", "resetting", "opening", "closing", "vacant")
"""What a holder may be, in the order in which it is shown."""


class Spread(msgspec.Struct):
    """What was measured between two statuses. count: how often. beyond: whether p99 is greater than the greatest
    bound of the histogram, so that it is a lower limit."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    beyond: bool


class Point(msgspec.Struct, array_like=True):
    """What charts keep of one moment. at: seconds since 1970, by the viewer's clock. requests, refused: a second.
    p50, p95, p99: how many seconds statements took; None: there was none, or it is not known. states: how many
    holders are in each of `STATES`. waiting, oldest_seconds: the queue."""

    at: float
    requests: float | None
    refused: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    states: list[int]
    waiting: int
    oldest_seconds: float


class Figures(msgspec.Struct):
    """A pool at the moment of its later status. seconds: between the two, by the supervisor's clock; None: there are
    no two, and no rates. requests, refused, leases: a second; refused are those that the pool itself ended with an
    error. states: how many holders are in each state. spreads: of what the status has histograms of, those in which
    something was counted meanwhile; in seconds, but for `depth`."""

    status: PoolStatus
    seconds: float | None
    requests: float | None
    refused: float | None
    leases: float | None
    states: dict[str, int]
    spreads: dict[str, Spread]
    alerts: list[Alert]

    def point(self, at: float) -> Point:
        """What charts keep of it."""
        total = self.spreads.get("total")
        return Point(
            at,
            self.requests,
            self.refused,
            None if total is None else total.p50,
            None if total is None else total.p95,
            None if total is None else total.p99,
            [self.states[state] for state in STATES],
            self.status.waiting,
            self.status.oldest_waiting_seconds,
        )


def figures(before: PoolStatus | None, now: PoolStatus) -> Figures:
    """What the later status tells, and the difference of the two. before: None if there is none."""
    if before is not None and (before.epoch != now.epoch or before.uptime_seconds >= now.uptime_seconds):
        before = None  # another life of the supervisor: its counters began anew
    seconds = None if before is None else now.uptime_seconds - before.uptime_seconds

    def rate(names: Iterable[str]) -> float | None:
        if before is None or seconds is None:
            return None
        return sum(now.counters.get(name, 0) - before.counters.get(name, 0) for name in names) / seconds

    states = dict.fromkeys(STATES, 0)
    for holder in now.holders:
        states[holder.state] = states.get(holder.state, 0) + 1
    return Figures(
        status=now,
        seconds=seconds,
        requests=rate(["requests"]),
        refused=rate(REFUSALS),
        leases=rate(["leases_granted"]),
        states=states,
        spreads={} if before is None else _spreads(before, now),
        alerts=alerts(before, now),
    )


def _spreads(before: PoolStatus, now: PoolStatus) -> dict[str, Spread]:
    spreads = {}
    for name, histogram in now.histograms.items():
        earlier = before.histograms.get(name)
        recent = histogram if earlier is None else histogram.since(earlier)
        if recent.count:
            p50, p95, p99 = (recent.quantile(part) for part in (0.5, 0.95, 0.99))
            beyond = 100 * recent.counts[-1] > recent.count
            spreads[name] = Spread(recent.count, recent.mean, p50, p95, p99, beyond)
    return spreads
