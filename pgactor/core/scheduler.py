"""Which holder takes the next request.

*Who may share.* A statement that the statement lane runs, that is known to be short (its moving average is below
`pipeline_short_seconds`), and whose worker holds no lease: PostgreSQL could not see the deadlock of a lease that
waits, by way of its worker, for a statement behind one that waits for the lease's locks. Everything else travels
alone: leases, what asyncpg runs, a statement that is slow or has never run.

*Who stands behind whom.* Statements that share gather on the backends that are awake, one backend after the other,
until it has `pipeline_depth` of them or GATHERED_SECONDS of work; only then another is woken. Measured with look-ups
of 4 workers x 32: one backend carries 63 000 a second, two 77 000, eight 63 000, since to wake a sleeping process
costs more than to wait for a statement of 20 us; and what is written at once is read at once. Nobody is sent behind a
statement that may wait for locks, before it has come back, nor behind one that has been the first for more than
`pipeline_stall_seconds`: followers of a slow one would wait as long as it does.

*Idle ones: the last idle first*, as in asyncpg.Pool, so that connections that are not needed stay idle long enough to
be closed.

*Fair shares.* While statements that share are coming, those that travel alone hold no more than `lease_share` of the
backends that are there (at least one, and all but one at most); the rest carries the pipelines. Otherwise they may
hold all. Those that wait alone claim a backend that others share, up to the same share: it takes no newcomers
(DRAINING) and is theirs when it has come to rest. Where there is only one backend for both, they take turns.
"""

from __future__ import annotations

from ..config import PoolSettings
from .holder import Holder, HolderState
from .request import Request

GATHERED_SECONDS = 1e-3
"""How much work may be gathered on a backend before another is woken; where none is idle, requests wait."""

STILL_COMING_SECONDS = 0.05
"""For how long after the last one statements that share count as coming."""

_STALLED_FOR_SURE = 0.001
"""A time that has come must not be taken for one that has not, again and again: sums of floats are rounded."""

_ABSENT = (HolderState.VACANT, HolderState.OPENING, HolderState.CLOSING)
_ALONE = (HolderState.LEASED, HolderState.RESETTING)


class Scheduler:
    """The idle holders and those that carry pipelines."""

    def __init__(self, settings: PoolSettings) -> None:
        self._idle: dict[Holder, None] = {}  # a stack from which any holder can be removed
        self._sharing: dict[Holder, None] = {}  # which newcomers may join, but for being full or stalled
        self._current: Holder | None = None  # where the last one went
        self._depth = settings.pipeline_depth
        self._stall = settings.pipeline_stall_seconds
        self._lease_share = settings.lease_share
        self._last_shared = -STILL_COMING_SECONDS
        self._alone_was_last = False

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._idle)

    def put(self, holder: Holder) -> None:
        """The holder is idle."""
        self._idle[holder] = None

    def take(self) -> Holder:
        """Take the idle holder for a request that travels alone. Raises `KeyError` when none is idle."""
        self._alone_was_last = True
        return self._idle.popitem()[0]

    def remove(self, holder: Holder) -> None:
        """The holder is idle no more."""
        del self._idle[holder]

    def snapshot(self) -> list[Holder]:
        """The idle holders, the longest idle first."""
        return list(self._idle)

    # --- those that share ---------------------------------------------------------------------------------

    def join(self, now: float, request: Request, only: Holder | None = None) -> Holder | None:
        """The holder for a request that may share: one that is awake, else an idle one; None if there is no room.
        only: the one holder that can have room."""
        self._last_shared = now
        if only is not None:
            return only if self._has_room(now, only, request) else None
        holder = self._current
        if holder is not None and self._has_room(now, holder, request):
            return holder
        for holder in self._sharing:
            if self._has_room(now, holder, request):
                self._current = holder
                return holder
        if not self._idle:
            return None
        self._alone_was_last = False
        return self._idle.popitem()[0]

    def sent(self, now: float, holder: Holder, request: Request) -> None:
        """The request was sent to the holder."""
        flight = holder.flight
        if not flight:
            holder.head_since = now
        flight[request] = None
        holder.load += request.cost
        if not request.shares:
            return
        statement = request.statement
        if statement is not None and statement.may_lock:
            self.close(holder)
        elif not holder.newcomers and holder.state is HolderState.BUSY and len(flight) == 1:
            holder.newcomers = True
            self._sharing[holder] = None
            self._current = holder

    def came_back(self, now: float, holder: Holder, request: Request) -> None:
        """The request has left the backend."""
        flight = holder.flight
        del flight[request]
        request.holder = None
        if flight:
            holder.load -= request.cost
            holder.head_since = now
        else:
            holder.load = 0.0
            if holder.newcomers:
                self.close(holder)

    def close(self, holder: Holder) -> None:
        """Nobody is to join the holder."""
        holder.newcomers = False
        self._sharing.pop(holder, None)
        if self._current is holder:
            self._current = None

    def _has_room(self, now: float, holder: Holder, request: Request) -> bool:
        return (
            holder.newcomers
            and len(holder.flight) < self._depth
            and holder.load + request.cost <= GATHERED_SECONDS
            and not self._is_stalled(now, holder)
        )

    def _is_stalled(self, now: float, holder: Holder) -> bool:
        return now - holder.head_since > self._stall

    # --- fair shares --------------------------------------------------------------------------------------

    def alone_may_take(self, now: float, holders: list[Holder], sharing: int) -> bool:
        """Whether a request that travels alone may have an idle holder now. sharing: how many of the others wait."""
        if not sharing and now >= self.still_coming_until():
            return True
        alone, limit, present = self._shares(holders)
        if present == 1:
            return not (sharing and self._alone_was_last)
        return alone < limit

    def still_coming_until(self) -> float:
        """When, without another one, statements that share count as coming no more."""
        return self._last_shared + STILL_COMING_SECONDS

    def claim(self, now: float, holders: list[Holder], waiting: int) -> Holder | None:
        """The holder that is to drain for one of so many requests that wait to travel alone, if one may."""
        if not self._sharing:
            return None
        draining = [holder for holder in holders if holder.state is HolderState.DRAINING]
        coming = sum(not self._is_stalled(now, holder) for holder in draining)  # the others may be long in coming
        alone, limit, _ = self._shares(holders)
        if coming >= waiting or len(draining) + alone >= limit:
            return None
        return min(self._sharing, key=lambda holder: (self._is_stalled(now, holder), holder.load))

    def claim_again_at(self, now: float, holders: list[Holder]) -> float | None:
        """When a holder that drains now will be stalled if nothing comes back from it; None: none of them will."""
        times = [
            holder.head_since + self._stall + _STALLED_FOR_SURE
            for holder in holders
            if holder.state is HolderState.DRAINING and not self._is_stalled(now, holder)
        ]
        return min(times, default=None)

    def _shares(self, holders: list[Holder]) -> tuple[int, int, int]:
        """How many holders work for one request or lease alone, or are getting ready after it; how many may, while
        others are coming; and how many there are."""
        alone = present = 0
        for holder in holders:
            state = holder.state
            if state in _ABSENT:
                continue
            present += 1
            head = holder.head
            alone += state in _ALONE or (head is not None and not head.shares)
        return alone, max(1, min(int(present * self._lease_share), present - 1)), present
