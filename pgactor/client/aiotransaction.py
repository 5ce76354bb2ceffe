"""A transaction on a lease, for asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ..messages import IsolationLevel
from .failures import interface_error
from .resources import Resource, guarded
from .steps import TransactionSteps
from .surroundings import too_late, without_deadline

if TYPE_CHECKING:
    from .aiolease import AsyncLease


class AsyncTransaction(Resource):
    """A transaction on a lease: committed at the end of `async with`, rolled back if an exception leaves it."""

    kind = "Transaction"
    _lease: AsyncLease

    def __init__(self, lease: AsyncLease, isolation: IsolationLevel | None, readonly: bool, deferrable: bool) -> None:
        super().__init__(lease)
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
        if kind is GeneratorExit and self._lease.released:  # a generator that was left: the release has rolled back
            return
        self._require_usable("__aexit__")
        self._managed = False
        if error is not None:
            await self.rollback()
        elif (late := too_late()) is not None:
            await self.rollback()
            raise late
        else:
            await self.commit()

    @guarded
    async def start(self) -> None:
        """Begin the transaction, or set the savepoint."""
        if question := self._steps.question:
            self._steps.learn(await self._lease.fetchval(question))
        await self._run(self._steps.begin())
        self._steps.began()

    @guarded
    async def commit(self) -> None:
        """Make it last."""
        if self._managed:
            raise interface_error("cannot manually commit from within an `async with` block")
        await self._run(self._steps.commit())
        self._steps.committed()

    @guarded
    async def rollback(self) -> None:
        """Undo it."""
        if self._managed:
            raise interface_error("cannot manually rollback from within an `async with` block")
        with without_deadline():
            await self._run(self._steps.rollback())
        self._steps.rolled_back()

    async def _run(self, sql: str) -> None:
        try:
            await self._lease.execute(sql)
        except BaseException:
            self._steps.failed()
            raise
