"""What both leases have of asyncpg.Connection without asking the supervisor: facts and listeners. No I/O but for
notices.
"""

from __future__ import annotations

import inspect
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..messages import Granted
from ..messages.session import CloseCursor, CloseStatement, Notice, Settings, Watch
from . import objects
from .codecs import Codecs
from .failures import interface_error
from .holding import Holding

if TYPE_CHECKING:
    from .aioconnected import AioConnected
    from .connected import Connected

RESET_QUERY = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
"""asyncpg's reset query. The supervisor's own reset does all of it, and more."""

LOGGED = frozenset({"execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany"})
"""The methods that query loggers hear of."""

OF_MANY = frozenset({"executemany", "fetchmany"})

C = TypeVar("C", bound="type[Leased]")


class Callback(NamedTuple):
    """A listener, and whether it is a coroutine function."""

    call: Callable[..., Any]
    is_async: bool


class Leased(Holding):
    """A lease's facts and listeners.

    unused: what is to be closed in its session, told before the next request. due: callbacks to be called when the
    lease is used next. codecs: the application's own. closed: its owner has terminated it. last_query: what ran last.
    """

    _connected: Connected | AioConnected

    def __init__(self, granted: Granted, asked_at: float, endpoint: str) -> None:
        Holding.__init__(self, granted, asked_at)
        self.unused: deque[CloseStatement | CloseCursor] = deque()
        self.due: deque[tuple[Callback, tuple[object, ...]]] = deque()
        self.closed = False
        self.codecs = Codecs()
        self.last_query: str | None = None
        self._endpoint = endpoint
        self._version = granted.server_version or (0, 0, 0, "final", 0)
        self._reported = dict(granted.settings)
        self._settings = objects.ConnectionSettings(self._reported)
        self._log_listeners: set[Callback] = set()
        self._termination_listeners: set[Callback] = set()
        self._query_loggers: set[Callback] = set()

    # --- facts --------------------------------------------------------------------------------------------

    def is_closed(self) -> bool:
        """Whether the session is gone without having been released."""
        self.run_due()
        return self.closed or self._end is not None

    def is_in_transaction(self) -> bool:
        """Whether the session is inside a transaction."""
        self.require_held("is_in_transaction", time.monotonic())
        return self.in_transaction

    def get_server_pid(self) -> int:
        """The process of PostgreSQL that the session is."""
        return self.backend_pid

    def get_server_version(self) -> Any:
        """PostgreSQL's version, an asyncpg.types.ServerVersion."""
        return objects.server_version(self._version)

    def get_settings(self) -> objects.ConnectionSettings:
        """The parameters that PostgreSQL reports, such as TimeZone; they follow what the session does."""
        return self._settings

    def get_reset_query(self) -> str:
        """asyncpg's reset query. At the release the supervisor does all of that, and more."""
        return RESET_QUERY

    # --- listeners ----------------------------------------------------------------------------------------

    def add_log_listener(self, callback: Callable[..., Any]) -> None:
        """Have `callback(lease, message)` called for PostgreSQL's notices and warnings, each an
        asyncpg.PostgresLogMessage."""
        self.require_held("add_log_listener", time.monotonic())
        first = not self._log_listeners
        self._log_listeners.add(self._callback(callback))
        if first:
            self._connected.tell(Watch(self.token, log=True))

    def remove_log_listener(self, callback: Callable[..., Any]) -> None:
        """Call it no more."""
        if self._log_listeners:
            self._log_listeners.discard(self._callback(callback))
            if not self._log_listeners:
                self._connected.tell(Watch(self.token, log=False))

    def add_termination_listener(self, callback: Callable[..., Any]) -> None:
        """Have `callback(lease)` called when the session is gone without having been released."""
        self._termination_listeners.add(self._callback(callback))

    def remove_termination_listener(self, callback: Callable[..., Any]) -> None:
        """Call it no more."""
        self._termination_listeners.discard(self._callback(callback))

    def add_query_logger(self, callback: Callable[..., Any]) -> None:
        """Have `callback(record)` called after each statement, with asyncpg's LoggedQuery. Its conn_addr is the
        supervisor's endpoint, its conn_params are None."""
        self._query_loggers.add(self._callback(callback))

    def remove_query_logger(self, callback: Callable[..., Any]) -> None:
        """Call it no more."""
        self._query_loggers.discard(self._callback(callback))

    @contextmanager
    def query_logger(self, callback: Callable[..., Any]) -> Iterator[None]:
        """The same for the statements within `with`."""
        self.add_query_logger(callback)
        try:
            yield
        finally:
            self.remove_query_logger(callback)

    def pushed(self, message: Settings | Notice) -> None:
        """The supervisor says something of the session."""
        if isinstance(message, Settings):
            self._reported.update(message.settings)
        elif self._log_listeners:
            told = objects.log_message(message.fields, self.last_query)
            for callback in tuple(self._log_listeners):  # another thread may add one
                self._dispatch(callback, self, told)

    def ended(self, error: BaseException) -> None:
        """The lease has ended without its owner's doing."""
        super().ended(error)
        self._terminated()

    def require_usable(self, kind: str, method: str) -> None:
        """For a method of something that was opened on the lease: asyncpg's errors after the lease's end."""
        if self.closed or self.released:
            state = "is closed" if self.closed else "has been released back to the pool"
            raise interface_error(f"cannot call {kind}.{method}(): the underlying connection {state}")

    def run_due(self) -> None:
        """Call what is due."""

    def give_back(self) -> None:
        """The owner has released it: nobody listens any more."""
        super().give_back()
        self._log_listeners.clear()
        self._termination_listeners.clear()
        self._query_loggers.clear()

    def listeners_left(self) -> dict[str, int]:
        """How many listeners of each kind the owner has not removed."""
        return {**super().listeners_left(), "log": len(self._log_listeners)}

    def _terminated(self) -> None:
        for callback in tuple(self._termination_listeners):
            self._dispatch(callback, self)
        self._termination_listeners.clear()

    @contextmanager
    def _timed(self, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Iterator[None]:
        """Tell the query loggers of what happens within."""
        begun = time.monotonic()
        error: BaseException | None = None
        try:
            yield
        except BaseException as met:
            error = met
            raise
        finally:
            query, passed = given(method, args, options)
            elapsed, timeout = time.monotonic() - begun, options.get("timeout")
            record = objects.logged_query(query, passed, timeout, elapsed, error, self._endpoint)
            for callback in self._query_loggers:
                self._dispatch(callback, record)

    @abstractmethod
    def _callback(self, callback: Callable[..., Any]) -> Callback:
        """The callback, as it is to be called. Raises asyncpg.InterfaceError for what cannot be."""

    @abstractmethod
    def _dispatch(self, callback: Callback, *args: object) -> None:
        """Call it soon."""

    @abstractmethod
    def _logging(self, method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call the method of the lease, and tell the query loggers."""

    @abstractmethod
    def _coding(self, method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call the method of the lease with its arguments encoded."""


def given(method: str, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    """The query that was given to a method of `LOGGED`, and its arguments."""
    query = args[0] if args else options.get("query", options.get("command"))
    if method in OF_MANY:
        return query, args[1] if len(args) > 1 else options.get("args")
    return query, args[1:]


def as_callback(callback: Callable[..., Any]) -> Callback:
    """A listener, as it is to be called. Raises asyncpg.InterfaceError for what cannot be one."""
    if inspect.iscoroutinefunction(callback):
        return Callback(callback, True)
    if not callable(callback):
        raise interface_error(f"expected a callable or an `async def` function,got {callback!r}")
    return Callback(callback, False)


def logged(cls: C) -> C:
    """A lease whose statements query loggers hear of, if there are any."""
    for name in LOGGED:
        setattr(cls, name, _logged(getattr(cls, name)))
    return cls


def _logged(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Leased, *args: Any, **options: Any) -> Any:
        if self._query_loggers:
            return self._logging(method, args, options)
        if self.codecs:
            return self._coding(method, args, options)
        return method(self, *args, **options)

    return call
