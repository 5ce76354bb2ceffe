"""A lease for asyncio: exclusive use of one PostgreSQL session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from ..messages import Granted, IsolationLevel, Release, Request, Token
from ..messages.copying import CopyIn, CopyOut
from ..messages.session import CloseStatement, Prepared
from . import calls, deeds, replies
from .aiochannel import AioChannel
from .aioconnected import AioConnected
from .aiocopies import AsyncCopies, Pumps, run_copy
from .aiocursor import AsyncCursorFactory
from .aiolistening import AsyncListening
from .aioprepared import AsyncPreparedStatement
from .aiostatements import AsyncStatements
from .aiotransaction import AsyncTransaction
from .binaryrecords import BinaryRecords, binary_records
from .chunks import Chunk
from .codecs import Codec, Encode, encoded_element
from .copying import as_binary, columns_of
from .failures import check_unbroken
from .leased import OF_MANY, Callback, Leased, as_callback, given, logged
from .pending import Pending
from .recordclass import check_record_class
from .steps import CHUNKS, CHUNKS_WITHIN
from .surroundings import without_deadline

_running: set[asyncio.Task[Any]] = set()
"""Coroutines of listeners."""


@logged
class AsyncLease(AsyncStatements, AsyncCopies, AsyncListening):
    """Exclusive use of one PostgreSQL session, until it is released: asyncpg.Connection's methods.

    It is renewed by the event loop while that runs. Its owner's death rolls it back. Using it after its end raises
    `LeaseExpired`, `LeaseLost`, or after a release asyncpg.InterfaceError.
    """

    def __init__(self, channel: AioChannel, connected: AioConnected, granted: Granted, asked_at: float) -> None:
        Leased.__init__(self, granted, asked_at, channel.options.endpoint)
        self._channel = channel
        self._connected = connected
        self._default_timeout = channel.options.request_timeout
        self.owner: object = None
        connected.hold(self)

    def release(self) -> None:
        """Give the session back: what is open is rolled back, and the session reset. Releasing twice is allowed."""
        if not self.released:
            self.give_back()
            self._connected.drop(self)
            self._connected.tell(Release(self.token))

    @property
    def is_held(self) -> bool:
        """Whether this process still has it, on a link that lives and in a loop that can turn."""
        return not self.is_over and self._connected.is_current and not self._connected.loop.is_closed()

    def break_off(self) -> None:
        """Its client is terminated: it ends with the link. Done in its own loop, at once if that is running."""
        try:
            here = asyncio.get_running_loop() is self._connected.loop
        except RuntimeError:
            here = False
        if here:
            self._terminated()
            self.give_back()
        else:
            self._connected.loop.call_soon_threadsafe(self.break_off)

    def terminate(self) -> None:
        """Give the session up at once, with whatever runs in it."""
        self.closed = True
        self._terminated()
        self.release()

    async def close(self, *, timeout: float | None = None) -> None:
        """End the session. What it left is undone; its connection is for others."""
        calls.check_timeout(timeout, None)
        self.terminate()

    async def reset(self, *, timeout: float | None = None) -> None:
        """Make the session as new, as at the release: what is open is rolled back. Listeners are removed."""
        self.outermost = None
        self._log_listeners.clear()
        self.forget_channels()
        request = deeds.reset(self._limit(timeout), self.token)
        replies.done(await self._call("reset", request), request)

    async def reload_schema_state(self) -> None:
        """Have the pool forget what it remembers of the database's types, after one was changed."""
        request = deeds.reset(self._default_timeout, self.token, schema_only=True)
        replies.done(await self._call("reload_schema_state", request), request)

    async def prepare(
        self,
        query: str,
        *,
        name: str | None = None,
        timeout: float | None = None,
        record_class: type | None = None,
    ) -> AsyncPreparedStatement:
        """Prepare a statement in the session. name: PostgreSQL's name for it; it is given one otherwise.

        record_class: of its rows, a subclass of pgactor.Record.
        """
        check_record_class(record_class)
        request = deeds.prepare(query, name, self._limit(timeout), self.token)
        prepared = replies.prepared(await self._call("prepare", request), request)
        return AsyncPreparedStatement(self, query, prepared, record_class or self._record_class)

    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        encoder: Callable[[Any], Any],
        decoder: Callable[[Any], Any],
        format: str = "text",
    ) -> None:
        """Have values of a type encoded and decoded by these functions, until the lease's end.

        format: what they make and take: "text", a str; "binary", bytes; "tuple", a tuple that depends on the type, as
        asyncpg has it.
        """
        request = deeds.set_codec(typename, schema, format, None, self._default_timeout, self.token)
        replies.done(await self._call("set_type_codec", request), request)
        self.codecs.set(typename, schema, Codec(encoder, decoder, format))

    async def set_builtin_type_codec(
        self, typename: str, *, schema: str = "public", codec_name: str, format: str | None = None
    ) -> None:
        """Have values of a type treated as ones of a type that asyncpg knows, until the lease's end."""
        request = deeds.set_codec(typename, schema, format, codec_name, self._default_timeout, self.token)
        replies.done(await self._call("set_builtin_type_codec", request), request)
        self.codecs.remove(typename, schema)

    async def reset_type_codec(self, typename: str, *, schema: str = "public") -> None:
        """Have values of a type as they were before a codec was set."""
        request = deeds.set_codec(typename, schema, None, None, self._default_timeout, self.token)
        replies.done(await self._call("reset_type_codec", request), request)
        self.codecs.remove(typename, schema)

    def cursor(
        self,
        query: str,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type | None = None,
    ) -> AsyncCursorFactory:
        """A cursor, within a transaction: `await` it, or iterate: `async for record in lease.cursor("select ...")`.

        prefetch: how many rows an iteration fetches at a time, 50 if it is not given.
        """
        self.require_held("cursor", time.monotonic())
        check_record_class(record_class)
        return AsyncCursorFactory(self, query, args, prefetch, timeout, record_class or self._record_class)

    def transaction(
        self, *, isolation: IsolationLevel | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AsyncTransaction:
        """A transaction for `async with`, or with `start`, `commit` and `rollback`; within another, a savepoint."""
        self.require_held("transaction", time.monotonic())
        return AsyncTransaction(self, isolation, readonly, deferrable)

    async def _execute_chunks(
        self, command: str, first: Chunk, others: AsyncIterator[Chunk], end: float | None
    ) -> None:
        async with self._all_or_nothing():
            await self._execute_chunk(command, first, end)
            async for chunk in others:
                await self._execute_chunk(command, chunk, end)

    @asynccontextmanager
    async def _all_or_nothing(self) -> AsyncIterator[None]:
        begin, commit, rollback = CHUNKS_WITHIN if self.in_transaction else CHUNKS
        await self.execute(begin)
        try:
            yield
            await self.execute(commit)
        except BaseException:
            with without_deadline(), suppress(Exception):  # it tells less than the error that is on its way
                await self.execute(rollback)
            raise

    def _callback(self, callback: Callable[..., Any]) -> Callback:
        return as_callback(callback)

    def _dispatch(self, callback: Callback, *args: object) -> None:
        loop = self._connected.loop
        if loop.is_closed():
            return
        if callback.is_async:
            task = loop.create_task(callback.call(*args))
            _running.add(task)  # the loop itself would not keep it alive
            task.add_done_callback(_running.discard)
        else:
            loop.call_soon(callback.call, *args)

    async def _logging(self, method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with self._timed(method.__name__, args, options):
            return await self._coding(method, args, options)

    async def _coding(self, method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        query, passed = given(method.__name__, args, options)
        encode = await self._encoder(query) if passed else None
        if encode is None:
            return await method(self, *args, **options)
        if method.__name__ in OF_MANY:
            passed = (passed,)
            options = {name: value for name, value in options.items() if name not in ("query", "command", "args")}
        return await method(self, query, *encoded_args(method.__name__, encode, passed), **options)

    async def _encoder(self, query: str) -> Encode | None:
        """What encodes a statement's arguments; None if they need it not."""
        if not self.codecs:
            return None
        return self.codecs.encoder(await self._described(query))

    async def _described(self, query: str) -> Prepared:
        described = self.codecs.described(query)
        if described is None:
            request = deeds.describe(query, self._default_timeout, self.token)
            described = replies.prepared(await self._call("describe", request), request)
            self.codecs.learn(query, described)
        return described

    async def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        self.require_held(method, time.monotonic())
        request.lease = self.token
        encode, binary = None, None
        if isinstance(request, CopyIn) and request.method == "copy_records_to_table":
            if self.codecs:
                encode = self.codecs.record_encoder(await self._described(columns_of(request)))
            elif (binary := await self._binary_records(request)) is not None:
                request = as_binary(request)
        self.running += 1
        try:
            async with pumps as pump:
                pending = await run_copy(self._connected, request, pump, encode, binary)
        finally:
            self.running -= 1
        if pending.reply is not None:
            self.in_transaction = replies.in_transaction(pending.reply)
        return replies.command_tag(pending, request)

    async def _binary_records(self, request: CopyIn) -> BinaryRecords | None:
        """What encodes the records of this copy here; None: the supervisor is to. The table's columns are asked for
        anew each time, as by asyncpg: it may be another table of this name."""
        if "where" in request.options:  # of which PostgreSQL's errors tell the place in the supervisor's text
            return None
        end = calls.until(request.timeout)
        asking = deeds.prepare(columns_of(request), None, request.timeout, self.token)
        prepared = replies.prepared(await self._call("prepare", asking), asking)
        self.unused.append(CloseStatement(self.token, prepared.statement))
        request.timeout = calls.remaining(end)
        if self.get_settings().client_encoding.upper() not in ("UTF8", "UTF-8"):
            return None
        return binary_records(prepared)

    def _token(self) -> Token:
        return self.token

    async def _call(self, method: str, request: Request) -> Pending:
        self.require_held(method, time.monotonic())
        while self.unused:
            self._connected.tell(self.unused.popleft())
        self.last_query = getattr(request, "sql", self.last_query)
        self.running += 1
        try:
            pending = await self._channel.ask(request, self._connected)
        finally:
            self.running -= 1
        if self.released:
            check_unbroken(pending.reply, pending.error)
        if pending.reply is not None:
            self.in_transaction = replies.in_transaction(pending.reply)
        if self.codecs.decodes:
            pending.decode = self.codecs.decoded
        return pending


def encoded_args(method: str, encode: Encode, args: Sequence[Any]) -> Sequence[Any]:
    """The arguments of a statement method, after the statement itself, encoded."""
    if method == "fetchmany":
        return ([encoded_element(encode, number, each) for number, each in enumerate(args[0])],)
    return (_elements(encode, args[0]),) if method in OF_MANY else encode(args)


async def _elements(encode: Encode, elements: Any) -> AsyncIterator[Any]:
    """Each of many arguments, as they are needed, whatever they come from."""
    number = 0
    if isinstance(elements, AsyncIterable):
        async for element in elements:
            yield encoded_element(encode, number, element)
            number += 1
        return
    for number, element in enumerate(elements):
        yield encoded_element(encode, number, element)
