"""A blocking lease with asyncpg's face, so that one case can be run with all: what asyncpg awaits is awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

_AT_ONCE = (
    *("is_closed", "is_in_transaction", "terminate", "get_server_pid", "get_server_version", "get_settings"),
    *(
        "get_reset_query",
        "query_logger",
        "get_name",
        "get_query",
        "get_statusmsg",
        "get_parameters",
        "get_attributes",
    ),
    *("add_query_logger", "remove_query_logger"),
)
_WRAPPED = ("Lease", "PreparedStatement", "Cursor", "Transaction")


class Blocking:
    """Anything of a blocking client's, whose methods are awaited."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if name in _AT_ONCE:
            return method
        if name == "transaction":
            return lambda **options: Blocking(method(**options))
        if name == "cursor":
            return lambda *args, **options: CursorFactory(lambda: method(*args, **options))

        async def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            return Blocking(result) if type(result).__name__ in _WRAPPED else result

        return call

    async def __aenter__(self) -> Any:
        return self._target.__enter__()

    async def __aexit__(self, *error: Any) -> Any:
        return self._target.__exit__(*error)


class CursorFactory:
    """What opens a blocking cursor, when it is awaited or iterated."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        self._opened = opened

    def __await__(self) -> Generator[Any, None, Any]:
        return self._await().__await__()

    async def _await(self) -> Any:
        return Blocking(self._opened())

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._rows(self._opened())

    async def _rows(self, cursor: Any) -> AsyncIterator[Any]:
        for row in cursor:
            yield row
