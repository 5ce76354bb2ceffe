"""What the brain wants done. Whoever carries an action out reports back with the holder's incarnation."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PgactorError
from .holder import Holder
from .lease import Lease
from .request import Request
from .roster import Worker


@dataclass(slots=True)
class Open:
    """Open a connection for the holder; report `opened` or `open_failed`."""

    holder: Holder


@dataclass(slots=True)
class Close:
    """Close the holder's connection, in good order if that is quick; report `closed`."""

    holder: Holder


@dataclass(slots=True)
class Reset:
    """Cancel what may still run, roll back, make the session new; report `reset_done` or `gone`."""

    holder: Holder


@dataclass(slots=True)
class Run:
    """Run the request on the holder; report `finished`, and give the result to `Pool.answer`."""

    holder: Holder
    request: Request


@dataclass(slots=True)
class Interrupt:
    """Cancel the request that runs on the holder; report `finished` when the backend is quiet, or `gone`."""

    holder: Holder
    request: Request


@dataclass(slots=True)
class Grant:
    """Answer the request with its lease. is_set_up: what is to be done first, if anything, has been."""

    request: Request
    lease: Lease
    is_set_up: bool = False


@dataclass(slots=True)
class Refuse:
    """Answer the request with an error."""

    request: Request
    error: Exception


@dataclass(slots=True)
class TellLeaseEnded:
    """Tell the owner that its lease has ended without its doing."""

    lease: Lease
    error: PgactorError


@dataclass(slots=True)
class ReportLease:
    """Tell the operator that the lease is held for very long."""

    lease: Lease


@dataclass(slots=True)
class Disconnect:
    """End the link of a worker that counts as lost."""

    worker: Worker
    reason: str


Action = Open | Close | Reset | Run | Interrupt | Grant | Refuse | TellLeaseEnded | ReportLease | Disconnect
