"""A lease for blocking code: exclusive use of one PostgreSQL session."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from ..messages import Granted, IsolationLevel, Release, Request, Token
from ..messages.copying import CopyIn, CopyOut
from ..messages.session import CloseStatement, Prepared
from . import acquirer, calls, deeds, replies
from .binaryrecords import BinaryRecords, binary_records
from .channel import Channel
from .chunks import Chunk
from .codecs import Codec, Encode, encoded_elements
from .connected import Connected
from .copies import Copies, Pumps, run_copy
from .copying import as_binary, columns_of
from .cursor import Cursor
from .failures import check_unbroken, interface_error
from .leased import OF_MANY, Callback, Leased, as_callback, given, logged
from .listening import Listening
from .pending import Pending
from .prepared import PreparedStatement
from .recordclass import check_record_class
from .statements import Statements
from .steps import CHUNKS, CHUNKS_WITHIN
from .surroundings import without_deadline
from .transaction import Transaction

log = logging.getLogger("pgactor.client")


@logged
class Lease(Statements, Copies, Listening):
    """Exclusive use of one PostgreSQL session, until it is released: asyncpg.Connection's methods, without await.

    It is renewed in the background while the process lives. Its owner's death rolls it back. Using it after its end
    raises `LeaseExpired`, `LeaseLost`, or after a release asyncpg.InterfaceError.
    """

    def __init__(self, channel: Channel, connected: Connected, granted: Granted, asked_at: float) -> None:
        Leased.__init__(self, granted, asked_at, channel.options.endpoint)
        self._channel = channel
        self._connected = connected
        self._default_timeout = channel.options.request_timeout
        self.owner: object = None
        connected.hold(self)

    def __enter__(self) -> Lease:
        self.entered = acquirer.entering()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the session back: what is open is rolled back, and the session reset. Releasing twice is allowed."""
        if not self.released:
            self.give_back()
            if self._connected.is_current:
                self._connected.drop(self)
                self._connected.tell(Release(self.token))
                if self._connected.requests.moved:
                    self._connected.leave_if_idle()

    def terminate(self) -> None:
        """Give the session up at once, with whatever runs in it."""
        self.closed = True
        self._terminated()
        self.release()
        self.run_due()

    def close(self, *, timeout: float | None = None) -> None:
        """End the session. What it left is undone; its connection is for others."""
        calls.check_timeout(timeout, None)
        self.terminate()

    def reset(self, *, timeout: float | None = None) -> None:
        """Make the session as new, as at the release: what is open is rolled back. Listeners are removed."""
        self.outermost = None
        self._log_listeners.clear()
        self.forget_channels()
        request = deeds.reset(self._limit(timeout), self.token)
        replies.done(self._call("reset", request), request)

    def reload_schema_state(self) -> None:
        """Have the pool forget what it remembers of the database's types, after one was changed."""
        request = deeds.reset(self._default_timeout, self.token, schema_only=True)
        replies.done(self._call("reload_schema_state", request), request)

    def prepare(
        self,
        query: str,
        *,
        name: str | None = None,
        timeout: float | None = None,
        record_class: type | None = None,
    ) -> PreparedStatement:
        """Prepare a statement in the session. name: PostgreSQL's name for it; it is given one otherwise.

        record_class: of its rows, a subclass of pgactor.Record.
        """
        check_record_class(record_class)
        request = deeds.prepare(query, name, self._limit(timeout), self.token)
        prepared = replies.prepared(self._call("prepare", request), request)
        return PreparedStatement(self, query, prepared, record_class)

    def set_type_codec(
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
        replies.done(self._call("set_type_codec", request), request)
        self.codecs.set(typename, schema, Codec(encoder, decoder, format))

    def set_builtin_type_codec(
        self, typename: str, *, schema: str = "public", codec_name: str, format: str | None = None
    ) -> None:
        """Have values of a type treated as ones of a type that asyncpg knows, until the lease's end."""
        request = deeds.set_codec(typename, schema, format, codec_name, self._default_timeout, self.token)
        replies.done(self._call("set_builtin_type_codec", request), request)
        self.codecs.remove(typename, schema)

    def reset_type_codec(self, typename: str, *, schema: str = "public") -> None:
        """Have values of a type as they were before a codec was set."""
        request = deeds.set_codec(typename, schema, None, None, self._default_timeout, self.token)
        replies.done(self._call("reset_type_codec", request), request)
        self.codecs.remove(typename, schema)

    def cursor(
        self,
        query: str,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type | None = None,
    ) -> Cursor:
        """Open a cursor, within a transaction: fetch from it, or iterate: `for record in lease.cursor("select ...")`.

        prefetch: how many rows an iteration fetches at a time, 50 if it is not given.
        """
        self.require_held("cursor", time.monotonic())
        check_record_class(record_class)
        return Cursor(self, query, args, prefetch, timeout, record_class)

    def transaction(
        self, *, isolation: IsolationLevel | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """A transaction for `with`, or with `start`, `commit` and `rollback`; within another one, a savepoint."""
        self.require_held("transaction", time.monotonic())
        return Transaction(self, isolation, readonly, deferrable)

    def _execute_chunks(self, command: str, chunks: Iterator[Chunk], end: float | None) -> None:
        with self._all_or_nothing():
            for chunk in chunks:
                self._execute_chunk(command, chunk, end)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        begin, commit, rollback = CHUNKS_WITHIN if self.in_transaction else CHUNKS
        self.execute(begin)
        try:
            yield
            self.execute(commit)
        except BaseException:
            with without_deadline(), suppress(Exception):  # it tells less than the error that is on its way
                self.execute(rollback)
            raise

    def run_due(self) -> None:
        """Call the listeners of what has come; what they raise is logged."""
        while self.due:
            callback, args = self.due.popleft()
            try:
                callback.call(*args)
            except Exception:
                log.exception("a listener of %r failed", self)

    def _callback(self, callback: Callable[..., Any]) -> Callback:
        made = as_callback(callback)
        if made.is_async:
            raise interface_error(f"a blocking lease cannot await {callback!r}: give it a plain function")
        return made

    def _dispatch(self, callback: Callback, *args: object) -> None:
        self.due.append((callback, args))

    def _logging(self, method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            with self._timed(method.__name__, args, options):
                return self._coding(method, args, options)
        finally:
            self.run_due()

    def _coding(self, method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        query, passed = given(method.__name__, args, options)
        encode = self._encoder(query) if passed else None
        if encode is None:
            return method(self, *args, **options)
        if method.__name__ not in OF_MANY:
            return method(self, query, *encode(passed), **options)
        options = {name: value for name, value in options.items() if name not in ("query", "command", "args")}
        return method(self, query, encoded_elements(encode, passed), **options)

    def _encoder(self, query: str) -> Encode | None:
        """What encodes a statement's arguments; None if they need it not."""
        if not self.codecs:
            return None
        return self.codecs.encoder(self._described(query))

    def _described(self, query: str) -> Prepared:
        described = self.codecs.described(query)
        if described is None:
            request = deeds.describe(query, self._default_timeout, self.token)
            described = replies.prepared(self._call("describe", request), request)
            self.codecs.learn(query, described)
        return described

    def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        self.require_held(method, time.monotonic())
        request.lease = self.token
        encode, binary = None, None
        if isinstance(request, CopyIn) and request.method == "copy_records_to_table":
            if self.codecs:
                encode = self.codecs.record_encoder(self._described(columns_of(request)))
            elif (binary := self._binary_records(request)) is not None:
                request = as_binary(request)
        self.running += 1
        try:
            with pumps as pump:
                pending = run_copy(self._connected, request, pump, encode, binary)
        finally:
            self.running -= 1
        if pending.reply is not None:
            self.in_transaction = replies.in_transaction(pending.reply)
        return replies.command_tag(pending, request)

    def _binary_records(self, request: CopyIn) -> BinaryRecords | None:
        """What encodes the records of this copy here; None: the supervisor is to. The table's columns are asked for
        anew each time, as by asyncpg: it may be another table of this name."""
        if "where" in request.options:  # of which PostgreSQL's errors tell the place in the supervisor's text
            return None
        end = calls.until(request.timeout)
        asking = deeds.prepare(columns_of(request), None, request.timeout, self.token)
        prepared = replies.prepared(self._call("prepare", asking), asking)
        self.unused.append(CloseStatement(self.token, prepared.statement))
        request.timeout = calls.remaining(end)
        if self.get_settings().client_encoding.upper() not in ("UTF8", "UTF-8"):
            return None
        return binary_records(prepared)

    def _token(self) -> Token:
        return self.token

    def _call(self, method: str, request: Request) -> Pending:
        if self.due:
            self.run_due()
        self.require_held(method, time.monotonic())
        while self.unused:
            self._connected.tell(self.unused.popleft())
        self.last_query = getattr(request, "sql", self.last_query)
        self.running += 1
        try:
            pending, _ = self._channel.call(request, within=self._connected)
        finally:
            self.running -= 1
        if self.released:
            check_unbroken(pending.reply, pending.error)
        if pending.reply is not None:
            self.in_transaction = replies.in_transaction(pending.reply)
        if self.codecs.decodes:
            pending.decode = self.codecs.decoded
        if self.due:
            self.run_due()
        return pending
