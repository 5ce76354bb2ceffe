"""The conductor: carries out what the brain decides.

What workers send comes to the brain by way of dialogue.py, and what backends report by way of outcomes.py. All of it
happens in the callbacks of one event loop, so the brain is never asked twice at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from ..config import DEFAULT_POOL, Settings
from ..core import report
from ..core.actions import (
    Action,
    Close,
    Disconnect,
    Grant,
    Interrupt,
    Open,
    Refuse,
    ReportLease,
    Reset,
    Run,
    TellLeaseEnded,
)
from ..core.holder import Holder
from ..core.lease import Lease
from ..core.pool import Pool
from ..errors import SupervisorUnavailable
from ..messages import LeaseEnded, Token
from ..messages.operating import Moved
from ..messages.unions import LeaseNotice
from .administration import SetArguments
from .backend import Backend
from .dialogue import Dialogue
from .failures import failed
from .faults import contain
from .hooks import NO_HOOKS, Hooks
from .lane import Lane
from .listener import Listener
from .outcomes import Outcomes
from .session import Session
from .shapes import ShapeTable
from .strangers import dismiss

log = logging.getLogger("pgactor.conductor")

CLOCK_SECONDS = 0.002
"""How much too early a timer of the event loop may come. It may also come long before the next deadline: when the one
that it was set for has been cancelled."""


class Conductor:
    """Joins the workers, the brain and the backends of one pool."""

    def __init__(
        self,
        settings: Settings,
        *,
        connect: Callable[[], Awaitable[Session]],
        epoch: int,
        hooks: Hooks = NO_HOOKS,
        name: str = "",
        set_connect_args: SetArguments | None = None,
    ) -> None:
        """name: the pool's, for the log, where there are several."""
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._connect = connect
        self._set_connect_args = set_connect_args
        self._hooks = hooks
        self._name = name
        self._where = f"pool {name}: " if name else ""
        self._fields = {"pool": name or DEFAULT_POOL}  # for the log
        self._shapes = ShapeTable()
        self._backends: dict[Holder, Backend] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._drained: asyncio.Event = asyncio.Event()
        self._told_of: Callable[[int], None] | None = None  # how many connections are kept yet, in a hand-over
        self._kept = -1
        self.pool = Pool(settings.pool, epoch=epoch, random=Random(), started_at=self._loop.time())  # noqa: S311
        self._lane = Lane(settings, self._shapes, self.pool.counters, self.pool.scheduler.pace)
        self._listener = Listener(settings.pool, connect=connect, counters=self.pool.counters)
        self.dialogue = Dialogue(
            settings,
            self.pool,
            self._lane,
            self._listener,
            do=self._do,
            tell=self._tell,
            in_transaction=self.in_transaction,
            set_connect_args=set_connect_args,
        )
        self._outcomes = Outcomes(
            self.pool,
            self._backends,
            self._lane.turn,
            do=self._do,
            litter=self.dialogue.litter,
            where=self._where,
            fields=self._fields,
        )
        self.dialogue.cancelled = self._outcomes.cancelled

    # --- life ---------------------------------------------------------------------------------------------

    @property
    def unused_since(self) -> float | None:
        """Since when, by the loop's clock, no worker has been connected; None: one is."""
        return None if len(self.pool.roster) else self.pool.unused_since

    def start(self) -> None:
        """Open the first connections."""
        self._do(self.pool.start(self._loop.time()))

    def why_not_ready(self) -> str | None:
        """Why no request can be served now, in words; "": one can. None: it is not known, as there is no connection,
        and none has failed. Where there is none, one is opened, to know."""
        now = self._loop.time()
        known = report.why_not_ready(self.pool, now)
        if known != "":
            self._do(self.pool.reach(now))
        return known

    async def drain(self, seconds: float) -> None:
        """Let work in progress end, for so many seconds, then end it."""
        self._do(self.pool.drain(self._loop.time()))
        try:
            async with asyncio.timeout(seconds):
                await self._drained.wait()
        except TimeoutError:
            log.warning(
                "%swork was still in progress after drain_timeout_seconds: it is ended",
                self._where,
                extra=self._fields,
            )
            self._do(self.pool.terminate(self._loop.time()))
            try:
                async with asyncio.timeout(self._settings.pool.reset_timeout_seconds):
                    await self._drained.wait()
            except TimeoutError:
                log.warning("%s%d connections did not close in time", self._where, len(self._backends))
        if self._timer is not None:
            self._timer.cancel()
        await self._listener.close()
        await self._end_backends()

    async def _end_backends(self) -> None:
        tasks = [backend.task for backend in self._backends.values()]
        for backend in self._backends.values():
            backend.end()
        await asyncio.gather(*tasks, return_exceptions=True)

    def successor(self) -> Conductor:
        """One that does the same, with a brain and connections of its own."""
        successor = Conductor(
            msgspec.structs.replace(self._settings, pool=self.pool.settings),
            connect=self._connect,
            epoch=new_epoch(),
            hooks=self._hooks,
            name=self._name,
            set_connect_args=self._set_connect_args,
        )
        successor.dialogue.take_over(self.dialogue)
        successor.pool.operating.take_over(self.pool.operating)
        return successor

    async def abandon(self, reason: str) -> None:
        """End everything at once, without asking the brain."""
        if self._timer is not None:
            self._timer.cancel()
        for worker in self.pool.roster.all():
            dismiss(worker.link, SupervisorUnavailable(f"the pool begins anew: {reason}"))
        await self._end_backends()
        await self._listener.close()
        if self._told_of is not None:
            self._told_of(0)
        self._drained.set()

    def pause(self) -> None:
        """Give no request a backend from now on."""
        self.pool.operating.pause()

    def resume(self) -> None:
        """Go on."""
        self._do(self.pool.operating.resume(self._loop.time()))

    def configure(self, settings: Settings, *, renew: bool) -> None:
        """Go by other settings. renew: replace every connection, as they come back."""
        self._settings = settings
        self.dialogue.configure(settings)
        self._listener.configure(settings.pool)
        now = self._loop.time()
        self._do(self.pool.operating.configure(now, settings.pool))
        if renew:
            self._do(self.pool.expire_connections(now))
            self._listener.renew()

    def lend(self, elsewhere: int) -> None:
        """Another supervisor has so many of the pool's connections."""
        self._do(self.pool.operating.lend(self._loop.time(), elsewhere))

    def hand_over(self, tell: Callable[[int], None]) -> None:
        """Another supervisor serves the workers from now on: let what is here end. tell: is told how many connections
        are kept yet, whenever they have become fewer."""
        if not self.pool.closing:  # else it is drained for good
            self._told_of, self._kept = tell, -1
        for worker in self.pool.roster.all():
            worker.link.send(Moved())
        self._do(self.pool.drain(self._loop.time()))

    async def handed_over(self) -> None:
        """Wait until all is given away."""
        await self._drained.wait()

    def take_back(self) -> None:
        """The other supervisor is gone: serve again."""
        if self._told_of is not None:
            self._told_of = None
            self._drained.clear()
            self._do(self.pool.operating.reopen(self._loop.time()))

    def in_transaction(self, token: Token | None) -> bool:
        """Whether the lease's backend is inside a transaction: a statement that is refused leaves it as it was."""
        backend = None if token is None else self._backends.get(self.pool.holders[token.holder])
        return backend is not None and backend.in_transaction

    # --- what the brain decides ---------------------------------------------------------------------------

    def _tell(self, lease: Lease, notice: LeaseNotice) -> None:
        """What a lease's worker has to say to its session, without an answer."""
        backend = self._backends.get(lease.holder)
        if backend is not None and backend.tenancy is not None and backend.tenancy.lease is lease:
            backend.tenancy.told(notice)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            try:
                if type(action) is Run:  # most are
                    self._backends[action.holder].run(action.request)
                else:
                    self._carry_out(action)
            except Exception as error:  # which is not to keep the others from being carried out
                contain(action, self._backends, error)
        self._watch_the_clock()
        if self.pool.closing:
            self._wind_up()

    def _wind_up(self) -> None:
        """The pool is to end: see how far it has come."""
        if self._told_of is not None:
            kept = self.pool.operating.give_up()
            if kept != self._kept:
                self._kept = kept
                self._told_of(kept)
        if self.pool.drained:
            self._drained.set()

    def _carry_out(self, action: Action) -> None:
        match action:
            case Grant(request, lease, False) if self._hooks.each_use:
                lease.touched = True  # it is reset at its end, whatever is done with it
                if self._hooks.setup is not None:
                    self._outcomes.make_ready(request, lease)
                else:
                    self._do([Grant(request, lease, is_set_up=True)])
            case Grant(request, lease):
                self._outcomes.granted(request, lease)
            case Refuse(request, error):
                token = None if request.lease is None else request.lease.token
                request.worker.link.send(failed(request.id, error, in_transaction=self.in_transaction(token)))
            case Interrupt(holder, request):
                self._backends[holder].interrupt(request)
            case Reset(holder):
                self._backends[holder].reset()
            case Open(holder):
                self._backends[holder] = Backend(
                    holder,
                    connect=self._connect,
                    reports=self._outcomes,
                    shapes=self._shapes,
                    reset_timeout=self._settings.pool.reset_timeout_seconds,
                    lane=self._lane,
                    max_bytes=self._settings.max_frame_bytes,
                    hooks=self._hooks,
                    pool=self._name,
                    recycling=self._settings.pool.recycling,
                )
            case Close(holder):
                self._backends[holder].close()
            case TellLeaseEnded(lease, error):
                lease.worker.link.send(LeaseEnded(lease.token, error.code, str(error)))
            case ReportLease(lease):
                self._outcomes.held_long(lease)
            case Disconnect(worker, reason):
                worker.link.close(reason)

    def _watch_the_clock(self) -> None:
        """Have the brain ticked when its next deadline is due."""
        if self._timer is not None and self._timer_due <= self.pool.deadlines.soonest:
            return  # it comes early enough, and will look again
        due = self.pool.next_deadline()
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                return  # it comes early enough, and will look again
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_due = due  # uvloop's timers do not all know it
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now, due = self._loop.time(), self.pool.next_deadline()
        if due is not None and now < due <= now + CLOCK_SECONDS:
            now = due  # call_at may come a clock's resolution too early; without this it would come again and again
        self._do(self.pool.tick(now))


def new_epoch() -> int:
    """A number for this life of the supervisor, higher than that of any before it."""
    return time.time_ns() // 1000
