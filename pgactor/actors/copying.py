"""COPY on a lease: its data passes between PostgreSQL and the worker as it is, never more of it than credit allows.

asyncpg runs the COPY. Data that comes out waits in PostgreSQL until the worker gives credit; data that goes in is
asked of the worker, by credit, as PostgreSQL takes it. So a slow sink or source holds up its own copy only.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any

import asyncpg
import msgspec

from .. import values, wire
from ..core.roster import Worker
from ..errors import ProtocolError, RequestCancelled
from ..messages import Done
from ..messages.copying import Chunk, CopyIn, CopyOut, Credit, EndOfChunks
from .peer import Peer
from .session import Session
from .tap import Tap

WINDOW_BYTES = 1024 * 1024
"""How much of a copy may be on its way from the worker."""

CHUNK_BYTES = 1024 * 1024
"""The most in one piece to the worker. What asyncpg hands over at a time is less, unless a row is large, and is whole
rows."""

SMALL_BYTES = 32 * 1024
"""A piece that is smaller may wait a moment for the next: PostgreSQL writes 8 KB at a time."""

REST_BYTES = 512 * 1024
REST_SECONDS = 0.001
"""After so much to the worker nothing is read for a moment, while PostgreSQL fills its buffers. A copy keeps three
processes busy, and without rests those that others wait for have to wait for a processor."""

FRAME_ROOM_BYTES = 64
"""What a frame has around a chunk's data, at most."""

_records = msgspec.msgpack.Decoder(list[tuple[Any, ...]], ext_hook=values.unpack)


class Copy(ABC):
    """One copy, from its request to its end: the payload of a core Request."""

    def __init__(self, message: CopyOut | CopyIn, peer: Peer) -> None:
        self.id = message.id
        self._peer = peer
        self._woken: asyncio.Future[None] | None = None

    @abstractmethod
    async def run(self, session: Session) -> Done:
        """Run the COPY to its end. Raises asyncpg's errors, and `RequestCancelled` or `ProtocolError` when the
        worker's side ends it."""

    @abstractmethod
    def hear(self, notice: Chunk | EndOfChunks | Credit) -> None:
        """The worker's word on this copy."""

    def give_up(self) -> bool:
        """Have PostgreSQL end it, with an error. False: cancelling its task ends it as well.

        It does not end a COPY to the worker: what asyncpg waits for then may have come already, data that is not the
        last or is; it would go on as if nothing was under way, or wait for ever for what is over to be cancelled.
        """
        return False

    @property
    @abstractmethod
    def in_words(self) -> str:
        """What is shown as the statement."""

    async def _news(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        await self._woken

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


def new_copy(message: CopyOut | CopyIn, peer: Peer) -> Copy:
    """The copy that the worker asks for."""
    return CopyToWorker(message, peer) if isinstance(message, CopyOut) else CopyFromWorker(message, peer)


def hear(worker: Worker, notice: Chunk | EndOfChunks | Credit) -> None:
    """The worker's word on one of its copies; one that has been answered needs none any more."""
    request = worker.requests.get(notice.id)
    if request is not None and isinstance(request.payload, Copy):
        request.payload.hear(notice)


class CopyToWorker(Copy):
    """COPY ... TO the worker."""

    def __init__(self, message: CopyOut, peer: Peer) -> None:
        super().__init__(message, peer)
        self._message = message
        self._credit = message.credit
        self._sent = 0  # bytes, since it rested
        self._session: Session | None = None  # while it runs
        self._cancelling: asyncio.Task[None] | None = None

    @property
    def in_words(self) -> str:
        return f"COPY {self._message.table_or_query} TO STDOUT"

    def hear(self, notice: Chunk | EndOfChunks | Credit) -> None:
        if isinstance(notice, Credit):
            self._credit += notice.bytes
            self._wake()

    async def run(self, session: Session) -> Done:
        message = self._message
        copy = getattr(session, message.method)
        self._session = session
        try:
            status = await copy(message.table_or_query, *message.args, output=self._send, **message.options)
        finally:
            self._session = None
            if self._cancelling is not None:
                await self._cancelling  # or it might hit the session's next statement
        return Done(self.id, status, session.is_in_transaction())

    def give_up(self) -> bool:
        if self._session is None:
            return False
        if self._cancelling is None or self._cancelling.done():
            self._cancelling = asyncio.create_task(self._session.cancel_running())
        self._wake()
        return True

    async def _send(self, data: bytes) -> None:
        """Send what asyncpg hands over, and have it wait meanwhile."""
        largest = max(1, min(CHUNK_BYTES, self._peer.max_frame_bytes - FRAME_ROOM_BYTES))
        for at in range(0, len(data), largest):
            while self._credit <= 0 and self._cancelling is None:
                await self._news()
            if self._cancelling is not None:
                self.give_up()  # once more, if it came too early
                return
            piece = data if len(data) <= largest else data[at : at + largest]
            self._credit -= len(piece)  # below zero, if need be: rows stay whole
            if len(piece) < SMALL_BYTES:
                self._peer.send(Chunk(self.id, piece), may_wait=self._credit > 0)
            else:
                self._peer.send_data(wire.head_of_chunk(self.id, len(piece)), piece)
        self._sent += len(data)
        if self._sent >= REST_BYTES:
            self._sent = 0
            await asyncio.sleep(REST_SECONDS)


class CopyFromWorker(Copy):
    """COPY ... FROM the worker."""

    def __init__(self, message: CopyIn, peer: Peer) -> None:
        super().__init__(message, peer)
        self._message = message
        self._chunks: deque[bytes] = deque()
        self._credit = 0
        self._owed = 0  # credit for what was used
        self._ended = False  # there are no more chunks
        self._is_over = False  # for PostgreSQL
        self._error: Exception | None = None

    @property
    def in_words(self) -> str:
        return f"COPY {self._message.table} FROM STDIN"

    def hear(self, notice: Chunk | EndOfChunks | Credit) -> None:
        if isinstance(notice, EndOfChunks):
            self._ended = True
            if notice.error is not None:
                self._error = RequestCancelled(f"the copy was undone, as its source failed: {notice.error}")
        elif isinstance(notice, Chunk) and not self._ended:
            self._take_in(notice.data)
        self._wake()

    def _take_in(self, data: object) -> None:
        if not isinstance(data, bytes):
            self._error = ProtocolError(f"a chunk of a copy is expected to be bytes, not {type(data).__name__}")
        elif self._credit <= 0:
            self._error = ProtocolError("a chunk of a copy came without credit for it")
        else:
            self._credit -= len(data)
            self._chunks.append(data)
            return
        self._chunks.clear()
        self._ended = True

    def give_up(self) -> bool:
        """One that has failed ends by itself; asyncpg would cancel it once more, and wait for that for ever."""
        return self._is_over

    async def run(self, session: Session) -> Done:
        message = self._message
        copy = getattr(session, message.method)
        name = "records" if message.method == "copy_records_to_table" else "source"
        data: AsyncGenerator[Any, None] = self._each_record() if name == "records" else self._each_chunk()
        try:
            session.tap(lambda protocol: Tap(protocol, self._over))
            async with aclosing(data):
                status = await copy(message.table, **{name: data}, **message.options)
        except RuntimeError:
            if not session.is_closed():
                raise
            # uvloop's word on a write to a connection that has just ended
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation") from None
        finally:
            session.untap()
        return Done(self.id, status, session.is_in_transaction())

    def _over(self) -> None:
        """Ask for no more once PostgreSQL has ended the COPY, with an error: asyncpg would go on to the end."""
        self._is_over = True
        self._wake()

    async def _each_chunk(self) -> AsyncGenerator[bytes, None]:
        self._give(WINDOW_BYTES)
        while not self._is_over:
            if self._error is not None:
                raise self._error
            if self._chunks:
                data = self._chunks.popleft()
                self._give(len(data))
                yield data
            elif self._ended:
                return
            else:
                await self._unless_over(self._news())

    async def _each_record(self) -> AsyncGenerator[tuple[Any, ...], None]:
        async with aclosing(self._each_chunk()) as chunks:
            async for data in chunks:
                try:
                    records = _records.decode(data)
                except Exception as error:  # whatever an extension value raised
                    raise ProtocolError(f"records to copy are expected to be a list of lists: {error}") from None
                for record in records:
                    yield record
                await self._unless_over(asyncio.sleep(0))  # asyncpg encodes at a stretch; now it is others' turn

    async def _unless_over(self, wait: Awaitable[object]) -> None:
        """Wait. To be cancelled means nothing any more when the COPY has failed already: asyncpg would cancel it once
        more, and wait for that for ever."""
        try:
            await wait
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._is_over or task is None:
                raise
            task.uncancel()

    def _give(self, size: int) -> None:
        """Give credit, a good deal at a time."""
        self._owed += size
        if self._owed >= WINDOW_BYTES // 4 and not self._ended:
            self._credit += self._owed
            self._peer.send(Credit(self.id, self._owed))
            self._owed = 0
