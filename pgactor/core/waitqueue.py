"""Who waits for a backend: those who may share one, and those who need one alone, each in a round of their own.

Within a round the workers take turns by deficit round robin, and each worker's requests keep their order. What is
dealt out is a backend's time: a worker whose credit is used up, by one long statement or by ten short ones, goes to
the end of the round, where it gets new credit. So a worker with ten thousand waiting requests gets the same share of
each round as one with a few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .request import Request
from .roster import Worker

CREDIT_SECONDS = 200e-6
"""A worker's share of a round of those who share backends: ten of the shortest statements, which leave together."""

_NOTHING = 1e-9
"""Less is left of a credit by the rounding of floats only."""


class _Line:
    """One worker's waiting requests, and for how many seconds of a backend's time it is still its turn."""

    __slots__ = ("credit", "requests")

    def __init__(self, credit: float) -> None:
        self.requests: deque[Request] = deque()
        self.credit = credit


class Round:
    """The requests of one kind of need. credit: each worker's share of a round, in seconds of a backend's time; None:
    its share is one request."""

    def __init__(self, credit: float | None = None) -> None:
        self._credit = credit or 1.0
        self._price = None if credit else 1.0
        self._lines: dict[Worker, _Line] = {}  # insertion order is the order of the turns
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Request]:
        """All waiting requests, in no particular order."""
        for line in self._lines.values():
            yield from line.requests

    def push(self, request: Request) -> None:
        """Let the request wait."""
        line = self._lines.get(request.worker)
        if line is None:
            line = self._lines[request.worker] = _Line(self._credit)
        line.requests.append(request)
        self._count += 1

    def peek(self) -> Request:
        """The request whose turn it is. Raises `StopIteration` when nobody waits."""
        while True:
            worker = next(iter(self._lines))
            line = self._lines[worker]
            if line.credit > _NOTHING:
                return line.requests[0]
            line.credit += self._credit
            self._lines[worker] = self._lines.pop(worker)

    def pop(self) -> Request:
        """Take out the request whose turn it is. Raises `IndexError` when nobody waits."""
        if not self._count:
            raise IndexError("nobody waits")
        request = self.peek()
        line = self._lines[request.worker]
        line.requests.popleft()
        line.credit -= self._price or request.cost
        if not line.requests:
            del self._lines[request.worker]
        self._count -= 1
        return request

    def remove(self, request: Request) -> None:
        """Take the request out. Raises `KeyError` or `ValueError` if it does not wait."""
        line = self._lines[request.worker]
        line.requests.remove(request)
        if not line.requests:
            del self._lines[request.worker]
        self._count -= 1

    def clear(self) -> None:
        """Take everything out."""
        self._lines.clear()
        self._count = 0


class WaitQueue:
    """All waiting requests. sharing: those that may be sent behind others. alone: those that need a backend to
    themselves."""

    def __init__(self) -> None:
        self.sharing = Round(CREDIT_SECONDS)
        self.alone = Round()

    def __len__(self) -> int:
        return len(self.sharing) + len(self.alone)

    def __iter__(self) -> Iterator[Request]:
        """All waiting requests, in no particular order."""
        yield from self.sharing
        yield from self.alone

    def push(self, request: Request) -> None:
        """Let the request wait."""
        (self.sharing if request.shares else self.alone).push(request)

    def remove(self, request: Request) -> None:
        """Take the request out. Raises `KeyError` or `ValueError` if it does not wait."""
        (self.sharing if request.shares else self.alone).remove(request)

    def clear(self) -> list[Request]:
        """Take everything out."""
        everything = list(self)
        self.sharing.clear()
        self.alone.clear()
        return everything
