"""Connecting: what becomes of the holders' connections, as the hands report it."""

from __future__ import annotations

from ..errors import LeaseLost, OutcomeUnknown
from .actions import Action
from .dealing import Dealing
from .desk import Desk
from .fleet import Fleet
from .holder import Holder, HolderEvent, HolderState
from .leasing import Leasing
from .request import Kind, Request


class Connecting:
    """Every connection from its opening to its end. What is said of an earlier incarnation is ignored."""

    def __init__(
        self, fleet: Fleet, desk: Desk, leasing: Leasing, dealing: Dealing, counters: dict[str, int]
    ) -> None:
        self._fleet = fleet
        self._desk = desk
        self._leasing = leasing
        self._dealing = dealing
        self._counters = counters

    def opened(self, now: float, holder: Holder, incarnation: int, backend_pid: int) -> list[Action]:
        """The holder's connection is open."""
        actions: list[Action] = []
        if not self._fleet.is_stale(holder, incarnation) and holder.state is HolderState.OPENING:
            self._counters["connections_opened"] += 1
            self._fleet.opened(now, holder, backend_pid)
            self._dealing.settle(now, holder, actions)
        return actions

    def open_failed(
        self, now: float, holder: Holder, incarnation: int, error: str, *, permanent: bool
    ) -> list[Action]:
        """The holder's connection could not be opened. permanent: waiting will not help (a wrong password)."""
        actions: list[Action] = []
        if self._fleet.is_stale(holder, incarnation) or holder.state is not HolderState.OPENING:
            return self.closed(now, holder, incarnation)
        self._counters["connections_failed"] += 1
        self._fleet.opener.failed(now, error)
        self._fleet.vacate(now, holder, HolderEvent.GONE)
        grace_is_over = self._fleet.opener.failing_for(now) >= self._fleet.settings.database_grace_seconds
        if not self._fleet.alive and (permanent or grace_is_over) and not self._desk.paused:
            for request in self._desk.queue.clear():
                self._dealing.refuse_unavailable(now, request, actions)
        self._dealing.move_on(now, actions)
        return actions

    def reset_done(self, now: float, holder: Holder, incarnation: int) -> list[Action]:
        """The holder's session is as new."""
        actions: list[Action] = []
        if not self._fleet.is_stale(holder, incarnation) and holder.state is HolderState.RESETTING:
            holder.leased = False
            holder.apply(HolderEvent.RESET_DONE, now)
            self._dealing.settle(now, holder, actions)
        return actions

    def closed(self, now: float, holder: Holder, incarnation: int) -> list[Action]:
        """The holder's connection is closed, as was asked."""
        actions: list[Action] = []
        if not self._fleet.is_stale(holder, incarnation) and holder.state is HolderState.CLOSING:
            self._fleet.vacate(now, holder, HolderEvent.CLOSED)
            self._dealing.move_on(now, actions)
        return actions

    def unrun(self, now: float, holder: Holder, incarnation: int, request: Request) -> list[Action]:
        """The connection was lost before the request began; `gone` follows. It waits for another backend."""
        actions: list[Action] = []
        if self._fleet.is_stale(holder, incarnation) or request not in holder.flight or request.answered:
            return actions
        if request.lease is not None:
            lost = f"lease {request.lease.token} lost its connection to PostgreSQL before the statement began"
            self._desk.refuse(request, LeaseLost(lost), actions)
        else:
            self._dealing.came_back(now, holder, request)
            self._dealing.wait_again(now, request)
        return actions

    def gone(self, now: float, holder: Holder, incarnation: int, reason: str) -> list[Action]:
        """The holder's connection was lost, of itself or because it had to be cut."""
        if self._fleet.is_stale(holder, incarnation):
            return []
        if holder.state is HolderState.OPENING:
            return self.open_failed(now, holder, incarnation, reason, permanent=False)
        if holder.state is HolderState.CLOSING:
            return self.closed(now, holder, incarnation)
        actions: list[Action] = []
        self._counters["connections_lost"] += 1
        self._fleet.opener.died(now)
        flight, lease = holder.flight, holder.lease
        self._fleet.vacate(now, holder, HolderEvent.GONE)
        for request in flight:
            if request.kind is Kind.LEASE and not request.answered:  # the connection was being tested for it
                request.holder = None
                self._dealing.wait_again(now, request)
                continue
            unknown = f"the connection to PostgreSQL was lost while the statement ran: {reason}"
            self._desk.refuse(request, OutcomeUnknown(unknown), actions)
            request.holder = None
            self._dealing.landed(request)
        if lease is not None:
            lost = f"lease {lease.token} lost its connection to PostgreSQL: {reason}; acquire again"
            self._leasing.end(now, lease, LeaseLost(lost), actions)
        self._dealing.move_on(now, actions)
        return actions
