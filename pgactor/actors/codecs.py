"""Codecs: types of a lease's session whose values are encoded and decoded by its worker, or as another type.

asyncpg is told of functions that leave a value in PostgreSQL's words, marked with its type. They live as long as the
lease does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import asyncpg

from ..messages.session import SetCodec, TypeParts
from ..values import Coded
from .session import Session

FIRST_OF_USERS = 16384
"""The oids of types of the database's own begin here."""

_COMPOSED = ("composite", "range", "multirange")


class Codecs:
    """The codecs of one session that were set by its lease."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._set: dict[int, tuple[str, str]] = {}

    async def set(self, message: SetCodec) -> None:
        """Set a codec, or take it away. Raises asyncpg's errors."""
        session, typename, schema = self._session, message.typename, message.schema
        if message.builtin is not None:
            await session.set_builtin_type_codec(
                typename, schema=schema, codec_name=message.builtin, format=message.format
            )
        elif message.format is not None:
            decoder = _marking(f"{schema}.{typename}", _MADE[message.format])
            await session.set_type_codec(
                typename, schema=schema, encoder=_same, decoder=decoder, format=message.format
            )
        else:
            await session.reset_type_codec(typename, schema=schema)
        oid = await session.type_oid(typename, schema)
        if message.builtin is None and message.format is None:
            self._set.pop(oid, None)
        else:
            self._set[oid] = typename, schema
        session.coded = frozenset(self._set)
        session.forget_statements()

    def clear(self) -> None:
        """The lease has ended: every type is as it was."""
        if self._set:
            self._session.remove_codecs(self._set)
            self._set.clear()


async def parts_of(session: Session, types: Iterable[asyncpg.Type]) -> list[TypeParts]:
    """What these types are composed of, and their parts: nothing where no codec can reach into them."""
    composed = [kind.oid for kind in types if kind.oid >= FIRST_OF_USERS or kind.kind in _COMPOSED]
    if not (composed and session.coded):
        return []
    return [_parts(row) for row in await session.introspect(composed)]


def _parts(row: Any) -> TypeParts:
    oid, schema, name = row["oid"], row["ns"], row["name"]
    if row["elemtype"]:
        return TypeParts(oid, name, schema, "array", [row["elemtype"]])
    match row["kind"]:
        case b"c":
            return TypeParts(
                oid, name, schema, "composite", list(row["attrtypoids"] or ()), list(row["attrnames"] or ())
            )
        case b"d":
            return TypeParts(oid, name, schema, "domain", [row["basetype"]])
        case b"r" | b"m":
            kind: Literal["range", "multirange"] = "range" if row["kind"] == b"r" else "multirange"
            return TypeParts(oid, name, schema, kind, [row["range_subtype"]])
    return TypeParts(oid, name, schema, "scalar")


def _same(value: Any) -> Any:
    return value


_MADE: dict[str, Callable[[Any], Any]] = {"text": str, "binary": bytes, "tuple": tuple}
"""What values of each format cross as; a composite value is a Record of asyncpg's."""


def _marking(type: str, made: Callable[[Any], Any]) -> Callable[[Any], Coded]:
    return lambda value: Coded(type, made(value))
