"""How much of one worker's may be at the backends that statements share, at the same time.

What a worker has more waits in the supervisor, where the statements of others do not stand behind it. Alone, a
worker may have as many out as the settings say; beside others, about twice as many seconds' worth as they have on
average: so one with ten thousand requests at hand does not push aside those with eight, and equals rarely have to
wait, which costs the supervisor more than to send them on.
"""

from __future__ import annotations

from .request import Request
from .roster import Worker

LEAST_SECONDS_OUT = 160e-6
"""How much more than twice the others' average a worker may have out: eight of the shortest statements."""


class Window:
    """most: how many statements of one worker may be out. workers: how many have some out. load: of how many
    seconds."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.workers = 0
        self.load = 0.0

    def went_out(self, request: Request) -> None:
        """The statement was sent to a backend."""
        worker = request.worker
        if not worker.flying:
            self.workers += 1
        worker.flying += 1
        worker.load += request.cost
        self.load += request.cost

    def came_back(self, request: Request) -> None:
        """It is not there any more."""
        worker = request.worker
        worker.flying -= 1
        worker.load -= request.cost
        self.load -= request.cost
        if not worker.flying:
            worker.load = 0.0  # but for the rounding
            self.workers -= 1
            if not self.workers:
                self.load = 0.0

    def is_open(self, worker: Worker) -> bool:
        """Whether one more of the worker's may go."""
        own = worker.load
        if own < LEAST_SECONDS_OUT:
            return worker.flying < self.most
        others = self.workers - 1
        return worker.flying < self.most and (not others or own < LEAST_SECONDS_OUT + 2 * (self.load - own) / others)
