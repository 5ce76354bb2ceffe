"""A lease for asyncio: exclusive use of one PostgreSQL session."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType

from ..messages import CopyIn, CopyOut, Granted, IsolationLevel, Release, Request, Token
from . import calls
from .aiochannel import AioChannel
from .aioconnected import AioConnected
from .aiocopies import AsyncCopies, Pumps, run_copy
from .aiostatements import AsyncStatements
from .chunks import Chunk
from .failures import interface_error
from .holding import Holding
from .requests import Pending
from .transaction import CHUNKS, CHUNKS_WITHIN, TransactionSteps


class AsyncLease(Holding, AsyncStatements, AsyncCopies):
    """Exclusive use of one PostgreSQL session, until it is released: asyncpg.Connection's methods.

    It is renewed by the event loop while that runs. Its owner's death rolls it back. Using it after its end raises
    `LeaseExpired`, `LeaseLost`, or after a release asyncpg.InterfaceError.
    """

    def __init__(self, channel: AioChannel, connected: AioConnected, granted: Granted, asked_at: float) -> None:
        Holding.__init__(self, granted, asked_at)
        self._channel = channel
        self._connected = connected
        self._default_timeout = channel.options.request_timeout
        connected.hold(self)

    def release(self) -> None:
        """Give the session back: what is open is rolled back, and the session reset. Releasing twice is allowed."""
        if not self.released:
            self.released = True
            self._connected.drop(self)
            self._connected.tell(Release(self.token))

    def is_in_transaction(self) -> bool:
        """Whether the session is inside a transaction."""
        self.require_held("is_in_transaction", time.monotonic())
        return self.in_transaction

    def transaction(
        self, *, isolation: IsolationLevel | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AsyncTransaction:
        """A transaction for `async with`, or with `start`, `commit` and `rollback`; within another, a savepoint."""
        self.require_held("transaction", time.monotonic())
        return AsyncTransaction(self, isolation, readonly, deferrable)

    async def _execute_chunks(
        self, command: str, first: Chunk, others: AsyncIterator[Chunk], end: float | None
    ) -> None:
        begin, commit, rollback = CHUNKS_WITHIN if self.in_transaction else CHUNKS
        await self.execute(begin)
        try:
            await self._execute_chunk(command, first, end)
            async for chunk in others:
                await self._execute_chunk(command, chunk, end)
            await self.execute(commit)
        except BaseException:
            with suppress(Exception):  # it tells less than the error that is on its way
                await self.execute(rollback)
            raise

    async def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        self.require_held(method, time.monotonic())
        request.lease = self.token
        async with pumps as pump:
            pending = await run_copy(self._connected, request, pump)
        if pending.reply is not None:
            self.in_transaction = calls.in_transaction(pending.reply)
        return calls.command_tag(pending, request)

    def _token(self) -> Token:
        return self.token

    async def _call(self, method: str, request: Request) -> Pending:
        self.require_held(method, time.monotonic())
        pending, _ = await self._channel.call(request, within=self._connected)
        if pending.reply is not None:
            self.in_transaction = calls.in_transaction(pending.reply)
        return pending


class AsyncTransaction:
    """A transaction on a lease: committed at the end of `async with`, rolled back if an exception leaves it."""

    def __init__(self, lease: AsyncLease, isolation: IsolationLevel | None, readonly: bool, deferrable: bool) -> None:
        self._lease = lease
        self._steps = TransactionSteps(lease, isolation, readonly, deferrable)
        self._managed = False

    def __repr__(self) -> str:
        return repr(self._steps)

    async def __aenter__(self) -> None:
        if self._managed:
            raise interface_error("cannot enter context: already in an `async with` block")
        self._managed = True
        await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._managed = False
        if error is None:
            await self.commit()
        else:
            await self.rollback()

    async def start(self) -> None:
        """Begin the transaction, or set the savepoint."""
        if question := self._steps.question:
            self._steps.learn(await self._lease.fetchval(question))
        await self._run(self._steps.begin())
        self._steps.began()

    async def commit(self) -> None:
        """Make it last."""
        if self._managed:
            raise interface_error("cannot manually commit from within an `async with` block")
        await self._run(self._steps.commit())
        self._steps.committed()

    async def rollback(self) -> None:
        """Undo it."""
        if self._managed:
            raise interface_error("cannot manually rollback from within an `async with` block")
        await self._run(self._steps.rollback())
        self._steps.rolled_back()

    async def _run(self, sql: str) -> None:
        try:
            await self._lease.execute(sql)
        except BaseException:
            self._steps.failed()
            raise
