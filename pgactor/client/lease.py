"""A lease for blocking code: exclusive use of one PostgreSQL session."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

from ..messages import CopyIn, CopyOut, Granted, IsolationLevel, Release, Request, Token
from . import calls
from .channel import Channel
from .chunks import Chunk
from .connected import Connected
from .copies import Copies, Pumps, run_copy
from .failures import interface_error
from .holding import Holding
from .requests import Pending
from .statements import Statements
from .transaction import CHUNKS, CHUNKS_WITHIN, TransactionSteps


class Lease(Holding, Statements, Copies):
    """Exclusive use of one PostgreSQL session, until it is released: asyncpg.Connection's methods, without await.

    It is renewed in the background while the process lives. Its owner's death rolls it back. Using it after its end
    raises `LeaseExpired`, `LeaseLost`, or after a release asyncpg.InterfaceError.
    """

    def __init__(self, channel: Channel, connected: Connected, granted: Granted, asked_at: float) -> None:
        Holding.__init__(self, granted, asked_at)
        self._channel = channel
        self._connected = connected
        self._default_timeout = channel.options.request_timeout
        connected.hold(self)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the session back: what is open is rolled back, and the session reset. Releasing twice is allowed."""
        if not self.released:
            self.released = True
            if self._connected.is_current:
                self._connected.drop(self)
                self._connected.tell(Release(self.token))

    def is_in_transaction(self) -> bool:
        """Whether the session is inside a transaction."""
        self.require_held("is_in_transaction", time.monotonic())
        return self.in_transaction

    def transaction(
        self, *, isolation: IsolationLevel | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """A transaction for `with`, or with `start`, `commit` and `rollback`; within another one, a savepoint."""
        self.require_held("transaction", time.monotonic())
        return Transaction(self, isolation, readonly, deferrable)

    def _execute_chunks(self, command: str, chunks: Iterator[Chunk], end: float | None) -> None:
        begin, commit, rollback = CHUNKS_WITHIN if self.in_transaction else CHUNKS
        self.execute(begin)
        try:
            for chunk in chunks:
                self._execute_chunk(command, chunk, end)
            self.execute(commit)
        except BaseException:
            with suppress(Exception):  # it tells less than the error that is on its way
                self.execute(rollback)
            raise

    def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        self.require_held(method, time.monotonic())
        request.lease = self.token
        with pumps as pump:
            pending = run_copy(self._connected, request, pump)
        if pending.reply is not None:
            self.in_transaction = calls.in_transaction(pending.reply)
        return calls.command_tag(pending, request)

    def _token(self) -> Token:
        return self.token

    def _call(self, method: str, request: Request) -> Pending:
        self.require_held(method, time.monotonic())
        pending, _ = self._channel.call(request, within=self._connected)
        if pending.reply is not None:
            self.in_transaction = calls.in_transaction(pending.reply)
        return pending


class Transaction:
    """A transaction on a lease: committed at the end of `with`, rolled back if an exception leaves it."""

    def __init__(self, lease: Lease, isolation: IsolationLevel | None, readonly: bool, deferrable: bool) -> None:
        self._lease = lease
        self._steps = TransactionSteps(lease, isolation, readonly, deferrable)
        self._managed = False

    def __repr__(self) -> str:
        return repr(self._steps)

    def __enter__(self) -> None:
        if self._managed:
            raise interface_error("cannot enter context: already in a `with` block")
        self._managed = True
        self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._managed = False
        if error is None:
            self.commit()
        else:
            self.rollback()

    def start(self) -> None:
        """Begin the transaction, or set the savepoint."""
        if question := self._steps.question:
            self._steps.learn(self._lease.fetchval(question))
        self._run(self._steps.begin())
        self._steps.began()

    def commit(self) -> None:
        """Make it last."""
        if self._managed:
            raise interface_error("cannot manually commit from within a `with` block")
        self._run(self._steps.commit())
        self._steps.committed()

    def rollback(self) -> None:
        """Undo it."""
        if self._managed:
            raise interface_error("cannot manually rollback from within a `with` block")
        self._run(self._steps.rollback())
        self._steps.rolled_back()

    def _run(self, sql: str) -> None:
        try:
            self._lease.execute(sql)
        except BaseException:
            self._steps.failed()
            raise
