"""The desk: every request from its arrival to its one answer.

`answer` is the only door to an answer, so there can be no second one.
"""

from __future__ import annotations

from ..config import PoolSettings
from ..errors import PgactorError, ProtocolError
from .actions import Action, Interrupt, Refuse
from .deadlines import Deadlines
from .request import Request
from .waitqueue import WaitQueue


class Desk:
    """The unanswered requests of all workers. queue: those that wait for a backend."""

    def __init__(self, settings: PoolSettings, deadlines: Deadlines[object], counters: dict[str, int]) -> None:
        self.queue = WaitQueue()
        self._settings = settings
        self._deadlines = deadlines
        self._counters = counters

    def enrol(self, now: float, request: Request) -> None:
        """A request has come. Raises `ProtocolError` if its id is in use."""
        worker = request.worker
        if request.id in worker.requests:
            raise ProtocolError(f"request id {request.id} is in use by an unanswered request of this worker")
        worker.requests[request.id] = request
        self._counters["requests"] += 1
        if worker.silence_limit is not None and worker not in self._deadlines:
            self._deadlines.set(worker, now + worker.silence_limit)

    def answer(self, request: Request) -> bool:
        """Take the right to answer the request. False: it has been answered, the result is of no use."""
        if request.answered:
            return False
        request.answered = True
        request.worker.requests.pop(request.id, None)
        self._deadlines.cancel(request)
        return True

    def refuse(self, request: Request, error: PgactorError, actions: list[Action]) -> None:
        """Answer the request with an error, if it is not answered yet."""
        if self.answer(request):
            actions.append(Refuse(request, error))

    def wait(self, now: float, request: Request) -> None:
        """Let the request wait for a backend, as long as it and the pool's settings allow."""
        self.queue.push(request)
        limit = now + self._settings.queue_timeout_seconds
        if request.queue_deadline is None or request.queue_deadline > limit:
            request.queue_deadline = limit
        if request.deadline is not None and request.deadline < request.queue_deadline:
            request.queue_deadline = request.deadline
        self._deadlines.set(request, request.queue_deadline)

    def withdraw(self, request: Request, error: PgactorError, actions: list[Action]) -> None:
        """End an unanswered request: queued, it never runs; running, it is cancelled."""
        if request.holder is not None:
            actions.append(Interrupt(request.holder, request))
        elif request.lease is not None:
            request.lease.next = None
        else:
            self.queue.remove(request)
        self.refuse(request, error, actions)
