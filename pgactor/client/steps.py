"""What BEGIN, SAVEPOINT and their ends are, and when they are allowed.

The steps and their errors are those of asyncpg's Transaction
(https://magicstack.github.io/asyncpg/current/api/index.html#transactions). No I/O: the shells in transaction.py
and aiotransaction.py run the SQL that comes out.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol, cast

from ..messages import IsolationLevel
from .failures import interface_error

_LEVELS: dict[str, str] = {
    "read_committed": "READ COMMITTED",
    "read_uncommitted": "READ UNCOMMITTED",
    "repeatable_read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}


CHUNKS = ("BEGIN", "COMMIT", "ROLLBACK")
CHUNKS_WITHIN = (
    "SAVEPOINT pgactor_executemany",
    "RELEASE SAVEPOINT pgactor_executemany",
    "ROLLBACK TO SAVEPOINT pgactor_executemany; RELEASE SAVEPOINT pgactor_executemany",
)
"""What begins, ends and undoes an executemany of more than one request: by itself, and within a transaction."""


class _State(Enum):
    NEW = "not yet started"
    STARTED = "started"
    COMMITTED = "already committed"
    ROLLED_BACK = "already rolled back"
    FAILED = "in error state"


class Transacting(Protocol):
    """What a transaction needs of its lease."""

    in_transaction: bool
    outermost: TransactionSteps | None
    savepoints: int


class TransactionSteps:
    """A transaction, or within another one a savepoint."""

    def __init__(
        self, lease: Transacting, isolation: IsolationLevel | None, readonly: bool, deferrable: bool
    ) -> None:
        if isolation is not None and isolation not in _LEVELS:
            raise ValueError(f"isolation is expected to be either of {set(_LEVELS)}, got {isolation!r}")
        self._lease = lease
        self._isolation = isolation
        self._readonly = readonly
        self._deferrable = deferrable
        self._state = _State.NEW
        self._savepoint: str | None = None

    def __repr__(self) -> str:
        return f"<Transaction {self._state.value}>"

    def begin(self) -> str:
        """The SQL that starts it. Raises asyncpg.InterfaceError where asyncpg does."""
        if self._state is _State.STARTED:
            raise interface_error("cannot start; the transaction is already started")
        self._require_not_over("start")
        outermost = self._lease.outermost
        if outermost is None:
            if self._lease.in_transaction:
                raise interface_error("cannot use Connection.transaction() in a manually started transaction")
            self._lease.outermost = self
            return self._begin_sql()
        if self._isolation is not None and self._isolation != outermost._isolation:
            raise interface_error(
                f"nested transaction has a different isolation level: current {self._isolation!r} != outer "
                f"{outermost._isolation!r}"
            )
        self._lease.savepoints += 1
        self._savepoint = f"pgactor_savepoint_{self._lease.savepoints}"
        return f"SAVEPOINT {self._savepoint};"

    @property
    def question(self) -> str | None:
        """SQL whose answer `begin` needs, to be told to `learn`: an inner transaction that names its level within an
        outer one that did not, and has the database's default."""
        outermost = self._lease.outermost
        inner = self._state is _State.NEW and outermost is not None and outermost is not self
        unknown = inner and self._isolation is not None and outermost is not None and outermost._isolation is None
        return "SHOW transaction_isolation;" if unknown else None

    def learn(self, level: str) -> None:
        """The answer to `question`."""
        if self._lease.outermost is not None:
            self._lease.outermost._isolation = cast(IsolationLevel, level.replace(" ", "_"))

    def commit(self) -> str:
        """The SQL that ends it well."""
        self._require_started("commit")
        return "COMMIT;" if self._savepoint is None else f"RELEASE SAVEPOINT {self._savepoint};"

    def rollback(self) -> str:
        """The SQL that undoes it."""
        self._require_started("rollback")
        return "ROLLBACK;" if self._savepoint is None else f"ROLLBACK TO {self._savepoint};"

    def began(self) -> None:
        """`begin` was run."""
        self._state = _State.STARTED

    def committed(self) -> None:
        """`commit` was run."""
        self._state = _State.COMMITTED
        self._leave()

    def rolled_back(self) -> None:
        """`rollback` was run."""
        self._state = _State.ROLLED_BACK
        self._leave()

    def failed(self) -> None:
        """One of them failed."""
        self._state = _State.FAILED
        self._leave()

    def _leave(self) -> None:
        if self._lease.outermost is self:
            self._lease.outermost = None

    def _require_started(self, step: str) -> None:
        self._require_not_over(step)
        if self._state is _State.NEW:
            raise interface_error(f"cannot {step}; the transaction is not yet started")

    def _require_not_over(self, step: str) -> None:
        if self._state in (_State.COMMITTED, _State.ROLLED_BACK, _State.FAILED):
            raise interface_error(f"cannot {step}; the transaction is {self._state.value}")

    def _begin_sql(self) -> str:
        words = ["BEGIN"]
        if self._isolation is not None:
            words.append(f"ISOLATION LEVEL {_LEVELS[self._isolation]}")
        if self._readonly:
            words.append("READ ONLY")
        if self._deferrable:
            words.append("DEFERRABLE")
        return " ".join(words) + ";"
