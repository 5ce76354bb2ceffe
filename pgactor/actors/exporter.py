"""The state of all pools in Prometheus' words. It is read when it is asked for: what is not scraped costs nothing.

docs/observability.md has the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..core.holder import HolderState
from ..core.report import COUNTERS
from ..messages.histogram import Histogram
from ..messages.pool import PoolStatus

HISTOGRAMS = {
    "wait": ("queue_wait_seconds", "Waiting for a connection, of statements and leases."),
    "service": ("service_seconds", "From being sent to a connection to the answer, of statements."),
    "total": ("request_seconds", "From coming to the answer, of statements."),
    "lease": ("lease_held_seconds", "How long leases were held."),
    "depth": ("pipeline_depth", "Statements in flight on a connection when it answered some."),
}
"""Those of a pool: their names here."""

COUNTED = {name: f"{name.replace('_', ' ').capitalize()}." for name in COUNTERS}
"""The counters, and what they count."""

REASON = "in_session_"
"""How the counters begin that tell why the statement lane did not run a request."""


class Exporter(Collector):
    """Tells Prometheus of the pools. states: tells the state of each."""

    def __init__(self, states: Callable[[], Iterable[PoolStatus]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        states = list(self._states())
        yield from _of_the_supervisor(states[0])
        yield from _gauges(states)
        for name, words in COUNTED.items():
            counter = CounterMetricFamily(f"pgactor_{name}", words, labels=["pool"])
            for state in states:
                counter.add_metric([state.pool], state.counters.get(name, 0))
            yield counter
        reasons = {state.pool: _reasons(state) for state in states}
        yield _by_name("pgactor_in_session", "Requests that the statement lane did not run.", "reason", reasons)
        errors = {state.pool: state.errors for state in states}
        yield _by_name("pgactor_errors", "Requests answered with an error.", "error", errors)
        for key, (name, words) in HISTOGRAMS.items():
            family = HistogramMetricFamily(f"pgactor_{name}", words, labels=["pool"])
            for state in states:
                _add(family, [state.pool], state.histograms[key])
            yield family


def _of_the_supervisor(state: PoolStatus) -> Iterator[Metric]:
    yield InfoMetricFamily("pgactor", "The supervisor.", {"version": state.version})
    yield CounterMetricFamily("pgactor_faults", "Unexpected errors.", state.faults)
    yield CounterMetricFamily("pgactor_stalls", "How often the event loop stood still.", state.stalls)
    lag = HistogramMetricFamily("pgactor_event_loop_lag_seconds", "How long the event loop took for a sign of life.")
    _add(lag, [], state.histograms["lag"])
    yield lag


def _gauges(states: list[PoolStatus]) -> Iterator[Metric]:
    connections = GaugeMetricFamily("pgactor_connections", "Slots of the pool by state.", labels=["pool", "state"])
    for state in states:
        held = [holder.state for holder in state.holders]
        for each in HolderState:
            connections.add_metric([state.pool, each.value], held.count(each.value))
    yield connections
    for name, words, read in _GAUGES:
        gauge = GaugeMetricFamily(f"pgactor_{name}", words, labels=["pool"])
        for state in states:
            gauge.add_metric([state.pool], read(state))
        yield gauge


_GAUGES: tuple[tuple[str, str, Callable[[PoolStatus], float]], ...] = (
    ("uptime_seconds", "Since the pool began.", lambda state: state.uptime_seconds),
    ("max_size", "Connections at most.", lambda state: state.max_size),
    ("min_size", "Connections kept open.", lambda state: state.min_size),
    ("waiting_requests", "Requests that wait for a connection.", lambda state: state.waiting),
    ("oldest_waiting_seconds", "How long the oldest of them has waited.", lambda state: state.oldest_waiting_seconds),
    ("leases", "Leases that are held.", lambda state: len(state.leases)),
    (
        "oldest_lease_seconds",
        "How long the oldest lease has been held.",
        lambda state: max((lease.seconds for lease in state.leases), default=0.0),
    ),
    ("workers", "Links of workers.", lambda state: len(state.workers)),
    ("database_up", "1: PostgreSQL takes connections; 0: the last one failed.", lambda state: state.database == "ok"),
)
"""Each gauge of a pool: its name, what it tells, and where from."""


def _reasons(state: PoolStatus) -> dict[str, int]:
    counters = state.counters.items()
    return {name.removeprefix(REASON): count for name, count in counters if name.startswith(REASON)}


def _by_name(name: str, words: str, label: str, counts: dict[str, dict[str, int]]) -> Metric:
    """A counter with a label of its own, beside the pool's."""
    counter = CounterMetricFamily(name, words, labels=["pool", label])
    for pool, each in counts.items():
        for value, count in each.items():
            counter.add_metric([pool, value], count)
    return counter


def _add(family: HistogramMetricFamily, labels: list[str], told: Histogram) -> None:
    bounds = [*(f"{bound:g}" for bound in told.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, map(float, accumulate(told.counts)), strict=True)), told.total)
