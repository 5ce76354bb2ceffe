"""Every message between a worker and the supervisor.

A message is a msgpack array whose first element names it (`tag`) and whose others are its fields, in the order
written here. New fields are added at the end, with a default, so that an older peer goes on working; a change
that cannot be made so raises `PROTOCOL_VERSION`. protocols/README.md is the law in prose, protocols/schema is
generated from this module.

- A *request* (`Request`) carries an id chosen by the worker and is answered by exactly one *reply* (`Reply`) with
  the same id.
- A *notice* has no id and no answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from .rows import Column

PROTOCOL_VERSION = 1
"""The version of the wire protocol; both sides must speak the same one."""

DEFAULT_MAX_FRAME_BYTES = 64 * 1024 * 1024
"""The default cap of one frame, in bytes, on both sides."""


SHAPES_PER_LINK = 1024
"""How many shapes a worker remembers on a link: those told last. An older one is told again when it is used."""

LONGEST_CHANNEL_BYTES = 63
"""How long PostgreSQL's names are at most, in UTF-8."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

IsolationLevel = Literal["read_committed", "read_uncommitted", "repeatable_read", "serializable"]
"""asyncpg's names of PostgreSQL's isolation levels."""


class Token(msgspec.Struct, array_like=True, frozen=True):
    """What names a lease: useless in another epoch, on another holder, or once another fence was given."""

    epoch: Number
    holder: Number
    fence: Number

    def __str__(self) -> str:
        return f"{self.holder}.{self.fence}"


class Message(msgspec.Struct, array_like=True):
    """Base of all messages."""


# --- worker -> supervisor: requests -------------------------------------------------------------------------


class Request(Message):
    """Base of all requests.

    id: chosen by the worker, unique among its unanswered requests, and not negative.
    epoch: the supervisor's life the request is meant for, as told by `Welcome`; another life refuses it unrun.
    timeout: how many seconds the worker is still willing to wait, queueing included; None: no limit of its own.
    """

    id: Number
    epoch: Number
    timeout: Seconds | None


class Execute(Request, tag="execute"):
    """Run one statement (several, when there are no arguments); answered by `Done` with its command tag."""

    sql: str
    args: list[Any] = []
    lease: Token | None = None


class ExecuteMany(Request, tag="executemany"):
    """Run one statement for each tuple of arguments, all or nothing; answered by `Done`.

    statement: the number of a statement of the lease's (`Prepared`), to be run in the place of `sql`.
    """

    sql: str
    args: list[list[Any]]
    lease: Token | None = None
    statement: Number | None = None


class Fetch(Request, tag="fetch"):
    """Run one statement and return its rows, at most `limit` of them (0: all); answered by `Rows`, and before it, if
    they are many, by any number of `Part`.

    statement: as in `ExecuteMany`.
    """

    sql: str
    args: list[Any] = []
    limit: Number = 0
    lease: Token | None = None
    statement: Number | None = None


class FetchMany(Request, tag="fetchmany"):
    """Run one statement for each tuple of arguments, all or nothing, and return all rows; answered by `Rows`.

    statement: as in `ExecuteMany`.
    """

    sql: str
    args: list[list[Any]]
    lease: Token | None = None
    statement: Number | None = None


class Batch(Request, tag="batch"):
    """Run statements, each with its arguments, one after another; answered by `Results`.

    atomic: all in one transaction, with this isolation (None: the default) and readonly; the first error undoes all
    and is the answer (`Failed`, with the statement's index). Otherwise each by itself, also after an error.
    """

    statements: list[tuple[str, list[Any]]]
    atomic: bool = True
    isolation: IsolationLevel | None = None
    readonly: bool = False

    def __post_init__(self) -> None:
        if not self.atomic and (self.isolation is not None or self.readonly):
            raise ValueError("isolation and readonly belong to a transaction: a batch that is not atomic has none")


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


class CopyOut(Request, tag="copy_out"):
    """COPY ... TO the worker, on a lease: the data comes as `Chunk`s, then `Done` with the tag.

    method: asyncpg.Connection's, with its keyword arguments as options, but for `output`. table_or_query: its first
    argument. args: a query's. credit: how many bytes may come before the worker gives more (`Credit`); the last chunk
    for which there is credit may exceed it, so that rows stay whole.
    """

    method: Literal["copy_from_table", "copy_from_query"]
    table_or_query: str
    args: list[Any]
    options: dict[str, Any]
    credit: Number
    lease: Token


class CopyIn(Request, tag="copy_in"):
    """COPY ... FROM the worker, on a lease. The supervisor gives `Credit`, the worker sends `Chunk`s and in the end
    `EndOfChunks`; then the request is answered, by `Done` with the tag. An error may be the answer at any time.

    method, options: as in `CopyOut`, but for `source` or `records`.
    """

    method: Literal["copy_to_table", "copy_records_to_table"]
    table: str
    options: dict[str, Any]
    lease: Token


class Listen(Request, tag="listen"):
    """Have the notifications of these channels sent to this link from now on, as `Notification`; answered by `Done`
    once PostgreSQL listens. With a lease, its session listens, else the pool's one listening connection does. A name
    is taken exactly as it is, and has 63 bytes at most."""

    channels: list[str]
    lease: Token | None = None

    def __post_init__(self) -> None:
        for channel in self.channels:
            if len(channel.encode()) > LONGEST_CHANNEL_BYTES:  # PostgreSQL would cut it, and no notification match it
                raise ValueError(
                    f"a channel's name is expected to be of {LONGEST_CHANNEL_BYTES} bytes at most: {channel!r}"
                )
            if "\0" in channel:
                raise ValueError(f"a channel's name cannot have a null character in it: {channel!r}")


class Unlisten(Request, tag="unlisten"):
    """Undo a `Listen` for these channels; answered by `Done`."""

    channels: list[str]
    lease: Token | None = None


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


class Resize(Request, tag="resize"):
    """Change how many connections the pool may have; answered by `Done`, refused where the supervisor does not permit
    it. min_size: None leaves it, or brings it down to max_size."""

    max_size: Annotated[int, msgspec.Meta(ge=1)]
    min_size: Number | None = None


class SetConnectArgs(Request, tag="set_connect_args"):
    """Replace the connect arguments of new connections, as asyncpg.Pool.set_connect_args does; answered by `Done`,
    refused where the supervisor does not permit it."""

    dsn: str | None
    arguments: dict[str, Any] = {}


class Acquire(Request, tag="acquire"):
    """Ask for exclusive use of a backend; answered by `Granted`.

    ttl: seconds that a silent owner keeps the lease; None: the supervisor's default.
    """

    ttl: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Status(Request, tag="status"):
    """Ask for the state of the pool; answered by `StatusReport`."""


class Expire(Request, tag="expire"):
    """Replace every connection: idle ones now, used ones when they come back; answered by `Done`."""


# --- worker -> supervisor: notices --------------------------------------------------------------------------


class Hello(Message, tag="hello"):
    """The first message on a link; answered by `Welcome`, or by `Failed` without an id and the end of the link.

    max_frame_bytes: the largest frame the worker takes. pool: the name of the supervisor's pool that the link is
    to belong to; "": the first's. A name that it does not have is refused.
    """

    version: int
    label: str = ""
    pid: int = 0
    library: str = ""
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    pool: str = ""


class Heartbeat(Message, tag="heartbeat"):
    """The worker lives, and still holds these leases: each of them is renewed for its ttl."""

    leases: list[Token] = []


class Release(Message, tag="release"):
    """The lease is given back. A token that has ended already is ignored."""

    lease: Token


class Cancel(Message, tag="cancel"):
    """Nobody waits for the request `id` any more: queued, it never runs; running, it is cancelled. The request is
    still answered, once; a lease that comes as the answer is the worker's to release."""

    id: Number


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


class Bye(Message, tag="bye"):
    """The worker closes its link in good order."""


# --- supervisor -> worker -----------------------------------------------------------------------------------


class Welcome(Message, tag="welcome"):
    """The answer to `Hello`.

    epoch: this life of the supervisor. heartbeat_seconds: how often a worker that holds a lease or waits for a
    reply must be heard on a link whose end cannot be seen (tcp); 0 where it can (ipc). max_frame_bytes: the
    largest frame the supervisor takes.
    """

    version: int
    epoch: int
    supervisor: str
    max_frame_bytes: int
    heartbeat_seconds: float = 0.0


class Reply(Message):
    """Base of all replies; `id` is the request's."""

    id: int


class Done(Reply, tag="done"):
    """The request succeeded and has no rows. status: PostgreSQL's command tag, such as 'UPDATE 3'.

    in_transaction: whether the lease's backend is inside a transaction now (false without a lease).
    """

    status: str | None = None
    in_transaction: bool = False


class Rows(Reply, tag="rows"):
    """The rows of a request: `data` is an array of rows, each an array of values, to be read by the shape.

    columns: the shape's columns, the first time that the shape is used on a link (see SHAPES_PER_LINK). status: the
    command tag, where it is asked for: of a prepared statement.
    """

    shape: int
    columns: list[Column] | None
    data: msgspec.Raw
    in_transaction: bool = False
    status: str | None = None


class Part(Reply, tag="part"):
    """The next rows of a request, whose reply is yet to come: `Rows` with the last ones, or `Failed`, and then these
    count for nothing."""

    shape: int
    columns: list[Column] | None
    data: msgspec.Raw


class TypeInfo(msgspec.Struct, array_like=True, frozen=True):
    """A type, as asyncpg.Type tells of it."""

    oid: int
    name: str
    kind: str
    schema: str


class Prepared(Reply, tag="prepared"):
    """The statement is prepared. statement: its number, among those of the lease. name: PostgreSQL's name for it.
    parameters, columns: their types, the latter with their names."""

    statement: int
    name: str
    parameters: list[TypeInfo]
    columns: list[tuple[str, TypeInfo]]
    in_transaction: bool = False


class Opened(Reply, tag="opened"):
    """The cursor is open. cursor: its number, among those of the lease."""

    cursor: int
    in_transaction: bool = False


class Granted(Reply, tag="granted"):
    """The lease is yours. ttl: seconds that it lives without a heartbeat, from when it was granted, which was
    `waited` seconds after the request had come. backend_pid: PostgreSQL's process. server_version: as
    asyncpg.ServerVersion has it. settings: the session's reported parameters (ParameterStatus)."""

    lease: Token
    ttl: float
    backend_pid: int = 0
    waited: float = 0.0
    server_version: tuple[int, int, int, str, int] | None = None
    settings: dict[str, str] = {}


class StatusReport(Reply, tag="status_report"):
    """The state of the pool, as `PoolStatus`."""

    status: PoolStatus


class Failed(Message, tag="failed"):
    """A request failed, or (without an id) a message could not be attributed to a request.

    code: the wire code of the error: one of pgactor's own, 'asyncpg' or 'python'.
    error_class: for the last two, the class's name. fields: what else the error carries.
    cause: class name and text of the error behind it.
    index: of an atomic batch, the statement that failed; None: none of them, the commit for instance.
    """

    id: int | None
    code: str
    message: str
    error_class: str = ""
    fields: dict[str, Any] = {}
    cause: tuple[str, str] | None = None
    in_transaction: bool = False
    index: int | None = None


class Results(Reply, tag="results"):
    """The results of a batch: for each statement a reply of its own, whose id is the statement's index.

    The columns of shapes are told in the statements' order.
    """

    results: list[Done | Rows | Failed]


class LeaseEnded(Message, tag="lease_ended"):
    """A lease ended without its owner's doing: its statements will be refused with this error."""

    lease: Token
    code: str
    message: str


class Notification(Message, tag="notification"):
    """A NOTIFY has come on a channel that is listened to. pid: of the session that sent it. lease: whose session
    listens; None: the pool's."""

    channel: str
    payload: str
    pid: int
    lease: Token | None = None


class Gap(Message, tag="gap"):
    """Notifications of these channels may have been missed just now: the connection that listens was lost, and there
    is a new one."""

    channels: list[str]


class Notice(Message, tag="notice"):
    """PostgreSQL said something of the lease's session (NoticeResponse), by its fields."""

    lease: Token
    fields: dict[str, str]


class Settings(Message, tag="settings"):
    """Reported parameters of the lease's session have changed (ParameterStatus)."""

    lease: Token
    settings: dict[str, str]


# --- both ways: the data of a copy --------------------------------------------------------------------------


class Chunk(Message, tag="chunk"):
    """A piece of the copy that the request `id` began. data: bytes; of copy_records_to_table, they are the msgpack of
    a list of records, each a list of arguments."""

    id: Number
    data: Any


class EndOfChunks(Message, tag="end_of_chunks"):
    """The worker has no more for the copy `id`. error: what its source raised, in words; the copy is then undone."""

    id: Number
    error: str | None = None


class Credit(Message, tag="credit"):
    """So many more bytes of the copy `id` may be sent: of chunks' data. A chunk may be sent while there is any."""

    id: Number
    bytes: Number


# --- the state of the pool ----------------------------------------------------------------------------------


class HolderStatus(msgspec.Struct):
    """One slot of the pool. seconds: since it came into this state. statement: the running or last one."""

    number: int
    state: str
    seconds: float
    backend_pid: int = 0
    uses: int = 0
    worker: str = ""
    lease: str = ""
    statement: str = ""


class WorkerStatus(msgspec.Struct):
    """One worker process. waiting, running, leases: how many requests and leases of it are in these states."""

    number: int
    label: str
    pid: int
    road: str
    connected_seconds: float
    waiting: int
    running: int
    leases: int


class PoolStatus(msgspec.Struct):
    """The state of the pool at one moment; `counters` rise from the supervisor's start.

    pool: its name. pools: the names of all pools that the supervisor has now. init_size, max_queries,
    max_inactive_connection_lifetime: settings, beside min_size and max_size.
    """

    version: str
    epoch: int
    uptime_seconds: float
    min_size: int
    max_size: int
    size: int
    idle: int
    busy: int
    leased: int
    resetting: int
    opening: int
    waiting: int
    database: str
    counters: dict[str, int]
    holders: list[HolderStatus]
    workers: list[WorkerStatus]
    init_size: int = 0
    pool: str = "default"
    pools: list[str] = []
    max_queries: int = 0
    max_inactive_connection_lifetime: float = 0.0

    @property
    def available(self) -> int:
        """How many connections are open and idle: psqlpy's word."""
        return self.idle


StatementRequest = Execute | ExecuteMany | Fetch | FetchMany | Batch
"""Requests that run SQL, on a lease or by themselves."""

LeaseNotice = CloseStatement | CloseCursor | Watch
"""Notices to a lease's session."""

LeaseRequest = Prepare | OpenCursor | FetchCursor | MoveCursor | CopyOut | CopyIn | SetCodec | Reset
"""Requests to a lease's session that are no statements."""

FromWorker = (
    Hello
    | Execute
    | ExecuteMany
    | Fetch
    | FetchMany
    | Batch
    | Prepare
    | Describe
    | OpenCursor
    | FetchCursor
    | MoveCursor
    | CopyOut
    | CopyIn
    | Listen
    | Unlisten
    | SetCodec
    | Reset
    | Resize
    | SetConnectArgs
    | Acquire
    | Status
    | Expire
    | Heartbeat
    | Release
    | Cancel
    | CloseStatement
    | CloseCursor
    | Watch
    | Chunk
    | EndOfChunks
    | Credit
    | Bye
)
"""Whatever a worker may send."""

FromSupervisor = (
    Welcome
    | Done
    | Rows
    | Part
    | Prepared
    | Opened
    | Results
    | Granted
    | StatusReport
    | Failed
    | LeaseEnded
    | Notification
    | Gap
    | Notice
    | Settings
    | Chunk
    | Credit
)
"""Whatever a supervisor may send."""
