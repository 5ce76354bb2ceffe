"""Leases: exclusive use of a holder, named by a token.

A token is (epoch, holder, fence). The fence rises with each lease, so a token that has ended can never name the
holder's next life. Each use of a token is checked here, against all of it and against its owner.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from ..errors import LeaseError, LeaseExpired, LeaseLost
from ..messages import Token
from .holder import Holder
from .request import Request
from .roster import Worker

REMEMBERED = 4096
"""How many ended leases keep their reason, for a better error to whoever still holds the token."""


class LeaseBusy(Exception):
    """A statement runs on the lease already; a PostgreSQL session does one thing at a time."""


class Lease:
    """Exclusive use of a holder.

    ttl: seconds that it lives without a word of its owner; expires_at: when that ends. held_until: when it ends
    even so (max_hold). running: its statement that runs now; next: the one that came while that was being cancelled.
    touched: a statement may have left something in the session. in_transaction: the session is inside a transaction.
    awaits: the request that its owner waits for before it releases it, see deadlock.py. label, where, traceparent:
    for what, by which line of the owner's code and in which trace it was acquired, as far as that is known. warn_at:
    when it is to be reported as held for long; reported: it has been.
    """

    __slots__ = (
        "awaits",
        "expires_at",
        "granted_at",
        "held_until",
        "holder",
        "in_transaction",
        "label",
        "next",
        "reported",
        "running",
        "token",
        "touched",
        "traceparent",
        "ttl",
        "warn_at",
        "where",
        "worker",
    )

    def __init__(
        self,
        token: Token,
        holder: Holder,
        worker: Worker,
        *,
        now: float,
        ttl: float,
        held_until: float | None,
    ) -> None:
        self.token = token
        self.holder = holder
        self.worker = worker
        self.ttl = ttl
        self.granted_at = now
        self.held_until = held_until
        self.expires_at = 0.0
        self.running: Request | None = None
        self.next: Request | None = None
        self.touched = False
        self.in_transaction = False
        self.awaits: Request | None = None
        self.label = ""
        self.where = ""
        self.traceparent = ""
        self.warn_at = math.inf
        self.reported = False
        self.renew(now)

    def __repr__(self) -> str:
        return f"<Lease {self.token} of {self.worker}>"

    @property
    def is_clean(self) -> bool:
        """Whether the session is as it was granted."""
        return not (self.touched or self.in_transaction or self.running is not None)

    def renew(self, now: float) -> None:
        """The owner was heard."""
        self.expires_at = now + self.ttl
        if self.held_until is not None:
            self.expires_at = min(self.expires_at, self.held_until)


class LeaseTable:
    """The living leases, and why the last few ended."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._living: dict[int, Lease] = {}
        self._ended: dict[int, tuple[type[LeaseError], str]] = {}  # an error itself takes five times as much memory
        self._ended_order: deque[int] = deque()
        self._fence = 0

    def __len__(self) -> int:
        return len(self._living)

    def all(self) -> list[Lease]:
        """The living leases, the oldest first."""
        return list(self._living.values())

    def living(self) -> Iterable[Lease]:
        """The same, to be looked at while none begins or ends."""
        return self._living.values()

    def grant(
        self, now: float, holder: Holder, worker: Worker, *, ttl: float, max_hold: float | None = None
    ) -> Lease:
        """Make a lease of the holder, with a fence higher than all before it."""
        self._fence += 1
        token = Token(self.epoch, holder.number, self._fence)
        held_until = None if max_hold is None else now + max_hold
        lease = Lease(token, holder, worker, now=now, ttl=ttl, held_until=held_until)
        self._living[self._fence] = lease
        return lease

    def check(self, token: Token, worker: Worker, now: float) -> Lease:
        """The lease the token names, if the worker may use it now.

        Raises `LeaseExpired` or `LeaseLost`, and touches nothing.
        """
        if token.epoch != self.epoch:
            raise LeaseLost(
                "the lease was granted by an earlier life of the supervisor and ended with it; its transaction "
                "was rolled back: acquire again"
            )
        lease = self._living.get(token.fence)
        if lease is None or lease.token != token:
            if lease is None and (reason := self._ended.get(token.fence)) is not None:
                kind, text = reason
                raise kind(text)
            raise LeaseLost(f"there is no lease {token}; it has ended: acquire again")
        if lease.worker is not worker:
            raise LeaseLost(f"lease {token} belongs to another worker; a lease cannot be shared or inherited")
        if now >= lease.expires_at:
            raise expired(lease, now)
        return lease

    def end(self, lease: Lease, reason: LeaseError) -> None:
        """The lease has ended; whoever comes with its token is told the reason."""
        del self._living[lease.token.fence]
        self._ended[lease.token.fence] = type(reason), str(reason)
        self._ended_order.append(lease.token.fence)
        if len(self._ended_order) > REMEMBERED:
            del self._ended[self._ended_order.popleft()]


def expired(lease: Lease, now: float) -> LeaseExpired:
    """The error for a lease whose time has passed."""
    held = f"it was held for {now - lease.granted_at:.1f} s"
    if lease.held_until is not None and now >= lease.held_until:
        return LeaseExpired(f"lease {lease.token} ended at max_hold: {held}; it was rolled back: acquire again")
    return LeaseExpired(
        f"lease {lease.token} was not renewed within its ttl of {lease.ttl:g} s ({held}; was its process stopped "
        "or too busy to run?); it was rolled back: acquire again"
    )
