"""A lease as its owner's side holds it, whatever shell is around it. No I/O."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..errors import LeaseExpired, LeaseLost
from ..messages import Granted, Token
from .acquirer import Entered
from .failures import interface_error
from .steps import TransactionSteps


class Holding:
    """What is known of a lease here.

    token: what names it. ttl: seconds that it lives without a heartbeat. backend_pid: PostgreSQL's process.
    in_transaction: whether its backend is inside a transaction. acquire_timeout: seconds that it might be waited for.
    running: how many of its requests are unanswered. entered: who is inside of its `with` block. on_over: called
    once, when it has ended or is released.

    Its end is counted from when the last heartbeat was *sent*, so it ends here before it does in the supervisor.
    """

    def __init__(self, granted: Granted, asked_at: float) -> None:
        self.token: Token = granted.lease
        self.ttl = granted.ttl
        self.backend_pid = granted.backend_pid
        self.in_transaction = False
        self.outermost: TransactionSteps | None = None
        self.savepoints = 0
        self.released = False
        self.acquire_timeout: float | None = None
        self.running = 0
        self.entered: Entered | None = None
        self.on_over: Callable[[Holding], None] | None = None
        self._pid = os.getpid()
        self._expires_at = asked_at + granted.waited + granted.ttl
        self._end: BaseException | None = None

    def __repr__(self) -> str:
        state = "released" if self.released else "ended" if self._end is not None else "held"
        return f"<{type(self).__name__} {self.token} {state}>"

    def _terminated(self) -> None:
        """Tell the termination listeners, if there are any."""

    def ended(self, error: BaseException) -> None:
        """The lease has ended without its owner's doing."""
        self._end = error
        self._over()

    def give_back(self) -> None:
        """The owner has released it: from now on, every method of asyncpg.Connection raises where it is called, and
        not only where it is awaited."""
        self.released = True
        self.__dict__.update(REFUSALS)
        self._over()

    @property
    def is_over(self) -> bool:
        """Whether it has ended or is released."""
        return self.released or self._end is not None

    def renewed(self, at: float) -> None:
        """A heartbeat for it was sent."""
        self._expires_at = at + self.ttl

    def listeners_left(self) -> dict[str, int]:
        """How many listeners of each kind ("notification", "log") the owner has not removed."""
        return {}

    def require_held(self, method: str, now: float) -> None:
        """Raises what tells why the lease cannot be used any more."""
        if self.released:
            raise _released(method)
        if self._end is not None:
            raise self._end
        if self._pid != os.getpid():
            raise LeaseLost("the lease belongs to the parent of this process: acquire one of your own")
        if now >= self._expires_at:
            raise LeaseExpired(
                f"lease {self.token} was not renewed within its ttl of {self.ttl:g} s (was the process stopped or "
                "too busy?); it is rolled back: acquire again"
            )

    def _over(self) -> None:
        self.entered = None
        on_over, self.on_over = self.on_over, None
        if on_over is not None:
            on_over(self)


def _released(method: str) -> Exception:
    return interface_error(f"cannot call Connection.{method}(): connection has been released back to the pool")


def _refusal(method: str) -> Callable[..., Any]:
    def refuse(*args: object, **options: object) -> Any:
        raise _released(method)

    return refuse


METHODS = (
    "add_listener", "add_log_listener", "add_query_logger", "add_termination_listener", "close",
    "copy_from_query", "copy_from_table", "copy_records_to_table", "copy_to_table", "cursor", "execute",
    "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "get_reset_query", "get_server_pid",
    "get_server_version", "get_settings", "is_closed", "is_in_transaction", "prepare", "query_logger",
    "reload_schema_state", "remove_listener", "remove_log_listener", "remove_query_logger",
    "remove_termination_listener", "reset", "reset_type_codec", "set_builtin_type_codec", "set_type_codec",
    "terminate", "transaction",
)  # fmt: skip
"""asyncpg.Connection's."""

REFUSALS = {method: _refusal(method) for method in METHODS}
"""What stands before a lease's methods once it is released."""
