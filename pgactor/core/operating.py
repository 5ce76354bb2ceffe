"""Operating: what is done to a pool while it serves. It is paused, given other settings, or hands its connections
over to another supervisor.

*Pause.* No request gets a backend; those that come wait, by the settings and with their own deadlines, and nothing is
opened. What runs, and what is leased, goes on to its end.

*Hand-over.* Both supervisors know how many of max_size the other one may have (`elsewhere`), and the one that goes
counts only down: it says so after it has closed a connection, and never opens more than it said it has. So there are
never more than max_size in sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.pool import PoolSettings
from .actions import Action
from .holder import HolderState

if TYPE_CHECKING:
    from .pool import Pool

_AT_REST = (HolderState.VACANT, HolderState.OPENING, HolderState.IDLE, HolderState.CLOSING)


class Operating:
    """What may be done to a pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    # --- pause --------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether nothing runs, and nothing is leased or being made ready."""
        return all(holder.state in _AT_REST for holder in self.pool.holders)

    def pause(self) -> None:
        """Give no request a backend from now on. A drain is not held up."""
        self.pool.desk.paused = not self.pool.closing

    def resume(self, now: float) -> list[Action]:
        """Go on, first with those that have waited. A pool that is not paused is left alone."""
        actions: list[Action] = []
        self.pool.desk.paused = False
        self.pool.dealing.move_on(now, actions)
        return actions

    # --- settings -----------------------------------------------------------------------------------------

    def configure(self, now: float, settings: PoolSettings) -> list[Action]:
        """Go by other settings: sizes, limits and lifetimes. How statements share backends stays as it is."""
        actions: list[Action] = []
        pool, fleet = self.pool, self.pool.fleet
        pool.desk.settings = settings
        pool.leasing.max_hold = settings.max_hold_seconds
        pool.leasing.warning = settings.lease_warning_seconds
        fleet.opener.configure(
            at_once=settings.opens_at_once,
            backoff=settings.reopen_backoff_seconds,
            backoff_max=settings.reopen_backoff_max_seconds,
        )
        fleet.configure(now, settings, actions)
        for holder in fleet.scheduler.snapshot():
            fleet.watch_age(now, holder)
        self.configured(now, actions)
        return actions

    def configured(self, now: float, actions: list[Action]) -> None:
        """The fleet goes by other settings: so does the rest."""
        pool = self.pool
        pool.settings = pool.fleet.settings
        pool.window.most = pool.settings.most_in_flight
        pool.dealing.move_on(now, actions)

    def take_over(self, other: Operating) -> None:
        """What operators and another supervisor have said of the other pool, which ends, is said of this one."""
        self.pool.desk.paused = other.pool.desk.paused
        self.pool.fleet.elsewhere = other.pool.fleet.elsewhere

    # --- hand-over ----------------------------------------------------------------------------------------

    @property
    def needs(self) -> int:
        """How many connections this supervisor cannot do without: those that are there, and one while requests
        wait."""
        return max(self.pool.fleet.alive, 1 if len(self.pool.queue) else 0)

    def lend(self, now: float, elsewhere: int) -> list[Action]:
        """Another supervisor has so many of max_size now: here there may be the others."""
        actions: list[Action] = []
        self.pool.fleet.lend(now, elsewhere, actions)
        self.pool.dealing.move_on(now, actions)
        return actions

    def give_up(self) -> int:
        """Keep what is needed, for good, and leave the rest to the other supervisor. Returns how many are kept."""
        fleet = self.pool.fleet
        fleet.elsewhere = max(fleet.elsewhere, fleet.settings.max_size - self.needs)
        return max(fleet.limit, fleet.alive)

    def reopen(self, now: float) -> list[Action]:
        """The drain was for another supervisor, which is gone: serve again, with what was kept."""
        pool = self.pool
        pool.desk.closing = pool.fleet.winding_down = False
        return self.lend(now, pool.fleet.elsewhere)
