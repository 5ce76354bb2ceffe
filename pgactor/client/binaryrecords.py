"""Records for COPY in PostgreSQL's binary format, encoded in this process by asyncpg itself. No I/O.

asyncpg encodes them in C, but for a connection only. So it is given one that leads nowhere: what it writes for a COPY
is taken, and what a server would answer is told to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count, islice
from struct import pack
from types import SimpleNamespace
from typing import Any

from ..messages.session import Prepared
from .copying import Pieces

BATCH_BYTES = 32 * 1024
"""About so much is encoded at a stretch."""

LARGEST_BATCH = 1000
"""How many records at most; they are all encoded before any is sent."""

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_AUTHENTICATED = b"R\0\0\0\x08\0\0\0\0"
_READY = b"Z\0\0\0\x05I"
_PREPARED = b"1\0\0\0\x04t\0\0\0\x06\0\0"
_COPIED = b"G\0\0\0\x07\0\0\0C\0\0\0\x0bCOPY 0\0"
_COPY_DATA = ord("d")


class BinaryRecords:
    """Encodes the records of one copy. batch_size: how many it takes next. is_through: there were not as many."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder = encoder
        self._head = _HEADER
        self._pieces = Pieces(1)
        self.batch_size = 16
        self.is_through = False

    def begin(self, chunk_bytes: int) -> None:
        """Cut the data into chunks of this size."""
        self._pieces = Pieces(chunk_bytes)

    def add(self, records: Iterator[Any]) -> Iterator[bytes]:
        """Take the next batch; the chunks that are full. Each record is encoded when it comes, since its source may
        fill the same one again. Raises what the source does, and what asyncpg does for a record that does not fit."""
        counter = count(1)
        encoded = self._encoder.encode(compress(islice(records, self.batch_size), counter))  # all, and counted
        taken = next(counter) - 1
        self.is_through = taken < self.batch_size
        per_batch = BATCH_BYTES * taken // max(1, len(encoded))
        self.batch_size = max(1, min(LARGEST_BATCH, 4 * self.batch_size, per_batch))
        head, self._head = self._head, b""
        return self._pieces.add(head + encoded if head else encoded)

    def rest(self) -> Iterator[bytes]:
        """The last chunks."""
        yield from self._pieces.add(self._head + _END)
        yield from self._pieces.rest()


def binary_records(prepared: Prepared) -> BinaryRecords | None:
    """What encodes records for the columns of this statement; None: it is for the supervisor, since hooks there set
    codecs, or a type is the database's own or has no binary format here."""
    types = [kind for _, kind in prepared.columns]
    if not prepared.plain or not all(kind.schema == "pg_catalog" and kind.kind == "scalar" for kind in types):
        return None
    try:
        encoder = _Encoder([kind.oid for kind in types])
        encoder.encode([])  # it has found all types
    except Exception:  # an asyncpg that goes about it in another way
        return None
    return BinaryRecords(encoder)


class _Encoder:
    """asyncpg's protocol, on a connection that leads nowhere."""

    def __init__(self, oids: Sequence[int]) -> None:
        from asyncpg import protocol  # as late as this: it takes its time

        loop, record = _NoLoop(), protocol.Record
        self._timeout: Any = protocol.NO_TIMEOUT
        self._written: list[Any] = []
        params: Any = SimpleNamespace(user="", password=None, database="", server_settings=None)
        made: Any = protocol.Protocol
        self._protocol = made(("", 0), loop.create_future(), params, record, loop)
        self._protocol.connection_made(self)
        self._protocol.data_received(_AUTHENTICATED + _READY)
        columns = b"".join(b"\0" + pack("!ihihih", 0, 0, oid, -1, -1, 1) for oid in oids)
        described = _PREPARED + b"T" + pack("!ih", 6 + len(columns), len(oids)) + columns
        self._columns = self._told(self._protocol.prepare("", "", self._timeout, record_class=record), described)

    def encode(self, records: Iterable[Any]) -> bytes:
        """The records as COPY's data, without its header and end."""
        self._written.clear()
        copying = self._protocol.copy_in("", None, None, records, self._columns, self._timeout)
        try:
            self._told(copying, _COPIED + _READY)
        except Exception as error:
            from asyncpg import InternalClientError

            if isinstance(error, InternalClientError) and isinstance(error.__context__, TimeoutError):
                raise error.__context__ from None  # the source's own: asyncpg takes it for one of the connection
            raise
        data = b"".join(each[5:] for each in self._written if each[0] == _COPY_DATA)
        return data[len(_HEADER) : -len(_END)]

    def _told(self, running: Any, answer: bytes) -> Any:
        """What asyncpg's coroutine returns when it is told the answer."""
        running.send(None)
        self._protocol.data_received(answer)
        try:
            running.send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError("asyncpg waits for more")

    # --- a transport's methods ----------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """What is for PostgreSQL."""
        self._written.append(bytes(data))

    def get_extra_info(self, _: str) -> None:
        """There is none."""

    def abort(self) -> None:
        """There is nothing to be ended."""


class _NoLoop:
    """In the place of an event loop: futures are done when they are waited for."""

    def create_future(self) -> Any:
        import asyncio  # as late as this: blocking code needs none

        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def get_debug(self) -> bool:
        return False

    def call_soon(self, *_: object, **__: object) -> None:
        """A future is done, which nobody is to be told."""

    def call_exception_handler(self, _: object) -> None:
        """A record could not be encoded: the caller is told."""
