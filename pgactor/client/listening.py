"""asyncpg's methods for listeners, on a lease for blocking code."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from ..messages import Request
from ..messages.listening import Notification
from . import calls, replies
from .connected import Connected
from .inbox import Inbox, Note
from .listened import Listened
from .pending import Pending
from .subscribing import POLL_SECONDS

KEPT_NOTES = 1000
"""How many notes are kept for `notifications`."""


class Listening(Listened):
    """For long listening `client.listen` needs no lease."""

    _connected: Connected
    _inbox: Inbox | None = None

    def add_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """Have the session listen to the channel, and `callback(lease, pid, channel, payload)` called for each
        notification.

        It is called by the thread that uses the lease, when a call on it returns, or while `notifications` is read:
        there is nobody else who could. An exception that it raises is logged.
        """
        self.require_held("add_listener", time.monotonic())
        made = self._callback(callback)
        channels = self._begin_listening()
        self._keep_notes()
        if channel not in channels:
            request = calls.listen([channel], self._limit(None), self.token)
            replies.done(self._call("add_listener", request), request)
        channels.setdefault(channel, {})[made] = None

    def remove_listener(self, channel: str, callback: Callable[..., Any]) -> None:
        """Have the callback called no more; after the channel's last one the session does not listen to it."""
        if self._remove(channel, self._callback(callback)):
            request = calls.unlisten([channel], self._limit(None), self.token)
            replies.done(self._call("remove_listener", request), request)

    def notifications(self, timeout: float | None = None) -> Iterator[Note]:
        """What has come for the session since its first listener was added, at most the last 1000, and what comes,
        until nothing has for so many seconds (None: for ever). Callbacks are called before a note is given."""
        self.require_held("notifications", time.monotonic())
        seconds = calls.check_timeout(timeout, None)
        self._begin_listening()
        inbox = self._keep_notes()
        while True:
            end = calls.until(seconds)
            while (note := inbox.take()) is None:
                self.require_held("notifications", now := time.monotonic())
                if end is not None and now >= end + POLL_SECONDS:
                    return
                self._connected.await_note(inbox, None if end is None else end + POLL_SECONDS)
            self.run_due()
            yield note

    def _keep_notes(self) -> Inbox:
        if self._inbox is None:
            self._inbox = Inbox((), KEPT_NOTES)
        return self._inbox

    def _heard(self, message: Notification | None) -> list[Pending]:
        super()._heard(message)
        if self._inbox is None:
            return []
        if message is None:
            return self._inbox.wake()
        return self._inbox.put(Note(message.channel, message.payload, message.pid))

    @abstractmethod
    def _limit(self, timeout: float | None) -> float | None: ...

    @abstractmethod
    def _call(self, method: str, request: Request) -> Pending: ...
