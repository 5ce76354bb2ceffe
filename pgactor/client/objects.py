"""asyncpg's own objects, made in the worker of what the supervisor tells: of the classes that applications know.

asyncpg is imported when the first of them is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..messages.session import TypeInfo

_LETTERS = {
    "severity": "S",
    "severity_en": "V",
    "sqlstate": "C",
    "message": "M",
    "detail": "D",
    "hint": "H",
    "position": "P",
    "internal_position": "p",
    "internal_query": "q",
    "context": "W",
    "schema_name": "s",
    "table_name": "t",
    "column_name": "c",
    "data_type_name": "d",
    "constraint_name": "n",
    "server_source_filename": "F",
    "server_source_line": "L",
    "server_source_function": "R",
}
"""What PostgreSQL calls the fields of its messages, by asyncpg's names."""


class ConnectionSettings:
    """The parameters that PostgreSQL reports, as attributes; they follow what the session does."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> str:
        settings: dict[str, str] = object.__getattribute__(self, "_settings")
        try:
            return settings[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return f"<ConnectionSettings {self._settings!r}>"


def server_version(parts: tuple[int, int, int, str, int]) -> Any:
    """An asyncpg.types.ServerVersion."""
    import asyncpg

    return asyncpg.types.ServerVersion(*parts)


def types(parameters: Iterable[TypeInfo]) -> tuple[Any, ...]:
    """A tuple of asyncpg.types.Type."""
    import asyncpg

    return tuple(asyncpg.Type(each.oid, each.name, each.kind, each.schema) for each in parameters)


def attributes(columns: Iterable[tuple[str, TypeInfo]]) -> tuple[Any, ...]:
    """A tuple of asyncpg.types.Attribute."""
    import asyncpg

    found = list(columns)
    return tuple(map(asyncpg.Attribute, [name for name, _ in found], types(kind for _, kind in found)))


def log_message(fields: dict[str, str], query: str | None) -> Any:
    """An asyncpg.PostgresLogMessage, or asyncpg.PostgresWarning."""
    from asyncpg import PostgresLogMessage

    letters = {_LETTERS[name]: value for name, value in fields.items() if name in _LETTERS}
    return PostgresLogMessage.new(letters, query=query)


def logged_query(
    query: Any, args: Any, timeout: float | None, elapsed: float, error: BaseException | None, endpoint: str
) -> Any:
    """An asyncpg LoggedQuery. The connection's address is the supervisor's; its parameters are not known here."""
    import asyncpg

    make: Any = asyncpg.connection.LoggedQuery
    return make(query, args, timeout, elapsed, error, endpoint, None)


def no_transaction() -> Exception:
    """The error for a cursor that is used outside of a transaction."""
    from asyncpg import NoActiveSQLTransactionError

    return NoActiveSQLTransactionError("cursor cannot be created outside of a transaction")
