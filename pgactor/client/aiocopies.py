"""COPY for asyncio: sinks and sources run in the caller's task."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Unpack

from ..messages.copying import Chunk, CopyIn, CopyOut, Credit, EndOfChunks
from . import calls, copying
from .aioconnected import AioConnected
from .binaryrecords import BinaryRecords
from .codecs import EncodeRecord
from .failures import link_lost, unencodable
from .options import ANSWER_GRACE_SECONDS
from .pending import PendingCopy
from .requests import Unsent
from .surroundings import surroundings

Pump = Callable[["Pumping"], Awaitable[None]]
"""Moves the data of a copy between its link and its sink or source."""

Pumps = AbstractAsyncContextManager[Pump]


class AsyncCopies:
    """asyncpg's COPY methods. `timeout` is in seconds and covers sinks and sources too; None: no limit.

    A sink or source whose copy fails, or runs out of time, is cancelled. Its own exceptions undo the copy, and are
    raised as they are.
    """

    async def copy_from_table(
        self,
        table_name: str,
        *,
        output: Any,
        timeout: float | None = None,
        **options: Unpack[copying.TableOutOptions],
    ) -> str:
        """Copy a table to a path, a file object or a coroutine function that takes bytes. Returns the command tag."""
        request = copying.copy_from_table(table_name, calls.check_timeout(timeout, None), options)
        return await self._copy("copy_from_table", request, _to(output))

    async def copy_from_query(
        self,
        query: str,
        *args: object,
        output: Any,
        timeout: float | None = None,
        **options: Unpack[copying.QueryOutOptions],
    ) -> str:
        """Copy the results of a query, as `copy_from_table` does a table."""
        request = copying.copy_from_query(query, args, calls.check_timeout(timeout, None), options)
        return await self._copy("copy_from_query", request, _to(output))

    async def copy_to_table(
        self,
        table_name: str,
        *,
        source: Any,
        timeout: float | None = None,
        **options: Unpack[copying.TableInOptions],
    ) -> str:
        """Copy to a table from a path, a file object, an async iterable of bytes, or an object that supports the
        buffer protocol. Returns the command tag."""
        request = copying.copy_to_table(table_name, calls.check_timeout(timeout, None), options)
        return await self._copy("copy_to_table", request, _from(source))

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        **options: Unpack[copying.RecordsOptions],
    ) -> str:
        """Copy to a table the records of an iterable, which may be an async one. Returns the command tag."""
        request = copying.copy_records_to_table(table_name, calls.check_timeout(timeout, None), options)
        return await self._copy("copy_records_to_table", request, _from_records(records))

    @abstractmethod
    async def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        """Run the copy on a lease. Returns the command tag."""


class Pumping:
    """One copy under way. It stands in the place of a future: what comes for the copy sets its result. encode: the
    codecs' work on each record. binary: encodes records here."""

    def __init__(
        self,
        connected: AioConnected,
        pending: PendingCopy,
        encode: EncodeRecord | None = None,
        binary: BinaryRecords | None = None,
    ) -> None:
        self.pending = pending
        self.encode = encode
        self.binary = binary
        self._connected = connected
        self._news = asyncio.Event()
        self._scope: asyncio.Timeout | None = None  # while the caller's own code runs
        self._taken = 0  # bytes that the supervisor is not told of yet
        pending.waiter = self

    @property
    def chunk_bytes(self) -> int:
        """How much data goes in one chunk."""
        welcome = self._connected.requests.welcome
        return copying.chunk_bytes(copying.CHUNK_BYTES if welcome is None else welcome.max_frame_bytes)

    def done(self) -> bool:
        """As of a future: no, more may come."""
        return False

    def set_result(self, _: None) -> None:
        """Something came. If it is a failure, the caller's own code is interrupted."""
        self._news.set()
        if self._scope is not None and self.pending.is_over and self._scope.when() is None:
            self._scope.reschedule(0.0)

    async def news(self) -> None:
        """Wait until there is something to do."""
        while not self.pending.done:
            self._news.clear()
            await self._news.wait()

    async def send(self, chunk: bytes) -> None:
        """Send the chunk, when there is credit for it. Raises `Over`."""
        await self.news()
        if self.pending.ended:
            raise copying.Over
        self.pending.spent += len(chunk)
        self._connected.tell(Chunk(self.pending.id, chunk))

    def took(self, data: bytes) -> None:
        """The sink has taken the data."""
        self._taken += len(data)
        if self._taken >= copying.CREDIT_BYTES:
            self._connected.tell(Credit(self.pending.id, self._taken))
            self._taken = 0

    async def run(self, pump: Pump) -> None:
        """Pump until all is through, or the copy has failed. What the caller's own code raises undoes the copy."""
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                try:
                    await pump(self)
                finally:
                    self._scope = None
        except copying.Over:
            pass
        except Exception as error:
            if not scope.expired():
                await self.end(error)
                raise
        await self.end()

    async def end(self, error: Exception | None = None) -> None:
        """There is no more to send; wait for the answer. error: why there is no more; of a sink it is not told, but
        has the copy withdrawn."""
        pending = self.pending
        if pending.sends and not pending.ended:
            self._connected.tell(EndOfChunks(pending.id, copying.in_words(error)))
        elif error is not None:
            return
        pending.sends = False
        while not pending.ended:
            pending.chunks.clear()  # the sink was done before: it was told to stop
            await self.news()


async def run_copy(
    connected: AioConnected,
    request: CopyOut | CopyIn,
    pump: Pump,
    encode: EncodeRecord | None = None,
    binary: BinaryRecords | None = None,
) -> PendingCopy:
    """Run the copy to its end. Raises what its sink or source raises; then it is undone. encode: the codecs' work on
    each record. binary: encodes records here."""
    if not connected.is_current:
        raise link_lost()
    if (around := surroundings.get()) is not None:
        around.mark(request)
    patience = None if request.timeout is None else time.monotonic() + request.timeout + ANSWER_GRACE_SECONDS
    try:
        pending = connected.begin(request, patience)
    except UnicodeEncodeError as error:
        raise unencodable(request, error)  # noqa: B904  # it has its cause
    assert isinstance(pending, PendingCopy)  # noqa: S101  # of a copy it is
    try:
        await Pumping(connected, pending, encode, binary).run(pump)
    except BaseException:
        connected.withdraw(pending)
        raise
    if isinstance(pending.error, Unsent):
        raise link_lost()
    return pending


@asynccontextmanager
async def _to(output: Any) -> AsyncIterator[Pump]:
    """Data goes to a path, a file object or a coroutine function."""
    run = asyncio.get_running_loop().run_in_executor
    path = copying.path_of(output)
    if path is None and not hasattr(output, "write"):
        if not callable(output):
            raise copying.no_output(output)
        yield _pump_to(output)
        return
    file = output if path is None else await run(None, open, path, "wb")

    async def write(data: bytes) -> None:
        await run(None, file.write, data)

    try:
        yield _pump_to(write)
    finally:
        if path is not None:
            file.close()


def _pump_to(sink: Callable[[bytes], Awaitable[object]]) -> Pump:
    async def pump(pumping: Pumping) -> None:
        pending = pumping.pending
        pending.sends = False
        while True:
            await pumping.news()
            if pending.is_over or not pending.chunks:
                return
            data = pending.chunks.popleft()
            await sink(data)
            pumping.took(data)

    return pump


@asynccontextmanager
async def _from(source: Any) -> AsyncIterator[Pump]:
    """Data comes from a path, a file object, an async iterable or a buffer."""
    run = asyncio.get_running_loop().run_in_executor
    path = copying.path_of(source)
    if path is None and not hasattr(source, "read"):
        yield _pump_from(source if isinstance(source, AsyncIterable) else _whole(source))
        return
    file = source if path is None else await run(None, open, path, "rb")

    async def read() -> AsyncGenerator[Any, None]:
        while len(data := await run(None, file.read, copying.READ_BYTES)):
            yield data

    try:
        async with aclosing(read()) as pieces:
            yield _pump_from(pieces)
    finally:
        if path is not None:
            await run(None, file.close)


def _pump_from(pieces: AsyncIterable[Any]) -> Pump:
    async def pump(pumping: Pumping) -> None:
        gather = copying.Pieces(pumping.chunk_bytes)
        async for piece in pieces:
            for chunk in gather.add(piece):
                await pumping.send(chunk)
        for chunk in gather.rest():
            await pumping.send(chunk)

    return pump


@asynccontextmanager
async def _from_records(records: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Pump]:
    async def pump(pumping: Pumping) -> None:
        if pumping.binary is not None:
            await _pump_binary(pumping, pumping.binary, records)
            return
        gather = copying.Records(pumping.encode)
        if isinstance(records, AsyncIterable):
            async for record in records:
                if (chunk := gather.add(record)) is not None:
                    await pumping.send(chunk)
        else:
            for record in records:
                if (chunk := gather.add(record)) is not None:
                    await pumping.send(chunk)
        if (chunk := gather.rest()) is not None:
            await pumping.send(chunk)

    yield pump


async def _pump_binary(pumping: Pumping, binary: BinaryRecords, records: Iterable[Any] | AsyncIterable[Any]) -> None:
    binary.begin(pumping.chunk_bytes)
    if isinstance(records, AsyncIterable):
        async with aclosing(_batches(records, binary)) as batches:
            async for batch in batches:
                for chunk in binary.add(iter(batch)):
                    await pumping.send(chunk)
    else:
        each = iter(records)
        while not binary.is_through:
            for chunk in binary.add(each):
                await pumping.send(chunk)
    for chunk in binary.rest():
        await pumping.send(chunk)


async def _batches(records: AsyncIterable[Any], binary: BinaryRecords) -> AsyncGenerator[list[Any], None]:
    batch: list[Any] = []
    async for record in records:
        lasting = copying.lasting(record)
        batch.append(record if lasting is None else lasting)
        if lasting is None or len(batch) >= binary.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


async def _whole(data: Any) -> AsyncIterator[Any]:
    yield data
