"""COPY for blocking code: sinks and sources run in the caller's thread."""

from __future__ import annotations

import inspect
import time
from abc import abstractmethod
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Unpack

from ..messages.copying import Chunk, CopyIn, CopyOut, Credit, EndOfChunks
from . import calls, copying
from .binaryrecords import BinaryRecords
from .codecs import EncodeRecord
from .connected import Connected
from .failures import link_lost, unencodable
from .frames import not_answered
from .options import ANSWER_GRACE_SECONDS
from .pending import PendingCopy
from .requests import LostLink
from .surroundings import surroundings

if TYPE_CHECKING:
    import asyncio

Pump = Callable[["Pumping"], None]
"""Moves the data of a copy between its link and its sink or source."""

Pumps = AbstractContextManager[Pump]


class Copies:
    """asyncpg's COPY methods, without await. `timeout` is in seconds and covers sinks and sources too, but does not
    interrupt them; None: no limit.

    Exceptions of a sink or source undo the copy, and are raised as they are.
    """

    def copy_from_table(
        self,
        table_name: str,
        *,
        output: Any,
        timeout: float | None = None,
        **options: Unpack[copying.TableOutOptions],
    ) -> str:
        """Copy a table to a path, a file object, or a function that takes bytes, which may be a coroutine function.
        Returns the command tag."""
        request = copying.copy_from_table(table_name, calls.check_timeout(timeout, None), options)
        return self._copy("copy_from_table", request, _to(output))

    def copy_from_query(
        self,
        query: str,
        *args: object,
        output: Any,
        timeout: float | None = None,
        **options: Unpack[copying.QueryOutOptions],
    ) -> str:
        """Copy the results of a query, as `copy_from_table` does a table."""
        request = copying.copy_from_query(query, args, calls.check_timeout(timeout, None), options)
        return self._copy("copy_from_query", request, _to(output))

    def copy_to_table(
        self,
        table_name: str,
        *,
        source: Any,
        timeout: float | None = None,
        **options: Unpack[copying.TableInOptions],
    ) -> str:
        """Copy to a table from a path, a file object, an object that supports the buffer protocol, or an iterable of
        bytes, which may be an async one. Returns the command tag."""
        request = copying.copy_to_table(table_name, calls.check_timeout(timeout, None), options)
        return self._copy("copy_to_table", request, _from(source))

    def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        **options: Unpack[copying.RecordsOptions],
    ) -> str:
        """Copy to a table the records of an iterable, which may be an async one. Returns the command tag."""
        request = copying.copy_records_to_table(table_name, calls.check_timeout(timeout, None), options)
        return self._copy("copy_records_to_table", request, _from_records(records))

    @abstractmethod
    def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        """Run the copy on a lease. Returns the command tag."""


class Pumping:
    """One copy under way. until: when its time is over, by the monotonic clock. encode: of records. binary:
    encodes them here."""

    def __init__(
        self,
        connected: Connected,
        pending: PendingCopy,
        until: float | None,
        encode: EncodeRecord | None,
        binary: BinaryRecords | None,
    ) -> None:
        self.pending = pending
        self.encode = encode
        self.binary = binary
        self._connected = connected
        self._until = until
        self._taken = 0  # bytes that the supervisor is not told of yet

    @property
    def chunk_bytes(self) -> int:
        """How much data goes in one chunk."""
        return copying.chunk_bytes(self._connected.welcome.max_frame_bytes)

    def news(self) -> None:
        """Wait until there is something to do, and read for all threads meanwhile if nobody else does."""
        pending, connected = self.pending, self._connected
        if not pending.done:
            late = None if self._until is None else max(self._until, time.monotonic()) + ANSWER_GRACE_SECONDS
            connected.wait(pending, late)
            connected.step_back(pending)
            if not pending.done:
                raise not_answered(connected.requests.options)

    def send(self, chunk: bytes) -> None:
        """Send the chunk, when there is credit for it. Raises `Over`."""
        pending = self.pending
        self.news()
        if pending.ended:
            raise copying.Over
        pending.spent += len(chunk)
        self._connected.tell(Chunk(pending.id, chunk))

    def keep_time(self) -> None:
        """Raises `Over` when the copy's time is: the supervisor says so too, and sees to it that it is undone."""
        if self._until is not None and time.monotonic() >= self._until:
            self.pending.sends = False
            raise copying.Over

    def in_time(self, source: Iterable[Any]) -> Iterator[Any]:
        """The elements of a source. Raises `Over` when the copy's time is."""

        def timed(element: Any) -> Any:
            self.keep_time()
            return element

        return iter(source) if self._until is None else map(timed, source)

    def took(self, data: bytes) -> None:
        """The sink has taken the data."""
        self._taken += len(data)
        if self._taken >= copying.CREDIT_BYTES:
            self._connected.tell(Credit(self.pending.id, self._taken))
            self._taken = 0

    def run(self, pump: Pump) -> None:
        """Pump until all is through, or the copy has failed. What the caller's own code raises undoes the copy."""
        try:
            pump(self)
        except copying.Over:
            pass
        except Exception as error:
            self.end(error)
            raise
        self.end()

    def end(self, error: Exception | None = None) -> None:
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
            self.news()


def run_copy(
    connected: Connected,
    request: CopyOut | CopyIn,
    pump: Pump,
    encode: EncodeRecord | None = None,
    binary: BinaryRecords | None = None,
) -> PendingCopy:
    """Run the copy to its end. Raises what its sink or source raises; then it is undone."""
    if not connected.is_current:
        raise link_lost()
    if (around := surroundings.get()) is not None:
        around.mark(request)
    try:
        pending = connected.begin(request)
    except LostLink:
        raise link_lost() from None
    except UnicodeEncodeError as error:
        raise unencodable(request, error)  # noqa: B904  # it has its cause
    assert isinstance(pending, PendingCopy)  # noqa: S101  # of a copy it is
    try:
        Pumping(connected, pending, calls.until(request.timeout), encode, binary).run(pump)
    except BaseException:
        connected.withdraw(pending)
        raise
    return pending


@contextmanager
def _to(output: Any) -> Iterator[Pump]:
    """Data goes to a path, a file object or a function."""
    path = copying.path_of(output)
    if path is not None:
        with open(path, "wb") as file:  # noqa: PTH123  # it may be bytes
            yield _pump_to(file.write)
    elif hasattr(output, "write"):
        yield _pump_to(output.write)
    elif not callable(output):
        raise copying.no_output(output)
    else:
        with _Awaiting() as awaiting:
            yield _pump_to(lambda data: awaiting.result_of(output(data)))


def _pump_to(sink: Callable[[bytes], object]) -> Pump:
    def pump(pumping: Pumping) -> None:
        pending = pumping.pending
        pending.sends = False
        while True:
            pumping.news()
            if pending.is_over or not pending.chunks:
                return
            data = pending.chunks.popleft()
            sink(data)
            pumping.took(data)

    return pump


@contextmanager
def _from(source: Any) -> Iterator[Pump]:
    """Data comes from a path, a file object, a buffer or an iterable."""
    path = copying.path_of(source)
    if path is not None:
        with open(path, "rb") as file:  # noqa: PTH123  # it may be bytes
            yield _pump_from(_read(file))
    elif hasattr(source, "read"):
        yield _pump_from(_read(source))
    elif isinstance(source, bytearray | memoryview) or not isinstance(source, Iterable | AsyncIterable):
        yield _pump_from([source])
    else:
        with _each_of(source) as pieces:
            yield _pump_from(pieces)


def _read(file: Any) -> Iterator[Any]:
    while len(data := file.read(copying.READ_BYTES)):
        yield data


def _pump_from(pieces: Iterable[Any]) -> Pump:
    def pump(pumping: Pumping) -> None:
        gather = copying.Pieces(pumping.chunk_bytes)
        for piece in pieces:
            pumping.keep_time()
            for chunk in gather.add(piece):
                pumping.send(chunk)
        for chunk in gather.rest():
            pumping.send(chunk)

    return pump


@contextmanager
def _from_records(records: Any) -> Iterator[Pump]:
    def pump(pumping: Pumping) -> None:
        if pumping.binary is not None:
            _pump_binary(pumping, pumping.binary, records)
            return
        gather = copying.Records(pumping.encode)
        with _each_of(records) as each:
            for record in each:
                pumping.keep_time()
                if (chunk := gather.add(record)) is not None:
                    pumping.send(chunk)
        if (chunk := gather.rest()) is not None:
            pumping.send(chunk)

    yield pump


def _pump_binary(pumping: Pumping, binary: BinaryRecords, records: Any) -> None:
    binary.begin(pumping.chunk_bytes)
    with _each_of(records) as source:
        each = pumping.in_time(source)
        while not binary.is_through:
            for chunk in binary.add(each):
                pumping.send(chunk)
    for chunk in binary.rest():
        pumping.send(chunk)


def _each_of(source: Any) -> AbstractContextManager[Iterable[Any]]:
    """The elements of an iterable, also of an async one."""
    return closing(_driven(source)) if isinstance(source, AsyncIterable) else nullcontext(source)


def _driven(source: AsyncIterable[Any]) -> Generator[Any, None, None]:
    """The elements of an async iterable, each awaited on an event loop of its own."""
    end = object()
    iterator = aiter(source)
    with _Awaiting() as awaiting:
        while (element := awaiting.result_of(anext(iterator, end))) is not end:
            yield element


class _Awaiting:
    """An event loop for the coroutine functions and async iterables of blocking code, made when it is needed."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> _Awaiting:
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def result_of(self, value: Any) -> Any:
        """The value, or what it comes to if it is to be awaited."""
        if not inspect.isawaitable(value):
            return value
        if self._runner is None:
            import asyncio  # as late as this: most blocking code needs none

            self._runner = asyncio.Runner()

        async def come() -> Any:
            return await value

        return self._runner.run(come())
