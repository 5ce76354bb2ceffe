"""The messages between a worker and the supervisor: here those of every dialogue.

A message is a msgpack array whose first element names it (`tag`) and whose others are its fields, in the order
written here. New fields are added at the end, with a default, so that an older peer goes on working; a change
that cannot be made so raises `PROTOCOL_VERSION`. protocols/README.md is the law in prose, protocols/schema is
generated from this package.

- A *request* (`Request`) carries an id chosen by the worker and is answered by exactly one *reply* (`Reply`) with
  the same id.
- A *notice* has no id and no answer.

session.py    what else a lease's session does
copying.py    COPY
listening.py  LISTEN and what comes of it
pool.py       the pool's state, and what changes it
operating.py  what an operator asks of a supervisor, and one supervisor of another
unions.py     which messages may come where
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ..rows import Column

PROTOCOL_VERSION = 1
"""The version of the wire protocol; both sides must speak the same one."""

DEFAULT_MAX_FRAME_BYTES = 64 * 1024 * 1024
"""The default cap of one frame, in bytes, on both sides."""

SHAPES_PER_LINK = 1024
"""How many shapes a worker remembers on a link: those told last. An older one is told again when it is used."""

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

    Those that have a label say with it what they are made for, in the application's words; "": it did not say. Those
    that have a traceparent say with it, as W3C Trace Context has it, of which trace they are part; "": of none. Those
    that have a waited say with it for how many seconds they waited in the worker for a place in `Welcome`'s window.
    """

    id: Number
    epoch: Number
    timeout: Seconds | None


class Execute(Request, tag="execute"):
    """Run one statement (several, when there are no arguments); answered by `Done` with its command tag."""

    sql: str
    args: list[Any] = []
    lease: Token | None = None
    label: str = ""
    traceparent: str = ""
    waited: Seconds = 0


class ExecuteMany(Request, tag="executemany"):
    """Run one statement for each tuple of arguments, all or nothing; answered by `Done`.

    statement: the number of a statement of the lease's (`Prepared`), to be run in the place of `sql`.
    """

    sql: str
    args: list[list[Any]]
    lease: Token | None = None
    statement: Number | None = None
    label: str = ""
    traceparent: str = ""
    waited: Seconds = 0


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
    label: str = ""
    traceparent: str = ""
    waited: Seconds = 0


class FetchMany(Request, tag="fetchmany"):
    """Run one statement for each tuple of arguments, all or nothing, and return all rows; answered by `Rows`.

    statement: as in `ExecuteMany`.
    """

    sql: str
    args: list[list[Any]]
    lease: Token | None = None
    statement: Number | None = None
    label: str = ""
    traceparent: str = ""
    waited: Seconds = 0


class Batch(Request, tag="batch"):
    """Run statements, each with its arguments, one after another; answered by `Results`.

    atomic: all in one transaction, with this isolation (None: the default) and readonly; the first error undoes all
    and is the answer (`Failed`, with the statement's index). Otherwise each by itself, also after an error.
    """

    statements: list[tuple[str, list[Any]]]
    atomic: bool = True
    isolation: IsolationLevel | None = None
    readonly: bool = False
    label: str = ""
    traceparent: str = ""
    waited: Seconds = 0

    def __post_init__(self) -> None:
        if not self.atomic and (self.isolation is not None or self.readonly):
            raise ValueError("isolation and readonly belong to a transaction: a batch that is not atomic has none")


class Acquire(Request, tag="acquire"):
    """Ask for exclusive use of a backend; answered by `Granted`.

    ttl: seconds that a silent owner keeps the lease; None: the supervisor's default. where: the place in the worker's
    code that asks. holds: leases that the worker certainly holds until this is answered.
    """

    ttl: Annotated[float, msgspec.Meta(gt=0)] | None = None
    label: str = ""
    where: str = ""
    holds: list[Token] = []
    traceparent: str = ""


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


class Bye(Message, tag="bye"):
    """The worker closes its link in good order."""


# --- supervisor -> worker -----------------------------------------------------------------------------------


class Welcome(Message, tag="welcome"):
    """The answer to `Hello`.

    epoch: this life of the supervisor. heartbeat_seconds: how often a worker that holds a lease or waits for a
    reply must be heard on a link whose end cannot be seen (tcp); 0 where it can (ipc). max_frame_bytes: the
    largest frame the supervisor takes. window: how many statements without a lease a worker should have unanswered
    on the link at the same time, keeping the others to itself; 0: any number. queue_timeout_seconds: how long one
    may wait, there and in the supervisor together; 0: for ever.
    """

    version: int
    epoch: int
    supervisor: str
    max_frame_bytes: int
    heartbeat_seconds: float = 0.0
    window: int = 0
    queue_timeout_seconds: float = 0.0


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
