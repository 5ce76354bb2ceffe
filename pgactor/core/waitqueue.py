"""Who waits for a backend: statements that may share one, those that need one alone, and leases, each in a round of
their own.

Within a round the workers take turns by deficit round robin, and each worker's requests keep their order. What is
dealt out is a backend's time: a worker whose credit is used up, by one long statement or by ten short ones, goes to
the end of the round, where it gets new credit. So a worker with ten thousand waiting requests gets the same share of
each round as one with a few.

*Overload.* As long as all are served in time, the first to come is the first to be served. When a worker's oldest
request has used up half of its time, its newest is served first. In order, with ten times more to do than can be
done, each would be served just before its caller gives up, or just after, and all work be done in vain. This way
those who are served are served soon; the others give up in the queue, where they cost nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .request import Kind, Request
from .roster import Worker
from .window import Window

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
    its share is one request. window: how many of a worker's requests may be out at the same time; while that is
    so, the others of its line are parked. count: how many wait and are not parked."""

    def __init__(self, credit: float | None = None, window: Window | None = None) -> None:
        self._credit = credit or 1.0
        self._price = None if credit else 1.0
        self._window = window
        self._lines: dict[Worker, _Line] = {}  # insertion order is the order of the turns
        self._parked: dict[Worker, _Line] = {}
        self.count = 0

    def __len__(self) -> int:
        return self.count + sum(len(line.requests) for line in self._parked.values())

    def __iter__(self) -> Iterator[Request]:
        """All waiting requests, in no particular order."""
        for line in (*self._lines.values(), *self._parked.values()):
            yield from line.requests

    def first_of_each(self) -> Iterator[Request]:
        """The first request of each worker's line."""
        return (line.requests[0] for line in (*self._lines.values(), *self._parked.values()))

    def push(self, request: Request) -> None:
        """Let the request wait."""
        worker = request.worker
        line = self._parked.get(worker)
        if line is not None:
            line.requests.append(request)
            return
        line = self._lines.get(worker)
        if line is None:
            line = self._lines[worker] = _Line(self._credit)
        line.requests.append(request)
        self.count += 1
        if self._window is not None and not self._window.is_open(worker):
            self._park(worker)

    def _park(self, worker: Worker) -> None:
        line = self._parked[worker] = self._lines.pop(worker)
        self.count -= len(line.requests)

    def came_back(self, request: Request) -> bool:
        """The request is out no more; whether its worker's line takes part in the round again for that."""
        assert self._window is not None  # noqa: S101  # of such requests only
        self._window.came_back(request)
        worker = request.worker
        if worker not in self._parked or not self._window.is_open(worker):
            return False
        line = self._lines[worker] = self._parked.pop(worker)
        self.count += len(line.requests)
        return True

    def peek(self, now: float) -> Request | None:
        """The request whose turn it is; None if nobody waits but those that are parked."""
        while self._lines:
            worker = next(iter(self._lines))
            line = self._lines[worker]
            if self._window is not None and not self._window.is_open(worker):
                self._park(worker)
            elif line.credit > _NOTHING:
                oldest = line.requests[0]
                return oldest if now < oldest.half_time else line.requests[-1]
            else:
                line.credit += self._credit
                self._lines[worker] = self._lines.pop(worker)
        return None

    def serve(self, request: Request) -> None:
        """Take out the request whose turn it is, as `peek` told: its worker pays for it."""
        line = self._lines[request.worker]
        requests = line.requests
        if requests[0] is request:
            requests.popleft()
        else:
            requests.pop()
        line.credit -= self._price or request.cost
        self.count -= 1
        if not requests:
            del self._lines[request.worker]

    def remove(self, request: Request) -> None:
        """Take the request out. Raises `KeyError` or `ValueError` if it does not wait."""
        worker = request.worker
        lines = self._parked if worker in self._parked else self._lines
        line = lines[worker]
        line.requests.remove(request)
        if not line.requests:
            del lines[worker]
        self.count -= lines is self._lines

    def clear(self) -> None:
        """Take everything out."""
        self._lines.clear()
        self._parked.clear()
        self.count = 0


class WaitQueue:
    """All waiting requests. sharing: statements that may be sent behind others. alone: those that need a backend to
    themselves. leases: those who want one."""

    def __init__(self, window: Window) -> None:
        self.sharing = Round(CREDIT_SECONDS, window)
        self.alone = Round()
        self.leases = Round()

    def __len__(self) -> int:
        return len(self.sharing) + len(self.alone) + len(self.leases)

    def __iter__(self) -> Iterator[Request]:
        """All waiting requests, in no particular order."""
        yield from self.sharing
        yield from self.alone
        yield from self.leases

    def oldest_since(self, now: float) -> float:
        """When the oldest came of those that are first in their worker's line; `now`, if nobody waits."""
        rounds = (self.sharing, self.alone, self.leases)
        return min((each.since for waiting in rounds for each in waiting.first_of_each()), default=now)

    @property
    def count(self) -> int:
        """How many wait for a backend; those that are parked wait for their own worker's."""
        return self.sharing.count + self.alone.count + self.leases.count

    def round_of(self, request: Request) -> Round:
        """Where the request waits, or is to."""
        if request.shares:
            return self.sharing
        return self.leases if request.kind is Kind.LEASE else self.alone

    def clear(self) -> list[Request]:
        """Take everything out."""
        everything = list(self)
        for waiting in (self.sharing, self.alone, self.leases):
            waiting.clear()
        return everything
