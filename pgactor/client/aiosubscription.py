"""A subscription for asyncio."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from ..errors import ClientClosed, ClientError, LeaseLost, PgactorError
from . import calls, replies
from .aiochannel import AioChannel
from .aioconnected import AioConnected
from .inbox import Note
from .subscribing import ANSWER_SECONDS, PASSING, POLL_SECONDS, Subscribing


class AsyncSubscription(Subscribing):
    """What NOTIFY sends on some channels: `async for note in subscription`, or `await get()`.

    It subscribes again by itself when the link to the supervisor was lost, and then tells of a gap. It belongs to the
    event loop that it began in. Tasks may share it; each note goes to one of them.
    """

    def __init__(
        self,
        channel: Callable[[], AioChannel],
        channels: tuple[str, ...],
        timeout: float | None,
        buffer_size: int,
    ) -> None:
        super().__init__(channels, timeout, buffer_size)
        self._channel = channel
        self._connected: AioConnected | None = None
        self._subscribing: asyncio.Lock | None = None

    async def __aenter__(self) -> AsyncSubscription:
        self._require_usable()
        while not await self._subscribe(None):
            continue
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __anext__(self) -> Note:
        """The next note; the end when the `timeout` of `listen` has passed, or the subscription or the client is
        closed."""
        try:
            note = await self.get(self._timeout)
        except ClientClosed:
            note = None
        if note is None:
            raise StopAsyncIteration
        return note

    async def get(self, timeout: float | None = None) -> Note | None:
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
                await connected.await_note(self._inbox, None if end is None else max(end - now, POLL_SECONDS))
                waited = True
            elif self._begun_in and end is not None and self._try_at > end:
                await asyncio.sleep(max(0.0, end - now))
                return None
            else:
                waited = await self._subscribe(end) or bool(self._begun_in)

    async def close(self) -> None:
        """Hear no more. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        if self._begun_in == os.getpid():
            await self._leave()

    async def _leave(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None and connected.is_current:
            connected.hear_no_more(self._inbox)
            with suppress(PgactorError):  # the link is lost, or the client closed: then nothing is heard any more
                await self._channel().ask(calls.unlisten(self.channels, ANSWER_SECONDS), connected)

    def _require_usable(self) -> None:
        super()._require_usable()
        if self._connected is not None and self._connected.loop is not asyncio.get_running_loop():
            raise ClientError("the subscription belongs to another event loop: call listen() in this one")

    async def _subscribe(self, end: float | None) -> bool:
        """Listen, for the first time or again; whether that is so now."""
        if self._subscribing is None:
            self._subscribing = asyncio.Lock()
        try:
            async with asyncio.timeout(calls.remaining(end) if self._begun_in else None):
                await self._subscribing.acquire()
        except TimeoutError:
            return False  # another task is still trying
        try:
            if self._connected is not None and self._connected.is_for_new:
                return True
            if self._connected is not None and self._connected.is_current:
                self._connected.hear_no_more(self._inbox)  # but what the new supervisor's link brings: each note once
                self._connected = None
            await asyncio.sleep(max(0.0, self._try_at - time.monotonic()))
            try:
                self._connected = await self._listen(end)
            except LeaseLost:  # the link was lost just now
                self._failed(time.monotonic())
                return False
            except PASSING:
                if not self._begun_in:
                    raise
                self._failed(time.monotonic())
                return False
            self._began()
            if self._closed:  # by another task, meanwhile
                await self._leave()
            return True
        finally:
            self._subscribing.release()

    async def _listen(self, end: float | None) -> AioConnected:
        channel = self._channel()
        remaining = calls.remaining(end) if self._begun_in else channel.options.request_timeout
        connected = await channel.connected(remaining)
        connected.requests.ears.add(self._inbox)  # before PostgreSQL listens: a note may come with its answer
        try:
            request = calls.listen(self.channels, None if remaining is None else max(remaining, ANSWER_SECONDS))
            replies.done(await channel.ask(request, connected), request)
        except BaseException:
            connected.hear_no_more(self._inbox)
            raise
        return connected
