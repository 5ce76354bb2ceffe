"""What a lease's tenant asks of its session beside running statements, and what the session says by itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ..messages import Message, Number, Reply, Request, Token


class Prepare(Request, tag="prepare"):
    """Prepare a statement in the lease's session, for as long as the lease lives; answered by `Prepared`.

    name: what PostgreSQL is to call it; None: a name of its own; "": unnamed.
    """

    sql: str
    lease: Token
    name: str | None = None


class Describe(Request, tag="describe"):
    """Ask for the types of a statement's parameters and columns, without running it; answered by `Prepared`, whose
    number is no prepared statement's."""

    sql: str
    lease: Token | None = None


class OpenCursor(Request, tag="open_cursor"):
    """Open a cursor on a statement, inside the lease's transaction; answered by `Opened`.

    statement: as in `ExecuteMany`.
    """

    sql: str
    args: list[Any]
    lease: Token
    statement: Number | None = None


class FetchCursor(Request, tag="fetch_cursor"):
    """The next `limit` rows of a cursor; answered by `Rows`. Fewer rows: there are no more."""

    cursor: Number
    limit: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    lease: Token


class MoveCursor(Request, tag="move_cursor"):
    """Skip the next `count` rows of a cursor; answered by `Done`, with PostgreSQL's tag ('MOVE 3')."""

    cursor: Number
    count: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    lease: Token


class SetCodec(Request, tag="set_codec"):
    """Have values of a type cross the wire as PostgreSQL's text, its bytes, or a tuple, in both directions, in the
    lease's session: the worker encodes and decodes them. Answered by `Done`.

    format: asyncpg's; None: the type as it was again. builtin: a codec of asyncpg's own to use instead, in this
    format or in all. What is returned comes as the ext type CODED, wherever in a value it is.
    """

    typename: str
    schema: str
    lease: Token
    format: Literal["text", "binary", "tuple"] | None = None
    builtin: str | None = None


class Reset(Request, tag="reset"):
    """Reset the lease's session, as at its release, and keep it; answered by `Done`.

    schema_only: nothing but what is remembered of the database's types and statements, in every session of the pool.
    """

    lease: Token
    schema_only: bool = False


class CloseStatement(Message, tag="close_statement"):
    """Nobody uses this prepared statement any more."""

    lease: Token
    statement: Number


class CloseCursor(Message, tag="close_cursor"):
    """Nobody uses this cursor any more."""

    lease: Token
    cursor: Number


class Watch(Message, tag="watch"):
    """What of the lease's session is to be pushed to the worker from now on: notices ("log")."""

    lease: Token
    log: bool = False


class TypeInfo(msgspec.Struct, array_like=True, frozen=True):
    """A type, as asyncpg.Type tells of it."""

    oid: int
    name: str
    kind: str
    schema: str


class TypeParts(msgspec.Struct, array_like=True, frozen=True):
    """What a type is composed of. parts: the oids of its element, subtype, base type or attributes, by its kind; the
    names are the attributes'."""

    oid: int
    name: str
    schema: str
    kind: Literal["scalar", "array", "composite", "domain", "range", "multirange"]
    parts: list[int] = []
    names: list[str] = []


class Prepared(Reply, tag="prepared"):
    """The statement is prepared. statement: its number, among those of the lease. name: PostgreSQL's name for it.
    parameters, columns: their types, the latter with their names. parts: what those are composed of that are not
    PostgreSQL's own scalars, and what their parts are; told where the lease has codecs of its own. plain: no hook of
    the supervisor's has set codecs, so the worker may encode values of PostgreSQL's types by itself."""

    statement: int
    name: str
    parameters: list[TypeInfo]
    columns: list[tuple[str, TypeInfo]]
    in_transaction: bool = False
    parts: list[TypeParts] = []  # noqa: RUF012
    plain: bool = False


class Opened(Reply, tag="opened"):
    """The cursor is open. cursor: its number, among those of the lease."""

    cursor: int
    in_transaction: bool = False


class Notice(Message, tag="notice"):
    """PostgreSQL said something of the lease's session (NoticeResponse), by its fields."""

    lease: Token
    fields: dict[str, str]


class Settings(Message, tag="settings"):
    """Reported parameters of the lease's session have changed (ParameterStatus)."""

    lease: Token
    settings: dict[str, str]
