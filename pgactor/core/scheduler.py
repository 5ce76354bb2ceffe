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

*Fair shares.* Backends are counted that are there. Three kinds want them: leases, statements that travel alone, and
those that share. Whoever finds no idle one but may have one claims a backend that others share: it takes no newcomers
(DRAINING) and is dealt out when it has come to rest.

1. Leases are held for long. While statements are coming (some wait, or one that shares came a moment ago) they hold
   no more than `lease_share` of the backends: at least one, and all but one at most. Otherwise they may hold all.
2. Statements that travel alone may have any backend. So leases can keep none of them waiting, and below their limit
   they are served first, so that statements cannot keep a lease waiting either.
3. While statements that share are coming, the last backend that is left to them is used by turns: they have it for as
   long as they were kept waiting before (TURN_SECONDS at most) and go on coming, then those that travel alone.
4. Where there is only one backend, leases and statements that travel alone take turns, too.
"""

from __future__ import annotations

import math

from ..config.pool import PoolSettings
from .holder import Holder, HolderState
from .pace import Pace
from .request import Kind, Request
from .waitqueue import WaitQueue
from .window import Window

GATHERED_SECONDS = 1e-3
"""How much work may be gathered on a backend before another is woken; where none is idle, requests wait."""

STILL_COMING_SECONDS = 0.05
"""For how long after the last one statements that share count as coming."""

TURN_SECONDS = 0.25
"""How long those that share may keep the last backend, while others wait for it."""

PAUSE_SECONDS = 0.005
"""They give it up sooner, when for so long none of them has come."""

OPENING_SECONDS = 1.0
"""For how long a connection that is being opened is taken for one that soon will be."""

_ABSENT = (HolderState.VACANT, HolderState.OPENING, HolderState.CLOSING)


class Scheduler:
    """The idle holders and those that carry pipelines. pace: by which a stall is judged,
    too. window: of each worker."""

    def __init__(self, settings: PoolSettings) -> None:
        self._idle: dict[Holder, None] = {}  # a stack from which any holder can be removed
        self._sharing: dict[Holder, None] = {}  # which newcomers may join, but for being full or stalled
        self._current: Holder | None = None  # where the last one went
        self._depth = settings.pipeline_depth
        self._stall = settings.pipeline_stall_seconds
        self.pace = Pace()
        self.window = Window(settings.most_in_flight)
        self._lease_share = settings.lease_share
        self._last_shared = -math.inf
        self._alone_was_last = False  # to have the last backend, before those that share
        self._kept_waiting_since = math.inf  # those that share, by whoever had the last backend
        self._turn_ends = -math.inf  # of those that share
        self._lease_was_last = False

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._idle)

    def put(self, holder: Holder) -> None:
        """The holder is idle."""
        self._idle[holder] = None

    def take(self, request: Request, holders: list[Holder]) -> Holder:
        """Take the idle holder for a request that travels alone. Raises `KeyError` when none is idle."""
        taken = self._idle.popitem()[0]
        self._lease_was_last = request.kind is Kind.LEASE
        if not (self._idle or self._sharing or any(holder.head and holder.head.shares for holder in holders)):
            self._alone_was_last = True
        return taken

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
            if self._alone_was_last and now < self._kept_waiting_since:
                self._kept_waiting_since = now
            return None
        if self._alone_was_last:
            self._alone_was_last = False
            self._turn_ends = now + min(now - self._kept_waiting_since, TURN_SECONDS)
            self._kept_waiting_since = math.inf
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
        self.window.went_out(request)
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
            and now - holder.head_since <= self._stall * self.pace.slowdown
        )

    # --- fair shares --------------------------------------------------------------------------------------

    def may_take(self, now: float, request: Request, holders: list[Holder], queue: WaitQueue) -> bool:
        """Whether the request, which travels alone, may have a holder that is idle now."""
        sharing = queue.sharing.count > 0 or now < self.still_coming_until()
        if request.kind is Kind.LEASE and (sharing or queue.alone.count):
            present, _, leased = _count(holders)
            if leased >= self._most_leases(present) or (present == 1 and queue.alone.count and self._lease_was_last):
                return False
        if not sharing:
            return True
        present, alone, _ = _count(holders)
        if present - alone > 1:
            return True
        return now >= self._given_up_at() and not (queue.sharing.count and self._alone_was_last)

    def may_take_at(self, now: float) -> float:
        """When somebody who may not have an idle holder now perhaps may, if nothing happens until then."""
        given_up_at = self._given_up_at()
        return given_up_at if now < given_up_at else self.still_coming_until()

    def _given_up_at(self) -> float:
        """When those that share give up the last backend, if it is idle."""
        return min(self._turn_ends, self._last_shared + PAUSE_SECONDS)

    def still_coming_until(self) -> float:
        """When, without another one, statements that share count as coming no more."""
        return self._last_shared + STILL_COMING_SECONDS

    def claim(self, now: float, holders: list[Holder], queue: WaitQueue) -> Holder | None:
        """The holder that is to drain for those that wait to travel alone; None: no other one is to."""
        if not self._sharing:
            return None
        present, alone, leased = _count(holders)
        draining = sum(holder.state is HolderState.DRAINING for holder in holders)
        coming = sum(now < self._late_at(holder) for holder in holders)
        wanted = queue.alone.count + min(queue.leases.count, max(0, self._most_leases(present) - leased))
        if coming >= wanted or (present - alone - draining == 1 and now < self._turn_ends):
            return None
        return min(
            self._sharing,
            key=lambda holder: (now - holder.head_since > self._stall * self.pace.slowdown, holder.load),
        )

    def claim_again_at(self, now: float, holders: list[Holder]) -> float:
        """When another holder is to be claimed, perhaps, if nothing happens until then."""
        if not self._sharing:
            return math.inf
        times = (*(self._late_at(holder) for holder in holders), self._turn_ends)
        return min((time for time in times if now < time), default=math.inf)

    def _late_at(self, holder: Holder) -> float:
        """Until when the holder, if it is on its way to be idle, is expected to be soon."""
        if holder.state is HolderState.DRAINING:
            return holder.head_since + self._stall * self.pace.slowdown
        return holder.since + OPENING_SECONDS if holder.state is HolderState.OPENING else -math.inf

    def _most_leases(self, present: int) -> int:
        """How many of so many holders leases may have while statements are coming."""
        return max(1, min(int(present * self._lease_share), present - 1))


def _count(holders: list[Holder]) -> tuple[int, int, int]:
    """How many holders there are; how many of them work for one request or lease alone, or are getting ready after
    it; how many of these for leases."""
    present = alone = leased = 0
    for holder in holders:
        state = holder.state
        if state in _ABSENT:
            continue
        present += 1
        head = holder.head
        if holder.leased:
            alone += 1
            leased += 1
        elif state is HolderState.RESETTING or (head is not None and not head.shares):
            alone += 1
    return present, alone, leased
