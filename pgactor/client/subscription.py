"""A subscription for blocking code."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from types import TracebackType

from ..errors import ClientClosed, LeaseLost, PgactorError
from . import calls, replies
from .channel import Channel
from .connected import Connected
from .inbox import Note
from .subscribing import ANSWER_SECONDS, PASSING, POLL_SECONDS, Subscribing


class Subscription(Subscribing):
    """What NOTIFY sends on some channels: `for note in subscription`, or `get`.

    It subscribes again by itself when the link to the supervisor was lost, and then tells of a gap. Notes are read
    from the link while somebody waits for them, or for any other answer on it: of a subscriber that does not come
    back for long, the supervisor keeps a few megabytes. Threads may share it; each note goes to one of them.
    """

    def __init__(self, channel: Channel, channels: tuple[str, ...], timeout: float | None, buffer_size: int) -> None:
        super().__init__(channels, timeout, buffer_size)
        self._channel = channel
        self._connected: Connected | None = None
        self._subscribing = threading.Lock()

    def __enter__(self) -> Subscription:
        self._require_usable()
        while not self._subscribe(None):
            continue
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Note:
        """The next note; the end when the `timeout` of `listen` has passed, or the subscription or the client is
        closed."""
        try:
            note = self.get(self._timeout)
        except ClientClosed:
            note = None
        if note is None:
            raise StopIteration
        return note

    def get(self, timeout: float | None = None) -> Note | None:
        """Wait for the next note, at most so many seconds (None: for ever); None if that time passes.

        While the supervisor is away this goes on waiting for it. Raises `ClientClosed`; and when it subscribes for
        the first time, within the client's request_timeout, whatever may go wrong with that.
        """
        end = calls.until(calls.check_timeout(timeout, None))
        waited = False
        while True:
            self._require_usable()
            note = self._inbox.take()
            if note is not None:
                return note
            now = time.monotonic()
            if waited and end is not None and now >= end:
                return None
            connected = self._connected
            if connected is not None and connected.is_for_new:
                connected.await_note(self._inbox, None if end is None else max(end, now + POLL_SECONDS))
                waited = True
            elif self._begun_in and end is not None and self._try_at > end:
                time.sleep(max(0.0, end - now))
                return None
            else:
                waited = self._subscribe(end) or bool(self._begun_in)

    def close(self) -> None:
        """Hear no more. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        if self._begun_in == os.getpid():
            self._leave()

    def _leave(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None and connected.is_current:
            connected.hear_no_more(self._inbox)
            request = calls.unlisten(self.channels, ANSWER_SECONDS)
            with suppress(PgactorError):  # the link is lost: then nothing is heard any more
                self._channel.call(request, within=connected)

    def _subscribe(self, end: float | None) -> bool:
        """Listen, for the first time or again; whether that is so now."""
        remaining = calls.remaining(end) if self._begun_in else None
        if not self._subscribing.acquire(timeout=-1 if remaining is None else remaining):
            return False  # another thread is still trying
        try:
            if self._connected is not None and self._connected.is_for_new:
                return True
            if self._connected is not None and self._connected.is_current:
                self._connected.hear_no_more(self._inbox)  # but what the new supervisor's link brings: each note once
                self._connected = None
            time.sleep(max(0.0, self._try_at - time.monotonic()))
            try:
                self._connected = self._listen(end)
            except LeaseLost:  # the link was lost just now
                self._failed(time.monotonic())
                return False
            except PASSING:
                if not self._begun_in:
                    raise
                self._failed(time.monotonic())
                return False
            self._began()
            if self._closed:  # by another thread, meanwhile
                self._leave()
            return True
        finally:
            self._subscribing.release()

    def _listen(self, end: float | None) -> Connected:
        limit = self._channel.options.request_timeout
        remaining = calls.remaining(end) if self._begun_in else limit
        connected = self._channel.connected(remaining)
        connected.hear(self._inbox)  # before PostgreSQL listens: the first note may come with its answer
        try:
            request = calls.listen(self.channels, None if remaining is None else max(remaining, ANSWER_SECONDS))
            pending, _ = self._channel.call(request, within=connected)
            replies.done(pending, request)
        except BaseException:
            connected.hear_no_more(self._inbox)
            raise
        return connected
