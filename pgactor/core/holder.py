"""A holder: one slot of the pool, vacant or with a backend (one PostgreSQL session).

TRANSITIONS is the whole life of a holder. A pair that is not listed is a bug: it raises, and moves nothing.

    VACANT -open> OPENING -opened> IDLE -run> BUSY -drained> IDLE
                                   IDLE -grant> LEASED -release> RESETTING -reset_done> IDLE
                                                 BUSY -release> RESETTING     (it may have touched the session)
     OPENING | IDLE | BUSY | LEASED | RESETTING -retire> CLOSING -closed> VACANT    (busy: when its request has ended)
     any but VACANT -gone> VACANT                                             (the backend died)
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lease import Lease
    from .request import Request


class HolderState(StrEnum):
    """Where a holder is in its life."""

    VACANT = "vacant"
    OPENING = "opening"
    IDLE = "idle"
    BUSY = "busy"
    LEASED = "leased"
    RESETTING = "resetting"
    CLOSING = "closing"


class HolderEvent(StrEnum):
    """What can happen to a holder."""

    OPEN = "open"
    OPENED = "opened"
    RUN = "run"
    DRAINED = "drained"
    GRANT = "grant"
    RELEASE = "release"
    RESET_DONE = "reset_done"
    RETIRE = "retire"
    CLOSED = "closed"
    GONE = "gone"


_S, _E = HolderState, HolderEvent

TRANSITIONS: dict[tuple[HolderState, HolderEvent], HolderState] = {
    (_S.VACANT, _E.OPEN): _S.OPENING,
    (_S.OPENING, _E.OPENED): _S.IDLE,
    (_S.IDLE, _E.RUN): _S.BUSY,
    (_S.BUSY, _E.DRAINED): _S.IDLE,
    (_S.BUSY, _E.RELEASE): _S.RESETTING,
    (_S.IDLE, _E.GRANT): _S.LEASED,
    (_S.LEASED, _E.RELEASE): _S.RESETTING,
    (_S.RESETTING, _E.RESET_DONE): _S.IDLE,
    **{(state, _E.RETIRE): _S.CLOSING for state in (_S.OPENING, _S.IDLE, _S.BUSY, _S.LEASED, _S.RESETTING)},
    (_S.CLOSING, _E.CLOSED): _S.VACANT,
    **{(state, _E.GONE): _S.VACANT for state in _S if state is not _S.VACANT},
}


class InvalidTransition(RuntimeError):
    """An event that cannot happen in the holder's state; nothing was changed."""


class Holder:
    """One slot of the pool.

    incarnation: which of its backends it has, or had; what is said of another one is out of date.
    generation: the pool's when the backend was opened. uses: how many requests the backend has served.
    busy_with: the request that runs now. lease: whose exclusive use it is in.
    """

    __slots__ = (
        "backend_pid",
        "busy_with",
        "generation",
        "incarnation",
        "last_statement",
        "lease",
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
        self.last_statement = ""
        self.busy_with: Request | None = None
        self.lease: Lease | None = None

    def __repr__(self) -> str:
        return f"<Holder {self.number} {self.state} incarnation={self.incarnation} uses={self.uses}>"

    def apply(self, event: HolderEvent, now: float) -> None:
        """Move along TRANSITIONS; raises `InvalidTransition` and moves nothing for a pair not in it."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise InvalidTransition(f"holder {self.number} is {self.state}: {event} cannot happen")
        self.state = state
        self.since = now
