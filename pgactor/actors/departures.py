"""How a request departs that is not written as it came: once it is described, once more, or to asyncpg.

What is known of its statement has to be found out first, or is out of date; or it is a group, all of whose statements
have to be known. What comes of it is one of three: it is in flight, it is asyncpg's, or nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..core.request import Request
from ..messages import Fetch
from .cancelling import CANCELED, Cancelling
from .describing import Describing
from .flight import Flight
from .group import Group
from .lane import Lane
from .plan import NotQuick, Plan
from .prepared import LOST, MAX_ATTEMPTS, Prepared, is_refusal
from .reports import Reports
from .unit import unit_of

if TYPE_CHECKING:
    from .backend import Backend


class Departures:
    """The departures on one backend. again: the requests that run a second time."""

    def __init__(
        self,
        backend: Backend,
        flight: Flight,
        prepared: Prepared,
        cancelling: Cancelling,
        *,
        reports: Reports,
        lane: Lane,
    ) -> None:
        self.again: set[Request] = set()
        self._backend = backend
        self._flight = flight
        self._prepared = prepared
        self._cancelling = cancelling
        self._reports = reports
        self._lane = lane
        self._loop = asyncio.get_running_loop()

    def run(self, request: Request, plan: Plan) -> None:
        """Write the request's statement, which has been described since the request came."""
        message = request.payload
        try:
            bound = plan.bind(message.args, message.limit if type(message) is Fetch else 0)
        except NotQuick:
            self.divert(request, "arguments")
        else:
            request.work = (plan, bound)
            self._flight.write(request, bound)

    def run_group(self, group: Group) -> None:
        """Write the group, or have described first what is not known here."""
        if not self._prepared.has_all_of(group):
            return
        if why_not := group.obstacle():
            self.divert(group.request, why_not)
        else:
            try:
                self._flight.write(group, group.message())
            except NotQuick:
                self.divert(group.request, "arguments")

    def described(self, unit: Describing, requests: list[Request], why_not: str) -> list[Request]:
        """These need wait for the description no more; why_not: why asyncpg is to run the statement. Returns those
        for whom nobody waits any more."""
        over = []
        for request in requests:
            if type(request.work) is Group:
                group = request.work
                group.why_not = group.why_not or why_not
                group.waits -= 1
                if group.waits:
                    continue
                if request.answered:
                    over.append(request)
                elif group.why_not or group.attempts == MAX_ATTEMPTS:
                    self.divert(request, group.why_not or "schema")
                else:
                    self.run_group(group)
            elif request.answered:
                over.append(request)
            elif why_not:
                self.divert(request, why_not)
            else:
                self.run(request, unit.plan)
        return over

    def run_again(self, request: Request, code: str) -> None:
        """PostgreSQL has lost the prepared statement, or its result has changed: prepare it anew, once."""
        if request not in self.again:
            self.again.add(request)
            self._prepared.describe(request.statement, request)  # type: ignore[arg-type]  # only leases have none
        else:
            if code == LOST:
                self._lane.switch_off("names_lost", "prepared statements get lost: is there a pooler between?")
            self.divert(request, "names_lost" if code == LOST else "schema")

    def run_group_again(self, group: Group) -> bool:
        """The group has ended: run what PostgreSQL has refused to begin, once, or all of it if it was hit by the
        cancel request for another. False: neither is the case."""
        if refused := group.run_again(is_refusal):
            self._prepared.refused(refused)
            self.run_group(group)
            return True
        if group.is_undone and group.code == CANCELED and self._cancelling.has_hit(group.request):
            self.run_group(group)
            self._cancelling.ended(())
            return True
        return False

    def divert(self, request: Request, why_not: str) -> None:
        """The request is for asyncpg."""
        self._forget(request)
        self._lane.count(why_not)
        if request.lease is None:
            self._reports.diverted(self._backend, request)
        else:
            self._backend.divert(request)

    def withdraw(self, request: Request) -> bool:
        """Take the request out, if it was not written yet; whether it was so. It comes back soon."""
        if not self._flight.withdraw(unit_of(request)):
            return False
        self._forget(request)
        self._loop.call_soon(self._reports.came_back, self._backend, [request])
        return True

    def _forget(self, request: Request) -> None:
        self.again.discard(request)
        self._cancelling.exposed.discard(request)
