"""The methods that psqlpy's Connection and Transaction have in common, and our ConnectionPool has, too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

from ...client.aiolease import AsyncLease
from ...client.aiopool import Pool
from ...client.failures import interface_error
from ...errors import ClientError
from ...rows import Record
from ..namedparameters import positional
from .results import QueryResult, SingleQueryResult, plain

Parameters = Sequence[Any] | Mapping[str, Any] | None
"""In their order, for `$1`, `$2` ...; or by their names, for `$(name)p`."""


class Statements:
    """`prepared` changes nothing: the supervisor prepares what is worth it, for all workers. Errors are asyncpg's."""

    async def execute(
        self, querystring: str, parameters: Parameters = None, prepared: bool | None = None
    ) -> QueryResult:
        """Run a statement and return its rows, if it has any."""
        return QueryResult(await self._rows(querystring, parameters))

    async def fetch(
        self, querystring: str, parameters: Parameters = None, prepared: bool | None = None
    ) -> QueryResult:
        """The same."""
        return QueryResult(await self._rows(querystring, parameters))

    async def fetch_row(
        self, querystring: str, parameters: Parameters = None, prepared: bool | None = None
    ) -> SingleQueryResult:
        """Run a statement that has exactly one row. Raises asyncpg.InterfaceError if it has another number."""
        return SingleQueryResult(_only("fetch_row", await self._rows(querystring, parameters)))

    async def fetch_val(self, querystring: str, parameters: Parameters = None, prepared: bool | None = None) -> Any:
        """The first value of a statement that has exactly one row. Raises asyncpg.InterfaceError otherwise."""
        return plain(_only("fetch_val", await self._rows(querystring, parameters))[0])

    async def execute_many(
        self,
        querystring: str,
        parameters: Iterable[Sequence[Any] | Mapping[str, Any]] | None = None,
        prepared: bool | None = None,
    ) -> None:
        """Run a statement once for each of the parameters; all of it happens, or nothing."""
        made = [bound(querystring, each) for each in parameters or ()]
        if made:
            await (await self._runner()).executemany(made[0][0], [args for _, args in made])

    async def execute_batch(self, querystring: str) -> None:
        """Run several statements, with semicolons between them; all of it happens, or nothing."""
        await (await self._runner()).execute(querystring)

    async def binary_copy_to_table(
        self, source: Any, table_name: str, columns: Sequence[str] | None = None, schema_name: str | None = None
    ) -> int:
        """Copy bytes in PostgreSQL's binary format, or a file of such, to a table. Returns the number of rows."""
        runner = await self._runner()
        file = source if hasattr(source, "read") else BytesIO(source)
        tag = await runner.copy_to_table(
            table_name, source=file, columns=columns, schema_name=schema_name, format="binary"
        )
        return _count(tag)

    async def copy_records_to_table(
        self,
        table_name: str,
        records: Iterable[Sequence[Any]],
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
    ) -> int:
        """Copy records to a table. Returns their number."""
        runner = await self._runner()
        tag = await runner.copy_records_to_table(
            table_name, records=records, columns=columns, schema_name=schema_name
        )
        return _count(tag)

    async def _rows(self, querystring: str, parameters: Parameters) -> list[Record]:
        sql, args = bound(querystring, parameters)
        return await (await self._runner()).fetch(sql, *args)

    @abstractmethod
    async def _runner(self) -> AsyncLease | Pool:
        """What runs the statements. Raises asyncpg.InterfaceError if they can't be run any more."""


def bound(querystring: str, parameters: Parameters) -> tuple[str, Sequence[Any]]:
    """The statement and its arguments as PostgreSQL knows them. Raises `ClientError` for parameters that are none."""
    if parameters is None:
        return querystring, ()
    if isinstance(parameters, Mapping):
        return positional(querystring, parameters)
    if isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes | bytearray):
        return querystring, parameters
    raise ClientError(f"parameters must be a sequence or a mapping, and not a {type(parameters).__name__}")


def _only(method: str, rows: list[Record]) -> Record:
    if len(rows) != 1:
        raise interface_error(
            f"{method}() needs a query that returns exactly one row; this one has returned {len(rows)}"
        )
    return rows[0]


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
