"""A transaction on a lease, for blocking code."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ..messages import IsolationLevel
from .failures import interface_error
from .resources import Resource, guarded
from .steps import TransactionSteps
from .surroundings import too_late, without_deadline

if TYPE_CHECKING:
    from .lease import Lease


class Transaction(Resource):
    """A transaction on a lease: committed at the end of `with`, rolled back if an exception leaves it."""

    kind = "Transaction"
    _lease: Lease

    def __init__(self, lease: Lease, isolation: IsolationLevel | None, readonly: bool, deferrable: bool) -> None:
        super().__init__(lease)
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
        if kind is GeneratorExit and self._lease.released:  # a generator that was left: the release has rolled back
            return
        self._require_usable("__exit__")
        self._managed = False
        if error is not None:
            self.rollback()
        elif (late := too_late()) is not None:
            self.rollback()
            raise late
        else:
            self.commit()

    @guarded
    def start(self) -> None:
        """Begin the transaction, or set the savepoint."""
        if question := self._steps.question:
            self._steps.learn(self._lease.fetchval(question))
        self._run(self._steps.begin())
        self._steps.began()

    @guarded
    def commit(self) -> None:
        """Make it last."""
        if self._managed:
            raise interface_error("cannot manually commit from within a `with` block")
        self._run(self._steps.commit())
        self._steps.committed()

    @guarded
    def rollback(self) -> None:
        """Undo it."""
        if self._managed:
            raise interface_error("cannot manually rollback from within a `with` block")
        with without_deadline():
            self._run(self._steps.rollback())
        self._steps.rolled_back()

    def _run(self, sql: str) -> None:
        try:
            self._lease.execute(sql)
        except BaseException:
            self._steps.failed()
            raise
