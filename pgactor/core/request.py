"""A request: what one worker asked for, from its arrival to its one answer."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .holder import Holder
    from .lease import Lease
    from .roster import Worker


class Kind(Enum):
    """What a request needs of a backend."""

    STATEMENT = auto()
    """One statement that leaves nothing in the session: a holder, for as long as it runs."""
    SESSION = auto()
    """One statement that may leave something in the session: a holder, which is reset afterwards."""
    LEASE = auto()
    """Exclusive use of a holder, until the lease ends."""


class Request:
    """What one worker asked for.

    deadline: when the worker stops waiting for an answer (None: never). queue_deadline: when it stops waiting
    for a backend. payload: the message, which the brain carries and does not read. answered: its one answer has
    been decided. ttl: of the lease it asks for. lease: the one it runs on. holder: the one that it runs on now.
    """

    __slots__ = (
        "answered",
        "deadline",
        "holder",
        "id",
        "kind",
        "lease",
        "payload",
        "queue_deadline",
        "since",
        "statement",
        "ttl",
        "worker",
    )

    def __init__(
        self,
        worker: Worker,
        id: int,
        kind: Kind,
        *,
        now: float,
        statement: str = "",
        payload: Any = None,
        deadline: float | None = None,
        queue_deadline: float | None = None,
        ttl: float = 0.0,
    ) -> None:
        self.worker = worker
        self.id = id
        self.kind = kind
        self.statement = statement
        self.payload = payload
        self.since = now
        self.deadline = deadline
        self.queue_deadline = queue_deadline
        self.ttl = ttl
        self.answered = False
        self.holder: Holder | None = None
        self.lease: Lease | None = None

    def __repr__(self) -> str:
        return f"<Request {self.id} of {self.worker} {self.kind.name} {self.statement[:40]!r}>"
