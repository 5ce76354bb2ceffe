"""Which holder takes the next request: the one that became idle last.

As in asyncpg.Pool, so that connections that are not needed stay idle long enough to be closed. Waking a sleeping
PostgreSQL process also costs more than using one that has just worked.
"""

from __future__ import annotations

from .holder import Holder


class Scheduler:
    """The idle holders, last in first out."""

    def __init__(self) -> None:
        self._idle: dict[Holder, None] = {}  # a stack from which any holder can be removed

    def __len__(self) -> int:
        return len(self._idle)

    def put(self, holder: Holder) -> None:
        """The holder is idle."""
        self._idle[holder] = None

    def take(self) -> Holder:
        """Take the holder for the next request. Raises `KeyError` when none is idle."""
        return self._idle.popitem()[0]

    def remove(self, holder: Holder) -> None:
        """The holder is idle no more."""
        del self._idle[holder]

    def snapshot(self) -> list[Holder]:
        """The idle holders, the longest idle first."""
        return list(self._idle)
