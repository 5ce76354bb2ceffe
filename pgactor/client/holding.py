"""A lease as its owner's side holds it, whatever shell is around it. No I/O."""

from __future__ import annotations

import os

from ..errors import LeaseExpired, LeaseLost
from ..messages import Granted, Token
from .callbacks import Callbacks
from .failures import interface_error
from .transaction import TransactionSteps


class Holding:
    """What is known of a lease here.

    token: what names it. ttl: seconds that it lives without a heartbeat. backend_pid: PostgreSQL's process.
    in_transaction: whether its backend is inside a transaction. lost: it has ended without its owner's doing.
    callbacks: its listeners. Its end is counted from when the last heartbeat was *sent*, so it ends here before it
    does in the supervisor.
    """

    def __init__(self, granted: Granted, asked_at: float) -> None:
        self.token: Token = granted.lease
        self.ttl = granted.ttl
        self.backend_pid = granted.backend_pid
        self.in_transaction = False
        self.outermost: TransactionSteps | None = None
        self.savepoints = 0
        self.released = False
        self.lost = False
        self.callbacks: Callbacks | None = None
        self._pid = os.getpid()
        self._expires_at = asked_at + granted.waited + granted.ttl
        self._end: BaseException | None = None

    def __repr__(self) -> str:
        state = "released" if self.released else "ended" if self._end is not None else "held"
        return f"<{type(self).__name__} {self.token} {state}>"

    def ended(self, error: BaseException) -> None:
        """The lease has ended without its owner's doing."""
        self._end = error
        self.lost = True

    def renewed(self, at: float) -> None:
        """A heartbeat for it was sent."""
        self._expires_at = at + self.ttl

    def require_held(self, method: str, now: float) -> None:
        """Raises what tells why the lease cannot be used any more."""
        if self.released:
            raise interface_error(f"cannot call Connection.{method}(): connection has been released back to the pool")
        if self._end is not None:
            raise self._end
        if self._pid != os.getpid():
            raise LeaseLost("the lease belongs to the parent of this process: acquire one of your own")
        if now >= self._expires_at:
            raise LeaseExpired(
                f"lease {self.token} was not renewed within its ttl of {self.ttl:g} s (was the process stopped or "
                "too busy?); it is rolled back: acquire again"
            )
