"""psqlpy's Connection, Transaction and PreparedStatement, on a lease."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

from ...client.aiolease import AsyncLease
from ...client.failures import interface_error
from ...errors import ClientError
from .cursor import Cursor
from .options import IsolationLevel, ReadVariant, member_of
from .results import QueryResult
from .statements import Parameters, Statements, bound

_LEVELS = {
    IsolationLevel.ReadUncommitted: "READ UNCOMMITTED",
    IsolationLevel.ReadCommitted: "READ COMMITTED",
    IsolationLevel.RepeatableRead: "REPEATABLE READ",
    IsolationLevel.Serializable: "SERIALIZABLE",
}
_VARIANTS = {ReadVariant.ReadOnly: "READ ONLY", ReadVariant.ReadWrite: "READ WRITE"}

_RETURNED = "the connection is returned to the pool"


class Column(NamedTuple):
    """A column of a prepared statement."""

    name: str
    table_oid: int | None


class InSession(Statements):
    """What needs a session of its own."""

    async def _runner(self) -> AsyncLease:
        return self.held()

    @abstractmethod
    def held(self) -> AsyncLease:
        """The lease. Raises asyncpg.InterfaceError if it was given back."""

    async def prepare(self, querystring: str, parameters: Parameters = None) -> PreparedStatement:
        """Prepare a statement with these parameters."""
        sql, args = bound(querystring, parameters)
        return PreparedStatement(self, await self.held().prepare(sql), sql, args)

    def cursor(
        self, querystring: str | None = None, parameters: Parameters = None, array_size: int | None = None
    ) -> Cursor:
        """A cursor, within a transaction. array_size: how many rows it gives at a time; 1 if it is not given."""
        return Cursor(self.held, querystring, parameters, array_size)


class Connection(InSession):
    """A connection of the pool, until `close`, the end of `async with`, or until it is collected."""

    def __init__(self, acquire: Callable[[], Awaitable[AsyncLease]], returned: Callable[[], None]) -> None:
        self._acquire = acquire
        self._returned = returned
        self._lease: AsyncLease | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Connection:
        if self._loop is not None:
            raise interface_error(_RETURNED)
        self._loop = asyncio.get_running_loop()
        try:
            self._lease = await self._acquire()
        except BaseException:
            self._loop = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        lease, loop = self._lease, self._loop
        if lease is not None and loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it is closed just now, by another thread
                loop.call_soon_threadsafe(_give_back, lease, self._returned)

    def close(self) -> None:
        """Give the connection back; what is open is rolled back. Closing twice is allowed."""
        lease, self._lease = self._lease, None
        if lease is not None:
            _give_back(lease, self._returned)

    async def is_closed(self) -> bool:
        """Whether it was given back, or lost."""
        return self._lease is None or not self._lease.is_held

    async def in_transaction(self) -> bool:
        """Whether a transaction is open in it."""
        return self.held().is_in_transaction()

    def transaction(
        self,
        isolation_level: IsolationLevel | None = None,
        read_variant: ReadVariant | None = None,
        deferrable: bool | None = None,
    ) -> Transaction:
        """A transaction: `async with`, or `begin`, and `commit` or `rollback`."""
        words = [
            ""
            if isolation_level is None
            else f"ISOLATION LEVEL {_LEVELS[member_of(IsolationLevel, isolation_level)]}",
            "" if read_variant is None else _VARIANTS[member_of(ReadVariant, read_variant)],
            "" if deferrable is None else "DEFERRABLE" if deferrable else "NOT DEFERRABLE",
        ]
        return Transaction(self, f"BEGIN {', '.join(filter(None, words))}".strip())

    def held(self) -> AsyncLease:
        """Its lease."""
        if self._lease is None:
            raise interface_error(_RETURNED)
        return self._lease


class Transaction(InSession):
    """A transaction on a connection, which it keeps from being given back."""

    def __init__(self, connection: Connection, begin: str) -> None:
        self._connection = connection
        self._begin = begin
        self._begun = False
        self._over = False

    async def __aenter__(self) -> Transaction:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over:
            await (self.commit() if error is None else self.rollback())

    async def begin(self) -> None:
        """Begin it. Raises asyncpg.InterfaceError if one is open on the connection."""
        lease = self.held()
        if lease.is_in_transaction():
            raise interface_error(
                "a transaction is open on this connection: create_savepoint() begins one inside of it"
            )
        await lease.execute(self._begin)
        self._begun = True

    async def commit(self) -> None:
        """Make it last; it cannot be used any more."""
        await self._end("COMMIT")

    async def rollback(self) -> None:
        """Undo it; it cannot be used any more."""
        await self._end("ROLLBACK")

    async def pipeline(
        self, queries: Sequence[tuple[str, Parameters]] | None = None, prepared: bool | None = None
    ) -> list[QueryResult]:
        """Run statements one after another."""
        return [await self.fetch(querystring, parameters) for querystring, parameters in queries or ()]

    async def create_savepoint(self, savepoint_name: str) -> None:
        """Set a savepoint."""
        await self.held().execute(f"SAVEPOINT {_identifier(savepoint_name)}")

    async def rollback_savepoint(self, savepoint_name: str) -> None:
        """Undo what was done since the savepoint."""
        await self.held().execute(f"ROLLBACK TO SAVEPOINT {_identifier(savepoint_name)}")

    async def release_savepoint(self, savepoint_name: str) -> None:
        """Forget the savepoint."""
        await self.held().execute(f"RELEASE SAVEPOINT {_identifier(savepoint_name)}")

    async def is_closed(self) -> bool:
        """Whether it is over, or its connection is."""
        return self._over or await self._connection.is_closed()

    async def _end(self, sql: str) -> None:
        lease = self.held()
        if not self._begun:
            raise interface_error(f"the transaction was not begun: begin() comes before {sql.lower()}()")
        self._over = True
        await lease.execute(sql)

    def held(self) -> AsyncLease:
        """Its connection's lease."""
        if self._over:
            raise interface_error("the transaction is over: it was committed or rolled back")
        return self._connection.held()


class PreparedStatement:
    """A statement prepared in a connection, with its parameters."""

    def __init__(self, session: InSession, statement: Any, sql: str, args: Sequence[Any]) -> None:
        self._session = session
        self._statement = statement
        self._what = sql, args

    async def execute(self) -> QueryResult:
        """Run it."""
        return QueryResult(await self._statement.fetch(*self._what[1]))

    def cursor(self) -> Cursor:
        """A cursor on it, within a transaction."""
        return self._session.cursor(*self._what)

    def columns(self) -> list[Column]:
        """Its columns. table_oid is not known here, and None."""
        return [Column(attribute.name, None) for attribute in self._statement.get_attributes()]


def _give_back(lease: AsyncLease, returned: Callable[[], None]) -> None:
    lease.release()
    returned()


def _identifier(name: str) -> str:
    if not name or "\0" in name:
        raise ClientError(f"{name!r} is no name of a savepoint")
    return '"{}"'.format(name.replace('"', '""'))
