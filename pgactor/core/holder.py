"""A holder: one slot of the pool, vacant or with a backend (one PostgreSQL session).

TRANSITIONS is the whole life of a holder. A pair that is not listed is a bug: it raises, and moves nothing.

    VACANT -open> OPENING -opened> IDLE -run> BUSY (1..depth in flight) -drained> IDLE
                                              BUSY -claim> DRAINING (no newcomers) -drained> IDLE
                                   IDLE -grant> LEASED -release> RESETTING -reset_done> IDLE
                                                LEASED -return> IDLE        (nothing was left behind)
                                   BUSY | DRAINING -release> RESETTING        (it may have touched the session)
     OPENING | IDLE | LEASED | RESETTING -retire> CLOSING -closed> VACANT
     any but VACANT -gone> VACANT                                             (the backend died)

Without DRAINING a backend that is always fed would never be free: for a lease, for a statement that travels alone, or
to be retired.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lease import Lease
    from .request import Request
    from .statement import Statement


class HolderState(StrEnum):
    """Where a holder is in its life."""

    VACANT = "vacant"
    OPENING = "opening"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    LEASED = "leased"
    RESETTING = "resetting"
    CLOSING = "closing"


class HolderEvent(StrEnum):
    """What can happen to a holder."""

    OPEN = "open"
    OPENED = "opened"
    RUN = "run"
    CLAIM = "claim"
    DRAINED = "drained"
    GRANT = "grant"
    RELEASE = "release"
    RETURN = "return"
    RESET_DONE = "reset_done"
    RETIRE = "retire"
    CLOSED = "closed"
    GONE = "gone"


_S, _E = HolderState, HolderEvent

TRANSITIONS: dict[tuple[HolderState, HolderEvent], HolderState] = {
    (_S.VACANT, _E.OPEN): _S.OPENING,
    (_S.OPENING, _E.OPENED): _S.IDLE,
    (_S.IDLE, _E.RUN): _S.BUSY,
    (_S.BUSY, _E.CLAIM): _S.DRAINING,
    (_S.BUSY, _E.DRAINED): _S.IDLE,
    (_S.DRAINING, _E.DRAINED): _S.IDLE,
    (_S.BUSY, _E.RELEASE): _S.RESETTING,
    (_S.DRAINING, _E.RELEASE): _S.RESETTING,
    (_S.IDLE, _E.GRANT): _S.LEASED,
    (_S.LEASED, _E.RELEASE): _S.RESETTING,
    (_S.LEASED, _E.RETURN): _S.IDLE,
    (_S.RESETTING, _E.RESET_DONE): _S.IDLE,
    **{(state, _E.RETIRE): _S.CLOSING for state in (_S.OPENING, _S.IDLE, _S.LEASED, _S.RESETTING)},
    (_S.CLOSING, _E.CLOSED): _S.VACANT,
    **{(state, _E.GONE): _S.VACANT for state in _S if state is not _S.VACANT},
}


class InvalidTransition(RuntimeError):
    """An event that cannot happen in the holder's state; nothing was changed."""


class Holder:
    """One slot of the pool.

    incarnation: which of its backends it has, or had; what is said of another one is out of date.
    generation: the pool's when the backend was opened. uses: how many requests the backend has served.
    flight: the requests that were sent to the backend and have not come back, in the order of their sending. load:
    how many seconds they are expected to take together. head_since: when the first of them had nobody before it any
    more. newcomers: whether others may be sent behind them. lease: whose exclusive use it is in. leased: it is in
    somebody's, or being made ready again after that.
    """

    __slots__ = (
        "backend_pid",
        "flight",
        "generation",
        "head_since",
        "incarnation",
        "last_statement",
        "lease",
        "leased",
        "load",
        "newcomers",
        "number",
        "retire_at",
        "since",
        "state",
        "uses",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = HolderState.VACANT
        self.incarnation = 0
        self.generation = 0
        self.since = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget the backend."""
        self.uses = 0
        self.retire_at: float | None = None
        self.backend_pid = 0
        self.last_statement: Statement | None = None
        self.flight: dict[Request, None] = {}
        self.load = 0.0
        self.head_since = 0.0
        self.newcomers = False
        self.lease: Lease | None = None
        self.leased = False

    def __repr__(self) -> str:
        return f"<Holder {self.number} {self.state} incarnation={self.incarnation} uses={self.uses}>"

    @property
    def head(self) -> Request | None:
        """The request that the backend works on."""
        return next(iter(self.flight), None)

    def apply(self, event: HolderEvent, now: float) -> None:
        """Move along TRANSITIONS; raises `InvalidTransition` and moves nothing for a pair not in it."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise InvalidTransition(f"holder {self.number} is {self.state}: {event} cannot happen")
        self.state = state
        self.since = now
