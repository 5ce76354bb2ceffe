"""A siphon: draws the rows of a large result off on their way to asyncpg, which would hold them all until the last.

It stands between the connection and asyncpg's protocol while one statement runs. What is small goes to asyncpg as if
nobody stood there. Of a large result asyncpg hears all but the rows, so that errors, notices, timeouts and the end
stay its own affair. The rows are decoded by it, too (`RowsDecoder`), a portion at a time, and handed to a sink; while
the sink waits, no more is read from PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from struct import Struct
from typing import Any

import asyncpg

from . import pgwire
from .tap import Tap

LARGE_BYTES = 256 * 1024
"""A result of more bytes is large."""

PORTION_BYTES = 32 * 1024
"""How much is decoded at a stretch, while others wait; or one row, if it has more."""

MOST_BYTES = 512 * 1024
"""With so many waiting to be decoded, no more is read."""

_HEADER_BYTES = 5
_length_at = Struct("!xi").unpack_from

Decode = Callable[[bytes], list[Any]]
Sink = Callable[[list[Any]], Awaitable[None]]
"""Takes some rows; returns when there is room for more."""


class Siphon(Tap):
    """protocol: asyncpg's. decode: makes rows of PostgreSQL's messages. sink: takes those of a large result."""

    def __init__(self, protocol: asyncio.Protocol, transport: asyncio.Transport, decode: Decode, sink: Sink) -> None:
        super().__init__(protocol, lambda: None)
        self._transport = transport
        self._decode = decode
        self._sink = sink
        self._rows: deque[bytes] = deque()
        self._rows_bytes = 0
        self._pieces: list[bytes] = []  # of a message whose end has not come
        self._pieces_bytes = 0
        self._wanted = _HEADER_BYTES  # so many are needed to go on
        self._drawing: asyncio.Task[None] | None = None  # of a large result
        self._paused = False
        self._news = asyncio.Event()
        self._ended = False

    def data_received(self, data: bytes) -> None:
        if self._pieces:
            self._pieces.append(data)
            self._pieces_bytes += len(data)
            if self._pieces_bytes < self._wanted:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        at = begin = 0
        size = len(data)
        self._wanted = _HEADER_BYTES
        while size - at >= _HEADER_BYTES:
            end = at + 1 + _length_at(data, at)[0]
            if end > size:
                self._wanted = end - at
                break
            if data[at] != pgwire.DATA_ROW:
                self._take(data[begin:at])
                self._pass(data[at:end])
                begin = end
            elif end - begin >= PORTION_BYTES:
                self._take(data[begin:end])
                begin = end
            at = end
        self._take(data[begin:at])
        if at < size:
            self._pieces.append(data[at:])
            self._pieces_bytes = size - at

    def _take(self, rows: bytes) -> None:
        if not rows or (self._drawing is not None and self._drawing.done()):
            return  # there are none, or nobody can use them: it has failed
        self._rows.append(rows)
        self._rows_bytes += len(rows)
        if self._drawing is None and self._rows_bytes > LARGE_BYTES:
            self._drawing = asyncio.create_task(self._draw())
            self._drawing.add_done_callback(self._drawn)
        self._news.set()
        if self._rows_bytes > MOST_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _pass(self, message: bytes) -> None:
        if self._rows and self._drawing is None:
            message = b"".join((*self._rows, message))
            self._rows.clear()
            self._rows_bytes = 0
        self._protocol.data_received(message)

    async def _draw(self) -> None:
        while True:
            while self._rows:
                rows = self._rows.popleft()
                self._rows_bytes -= len(rows)
                await self._sink(self._decode(rows))
                if self._paused and self._rows_bytes < MOST_BYTES // 4:
                    self._resume()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()

    def _drawn(self, _: object) -> None:
        self._rows.clear()
        self._resume()  # if it has failed, to the end: the session is of no use before

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    async def run(self, statement: Awaitable[Any]) -> Any:
        """The result of the statement, when all rows of a large one are in the sink. Raises what the statement, its
        decoding or the sink does."""
        try:
            result = await statement
            self._ended = True
            self._news.set()
            if self._drawing is not None:
                await self._drawing
            return result
        finally:
            if self._drawing is not None and not self._drawing.cancel() and not self._drawing.cancelled():
                self._drawing.exception()  # what the statement raises is said in its place
            self._let_go()

    def _let_go(self) -> None:
        """Hand over what is left: asyncpg waits for the end of a statement that was cancelled."""
        left = [*(self._rows if self._drawing is None else ()), *self._pieces]
        if left and not self._transport.is_closing():
            self._protocol.data_received(b"".join(left))
        self._resume()


class RowsDecoder:
    """asyncpg's decoding of rows, apart from a connection: a protocol of its own that has none. params: of a
    connection that there is."""

    def __init__(self, params: Any) -> None:
        loop = asyncio.get_running_loop()
        self._protocol: Any = asyncpg.protocol.Protocol(("", 0), loop.create_future(), params, asyncpg.Record, loop)
        self._protocol.connection_made(_Nowhere())
        self._protocol.data_received(_AUTHENTICATED + _READY)

    def decode(self, statement: Any, rows: bytes) -> list[Any]:
        """The rows of asyncpg's prepared statement. Raises what asyncpg does."""
        running = self._protocol.execute(statement, "", 0, True, asyncpg.protocol.NO_TIMEOUT)
        running.send(None)  # it now waits for rows, which are here
        self._protocol.data_received(rows)
        self._protocol.data_received(_SUSPENDED + _READY)
        try:
            running.send(None)
        except StopIteration as result:
            decoded: list[Any] = result.value[0]
            return decoded
        raise RuntimeError("asyncpg did not decode rows")


_AUTHENTICATED = b"R\0\0\0\x08\0\0\0\0"
_SUSPENDED = b"s\0\0\0\x04"
_READY = b"Z\0\0\0\x05I"


class _Nowhere(asyncio.Transport):
    """Where what a protocol writes is nobody's."""

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass
