"""The statement lane on one backend: statements of many workers, one behind the other on one connection.

asyncpg has opened the connection; while statements travel here the transport's protocol is this one, and it is given
back for whatever asyncpg is to do. Each statement is Bind, Execute and Sync, so the failure of one is nobody else's,
and its reply is final at ReadyForQuery. What comes back carries no name: it belongs to the first that was sent. So
what PostgreSQL sends is checked against what each statement may be answered with, and at the first doubt the
connection is cut, rather than give one worker's rows to another.

No task, future or queue per statement: `send` puts bytes into the buffer that leaves at the end of the event loop's
turn, `data_received` hands the replies over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ..core.request import Request
from ..core.statement import Statement
from ..errors import MessageTooLarge
from ..messages import Execute, Fetch
from . import pgwire
from .describing import Describing
from .group import Group
from .lane import Lane
from .pgwire import BOUND, SUSPENDED_IDLE
from .plan import NotQuick, Plan
from .session import Session, server_error
from .transcode import Doubt

if TYPE_CHECKING:
    from .backend import Backend

log = logging.getLogger("pgactor.pipeline")

WINDOW = 64 * 1024
"""How many bytes of replies are read before others have their turn."""

SOON_SECONDS = 0.01
"""How long a statement that nobody wants any more may run before a cancel request is sent."""

MAX_ATTEMPTS = 4
"""How often a statement is described whose types change each time, before it is left to asyncpg."""

_BIND, _ROWS, _SYNC, _SYNC_AFTER_REFUSAL = range(4)
"""What the first statement awaits: BindComplete, rows and the command's end, ReadyForQuery (after it was not even
bound)."""

_ANY_TIME = (pgwire.NOTICE, pgwire.PARAMETER_STATUS, pgwire.NOTIFICATION)
"""Messages that may come at any time, and belong to no statement."""

_MAY_BE_LONG = frozenset(
    (*_ANY_TIME, pgwire.DATA_ROW, pgwire.ERROR, pgwire.ROW_DESCRIPTION, pgwire.PARAMETER_DESCRIPTION)
)
_LONG = 30000
_LONGEST = 2**30
"""How long messages may be: a length beyond that is none."""

_NEVER_RAN = {
    "26000": "FetchPreparedStatement",
    "0A000": "RevalidateCachedQuery",
}
"""PostgreSQL's functions that refuse a prepared statement before it runs, by the code they do it with."""


def _is_refusal(error: dict[str, str]) -> bool:
    """Whether the error, if it came in the place of BindComplete, is that the prepared statement cannot be used."""
    code = error.get("C", "")
    inside = "W" in error  # of a function, evaluated while its call was planned: it tells where
    return code in _NEVER_RAN and _NEVER_RAN[code] == error.get("R") and not inside


_CANCELED = "57014"
_SYNTAX_ERROR = "42601"


class Reports(Protocol):
    """Who hears of what statements come to."""

    def rows(self, request: Request, plan: Plan, rows: list[bytes]) -> None: ...
    def tag(self, request: Request, tag: bytes) -> None: ...
    def failed(self, request: Request, error: Exception) -> None: ...

    def results(self, request: Request, group: Group) -> None:
        """The group has ended, well or not."""

    def came_back(self, backend: Backend, requests: list[Request]) -> None:
        """The backend has done with these, in this order."""

    def diverted(self, backend: Backend, request: Request) -> None:
        """The request did not run: it is for asyncpg."""


class Pipeline(asyncio.Protocol):
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
        self._patience = patience  # how many seconds a cancelled statement may take to end
        self._max_bytes = max_bytes  # of one result
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None  # while the connection is ours
        self._known: dict[Statement, Plan] = {}  # what PostgreSQL has prepared, the first described first
        self._describing: dict[Statement, Describing] = {}
        self._left_over: list[bytes] = []  # names of plans that nobody uses any more
        self._lost = False
        self._is_cut = False
        # what was sent
        self._flight: deque[Request | Describing | Group] = deque()
        self._out: list[bytes] = []
        self._unsent: list[Request | Describing | Group] = []  # whose bytes are in _out
        self._again: set[Request] = set()  # which run a second time
        self._since = 0.0  # when the first of them had nobody before it
        # what was read, and is not a whole message yet
        self._pieces: list[bytes] = []
        self._read_bytes = 0
        self._needed_bytes = 0
        self._paused = False
        # the reply of the first of them
        self._awaited = _BIND
        self._rows: list[bytes] = []
        self._rows_bytes = 0
        self._tag = b""
        self._error: dict[str, str] | Exception | None = None
        self._back: list[Request] = []  # whose reply is complete
        self._fatal: dict[str, str] | None = None
        # cancelling
        self._watch: asyncio.TimerHandle | None = None
        self._unwanted: set[Request] = set()
        self._cancelled: Request | None = None  # until it has ended and the cancel request's connection has, too
        self._canceling: asyncio.Task[None] | None = None
        self._exposed: set[Request] = set()  # whom the cancel request may hit instead
        self._held: list[Request] = []  # which has ended, but the cancel request's connection has not

    def __repr__(self) -> str:
        return f"<Pipeline of backend {self._backend.holder.number}: {len(self._flight)} in flight>"

    # --- sending ------------------------------------------------------------------------------------------

    def send(self, request: Request) -> None:
        """Send the request's statement behind those in flight; the reports follow."""
        if self._transport is None and not self._lost:
            if self._session.is_closed():
                self._lost = True
            else:
                self._transport = self._session.lend(self)
        work = request.work
        if type(work) is Group:
            self._send_group(work)
            return
        statement = request.statement
        assert statement is not None  # noqa: S101  # only leases have none
        known = self._known.get(statement)
        if known is work[0] and work[1] is not None:
            self._write(request, work[1])
        elif known is not None and not known.why_not and (work[1] is None or known is statement.plan):
            self._run_described(request, known)  # it has been described since the request came
        else:
            self._describe(statement, request)

    def _send_group(self, group: Group) -> None:
        """Write the group, or have described first what is not known here."""
        missing = {each for each in group.needs() if each.plan is None or self._known.get(each) is not each.plan}
        if group.begin in missing and group.commit is not None:
            missing.add(group.commit)  # if PostgreSQL has lost it, the transaction could not be ended
        group.waits = len(missing)
        group.attempts += 1
        for statement in missing:
            self._describe(statement, group.request)
        if missing:
            return
        if why_not := next((each.plan.why_not for each in group.needs() if each.plan.why_not), ""):
            self._divert(group.request, why_not)
        else:
            try:
                self._write(group, group.message())
            except NotQuick:
                self._divert(group.request, "arguments")

    def _describe(
        self, statement: Statement, request: Request, *, attempt: int = 1, forget: tuple[bytes, ...] = ()
    ) -> None:
        """Have the statement described before the request runs; others that need the same wait for the same."""
        if unit := self._describing.get(statement):
            unit.requests.append(request)
            return
        plan: Plan = statement.plan or self._lane.new_plan(statement)
        before = self._known.pop(statement, plan)
        if before is not plan:
            forget += (before.name,)
        if self._left_over:
            forget += tuple(name for name in self._left_over if name != plan.name)
            self._left_over.clear()
        if len(self._known) >= self._lane.size:
            forget += (self._known.pop(next(iter(self._known))).name,)
        unit = self._describing[statement] = Describing(statement, plan, request, attempt=attempt)
        self._write(unit, unit.messages(forget=forget))

    def _write(self, unit: Request | Describing | Group, message: bytes) -> None:
        self._flight.append(unit)
        self._unsent.append(unit)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(message)

    def _flush(self) -> None:
        """Write what has gathered; not while a cancel request is out, which might hit it."""
        if self._transport is None or self._cancelled is not None or self._is_cut or not self._out:
            return
        if len(self._unsent) == len(self._flight):
            self._since = monotonic()
        self._transport.write(b"".join(self._out))
        self._out.clear()
        self._unsent.clear()
        if self._lane.command_timeout and self._watch is None:
            self._watch = self._loop.call_later(self._lane.command_timeout, self._check_command_timeout)

    def give_back(self) -> None:
        """asyncpg has the connection again. Nothing is in flight."""
        if self._transport is None:
            return
        if self._flight or self._cancelled is not None or self._transport.get_write_buffer_size():
            raise RuntimeError(f"{self!r} cannot give the connection back now")
        if self._pieces:  # of messages that nobody asked for
            self._session.pass_on(b"".join(self._pieces))
            self._pieces.clear()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._transport = None
        self._session.take_back()

    # --- receiving ----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_cut:
            return
        self._lane.turn.enter()
        if self._pieces:
            self._pieces.append(data)
            self._read_bytes += len(data)
            if self._read_bytes < self._needed_bytes:
                return  # of a long message; it is put together once
            data = b"".join(self._pieces)
            self._pieces.clear()
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Read the messages, a window of them at most; what is left waits for the next turn, or for the rest of
        it."""
        end = min(len(data), WINDOW)
        try:
            at = self._messages(data, end)
            if not at and end < len(data):
                at = self._messages(data, len(data))  # a message of more than a window
        except (Doubt, ValueError, IndexError) as doubt:
            self._cut(str(doubt))
            return
        if at < len(data) and self._transport is None:  # it was given back meanwhile
            self._session.pass_on(data[at:])
        elif at < len(data):
            self._pieces.append(data[at:])
            self._read_bytes = len(data) - at
            self._needed_bytes = 1 + pgwire.header(data, at)[1] if self._read_bytes >= 5 else 5
            if end < len(data) and self._needed_bytes <= self._read_bytes:
                self._pause()
        if self._back:
            self._count_and_report()

    def _pause(self) -> None:
        assert self._transport is not None  # noqa: S101  # what is read comes from it
        self._paused = True
        self._transport.pause_reading()
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and self._paused:
            self._lane.turn.enter()
            self._paused = False
            self._transport.resume_reading()
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._read(data)

    def _count_and_report(self) -> None:
        back, turn = self._back, self._lane.turn
        self._back = []
        seconds = max(0.0, turn.began - turn.lag - self._since) / len(back)
        self._since = turn.began
        for request in back:
            request.statement.learn(seconds)  # type: ignore[union-attr]
            request.payload = request.work = None  # whoever remembers the request need not remember these
        if self._again or self._exposed:
            self._again.difference_update(back)
            self._exposed.difference_update(back)
        if self._canceling is not None and self._cancelled in back:
            back.remove(self._cancelled)
            self._held = [self._cancelled]
        if back:
            self._reports.came_back(self._backend, back)

    def _messages(self, data: bytes, end: int) -> int:
        """Take in the whole messages before `end`; returns where they end."""
        flight = self._flight
        at = 0
        while at < end:
            head = flight[0] if flight else None
            error = self._error
            if type(head) is Request and error is None:
                if self._awaited == _BIND and data.startswith(BOUND, at):
                    at += len(BOUND)
                    self._awaited = _ROWS
                if self._awaited == _ROWS:
                    plan = head.work[0]
                    if type(head.payload) is Fetch and plan.has_rows:
                        at = self._take_rows(plan, data, at, end)
                        if self._error is not None:
                            continue
                    if data.startswith(plan.end, at):  # as nearly all do
                        at += len(plan.end)
                        self._succeeded(head, plan.usual_tag)
                        continue
                    if data.startswith(SUSPENDED_IDLE, at) and self._may_suspend(head):
                        at += len(SUSPENDED_IDLE)
                        self._succeeded(head, b"")
                        continue
            elif type(head) is Group:
                at = head.take_usual(data, at, end)
            if end - at < 5:
                break
            kind, length = pgwire.header(data, at)
            if not 4 <= length <= _LONG and (not 4 <= length <= _LONGEST or kind not in _MAY_BE_LONG):
                raise Doubt(f"{chr(kind)!r} came with a length of {length}")
            stop = at + 1 + length
            if stop > end:
                break
            self._take(head, kind, data[at:stop])
            at = stop
        return at

    def _take_rows(self, plan: Plan, data: bytes, at: int, end: int) -> int:
        rows = self._rows
        try:
            stop = plan.rows(data, at, end, rows)
        except Doubt:
            raise
        except Exception as error:  # a value that Python does not have; what follows of the rows is skipped
            self._error = error
            return at
        self._rows_bytes += stop - at
        if self._rows_bytes > 2 * self._max_bytes:  # far too much; the peer will say so of less
            rows.clear()
            self._error = MessageTooLarge(
                f"the result is more than {self._max_bytes} bytes, the cap (max_frame_bytes); fetch fewer rows or "
                "columns at a time"
            )
        return stop

    def _may_suspend(self, head: Request) -> bool:
        """Whether there may be more rows than were asked for: it has been so many."""
        limit: int = head.payload.limit if type(head.payload) is Fetch else 0
        return limit > 0 and (self._error is not None or len(self._rows) == limit)

    def _take(self, head: Request | Describing | Group | None, kind: int, message: bytes) -> None:
        """Take in one message, by the grammar of what it answers."""
        if kind in _ANY_TIME:
            self._session.pass_on(message)
            return
        body = message[5:]
        if kind == pgwire.ERROR:
            fields = pgwire.error_fields(body)
            if fields.get("V", fields.get("S")) in ("FATAL", "PANIC"):
                if "R" in fields:  # PostgreSQL's own word; a pooler's is no goodbye of PostgreSQL
                    self._fatal = fields
                return
        if head is None:
            raise Doubt(f"{chr(kind)!r} came, and nothing had been asked")
        if isinstance(head, Describing):
            if head.take(kind, body):
                self._flight.popleft()
                self._begin_next()
                self._described(head)
            return
        if isinstance(head, Group):
            if head.take(kind, message):
                self._flight.popleft()
                self._begin_next()
                self._group_ended(head)
            elif head.paced and (more := head.next_message()):
                self._go_on_with(head, more)
            return
        plan, awaited = head.work[0], self._awaited
        if kind == pgwire.ERROR:
            if isinstance(self._error, dict):
                raise Doubt("two errors came for one statement")
            self._error = fields
            self._awaited = _SYNC_AFTER_REFUSAL if awaited == _BIND else _SYNC
        elif kind == pgwire.READY and awaited >= _SYNC:
            if body != b"I":
                raise Doubt("a statement left its session inside a transaction")
            self._ended(head)
        elif awaited != _ROWS:
            raise Doubt(f"{chr(kind)!r} came before a statement was bound, or after its end")
        elif kind == pgwire.COMMAND_COMPLETE:
            self._tag = body[:-1]
            if not plan.may_end_with(self._tag):
                raise Doubt(f"{self._tag!r} is no answer to {head.statement!r}")
            self._awaited = _SYNC
        elif kind == pgwire.EMPTY_QUERY or (kind == pgwire.PORTAL_SUSPENDED and self._may_suspend(head)):
            self._awaited = _SYNC
        elif kind != pgwire.DATA_ROW or not plan.has_rows or not (self._error or type(head.payload) is Execute):
            raise Doubt(f"{chr(kind)!r} came in the place of rows")
        elif int.from_bytes(body[:2]) != plan.width:
            raise Doubt("another number of columns")

    # --- what statements come to --------------------------------------------------------------------------

    def _succeeded(self, head: Request, tag: bytes) -> None:
        self._flight.popleft()
        self._awaited = _BIND
        self._back.append(head)
        if type(head.payload) is Fetch:
            rows = self._rows
            self._rows = []
            self._rows_bytes = 0
            self._reports.rows(head, head.work[0], rows)
        else:
            self._reports.tag(head, tag)
        if self._unwanted or self._cancelled is not None:
            self._look_after_cancelled((head,))

    def _ended(self, head: Request) -> None:
        """The first statement's ReadyForQuery has come."""
        error = self._error
        if error is None:
            tag, self._tag = self._tag, b""
            self._succeeded(head, tag)
            return
        refused = self._awaited == _SYNC_AFTER_REFUSAL
        self._flight.popleft()
        self._begin_next()
        if isinstance(error, dict):
            code = error.get("C", "")
            if refused and _is_refusal(error):
                self._prepare_again(head, code, error)
            elif code == _CANCELED and head in self._exposed and not head.answered:
                self._exposed.clear()  # a request to cancel hits one statement
                self._write(head, head.work[1])
            else:
                self._failed(head, error)
        else:
            self._reports.failed(head, error)
            self._back.append(head)
        if self._unwanted or self._cancelled is not None:
            self._look_after_cancelled((head,))

    def _failed(self, head: Request, fields: dict[str, str]) -> None:
        assert head.statement is not None  # noqa: S101
        self._reports.failed(head, server_error(fields, head.statement.sql))
        self._back.append(head)

    def _begin_next(self) -> None:
        self._awaited = _BIND
        self._rows = []
        self._rows_bytes = 0
        self._tag = b""
        self._error = None

    def _prepare_again(self, head: Request, code: str, fields: dict[str, str]) -> None:
        """PostgreSQL has lost the prepared statement, or its result has changed: prepare it anew, once."""
        if head.answered:
            self._back.append(head)
        elif head not in self._again:
            self._again.add(head)
            self._describe(head.statement, head)  # type: ignore[arg-type]  # only leases have none
        else:
            self._again.discard(head)
            if code == "26000":
                self._lane.switch_off("names_lost", "prepared statements get lost: is there a pooler between?")
            self._divert(head, "names_lost" if code == "26000" else "schema")

    def _described(self, unit: Describing) -> None:
        statement, plan, ended = unit.statement, unit.plan, unit.requests
        waiting = [request for request in ended if not request.answered]
        del self._describing[statement]
        if unit.error is not None:
            why_not = "unprepared"
            if unit.error.get("C") == _SYNTAX_ERROR:  # several statements, too
                why_not = "text"
                self._lane.refuse(statement, why_not)
        elif self._lane.described(statement, plan, unit.types, unit.fields):
            self._known[statement] = plan
            why_not = plan.why_not
        elif unit.attempt < MAX_ATTEMPTS and waiting:
            self._describe(statement, waiting[0], attempt=unit.attempt + 1, forget=(plan.name,))
            self._describing[statement].requests[1:] = waiting[1:]
            ended = [request for request in unit.requests if request.answered]
            why_not = ""
        else:
            why_not = "schema"
        for request in ended:
            if type(request.work) is Group:
                self._described_for_group(request.work, why_not)
            elif request.answered:
                self._back.append(request)
            elif why_not:
                self._divert(request, why_not)
            else:
                self._run_described(request, plan)
        if self._unwanted or self._cancelled is not None:
            self._look_after_cancelled(ended)

    def _run_described(self, request: Request, plan: Plan) -> None:
        message = request.payload
        try:
            bound = plan.bind(message.args, message.limit if type(message) is Fetch else 0)
        except NotQuick:
            self._divert(request, "arguments")
        else:
            request.work = (plan, bound)
            self._write(request, bound)

    def _described_for_group(self, group: Group, why_not: str) -> None:
        group.why_not = group.why_not or why_not
        group.waits -= 1
        if group.waits:
            return
        if group.request.answered:
            self._back.append(group.request)
        elif group.why_not or group.attempts == MAX_ATTEMPTS:
            self._divert(group.request, group.why_not or "schema")
        else:
            self._send_group(group)

    def _go_on_with(self, group: Group, message: bytes) -> None:
        """Send the next statement of a batch, unless nobody waits for it any more."""
        if group.request.answered:
            self._flight.popleft()
            self._group_ended(group)
        else:
            self._flight.popleft()
            self._write(group, message)

    def _group_ended(self, group: Group) -> None:
        request = group.request
        if not request.answered and (refused := group.run_again(_is_refusal)):
            for statement in refused:
                if plan := self._known.pop(statement, None):
                    self._left_over.append(plan.name)
            self._send_group(group)
            return
        self._reports.results(request, group)
        self._back.append(request)
        if self._unwanted or self._cancelled is not None:
            self._look_after_cancelled((request,))

    def _divert(self, request: Request, why_not: str) -> None:
        self._again.discard(request)
        self._exposed.discard(request)
        self._lane.count(why_not)
        self._reports.diverted(self._backend, request)

    # --- cancelling ---------------------------------------------------------------------------------------

    def cancel(self, request: Request) -> None:
        """The worker waits for the request no more. Only what runs now can be cancelled, which is the first; another
        one is when it becomes the first and does not end at once."""
        unit = request.work if type(request.work) is Group else request
        if unit in self._unsent:
            at = self._unsent.index(unit)
            del self._unsent[at], self._out[at]
            self._flight.remove(unit)
            self._again.discard(request)
            self._exposed.discard(request)
            self._loop.call_soon(self._reports.came_back, self._backend, [request])
        elif self._is_first(request, alone=True):
            self._cancel_first(request)
        else:
            self._unwanted.add(request)

    def _cancel_first(self, request: Request) -> None:
        if self._cancelled is not None or self._flight[0] in self._unsent:
            self._unwanted.add(request)
        elif not self._lost:
            self._cancelled = request
            self._exposed = {unit for unit in self._flight if type(unit) is Request} - {request}
            self._canceling = self._loop.create_task(self._cancel(request))

    async def _cancel(self, request: Request) -> None:
        """Ask PostgreSQL to cancel what it runs; then nothing is written before that has ended, for the request
        names a backend and not a statement."""
        try:
            async with asyncio.timeout(self._patience) as patience:
                await self._session.cancel_running()
        except TimeoutError:
            pass
        except Exception as error:
            self._cut(f"a statement could not be cancelled: {type(error).__name__}: {error}")
        if patience.expired():  # asyncpg may have kept the TimeoutError for itself
            self._cut(f"a statement could not be cancelled within {self._patience:g} s")
        self._canceling = None
        if self._cancelled is request and self._is_first(request):
            self._loop.call_later(self._patience, self._cut_if_first, request)
        else:
            self._resume()

    def _look_after_cancelled(self, ended: Sequence[Request]) -> None:
        """Something has ended for these, and something is or is to be cancelled."""
        self._unwanted.difference_update(ended)
        if self._cancelled in ended and self._canceling is None:
            self._resume()
        self._look_at_first()

    def _look_at_first(self) -> None:
        """Have the first one cancelled if nobody wants it and it does not end at once."""
        requests = _requests_of(self._flight[0]) if self._flight else []
        if requests and self._unwanted.issuperset(requests):
            self._loop.call_later(SOON_SECONDS, self._cancel_if_first, requests[0])

    def _resume(self) -> None:
        self._cancelled = None
        self._flush()
        self._look_at_first()
        held, self._held = self._held, []
        if held:
            self._reports.came_back(self._backend, held)

    def _check_command_timeout(self) -> None:
        """End what has run for longer than the connection's command_timeout."""
        self._watch = None
        head = self._flight[0] if self._flight else None
        if head is None or self._lost or (head in self._unsent and self._cancelled is None):
            return
        limit = self._lane.command_timeout
        left = self._since + limit - monotonic()
        if left <= 0 and self._cancelled is None:
            requests = list(_requests_of(head))
            for request in requests:
                self._reports.failed(request, TimeoutError())
            self._cancel_first(requests[0])
            left = limit
        self._watch = self._loop.call_later(max(left, SOON_SECONDS), self._check_command_timeout)

    def _is_first(self, request: Request, *, alone: bool = False) -> bool:
        """Whether PostgreSQL works on the request now, or describes its statement (for nobody else)."""
        head = self._flight[0] if self._flight else None
        if isinstance(head, Describing):
            return request in head.requests and not (alone and any(not each.answered for each in head.requests))
        return head is not None and _request_of(head) is request

    def _cancel_if_first(self, request: Request) -> None:
        if self._is_first(request, alone=True):
            self._cancel_first(request)

    def _cut_if_first(self, request: Request) -> None:
        if self._cancelled is request and self._is_first(request):
            self._cut(f"a cancelled statement did not end within {self._patience:g} s")

    # --- the end of the connection ------------------------------------------------------------------------

    def _cut(self, why: str) -> None:
        """Give the connection up: what it says, or does not say, cannot be trusted any more."""
        if self._lost or self._is_cut:
            return
        log.error("backend %d (pid %d) is cut: %s", self._backend.holder.number, self._backend.pid, why)
        self._is_cut = True
        self._fatal = None
        self._pieces.clear()
        if self._transport is not None:
            self._transport.abort()
        else:  # it has just been given back
            self._session.terminate()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._transport = None
        head = self._flight[0] if self._flight else None
        if self._fatal is not None and type(head) is Request and self._awaited == _ROWS and not head.answered:
            self._failed(head, self._fatal)  # its transaction ended with the session
        elif self._fatal is not None and type(head) is Group and head.began and not head.may_have_happened:
            head.error = (head.index, self._fatal)
            self._reports.results(head.request, head)
        if not self._session.is_closed():  # or asyncpg has cut it
            self._session.lost(exc)

    def never_ran(self) -> list[Request]:
        """Once the connection is lost: the requests that PostgreSQL certainly did not begin.

        Those whose bytes were not written, those that waited for a description, and after an orderly goodbye all but
        the one that was bound already.
        """
        units: list[Request | Describing | Group] = list(self._flight if self._fatal is not None else self._unsent)
        head = units[0] if units else None
        if self._fatal is not None and (head.began if type(head) is Group else self._awaited != _BIND):
            units = units[1:]
        requests = [
            _request_of(unit)
            for unit in units
            if not isinstance(unit, Describing) and not (isinstance(unit, Group) and unit.began)
        ]
        waiting = [request for unit in self._describing.values() for request in unit.requests]
        return list(dict.fromkeys(requests + waiting))  # a group may wait for many


def _request_of(unit: Request | Group) -> Request:
    return unit if isinstance(unit, Request) else unit.request


def _requests_of(unit: Request | Describing | Group) -> list[Request]:
    return unit.requests if isinstance(unit, Describing) else [_request_of(unit)]
