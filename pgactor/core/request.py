"""A request: what one worker asked for, from its arrival to its one answer."""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from .holder import Holder
    from .lease import Lease
    from .roster import Worker
    from .statement import Statement


class Kind(Enum):
    """What a request needs of a backend."""

    STATEMENT = auto()
    """Statements that leave nothing in the session: a holder, for as long as they run."""
    SESSION = auto()
    """Statements that may leave something in the session: a holder, which is reset afterwards."""
    LEASE = auto()
    """Exclusive use of a holder, until the lease ends."""


class Request(msgspec.Struct, eq=False):
    """What one worker asked for. (A msgspec.Struct is the cheapest object to make.)

    payload: the message, of which the brain reads only what it is to tell people. deadline: when the worker stops
    waiting for an answer (None: never). ttl: of the lease it asks for. work: what the statement lane needs to run it,
    which the brain does not read; None: asyncpg runs it. queue_deadline: when it stops waiting for a backend.
    half_time: when half of that time is used up, if it has had to wait. shares: it may be sent to a backend that
    works for others. cost: for how many seconds it is expected to keep a backend. answered: its one answer has been
    decided. holder: the one that it runs on now. lease: the one it runs on. sent: when its wait for a backend was
    over; 0.0: it did not wait. waited: for how many seconds it had waited in its worker before it came.
    """

    worker: Worker
    id: int
    kind: Kind
    since: float
    statement: Statement | None = None
    payload: Any = None
    deadline: float | None = None
    ttl: float = 0.0
    work: Any = None
    queue_deadline: float | None = None
    half_time: float = math.inf
    shares: bool = False
    cost: float = 0.0
    answered: bool = False
    holder: Holder | None = None
    lease: Lease | None = None
    sent: float = 0.0
    waited: float = 0.0

    def __repr__(self) -> str:
        sql = "" if self.statement is None else self.statement.sql
        return f"<Request {self.id} of {self.worker} {self.kind.name} {sql[:40]!r}>"
