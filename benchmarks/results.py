"""Figures of runs, their medians, and the file they are kept in."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

UNITS = {
    "per_second": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p999_ms": "p99.9 ms",
    "generator_us": "worker CPU us",
    "pool_us": "pool CPU us",
    "postgres_us": "PostgreSQL CPU us",
    "server_connections": "server connections",
    "pool_mb": "pool MB",
    "postgres_mb": "PostgreSQL MB",
    "offered_per_second": "offered/s",
    "goodput_per_cpu_second": "answers per CPU second",
    "whole_ms": "whole process ms",
}
"""How figures are called, in the order of the tables' columns. CPU is per request."""

MORE_IS_BETTER = {"per_second", "goodput_per_cpu_second"}


@dataclass(frozen=True)
class Run:
    """One contender, once. position: in its round, so that neighbours are known. failure: why there are no values."""

    case: str
    contender: str
    round: int
    position: int
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class Compared:
    """A ratio of neighbours, in each round where both gave a figure."""

    case: str
    ours: str
    theirs: str
    figure: str
    values: list[float]

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None


@dataclass
class Results:
    """All runs. about: versions, the machine, the settings of this measurement. left_out: contenders, and why."""

    about: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def of(self, case: str, contender: str) -> list[Run]:
        """A contender's runs in a case, those that failed too."""
        return [run for run in self.runs if (run.case, run.contender) == (case, contender)]

    def median(self, case: str, contender: str, figure: str) -> float | None:
        """Over all its runs that gave the figure."""
        values = [run.values[figure] for run in self.of(case, contender) if figure in run.values]
        return statistics.median(values) if values else None

    def compared(self, case: str, ours: str, theirs: str, figure: str) -> Compared:
        """Ours divided by theirs, of the runs that were nearest to each other in each round."""
        mine, others = self._by_round(case, ours, figure), self._by_round(case, theirs, figure)
        values = []
        for number in sorted(mine.keys() & others.keys()):
            pairs = [(one, other) for one in mine[number] for other in others[number]]
            one, other = min(pairs, key=lambda pair: abs(pair[0].position - pair[1].position))
            if other.values[figure]:
                values.append(one.values[figure] / other.values[figure])
        return Compared(case, ours, theirs, figure, values)

    def write(self, path: Path, compared: Sequence[Compared]) -> None:
        """As JSON: what was measured, medians, ratios, and each run."""
        names = {(run.case, run.contender): None for run in self.runs}
        medians = [
            {
                "case": case,
                "contender": contender,
                **{figure: self.median(case, contender, figure) for figure in self._figures(case, contender)},
                "errors": sum(sum(run.errors.values()) for run in self.of(case, contender)),
            }
            for case, contender in names
        ]
        ratios = [{**asdict(one), "median": one.median} for one in compared]
        content = {
            "about": self.about,
            "left_out": self.left_out,
            "ratios": ratios,
            "medians": medians,
            "runs": [asdict(run) for run in self.runs],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")

    def _by_round(self, case: str, contender: str, figure: str) -> dict[int, list[Run]]:
        found: dict[int, list[Run]] = {}
        for run in self.of(case, contender):
            if figure in run.values:
                found.setdefault(run.round, []).append(run)
        return found

    def _figures(self, case: str, contender: str) -> list[str]:
        return list({figure: None for run in self.of(case, contender) for figure in run.values})


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of all does not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
