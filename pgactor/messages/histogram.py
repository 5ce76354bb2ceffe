"""A histogram: how many of what was measured were how large."""

from __future__ import annotations

from itertools import accumulate

import msgspec


class Histogram(msgspec.Struct):
    """counts: how many were at most as large as the bound of the same index, and larger than the one before; the last
    count, which has no bound, is of those larger than all. total: all that was measured, added up."""

    bounds: list[float] = []
    counts: list[int] = []
    total: float = 0.0

    @property
    def count(self) -> int:
        """How many were measured."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their average; 0.0 if there are none."""
        return self.total / count if (count := self.count) else 0.0

    def since(self, earlier: Histogram) -> Histogram:
        """What was measured after an earlier moment. All of it, if the earlier one is of another supervisor."""
        if earlier.bounds != self.bounds or any(a < b for a, b in zip(self.counts, earlier.counts, strict=True)):
            return self
        counts = [now - before for now, before in zip(self.counts, earlier.counts, strict=True)]
        return Histogram(self.bounds, counts, max(0.0, self.total - earlier.total))

    def quantile(self, part: float) -> float:
        """The value that this part (0.5: half) is at most as large as, estimated within its bucket; 0.0 if nothing
        was measured, and the greatest bound where it is larger than that."""
        number = self.count
        wanted, below = part * number, 0
        for index, reached in enumerate(accumulate(self.counts)):
            if reached >= wanted and reached > below:
                if index == len(self.bounds):
                    break
                lower = self.bounds[index - 1] if index else 0.0
                return lower + (self.bounds[index] - lower) * max(0.0, wanted - below) / (reached - below)
            below = reached
        return self.bounds[-1] if number else 0.0
