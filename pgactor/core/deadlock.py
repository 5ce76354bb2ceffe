"""Deadlock: all leases that there may be are held by those who wait for another one.

A worker says with each request for a lease which of its leases it holds for as long as that is not answered: those
whose `with` block the code that asks is inside of. Such a lease is *stuck* until its holder has its answer, whatever
other threads and tasks of the worker do. A lease of which nobody says so is not: any task may release it.

So there is a deadlock if and only if as many leases are stuck as there may be connections. The request that came last
is refused then, and what its caller gives back serves the others.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..messages import Token
from .lease import Lease
from .request import Request


def hold_up(request: Request, tokens: Iterable[Token]) -> None:
    """The request has come, and its worker holds these leases until it is answered. Of others' it cannot say so; of
    several requests that say so of one lease, the last counts."""
    leases = request.worker.leases
    for token in tokens:
        lease = leases.get(token.fence)
        if lease is not None and lease.token == token:
            lease.awaits = request


def is_stuck(lease: Lease, now: float) -> bool:
    """Whether the lease's holder waits for another one."""
    request = lease.awaits
    return request is not None and not request.answered and request.holder is None and now < lease.expires_at


def to_refuse(leases: Iterable[Lease], spare: int, now: float) -> Request | None:
    """The request that is to be refused, if there is a deadlock. spare: how many more leases there are than there may
    be, as in a pool that was made smaller: so many may be not stuck."""
    last: Request | None = None
    for lease in leases:
        request = lease.awaits
        if request is None or not is_stuck(lease, now):
            spare -= 1
            if spare < 0:
                return None
        elif last is None or request.since >= last.since:
            last = request
    return last
