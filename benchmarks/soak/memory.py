"""Whether the supervisor's memory stays flat: the last quarter of its longest life against the second."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

from .supervisor import Supervisor

GROWTH = 0.05
"""By what part the last quarter may be above the second."""

LONG_SECONDS = 120.0
"""A life that was shorter tells nothing: memory grows at first."""


class Memory:
    """What a supervisor held, looked at again and again."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._seen: dict[int, list[tuple[float, float]]] = defaultdict(list)

    def look(self, now: float) -> None:
        """Note it, unless the supervisor is being restarted."""
        life = self._supervisor.lives
        if not self._supervisor.changing and (megabytes := self._supervisor.memory_mb()):
            self._seen[life].append((now, megabytes))

    def judge(self) -> tuple[str, list[str]]:
        """What was seen, in words, and what is wrong with it."""
        longest = max(self._seen.values(), key=lambda seen: seen[-1][0] - seen[0][0], default=[])
        if not longest:
            return "the supervisor's memory was never seen", []
        began, ended = longest[0][0], longest[-1][0]
        quarters: list[list[float]] = [[], [], [], []]
        for at, megabytes in longest:
            quarters[min(3, int(4 * (at - began) / max(ended - began, 1e-9)))].append(megabytes)
        means = [mean(quarter) if quarter else 0.0 for quarter in quarters]
        told = ", ".join(f"{each:.1f}" for each in means)
        words = f"the supervisor's memory in the quarters of its longest life, of {ended - began:.0f} s: {told} MB"
        if ended - began >= LONG_SECONDS and means[3] > means[1] * (1 + GROWTH):
            return words, [f"the supervisor's memory grew by more than {GROWTH:.0%}: {told} MB, by quarters"]
        return words, []
