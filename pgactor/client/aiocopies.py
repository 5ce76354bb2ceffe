"""asyncpg.Pool's COPY methods: each on a lease of its own."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

from .aiolease import AsyncLease


class AsyncCopies:
    """COPY in one call. Arguments and results are those of the lease's methods of the same names, and asyncpg's."""

    @abstractmethod
    def acquire(self) -> AbstractAsyncContextManager[AsyncLease]:
        """A lease."""

    async def copy_from_table(self, table_name: str, **options: Any) -> str:
        """Copy a table to a file, a path or a coroutine function (`output=`). Returns the command tag."""
        return await self._on_lease("copy_from_table", table_name, **options)

    async def copy_from_query(self, query: str, *args: object, **options: Any) -> str:
        """Copy the rows of a query to a file, a path or a coroutine function (`output=`). Returns the command tag."""
        return await self._on_lease("copy_from_query", query, *args, **options)

    async def copy_to_table(self, table_name: str, **options: Any) -> str:
        """Copy a file, a path or an iterable of bytes (`source=`) to a table. Returns the command tag."""
        return await self._on_lease("copy_to_table", table_name, **options)

    async def copy_records_to_table(self, table_name: str, **options: Any) -> str:
        """Copy records (`records=`) to a table, in PostgreSQL's binary format. Returns the command tag."""
        return await self._on_lease("copy_records_to_table", table_name, **options)

    async def _on_lease(self, method: str, *args: Any, **options: Any) -> str:
        """Call a method of a lease that is there for this call."""
        async with self.acquire() as lease:
            tag: str = await getattr(lease, method)(*args, **options)
            return tag
