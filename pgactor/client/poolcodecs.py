"""The codecs that every connection of a pool has, applied to statements of the pool itself. No I/O.

Of some types PostgreSQL's text is the very value that crosses. Their codecs need no session that knows of them: the
worker has them work on what it sends and gets, and such statements go on sharing connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..messages.session import Prepared, TypeInfo
from ..rows import Record, RowDecoder
from .codecs import Codec, Codecs

if TYPE_CHECKING:
    from .hooks import Step

_TEXTS = frozenset({"json", "jsonb", "text", "varchar", "bpchar", "name", "xml"})
"""Types of pg_catalog whose values cross as PostgreSQL's text."""

_CATALOG = "pg_catalog"


class PoolCodecs(Codecs):
    """Such codecs."""

    @classmethod
    def of(cls, steps: Sequence[Step]) -> PoolCodecs | None:
        """The codecs that these steps set on a connection; None if one of them is of another kind."""
        codecs = cls()
        for step in steps:
            try:
                name, codec = _text_codec(*step.args, **step.options)
            except TypeError:  # its arguments are wrong, as a lease will say
                return None
            if step.method != "set_type_codec" or codec is None:
                return None
            codecs.set(name, _CATALOG, codec)
        return codecs or None

    def suffice(self, described: Prepared) -> bool:
        """Whether nothing of these types can hide inside the statement's parameters and columns."""
        return all(kind.schema == _CATALOG and _is_plain(kind) for kind in described.parameters) and all(
            _is_plain(kind) and (kind.schema == _CATALOG or self._is_none_of_these(kind))
            for _, kind in described.columns
        )

    def _is_none_of_these(self, kind: TypeInfo) -> bool:
        return kind.kind == "scalar" and f"{_CATALOG}.{kind.name}" not in self._decoders

    def decoded_of(self, shape: RowDecoder, rows: list[Record]) -> list[Record]:
        """The rows, with the values of these types decoded."""
        found = [self._decoders.get(f"{_CATALOG}.{column.type.removesuffix('[]')}") for column in shape.columns]
        decoders = [(at, decode) for at, decode in enumerate(found) if decode is not None]
        if not decoders:
            return rows
        made: list[Record] = []
        for row in rows:
            values = list(row)
            for at, decode in decoders:
                values[at] = _decoded(decode, values[at])
            made.append(type(row)(values))
        return made


def _text_codec(
    typename: str,
    *,
    schema: str = "public",
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any],
    format: str = "text",
) -> tuple[str, Codec | None]:
    """The codec of set_type_codec's arguments; None if its type is not one of these."""
    fits = schema == _CATALOG and typename in _TEXTS and format == "text"
    return typename, Codec(encoder, decoder, format) if fits else None


def _is_plain(kind: TypeInfo) -> bool:
    return kind.kind in ("scalar", "array") and kind.name.removesuffix("[]") not in ("record", "anyarray")


def _decoded(decode: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(decode, each) for each in value]
    return None if value is None else decode(value)
