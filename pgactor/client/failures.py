"""`Failed` -> the exception it stands for. asyncpg is imported only here, and only when an error needs it."""

from __future__ import annotations

import builtins
import re
from collections.abc import Sequence
from decimal import InvalidOperation
from typing import Any, TypeVar

import msgspec

from ..errors import BY_CODE, LeaseLost, PgactorError
from ..messages import Batch, ExecuteMany, Failed, FetchMany, Request

_PYTHON_ERRORS = ("ValueError", "TypeError", "OverflowError", "ArithmeticError", "IndexError", "KeyError",
                  "NotImplementedError", "UnicodeError", "RuntimeError", "AttributeError")  # fmt: skip
_CAUSES = {"AttributeError": AttributeError, "BufferError": BufferError, "InvalidOperation": InvalidOperation}
"""What only lies behind asyncpg's word on an argument. By itself it would be a mistake of ours."""

_ELEMENT = re.compile(r"^((?:invalid input for )?query argument \$\d+ in element #)(\d+)(?= of executemany\(\))")
"""Where asyncpg names an element."""


def exception(failed: Failed, query: str | None = None) -> BaseException:
    """The exception that the supervisor met, of the same class and with the same fields."""
    error = _rebuild(failed, query)
    if failed.cause is not None:
        name, text = failed.cause
        known = _CAUSES.get(name)
        error.__cause__ = known(text) if known else _python_error(name, text) or RuntimeError(f"{name}: {text}")
    return error


def interface_error(text: str) -> Exception:
    """An asyncpg.InterfaceError: the misuse of a connection."""
    import asyncpg

    return asyncpg.InterfaceError(text)


def broken_off() -> Exception:
    """An asyncpg.ConnectionDoesNotExistError: the connection was given up while a statement ran on it."""
    import asyncpg

    return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


def interface_warning(text: str) -> Warning:
    """An asyncpg.InterfaceWarning: something was left that is likely to be a mistake."""
    import asyncpg

    return asyncpg.InterfaceWarning(text)


def link_lost() -> LeaseLost:
    """The error for a lease whose link is no more."""
    return LeaseLost("the lease belongs to a link that is lost, or to the parent of this process; acquire again")


def data_error(text: str) -> Exception:
    """An asyncpg.DataError: an argument that cannot be."""
    import asyncpg

    return asyncpg.DataError(text)


def invalid_argument(number: int, value: object, place: str, error: Exception) -> Exception:
    """asyncpg's word on an argument that cannot be encoded, for this reason."""
    words = repr(value) if len(repr(value)) <= 40 else repr(value)[:40] + "..."
    wrong = data_error(f"invalid input for query argument ${number}{place}: {words} ({error})")
    wrong.__cause__ = error
    return wrong


def unencodable(request: Request, error: UnicodeEncodeError) -> Exception:
    """What asyncpg raises for text that is no Unicode: a DataError that names the argument; where it is the statement
    that cannot be encoded, the error as it is."""
    if isinstance(request, Batch):
        for index, (sql, args) in enumerate(request.statements):
            wrong = unencodable_argument(args, error, f" in statement {index} of the batch")
            if wrong is not error:
                return of_statement(wrong, index, sql)
        return error
    many = isinstance(request, ExecuteMany | FetchMany)
    each_args: list[Any] = getattr(request, "args", [])
    for element, each in enumerate(each_args if many else [each_args]):
        place = f" in element #{element} of executemany() sequence" if many else ""
        wrong = unencodable_argument(each, error, place)
        if wrong is not error:
            return wrong
    return error


def unencodable_argument(args: Sequence[Any], error: UnicodeEncodeError, place: str) -> Exception:
    """The DataError for the one of these that cannot be encoded; if there is none, the error as it is."""
    for number, value in enumerate(args, 1):
        try:
            msgspec.msgpack.encode(value)
        except UnicodeEncodeError:
            return invalid_argument(number, value, place, error)
    return error


E = TypeVar("E", bound=BaseException)


def of_statement(error: E, index: int, sql: str) -> E:
    """The error of a statement of a batch, marked as such: `batch_index`, and a note with the statement."""
    line = " ".join(sql[:400].split())
    note = f"statement {index} of the batch: {line if len(line) <= 100 else line[:97] + '...'}"
    own = error.__dict__  # asyncpg.PostgresWarning, which RAISE EXCEPTION may be, refuses to have attributes set
    own["batch_index"] = index
    own["__notes__"] = [*own.get("__notes__", ()), note]
    return error


def counted_from(failed: Failed, first: int) -> Failed:
    """The error of a chunk of executemany's elements, with the element that it names counted from all of them."""
    if first and failed.code == "asyncpg":
        failed.message = _ELEMENT.sub(lambda found: f"{found[1]}{int(found[2]) + first}", failed.message)
    return failed


def check_unbroken(reply: object, error: BaseException | None) -> None:
    """Raises asyncpg.ConnectionDoesNotExistError if a request on a released lease was ended by that, and not by
    PostgreSQL."""
    if isinstance(reply, Failed) and reply.code not in ("asyncpg", "python"):
        error = exception(reply)
    if error is not None:
        raise broken_off() from error


def _rebuild(failed: Failed, query: str | None) -> BaseException:
    if failed.code == "asyncpg":
        return _asyncpg_error(failed, query)
    if failed.code == "python":
        return _python_error(failed.error_class, failed.message, failed.fields.get("args")) or PgactorError(
            f"the supervisor met an unexpected {failed.error_class}: {failed.message}"
        )
    cls = BY_CODE.get(failed.code, PgactorError)
    return cls(failed.message, **failed.fields)


def _python_error(name: str, text: str, args: Sequence[Any] | None = None) -> Exception | None:
    if name == "UnicodeDecodeError" and args:
        return UnicodeDecodeError(*args)
    if name == "InvalidOperation":  # what asyncpg's COPY of records says to text that is no number
        return InvalidOperation(text)
    if name not in _PYTHON_ERRORS:
        return None
    cls: type[Exception] = getattr(builtins, name)
    return cls(text)


def _asyncpg_error(failed: Failed, query: str | None) -> BaseException:
    import asyncpg

    fields: dict[str, Any] = failed.fields
    cls: Any = getattr(asyncpg.exceptions, failed.error_class, None)
    if cls is None:  # a class of a newer asyncpg than the worker has
        cls = asyncpg.PostgresError if "sqlstate" in fields else asyncpg.InterfaceError
    if issubclass(cls, asyncpg.InterfaceError):
        misuse: BaseException = cls(failed.message, detail=fields.get("detail"), hint=fields.get("hint"))
        return misuse
    error: BaseException = cls(failed.message)
    error.__dict__.update(fields)
    of_arguments = cls is asyncpg.DataError and fields.keys() == {"sqlstate"}  # asyncpg's own, which has no query
    if issubclass(cls, asyncpg.PostgresError | asyncpg.PostgresWarning) and not of_arguments:
        error.__dict__["query"] = query
    return error
