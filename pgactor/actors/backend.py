"""A backend: one PostgreSQL session with its mailbox, from opening to its end.

One task lives as long as the connection. It opens it, then does what the mailbox holds, one thing after another,
and reports each to the conductor. A request runs in the session lane (sessionlane.py); what the statement lane admits
goes past the mailbox (pipeline.py). Between the two lanes stands handover.py. What is interrupted in the session lane
(interrupting.py) is over only when asyncpg and PostgreSQL have both come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ..core.holder import Holder
from ..core.lease import Lease
from ..core.request import Request
from ..errors import LeaseLost
from ..messages import DEFAULT_MAX_FRAME_BYTES
from .failures import EXPECTED, in_words
from .faults import tell
from .handover import Handover
from .hooks import NO_HOOKS, Hooks, Setup
from .lane import Lane
from .mailbox import Letter, Mailbox, Order
from .pipeline import Pipeline
from .readonly import has_gone_wrong
from .reports import BackendReports
from .session import Session
from .sessionlane import NeverBegan, SessionLane
from .shapes import ShapeTable
from .tenancy import Tenancy

log = logging.getLogger("pgactor.backend")

CLOSED_BY_POSTGRES = "PostgreSQL closed the connection"


class Backend:
    """One PostgreSQL session, from opening to its end."""

    def __init__(
        self,
        holder: Holder,
        *,
        connect: Callable[[], Awaitable[Session]],
        reports: BackendReports,
        shapes: ShapeTable,
        reset_timeout: float,
        lane: Lane | None = None,
        max_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        hooks: Hooks = NO_HOOKS,
        pool: str = "",
        recycling: str = "reset",
    ) -> None:
        self.holder = holder
        self.name = f"backend {holder.number}" + (f" of pool {pool}" if pool else "")
        self.incarnation = holder.incarnation
        self.pid = 0
        self._connect = connect
        self._reports = reports
        self._pipeline: Pipeline | None = None
        self._handover = Handover(self, lane, reports=reports, patience=reset_timeout, max_bytes=max_bytes)
        self._mailbox = Mailbox()
        self._session: Session
        self._session_lane: SessionLane
        self._session_lane_of = partial(
            SessionLane,
            self,
            reports=reports,
            shapes=shapes,
            lane=lane,
            hooks=hooks,
            recycling=recycling,
            patience=reset_timeout,
            max_bytes=max_bytes,
        )
        self.tenancy: Tenancy | None = None
        self._loop = asyncio.get_running_loop()
        self._is_ending = False
        self._reason = ""
        self.task = self._loop.create_task(self._live(), name=f"backend-{holder.number}.{holder.incarnation}")
        self.task.add_done_callback(self._has_ended)

    @property
    def in_transaction(self) -> bool:
        """Whether the session is inside a transaction, as PostgreSQL said last."""
        if self.pid == 0 or self._session.is_closed() or self._session_lane.reading.wraps:
            return False
        return self._session.is_in_transaction()

    def let(self, lease: Lease) -> Tenancy:
        """The session is the lease's from now on."""
        self._leave()
        self.tenancy = self._session_lane.let(lease)
        return self.tenancy

    def forget_schema(self) -> None:
        """Whatever the session remembers of the database's types and statements may be wrong."""
        if self.pid:
            self._session.forget_schema()

    def refused_write(self) -> None:
        """PostgreSQL has refused a write: if the server takes none any more, another is to be found."""
        if self.pid and has_gone_wrong(self._session):
            fields = {"backend": self.holder.number, "backend_pid": self.pid}
            log.warning("%s (pid %d) is replaced: its server takes no writes", self.name, self.pid, extra=fields)
            self._reports.spoiled(self)

    def _leave(self) -> None:
        if self.tenancy is not None:
            self.tenancy.end()
            self.tenancy = None

    # --- the mailbox --------------------------------------------------------------------------------------

    def run(self, request: Request) -> None:
        """Run the request's statement; `Reports.answer` and `finished` follow, or the statement lane's own
        reports."""
        if request.lease is not None:
            self._handover.offer(request, self.tenancy, self._pipeline)
        if request.work is None:
            self._mailbox.post(request)
        elif self._pipeline is not None:
            self._pipeline.send(request)
        else:
            self._begin_pipeline(request)

    def divert(self, request: Request) -> None:
        """The statement lane cannot run the lease's statement, and has not: asyncpg is to."""
        request.work = None
        if request.answered:
            self._loop.call_soon(self._reports.finished, self, request, self.in_transaction)
        else:
            self._mailbox.post(request)

    def lane_is_quiet(self) -> None:
        """What the statement lane ran on a lease has ended."""
        self._handover.lane_is_quiet()

    def interrupt(self, request: Request) -> None:
        """Cancel the request, which runs or is about to; `Reports.finished` follows, or the statement lane's
        report."""
        if request.work is not None and self._pipeline is not None:
            self._pipeline.cancel(request)
        elif self.pid and self._session_lane.interrupting.under_way is request:
            self._session_lane.interrupting.interrupt()
        elif request in self._mailbox:
            self._mailbox.remove(request)
            self._loop.call_soon(self._reports.finished, self, request, self.in_transaction)

    def set_up(self, setup: Setup) -> None:
        """Make the session ready for a lease; `Reports.set_up` follows."""
        self._mailbox.post(setup)

    def stop_setup(self) -> None:
        """Nobody waits for the lease that the session is made ready for; `Reports.set_up` follows."""
        if self.pid and isinstance(self._session_lane.interrupting.under_way, Setup):
            self._session_lane.interrupting.interrupt()

    def reset(self) -> None:
        """Cancel what runs, roll back and renew the session; `Reports.reset_done` or `gone` follows."""
        self._interrupt_all()
        self._mailbox.post(Order.RESET)

    def close(self) -> None:
        """Close the connection; `Reports.closed` follows."""
        if self.pid == 0:
            self.task.add_done_callback(lambda _: self._reports.closed(self))
            self.end()
            return
        self._interrupt_all()
        self._mailbox.post(Order.CLOSE)

    def end(self, reason: str = "") -> None:
        """End at once. reason: why, which `Reports.gone` is told; without one, nobody is told anything."""
        self._is_ending, self._reason = not reason, reason
        if self.pid and not self._session.is_closed():
            self._session.terminate()
        self.task.cancel()

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        """However the task has ended, it is told that the connection is gone."""
        if self._is_ending or not (task.cancelled() or task.exception()):
            return
        error = None if task.cancelled() else task.exception()
        reason = self._reason or ("it was cancelled" if error is None else in_words(error))
        if error is not None:
            tell(f"{self.name} is closed", error)
        if hasattr(self, "_session") and not self._session.is_closed():
            self._session.terminate()
        try:
            self._lost(reason)
        except Exception as another:
            tell(f"{self.name} is closed", another)
            self._reports.gone(self, reason)

    def _interrupt_all(self) -> None:
        if self.pid:
            self._session_lane.interrupting.interrupt()
        if self._pipeline is not None:
            self._pipeline.cancel_all()
        for letter in list(self._mailbox):
            if isinstance(letter, Request):
                self.interrupt(letter)

    def _begin_pipeline(self, request: Request) -> None:
        if self._session.is_closed():
            self._mailbox.post(request)  # which will find it out
            return
        self._pipeline = self._handover.begin(self._session, request)
        if self._pipeline is not None:
            self._pipeline.send(request)

    # --- the life -----------------------------------------------------------------------------------------

    async def _live(self) -> None:
        if not await self._open():
            return
        try:
            while True:
                letter = self._mailbox.popleft() if self._mailbox else await self._mailbox.next()
                if self._pipeline is not None and letter is not Order.LOST:
                    await self._handover.have_back(self._pipeline)
                if not await self._obey(letter):
                    return
        except EXPECTED as error:
            self._lost(in_words(error))
        except Exception as error:
            tell(f"{self.name} met an unexpected error, and is closed", error)
            self._lost(in_words(error))
        finally:
            if not self._session.is_closed():
                self._session.terminate()

    async def _obey(self, letter: Letter) -> bool:
        """Do what the letter says; False if the connection is no more."""
        match letter:
            case Request():
                try:
                    if await self._session_lane.run(letter):
                        return True
                except NeverBegan:
                    self._mailbox.appendleft(letter)
                self._lost(CLOSED_BY_POSTGRES)
            case Setup():
                try:
                    await self._session_lane.set_up(letter)
                except asyncio.CancelledError:
                    self._mailbox.appendleft(letter)  # to be told with the others there that the connection is lost
                    raise
                return True
            case Order.RESET:
                self._leave()
                await self._session_lane.rest.recycle()
                if not self._session.is_closed():  # by a hook
                    self._reports.reset_done(self)
                    return True
                self._lost("the reset hook has closed the connection")
            case Order.CLOSE:
                await self._session_lane.rest.close(self.name, self.holder.number)
                self._reports.closed(self)
            case Order.LOST:
                self._lost(CLOSED_BY_POSTGRES)
        return False

    async def _open(self) -> bool:
        try:
            self._session = await self._connect()
        except Exception as error:
            self._reports.open_failed(self, error)
            return False
        self._session_lane = self._session_lane_of(self._session)
        self.pid = self._session.get_server_pid()
        self._session.add_termination_listener(self._ended)
        self._reports.opened(self)
        return True

    def _ended(self, _: object) -> None:
        """asyncpg's word that the connection is closed."""
        self._session.wake_writer()
        self.lane_is_quiet()
        self._mailbox.post(Order.LOST)

    def _lost(self, reason: str) -> None:
        error = LeaseLost(f"the lease lost its connection to PostgreSQL: {reason}; acquire again")
        for letter in list(self._mailbox):  # a lease that was not made ready is released, which posts its reset
            if isinstance(letter, Request):
                self._reports.unrun(self, letter)
            elif isinstance(letter, Setup):
                self._reports.set_up(self, letter, error)
        self._mailbox.clear()
        if self._pipeline is not None:
            for request in self._pipeline.never_ran():
                self._reports.unrun(self, request)
        self._reports.gone(self, reason)
