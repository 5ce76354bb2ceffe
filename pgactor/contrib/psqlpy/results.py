"""What statements give: psqlpy's QueryResult and SingleQueryResult."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from ...errors import ClientError
from ...rows import Record

T = TypeVar("T")

Decoders = Mapping[str, Callable[[bytes], Any]]
"""By a column's name: a function of a value's bytes."""

_AS_THEY_ARE = frozenset({str, int, float, bool, bytes, type(None), dict, Decimal, date, datetime, time, timedelta})


class QueryResult:
    """The rows of a statement. Values are as psqlpy has them: a uuid is a str, json is what it says."""

    def __init__(self, rows: list[Record]) -> None:
        self._rows = rows

    def result(self, custom_decoders: Decoders | None = None, as_tuple: bool | None = None) -> list[Any]:
        """A dict of each row, or a tuple."""
        make = _tuple if as_tuple else _dict
        return [make(row, custom_decoders) for row in self._rows]

    def as_class(self, as_class: Callable[..., T]) -> list[T]:
        """An object of each row, made with its columns as keywords."""
        return [as_class(**_dict(row, None)) for row in self._rows]

    def row_factory(
        self, row_factory: Callable[[dict[str, Any]], T], custom_decoders: Decoders | None = None
    ) -> list[T]:
        """What the function makes of each row's dict."""
        return [row_factory(_dict(row, custom_decoders)) for row in self._rows]

    def records(self) -> list[Record]:
        """The rows as pgactor has them: values by index and by name. A uuid is a UUID here."""
        return list(self._rows)


class SingleQueryResult:
    """The one row of a statement."""

    def __init__(self, row: Record) -> None:
        self._row = row

    def result(self, custom_decoders: Decoders | None = None, as_tuple: bool | None = None) -> Any:
        """A dict of it, or a tuple."""
        return (_tuple if as_tuple else _dict)(self._row, custom_decoders)

    def as_class(self, as_class: Callable[..., T]) -> T:
        """An object, made with its columns as keywords."""
        return as_class(**_dict(self._row, None))

    def row_factory(self, row_factory: Callable[[dict[str, Any]], T], custom_decoders: Decoders | None = None) -> T:
        """What the function makes of its dict."""
        return row_factory(_dict(self._row, custom_decoders))


def plain(value: Any) -> Any:
    """A value as psqlpy has it, of one as asyncpg has it."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if isinstance(value, UUID):
        return str(value)
    if kind is list:
        return [plain(each) for each in value]
    if isinstance(value, Record):
        return _dict(value, None)
    return value


def _dict(row: Record, decoders: Decoders | None) -> dict[str, Any]:
    return dict(_items(row, decoders))


def _tuple(row: Record, decoders: Decoders | None) -> tuple[Any, ...]:
    return tuple(value for _, value in _items(row, decoders))


def _items(row: Record, decoders: Decoders | None) -> Iterable[tuple[str, Any]]:
    if not decoders:
        return [(name, plain(value)) for name, value in row.items()]
    return [
        (name, plain(value) if value is None or name not in decoders else decoders[name](_bytes(name, value)))
        for name, value in row.items()
    ]


def _bytes(name: str, value: Any) -> bytes:
    """The bytes that PostgreSQL has sent, for those types whose bytes are known from the value."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, UUID):
        return value.bytes
    raise ClientError(
        f"custom_decoders: the value of {name} has come as a {type(value).__name__}, and only texts, bytea and uuid "
        "can be had as bytes; cast it to text in the statement, or decode what result() gives"
    )


async def decode_json(connection: Any) -> None:
    """Have json and jsonb as psqlpy has them: what they say, and anything that json.dumps takes as an argument."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
