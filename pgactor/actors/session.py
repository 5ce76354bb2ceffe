"""asyncpg's connection, and the little of it that is private.

Every name of asyncpg that does not belong to its documented interface is used here, in lending.py and in feeding.py
only; asyncpgcheck.py looks for each of them at start, so that a future asyncpg without one is a clear error and not a
strange one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import asyncpg

from ..rows import Column, ColumnKind, kind_of
from .feeding import FedConnection
from .hooks import Hook
from .quicktypes import LOOKUP
from .renewal import Renewal
from .shapes import Shape, ShapeTable
from .siphon import RowsDecoder, Siphon

ShapedSink = Callable[[Shape, list[Any]], Awaitable[None]]
"""Takes some rows of a large result, which have this shape; returns when there is room for more."""

_MAX_REMEMBERED_SHAPES = 4096


class Session(FedConnection):
    """One PostgreSQL session. asyncpg runs the statements; rows come with their shape.

    notified: is told of each notification at once: channel, payload, and the pid of the session that sent it. is_new:
    it is in the hands of the hooks that make it. is_for_reading: nobody expects to write on it. has_codecs: the hooks
    have set codecs of types, of which the statement lane knows nothing. renewal: makes it as new. forgotten: how
    often every statement was to be prepared anew.
    """

    _params: Any
    _stmt_exclusive_section: AbstractContextManager[Any]
    _do_execute: Callable[..., Awaitable[tuple[Any, Any]]]
    _drop_local_statement_cache: Callable[[], None]
    _drop_local_type_cache: Callable[[], None]
    _cleanup_stmts: Callable[[], Awaitable[None]]
    _introspect_type: Callable[[str, str], Awaitable[Any]]
    _introspect_types: Callable[[list[int], float | None], Awaitable[Any]]
    _get_statement: Callable[..., Awaitable[Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shapes: dict[str, tuple[Any, Shape]] = {}
        self.renewal = Renewal(self)
        self._decoder: RowsDecoder | None = None
        self.notified: Callable[[str, str, int], None] | None = None
        self.is_new = True
        self.is_for_reading = False
        self.has_codecs = False
        self.coded: frozenset[int] = frozenset()  # types whose values do not look as they usually do
        self.forgotten = 0

    def _process_notification(self, pid: int, channel: str, payload: str) -> None:
        if self.notified is not None:
            self.notified(channel, payload, pid)

    async def set_type_codec(self, typename: str, **options: Any) -> None:
        """As asyncpg's."""
        self.has_codecs |= self.is_new
        await super().set_type_codec(typename, **options)

    async def set_builtin_type_codec(self, typename: str, **options: Any) -> None:
        """As asyncpg's."""
        self.has_codecs |= self.is_new
        await super().set_builtin_type_codec(typename, **options)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """As asyncpg's; where the text holds no statement, and asyncpg trips over the missing tag, an empty one."""
        try:
            return await super().execute(query, *args, timeout=timeout)
        except AttributeError as error:
            if error.obj is not None:  # it is None's attribute that asyncpg looks for: the tag's
                raise
            return ""

    async def rows(
        self, sql: str, args: Sequence[Any], limit: int, shapes: ShapeTable, sink: ShapedSink | None = None
    ) -> tuple[Sequence[Sequence[Any]], Shape]:
        """As `asyncpg.Connection.fetch`, at most `limit` rows (0: all), with their shape. sink: takes those of a
        large result; what is returned follows them."""
        result, shape = await self._result(sql, args, limit, shapes, sink)
        return result[0] or [], shape

    async def rows_and_tag(
        self, sql: str, args: Sequence[Any], shapes: ShapeTable
    ) -> tuple[Sequence[Sequence[Any]], Shape, str]:
        """All rows of a statement, their shape, and the command tag, which is empty where there is no statement."""
        result, shape = await self._result(sql, args, 0, shapes)
        return result[0] or [], shape, (result[1] or b"").decode()

    async def rows_of(self, statement: Any, args: Sequence[Any], shape: Shape, sink: ShapedSink) -> list[Any]:
        """The rows of a prepared statement; `sink` as of `rows`."""
        try:
            rows: list[Any] = await self._drawn(statement._state, statement.fetch(*args), lambda: shape, sink)
        except asyncpg.OutdatedSchemaCacheError:
            await self.reload_schema_state()  # rows that were drawn off asyncpg has not seen
            raise
        return rows

    async def _drawn(self, state: Any, running: Awaitable[Any], shape: Callable[[], Shape], sink: ShapedSink) -> Any:
        """The result of what runs, but for the rows of a large one, which go to the sink."""

        def decode(rows: bytes) -> list[Any]:
            self._decoder = self._decoder or RowsDecoder(self._params)
            return self._decoder.decode(state, rows)

        def drain(rows: list[Any]) -> Awaitable[None]:
            return sink(shape(), rows)

        siphon = self.tap(lambda receiver: Siphon(receiver, self._transport, decode, drain))
        try:
            return await siphon.run(running)
        finally:
            self.untap()

    async def _result(
        self, sql: str, args: Sequence[Any], limit: int, shapes: ShapeTable, sink: ShapedSink | None = None
    ) -> tuple[tuple[Any, bytes | None, bool], Shape]:
        protocol = self._protocol
        known = self._shapes.get(sql)
        if known is not None and known[0].name and not known[0].closed:
            # PostgreSQL keeps it under its name; asyncpg's own look-up of it would cost as much again.
            try:
                running = protocol.bind_execute(known[0], args, "", limit, True, protocol._get_timeout(None))
                if sink is not None:
                    running = self._drawn(known[0], running, partial(_second, known), sink)
                result = await running
            except asyncpg.InvalidCachedStatementError:
                del self._shapes[sql]
                self._drop_local_statement_cache()
                if self.is_in_transaction():
                    raise
                # It did not run: the long way prepares it anew.
            except asyncpg.OutdatedSchemaCacheError:
                await self.reload_schema_state()
                raise
            else:
                return result, known[1]

        def run(statement: Any, timeout: float | None) -> Any:
            running = protocol.bind_execute(statement, args, "", limit, True, timeout)
            if sink is None:
                return running
            return self._drawn(
                statement, running, lambda: shapes.get(self.columns(statement._get_attributes())), sink
            )

        return await self._run(sql, run, shapes)

    async def rows_of_many(
        self, sql: str, args: Iterable[Sequence[Any]], shapes: ShapeTable
    ) -> tuple[Sequence[Sequence[Any]], Shape]:
        """As `asyncpg.Connection.fetchmany`, with the rows' shape."""
        protocol = self._protocol
        feed = await self.begin_feed(args)

        def run(statement: Any, timeout: float | None) -> Any:
            return protocol.bind_execute_many(statement, feed, "", timeout, True)

        try:
            result, shape = await self._run(sql, run, shapes)
        finally:
            self.end_feed()
        return result or [], shape

    async def _prepare(self, query: str, *, use_cache: bool = False, **options: Any) -> Any:
        """As asyncpg's, but never one that was prepared before. asyncpg's copy_records_to_table would encode by the
        types that a table of the same name once had, in another lease even, and PostgreSQL might take that for good.
        """
        return await super()._prepare(query, use_cache=False, **options)  # type: ignore[misc]  # a private name

    async def _run(self, sql: str, run: Any, shapes: ShapeTable) -> tuple[Any, Shape]:
        with self._stmt_exclusive_section:
            result, statement = await self._do_execute(sql, run, self._protocol._get_timeout(None))
        known = self._shapes.get(sql)
        if known is None or known[0] is not statement:
            if len(self._shapes) >= _MAX_REMEMBERED_SHAPES:
                self._shapes.clear()
            known = self._shapes[sql] = (statement, shapes.get(self.columns(statement._get_attributes())))
        return result, known[1]

    def forget_statements(self) -> None:
        """Have every statement prepared anew."""
        self.forgotten += 1
        self._shapes.clear()
        self._drop_local_statement_cache()

    async def finish(self) -> None:
        """Send the Sync that asyncpg leaves out when it has prepared a statement and then did not run it (an argument
        was wrong, or there were none to run it with): until then PostgreSQL keeps the statement's locks.
        """
        if not self.is_in_transaction():
            await self.execute("SELECT")

    async def roll_back(self) -> None:
        """Cancel what runs and end its transaction; what else was done in the session stays."""
        await self.quiet()
        if self.is_in_transaction():
            await self.execute("ROLLBACK")

    async def renew(self, reset: Hook | None = None) -> None:
        """Make the session as new as a fresh one, or have `reset` called in the place of this; see `Renewal`."""
        await self.renewal.renew(reset)

    async def close_unheld(self) -> None:
        """End asyncpg's prepared statements that nobody holds any more: their names may be used again."""
        await self._cleanup_stmts()

    # --- what a lease has open ----------------------------------------------------------------------------

    def columns(self, attributes: Iterable[asyncpg.Attribute]) -> tuple[Column, ...]:
        """The columns of a statement, as workers are told of them."""
        coded = self.coded
        return tuple(
            Column(name, ColumnKind.ANY if kind.oid in coded else kind_of(kind.oid), kind.name)
            for name, kind in attributes
        )

    def columns_of_cursor(self, cursor: Any) -> tuple[Column, ...]:
        """The same of an open cursor."""
        return self.columns(cursor._state._get_attributes())

    async def type_oid(self, typename: str, schema: str) -> int:
        """The oid of a type, whatever codecs are set. Raises ValueError if there is none."""
        oid: int = (await self._introspect_type(typename, schema))["oid"]
        return oid

    async def introspect(self, oids: Iterable[int]) -> list[Any]:
        """What asyncpg looks up of these types and of those that they are composed of, whatever codecs are set."""
        with self._stmt_exclusive_section:
            rows, _ = await self._introspect_types(list(oids), None)
        return list(rows)

    def remove_codecs(self, types: Mapping[int, tuple[str, str]]) -> None:
        """Have these types, by oid, name and schema, as they were before a codec was set for them."""
        self.coded = frozenset()
        if not self.is_closed():
            settings: Any = self.get_settings()
            for oid, (typename, schema) in types.items():
                settings.remove_python_codec(oid, typename, schema)
            self.forget_statements()

    def forget_schema(self) -> None:
        """Remember nothing of the database's types and statements."""
        self.forget_statements()
        if not self.is_closed():
            self._drop_local_type_cache()

    async def describe(self, sql: str) -> tuple[Sequence[asyncpg.Type], Sequence[asyncpg.Attribute]]:
        """The types of a statement's parameters and columns; the statement is remembered, as it is likely to run."""
        with self._stmt_exclusive_section:
            statement = await self._get_statement(sql, None)
        return statement._get_parameters(), statement._get_attributes()

    async def close_portal(self, cursor: Any) -> None:
        """End a cursor, which otherwise lives as long as its transaction."""
        if cursor._portal_name and self.is_in_transaction():
            await cursor._close_portal(None)

    async def types_of(self, oids: Iterable[int]) -> list[tuple[int, str, str, int]]:
        """What pg_type has of these types, as `QuickTypes.learn` takes it."""
        return [(row[0], row[1], row[2], row[3]) for row in await self.fetch(LOOKUP, list(oids))]


def _second(pair: tuple[Any, Shape]) -> Shape:
    return pair[1]
