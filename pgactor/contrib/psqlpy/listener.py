"""psqlpy's Listener."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple

from ...client.aiopool import Pool
from ...client.failures import interface_error
from ...client.inbox import Note
from ...errors import ClientError

log = logging.getLogger("pgactor.contrib.psqlpy")

Callback = Callable[[Any, str, str, int], Awaitable[None]]
"""Called with the pool, the payload, the channel and the sender's process."""


class ListenerNotificationMsg(NamedTuple):
    """A notification. connection: the pool, which runs statements."""

    process_id: int
    channel: str
    payload: str
    connection: Any


class Listener:
    """Calls functions for notifications: `add_callback`, `startup`, `listen`; or gives them to `async for`.

    Its channels are those that have callbacks when it begins to listen.
    """

    def __init__(self, pool: Any, runner: Callable[[], Awaitable[Pool]]) -> None:
        self.connection = pool
        self.is_started = False
        self._runner = runner
        self._callbacks: dict[str, list[Callback]] = {}
        self._stack = AsyncExitStack()
        self._notes: Any = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Listener:
        await self.startup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def __aiter__(self) -> AsyncIterator[ListenerNotificationMsg]:
        async for note in self._heard():
            yield ListenerNotificationMsg(note.pid, note.channel, note.payload, self.connection)

    async def add_callback(self, channel: str, callback: Callback) -> None:
        """Have a coroutine function called for each notification of a channel. Raises `ClientError` for another
        function."""
        if not inspect.iscoroutinefunction(callback):
            raise ClientError(f"add_callback() needs a coroutine function, and {callback!r} is none")
        if self.is_started and channel not in self._callbacks:
            raise interface_error("a listener that was started takes no further channels: add them before startup()")
        self._callbacks.setdefault(channel, []).append(callback)

    async def clear_channel_callbacks(self, channel: str) -> None:
        """Forget the callbacks of a channel."""
        if channel in self._callbacks:
            self._callbacks[channel] = []

    async def clear_all_channels(self) -> None:
        """Forget all callbacks."""
        for callbacks in self._callbacks.values():
            callbacks.clear()

    async def startup(self) -> None:
        """Begin to listen, with the next note at the latest that is sent after this."""
        if not self._callbacks:
            raise interface_error("the listener has no channel: add_callback() comes before startup()")
        pool = await self._runner()
        self._notes = await self._stack.enter_async_context(pool.listen(*self._callbacks))
        self.is_started = True

    async def shutdown(self) -> None:
        """Stop listening."""
        self.abort_listen()
        self.is_started = False
        await self._stack.aclose()

    def listen(self) -> None:
        """Call the callbacks from now on, in a task."""
        self._require_started()
        if self._task is None:
            self._task = asyncio.ensure_future(self._call())

    def abort_listen(self) -> None:
        """Call them no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _call(self) -> None:
        try:
            async for note in self._heard():
                for callback in tuple(self._callbacks.get(note.channel, ())):
                    try:
                        await callback(self.connection, note.payload, note.channel, note.pid)
                    except Exception:
                        log.exception("a callback of the channel %s failed", note.channel)
        except Exception:  # nobody awaits the task
            log.exception("callbacks are called no more")

    async def _heard(self) -> AsyncIterator[Note]:
        self._require_started()
        async for note in self._notes:
            if note.gap:
                log.warning("notifications of the channel %s may have been missed: %s", note.channel, note.gap)
            else:
                yield note

    def _require_started(self) -> None:
        if not self.is_started:
            raise interface_error("the listener was not started: startup() comes first")
