"""The listeners of a lease, for blocking code."""

from __future__ import annotations

import logging
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from inspect import iscoroutinefunction

from ..messages import Notification, Request, Token
from . import calls
from .callbacks import Callback, Callbacks, left_behind, require_callable
from .connected import Connected
from .failures import interface_error, interface_warning
from .inbox import BUFFER_SIZE, Inbox, Note
from .requests import Pending
from .subscribing import POLL_SECONDS

log = logging.getLogger("pgactor.client")


class Listening:
    """asyncpg's methods for listeners, without await. For long listening `client.listen` needs no lease."""

    token: Token
    callbacks: Callbacks | None
    lost: bool
    _connected: Connected
    _inbox: Inbox | None = None

    def add_listener(self, channel: str, callback: Callback) -> None:
        """Have the session listen to the channel, and `callback(lease, pid, channel, payload)` called for each
        notification.

        It is called by the thread that uses the lease, when a call on it returns, or while `notifications` is read:
        there is nobody else who could. An exception that it raises is logged.
        """
        self.require_held("add_listener", time.monotonic())
        require_callable(callback)
        if iscoroutinefunction(callback):
            raise interface_error(f"{callback!r} is a coroutine function: those are for leases of an AsyncClient")
        if self.callbacks is None:
            self.callbacks = Callbacks()
        if channel not in self.callbacks:
            self._inbox_of_lease()
            request = calls.listen([channel], self._limit(None), self.token)
            calls.done(self._call("add_listener", request), request)
        self.callbacks.add(channel, callback)

    def remove_listener(self, channel: str, callback: Callback) -> None:
        """Have the callback called no more; after the channel's last one the session does not listen to it."""
        if self.lost:
            return
        self.require_held("remove_listener", time.monotonic())
        if self.callbacks is not None and self.callbacks.remove(channel, callback):
            request = calls.unlisten([channel], self._limit(None), self.token)
            calls.done(self._call("remove_listener", request), request)

    def notifications(self, timeout: float | None = None) -> Iterator[Note]:
        """What has come for the session and what comes, until nothing has for so many seconds (None: for ever).
        Callbacks are called before a note is given."""
        self.require_held("notifications", time.monotonic())
        seconds = calls.check_timeout(timeout, None)
        inbox = self._inbox_of_lease()
        while True:
            end = calls.until(seconds)
            while (note := inbox.take()) is None:
                self.require_held("notifications", now := time.monotonic())
                if end is not None and now >= end + POLL_SECONDS:
                    return
                self._connected.await_note(inbox, None if end is None else end + POLL_SECONDS)
            self._call_back(note)
            yield note

    def _inbox_of_lease(self) -> Inbox:
        if self._inbox is None:
            inbox = self._inbox = Inbox((), BUFFER_SIZE)

            def hears(message: Notification | None) -> list[Pending]:
                if message is None:
                    return inbox.wake()
                return inbox.put(Note(message.channel, message.payload, message.pid))

            self._connected.requests.ears.leases[self.token.fence] = hears
        return self._inbox

    def _call_listeners(self) -> None:
        """Call those for whom something has come."""
        while self._inbox is not None and (note := self._inbox.take()) is not None:
            self._call_back(note)

    def _call_back(self, note: Note) -> None:
        if note.gap:
            log.warning("notifications of %s for %r: %s", note.channel, self, note.gap)
            return
        for callback, _ in self.callbacks.of(note.channel) if self.callbacks is not None else ():
            try:
                callback(self, note.pid, note.channel, note.payload)
            except Exception:
                log.exception("the listener %r raised an exception", callback)

    def _leave_listeners(self) -> None:
        """The lease is released."""
        self._connected.requests.ears.leases.pop(self.token.fence, None)
        count = len(self.callbacks) if self.callbacks is not None and not self.lost else 0
        self.callbacks = None
        if count:
            warnings.warn(interface_warning(left_behind(self, count)), stacklevel=3)

    @abstractmethod
    def require_held(self, method: str, now: float) -> None: ...

    @abstractmethod
    def _limit(self, timeout: float | None) -> float | None: ...

    @abstractmethod
    def _call(self, method: str, request: Request) -> Pending: ...
