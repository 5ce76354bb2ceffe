"""A supervisor that is no more than an object, and the links to it. What it says is written by the test."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

import msgspec
import pytest

from pgactor import wire
from pgactor.client import aiolinks, links
from pgactor.client.options import Options
from pgactor.client.requests import LostLink
from pgactor.messages import (
    DEFAULT_MAX_FRAME_BYTES,
    PROTOCOL_VERSION,
    Done,
    Failed,
    Granted,
    Hello,
    Message,
    Part,
    Request,
    Rows,
    Token,
    Welcome,
)
from pgactor.messages.unions import FromSupervisor, FromWorker
from pgactor.rows import Column, ColumnKind, RowEncoder

from .virtual import THREAD_SECONDS

ENDPOINT = "ipc:///run/nowhere.sock"
COLUMNS = (Column("n", ColumnKind.INT, "int8"),)
_FROM_WORKER = wire.worker_frames(DEFAULT_MAX_FRAME_BYTES)


def options(
    *, connect_timeout: float = 10.0, request_timeout: float | None = None, max_frame_bytes: int = 1 << 20
) -> Options:
    return Options(ENDPOINT, connect_timeout, request_timeout, "test", max_frame_bytes)


def frame(*messages: FromSupervisor) -> bytes:
    """One frame of these."""
    return wire.encode(messages)


def rows(id: int, *values: int, shape: int = 1, columns: Sequence[Column] | None = COLUMNS) -> Rows:
    """Rows of one column, `n`."""
    data = RowEncoder(COLUMNS).encode([(value,) for value in values])
    return Rows(id, shape, None if columns is None else list(columns), msgspec.Raw(data))


def part(id: int, *values: int, shape: int = 1, columns: Sequence[Column] | None = None) -> Part:
    """Rows before the last ones."""
    data = RowEncoder(COLUMNS).encode([(value,) for value in values])
    return Part(id, shape, None if columns is None else list(columns), msgspec.Raw(data))


def granted(id: int, fence: int = 1, ttl: float = 30.0, waited: float = 0.0) -> Granted:
    """A lease."""
    return Granted(id, Token(7, 0, fence), ttl, 4242, waited)


class MemorySupervisor:
    """welcome: its answer to a hello; None: silence. connecting: called before each link is made, and may raise.
    hanging_up: it welcomes, and closes the link at the next send, when this is called; None: it does not."""

    def __init__(self, *, epoch: int = 7, cap: int = DEFAULT_MAX_FRAME_BYTES, heartbeat_seconds: float = 0.0) -> None:
        self.welcome: Welcome | Failed | None = Welcome(PROTOCOL_VERSION, epoch, "memory", cap, heartbeat_seconds)
        self.connecting: Callable[[], None] = lambda: None
        self.hanging_up: Callable[[], None] | None = None
        self.links: list[MemoryLink] = []
        self.aiolinks: list[MemoryAioLink] = []
        self._made: queue.SimpleQueue[MemoryLink] = queue.SimpleQueue()

    def next_link(self) -> MemoryLink:
        """Wait for the next blocking link."""
        return self._made.get(timeout=THREAD_SECONDS)

    def serve(self, patch: pytest.MonkeyPatch) -> MemorySupervisor:
        """Stand behind every endpoint."""

        def connect(_: Options, timeout: float) -> MemoryLink:
            assert timeout > 0
            self.connecting()
            link = MemoryLink(self)
            self.links.append(link)
            self._made.put(link)
            return link

        async def connect_aio(_: Options, listener: aiolinks.Listener) -> MemoryAioLink:
            self.connecting()
            link = MemoryAioLink(self, listener)
            self.aiolinks.append(link)
            return link

        patch.setattr(links, "connect", connect)
        patch.setattr(aiolinks, "connect", connect_aio)
        return self


class _End:
    """What was told on a link. broken: sending fails."""

    def __init__(self, supervisor: MemorySupervisor) -> None:
        self.supervisor = supervisor
        self.frames: list[list[FromWorker]] = []
        self.broken = False
        self.closed = False
        self.abandoned = False

    @property
    def told(self) -> list[FromWorker]:
        """All messages but the hello."""
        return [message for each in self.frames for message in each if not isinstance(message, Hello)]

    @property
    def requests(self) -> list[Request]:
        """The requests among them."""
        return [message for message in self.told if isinstance(message, Request)]

    def take(self, frame: bytes) -> list[FromWorker]:
        if self.closed:
            raise LostLink("the link is closed")
        if self.broken:
            if self.supervisor.hanging_up is not None:
                self.supervisor.hanging_up()
            raise LostLink("the supervisor has closed the link")
        messages: list[FromWorker] = []
        for message in _FROM_WORKER.decode(frame):
            assert not isinstance(message, wire.Malformed)
            messages.append(message)
        self.frames.append(messages)
        self.broken = self.supervisor.hanging_up is not None
        return messages


class MemoryLink(_End):
    """A blocking link. inbox: what there is to read, or to be raised by reading. heard: the messages it took.
    reading: the names of the threads that read. idle: what happens when there is nothing to read; None: wait."""

    def __init__(self, supervisor: MemorySupervisor) -> None:
        super().__init__(supervisor)
        self.inbox: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.reading: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.idle: Callable[[float], None] | None = None
        self._reads = threading.Lock()

    def send(self, frame: bytes) -> None:
        for message in self.take(frame):
            if isinstance(message, Hello):
                if self.supervisor.welcome is not None:
                    self.say(self.supervisor.welcome)
            else:
                self.heard.put(message)

    def receive(self, timeout: float | None) -> list[bytes]:
        assert self._reads.acquire(blocking=False), "one thread at a time reads"
        try:
            self.reading.put(threading.current_thread().name)
            try:
                if self.idle is None:
                    item = self.inbox.get(timeout=THREAD_SECONDS if timeout is None else timeout)
                else:
                    item = self.inbox.get_nowait()
            except queue.Empty:
                if timeout is None:
                    raise AssertionError("it would have waited for ever") from None
                if self.idle is not None:
                    self.idle(timeout)
                return []
            if isinstance(item, BaseException):
                raise item
            return [item]
        finally:
            self._reads.release()

    def say(self, *messages: FromSupervisor) -> None:
        """One frame from the supervisor."""
        self.inbox.put(frame(*messages))

    def next_request(self) -> Request:
        """Wait for the next request."""
        while True:
            message = self.heard.get(timeout=THREAD_SECONDS)
            if isinstance(message, Request):
                return message

    def close(self) -> None:
        self.closed = True
        self.inbox.put(LostLink("the link is closed"))

    def abandon(self) -> None:
        self.abandoned = True


class MemoryAioLink(_End):
    """A link for an event loop. answer: what the supervisor says at once to each message."""

    def __init__(self, supervisor: MemorySupervisor, listener: aiolinks.Listener) -> None:
        super().__init__(supervisor)
        self.listener = listener
        self.answer: Callable[[FromWorker], FromSupervisor | None] = lambda _: None

    def send(self, frame: bytes) -> None:
        for message in self.take(frame):
            reply = self.supervisor.welcome if isinstance(message, Hello) else self.answer(message)
            if reply is not None:
                self.say(reply)

    def say(self, *messages: FromSupervisor) -> None:
        """One frame from the supervisor."""
        self.listener.frames([frame(*messages)])

    def close(self) -> None:
        self.closed = True


def done(message: FromWorker) -> FromSupervisor | None:
    """An answer to every request."""
    return Done(message.id, "DONE") if isinstance(message, Request) else None
