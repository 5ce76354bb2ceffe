"""A tap on a session's connection: hears messages of one kind as they come by on their way to asyncpg. It knows where
each message ends, so that nobody has the connection in the middle of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import pgwire

_HEADER_BYTES = 5


class Tap(asyncio.Protocol):
    """Passes everything on. over: called after each message of that kind (an error), and at the end of the
    connection."""

    def __init__(self, protocol: asyncio.Protocol, over: Callable[[], None], *, kind: int = pgwire.ERROR) -> None:
        self._protocol = protocol
        self._kind = kind
        self._over = over
        self._head = b""  # the beginning of a message's header
        self._skip = 0  # bytes of a message that are yet to come

    @property
    def missing(self) -> int:
        """How many bytes are yet to come of a message that has begun, at least; 0: none has."""
        return _HEADER_BYTES - len(self._head) if self._head else self._skip

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)
        if self._brings_one(data):
            self._over()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._protocol.resume_writing()  # or who waits for room would wait for ever
        self._over()

    def _brings_one(self, data: bytes) -> bool:
        found = False
        at, self._skip = self._skip, max(0, self._skip - len(data))
        if self._head:
            data, self._head = self._head + data, b""
        while at < len(data):
            if len(data) - at < _HEADER_BYTES:
                self._head = data[at:]
                break
            kind, length = pgwire.header(data, at)
            found |= kind == self._kind
            at += 1 + length
            self._skip = max(0, at - len(data))
        return found


class RestFirst(asyncio.Protocol):
    """Has the rest of a message go where it has begun to go, through the tap; what comes then is another one's."""

    def __init__(self, tap: Tap, transport: asyncio.Transport, then: asyncio.Protocol) -> None:
        self._tap = tap
        self._transport = transport
        self._then = then

    def data_received(self, data: bytes) -> None:
        while data and (missing := self._tap.missing):
            self._tap.data_received(data[:missing])
            data = data[missing:]
        if not self._tap.missing:
            self._transport.set_protocol(self._then)
            if data:
                self._then.data_received(data)

    def pause_writing(self) -> None:
        self._then.pause_writing()

    def resume_writing(self) -> None:
        self._then.resume_writing()

    def eof_received(self) -> bool | None:
        return self._then.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._then.connection_lost(exc)
