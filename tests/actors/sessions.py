"""PostgreSQL sessions that are no more than objects: each statement runs until the test ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import asyncpg

from pgactor.actors.session import Session
from pgactor.actors.shapes import Shape, ShapeTable
from pgactor.rows import Column, ColumnKind

from .scripts import FakeTransport

COLUMNS = (Column("n", ColumnKind.INT, "int8"),)


class FakeSession:
    """As `Session`. history: what it did. now: the statement that runs. instantly: statements end by themselves."""

    def __init__(self, pid: int = 4242) -> None:
        self.pid = pid
        self.history: list[str] = []
        self.now: asyncio.Future[Any] | None = None
        self.instantly = False
        self.in_transaction = False
        self.closed = False
        self.quiets = True
        self.renews = True
        self.closes = True
        self.rows_found: list[tuple[int, ...]] = [(1,), (2,)]
        self._listeners: list[Callable[[Any], None]] = []
        # for the statement lane
        self.utf8 = True
        self.has_codecs = False
        self.forgotten = 0
        self.coded: frozenset[int] = frozenset()
        self.in_transaction_now: bool | None = None
        self.has_failed = False
        self.transport = FakeTransport()
        self.lent = False
        self.passed_on = b""
        self.cancels = 0
        self.types: list[tuple[int, str, str, int]] = []

    reported: ClassVar[dict[str, str]] = {"TimeZone": "UTC"}

    def get_server_version(self) -> tuple[int, int, int, str, int]:
        return 17, 0, 0, "final", 0

    def expect_notifications(self) -> None:
        pass

    # --- what the test does ---------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether a statement runs now."""
        return self.now is not None and not self.now.done()

    def end(self, result: Any = "DONE") -> None:
        """The statement that runs ends, well or with an error."""
        assert self.runs
        assert self.now is not None
        if isinstance(result, Exception):
            self.now.set_exception(result)
        else:
            self.now.set_result(result)

    def lose(self) -> None:
        """The connection breaks."""
        if self.lent and not self.closed:
            self.lent = False
            self.transport.lose()
            return
        self.closed = True
        if self.runs:
            self.end(asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"))
        for listener in self._listeners:
            listener(self)

    def as_session(self) -> Session:
        return cast(Session, self)

    # --- asyncpg's interface and Session's ------------------------------------------------------------------

    def get_server_pid(self) -> int:
        return self.pid

    def add_termination_listener(self, listener: Callable[[Any], None]) -> None:
        self._listeners.append(listener)

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.in_transaction if self.in_transaction_now is None else self.in_transaction_now

    async def rows(
        self, sql: str, args: list[Any], limit: int, shapes: ShapeTable, sink: object = None
    ) -> tuple[list[tuple[int, ...]], Shape]:
        await self._statement(sql)
        return self.rows_found[: limit or None], shapes.get(COLUMNS)

    async def rows_of_many(
        self, sql: str, args: list[list[Any]], shapes: ShapeTable
    ) -> tuple[list[tuple[int, ...]], Shape]:
        await self._statement(sql)
        return self.rows_found * len(args), shapes.get(COLUMNS)

    async def execute(self, sql: str, *args: Any) -> Any:
        return await self._statement(sql)

    async def executemany(self, sql: str, args: list[list[Any]]) -> None:
        await self._statement(sql)

    def give_up(self) -> bool:
        return False

    def wake_writer(self) -> None:
        pass

    async def quiet(self) -> None:
        await self._take("quiet", self.quiets)

    async def finish(self) -> None:
        await self._take("finish", True)

    async def renew(self) -> None:
        await self._take("renew", self.renews)
        self.in_transaction = False

    async def close(self) -> None:
        await self._take("close", self.closes)
        self.lose()

    def terminate(self) -> None:
        self.history.append("terminate")
        self.closed = True
        self.transport.abort()
        self.lose()

    # --- for the statement lane -----------------------------------------------------------------------------

    @property
    def speaks_utf8(self) -> bool:
        if self.closed:
            raise asyncpg.InterfaceError("connection is closed")
        return self.utf8

    def lend(self, protocol: Any) -> FakeTransport:
        assert not self.lent
        assert not self.runs
        self.lent = True
        self.transport.set_protocol(protocol)
        return self.transport

    def take_back(self) -> None:
        assert self.lent
        self.lent = False
        self.transport.set_protocol(None)

    def pass_on(self, message: bytes) -> None:
        self.passed_on += message

    def lost(self, error: Exception | None) -> None:
        assert not self.closed
        self.lent = False
        self.lose()

    async def cancel_running(self) -> None:
        self.cancels += 1

    async def types_of(self, oids: list[int]) -> list[tuple[int, str, str, int]]:
        await self._take("types", True)
        return self.types

    async def _take(self, step: str, at_all: bool) -> None:
        assert not self.lent
        self.history.append(step)
        if not at_all:
            await asyncio.get_running_loop().create_future()

    async def _statement(self, sql: str) -> Any:
        assert not self.lent
        assert not self.runs, "one statement at a time"
        self.history.append(sql)
        self.now = asyncio.get_running_loop().create_future()
        if self.instantly:
            self.now.set_result("DONE")
        try:
            return await self.now
        except asyncio.CancelledError:
            self.history.append(f"cancel {sql}")
            raise
