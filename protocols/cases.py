"""The cases of protocols/vectors, as the code of this project would build them. `protocols.generate` writes them
down; tests/protocol/test_vectors.py holds the code against what was written.
"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec.msgpack import Ext

from pgactor import wire
from pgactor.messages import (
    PROTOCOL_VERSION,
    Acquire,
    Batch,
    Bye,
    Cancel,
    Done,
    Execute,
    ExecuteMany,
    Failed,
    Fetch,
    FetchMany,
    Granted,
    Heartbeat,
    Hello,
    LeaseEnded,
    Message,
    Part,
    Release,
    Results,
    Rows,
    Token,
    Welcome,
)
from pgactor.messages.copying import Chunk, CopyIn, CopyOut, Credit, EndOfChunks
from pgactor.messages.histogram import Histogram
from pgactor.messages.listening import Gap, Listen, Notification, Unlisten
from pgactor.messages.operating import Drain, Held, Moved, Pause, Resume, TakenOver, TakeOver
from pgactor.messages.pool import (
    Expire,
    HolderStatus,
    LeaseStatus,
    PoolStatus,
    Resize,
    SetConnectArgs,
    StatementStatus,
    Status,
    StatusReport,
    WorkerStatus,
)
from pgactor.messages.session import (
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
    TypeParts,
    Watch,
)
from pgactor.records import record
from pgactor.rows import Column, ColumnKind, RowEncoder
from pgactor.values import Coded, ExtCode, Packed, pack_args

M = TypeVar("M", bound=Message)

EPOCH = 1_700_000_000_000_000
HIGHEST = (1 << 63) - 1
TOKEN = Token(EPOCH, 3, 17)
UUID_1 = UUID("12345678-9abc-def0-1234-56789abcdef0")
EAST = timezone(timedelta(hours=2))
SUB_MINUTE = timezone(-timedelta(minutes=53, seconds=28))

INT4 = TypeInfo(23, "int4", "scalar", "pg_catalog")
TEXT = TypeInfo(25, "text", "scalar", "pg_catalog")
MOODS = TypeInfo(16402, "mood[]", "array", "public")
USERS = (Column("id", ColumnKind.INT, "int4"), Column("name", ColumnKind.STR, "text"))


@contextmanager
def local_offset(offset: str) -> Iterator[None]:
    """Let this process live at a UTC offset such as +02:00."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = f"XXX{'-' if offset[0] == '+' else '+'}{offset[1:]}"  # POSIX counts westwards
    clock.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        clock.tzset()


def packed(message: M) -> M:
    """The message as a worker at +02:00 sends it: its arguments packed."""
    with local_offset("+02:00"):
        return _packed(message)


def _packed(message: M) -> M:
    match message:
        case Execute() | Fetch() | OpenCursor() | CopyOut():
            return msgspec.structs.replace(message, args=pack_args(message.args))
        case ExecuteMany() | FetchMany():
            return msgspec.structs.replace(message, args=[pack_args(args) for args in message.args])
        case Batch():
            return msgspec.structs.replace(
                message, statements=[(sql, pack_args(args)) for sql, args in message.statements]
            )
    return message


def rows(
    id: int, shape: int, columns: tuple[Column, ...], rows: list[tuple[Any, ...]], *, first: bool = True
) -> Rows:
    """A reply with rows; first: it is the first of its shape on the link."""
    return Rows(id, shape, list(columns) if first else None, msgspec.Raw(RowEncoder(columns).encode(rows)))


def part(
    id: int, shape: int, columns: tuple[Column, ...], some: list[tuple[Any, ...]], *, first: bool = True
) -> Part:
    """Rows before the reply."""
    whole = rows(id, shape, columns, some, first=first)
    return Part(id, shape, whole.columns, whole.data)


# --- messages -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MessageCase:
    """A frame of good messages. The arguments are as the reader of the frame gets them."""

    name: str
    messages: tuple[Message, ...]

    @property
    def frame(self) -> bytes:
        return wire.encode([packed(message) for message in self.messages])


HELLO = Hello(PROTOCOL_VERSION, "web-1", 4711, "pgactor 0.1.0")
WELCOME = Welcome(PROTOCOL_VERSION, EPOCH, "pgactor 0.1.0", 64 * 1024 * 1024, 0.0)
FETCH_USERS = Fetch(1, EPOCH, 5.0, "select id, name from users where id = $1", [42])
ROWS_USERS = rows(1, 1, USERS, [(42, "Ada")])

FROM_WORKER = (
    MessageCase("hello", (HELLO,)),
    MessageCase(
        "hello to a pool by its name", (Hello(PROTOCOL_VERSION, "web-1", 4711, "pgactor 0.1.0", 1 << 20, "replica"),)
    ),
    MessageCase("hello with its defaults", (Hello(PROTOCOL_VERSION),)),
    MessageCase("fetch", (FETCH_USERS,)),
    MessageCase(
        "fetch without a timeout, with a limit, on a lease", (Fetch(2, EPOCH, None, "table t", [], 10, TOKEN),)
    ),
    MessageCase(
        "fetch with every plain value",
        (Fetch(3, EPOCH, 1.5, "select $1, …", [None, True, False, 0, -1, 1 << 62, 0.5, "ü", b"\0\xff", [1, [2]]]),),
    ),
    MessageCase(
        "fetch with ext values",
        (
            Fetch(
                4,
                EPOCH,
                1.5,
                "select $1, …",
                [Decimal("1.10"), date(2024, 2, 29), UUID_1, (1, Decimal(2)), [1 << 64]],
            ),
        ),
    ),
    MessageCase("execute", (Execute(5, EPOCH, 30.0, "update t set a = $1", [1.25]),)),
    MessageCase("execute of several statements on a lease", (Execute(6, EPOCH, 30.0, "begin; select 1", [], TOKEN),)),
    MessageCase(
        "executemany", (ExecuteMany(7, EPOCH, None, "insert into t values ($1, $2)", [[1, "a"], [2, None]]),)
    ),
    MessageCase(
        "executemany of nothing, on a lease", (ExecuteMany(8, EPOCH, None, "insert into t values ($1)", [], TOKEN),)
    ),
    MessageCase(
        "fetchmany", (FetchMany(9, EPOCH, None, "select $1::date", [[date(1, 1, 1)], [date(9999, 12, 31)]]),)
    ),
    MessageCase(
        "batch",
        (
            Batch(
                15,
                EPOCH,
                5.0,
                [("insert into t values ($1, $2)", [1, date(2024, 2, 29)]), ("select id from t", [])],
            ),
        ),
    ),
    MessageCase(
        "batch in a transaction of its own kind",
        (Batch(16, EPOCH, None, [("table t", [])], True, "serializable", True),),
    ),
    MessageCase("batch of statements by themselves", (Batch(17, EPOCH, None, [("delete from t", [])], False),)),
    MessageCase("batch of nothing", (Batch(18, EPOCH, None, []),)),
    MessageCase("fetch of a prepared statement", (Fetch(19, EPOCH, 5.0, "", [42], 0, TOKEN, 2),)),
    MessageCase("fetch with a label", (Fetch(30, EPOCH, 5.0, "table t", [], 0, None, None, "nightly report"),)),
    MessageCase("executemany of a prepared statement", (ExecuteMany(20, EPOCH, None, "", [[1], [2]], TOKEN, 2),)),
    MessageCase("fetchmany of a prepared statement", (FetchMany(21, EPOCH, None, "", [[1], [2]], TOKEN, 0),)),
    MessageCase("prepare", (Prepare(22, EPOCH, 5.0, "select id, name from users where id = $1", TOKEN),)),
    MessageCase("prepare by a name", (Prepare(23, EPOCH, None, "table users", TOKEN, "all users"),)),
    MessageCase("prepare the unnamed statement", (Prepare(24, EPOCH, None, "table users", TOKEN, ""),)),
    MessageCase("describe", (Describe(25, EPOCH, 5.0, "select $1::int4"),)),
    MessageCase("describe on a lease", (Describe(26, EPOCH, None, "select $1::mood[]", TOKEN),)),
    MessageCase(
        "open_cursor", (OpenCursor(27, EPOCH, 5.0, "select * from t where a < $1", [Decimal("1.10")], TOKEN),)
    ),
    MessageCase("open_cursor on a prepared statement", (OpenCursor(28, EPOCH, None, "", [42], TOKEN, 2),)),
    MessageCase("fetch_cursor", (FetchCursor(29, EPOCH, 5.0, 1, 50, TOKEN),)),
    MessageCase("fetch_cursor of as many rows as may be", (FetchCursor(30, EPOCH, None, 1, (1 << 31) - 1, TOKEN),)),
    MessageCase("move_cursor", (MoveCursor(31, EPOCH, 5.0, 1, 3, TOKEN),)),
    MessageCase(
        "copy_out of a table",
        (
            CopyOut(
                32,
                EPOCH,
                60.0,
                "copy_from_table",
                "t",
                [],
                {"schema_name": "s", "columns": ["a", "b"], "format": "csv", "header": True},
                1 << 20,
                TOKEN,
            ),
        ),
    ),
    MessageCase(
        "copy_out of a query",
        (
            CopyOut(
                33,
                EPOCH,
                None,
                "copy_from_query",
                "select * from t where day = $1",
                [date(2024, 2, 29)],
                {},
                65_536,
                TOKEN,
            ),
        ),
    ),
    MessageCase("credit for a copy_out", (Credit(32, 65_536),)),
    MessageCase(
        "copy_in of bytes",
        (CopyIn(34, EPOCH, 60.0, "copy_to_table", "t", {"format": "text", "delimiter": "|", "null": "-"}, TOKEN),),
    ),
    MessageCase(
        "copy_in of records",
        (CopyIn(35, EPOCH, None, "copy_records_to_table", "t", {"columns": ["a", "b"]}, TOKEN),),
    ),
    MessageCase("chunk of bytes", (Chunk(34, b"1|a\n2"),)),
    MessageCase(
        "chunk of records",
        (Chunk(35, msgspec.msgpack.encode([pack_args(record) for record in ([1, "a"], [None, UUID_1])])),),
    ),
    MessageCase("the last chunk and the end, in one frame", (Chunk(34, b"|b\n"), EndOfChunks(34))),
    MessageCase("end_of_chunks because of an error", (EndOfChunks(35, "FileNotFoundError: [Errno 2] No such file"),)),
    MessageCase("listen", (Listen(36, EPOCH, 5.0, ["orders", "Grüße"]),)),
    MessageCase("listen on a lease", (Listen(37, EPOCH, None, ["orders"], TOKEN),)),
    MessageCase("unlisten", (Unlisten(38, EPOCH, 5.0, ["orders"]),)),
    MessageCase("unlisten on a lease", (Unlisten(39, EPOCH, None, ["orders"], TOKEN),)),
    MessageCase("set_codec", (SetCodec(40, EPOCH, 5.0, "json", "pg_catalog", TOKEN, "text"),)),
    MessageCase("set_codec: as it was again", (SetCodec(41, EPOCH, None, "json", "pg_catalog", TOKEN),)),
    MessageCase(
        "set_codec: one of asyncpg's own",
        (SetCodec(42, EPOCH, None, "hstore", "public", TOKEN, None, "pg_contrib.hstore"),),
    ),
    MessageCase("reset", (Reset(43, EPOCH, 5.0, TOKEN),)),
    MessageCase("reset of what is remembered of types only", (Reset(48, EPOCH, None, TOKEN, True),)),
    MessageCase("resize", (Resize(44, EPOCH, 5.0, 20),)),
    MessageCase("resize both", (Resize(45, EPOCH, None, 20, 0),)),
    MessageCase(
        "set_connect_args",
        (SetConnectArgs(46, EPOCH, 5.0, "postgresql://db.example/app", {"server_settings": {"jit": "off"}}),),
    ),
    MessageCase(
        "set_connect_args without a dsn",
        (SetConnectArgs(47, EPOCH, None, None, {"host": "db.example", "port": 5433}),),
    ),
    MessageCase("close_statement", (CloseStatement(TOKEN, 2),)),
    MessageCase("close_cursor", (CloseCursor(TOKEN, 1),)),
    MessageCase("watch", (Watch(TOKEN, True),)),
    MessageCase("watch nothing", (Watch(TOKEN),)),
    MessageCase("acquire", (Acquire(10, EPOCH, 5.0),)),
    MessageCase("acquire with a ttl", (Acquire(11, EPOCH, None, 60.0),)),
    MessageCase(
        "acquire by one who tells of itself, and holds a lease meanwhile",
        (Acquire(12, EPOCH, 5.0, None, "nightly report", "/app/jobs.py:12 in run", [TOKEN]),),
    ),
    MessageCase("status", (Status(12, EPOCH, 2.0),)),
    MessageCase("expire", (Expire(13, EPOCH, 2.0),)),
    MessageCase("the lowest and the highest id", (Status(0, 0, None), Status(HIGHEST, HIGHEST, None))),
    MessageCase("heartbeat", (Heartbeat(),)),
    MessageCase("heartbeat of two leases", (Heartbeat([TOKEN, Token(EPOCH, 4, 18)]),)),
    MessageCase("release", (Release(TOKEN),)),
    MessageCase("cancel", (Cancel(1),)),
    MessageCase("bye", (Bye(),)),
    MessageCase("pause", (Pause(49, EPOCH, 5.0),)),
    MessageCase("pause of two pools", (Pause(50, EPOCH, None, ["default", "replica"]),)),
    MessageCase("resume", (Resume(51, EPOCH, 5.0),)),
    MessageCase("drain", (Drain(52, EPOCH, 5.0),)),
    MessageCase("take_over", (TakeOver(53, EPOCH, None),)),
    MessageCase("taken_over", (TakenOver(),)),
    MessageCase("an empty frame", ()),
    MessageCase("a frame of three messages", (FETCH_USERS, Cancel(1), Acquire(14, EPOCH, 5.0))),
    MessageCase("a frame of sixteen messages", tuple(Cancel(number) for number in range(16))),
)

STATUS = PoolStatus(
    version="0.1.0",
    epoch=EPOCH,
    uptime_seconds=12.5,
    min_size=1,
    max_size=2,
    size=1,
    idle=0,
    busy=0,
    leased=1,
    resetting=0,
    opening=0,
    waiting=1,
    database="ok",
    counters={"requests": 7, "leases_granted": 1},
    holders=[
        HolderStatus(0, "leased", 0.25, 4242, 6, "web-1 (pid 4711)", "0.1", "select 1"),
        HolderStatus(1, "vacant", 12.5),
    ],
    workers=[WorkerStatus(1, "web-1", 4711, "ipc", 12.0, 1, 0, 1)],
    init_size=1,
    pool="default",
    pools=["default", "replica"],
    max_queries=50_000,
    max_inactive_connection_lifetime=300.0,
    leases=[
        LeaseStatus(
            "0.1",
            0,
            "web-1",
            4711,
            "nightly report",
            "/app/jobs.py:12 in run",
            0.25,
            "running",
            "select 1",
            4242,
            False,
        )
    ],
    oldest_waiting_seconds=0.25,
    errors={"UniqueViolationError": 1},
    histograms={"wait": Histogram([0.001, 0.002], [5, 1, 1], 0.25)},
    slowest=[StatementStatus("select 1", 5, 0.0002, 0.001)],
)

FROM_SUPERVISOR = (
    MessageCase("welcome on ipc", (WELCOME,)),
    MessageCase("welcome on tcp", (Welcome(PROTOCOL_VERSION, EPOCH, "pgactor 0.1.0", 1 << 20, 3.0),)),
    MessageCase("done", (Done(5, "UPDATE 3"),)),
    MessageCase("done without a command tag", (Done(7),)),
    MessageCase("done inside of a transaction", (Done(6, "BEGIN", True),)),
    MessageCase("rows of a shape that is new on the link", (ROWS_USERS,)),
    MessageCase("rows of a shape that was told before", (rows(2, 1, USERS, [(1, None), (2, "Bob")], first=False),)),
    MessageCase("no rows", (rows(3, 1, USERS, [], first=False),)),
    MessageCase("rows without columns", (rows(4, 2, (), [(), ()]),)),
    MessageCase(
        "results: a shape is told with the first rows of it",
        (
            Results(
                15,
                [
                    Done(0, "INSERT 0 1"),
                    rows(1, 1, USERS, [(1, "Ada")]),
                    rows(2, 1, USERS, [(2, "Bob")], first=False),
                ],
            ),
        ),
    ),
    MessageCase(
        "results: one of the statements failed, by itself",
        (
            Results(
                17,
                [
                    Failed(0, "asyncpg", "division by zero", "DivisionByZeroError", {"sqlstate": "22012"}),
                    Done(1, "DELETE 2"),
                ],
            ),
        ),
    ),
    MessageCase("results of nothing", (Results(18, []),)),
    MessageCase(
        "parts, and the rows that end them; other replies may come between",
        (
            part(1, 1, USERS, [(1, "Ada"), (2, "Bob")]),
            Done(5, "UPDATE 3"),
            part(1, 1, USERS, [(3, "Cid")], first=False),
            rows(1, 1, USERS, [(4, "Dan")], first=False),
        ),
    ),
    MessageCase(
        "parts that count for nothing",
        (
            part(2, 1, USERS, [(1, "Ada")], first=False),
            Failed(2, "request_timeout", "the statement did not finish within its timeout of 5 s"),
        ),
    ),
    MessageCase(
        "rows of a prepared statement, with its command tag",
        (msgspec.structs.replace(rows(19, 1, USERS, [(42, "Ada")], first=False), status="SELECT 1"),),
    ),
    MessageCase(
        "prepared",
        (Prepared(22, 2, "__asyncpg_stmt_1__", [INT4], [("id", INT4), ("name", TEXT)], plain=True),),
    ),
    MessageCase(
        "prepared: where there are codecs, with what its types are composed of",
        (
            Prepared(
                27,
                3,
                "__asyncpg_stmt_2__",
                [TypeInfo(16410, "pair", "composite", "public")],
                [],
                False,
                [
                    TypeParts(16410, "pair", "public", "composite", [23, 1082], ["n", "day"]),
                    TypeParts(23, "int4", "pg_catalog", "scalar"),
                    TypeParts(1082, "date", "pg_catalog", "scalar"),
                ],
            ),
        ),
    ),
    MessageCase("described: a statement without rows", (Prepared(26, 0, "", [MOODS, INT4], [], True),)),
    MessageCase("opened", (Opened(27, 1, True),)),
    MessageCase("the tag of move_cursor", (Done(31, "MOVE 3", True),)),
    MessageCase(
        "chunks of a copy_out, and its end", (Chunk(32, b"a,b\r\n1,"), Chunk(32, b"2\r\n"), Done(32, "COPY 1"))
    ),
    MessageCase("an empty copy_out", (Done(33, "COPY 0"),)),
    MessageCase("credit for a copy_in", (Credit(34, 1 << 20),)),
    MessageCase(
        "a copy_in that failed before all was sent",
        (
            Failed(
                34,
                "asyncpg",
                'invalid input syntax for type integer: "x"',
                "InvalidTextRepresentationError",
                {"severity": "ERROR", "sqlstate": "22P02", "context": 'COPY t, line 1, column a: "x"'},
            ),
        ),
    ),
    MessageCase("notification", (Notification("orders", "42", 4300),)),
    MessageCase(
        "notification of a lease's own session, without a payload", (Notification("Grüße", "", 4242, TOKEN),)
    ),
    MessageCase("gap", (Gap(["orders", "Grüße"]),)),
    MessageCase("moved", (Moved(),)),
    MessageCase("moved for good", (Moved(True),)),
    MessageCase("held", (Held({"default": 4, "replica": 0}, ["ipc:///run/pgactor/main.sock"]),)),
    MessageCase(
        "notice",
        (
            Notice(
                TOKEN,
                {"severity": "NOTICE", "sqlstate": "00000", "message": 'table "t" does not exist, skipping'},
            ),
        ),
    ),
    MessageCase("settings", (Settings(TOKEN, {"TimeZone": "Europe/Berlin"}),)),
    MessageCase("granted", (Granted(10, TOKEN, 30.0, 4242),)),
    MessageCase(
        "granted, with all that is known of the session",
        (
            Granted(
                11,
                TOKEN,
                60.0,
                4242,
                0.25,
                (17, 2, 0, "final", 0),
                {"server_encoding": "UTF8", "TimeZone": "Etc/UTC"},
            ),
        ),
    ),
    MessageCase("status_report", (StatusReport(12, STATUS),)),
    MessageCase(
        "failed: an error of pgactor's own, with facts",
        (Failed(1, "pool_timeout", "no backend came free within 5.00 s", "", {"max_size": 2, "idle": 0}),),
    ),
    MessageCase(
        "failed: an error of PostgreSQL, inside of a transaction",
        (
            Failed(
                1,
                "asyncpg",
                'relation "t" does not exist',
                "UndefinedTableError",
                {
                    "severity": "ERROR",
                    "sqlstate": "42P01",
                    "message": 'relation "t" does not exist',
                    "position": "15",
                },
                None,
                True,
            ),
        ),
    ),
    MessageCase(
        "failed: an argument that does not fit, with its cause",
        (
            Failed(
                1,
                "asyncpg",
                "invalid input for query argument $1: 'x'",
                "DataError",
                {"detail": None, "hint": None},
                ("TypeError", "'str' object cannot be interpreted as an integer"),
            ),
        ),
    ),
    MessageCase(
        "failed: a statement of an atomic batch",
        (
            Failed(
                15,
                "asyncpg",
                "division by zero",
                "DivisionByZeroError",
                {"severity": "ERROR", "sqlstate": "22012", "message": "division by zero"},
                index=1,
            ),
        ),
    ),
    MessageCase("failed: an error of Python", (Failed(1, "python", "year -43 is out of range", "ValueError"),)),
    MessageCase("failed without an id", (Failed(None, "protocol", "hello was said already on this link"),)),
    MessageCase("lease_ended", (LeaseEnded(TOKEN, "lease_expired", "lease 3.17 was not renewed"),)),
    MessageCase("an empty frame", ()),
    MessageCase("a frame of two replies", (Done(5, "UPDATE 3"), Granted(10, TOKEN, 30.0))),
)


@dataclass(frozen=True)
class VersionCase:
    """A message of a newer or an older peer: not what this code would write, but what it must read."""

    name: str
    form: Any
    message: Message


OTHER_VERSIONS = (
    VersionCase(
        "more fields than are known", ["status", 1, EPOCH, None, "new", {"newer": [1]}], Status(1, EPOCH, None)
    ),
    VersionCase(
        "no fields but the required", ["fetch", 1, EPOCH, None, "select 1"], Fetch(1, EPOCH, None, "select 1")
    ),
    VersionCase("a token with more fields", ["release", [EPOCH, 3, 17, 99]], Release(TOKEN)),
    VersionCase("an integer where a float is meant", ["status", 1, EPOCH, 5], Status(1, EPOCH, 5.0)),
    VersionCase(
        "a hello of another version",
        ["hello", 2, "web-1", 4711, "x", 4096, "", "new"],
        Hello(2, "web-1", 4711, "x", 4096),
    ),
    VersionCase(
        "a hello from before pools had names",
        ["hello", 1, "web-1", 4711, "x", 4096],
        Hello(1, "web-1", 4711, "x", 4096),
    ),
    VersionCase(
        "a fetch from before there were prepared statements",
        ["fetch", 1, EPOCH, None, "table t", [], 10, [EPOCH, 3, 17]],
        Fetch(1, EPOCH, None, "table t", [], 10, TOKEN),
    ),
)
"""All from workers."""


# --- values ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueCase:
    """A value, as an argument and as a result in a column of kind `any`.

    in_zone: the UTC offset of the worker's process, if its argument depends on that: "+02:00".
    argument: what it then is on the wire.
    """

    name: str
    value: object
    in_zone: str = ""
    argument: Packed = None


VALUES = (
    ValueCase("null", None),
    ValueCase("true", True),
    ValueCase("a small integer", 7),
    ValueCase("the lowest plain integer", -(1 << 63)),
    ValueCase("the highest plain integer", (1 << 64) - 1),
    ValueCase("a float", 1.0),
    ValueCase("not a number", float("nan")),
    ValueCase("minus infinity", float("-inf")),
    ValueCase("a str", "Grüße"),
    ValueCase("bytes", b"\x00\xff"),
    ValueCase("a list", [1, None, [2.5, "x"]]),
    ValueCase("an integer above 64 bits", 1 << 64),
    ValueCase("an integer below 64 bits", -(1 << 63) - 1),
    ValueCase("a decimal keeps its scale", Decimal("1.10")),
    ValueCase("a decimal with an exponent", Decimal("-1E+30")),
    ValueCase("a decimal that is no number", Decimal("NaN")),
    ValueCase("an infinite decimal", Decimal("-Infinity")),
    ValueCase("a date", date(2024, 2, 29), in_zone="+02:00", argument=Ext(18, b"2024-02-29+02:00")),
    ValueCase("a date far in the west", date(2024, 2, 29), in_zone="-09:30", argument=Ext(18, b"2024-02-29-09:30")),
    ValueCase(
        "a date at an offset of seconds",
        date(2024, 2, 29),
        in_zone="-00:53:28",
        argument=Ext(18, b"2024-02-29-00:53:28"),
    ),
    ValueCase("the first date", date(1, 1, 1), in_zone="+02:00", argument=Ext(18, b"0001-01-01+02:00")),
    ValueCase("a time", time(23, 59, 59)),
    ValueCase("a time with microseconds", time(1, 2, 3, 4)),
    ValueCase("a time with an offset", time(1, 2, 3, tzinfo=EAST)),
    ValueCase("a time with an offset of seconds", time(1, 2, 3, tzinfo=SUB_MINUTE)),
    ValueCase("an aware datetime", datetime(2024, 5, 1, 12, 30, 0, 5, tzinfo=EAST)),
    ValueCase("an aware datetime in UTC", datetime(2024, 5, 1, 12, 30, tzinfo=UTC)),
    ValueCase(
        "a naive datetime",
        datetime(2024, 5, 1, 12, 30),
        in_zone="+02:00",
        argument=Ext(6, b"2024-05-01T12:30:00+02:00"),
    ),
    ValueCase(
        "a naive datetime that has no offset",
        datetime.min,
        in_zone="+02:00",
        argument=Ext(6, b"0001-01-01T00:00:00"),
    ),
    ValueCase("a duration", timedelta(days=1, seconds=2, microseconds=3)),
    ValueCase("a negative duration", timedelta(microseconds=-1)),
    ValueCase("a uuid", UUID_1),
    ValueCase("an empty tuple", ()),
    ValueCase("a tuple in a tuple", (1, (Decimal("2.0"), None))),
    ValueCase("a list of tuples", [(1, "a"), (2, "b")]),
    ValueCase("a set", {5}),
    ValueCase("a frozenset", frozenset({"a"})),
    ValueCase("an IPv4 address", ip_address("10.0.0.1")),
    ValueCase("an IPv6 address", ip_address("2001:db8::1")),
    ValueCase("a network", ip_network("10.0.0.0/8")),
    ValueCase("an IPv6 network", ip_network("2001:db8::/32")),
    ValueCase("an interface", ip_interface("10.1.2.3/8")),
    ValueCase("a map", {"a": 1, 2: [Decimal("1.10"), None]}),
    ValueCase("an empty map", {}),
    ValueCase("a record", record(["id", "name"], [42, "Ada"])),
    ValueCase("a record with a name twice, and a record in it", record(["a", "a"], [1, record(["b"], [UUID_1])])),
    ValueCase("a record without fields", record([], [])),
    ValueCase("a range", asyncpg.Range(1, 5)),
    ValueCase(
        "a range of decimals that has its upper bound", asyncpg.Range(Decimal("1.5"), Decimal(2), upper_inc=True)
    ),
    ValueCase("a range without an upper bound", asyncpg.Range(1)),
    ValueCase("a range without bounds", asyncpg.Range()),
    ValueCase("an empty range", asyncpg.Range(empty=True)),
    ValueCase("a multirange", [asyncpg.Range(1, 3), asyncpg.Range(7, 9)]),
    ValueCase("a bit string", asyncpg.BitString.frombytes(b"\xa0\x40", 10)),
    ValueCase("an empty bit string", asyncpg.BitString()),
    ValueCase("a point", asyncpg.Point(1.5, -2.0)),
    ValueCase("a box", asyncpg.Box((3.0, 4.0), (1.0, 2.0))),
    ValueCase("a line", asyncpg.Line(1.0, -1.0, 0.5)),
    ValueCase("a line segment", asyncpg.LineSegment((0.0, 0.0), (1.0, 1.0))),
    ValueCase("a closed path", asyncpg.Path((0.0, 0.0), (1.0, 1.0), is_closed=True)),
    ValueCase("an open path", asyncpg.Path((0.0, 0.0), (1.0, 1.0), is_closed=False)),
    ValueCase("a polygon", asyncpg.Polygon((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))),
    ValueCase("a circle", asyncpg.Circle(asyncpg.Point(0.0, 0.0), 2.5)),
    ValueCase("a value in text that the worker decodes", Coded("public.mood", "glad")),
    ValueCase("a value in bytes that the worker decodes", Coded("pg_catalog.int4", b"\x00\x00\x00\x2a")),
    ValueCase("a value in parts that the worker decodes", Coded("pg_catalog.interval", (0, 1, 2_000_000))),
)


@dataclass(frozen=True)
class BadValue:
    """An ext value that a reader refuses."""

    name: str
    code: int
    payload: bytes


BAD_VALUES = (
    BadValue("an unknown ext type", 99, b""),
    BadValue("a private ext type", -2, b""),
    BadValue("a decimal that is none", ExtCode.DECIMAL, b"1,10"),
    BadValue("a decimal without text", ExtCode.DECIMAL, b""),
    BadValue("a day that does not exist", ExtCode.DATE, b"2023-02-29"),
    BadValue("a year before 1", ExtCode.DATE, b"0000-01-01"),
    BadValue("an hour that does not exist", ExtCode.TIME, b"25:00:00"),
    BadValue("text that is not UTF-8", ExtCode.DATE, b"\xff\xff"),
    BadValue("a datetime that is none", ExtCode.DATETIME, b"yesterday"),
    BadValue("a worker's datetime that is none", ExtCode.WORKER_DATETIME, b""),
    BadValue("a duration that is cut short", ExtCode.TIMEDELTA, bytes(11)),
    BadValue("a duration that is too long to hold", ExtCode.TIMEDELTA, b"\x7f" + bytes(11)),
    BadValue("a uuid of 15 bytes", ExtCode.UUID, bytes(15)),
    BadValue("a tuple that is no array", ExtCode.TUPLE, b"\x01"),
    BadValue("a tuple that is cut short", ExtCode.TUPLE, b"\x92\x01"),
    BadValue("a tuple with something behind it", ExtCode.TUPLE, b"\x90\x01"),
    BadValue("a tuple with a malformed element", ExtCode.TUPLE, b"\x91\xd4\x63\x00"),
    BadValue("a set of lists", ExtCode.SET, b"\x91\x90"),
    BadValue("a frozenset that is no array", ExtCode.FROZENSET, b"\xc0"),
    BadValue("an address that is none", ExtCode.IP_ADDRESS, b"10.0.0.256"),
    BadValue("a network with host bits", ExtCode.IP_NETWORK, b"10.0.0.1/8"),
    BadValue("an interface that is none", ExtCode.IP_INTERFACE, b"10.0.0.1/33"),
    BadValue("a map whose last key has no value", ExtCode.DICT, b"\x91\x01"),
    BadValue("a map with an array for a key", ExtCode.DICT, b"\x92\x90\x01"),
    BadValue("a record of more names than values", ExtCode.RECORD, b"\x92\x91\xa1a\x90"),
    BadValue("a record with a name that is no text", ExtCode.RECORD, b"\x92\x91\x01\x91\x01"),
    BadValue("a worker's record without values", ExtCode.WORKER_RECORD, b"\x91\x90"),
    BadValue("a worker's date without an offset", ExtCode.WORKER_DATE, b"2024-02-29"),
    BadValue("a worker's day that does not exist", ExtCode.WORKER_DATE, b"2023-02-29+00:00"),
    BadValue("a range of three elements", ExtCode.RANGE, b"\x93\x01\x02\xc3"),
    BadValue("a bit string of fewer bytes than it says", ExtCode.BIT_STRING, b"\x92\x20\xc4\x01\x00"),
    BadValue("a point without a y", ExtCode.POINT, b"\x91\x01"),
    BadValue("a box of two numbers", ExtCode.BOX, b"\x92\x01\x02"),
    BadValue("a line of two numbers", ExtCode.LINE, b"\x92\x01\x02"),
    BadValue("a line segment of one end", ExtCode.LINE_SEGMENT, b"\x91\x92\x01\x02"),
    BadValue("a path that does not say whether it is closed", ExtCode.PATH, b"\x90"),
    BadValue("a polygon that is no array", ExtCode.POLYGON, b"\x01"),
    BadValue("a circle without a radius", ExtCode.CIRCLE, b"\x91\x92\x01\x02"),
    BadValue("a value to be decoded, without its type", ExtCode.CODED, b"\x91\xa1x"),
)


# --- rows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowsCase:
    """The rows of one column of each kind."""

    name: str
    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]


def _column(kind: ColumnKind, type: str, values: list[Any]) -> RowsCase:
    return RowsCase(f"a column of kind {kind.value}", (Column("c", kind, type),), [(value,) for value in values])


ROWS = (
    _column(ColumnKind.ANY, "int4[]", [[1, None], (1, "x"), ip_address("::1"), "mood", None]),
    _column(ColumnKind.BOOL, "bool", [True, False, None]),
    _column(ColumnKind.INT, "int8", [0, -1, -(1 << 63), HIGHEST, None]),
    _column(ColumnKind.FLOAT, "float8", [0.5, -0.0, float("inf"), None]),
    _column(ColumnKind.STR, "text", ["", "Grüße", None]),
    _column(ColumnKind.BYTES, "bytea", [b"", b"\x00\xff", None]),
    _column(ColumnKind.DECIMAL, "numeric", [Decimal("1.10"), Decimal("1E+3"), Decimal("Infinity"), None]),
    _column(ColumnKind.DATE, "date", [date(2024, 2, 29), date(1, 1, 1), None]),
    _column(ColumnKind.TIME, "time", [time(1, 2, 3), time(23, 59, 59, 999999), None]),
    _column(
        ColumnKind.DATETIME,
        "timestamptz",
        [
            datetime(2024, 5, 1, 12, 30, tzinfo=UTC),
            datetime(2024, 5, 1, 12, 30, 0, 5, tzinfo=UTC),
            datetime(1900, 1, 1, tzinfo=UTC),
            datetime(2024, 5, 1, 12, 30),
            datetime.max,
            None,
        ],
    ),
    _column(
        ColumnKind.TIMEDELTA,
        "interval",
        [timedelta(days=1, seconds=30), timedelta(microseconds=-500_000), timedelta(0), None],
    ),
    _column(ColumnKind.UUID, "uuid", [UUID_1, None]),
    RowsCase("two columns of the same name", (USERS[0], USERS[0]), [(1, 2)]),
    RowsCase(
        "sixteen columns",
        tuple(Column(f"c{at}", ColumnKind.INT, "int4") for at in range(16)),
        [tuple(range(16))],
    ),
)


# --- bad frames -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadFrame:
    """A frame from a worker with something wrong in it.

    frame: pieces, each repeated so many times. cap: the reader's max_frame_bytes.
    error: the code of the error if the frame is refused as a whole; else
    read: what each of its messages is: true if it is good, else the id of the malformed message, or None.
    replies: id and code of each answer of a supervisor of EPOCH. greeted: hello was said before on this link.
    closes: the supervisor closes the link.
    """

    name: str
    frame: tuple[tuple[bytes, int], ...]
    read: tuple[bool | int | None, ...] = ()
    replies: tuple[tuple[int | None, str], ...] = ((None, "protocol"),)
    error: str = ""
    cap: int = 64 * 1024 * 1024
    greeted: bool = True
    closes: bool = False

    @property
    def bytes(self) -> bytes:
        return b"".join(piece * times for piece, times in self.frame)


def _forms(*messages: Any) -> tuple[tuple[bytes, int], ...]:
    return ((msgspec.msgpack.encode(list(messages)), 1),)


def _fetch(argument: bytes, times: int = 1, rest: bytes = b"") -> tuple[tuple[bytes, int], ...]:
    """A frame of one fetch, id 1, with one argument in raw bytes."""
    head = msgspec.msgpack.encode(["fetch", 1, EPOCH, None, "select $1"])
    return ((b"\x91\x96" + head[1:] + b"\x91", 1), (argument, times), (rest, 1))


def _nested_tuples(depth: int) -> bytes:
    data = b"\x90"
    for _ in range(depth):
        data = msgspec.msgpack.encode([Ext(int(ExtCode.TUPLE), data)])
    return data


_STATUS = ["status", 1, EPOCH, None]
_BAD_1 = ((1, "protocol"),)

BAD_FRAMES = (
    # The frame as a whole.
    BadFrame("no bytes", (), error="protocol"),
    BadFrame("a frame that is cut short", ((wire.encode([FETCH_USERS])[:-1], 1),), error="protocol"),
    BadFrame("a frame with a byte behind it", ((wire.encode([FETCH_USERS]) + b"\x00", 1),), error="protocol"),
    BadFrame("a map", ((b"\x80", 1),), error="protocol"),
    BadFrame("a message that is not in a frame", ((wire.encode_message(Bye()), 1),), read=(None,)),
    BadFrame("text", ((b"GET / HTTP/1.1\r\n", 1),), error="protocol"),
    BadFrame("a byte that msgpack does not use", ((b"\x91\xc1", 1),), error="protocol"),
    BadFrame("fewer messages than announced", ((b"\xdd\xff\xff\xff\xff", 1),), error="protocol"),
    BadFrame(
        "over the cap",
        ((wire.encode([HELLO]), 1),),
        error="message_too_large",
        cap=16,
        greeted=False,
        replies=((None, "message_too_large"),),
    ),
    BadFrame("arrays nested too deeply", _fetch(b"\x91", 100_000, b"\xc0"), error="protocol"),
    # One message.
    BadFrame("a message that is no array", _forms(5), read=(None,)),
    BadFrame("an empty message", _forms([]), read=(None,)),
    BadFrame("an unknown tag", _forms(["explode", 1, EPOCH, None]), read=(1,), replies=_BAD_1),
    BadFrame("an unknown tag without an id", _forms(["explode"]), read=(None,)),
    BadFrame("a tag that is no text", _forms([1, 1, EPOCH, None]), read=(1,), replies=_BAD_1),
    BadFrame("missing fields", _forms(["fetch", 1, EPOCH]), read=(1,), replies=_BAD_1),
    BadFrame("an id that is text", _forms(["status", "1", EPOCH, None]), read=(None,)),
    BadFrame("an id that is a float", _forms(["status", 1.0, EPOCH, None]), read=(None,)),
    BadFrame("an id that is null", _forms(["status", None, EPOCH, None]), read=(None,)),
    BadFrame("a timeout that is text", _forms(["status", 1, EPOCH, "5"]), read=(1,), replies=_BAD_1),
    BadFrame("a statement that is bytes", _forms(["fetch", 1, EPOCH, None, b"x"]), read=(1,), replies=_BAD_1),
    BadFrame("arguments that are null", _forms(["fetch", 1, EPOCH, None, "x", None]), read=(1,), replies=_BAD_1),
    BadFrame(
        "a token that is too short",
        _forms(["fetch", 1, EPOCH, None, "x", [], 0, [EPOCH, 3]]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame("a batch of texts", _forms(["batch", 1, EPOCH, None, ["table t"]]), read=(1,), replies=_BAD_1),
    BadFrame(
        "a batch of an isolation that is none",
        _forms(["batch", 1, EPOCH, None, [["table t", []]], True, "SERIALIZABLE"]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame(
        "a batch that is read only and not atomic",
        _forms(["batch", 1, EPOCH, None, [["table t", []]], False, None, True]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame("a release of nothing", _forms(["release", None]), read=(None,)),
    BadFrame(
        "a prepare without a lease", _forms(["prepare", 1, EPOCH, None, "table t", None]), read=(1,), replies=_BAD_1
    ),
    BadFrame(
        "a statement's number that is text",
        _forms(["fetch", 1, EPOCH, None, "", [], 0, [EPOCH, 3, 17], "2"]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame(
        "a cursor's next 0 rows",
        _forms(["fetch_cursor", 1, EPOCH, None, 1, 0, [EPOCH, 3, 17]]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame(
        "a copy by a method that is none",
        _forms(["copy_in", 1, EPOCH, None, "copy_from_table", "t", {}, [EPOCH, 3, 17]]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame(
        "a copy of a credit below zero",
        _forms(["copy_out", 1, EPOCH, None, "copy_from_table", "t", [], {}, -1, [EPOCH, 3, 17]]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame("listen to one name", _forms(["listen", 1, EPOCH, None, "orders"]), read=(1,), replies=_BAD_1),
    BadFrame(
        "a codec of a format that is none",
        _forms(["set_codec", 1, EPOCH, None, "json", "pg_catalog", [EPOCH, 3, 17], "json"]),
        read=(1,),
        replies=_BAD_1,
    ),
    BadFrame("resize to nothing", _forms(["resize", 1, EPOCH, None, 0]), read=(1,), replies=_BAD_1),
    BadFrame("a watch of nothing", _forms(["watch", None, True]), read=(None,)),
    # A message that names a request is not the request: its fault is not the request's answer.
    BadFrame("a chunk without data", _forms(["chunk", 1]), read=(None,)),
    BadFrame("a chunk with a malformed value", _forms(["chunk", 1, [[Ext(99, b"")]]]), read=(None,)),
    BadFrame("an end that is no text", _forms(["end_of_chunks", 1, 5]), read=(None,)),
    BadFrame("a credit below zero", _forms(["credit", 1, -1]), read=(None,)),
    BadFrame(
        "text that is not UTF-8", ((b"\x91\x95\xa5fetch\x01\x07\xc0\xa2\xff\xff", 1),), read=(1,), replies=_BAD_1
    ),
    BadFrame("an ext value with a malformed payload", _fetch(b"\xd4\x08\x00"), read=(1,), replies=_BAD_1),
    BadFrame("an ext value of an unknown type", _fetch(b"\xd4\x63\x00"), read=(1,), replies=_BAD_1),
    BadFrame("a timestamp of a wrong size", _fetch(b"\xd4\xff\x00"), read=(1,), replies=_BAD_1),
    BadFrame("ext values nested too deeply", _fetch(_nested_tuples(600)), read=(1,), replies=_BAD_1),
    BadFrame(
        "one malformed message costs only itself",
        _forms(["status", 1, EPOCH, None], ["status", 2, EPOCH, "5"], ["status", 3, EPOCH, None]),
        read=(True, 2, True),
        replies=((1, "status_report"), (2, "protocol"), (3, "status_report")),
    ),
    # What only a supervisor can judge.
    BadFrame(
        "a hello of another version",
        _forms(["hello", PROTOCOL_VERSION + 1]),
        read=(True,),
        greeted=False,
        closes=True,
    ),
    BadFrame("a malformed hello", _forms(["hello", PROTOCOL_VERSION, 5]), read=(None,), greeted=False),
    BadFrame("a second hello", _forms(["hello", PROTOCOL_VERSION]), read=(True,)),
    BadFrame("a request before hello", _forms(_STATUS), read=(True,), replies=_BAD_1, greeted=False),
    BadFrame("a notice before hello", _forms(["heartbeat"]), read=(True,), greeted=False),
    BadFrame(
        "a request for another epoch",
        _forms(["status", 1, EPOCH - 1, None]),
        read=(True,),
        replies=((1, "supervisor_unavailable"),),
    ),
    BadFrame(
        "a statement on a lease of another epoch",
        _forms(["fetch", 1, EPOCH, None, "x", [], 0, [EPOCH - 1, 3, 17]]),
        read=(True,),
        replies=((1, "lease_lost"),),
    ),
    BadFrame(
        "a statement on a lease that never was",
        _forms(["execute", 1, EPOCH, None, "x", [], [EPOCH, 3, 17]]),
        read=(True,),
        replies=((1, "lease_lost"),),
    ),
    BadFrame(
        "an id that is in use",
        _forms(["acquire", 1, EPOCH, None], ["acquire", 1, EPOCH, None], ["cancel", 1]),
        read=(True, True, True),
        replies=((None, "protocol"), (1, "request_cancelled")),
    ),
    BadFrame(
        "a cancel, a release and a heartbeat of what is not there",
        _forms(["cancel", 9], ["release", [EPOCH, 3, 17]], ["heartbeat", [[EPOCH, 3, 17]]]),
        read=(True, True, True),
        replies=(),
    ),
    BadFrame("a message behind a bye", _forms(["bye"], _STATUS), read=(True, True), replies=(), closes=True),
)
