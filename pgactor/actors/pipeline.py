"""The statement lane on one backend: statements of many workers, one behind the other on one connection.

asyncpg has opened the connection; while statements travel here it is ours, and it is given back for whatever asyncpg
is to do. Each statement is Bind, Execute and Sync, so the failure of one is nobody else's, and its reply is final at
ReadyForQuery. What comes back carries no name: it belongs to the first that was sent. So what PostgreSQL sends is
checked against what each statement may be answered with, and at the first doubt the connection is cut, rather than
give one worker's rows to another.

The way of a statement, from `send` to its reports:

    prepared.py     has it described, if it is not known on this backend yet
    departures.py   takes on what could not be written at once, and groups; or leaves them to asyncpg
    flight.py       puts its bytes into the buffer that leaves at the end of the event loop's turn
    connection.py   asyncpg's connection; what comes back is read by the window
    reader.py       finds whom each message answers: the first in flight
    reply.py        tells what its reply may be, and gathers it
    here            what came of it: it is reported, or departs again

A lease's statements come here, too, one at a time on the lease's own connection; only theirs may leave it inside a
transaction. What else the lease does asyncpg does in between, and its session knows from here whether one is open.

Beside it stand cancelling.py, hold.py and loss.py. There is no task, future or queue per statement.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..core.request import Request
from ..core.statement import Statement
from ..messages import Fetch
from .cancelling import CANCELED, Cancelling
from .connection import Connection
from .departures import Departures
from .describing import Describing
from .failures import server_error
from .fields import array_header
from .flight import Flight
from .group import Group
from .hold import Hold
from .lane import Lane
from .loss import Loss
from .prepared import Prepared, is_refusal
from .reader import Reader
from .reply import BIND, SYNC_AFTER_REFUSAL, Reply
from .reports import Reports
from .session import Session
from .unit import Unit, requests_of

if TYPE_CHECKING:
    from .backend import Backend


class Pipeline:
    """The statement lane on one backend."""

    def __init__(
        self,
        backend: Backend,
        session: Session,
        *,
        reports: Reports,
        lane: Lane,
        patience: float,
        max_bytes: int,
    ) -> None:
        self._backend = backend
        self._session = session
        self._reports = reports
        self._lane = lane
        self._units: deque[Unit] = deque()  # in flight, and shared: it joins what is read to what was sent
        self._reply = Reply(max_bytes)
        self._reader = Reader(session, self._units, self._reply, outcomes=self)
        name = f"{backend.name} (pid {backend.pid})"
        self._connection = Connection(session, name=name, reader=self._reader, owner=self, turn=lane.turn)
        self._flight = Flight(self._units, self._connection)
        self._hold = Hold(self._units, self._connection, self._flight)
        self._prepared = Prepared(lane, write=self._flight.write)
        self._known = self._prepared.known
        self._cancelling = Cancelling(
            backend,
            session,
            self._connection,
            self._flight,
            reports=reports,
            patience=patience,
            command_timeout=lane.command_timeout,
        )
        self._departures = Departures(
            backend, self._flight, self._prepared, self._cancelling, reports=reports, lane=lane
        )
        self._loss = Loss(
            session, self._connection, self._reader, self._reply, self._flight, self._prepared, reports=reports
        )
        self._forgotten = session.forgotten
        self._again = self._departures.again
        self._back: list[Request] = []  # whose reply is complete

    def __repr__(self) -> str:
        return f"<Pipeline of backend {self._backend.holder.number}: {len(self._units)} in flight>"

    # --- what the backend asks for ------------------------------------------------------------------------

    def send(self, request: Request) -> None:
        """Send the request's statement behind those in flight; the reports follow."""
        if self._connection.transport is None and not self._connection.is_lost:
            self._connection.borrow()
            if self._forgotten != self._session.forgotten:  # a lease's transaction would fail over a lost name
                self._forgotten = self._session.forgotten
                self._prepared.refused(list(self._known))
        work = request.work
        if type(work) is Group:
            self._departures.run_group(work)
            return
        statement = request.statement
        assert statement is not None  # noqa: S101  # only leases have none
        known = self._known.get(statement)
        if (known is work[0] and work[1] is not None) or work[0].parses:
            self._flight.write(request, work[1])
        elif known is not None and not known.why_not and (work[1] is None or known is statement.plan):
            self._departures.run(request, known)  # it has been described since the request came
        else:
            self._prepared.describe(statement, request)

    def knows(self, statement: Statement) -> bool:
        """Whether the statement is prepared here, and need not be described again."""
        known = self._known.get(statement)
        return known is not None and known is statement.plan and self._forgotten == self._session.forgotten

    def cancel(self, request: Request) -> None:
        """The worker waits for the request no more. Only what runs now can be cancelled, which is the first; another
        one is when it becomes the first and does not end at once."""
        if not self._departures.withdraw(request):
            self._cancelling.cancel(request)

    def cancel_all(self) -> None:
        """The lease has ended: cancel what runs yet."""
        for request in [request for unit in self._units for request in requests_of(unit)]:
            if request is not self._cancelling.cancelled:
                self.cancel(request)

    @property
    def is_busy(self) -> bool:
        """Whether the connection cannot be given back yet."""
        is_here = self._connection.transport is not None
        return is_here and (bool(self._units) or self._cancelling.cancelled is not None)

    def give_back(self) -> None:
        """asyncpg has the connection again. Nothing is in flight."""
        transport = self._connection.transport
        if transport is None:
            return
        if self.is_busy or transport.get_write_buffer_size():
            raise RuntimeError(f"{self!r} cannot give the connection back now")
        self._connection.give_back()

    def never_ran(self) -> list[Request]:
        """Once the connection is lost: the requests that PostgreSQL certainly did not begin."""
        return self._loss.never_ran()

    # --- what comes of the first in flight, as the reader finds -------------------------------------------

    def succeeded(self, head: Request, tag: bytes, *, in_transaction: bool = False) -> None:
        if head.lease is not None:
            self._note(in_transaction=in_transaction)
        self._units.popleft()
        self._back.append(head)
        reply = self._reply
        reply.awaited = BIND
        if type(head.payload) is Fetch:
            self._reports.rows(head, head.work[0].shape, reply.take_part())
        else:
            self._reports.tag(head, tag)
        cancelling = self._cancelling
        if cancelling.unwanted or cancelling.cancelled is not None:
            cancelling.ended((head,))

    def part_came(self, head: Request) -> None:
        if self._cancelling.cancelled is not None or head in self._cancelling.exposed:
            return  # it may have to run again, and what has been passed on cannot be taken back
        rows = self._reply.take_part()
        if not head.answered:
            part = array_header(len(rows)) + b"".join(rows)
            has_room = self._reports.part(head, head.work[0].shape, part, self._connection.resume)
            if not has_room:
                self._hold.begin(head)

    def ended(self, head: Request) -> None:
        reply = self._reply
        error = reply.error
        if error is None:
            tag, reply.tag = reply.tag, b""
            self.succeeded(head, tag, in_transaction=reply.status != b"I")
            return
        if head.lease is not None:
            self._note(in_transaction=reply.status != b"I", has_failed=reply.status == b"E")
        refused = reply.awaited == SYNC_AFTER_REFUSAL
        reply.begin_next()
        self._units.popleft()
        if isinstance(error, dict):
            code = error.get("C", "")
            if refused and is_refusal(error):
                if reply.status != b"I":  # it has ended a lease's transaction
                    self._prepared.refused((head.statement,))  # type: ignore[arg-type]  # only leases have none
                    self._failed(head, error)
                elif head.answered:
                    self._back.append(head)
                else:
                    self._departures.run_again(head, code)
            elif code == CANCELED and not head.answered and self._cancelling.has_hit(head):
                self._flight.write(head, head.work[1])
            else:
                self._failed(head, error)
        else:
            self._reports.failed(head, error)
            self._back.append(head)
        self._cancelling.ended((head,))

    def _failed(self, head: Request, fields: dict[str, str]) -> None:
        assert head.statement is not None  # noqa: S101
        self._reports.failed(head, server_error(fields, head.statement.sql))
        self._back.append(head)

    def _note(self, *, in_transaction: bool, has_failed: bool = False) -> None:
        """So a statement has left a lease's session. The worker is told what else has changed before its answer."""
        self._session.in_transaction_now = in_transaction
        self._session.has_failed = has_failed
        if self._reader.heard_of_settings:
            self._reader.heard_of_settings = False
            if self._backend.tenancy is not None:
                self._backend.tenancy.tell_settings()

    def described(self, unit: Describing) -> None:
        self._units.popleft()
        requests, why_not = self._prepared.described(unit)
        if unit.error is not None and unit.status != b"I":  # which has ended a lease's transaction: that is its error
            requests = unit.requests[:1]
            self._note(in_transaction=True, has_failed=True)
            self._failed(requests[0], unit.error)
        else:
            self._back += self._departures.described(unit, requests, why_not)
        self._cancelling.ended(requests)

    def go_on_with(self, group: Group, message: bytes) -> None:
        if group.request.answered:  # nobody waits for the rest
            self.group_ended(group)
        else:
            self._units.popleft()
            self._flight.write(group, message)

    def group_ended(self, group: Group) -> None:
        self._units.popleft()
        request = group.request
        if request.answered or not self._departures.run_group_again(group):
            self._reports.results(request, group)
            self._back.append(request)
            self._cancelling.ended((request,))

    # --- what the connection tells ------------------------------------------------------------------------

    def was_read(self) -> None:
        """Learn how long it took what has come back, and hand it over."""
        back = self._back
        if not back:
            return
        self._back = []
        if back[0].lease is not None:
            self._came_back_on_lease(back)
            return
        flight, turn, cancelling = self._flight, self._lane.turn, self._cancelling
        took = max(0.0, turn.began - turn.lag - flight.since) / len(back)
        flight.since = turn.began
        seconds = self._lane.pace.at_best(took, back[0].statement)  # type: ignore[arg-type]
        for request in back:
            request.statement.learn(seconds, took)  # type: ignore[union-attr]
            request.payload = request.work = None  # whoever remembers the request need not remember these
        if self._again or cancelling.exposed:
            self._again.difference_update(back)
            cancelling.exposed.difference_update(back)
        if cancelling.cancelled is not None:
            cancelling.hold(back)
        if back:
            self._reports.came_back(self._backend, back)

    def _came_back_on_lease(self, back: list[Request]) -> None:
        """A lease's statement has ended. Of how long it took nothing is learned: it may have waited for others."""
        for request in back:
            request.payload = request.work = None
        self._again.difference_update(back)
        self._cancelling.hold(back)
        if back:
            self._reports.came_back(self._backend, back)

    def was_lost(self) -> None:
        self._loss.tell()
