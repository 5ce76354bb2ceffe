"""What workers say: messages as they may be, of wrong shapes, and no messages at all.

A token is a placeholder until its message is sent: `lease_of(n)` is the n-th lease that was granted to anybody.
"""

from __future__ import annotations

import functools
import typing
from typing import Any

import msgspec
from hypothesis import strategies as st

from pgactor.messages import Request
from pgactor.messages.operating import OperatorRequest, TakenOver
from pgactor.messages.unions import FromWorker
from protocols import cases

TWICE = 10
"""Ids from here on are said as they are, and so at times twice."""

EPOCH_NOW = 0
"""Stands for the epoch that the supervisor lives in."""

OPERATORS = (*typing.get_args(OperatorRequest), TakenOver)
"""What ends a supervisor, or stops it, has tests of its own."""

KINDS: dict[str, type[msgspec.Struct]] = {
    str(struct.__struct_config__.tag): struct for struct in typing.get_args(FromWorker) if struct not in OPERATORS
}

SQL = [
    "select 1",
    "select $1::int",
    "select generate_series(1, 3)",
    "select 1 / 0",
    "select pg_sleep(0.01)",
    "nonsense",
    "",
    "begin",
    "commit",
    "rollback",
    "set application_name = 'x'",
    "create temp table if not exists fuzz (n int)",
    "insert into fuzz values ($1)",
    "select * from fuzz",
    "declare c cursor for select 1",
    "listen fuzz",
    "notify fuzz, 'x'",
    "copy (select 1) to stdout",
    "copy fuzz from stdin",
    "prepare p as select 1",
    "deallocate all",
    "discard all",
    "select 1; select 2",
    "select '\0'",
    "select pg_terminate_backend(pg_backend_pid())",
]

ids = st.integers(0, 12)
epochs = st.sampled_from([EPOCH_NOW] * 8 + [1, 2**63 - 1])
timeouts = st.sampled_from([0.2, 0.2, 0.2, 0.0, 0.001, 1e-300])
tokens = st.integers(0, 3) | st.sampled_from([[0, 0, 0], [1, 2, 3], [EPOCH_NOW, 0, 1], [EPOCH_NOW, 10**9, 10**9]])
sqls = st.sampled_from(SQL)
plain = st.none() | st.booleans() | st.integers(-5, 2**63) | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
exts = st.builds(msgspec.msgpack.Ext, st.integers(-1, 40), st.binary(max_size=12))
args = st.lists(st.integers(0, 5) | plain | exts, max_size=2)
numbers = st.integers(0, 3)
options = st.dictionaries(
    st.sampled_from(
        ["columns", "format", "delimiter", "timeout", "schema_name", "output", "source", "null", "self", "x"]
    ),
    plain | st.just(["n"]) | st.sampled_from(["csv", "binary"]),
    max_size=2,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": ids,
    "epoch": epochs,
    "timeout": timeouts,
    "sql": sqls,
    "args": args,
    "limit": st.sampled_from([0, 0, 1, 2**31 - 1, 2**63 - 1]),
    "lease": tokens,
    "statement": numbers,
    "cursor": numbers,
    "count": st.integers(1, 5),
    "statements": st.lists(st.tuples(sqls, args), max_size=3),
    "ttl": st.sampled_from([None, 0.05, 1.0, 1e300]),
    "version": st.just(1),
    "label": st.text(max_size=5),
    "where": st.text(max_size=5),
    "traceparent": st.text(max_size=60),
    "waited": st.floats(0, 1e6) | st.just(0),
    "holds": st.lists(tokens, max_size=2),
    "pid": st.integers(-1, 2**64 - 1),
    "library": st.just(""),
    "max_frame_bytes": st.sampled_from([-1, 0, 1024, 2**62]),
    "pool": st.sampled_from(["", "", "default", "x", "a/b"]),
    "name": st.sampled_from([None, "", "p", "x" * 100, "\0"]),
    "typename": st.sampled_from(["int4", "json", "nothing", "hstore"]),
    "schema": st.sampled_from(["pg_catalog", "public", ""]),
    "builtin": st.sampled_from([None, "pg_contrib.hstore", "int", "x"]),
    "method": st.nothing(),
    "table_or_query": st.sampled_from(["select 1", "fuzz", "pg_class", "x; y"]),
    "table": st.sampled_from(["fuzz", "nowhere", 'a"b']),
    "options": options,
    "credit": st.sampled_from([0, 1, 10**6, 2**63 - 1]),
    "bytes": st.sampled_from([0, 1, 2**63 - 1]),
    "data": plain | st.just(b"1\n") | st.just(msgspec.msgpack.encode([[1]])),
    "error": st.none() | st.text(max_size=5),
    "channels": st.lists(st.sampled_from(["fuzz", "", "x" * 64, 'a"b']), max_size=2),
    "leases": st.lists(tokens, max_size=2),
    "max_size": st.integers(1, 3),
    "min_size": st.none() | st.integers(0, 2),
    "dsn": st.none(),
    "arguments": st.dictionaries(st.sampled_from(["host", "timeout", "x"]), plain, max_size=2),
}
NOT_SAID = {"set_connect_args"}  # it would take the database away from all; its own test has it


@functools.cache
def message_of(tag: str) -> st.SearchStrategy[list[Any]]:
    """A message of this kind, valid but for what its fields' types do not tell."""
    struct = KINDS[tag]
    hints = typing.get_type_hints(struct, include_extras=True)
    parts: list[st.SearchStrategy[Any]] = []
    for field in msgspec.structs.fields(struct):
        if field.name in ("method", "format", "isolation"):
            parts.append(st.sampled_from(_literals(hints[field.name])))
        elif hints[field.name] is bool:
            parts.append(st.booleans())
        elif field.name == "args" and tag in ("executemany", "fetchmany"):
            parts.append(st.lists(args, max_size=2))
        elif field.name in ("lease", "statement") and not field.required:
            parts.append(st.none() | FIELDS[field.name])
        else:
            parts.append(FIELDS[field.name])
    return st.tuples(*parts).map(lambda values: [tag, *values])


def _literals(hint: Any) -> list[Any]:
    """The values that a Literal allows, and None where that is."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [each for part in typing.get_args(hint) for each in _literals(part)] or [None]


said_mostly = ["fetch", "execute", "acquire", "release", "cancel", "fetch", "acquire"]


def messages(tags: list[str]) -> st.SearchStrategy[list[Any]]:
    """Any message of these kinds."""
    return st.sampled_from([*tags, *(tag for tag in said_mostly if tag in tags)]).flatmap(message_of)


junk = st.recursive(
    plain | exts,
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=3), some, max_size=3),
    max_leaves=8,
)
odd = st.tuples(st.sampled_from(sorted(KINDS)), st.lists(junk, max_size=8)).map(lambda said: [said[0], *said[1]])
"""Messages with a good name and anything for fields."""


@st.composite
def raw(draw: st.DrawFn) -> bytes:
    """Frames that are none, or good ones with a few bytes spoilt."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=40))
    frame = bytearray(draw(st.sampled_from(cases.FROM_WORKER)).frame)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(frame)))
        frame[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(frame)


def resolve(message: list[Any], epoch: int, tokens: list[list[int]]) -> list[Any]:
    """The message with its placeholders filled."""
    struct = KINDS[message[0]]
    said = list(message)
    for at, name in enumerate(struct.__struct_fields__, 1):
        if name == "epoch" and said[at] == EPOCH_NOW:
            said[at] = epoch
        elif name == "lease":
            said[at] = _token(said[at], epoch, tokens)
        elif name == "leases":
            said[at] = [_token(each, epoch, tokens) for each in said[at]]
    return said


def _token(token: Any, epoch: int, tokens: list[list[int]]) -> Any:
    if type(token) is int:
        return tokens[token % len(tokens)] if tokens else [epoch, 0, 1]
    return None if token is None else [epoch if token[0] == EPOCH_NOW else token[0], *token[1:]]


def is_request(message: list[Any]) -> bool:
    """Whether a good message of this name is answered."""
    return issubclass(KINDS[message[0]], Request)
