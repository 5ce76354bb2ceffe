"""The statements that a client and a lease have in common, for blocking code."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from ..messages import Request, Token
from ..rows import Record
from . import calls
from .requests import Pending


class Statements:
    """asyncpg's statement methods, without await. `timeout` is in seconds and covers the wait for a backend too.

    All raise asyncpg's exceptions for what PostgreSQL or asyncpg complains of, `RequestTimeout` when the timeout ends
    a running statement (it is cancelled), and the other errors of pgactor.errors.
    """

    _default_timeout: float | None

    def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Run a statement, or several when there are no arguments. Returns the last one's command tag."""
        request = calls.execute(query, args, self._limit(timeout), self._token())
        return calls.command_tag(self._call("execute", request), request)

    def executemany(self, command: str, args: Iterable[Sequence[object]], *, timeout: float | None = None) -> None:
        """Run a statement once for each sequence of arguments; all of it happens, or nothing."""
        request = calls.executemany(command, args, self._limit(timeout), self._token())
        calls.done(self._call("executemany", request), request)

    def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[Record]:
        """Run a statement and return its rows."""
        request = calls.fetch(query, args, self._limit(timeout), self._token())
        return calls.rows(self._call("fetch", request), request)

    def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> Record | None:
        """Run a statement and return its first row, or None."""
        request = calls.fetch(query, args, self._limit(timeout), self._token(), limit=1)
        return calls.first_row(self._call("fetchrow", request), request)

    def fetchval(self, query: str, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """Run a statement and return a value of its first row, or None. column: its index in the row."""
        request = calls.fetch(query, args, self._limit(timeout), self._token(), limit=1)
        return calls.first_value(self._call("fetchval", request), request, column)

    def fetchmany(
        self, query: str, args: Iterable[Sequence[object]], *, timeout: float | None = None
    ) -> list[Record]:
        """Run a statement once for each sequence of arguments and return all rows; all of it happens, or nothing."""
        request = calls.fetchmany(query, args, self._limit(timeout), self._token())
        return calls.rows(self._call("fetchmany", request), request)

    def _token(self) -> Token | None:
        """The lease that the statements belong to."""
        return None

    def _limit(self, timeout: float | None) -> float | None:
        return calls.check_timeout(timeout, self._default_timeout)

    @abstractmethod
    def _call(self, method: str, request: Request) -> Pending:
        """Send the request and wait for its end."""
