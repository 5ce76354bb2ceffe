"""The fleet: all holders, those that are idle or vacant, what is sent to them, and when one is opened or retired.

As in asyncpg.Pool: min_size is kept up, nothing is opened beyond max_size, and a backend is retired when it comes
back after max_queries requests, after its lifetime, or from an earlier generation; one that idles for too long is
retired where more than min_size are open. When max_size was lowered, those that are too many are retired, too.
"""

from __future__ import annotations

import math
from random import Random

from ..config.pool import PoolSettings
from .actions import Action, Close, Open, Run
from .deadlines import Deadlines
from .holder import Holder, HolderEvent, HolderState
from .opener import Opener
from .request import Request
from .scheduler import Scheduler


class Fleet:
    """All holders. winding_down: nothing more will be asked of them; each is retired as it comes back. elsewhere: how
    many of max_size another supervisor has, while one takes over from the other. shrinking: there are more than there
    may be yet."""

    def __init__(self, settings: PoolSettings, deadlines: Deadlines[object], random: Random) -> None:
        self.settings = settings
        self.generation = 0
        self.winding_down = False
        self.told: tuple[float, str, dict[str, object]] | None = None  # the state that errors tell, and since when
        self.elsewhere = 0
        self.shrinking = False
        self.holders = [Holder(number) for number in range(settings.max_size)]
        self.scheduler = Scheduler(settings)
        self.opener = Opener(
            at_once=settings.opens_at_once,
            backoff=settings.reopen_backoff_seconds,
            backoff_max=settings.reopen_backoff_max_seconds,
            random=random,
        )
        self._vacant = self.holders[::-1]
        self._warming = 0  # how many are to be there before the start is over
        self._is_first = False  # the one that is to show errors early
        self._deadlines = deadlines
        self._random = random

    def resize(self, now: float, max_size: int, min_size: int | None, actions: list[Action]) -> None:
        """Change the limits. Those that are too many are closed if they are idle or not open yet, else as they come
        back. Raises ValueError for limits that cannot be."""
        self.configure(now, self.settings.resized(max_size, min_size), actions)

    def configure(self, now: float, settings: PoolSettings, actions: list[Action]) -> None:
        """Go by other settings, as `resize` does by other limits."""
        self.settings = settings
        new = [Holder(number) for number in range(len(self.holders), settings.max_size)]
        self.holders += new
        self._vacant[:0] = new[::-1]
        self.lend(now, self.elsewhere, actions)

    def lend(self, now: float, elsewhere: int, actions: list[Action]) -> None:
        """Another supervisor has so many of max_size now. What is too many here for that is closed as by `resize`."""
        self.elsewhere = elsewhere
        self.shrinking = self.alive > self.limit
        if self.shrinking:
            for holder in self.holders:
                if holder.state is HolderState.OPENING and self.surplus > 0:
                    self.retire(now, holder, actions)
            for holder in self.scheduler.snapshot()[: max(0, self.surplus)]:
                self.scheduler.remove(holder)
                self.retire(now, holder, actions)

    @property
    def limit(self) -> int:
        """How many there may be here."""
        return max(0, self.settings.max_size - self.elsewhere)

    @property
    def surplus(self) -> int:
        """How many holders with a backend that stays, or is to, are too many."""
        closing = sum(holder.state is HolderState.CLOSING for holder in self.holders)
        return self.alive - closing - self.limit

    @property
    def alive(self) -> int:
        """How many holders have a backend, or are getting or losing one."""
        return len(self.holders) - len(self._vacant)

    @property
    def open(self) -> int:
        """How many holders have a backend that stays."""
        passing = (HolderState.VACANT, HolderState.OPENING, HolderState.CLOSING)
        return sum(holder.state not in passing for holder in self.holders)

    def is_stale(self, holder: Holder, incarnation: int) -> bool:
        """Whether what is said of this incarnation is out of date."""
        return holder.incarnation != incarnation or holder.state is HolderState.VACANT

    def refuses(self, now: float) -> bool:
        """Whether PostgreSQL has refused every connection for so long that waiting is in vain; a new attempt is worth
        waiting for."""
        return (
            self.opener.failures > 0
            and self.opener.failing_for(now) >= self.settings.database_grace_seconds
            and now < self.opener.not_before
            and not self.alive
        )

    def start(self) -> None:
        """From now on init_size connections are opened: one alone first, so that errors show early."""
        self._warming = self.settings.initial_size
        self._is_first = True

    def open_more(self, now: float, waiting: int, actions: list[Action]) -> None:
        """Open connections: as many as min_size and the waiting requests need, and as may be opened at once."""
        room = self.settings.max_size - self.elsewhere - self.alive
        if room <= 0 or (self._is_first and self.opener.opening):
            return
        least = max(self.settings.min_size, self._warming)
        needed = min(max(least - self.alive, waiting - self.opener.opening), 1 if self._is_first else room)
        while needed > 0 and self.opener.may_open(now):
            holder = self._vacant.pop()
            holder.apply(HolderEvent.OPEN, now)
            holder.incarnation += 1
            holder.generation = self.generation
            self.opener.started()
            actions.append(Open(holder))
            needed -= 1
        if needed > 0 and now < self.opener.not_before:
            self._deadlines.set(self.opener, self.opener.not_before)

    def send(self, now: float, holder: Holder, request: Request, actions: list[Action]) -> None:
        """Send the request to the holder: an idle one, one that others share, or its lease's."""
        if holder.state is HolderState.IDLE:
            holder.apply(HolderEvent.RUN, now)
        holder.uses += 1
        holder.last_statement = request.statement
        request.holder = holder
        self.scheduler.sent(now, holder, request)
        if request.deadline is not None and request.half_time == math.inf:
            self._deadlines.set(request, request.deadline)  # if it has waited, `tick` does so when that time is over
        actions.append(Run(holder, request))

    def opened(self, now: float, holder: Holder, backend_pid: int) -> None:
        """The holder has a new backend; it is to be settled next."""
        self.opener.succeeded()
        self._is_first = False
        holder.backend_pid = backend_pid
        if lifetime := self.settings.max_lifetime_seconds:
            holder.retire_at = now + lifetime * (1 - self.settings.max_lifetime_jitter * self._random.random())
        holder.apply(HolderEvent.OPENED, now)
        if self.open >= min(self._warming, self.settings.max_size):
            self._warming = 0

    def settle(self, now: float, holder: Holder, actions: list[Action]) -> None:
        """The holder is idle: keep it for the next request, or retire it."""
        if self.is_due_to_retire(now, holder):
            self.retire(now, holder, actions)
            return
        self.scheduler.put(holder)
        if holder not in self._deadlines:
            self.watch_age(now, holder)

    def is_due_to_retire(self, now: float, holder: Holder) -> bool:
        """Whether the holder's backend has served its time."""
        return (
            self.winding_down
            or holder.generation != self.generation
            or bool(self.settings.max_queries and holder.uses >= self.settings.max_queries)
            or (holder.retire_at is not None and now >= holder.retire_at)
            or (self.shrinking and self.surplus > 0)
        )

    def spoil(self, now: float, holder: Holder) -> None:
        """The holder's session is fit for nobody: retire it when it comes back."""
        holder.retire_at = now

    def retire(self, now: float, holder: Holder, actions: list[Action]) -> None:
        """Close the holder's backend. One that works cannot be retired before it has come to rest."""
        if holder.state is HolderState.OPENING:
            self.opener.abandoned()
        holder.apply(HolderEvent.RETIRE, now)
        actions.append(Close(holder))

    def retire_idle(self, now: float, actions: list[Action]) -> None:
        """Close every idle backend."""
        for holder in self.scheduler.snapshot():
            self.scheduler.remove(holder)
            self.retire(now, holder, actions)

    def wind_down(self, now: float, actions: list[Action]) -> None:
        """Retire every holder that works for nobody; the others are retired as they come back."""
        self.winding_down = True
        self.retire_idle(now, actions)
        for holder in self.holders:
            if holder.state in (HolderState.OPENING, HolderState.RESETTING):
                self.retire(now, holder, actions)

    def vacate(self, now: float, holder: Holder, event: HolderEvent) -> None:
        """The holder's backend is no more."""
        if holder.state is HolderState.IDLE:
            self.scheduler.remove(holder)
        self.scheduler.close(holder)
        holder.apply(event, now)
        self._deadlines.cancel(holder)
        holder.clear()
        self._vacant.append(holder)
        if self.shrinking:
            self.shrinking = self.alive > self.limit

    def aged(self, now: float, holder: Holder, actions: list[Action]) -> None:
        """The holder's timer has come: retire it if it idles for too long or is too old."""
        if holder.state is not HolderState.IDLE:
            return  # its age is looked at when it comes back
        inactive = self.settings.max_inactive_connection_lifetime
        idles_for_too_long = inactive and now >= holder.since + inactive and self.open > self.settings.min_size
        if idles_for_too_long or self.is_due_to_retire(now, holder):
            self.scheduler.remove(holder)
            self.retire(now, holder, actions)
        else:
            self.watch_age(now, holder)

    def watch_age(self, now: float, holder: Holder) -> None:
        """The holder is idle: look at it again when it may be too old."""
        times = []
        if inactive := self.settings.max_inactive_connection_lifetime:
            due = holder.since + inactive
            times.append(due if due > now else now + inactive)  # kept by min_size: look again later
        if holder.retire_at is not None:
            times.append(holder.retire_at)
        if times:
            self._deadlines.set(holder, min(times))
