"""The desk: every request from its arrival to its one answer.

`answer` is the only door to an answer, so there can be no second one.
"""

from __future__ import annotations

from ..config.pool import PoolSettings
from ..errors import PgactorError, ProtocolError
from .actions import Action, Interrupt, Refuse
from .deadlines import Deadlines
from .request import Request
from .waitqueue import WaitQueue
from .window import Window


class Desk:
    """The unanswered requests of all workers. queue: those that wait for a backend. closing: no others are taken.
    paused: none of them gets a backend, for the time being."""

    def __init__(
        self, settings: PoolSettings, window: Window, deadlines: Deadlines[object], counters: dict[str, int]
    ) -> None:
        self.queue = WaitQueue(window)
        self.closing = False
        self.paused = False
        self.settings = settings
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
        self.queue.round_of(request).push(request)
        until, own = now - request.waited + self.settings.queue_timeout_seconds, request.queue_deadline
        deadline = request.deadline
        if own is not None and own < until:
            until = own
        if deadline is not None and deadline < until:
            until = deadline
        request.queue_deadline = until
        request.half_time = (request.since - request.waited + until) / 2
        self._deadlines.set(request, until)

    def withdraw(self, request: Request, error: PgactorError, actions: list[Action]) -> None:
        """End an unanswered request: queued, it never runs; running, it is cancelled."""
        if request.holder is not None:
            actions.append(Interrupt(request.holder, request))
            if request.lease is not None:
                request.lease.touched = True  # who knows how far it came
        elif request.lease is not None:
            request.lease.next = None
        else:
            self.queue.round_of(request).remove(request)
        self.refuse(request, error, actions)
