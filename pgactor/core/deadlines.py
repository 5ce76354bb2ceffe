"""All timers of the pool: one heap, entries deleted lazily.

A key (a request, a lease, a holder, a worker) has at most one deadline. A deadline that is changed or cancelled
leaves a dead entry behind; the heap is rebuilt when most of it is dead, so its size follows that of the living
however many requests end long before their deadlines.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """A deadline, in the seconds of the caller's clock, for each of many keys."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._living: dict[K, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._living)

    def __contains__(self, key: K) -> bool:
        return key in self._living

    def set(self, key: K, when: float) -> None:
        """Give the key a deadline, in place of the one it may have."""
        self._serial += 1
        self._living[key] = self._serial
        heapq.heappush(self._heap, (when, self._serial, key))
        if len(self._heap) > 64 and len(self._heap) > 3 * len(self._living):
            self._heap = [entry for entry in self._heap if self._living.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Take the key's deadline away, if it has one."""
        self._living.pop(key, None)

    @property
    def soonest(self) -> float:
        """A time before which none is due: quicker to tell than `next`, and at times too early."""
        return self._heap[0][0] if self._heap else math.inf

    def next(self) -> float | None:
        """When the first deadline is due; None if there is none."""
        while self._heap:
            when, serial, key = self._heap[0]
            if self._living.get(key) == serial:
                return when
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> Iterator[K]:
        """Yield, and forget, each key whose deadline has come, earliest first."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._living[key]
            yield key
