"""Dealing: brings those who wait and the holders together, by the rules of scheduler.py and in the order of
waitqueue.py."""

from __future__ import annotations

import math

from ..errors import PgactorError, RequestTimeout
from . import report
from .actions import Action, Reset, Run
from .deadlines import Deadlines
from .deadlock import to_refuse
from .desk import Desk
from .fleet import Fleet
from .holder import Holder, HolderEvent
from .leasing import Leasing
from .metrics import Metrics
from .request import Kind, Request


class Dealing:
    """Deals the holders out."""

    def __init__(
        self,
        fleet: Fleet,
        desk: Desk,
        leasing: Leasing,
        deadlines: Deadlines[object],
        counters: dict[str, int],
        metrics: Metrics,
    ) -> None:
        self.scheduler = fleet.scheduler
        self._fleet = fleet
        self._desk = desk
        self._queue = desk.queue
        self._leasing = leasing
        self._deadlines = deadlines
        self._counters = counters
        self._metrics = metrics
        self._look_again_at = math.inf

    def move_on(self, now: float, actions: list[Action]) -> None:
        """Bring waiting requests and holders together; open what is missing; wind down when nobody waits."""
        queue = self._queue
        self._deal(now, actions)
        if queue.sharing.count:
            self.share(now, actions)
            self._deal(now, actions)  # some may be no more, or are to travel alone
        if queue.leases.count:
            self._end_deadlock(now, actions)
        if self._desk.closing and not len(queue):
            self._fleet.wind_down(now, actions)
            return
        self._fleet.open_more(now, queue.count, actions)
        if queue.leases.count or queue.alone.count:
            self._look_ahead(now)

    def came_back(self, now: float, holder: Holder, request: Request) -> bool:
        """The request has left its backend; whether others of its worker may go for that."""
        self.scheduler.came_back(now, holder, request)
        return self.landed(request)

    def landed(self, request: Request) -> bool:
        """The request is out no more; whether others of its worker may go for that."""
        return request.shares and self._queue.sharing.came_back(request)

    def drained(self, now: float, holder: Holder, actions: list[Action]) -> None:
        """All that was sent to the holder has come back."""
        holder.apply(HolderEvent.DRAINED, now)
        self.settle(now, holder, actions)

    def settle(self, now: float, holder: Holder, actions: list[Action]) -> None:
        """The holder is idle again."""
        self._fleet.settle(now, holder, actions)
        self.move_on(now, actions)

    def claim(self, now: float, holder: Holder) -> None:
        """Let the holder come to rest: it takes no newcomers."""
        self.scheduler.close(holder)
        holder.apply(HolderEvent.CLAIM, now)

    def may_go(self, now: float, request: Request) -> bool:
        """Whether there is an idle holder for the request, which travels alone."""
        return len(self.scheduler) > 0 and self.scheduler.may_take(now, request, self._fleet.holders, self._queue)

    def assign(self, now: float, request: Request, actions: list[Action]) -> None:
        """Give an idle holder to the request, which travels alone."""
        holder = self.scheduler.take(request, self._fleet.holders)
        if request.kind is Kind.LEASE and self._fleet.settings.recycling != "verified":
            self._leasing.grant(now, holder, request, actions)
        else:  # a lease's holder is tested before it is granted
            holder.leased = request.kind is Kind.LEASE
            self._fleet.send(now, holder, request, actions)

    def share(self, now: float, actions: list[Action], only: Holder | None = None) -> bool:
        """Send those that share to the holders that have room. only: no other has room for the first of them.

        Returns whether some are to travel alone now, as their worker has got a lease since they came.
        """
        sharing = self._queue.sharing
        cost, sent = math.inf, self._metrics.at(now)
        found_alone = False
        while sharing.count:
            request = sharing.peek(now)
            if request is None:
                break
            if now >= request.half_time and self._is_late(now, request, actions):
                continue
            if request.worker.leases:
                sharing.remove(request)
                request.shares = False
                self._queue.alone.push(request)
                found_alone = True
                continue
            if request.cost < cost < math.inf:
                only = None
            cost = request.cost
            holder = self.scheduler.join(now, request, only)
            if holder is None:
                break
            sharing.serve(request)
            request.sent = sent
            self._fleet.send(now, holder, request, actions)
        return found_alone

    def finished(
        self, now: float, holder: Holder, incarnation: int, request: Request, *, touched: bool
    ) -> list[Action]:
        """The request has been answered and the backend is quiet. touched: it may have left something behind; on a
        lease: it left the session inside a transaction."""
        actions: list[Action] = []
        if self._fleet.is_stale(holder, incarnation) or request not in holder.flight:
            return actions
        self._metrics.finished(now, request)
        self.came_back(now, holder, request)
        if request.kind is Kind.LEASE:
            self._tested(now, holder, request, actions)
        elif request.lease is not None:
            self._leasing.finished(now, request.lease, touched, actions)
        elif (touched or request.kind is Kind.SESSION) and not self._fleet.is_due_to_retire(now, holder):
            holder.apply(HolderEvent.RELEASE, now)
            actions.append(Reset(holder))
        else:
            self.drained(now, holder, actions)
        return actions

    def _tested(self, now: float, holder: Holder, request: Request, actions: list[Action]) -> None:
        """The holder is alive: whoever asked for it as a lease has it, if it still wants it."""
        holder.leased = False
        holder.uses -= 1  # it was none of a worker's
        if request.answered or self._fleet.is_due_to_retire(now, holder):
            if not request.answered:
                self.wait_again(now, request)
            self.drained(now, holder, actions)
        else:
            holder.apply(HolderEvent.DRAINED, now)
            self._leasing.grant(now, holder, request, actions)
            self.move_on(now, actions)

    def diverted(self, now: float, holder: Holder, incarnation: int, request: Request) -> list[Action]:
        """The statement lane cannot run the request, and has not: asyncpg is to."""
        actions: list[Action] = []
        if self._fleet.is_stale(holder, incarnation) or request not in holder.flight:
            return actions
        request.work = None
        if not request.shares:  # it is alone there
            if request.answered:  # it was withdrawn
                return self.finished(now, holder, incarnation, request, touched=False)
            actions.append(Run(holder, request))
            return actions
        self.came_back(now, holder, request)
        request.shares = False
        if not request.answered:
            self.wait_again(now, request)
        if not holder.flight:
            self.drained(now, holder, actions)
        else:
            self.move_on(now, actions)
        return actions

    def late(self, now: float, request: Request, actions: list[Action]) -> None:
        """The request's time is over: its time to wait, or its own."""
        error: PgactorError
        if request.lease is None and (request.holder is None or request.kind is Kind.LEASE):
            self._counters["refused_pool_timeout"] += 1
            error = report.pool_timeout(self._fleet, len(self._queue), now, request)
        else:
            self._counters["requests_timed_out"] += 1
            error = RequestTimeout(
                f"the statement was cancelled after {now - request.since:.2f} s, the end of its timeout; give it a "
                "longer one (timeout=...) or make it faster"
            )
        self._desk.withdraw(request, error, actions)

    def wait_again(self, now: float, request: Request) -> None:
        """The request was sent and did not begin: it waits for another holder."""
        self._fleet.winding_down = False  # a drain runs it yet
        self._desk.wait(now, request)

    def refuse_unavailable(self, now: float, request: Request, actions: list[Action]) -> None:
        """There is no connection, nor will there be one soon."""
        self._counters["refused_database_unavailable"] += 1
        self._desk.refuse(request, report.unavailable(self._fleet, now), actions)

    def _deal(self, now: float, actions: list[Action]) -> None:
        """Give idle holders to those that travel alone, as far as they may have them."""
        leases, alone = self._queue.leases, self._queue.alone
        while (leases.count or alone.count) and len(self.scheduler):
            for waiting in (leases, alone):
                if not waiting.count:
                    continue
                request = waiting.peek(now)
                assert request is not None  # noqa: S101  # of these, none is parked
                if self._is_late(now, request, actions):
                    break
                if self.may_go(now, request):
                    waiting.serve(request)
                    request.sent = self._metrics.at(now)
                    self.assign(now, request, actions)
                    break
            else:
                return

    def _end_deadlock(self, now: float, actions: list[Action]) -> None:
        """Refuse who waits for a lease in vain, as all that there may be are held by such."""
        table = self._leasing.table
        spare = len(table) - self._fleet.settings.max_size
        while spare >= 0 and self._queue.leases.count:
            request = to_refuse(table.living(), spare, now)
            if request is None:
                return
            self._counters["refused_deadlock"] += 1
            self._desk.withdraw(request, report.deadlock(self._fleet, len(self._queue), now), actions)

    def _is_late(self, now: float, request: Request, actions: list[Action]) -> bool:
        """Whether the time of a request that waits is over, and only the timer is late; then it is refused."""
        if request.queue_deadline is None or now < request.queue_deadline:
            return False
        self.late(now, request, actions)
        return True

    def _look_ahead(self, now: float) -> None:
        """Some wait to travel alone: claim holders for them, as far as they may have them, and look again in time."""
        scheduler, holders = self.scheduler, self._fleet.holders
        if len(scheduler):
            again = scheduler.may_take_at(now)
        else:
            while (claimed := scheduler.claim(now, holders, self._queue)) is not None:
                self.claim(now, claimed)
            again = scheduler.claim_again_at(now, holders)
        if again < math.inf and (again < self._look_again_at or scheduler not in self._deadlines):
            self._look_again_at = again
            self._deadlines.set(scheduler, again)
