"""Leasing: every lease from its grant to its end, and the statements that run on it.

A lease that has left nothing in its session gives its backend back as it is: no statement ran on it that may have
left something (`Statement.keeps_clean`), none runs, and no transaction is open. After any other one the backend is
reset, which takes more time than many a transaction.
"""

from __future__ import annotations

from ..config.pool import PoolSettings
from ..errors import LeaseError, LeaseLost, OutcomeUnknown
from ..messages import Acquire, Token
from .actions import Action, Grant, ReportLease, Reset, TellLeaseEnded
from .deadlines import Deadlines
from .desk import Desk
from .fleet import Fleet
from .holder import Holder, HolderEvent
from .lease import Lease, LeaseBusy, LeaseTable
from .metrics import Metrics
from .report import in_one_line
from .request import Kind, Request
from .roster import Worker


class Leasing:
    """All leases. table: those that live."""

    def __init__(
        self,
        settings: PoolSettings,
        fleet: Fleet,
        desk: Desk,
        deadlines: Deadlines[object],
        counters: dict[str, int],
        metrics: Metrics,
        *,
        epoch: int,
    ) -> None:
        self.table = LeaseTable(epoch)
        self.max_hold = settings.max_hold_seconds
        self.warning = settings.lease_warning_seconds
        self._fleet = fleet
        self._desk = desk
        self._deadlines = deadlines
        self._counters = counters
        self._metrics = metrics

    def grant(self, now: float, holder: Holder, request: Request, actions: list[Action]) -> None:
        """Give an idle holder to whoever asks for a lease."""
        holder.apply(HolderEvent.GRANT, now)
        lease = self.table.grant(now, holder, request.worker, ttl=request.ttl, max_hold=self.max_hold)
        holder.lease = lease
        holder.leased = True
        holder.last_statement = None
        request.worker.leases[lease.token.fence] = lease
        if isinstance(request.payload, Acquire):
            lease.label, lease.where = in_one_line(request.payload.label), in_one_line(request.payload.where, 300)
            lease.traceparent = request.payload.traceparent[:55]
        if self.warning:
            lease.warn_at = now + self.warning
        self._look_again(lease)
        self._counters["leases_granted"] += 1
        self._metrics.granted(now, request)
        self._desk.answer(request)
        actions.append(Grant(request, lease))

    def heard(self, now: float, worker: Worker, tokens: list[Token]) -> None:
        """The worker holds these leases still."""
        for token in tokens:
            try:
                self.table.check(token, worker, now).renew(now)
            except LeaseError:
                continue  # it was told, or will be at the next use

    def still_held(self, now: float, lease: Lease, actions: list[Action]) -> None:
        """The lease's timer has come, and it has not expired."""
        if now >= lease.warn_at and not lease.reported:
            lease.reported = True
            self._counters["leases_held_long"] += 1
            actions.append(ReportLease(lease))
        self._look_again(lease)

    def _look_again(self, lease: Lease) -> None:
        self._deadlines.set(lease, lease.expires_at if lease.reported else min(lease.expires_at, lease.warn_at))

    def submit(self, now: float, request: Request, token: Token) -> list[Action]:
        """A statement for a lease's backend.

        Raises `LeaseExpired`, `LeaseLost`, `LeaseBusy` or `ProtocolError`; then the request is not known here.
        """
        lease = self.table.check(token, request.worker, now)
        if lease.next is not None or (lease.running is not None and not lease.running.answered):
            raise LeaseBusy
        self._desk.enrol(now, request)
        lease.renew(now)
        request.lease = lease
        actions: list[Action] = []
        if lease.running is None:
            self._run(now, lease, request, actions)
        else:  # its predecessor is being cancelled
            lease.next = request
            if request.deadline is not None:
                self._deadlines.set(request, request.deadline)
        return actions

    def _run(self, now: float, lease: Lease, request: Request, actions: list[Action]) -> None:
        lease.running = request
        if request.kind is not Kind.STATEMENT or request.statement is None:
            lease.touched = True
        self._fleet.send(now, lease.holder, request, actions)

    def finished(self, now: float, lease: Lease, in_transaction: bool, actions: list[Action]) -> None:
        """The lease's statement has come back. in_transaction: the session is inside a transaction."""
        lease.running = None
        lease.in_transaction = in_transaction
        if (following := lease.next) is not None:
            lease.next = None
            self._run(now, lease, following, actions)

    def release(self, now: float, worker: Worker, token: Token, actions: list[Action]) -> None:
        """The owner gives its lease back. A token that names no lease of this worker is ignored."""
        try:
            lease = self.table.check(token, worker, now)
        except LeaseError:
            return
        self.end(now, lease, LeaseLost(f"lease {token} has been released"), actions, tell=False)

    def end(self, now: float, lease: Lease, reason: LeaseError, actions: list[Action], *, tell: bool = True) -> None:
        """End the lease; its backend, if it is not gone already, is idle again, or reset or closed."""
        self.table.end(lease, reason)
        self._metrics.ended(now, lease.granted_at)
        lease.worker.leases.pop(lease.token.fence, None)
        self._deadlines.cancel(lease)
        if lease.running is not None:
            unknown = f"the lease ended while the statement ran, which may have taken effect: {reason}"
            self._desk.refuse(lease.running, OutcomeUnknown(unknown), actions)
        if lease.next is not None:
            self._desk.refuse(lease.next, reason, actions)
            lease.next = None
        if tell:
            actions.append(TellLeaseEnded(lease, reason))
        holder = lease.holder
        if holder.lease is not lease:
            return
        holder.lease = None
        if self._fleet.is_due_to_retire(now, holder):
            self._fleet.retire(now, holder, actions)
        elif lease.is_clean:
            self._counters["leases_returned_clean"] += 1
            holder.leased = False
            holder.apply(HolderEvent.RETURN, now)
            self._fleet.settle(now, holder, actions)
        else:
            holder.apply(HolderEvent.RELEASE, now)
            actions.append(Reset(holder))
