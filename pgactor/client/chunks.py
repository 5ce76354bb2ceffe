"""The arguments of executemany in chunks, so that however many there are, few are held at a time. No I/O.

Arguments are taken from where they come only as they are needed. A chunk ends when it is large enough *and* another
element is there, so the last one is known as such: whatever fits into one chunk is one request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from .calls import pack_element
from .failures import unencodable_argument

CHUNK_BYTES = 1_000_000
"""How large the arguments of a chunk get, encoded, before another begins."""

_encode = msgspec.msgpack.Encoder().encode


class Chunk:
    """Elements of the arguments, ready to be sent. first: the index of the first one. last: none follow."""

    __slots__ = ("args", "first", "last")

    def __init__(self, first: int) -> None:
        self.args: list[list[Any]] = []
        self.first = first
        self.last = False


class Chunks:
    """Gathers elements into chunks."""

    def __init__(self) -> None:
        self._chunk = Chunk(0)
        self._bytes = 0

    def add(self, element: object) -> Chunk | None:
        """Take an element in. Returns the chunk before it, if that is full.

        Raises asyncpg.DataError, naming the element, for what cannot be an argument.
        """
        full = None
        if self._bytes >= CHUNK_BYTES:
            full = self._chunk
            self._chunk = Chunk(full.first + len(full.args))
            self._bytes = 0
        chunk = self._chunk
        number = chunk.first + len(chunk.args)
        packed = pack_element(number, element)
        try:
            self._bytes += len(_encode(packed))
        except UnicodeEncodeError as error:
            raise unencodable_argument(packed, error, f" in element #{number} of executemany() sequence") from error
        chunk.args.append(packed)
        return full

    def rest(self) -> Chunk:
        """The last chunk."""
        self._chunk.last = True
        return self._chunk


def chunked(args: Iterable[Sequence[object]]) -> Iterator[Chunk]:
    """The chunks of the arguments; at least one, which may be empty."""
    chunks = Chunks()
    for element in args:
        full = chunks.add(element)
        if full is not None:
            yield full
    yield chunks.rest()


async def aiochunked(
    args: Iterable[Sequence[object]] | AsyncIterable[Sequence[object]],
) -> AsyncGenerator[Chunk, None]:
    """The same, of arguments that may come from an async iterable."""
    if not isinstance(args, AsyncIterable):
        for chunk in chunked(args):
            yield chunk
        return
    chunks = Chunks()
    async for element in args:
        full = chunks.add(element)
        if full is not None:
            yield full
    yield chunks.rest()
