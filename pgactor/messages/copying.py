"""COPY: its two requests, and the data that goes both ways."""

from __future__ import annotations

from typing import Any, Literal

from ..messages import Message, Number, Request, Token


class CopyOut(Request, tag="copy_out"):
    """COPY ... TO the worker, on a lease: the data comes as `Chunk`s, then `Done` with the tag.

    method: asyncpg.Connection's, with its keyword arguments as options, but for `output`. table_or_query: its first
    argument. args: a query's. credit: how many bytes may come before the worker gives more (`Credit`); the last chunk
    for which there is credit may exceed it, so that rows stay whole.
    """

    method: Literal["copy_from_table", "copy_from_query"]
    table_or_query: str
    args: list[Any]
    options: dict[str, Any]
    credit: Number
    lease: Token


class CopyIn(Request, tag="copy_in"):
    """COPY ... FROM the worker, on a lease. The supervisor gives `Credit`, the worker sends `Chunk`s and in the end
    `EndOfChunks`; then the request is answered, by `Done` with the tag. An error may be the answer at any time.

    method, options: as in `CopyOut`, but for `source` or `records`.
    """

    method: Literal["copy_to_table", "copy_records_to_table"]
    table: str
    options: dict[str, Any]
    lease: Token


class Chunk(Message, tag="chunk"):
    """A piece of the copy that the request `id` began. data: bytes; of copy_records_to_table, they are the msgpack of
    a list of records, each a list of arguments."""

    id: Number
    data: Any


class EndOfChunks(Message, tag="end_of_chunks"):
    """The worker has no more for the copy `id`. error: what its source raised, in words; the copy is then undone."""

    id: Number
    error: str | None = None


class Credit(Message, tag="credit"):
    """So many more bytes of the copy `id` may be sent: of chunks' data. A chunk may be sent while there is any."""

    id: Number
    bytes: Number
