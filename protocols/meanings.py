"""What each message, field, ext type and column kind means, in words that belong to no programming language.

`protocols.generate` puts these beside the names and types that it reads from the code, and refuses to run when
something in the code has no meaning here, or something here is no longer in the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pgactor.rows import ColumnKind
from pgactor.values import ExtCode


@dataclass(frozen=True)
class Meaning:
    """Of one message (or of a struct within messages). what: request, reply, part of a reply, or notice; empty for a
    struct."""

    what: str
    summary: str
    answer: str = ""
    fields: dict[str, str] = field(default_factory=dict)


_REQUEST = {
    "id": "Chosen by the worker. Not in use by another unanswered request on this link.",
    "epoch": "The supervisor's life that the request is meant for, from `welcome`.",
    "timeout": "Seconds that the worker is still willing to wait, queueing included. nil: no limit of its own.",
}
_SQL = "The statement, with `$1`, `$2`, … for arguments."
_LEASE = "The lease to run on. nil: any backend."
_MANY = "One array of values for each run of the statement."
_STATEMENT = "The number of one of the lease's prepared statements, to be run instead of `sql`. nil: run `sql`."
_LABEL = "What it is for, in the application's words, for people to read. At most 200 characters are kept."
_TRACE = "The trace that it is part of, as W3C Trace Context's traceparent. Empty: none."
_WAITED = "Seconds that it has waited in the worker for a place in the `window`; they count as a wait for a backend."
_ITS_LEASE = "The lease."
_COPY = "The id of the request that began the copy."
_ID = "The id of the request that this answers."
_POOLS = "Which of the supervisor's pools, by their names. nil: all that it has now."
_IN_TRANSACTION = "Whether the lease's backend is inside a transaction now. false without a lease."

MESSAGES: dict[str, Meaning] = {
    # From the worker.
    "hello": Meaning(
        "notice",
        "The first message on a link.",
        "`welcome`, or `failed` without an id and the end of the link",
        {
            "version": "The version of the protocol that the worker speaks.",
            "label": "What people should call the worker in a status. At most 200 characters are kept.",
            "pid": "The worker's process id, used where the kernel does not tell it (tcp). 0: not told.",
            "library": "Name and version of the client library.",
            "max_frame_bytes": "The largest frame that the worker takes.",
            "pool": "The name of the supervisor's pool that the link is for. Empty: its first.",
        },
    ),
    "execute": Meaning(
        "request",
        "Run one statement; several, separated by semicolons, if `args` is empty.",
        "`done` with the command tag",
        {
            **_REQUEST,
            "sql": _SQL,
            "args": "The arguments.",
            "lease": _LEASE,
            "label": _LABEL,
            "traceparent": _TRACE,
            "waited": _WAITED,
        },
    ),
    "executemany": Meaning(
        "request",
        "Run one statement once for each array of arguments, all or nothing.",
        "`done` without a command tag",
        {
            **_REQUEST,
            "sql": _SQL,
            "args": _MANY,
            "lease": _LEASE,
            "statement": _STATEMENT,
            "label": _LABEL,
            "traceparent": _TRACE,
            "waited": _WAITED,
        },
    ),
    "fetch": Meaning(
        "request",
        "Run one statement and return its rows.",
        "`rows`, and any number of `part` before it",
        {
            **_REQUEST,
            "sql": _SQL,
            "args": "The arguments.",
            "limit": "At most so many rows. 0: all. Not negative.",
            "lease": _LEASE,
            "statement": _STATEMENT,
            "label": _LABEL,
            "traceparent": _TRACE,
            "waited": _WAITED,
        },
    ),
    "fetchmany": Meaning(
        "request",
        "Run one statement once for each array of arguments, all or nothing, and return the rows of all runs.",
        "`rows`",
        {
            **_REQUEST,
            "sql": _SQL,
            "args": _MANY,
            "lease": _LEASE,
            "statement": _STATEMENT,
            "label": _LABEL,
            "traceparent": _TRACE,
            "waited": _WAITED,
        },
    ),
    "batch": Meaning(
        "request",
        "Run statements one after another, in one transaction or each by itself.",
        "`results`; `failed` with `index` if it is atomic and one of them fails",
        {
            **_REQUEST,
            "statements": "Each is one statement, with `$1`, `$2`, … for arguments, and its arguments.",
            "atomic": "true: in one transaction, all or nothing. false: each by itself, also after one that failed.",
            "isolation": "Of the transaction: `read_committed`, `read_uncommitted`, `repeatable_read` or "
            "`serializable`. nil: the default. nil if not atomic.",
            "readonly": "Whether the transaction is READ ONLY. false if not atomic.",
            "label": _LABEL,
            "traceparent": _TRACE,
            "waited": _WAITED,
        },
    ),
    "prepare": Meaning(
        "request",
        "Prepare a statement in the lease's session, until the lease ends.",
        "`prepared`",
        {
            **_REQUEST,
            "sql": "The statement, with `$1`, `$2`, … for arguments.",
            "lease": _ITS_LEASE,
            "name": "What PostgreSQL is to call it. nil: a name that the supervisor makes. Empty: PostgreSQL's "
            "unnamed statement.",
        },
    ),
    "describe": Meaning(
        "request",
        "Ask for the types of a statement's parameters and columns. It is not run, and nothing is kept.",
        "`prepared`, whose `statement` means nothing",
        {**_REQUEST, "sql": _SQL, "lease": _LEASE},
    ),
    "open_cursor": Meaning(
        "request",
        "Open a cursor on a statement. The lease's backend must be inside a transaction.",
        "`opened`",
        {
            **_REQUEST,
            "sql": _SQL,
            "args": "The arguments.",
            "lease": _ITS_LEASE,
            "statement": _STATEMENT,
        },
    ),
    "fetch_cursor": Meaning(
        "request",
        "Return the next rows of a cursor.",
        "`rows`; if there are fewer than `limit`, the cursor is at its end",
        {
            **_REQUEST,
            "cursor": "The cursor's number, from `opened`.",
            "limit": "At most so many rows, at least 1.",
            "lease": _ITS_LEASE,
        },
    ),
    "move_cursor": Meaning(
        "request",
        "Skip the next rows of a cursor.",
        "`done` with the command tag, which tells how many were skipped: `MOVE 3`",
        {
            **_REQUEST,
            "cursor": "The cursor's number, from `opened`.",
            "count": "So many rows, at least 1.",
            "lease": _ITS_LEASE,
        },
    ),
    "copy_out": Meaning(
        "request",
        "COPY from PostgreSQL to the worker.",
        "any number of `chunk`, then `done` with the command tag",
        {
            **_REQUEST,
            "method": "`copy_from_table` or `copy_from_query`.",
            "table_or_query": "The table's name, or the query's text.",
            "args": "The query's arguments; empty for a table.",
            "options": "Keyword arguments of asyncpg's method of that name, but for `output`.",
            "credit": "So many bytes may come before the worker gives more.",
            "lease": _ITS_LEASE,
        },
    ),
    "copy_in": Meaning(
        "request",
        "COPY from the worker into a table. The supervisor gives `credit`, the worker sends `chunk`, in the end "
        "`end_of_chunks`.",
        "`done` with the command tag; `failed` may come at any time",
        {
            **_REQUEST,
            "method": "`copy_to_table` or `copy_records_to_table`.",
            "table": "The table's name.",
            "options": "Keyword arguments of asyncpg's method of that name, but for `source` and `records`.",
            "lease": _ITS_LEASE,
        },
    ),
    "listen": Meaning(
        "request",
        "Have the notifications of these channels sent to this link, from now on.",
        "`done`, once PostgreSQL listens",
        {
            **_REQUEST,
            "channels": "Their names, exactly as they are: no quotes, and case counts. Each has at most 63 bytes.",
            "lease": "Whose session is to listen. nil: the pool's one connection that listens for all workers.",
        },
    ),
    "unlisten": Meaning(
        "request",
        "Undo one `listen` for each of these channels. Those that are not listened to are ignored.",
        "`done`",
        {**_REQUEST, "channels": "Their names.", "lease": "As it was in `listen`."},
    ),
    "set_codec": Meaning(
        "request",
        "Choose how values of a type cross the wire, in both directions, on this lease.",
        "`done` without a command tag",
        {
            **_REQUEST,
            "typename": "The type's name.",
            "schema": "The name of its schema.",
            "lease": _ITS_LEASE,
            "format": "`text`, `binary` or `tuple`, see “Codecs”. nil: as it was before any `set_codec`, "
            "or by `builtin`.",
            "builtin": "The name of a codec of asyncpg's own to use for the type. nil: none.",
        },
    ),
    "reset": Meaning(
        "request",
        "Make the lease's session as new, as at release, and keep the lease.",
        "`done` without a command tag",
        {
            **_REQUEST,
            "lease": _ITS_LEASE,
            "schema_only": "Only forget what the pool's sessions remember of the database's types and statements.",
        },
    ),
    "resize": Meaning(
        "request",
        "Change how many connections the pool may have.",
        "`done` without a command tag; `failed` where the supervisor does not permit it",
        {
            **_REQUEST,
            "max_size": "The most that there may be, at least 1.",
            "min_size": "The least that are kept. nil: as before, but no more than `max_size`.",
        },
    ),
    "set_connect_args": Meaning(
        "request",
        "Replace the arguments with which new connections are made, all of them.",
        "`done` without a command tag; `failed` where the supervisor does not permit it",
        {
            **_REQUEST,
            "dsn": "The connection string; nil: none.",
            "arguments": "Keyword arguments of `asyncpg.connect`.",
        },
    ),
    "pause": Meaning(
        "request",
        "Give no request a backend from now on. What runs goes on to its end, and so do leases.",
        "`done` without a command tag, when nothing runs and nothing is leased; `failed` at the end of the timeout "
        "(the pause goes on), or where the supervisor does not permit it",
        {**_REQUEST, "pools": _POOLS},
    ),
    "resume": Meaning(
        "request",
        "Undo `pause`.",
        "`done` without a command tag; `failed` where the supervisor does not permit it",
        {**_REQUEST, "pools": _POOLS},
    ),
    "drain": Meaning(
        "request",
        "Let what is here end, take nothing new, and end.",
        "`done` without a command tag, when that begins; `failed` where the supervisor does not permit it",
        {**_REQUEST, "pools": "The pools that are to end, by their names. nil: the supervisor."},
    ),
    "take_over": Meaning(
        "request",
        "From another supervisor: it is to take this one's place. Nothing happens yet.",
        "`held` at once, which is no answer; `done` without a command tag, when all is given away; `failed` where it "
        "cannot be",
        _REQUEST,
    ),
    "taken_over": Meaning(
        "notice", "From another supervisor, after `take_over`: it listens at the endpoints now. Hand over."
    ),
    "acquire": Meaning(
        "request",
        "Ask for exclusive use of a backend.",
        "`granted`",
        {
            **_REQUEST,
            "ttl": "Seconds that the lease lives without renewal. Greater than 0. nil: the supervisor's default.",
            "label": _LABEL,
            "where": "The place in the worker's code that asks, for people. At most 300 characters are kept.",
            "holds": "The leases of this link that will certainly not be released before this request is answered, "
            "as the code that asks must first go on, see section 7. Leave out those of which that is not certain.",
            "traceparent": _TRACE,
        },
    ),
    "status": Meaning("request", "Ask for the state of the pool.", "`status_report`", _REQUEST),
    "expire": Meaning(
        "request",
        "Replace every connection to PostgreSQL: idle ones now, used ones when they come back.",
        "`done` without a command tag",
        _REQUEST,
    ),
    "heartbeat": Meaning(
        "notice",
        "The worker lives and still holds these leases. Each is renewed for its ttl. Ended tokens are ignored.",
        fields={"leases": "The leases to renew. May be empty."},
    ),
    "release": Meaning(
        "notice",
        "Give a lease back. A statement that still runs on it is cancelled. A token that has ended is ignored.",
        fields={"lease": "The lease."},
    ),
    "cancel": Meaning(
        "notice",
        "Nobody waits for the request any more: queued, it never runs; running, it is cancelled in PostgreSQL. "
        "The request is still answered, once. An id that is not in use is ignored.",
        fields={"id": "The id of the request."},
    ),
    "close_statement": Meaning(
        "notice",
        "Nobody uses this prepared statement any more. A number that is not in use is ignored.",
        fields={"lease": _ITS_LEASE, "statement": "Its number, from `prepared`."},
    ),
    "close_cursor": Meaning(
        "notice",
        "Nobody uses this cursor any more. A number that is not in use is ignored.",
        fields={"lease": _ITS_LEASE, "cursor": "Its number, from `opened`."},
    ),
    "watch": Meaning(
        "notice",
        "What the lease's session says is to be sent to the worker, from now on. Each `watch` replaces the one "
        "before.",
        fields={"lease": _ITS_LEASE, "log": "Whether `notice` is to be sent. false: not, as at first."},
    ),
    "end_of_chunks": Meaning(
        "notice",
        "The worker has no more for its copy.",
        fields={
            "id": _COPY,
            "error": "What went wrong in the worker, for people: the copy is then undone and the request fails. nil: "
            "nothing, the data is complete.",
        },
    ),
    "bye": Meaning("notice", "The worker is about to close the link. Its leases end. It sends nothing after this."),
    # From the supervisor.
    "welcome": Meaning(
        "notice",
        "The answer to `hello`.",
        fields={
            "version": "The version of the protocol that the supervisor speaks: the same as in `hello`.",
            "epoch": "This life of the supervisor. Goes into every request.",
            "supervisor": "Name and version of the supervisor, for people.",
            "max_frame_bytes": "The largest frame that the supervisor takes.",
            "heartbeat_seconds": "If greater than 0, a worker that awaits a reply or holds a lease sends something "
            "at least this often (tcp). 0: it need not (ipc).",
            "window": "How many statements without a lease a worker should have unanswered on the link at the same "
            "time; what it has more waits in the worker. 0: any number.",
            "queue_timeout_seconds": "How long a statement that has no timeout may wait for a backend. 0: for ever.",
        },
    ),
    "done": Meaning(
        "reply",
        "The request succeeded, and has no rows to give.",
        fields={
            "id": _ID,
            "status": "PostgreSQL's command tag, such as `UPDATE 3`; nil where there is none.",
            "in_transaction": _IN_TRANSACTION,
        },
    ),
    "rows": Meaning(
        "reply",
        "The rows of a request.",
        fields={
            "id": _ID,
            "shape": "The number of the rows' shape.",
            "columns": "The columns of the shape, where it is told (see section 5); else nil.",
            "data": "An array of rows. Each row is an array of as many values as the shape has columns.",
            "in_transaction": _IN_TRANSACTION,
            "status": "PostgreSQL's command tag, if a prepared statement was run; else nil.",
        },
    ),
    "part": Meaning(
        "part of a reply",
        "The next rows of a request that is not answered yet. `rows` with the last ones follows, or `failed`.",
        fields={
            "id": "The id of the request.",
            "shape": "As in `rows`.",
            "columns": "As in `rows`.",
            "data": "As in `rows`.",
        },
    ),
    "prepared": Meaning(
        "reply",
        "The statement is prepared, or described.",
        fields={
            "id": _ID,
            "statement": "Its number, among the lease's statements. Means nothing in the answer to `describe`.",
            "name": "What PostgreSQL calls it.",
            "parameters": "The types of `$1`, `$2`, …, in this order.",
            "columns": "For each column of its result, in their order, its name and type. Empty: it returns no rows.",
            "in_transaction": _IN_TRANSACTION,
            "parts": "Of a session with codecs: what the types are composed of that are composite, ranges or of the "
            "database's own, and what their parts are; so that whoever encodes can encode what is in them.",
            "plain": "True: no hook of the supervisor has set codecs of types. A worker may then write values of "
            "PostgreSQL's own types itself, as a `copy_to_table` in binary format.",
        },
    ),
    "opened": Meaning(
        "reply",
        "The cursor is open, before its first row.",
        fields={
            "id": _ID,
            "cursor": "Its number, among the lease's cursors.",
            "in_transaction": _IN_TRANSACTION,
        },
    ),
    "results": Meaning(
        "reply",
        "The results of a batch, one for each statement, in their order.",
        fields={
            "id": _ID,
            "results": "Replies within the reply. The id of each is the index of its statement, from 0. `rows` for a "
            "statement whose result has columns, else `done` with its command tag; `failed` only if the batch is not "
            "atomic.",
        },
    ),
    "granted": Meaning(
        "reply",
        "The lease is given.",
        fields={
            "id": _ID,
            "lease": "The token of the lease.",
            "ttl": "Seconds that it lives without being renewed.",
            "backend_pid": "The process id of the lease's PostgreSQL backend.",
            "waited": "Seconds between the arrival of the request and the grant, from which the ttl counts.",
            "server_version": "PostgreSQL's version: major, minor, micro, release level (such as `final`), serial. "
            "nil: not told.",
            "settings": "The parameters that PostgreSQL reports of the session (ParameterStatus), by name.",
        },
    ),
    "status_report": Meaning(
        "reply", "The state of the pool.", fields={"id": _ID, "status": "A map, see PoolStatus below."}
    ),
    "failed": Meaning(
        "reply",
        "The request failed; or, without an id, something could not be attributed to a request.",
        fields={
            "id": "The id of the request. nil: not known.",
            "code": "Which error, see “Errors”.",
            "message": "What happened, for people.",
            "error_class": "For the codes `asyncpg` and `python` the name of the error's class; else empty.",
            "fields": "What else the error carries.",
            "cause": "Class name and text of the error behind this one.",
            "in_transaction": _IN_TRANSACTION,
            "index": "Which statement of a batch it was, from 0. nil: none of them, as when the commit fails.",
        },
    ),
    "lease_ended": Meaning(
        "notice",
        "A lease has ended without its owner's doing. Its statements will be refused with this error.",
        fields={
            "lease": "The token of the lease.",
            "code": "`lease_expired` or `lease_lost`.",
            "message": "Why, for people.",
        },
    ),
    "notification": Meaning(
        "notice",
        "Somebody has sent a NOTIFY on a channel that is listened to.",
        fields={
            "channel": "Its name.",
            "payload": "The text that was sent with it; empty if there is none.",
            "pid": "PostgreSQL's process id of the session that sent it.",
            "lease": "Whose session heard it. nil: the pool's listening connection.",
        },
    ),
    "gap": Meaning(
        "notice",
        "Notifications of these channels may have been missed: the pool's listening connection was lost, and a new "
        "one listens now.",
        fields={"channels": "Those of this link that it is true of."},
    ),
    "moved": Meaning(
        "notice",
        "Another supervisor listens at the endpoint now. What is new belongs on a new link.",
        fields={"over": "This supervisor is no more: whatever it has not answered on this link was not run."},
    ),
    "held": Meaning(
        "notice",
        "To another supervisor, after `take_over`: what this one has.",
        fields={
            "connections": "How many connections it has yet, or may open, by its pools' names. It only falls.",
            "endpoints": "Where it listens. Told the first time.",
        },
    ),
    "notice": Meaning(
        "notice",
        "PostgreSQL has said something in the lease's session (NoticeResponse), and the worker watches it.",
        fields={
            "lease": _ITS_LEASE,
            "fields": "By the names of the fields of an error of PostgreSQL, see “Errors”.",
        },
    ),
    "settings": Meaning(
        "notice",
        "Reported parameters of the lease's session have changed (ParameterStatus).",
        fields={"lease": _ITS_LEASE, "settings": "Those that have changed, by name, as they are now."},
    ),
    # Both ways.
    "chunk": Meaning(
        "notice",
        "A piece of the data of a copy that is not answered yet.",
        fields={
            "id": _COPY,
            "data": "bin: a piece of the data, cut anywhere. For `copy_records_to_table` it holds msgpack: an array "
            "of records, each an array of values.",
        },
    ),
    "credit": Meaning(
        "notice",
        "So many more bytes of a copy may be sent, to whoever says this.",
        fields={"id": _COPY, "bytes": "How many more, in addition to what was given before."},
    ),
}
"""By tag."""

STRUCTS: dict[str, Meaning] = {
    "Token": Meaning(
        "",
        "Names a lease. An array, inside of other messages. A worker keeps it whole and gives it back unchanged.",
        fields={
            "epoch": "The life of the supervisor that gave it.",
            "holder": "The slot of the pool.",
            "fence": "Rises with each lease.",
        },
    ),
    "Column": Meaning(
        "",
        "Describes a column of a shape. An array.",
        fields={
            "name": "Its name. Names may repeat within a shape.",
            "kind": "How its values travel, see “Rows”.",
            "type": "The name of its PostgreSQL type, for people.",
        },
    ),
    "TypeInfo": Meaning(
        "",
        "Describes a type of PostgreSQL. An array.",
        fields={
            "oid": "Its number in this database.",
            "name": "Its name.",
            "kind": "`scalar`, `array`, `composite`, `range` or `multirange`.",
            "schema": "The name of its schema.",
        },
    ),
    "TypeParts": Meaning(
        "",
        "What a type of PostgreSQL is composed of. An array.",
        fields={
            "oid": "Its number in this database.",
            "name": "Its name, as pg_type has it.",
            "schema": "The name of its schema.",
            "kind": "What it is.",
            "parts": "The oids of an array's element, a range's or multirange's subtype, a domain's base type, a "
            "composite type's attributes.",
            "names": "The names of a composite type's attributes.",
        },
    ),
    "PoolStatus": Meaning(
        "",
        "The state of the pool at one moment. A map: a reader ignores keys that it does not know.",
        fields={
            "version": "The supervisor's version.",
            "epoch": "This life of the supervisor.",
            "uptime_seconds": "Since it started.",
            "min_size": "The least connections that are kept.",
            "max_size": "The most that there may be.",
            "size": "Connections that are open.",
            "idle": "Of these, free.",
            "busy": "Running a statement without a lease.",
            "leased": "Held by a lease.",
            "resetting": "Being made ready for the next user.",
            "opening": "Being opened; not part of `size`.",
            "waiting": "Requests that wait for a connection.",
            "database": "`ok`, or what is wrong.",
            "counters": "Counts from the supervisor's start, by name.",
            "holders": "The slots of the pool.",
            "workers": "The links.",
            "init_size": "How many connections are opened at the start.",
            "pool": "The pool's name.",
            "pools": "The names of all pools that the supervisor has now.",
            "max_queries": "After so many requests a connection is replaced; 0: never.",
            "max_inactive_connection_lifetime": "After so many seconds an idle connection is closed; 0: never.",
            "leases": "All leases, the oldest first.",
            "faults": "How many unexpected errors the supervisor has met, and logged.",
            "stalls": "How often its event loop stood still.",
            "longest_stall_seconds": "For how long at most.",
            "last_stall": "For how long the last time, and where, in words.",
            "paused": "Whether no request gets a backend, by `pause`.",
            "oldest_waiting_seconds": "For how long the oldest of those waits that are first of their worker.",
            "errors": "How often each class of error was the answer to a request, by its name.",
            "histograms": "By name. In seconds: `wait` for a connection, `service` from then on, `total`, `lease` "
            "(how long it was held), `lag` of the supervisor's event loop. In statements: `depth`, how many were in "
            "flight on a connection when some were answered. More may come.",
            "slowest": "The statements that took the most time, all their runs together or one of them.",
        },
    ),
    "Histogram": Meaning(
        "",
        "How many of what was measured were how large. A map.",
        fields={
            "bounds": "The upper bounds of the buckets, each included.",
            "counts": "How many are in each bucket; one more than there are bounds, for those larger than all.",
            "total": "All that was measured, added up.",
        },
    ),
    "StatementStatus": Meaning(
        "",
        "One statement. A map.",
        fields={
            "statement": "Its text, shortened.",
            "count": "How often it has run.",
            "mean_seconds": "How long it kept a connection, on average; of those that were answered together, each "
            "an equal part.",
            "max_seconds": "The same, at most.",
        },
    ),
    "LeaseStatus": Meaning(
        "",
        "One lease. A map.",
        fields={
            "lease": "Holder and fence, as `3.17`.",
            "holder": "The slot that it is a lease on.",
            "worker": "Whose it is, for people.",
            "pid": "The worker's process; 0: not known.",
            "label": "From `acquire`.",
            "where": "From `acquire`.",
            "seconds": "Since it was granted.",
            "state": "`running` a statement, `in transaction`, `idle`, or `waiting`: its owner waits for another "
            "lease; more may come.",
            "statement": "The running or the last statement, shortened.",
            "backend_pid": "The process id of its PostgreSQL backend.",
            "reported": "It is held for longer than the supervisor's `lease_warning_seconds`.",
            "traceparent": "From `acquire`.",
        },
    ),
    "HolderStatus": Meaning(
        "",
        "One slot of the pool. A map.",
        fields={
            "number": "The slot.",
            "state": "`vacant`, `opening`, `idle`, `busy`, `leased`, … ; more may come.",
            "seconds": "Since it came into this state.",
            "backend_pid": "The process id of its PostgreSQL backend; 0: none.",
            "uses": "Statements that its connection has run.",
            "worker": "Who uses it, for people; empty: nobody.",
            "lease": "Holder and fence of its lease, as `3.17`; empty: none.",
            "statement": "The running or the last statement, shortened.",
            "label": "Of the request that runs, else of the lease.",
        },
    ),
    "WorkerStatus": Meaning(
        "",
        "One link of a worker. A map.",
        fields={
            "number": "Of the link, from 1.",
            "label": "From `hello`.",
            "pid": "Its process; 0: not known.",
            "road": "`ipc` or `tcp`.",
            "connected_seconds": "Since its `hello`.",
            "waiting": "Its requests that wait.",
            "running": "Its requests that run.",
            "leases": "Its leases.",
        },
    ),
}
"""By the name of the struct."""

EXT: dict[ExtCode, tuple[str, str]] = {
    ExtCode.INT: ("an integer beyond 64 bits", "Two's complement, big-endian, as many bytes as needed."),
    ExtCode.DECIMAL: ("a decimal number", "Text: `1.10`, `1E+3`, `NaN`, `Infinity`, `-Infinity`. The scale counts."),
    ExtCode.DATE: ("a date", "Text: `YYYY-MM-DD`, years 0001 to 9999."),
    ExtCode.TIME: (
        "a time of day, with or without an offset",
        "Text: `HH:MM:SS[.ffffff]`, then `+HH:MM[:SS[.ffffff]]` if it has an offset.",
    ),
    ExtCode.DATETIME: (
        "a point in time, or (without an offset) a wall clock time of no zone",
        "Text: the date, `T`, the time, both as above.",
    ),
    ExtCode.WORKER_DATETIME: (
        "a wall clock time in the worker's own time zone; arguments only",
        "As type 5, with the offset that the worker's zone has at that time; none if it has none.",
    ),
    ExtCode.TIMEDELTA: (
        "a duration",
        "Days, seconds, microseconds: three signed 32-bit integers, big-endian (12 bytes).",
    ),
    ExtCode.UUID: ("a UUID", "Its 16 bytes."),
    ExtCode.TUPLE: ("a tuple (composite value, closed path)", "A msgpack array of values."),
    ExtCode.SET: ("a set", "A msgpack array of values, in no particular order."),
    ExtCode.FROZENSET: ("an immutable set", "As type 10."),
    ExtCode.IP_ADDRESS: ("an IPv4 or IPv6 address", "Text: `10.0.0.1`, `::1`."),
    ExtCode.IP_NETWORK: ("a network", "Text: `10.0.0.0/8`; the host bits are zero."),
    ExtCode.IP_INTERFACE: ("an address within a network", "Text: `10.1.2.3/8`."),
    ExtCode.DICT: ("a map", "A msgpack array of values: a key, its value, the next key, …"),
    ExtCode.RECORD: (
        "a composite value of a result",
        "A msgpack array of two arrays of the same length: the names of its fields (str), and their values.",
    ),
    ExtCode.WORKER_RECORD: ("a row or composite value; arguments only", "As type 16."),
    ExtCode.WORKER_DATE: (
        "a date in the worker's own time zone; arguments only (as type 3 it would be in the supervisor's)",
        "As type 3, then the offset that the worker's zone has now: `+HH:MM[:SS]`.",
    ),
    ExtCode.RANGE: (
        "a range",
        "A msgpack array of four values: the lower bound, the upper bound (nil: none), whether the lower and whether "
        "the upper one belongs to it. An empty array for the empty range. A multirange is an array of ranges.",
    ),
    ExtCode.BIT_STRING: (
        "a bit string",
        "A msgpack array of the number of bits (int) and of the bytes (bin) that they fill, from the highest bit of "
        "the first byte on.",
    ),
    ExtCode.POINT: ("a point", "A msgpack array of x and y."),
    ExtCode.BOX: ("a box", "A msgpack array of its upper right and its lower left corner, each as type 21."),
    ExtCode.LINE: ("an endless line Ax + By + C = 0", "A msgpack array of A, B and C."),
    ExtCode.LINE_SEGMENT: ("a line segment", "A msgpack array of its two ends, each as type 21."),
    ExtCode.PATH: (
        "a path",
        "A msgpack array: whether it is closed (bool), then its points, each as type 21.",
    ),
    ExtCode.POLYGON: ("a polygon", "A msgpack array of its points, each as type 21."),
    ExtCode.CIRCLE: ("a circle", "A msgpack array of its centre (type 21, or type 9 of x and y) and its radius."),
    ExtCode.CODED: (
        "a value that the worker decodes, as `set_codec` said",
        "A msgpack array: schema and name of its type, with a dot between them; and PostgreSQL's text, its bytes, or "
        "a tuple.",
    ),
}
"""What each ext type stands for, and its payload."""

KINDS: dict[ColumnKind, str] = {
    ColumnKind.ANY: "Any value of this protocol, ext types included: the type travels with each value.",
    ColumnKind.BOOL: "msgpack bool.",
    ColumnKind.INT: "msgpack int.",
    ColumnKind.FLOAT: "msgpack float. NaN and the infinities occur.",
    ColumnKind.STR: "msgpack str.",
    ColumnKind.BYTES: "msgpack bin.",
    ColumnKind.DECIMAL: "msgpack str: the decimal's text. `NaN` and `Infinity` occur.",
    ColumnKind.DATE: "msgpack str: `YYYY-MM-DD`.",
    ColumnKind.TIME: "msgpack str: `HH:MM:SS[.ffffff]`, no offset.",
    ColumnKind.DATETIME: "With a zone: msgpack's own timestamp (ext −1, any of its three sizes). "
    "Without one: msgpack str, `YYYY-MM-DDTHH:MM:SS[.ffffff]`. Both may occur in one column.",
    ColumnKind.TIMEDELTA: "msgpack str: an ISO 8601 duration of days and seconds, with a sign before all of it, "
    "as in `P1DT30S`, `-PT0.5S`.",
    ColumnKind.UUID: "msgpack bin of 16 bytes.",
}
"""How the values of each kind of column are encoded. nil is legal in every kind."""
