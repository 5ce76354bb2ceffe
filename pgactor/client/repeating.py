"""Reads that may be run twice: what ends in `OutcomeUnknown` is asked again, once.

Nothing is repeated unasked. The caller says so with `client.repeatable.fetch(...)`, of a statement that changes
nothing or may do so twice. Once, since a statement may be the very reason why its backend or the supervisor died.
"""

from __future__ import annotations

from typing import Any

from ..errors import OutcomeUnknown
from ..rows import Record
from . import calls
from .aiostatements import AsyncStatements
from .statements import Statements


class RepeatableReads:
    """A blocking client's statements, each of them repeatable. `timeout` is for both attempts together."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[Record]:
        """As `Client.fetch`."""
        rows: list[Record] = self._twice("fetch", query, args, timeout)
        return rows

    def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> Record | None:
        """As `Client.fetchrow`."""
        row: Record | None = self._twice("fetchrow", query, args, timeout)
        return row

    def fetchval(self, query: str, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """As `Client.fetchval`."""
        return self._twice("fetchval", query, args, timeout, column=column)

    def _twice(self, method: str, query: str, args: tuple[object, ...], timeout: float | None, **options: Any) -> Any:
        end = calls.until(self._statements._limit(timeout))
        read = getattr(self._statements, method)
        try:
            return read(query, *args, timeout=calls.remaining(end), **options)
        except OutcomeUnknown:
            if calls.remaining(end) == 0:
                raise
        return read(query, *args, timeout=calls.remaining(end), **options)


class AsyncRepeatableReads:
    """The same of an async client."""

    def __init__(self, statements: AsyncStatements) -> None:
        self._statements = statements

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[Record]:
        """As `AsyncClient.fetch`."""
        rows: list[Record] = await self._twice("fetch", query, args, timeout)
        return rows

    async def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> Record | None:
        """As `AsyncClient.fetchrow`."""
        row: Record | None = await self._twice("fetchrow", query, args, timeout)
        return row

    async def fetchval(self, query: str, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """As `AsyncClient.fetchval`."""
        return await self._twice("fetchval", query, args, timeout, column=column)

    async def _twice(
        self, method: str, query: str, args: tuple[object, ...], timeout: float | None, **options: Any
    ) -> Any:
        end = calls.until(self._statements._limit(timeout))
        read = getattr(self._statements, method)
        try:
            return await read(query, *args, timeout=calls.remaining(end), **options)
        except OutcomeUnknown:
            if calls.remaining(end) == 0:
                raise
        return await read(query, *args, timeout=calls.remaining(end), **options)
