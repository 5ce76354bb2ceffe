"""asyncpg.Pool's COPY methods, for blocking code: each on a lease of its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from .lease import Lease


class Copies:
    """COPY in one call. Arguments and results are those of the lease's methods of the same names."""

    @abstractmethod
    def acquire(self) -> Lease:
        """A lease."""

    def copy_from_table(self, table_name: str, **options: Any) -> str:
        """Copy a table to a file, a path or a function (`output=`). Returns the command tag."""
        return self._on_lease("copy_from_table", table_name, **options)

    def copy_from_query(self, query: str, *args: object, **options: Any) -> str:
        """Copy the rows of a query to a file, a path or a function (`output=`). Returns the command tag."""
        return self._on_lease("copy_from_query", query, *args, **options)

    def copy_to_table(self, table_name: str, **options: Any) -> str:
        """Copy a file, a path or an iterable of bytes (`source=`) to a table. Returns the command tag."""
        return self._on_lease("copy_to_table", table_name, **options)

    def copy_records_to_table(self, table_name: str, **options: Any) -> str:
        """Copy records (`records=`) to a table, in PostgreSQL's binary format. Returns the command tag."""
        return self._on_lease("copy_records_to_table", table_name, **options)

    def _on_lease(self, method: str, *args: Any, **options: Any) -> str:
        """Call a method of a lease that is there for this call."""
        with self.acquire() as lease:
            tag: str = getattr(lease, method)(*args, **options)
            return tag
