"""Exceptions -> `Failed` messages.

pgactor's own cross by their code, asyncpg's and Python's by their class names, with all that they carry, so that
the worker can raise the very same.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from ..errors import BY_CODE, OutcomeUnknown, PgactorError, RequestTimeout
from ..messages import Failed

EXPECTED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What may go wrong with a connection; anything else is a bug, and logged as one. A TimeoutError is an OSError."""

_CONNECTION_LOST = (asyncpg.ConnectionDoesNotExistError, ConnectionError)


def failed(id: int | None, error: BaseException, *, in_transaction: bool = False, index: int | None = None) -> Failed:
    """The message that tells the worker of the error."""
    code, error_class, fields = _describe(error)
    cause = error.__cause__
    return Failed(
        id,
        code,
        _text(error),
        error_class,
        fields,
        None if cause is None else (type(cause).__name__, _text(cause)),
        in_transaction,
        index,
    )


def statement_failed(
    id: int, error: BaseException, *, in_transaction: bool = False, index: int | None = None
) -> Failed:
    """The same for an error that ended a statement. asyncpg's words for a connection that broke off while the
    statement ran say nothing of the statement; here it is an unknown outcome."""
    if isinstance(error, TimeoutError) and not isinstance(error, PgactorError):
        late = RequestTimeout("the statement was cancelled at the connection's command_timeout")
        return failed(id, late, in_transaction=in_transaction, index=index)
    if isinstance(error, _CONNECTION_LOST) and not isinstance(error, PgactorError):
        unknown = OutcomeUnknown(f"the connection to PostgreSQL was lost while the statement ran: {error}")
        return failed(id, unknown, index=index)
    return failed(id, error, in_transaction=in_transaction, index=index)


def never_began(error: Exception) -> bool:
    """Whether asyncpg did not even send the statement, as PostgreSQL has said goodbye already and only the end of the
    connection is yet to be seen."""
    return isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error)


def name_of(failure: Failed) -> str:
    """The name of the error's class."""
    known = BY_CODE.get(failure.code)
    return failure.error_class or (failure.code if known is None else known.__name__)


def in_words(error: BaseException) -> str:
    """The error for a log or for another error's text; never with a password in it."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(error: BaseException) -> str:
    return str(error.args[0]) if len(error.args) == 1 else str(error)


def _describe(error: BaseException) -> tuple[str, str, dict[str, Any]]:
    if isinstance(error, PgactorError):
        return error.code, "", error.facts
    name = type(error).__name__
    if isinstance(error, asyncpg.PostgresError | asyncpg.PostgresWarning):  # a RAISE may have any SQLSTATE
        return "asyncpg", name, error.as_dict()
    if isinstance(error, asyncpg.InterfaceError):
        return "asyncpg", name, {"detail": error.detail, "hint": error.hint}
    if isinstance(error, asyncpg.InternalClientError):
        return "asyncpg", name, dict(error.__dict__)
    return "python", name, {"args": list(error.args)} if isinstance(error, UnicodeDecodeError) else {}


def as_exception(error: dict[str, str] | Exception, sql: str) -> Exception:
    """The error, or asyncpg's exception for the fields of PostgreSQL's."""
    return error if isinstance(error, Exception) else server_error(error, sql)


def server_error(fields: dict[str, str], sql: str) -> asyncpg.PostgresError:
    """asyncpg's exception for PostgreSQL's error."""
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(fields, query=sql)
    return error
