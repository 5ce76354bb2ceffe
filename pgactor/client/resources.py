"""Prepared statements and cursors as both leases' owners know them. No I/O: the shells are in prepared.py, cursor.py
and their twins for asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from ..messages import Failed, Rows
from ..messages.session import CloseCursor, CloseStatement, Opened, Prepared
from ..rows import Record
from . import objects
from .codecs import Encode, encoded_elements
from .failures import interface_error
from .leased import Leased
from .pending import Pending

S = TypeVar("S", bound="Resource")
P = ParamSpec("P")
R = TypeVar("R")


class Resource:
    """Something that was opened on a lease, and is of no use after it. kind: asyncpg's name of it."""

    kind: ClassVar[str]

    def __init__(self, lease: Leased) -> None:
        self._lease = lease

    def _require_usable(self, method: str) -> None:
        self._lease.require_usable(self.kind, method)


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that raises at once after the lease's end, also if it is to be awaited."""
    name = method.__name__

    @wraps(method)
    def call(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        self._require_usable(name)
        return method(self, *args, **options)

    return call


class PreparedFacts(Resource):
    """What is known of a prepared statement. closed: asyncpg has given it up, after its types have changed."""

    kind = "PreparedStatement"

    def __init__(self, lease: Leased, query: str, prepared: Prepared) -> None:
        super().__init__(lease)
        self.number = prepared.statement
        self._query = query
        self._prepared = prepared
        self._status: str | None = None
        self.encode: Encode | None = None  # as the codecs were when it was prepared
        self.closed = False

    def __del__(self) -> None:
        # Told before the next request: here, wherever that is, nothing may be sent.
        self._lease.unused.append(CloseStatement(self._lease.token, self.number))

    def __repr__(self) -> str:
        return f'<PreparedStatement "{self._query:.30}">'

    @guarded
    def get_name(self) -> str:
        """PostgreSQL's name for it."""
        return self._prepared.name

    @guarded
    def get_query(self) -> str:
        """Its text."""
        return self._query

    @guarded
    def get_statusmsg(self) -> str | None:
        """The command tag of its last run, such as 'SELECT 1'; None if it has not run."""
        return self._status

    @guarded
    def get_parameters(self) -> tuple[Any, ...]:
        """The types of its parameters, each an asyncpg.types.Type."""
        return objects.types(self._prepared.parameters)

    @guarded
    def get_attributes(self) -> tuple[Any, ...]:
        """Its columns, each an asyncpg.types.Attribute."""
        return objects.attributes(self._prepared.columns)

    def _require_usable(self, method: str) -> None:
        if self.closed:
            raise interface_error(f"cannot call PreparedStmt.{method}(): the prepared statement is closed")
        super()._require_usable(method)

    def _ran(self, pending: Pending) -> Pending:
        reply = pending.reply
        if isinstance(reply, Rows):
            self._status = reply.status
        elif isinstance(reply, Failed) and reply.error_class == "OutdatedSchemaCacheError":
            self.closed = True  # asyncpg has closed it
        return pending

    def _encoded_many(self, args: Iterable[Sequence[object]]) -> Iterable[Sequence[object]]:
        return args if self.encode is None else encoded_elements(self.encode, args)

    def _explain(self, analyze: bool) -> str:
        return f"EXPLAIN (FORMAT JSON, VERBOSE{', ANALYZE' if analyze else ''}) {self._query}"


class CursorFacts(Resource):
    """What is known of a cursor. statement: the prepared one that it is on, which lives as long as the cursor."""

    kind = "Cursor"

    def __init__(self, lease: Leased, query: str, statement: PreparedFacts | None) -> None:
        super().__init__(lease)
        self._query = query
        self._statement = statement
        self._number: int | None = None
        self._exhausted = False

    def __del__(self) -> None:
        self._close()

    def __repr__(self) -> str:
        return f'<{self.kind} "{self._query:.30}"{" exhausted" if self._exhausted else ""}>'

    @property
    def number(self) -> int:
        """The supervisor's number for it."""
        if self._number is None:
            raise interface_error("cursor does not have an open portal")
        return self._number

    def _opened(self, opened: Opened) -> None:
        self._number = opened.cursor

    def _close(self) -> None:
        """It has no more rows, or no user: its end is told before the lease's next request."""
        if self._number is not None:
            self._lease.unused.append(CloseCursor(self._lease.token, self._number))
            self._number = None

    def _require_ready(self, count: int) -> int:
        if self._statement is not None and self._statement.closed:
            raise interface_error("cursor: the prepared statement is closed")
        if not self._lease.in_transaction:
            raise objects.no_transaction()
        if count <= 0:
            raise interface_error("n must be greater than zero")
        return count

    def _took(self, rows: Sequence[Record], count: int) -> None:
        if len(rows) < count:
            self._exhausted = True
