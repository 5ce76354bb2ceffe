"""Who waits for a backend: workers take turns, and each worker's requests keep their order.

A worker with ten thousand waiting requests gets one backend a round, as does a worker with one. A worker that
was served goes to the end of the round; one that comes with nothing waiting joins at the end too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .request import Request
from .roster import Worker


class WaitQueue:
    """The waiting requests, in the order in which they will be served."""

    def __init__(self) -> None:
        self._round: dict[Worker, deque[Request]] = {}  # insertion order is the order of the turns
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Request]:
        """All waiting requests, in no particular order."""
        for requests in self._round.values():
            yield from requests

    def push(self, request: Request) -> None:
        """Let the request wait."""
        self._round.setdefault(request.worker, deque()).append(request)
        self._count += 1

    def pop(self) -> Request:
        """Take out the request whose turn it is. Raises `IndexError` when nobody waits."""
        if not self._count:
            raise IndexError("nobody waits")
        worker = next(iter(self._round))
        requests = self._round.pop(worker)
        request = requests.popleft()
        if requests:
            self._round[worker] = requests
        self._count -= 1
        return request

    def peek(self) -> Request:
        """The request whose turn it is. Raises `StopIteration` when nobody waits."""
        return next(iter(self._round.values()))[0]

    def remove(self, request: Request) -> None:
        """Take the request out of the queue. Raises `KeyError` or `ValueError` if it does not wait."""
        requests = self._round[request.worker]
        requests.remove(request)
        if not requests:
            del self._round[request.worker]
        self._count -= 1

    def clear(self) -> list[Request]:
        """Take everything out."""
        everything = list(self)
        self._round.clear()
        self._count = 0
        return everything
