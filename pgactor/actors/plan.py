"""A plan: how one statement is run in the statement lane, as PostgreSQL described it.

It has a name, the same on every backend, so that a Bind message is made before its backend is chosen. A plan begins
as no more than the name; the first backend that prepares the statement fills it in. A backend that finds other types
than those written here must not be sent its Bind messages: there a new plan begins, under a new name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from ..rows import Column
from .arguments import NotQuick, argument_encoder, formats
from .pgwire import EXECUTE_ALL, READY_IDLE, READY_WITHIN, SYNC, Field, command_complete, execute
from .quicktypes import QuickType, QuickTypes, Wire
from .shapes import Shape, ShapeTable
from .transcode import row_transcoder

_TAGS: dict[str, tuple[bytes, ...]] = {
    "insert": (b"INSERT 0 1", b"INSERT "),
    "update": (b"UPDATE 1", b"UPDATE "),
    "delete": (b"DELETE 1", b"DELETE "),
    "merge": (b"MERGE 1", b"MERGE "),
    "with": (b"SELECT 1", b"SELECT ", b"INSERT ", b"UPDATE ", b"DELETE ", b"MERGE "),
    "begin": (b"BEGIN", b"BEGIN"),
    "start": (b"START TRANSACTION", b"START TRANSACTION"),
    "commit": (b"COMMIT", b"COMMIT", b"ROLLBACK"),
    "end": (b"COMMIT", b"COMMIT", b"ROLLBACK"),
    "rollback": (b"ROLLBACK", b"ROLLBACK"),
    "abort": (b"ROLLBACK", b"ROLLBACK"),
    "savepoint": (b"SAVEPOINT", b"SAVEPOINT"),
    "release": (b"RELEASE", b"RELEASE"),
}
"""By a statement's first word: the tag that it ends with most often, and how its tags begin. SELECT, if not here."""


_DATES = (Wire.DATE, Wire.TIMESTAMP, Wire.TIMESTAMPTZ)


class Plan:
    """How a statement is run.

    described: whether PostgreSQL has told of it. why_not: why the statement lane cannot run it, "" if it can.
    has_rows: whether it returns rows, be it none, and of how many columns (width). shape: of its rows. rows: makes
    msgpack of them. dated: whether they have dates, which Python may lack. end: what comes after the rows most often,
    with the usual_tag; end_within: the same inside a transaction. parses: it is parsed each time, under no name.
    """

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.described = False
        self.why_not = ""
        self.has_rows = False
        self.dated = False
        self.width = 0
        self.shape: Shape
        self.rows: Callable[[bytes, int, int, list[bytes]], int]
        self.end = b""
        self.end_within = b""
        self.parses = False
        self.usual_tag = b""
        self._tags: tuple[bytes, ...] = ()
        self._types: tuple[int, ...] = ()
        self._fields: tuple[Field, ...] = ()
        self._encode: Callable[[Sequence[Any]], bytes]
        self._head = b""
        self._formats = b""
        self._tails: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"<Plan {self.name.decode()}>"

    def matches(self, types: tuple[int, ...], fields: tuple[Field, ...]) -> bool:
        """Whether a backend's description is what the plan was made for."""
        return self._types == types and self._fields == fields

    def describe(
        self, verb: str, types: tuple[int, ...], fields: tuple[Field, ...], quick: QuickTypes, shapes: ShapeTable
    ) -> None:
        """Fill the plan in."""
        self.described = True
        self._types, self._fields = types, fields
        parameters = [quick.get(oid) for oid in types]
        columns = [quick.get(field.type) for field in fields]
        if not (_all_quick(parameters) and _all_quick(columns) and all(each.argument for each in parameters)):
            self.why_not = "types"
            return
        self.why_not = ""
        self.width = len(fields)
        self.shape = shapes.get(
            tuple(Column(field.name, kind.kind, kind.name) for field, kind in zip(fields, columns, strict=True))
        )
        self.rows = row_transcoder(tuple(columns))
        self.dated = any((kind.element or kind).wire in _DATES for kind in columns)
        self._end_as(verb)
        self.has_rows = bool(fields) or b"SELECT " in self._tags  # it may have rows without columns
        self._encode = argument_encoder(tuple(parameters))
        self._head = b"\0" + self.name + b"\0" + formats(parameters)
        self._formats = formats(columns)
        self._tails = {0: self._formats + EXECUTE_ALL + SYNC, 1: self._formats + execute(1) + SYNC}

    @classmethod
    def of_words(cls, verb: str) -> Plan:
        """Of texts that begin with this one of a transaction's verbs. They are parsed each time."""
        plan = cls(b"")
        plan.described = plan.parses = True
        plan._end_as(verb)
        return plan

    def _end_as(self, verb: str) -> None:
        self.usual_tag, *tags = _TAGS.get(verb, (b"SELECT 1", b"SELECT "))
        self._tags = tuple(tags)
        self.end = command_complete(self.usual_tag) + READY_IDLE
        self.end_within = command_complete(self.usual_tag) + READY_WITHIN

    def may_end_with(self, tag: bytes) -> bool:
        """Whether PostgreSQL's word on what was done can be about this statement."""
        return tag.startswith(self._tags)

    def bind(self, args: Sequence[Any], limit: int) -> bytes:
        """Bind, Execute and Sync, for at most `limit` rows (0: all).

        Raises `NotQuick` for arguments that are not exactly of the expected types.
        """
        values = self._encode(args)
        head = self._head
        length = 4 + len(head) + len(values) + len(self._formats)
        tail = self._tails.get(limit) or self._formats + execute(limit) + SYNC
        return b"".join((b"B", length.to_bytes(4, "big"), head, values, tail))

    def bind_one_of_many(self, args: Sequence[Any]) -> bytes:
        """Bind and Execute, without a Sync. Raises `NotQuick`."""
        return self.bind(args, 0)[: -len(SYNC)]


def _all_quick(types: list[QuickType | None]) -> TypeGuard[list[QuickType]]:
    return None not in types


__all__ = ["NotQuick", "Plan"]
