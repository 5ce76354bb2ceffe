"""Cancelling what runs on one backend, when nobody wants it any more or it has run for too long.

PostgreSQL's cancel request names a backend, not a statement. So only the first in flight is cancelled; nothing is
written from then on until it has ended and the request's connection has, too; and one of those behind it that was hit
in its place runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from ..core.request import Request
from .connection import Connection
from .describing import Describing
from .flight import Flight
from .lending import AGAIN_SECONDS
from .reports import Reports
from .session import Session
from .unit import request_of, requests_of

if TYPE_CHECKING:
    from .backend import Backend

CANCELED = "57014"
"""PostgreSQL's code for what was cancelled; a statement_timeout has it, too."""

SOON_SECONDS = 0.01
"""How long a statement that nobody wants any more may run before a cancel request is sent."""


class Cancelling:
    """Cancels what is first in flight.

    unwanted: whom to cancel once they are first. cancelled: who is being cancelled, until it has ended and the cancel
    request's connection has, too. exposed: whom the cancel request may hit instead.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        connection: Connection,
        flight: Flight,
        *,
        reports: Reports,
        patience: float,
        command_timeout: float,
    ) -> None:
        self.unwanted: set[Request] = set()
        self.cancelled: Request | None = None
        self.exposed: set[Request] = set()
        self._asking: asyncio.Task[None] | None = None  # the cancel request, while its connection is there
        self._asking_again: asyncio.TimerHandle | None = None
        self._cutting: asyncio.TimerHandle | None = None  # the cancelled one is to end before
        self._held: list[Request] = []  # the cancelled one, if it has ended before that
        self._backend = backend
        self._session = session
        self._connection = connection
        self._flight = flight
        self._reports = reports
        self._patience = patience  # how many seconds a cancelled statement may take to end
        self._command_timeout = command_timeout
        self._loop = asyncio.get_running_loop()
        if command_timeout:
            flight.on_write = self._watch

    def cancel(self, request: Request) -> None:
        """Cancel the request, which was written, as soon as it is the first."""
        if self._flight.is_first(request, alone=True):
            self._cancel_first(request)
        else:
            self.unwanted.add(request)

    def has_hit(self, request: Request) -> bool:
        """Whether it was ours, the cancel request by which the request has failed, and was meant for another."""
        if request not in self.exposed:
            return False
        self.exposed.clear()  # a request to cancel hits one statement
        return True

    def ended(self, requests: Sequence[Request]) -> None:
        """Something has ended for these. (Where nobody is unwanted or cancelled, nobody need tell.)"""
        if not self.unwanted and self.cancelled is None:
            return
        self.unwanted.difference_update(requests)
        if self.cancelled in requests and self._asking is None:
            self._resume()
        self._look_at_first()

    def hold(self, back: list[Request]) -> None:
        """Keep the cancelled one of those that would come back now, for as long as the cancel request is out."""
        if self._asking is not None and self.cancelled in back:
            back.remove(self.cancelled)
            self._held = [self.cancelled]

    # --- the cancel request -------------------------------------------------------------------------------

    def _cancel_first(self, request: Request) -> None:
        if self.cancelled is not None or self._flight.first in self._flight.unsent:
            self.unwanted.add(request)
        elif not self._connection.is_lost:
            self.cancelled = request
            self._flight.is_barred = True
            self._cutting = self._loop.call_later(self._patience, self._cut_if_first, request)
            self._begin_to_ask(request, AGAIN_SECONDS)

    def _begin_to_ask(self, request: Request, again: float) -> None:
        sent = (unit for unit in self._flight.units if not isinstance(unit, Describing))
        self.exposed = {request_of(unit) for unit in sent} - {request}
        self._asking = self._loop.create_task(self._ask(request, again))

    async def _ask(self, request: Request, again: float) -> None:
        """Ask PostgreSQL to cancel what it runs."""
        try:
            async with asyncio.timeout(self._patience) as patience:
                await self._session.cancel_running()
        except TimeoutError:
            pass
        except Exception as error:
            self._connection.cut(f"a statement could not be cancelled: {type(error).__name__}: {error}")
        if patience.expired():  # asyncpg may have kept the TimeoutError for itself
            self._connection.cut(f"a statement could not be cancelled within {self._patience:g} s")
        self._asking = None
        if self.cancelled is request and self._flight.is_first(request):
            self._asking_again = self._loop.call_later(again, self._ask_again, request, 2 * again)
        else:
            self._resume()

    def _ask_again(self, request: Request, again: float) -> None:
        if self.cancelled is request and self._flight.is_first(request) and not self._connection.is_lost:
            self._begin_to_ask(request, again)

    def _cut_if_first(self, request: Request) -> None:
        if self.cancelled is request and self._flight.is_first(request):
            self._connection.cut(f"a cancelled statement did not end within {self._patience:g} s")

    def _resume(self) -> None:
        self.cancelled = None
        for timer in (self._cutting, self._asking_again):
            if timer is not None:
                timer.cancel()
        self._cutting = self._asking_again = None
        self._flight.is_barred = False
        self._flight.flush()
        self._look_at_first()
        held, self._held = self._held, []
        if held:
            self._reports.came_back(self._backend, held)
        self._backend.lane_is_quiet()

    # --- the first in flight ------------------------------------------------------------------------------

    def _look_at_first(self) -> None:
        """Have the first one cancelled if nobody wants it and it does not end at once."""
        requests = requests_of(self._flight.first) if self._flight.first is not None else ()
        if requests and self.unwanted.issuperset(requests):
            self._loop.call_later(SOON_SECONDS, self._cancel_if_first, requests[0])

    def _cancel_if_first(self, request: Request) -> None:
        if self._flight.is_first(request, alone=True):
            self._cancel_first(request)

    def _watch(self) -> None:
        self._loop.call_later(self._command_timeout, self._check_command_timeout)

    def _check_command_timeout(self) -> None:
        """End what has run for longer than the connection's command_timeout."""
        flight, limit = self._flight, self._command_timeout
        first = flight.first
        if first is None or self._connection.is_lost or (first in flight.unsent and self.cancelled is None):
            flight.on_write = self._watch
            return
        left = flight.since + limit - monotonic()
        if left <= 0 and self.cancelled is None:
            requests = list(requests_of(first))
            for request in requests:
                self._reports.failed(request, TimeoutError())
            self._cancel_first(requests[0])
            left = limit
        self._loop.call_later(max(left, SOON_SECONDS), self._check_command_timeout)
