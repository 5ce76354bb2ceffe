"""A tenancy: what a lease has open on its session, by the numbers that its worker knows it by.

Prepared statements and cursors are asyncpg's own objects. They are dropped when the lease ends; what PostgreSQL keeps
of them goes with the session's reset, or with the transaction that a cursor lives in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import msgspec

from ..core.lease import Lease
from ..core.request import Request
from ..core.statement import Statement, concerns_a_transaction
from ..messages import Done, Execute, ExecuteMany, Fetch, FetchMany, Rows
from ..messages.listening import Listen, Notification, Unlisten
from ..messages.session import (
    CloseCursor,
    CloseStatement,
    Describe,
    FetchCursor,
    MoveCursor,
    Notice,
    OpenCursor,
    Opened,
    Prepare,
    Prepared,
    Reset,
    SetCodec,
    Settings,
    TypeInfo,
    Watch,
)
from ..messages.unions import LeaseNotice
from .codecs import Codecs, parts_of
from .identifiers import quoted
from .reports import Answer
from .session import Session, ShapedSink
from .shapes import Shape, ShapeTable

if TYPE_CHECKING:
    from .pipeline import Pipeline

PassOn = Callable[[Request, Shape, Sequence[Sequence[Any]]], Awaitable[msgspec.Raw]]


class _Opened(NamedTuple):
    """A prepared statement or a cursor, and the shape of its rows."""

    of: Any
    shape: Shape


class Tenancy:
    """One lease's time on a session.

    settings: the reported parameters that its worker was told last. pass_on: encodes rows, and passes on those that
    are too many for one reply. sink: passes on what comes of a request's large result before its end. schema_changed:
    has all sessions forget what they know of the database's types.
    """

    def __init__(
        self,
        session: Session,
        lease: Lease,
        shapes: ShapeTable,
        *,
        pass_on: PassOn,
        sink: Callable[[Request], ShapedSink],
        schema_changed: Callable[[], None],
    ) -> None:
        self.lease = lease
        self._pass_on = pass_on
        self._sink = sink
        self._schema_changed = schema_changed
        self.settings = session.reported
        self._session = session
        self._shapes = shapes
        self._numbers = 0
        self._statements: dict[int, _Opened] = {}
        self._cursors: dict[int, _Opened] = {}
        self._unused: list[Any] = []  # cursors that are to be closed when there is time
        self._logs = False
        self._has_set_locally = False
        self._codecs = Codecs(session)
        session.notified = self._notified

    @property
    def server_version(self) -> tuple[int, int, int, str, int]:
        """PostgreSQL's version."""
        major, minor, micro, level, serial = self._session.get_server_version()
        return major, minor, micro, level, serial

    def told(self, notice: LeaseNotice) -> None:
        """The worker says something that has no answer."""
        match notice:
            case CloseStatement(statement=number):
                self._statements.pop(number, None)  # asyncpg closes it at the next one
            case CloseCursor(cursor=number):
                if (cursor := self._cursors.pop(number, None)) is not None:
                    self._unused.append(cursor.of)
            case Watch(log=log):
                self._watch_log(log)

    def suits_the_lane(self, statement: Statement | None, pipeline: Pipeline | None) -> bool:
        """Whether the statement lane may be asked to run it.

        Where something may have been left in the session, or SET LOCAL is in force, only what is prepared there
        already, as asyncpg would have it, too: what names mean and how texts are encoded may have changed. Where a
        transaction has failed, the complaint is to come from where it does in asyncpg; and asyncpg tells a log
        listener which statement a notice is of.
        """
        session = self._session
        if self._logs:
            return False
        if session.has_failed and session.is_in_transaction() and (statement is None or statement.leaves_nothing):
            return False
        if self._has_set_locally:
            self._has_set_locally = session.is_in_transaction()
        if not (self.lease.touched or self._has_set_locally):
            return True
        is_known = pipeline is not None and statement is not None and pipeline.knows(statement)
        return is_known and session.speaks_utf8 and not session.coded

    def goes_to_asyncpg(self, statement: Statement | None) -> None:
        """The statement lane does not run it. If it is SET LOCAL, asyncpg is to run the rest of the transaction."""
        if statement is not None and statement.keeps_clean and not statement.leaves_nothing:
            self._has_set_locally = True

    def tell_settings(self) -> None:
        """Tell the worker of the reported parameters that have changed."""
        settings = self._session.reported
        if settings is not self.settings:
            changed = {name: value for name, value in settings.items() if self.settings.get(name) != value}
            self.settings = settings
            if changed and self._is_current:
                self.lease.worker.link.send(Settings(self.lease.token, changed))

    def end(self) -> None:
        """The lease has ended."""
        self._watch_log(False)
        self._session.notified = None
        self._codecs.clear()
        self._statements.clear()
        self._cursors.clear()
        self._unused.clear()

    async def tidy(self, message: Any) -> None:
        """Before it is performed: end the cursors that nobody uses any more, unless it ends them itself."""
        if self._unused and not (isinstance(message, Execute) and concerns_a_transaction(message.sql)):
            while self._unused:
                await self._session.close_portal(self._unused.pop())

    async def perform(self, request: Request) -> tuple[Answer, Shape | None]:
        """Do what the request's message asks for, of those that tenants.py knows. Raises asyncpg's errors."""
        session = self._session
        message = request.payload
        match message:
            case Prepare(id=id, sql=sql, name=name):
                statement = await session.prepare(sql, name=name)
                shape = self._shapes.get(session.columns(statement.get_attributes()))
                number = self._keep(self._statements, _Opened(statement, shape))
                return await self._prepared(id, number, statement), None
            case Describe():
                return await described(session, message), None
            case OpenCursor(id=id, sql=sql, args=args, statement=None):
                return await self._open(id, session.cursor(sql, *args)), None
            case OpenCursor(id=id, args=args, statement=number):
                return await self._open(id, self._statement(number).of.cursor(*args)), None
            case FetchCursor(cursor=number, limit=limit):
                cursor = self._cursor(number)
                return await self._rows(request, cursor.shape, await cursor.of.fetch(limit)), cursor.shape
            case MoveCursor(id=id, cursor=number, count=count):
                moved = await self._cursor(number).of.forward(count)
                return Done(id, f"MOVE {moved}", session.is_in_transaction()), None
            case SetCodec(id=id):
                await self._codecs.set(message)
                return Done(id, None, session.is_in_transaction()), None
            case Listen(id=id, channels=channels) | Unlisten(id=id, channels=channels):
                verb = type(message).__name__.upper()
                for channel in channels:
                    await session.fetch(f"{verb} {quoted(channel)}")  # as asyncpg does
                return Done(id, verb, session.is_in_transaction()), None
            case Reset(id=id, schema_only=True):
                self._schema_changed()
                return Done(id, None, session.is_in_transaction()), None
            case Reset(id=id):
                self._watch_log(False)
                self._cursors.clear()
                await session.renew()
                return Done(id), None
            case _:
                return await self._run(request)

    async def _run(self, request: Request) -> tuple[Answer, Shape | None]:
        """Run a prepared statement."""
        message: Fetch | ExecuteMany | FetchMany = request.payload
        statement, shape = self._statement(message.statement)
        match message:
            case Fetch(args=args, limit=limit):
                if limit == 1:
                    record = await statement.fetchrow(*args)
                    records = [] if record is None else [record]
                elif limit:
                    records = (await statement.fetch(*args))[:limit]
                else:
                    records = await self._session.rows_of(statement, args, shape, self._sink(request))
                status = statement.get_statusmsg()
            case FetchMany(args=args):
                records, status = await self._session.run_many(statement, args, rows=True), None
            case ExecuteMany(id=id, args=args):
                await self._session.run_many(statement, args, rows=False)
                return Done(id, None, self._session.is_in_transaction()), None
        return await self._rows(request, shape, records, status), shape

    async def _open(self, id: int, factory: Any) -> Opened:
        cursor = await factory
        shape = self._shapes.get(self._session.columns_of_cursor(cursor))
        number = self._keep(self._cursors, _Opened(cursor, shape))
        return Opened(id, number, self._session.is_in_transaction())

    async def _rows(
        self, request: Request, shape: Shape, records: Sequence[Sequence[Any]], status: str | None = None
    ) -> Rows:
        data = await self._pass_on(request, shape, records)
        return Rows(request.id, shape.number, None, data, self._session.is_in_transaction(), status)

    async def _prepared(self, id: int, number: int, statement: Any) -> Prepared:
        parameters, attributes = statement.get_parameters(), statement.get_attributes()
        parts = await parts_of(self._session, parameters) if statement.get_name() else []  # or it would be lost
        types = _types(parameters, attributes)
        in_transaction, plain = self._session.is_in_transaction(), not self._session.has_codecs
        return Prepared(id, number, statement.get_name(), *types, in_transaction, parts, plain)

    def _keep(self, where: dict[int, Any], what: Any) -> int:
        self._numbers += 1
        where[self._numbers] = what
        return self._numbers

    def _statement(self, number: int | None) -> _Opened:
        try:
            return self._statements[number or 0]
        except KeyError:
            raise asyncpg.InterfaceError(f"the lease has no prepared statement {number} any more") from None

    def _cursor(self, number: int) -> _Opened:
        try:
            return self._cursors[number]
        except KeyError:
            raise asyncpg.InvalidCursorNameError(f"the lease has no cursor {number} any more") from None

    @property
    def _is_current(self) -> bool:
        return self.lease.holder.lease is self.lease

    def _watch_log(self, watch: bool) -> None:
        if watch and not self._logs and not self._session.is_closed():
            self._session.add_log_listener(self._logged)
        elif self._logs and not watch:
            self._session.remove_log_listener(self._logged)
        else:
            return
        self._logs = watch

    def _notified(self, channel: str, payload: str, pid: int) -> None:
        if self._is_current:
            self.lease.worker.link.send(Notification(channel, payload, pid, self.lease.token))

    def _logged(self, _: object, message: Any) -> None:
        if self._is_current:
            fields = {name: str(value) for name, value in message.as_dict().items()}
            self.lease.worker.link.send(Notice(self.lease.token, fields))


async def described(session: Session, message: Describe) -> Prepared:
    """The answer to `Describe`."""
    parameters, attributes = await session.describe(message.sql)
    parts = await parts_of(session, [*parameters, *(attribute.type for attribute in attributes)])
    return Prepared(message.id, 0, "", *_types(parameters, attributes), session.is_in_transaction(), parts)


def _types(
    parameters: Iterable[asyncpg.Type], attributes: Iterable[asyncpg.Attribute]
) -> tuple[list[TypeInfo], list[tuple[str, TypeInfo]]]:
    return [TypeInfo(*each) for each in parameters], [(name, TypeInfo(*kind)) for name, kind in attributes]
