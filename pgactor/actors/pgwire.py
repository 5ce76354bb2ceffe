"""Messages of PostgreSQL's extended query protocol, as bytes.

Only what the statement lane says and hears; see "Message Formats" in PostgreSQL's protocol chapter.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PARSE_COMPLETE = ord("1")
BIND_COMPLETE = ord("2")
CLOSE_COMPLETE = ord("3")
NOTIFICATION = ord("A")
COMMAND_COMPLETE = ord("C")
DATA_ROW = ord("D")
ERROR = ord("E")
EMPTY_QUERY = ord("I")
NOTICE = ord("N")
PARAMETER_STATUS = ord("S")
ROW_DESCRIPTION = ord("T")
READY = ord("Z")
NO_DATA = ord("n")
PORTAL_SUSPENDED = ord("s")
PARAMETER_DESCRIPTION = ord("t")

BOUND = b"2\0\0\0\x04"
READY_IDLE = b"Z\0\0\0\x05I"
READY_WITHIN = b"Z\0\0\0\x05T"
"""Inside a transaction."""

SUSPENDED_IDLE = b"s\0\0\0\x04" + READY_IDLE
SUSPENDED_WITHIN = b"s\0\0\0\x04" + READY_WITHIN

SYNC = b"S\0\0\0\x04"
EXECUTE_ALL = b"E\0\0\0\x09\0\0\0\0\0"

header = struct.Struct(">BI").unpack_from
"""A message's kind, and its length without the kind's byte, at a place in a buffer."""

_execute = struct.Struct(">cIxI").pack
_type_of_field = struct.Struct(">6xI8x").unpack_from


def execute(limit: int) -> bytes:
    """Execute the portal just bound, for at most so many rows (0: all)."""
    return _execute(b"E", 9, min(limit, 2**31 - 1))


def parse(name: bytes, sql: str) -> bytes:
    """Prepare the statement under a free name, or under none."""
    body = name + b"\0" + sql.encode() + b"\0\0\0"  # no types of ours
    return b"P" + (4 + len(body)).to_bytes(4, "big") + body


def parse_and_describe(name: bytes, sql: str) -> bytes:
    """Prepare the statement under a free name, ask what it takes and gives, and Sync."""
    return parse(name, sql) + b"D" + (6 + len(name)).to_bytes(4, "big") + b"S" + name + b"\0" + SYNC


def close(name: bytes) -> bytes:
    """Forget the prepared statement; no error if there is none."""
    return b"C" + (6 + len(name)).to_bytes(4, "big") + b"S" + name + b"\0"


def command_complete(tag: bytes) -> bytes:
    """The message that tells the tag."""
    return b"C" + (5 + len(tag)).to_bytes(4, "big") + tag + b"\0"


class Field(NamedTuple):
    """A column of a result, as RowDescription tells it. type: the oid of its PostgreSQL type."""

    name: str
    type: int


def parameter_types(body: bytes) -> tuple[int, ...]:
    """The types' oids of a ParameterDescription. Raises `ValueError` for what is none."""
    count = int.from_bytes(body[:2])
    if len(body) != 2 + 4 * count:
        raise ValueError("a ParameterDescription of a wrong length")
    return struct.unpack_from(f">{count}I", body, 2)


def fields(body: bytes) -> tuple[Field, ...]:
    """The columns of a RowDescription. Raises `ValueError` for what is none."""
    count = int.from_bytes(body[:2])
    found = []
    at = 2
    try:
        for _ in range(count):
            end = body.index(b"\0", at)
            found.append(Field(body[at:end].decode(), _type_of_field(body, end + 1)[0]))
            at = end + 19
    except struct.error:
        raise ValueError("a RowDescription that breaks off") from None
    if at != len(body):  # nor is an empty one any
        raise ValueError("a RowDescription of a wrong length")
    return tuple(found)


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse, by their letters. Raises `ValueError` for what is none."""
    found = {}
    for field in body.split(b"\0"):
        if field:  # the last two are empty
            found[chr(field[0])] = field[1:].decode(errors="replace")
    return found
