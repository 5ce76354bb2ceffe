"""asyncpg's connection, which lends itself to the statement lane.

While it is lent the lane has the transport, and asyncpg hears nothing. What the lane learns that asyncpg would have
known, whether a transaction is open, is kept here until asyncpg hears of it from PostgreSQL itself.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from . import pgwire
from .tap import RestFirst, Tap

AGAIN_SECONDS = 0.1
"""After so long a cancel request is sent again, and so on at twice the interval: one that comes before PostgreSQL has
begun with the statement is nothing to it."""

AnyTap = TypeVar("AnyTap", bound=asyncio.Protocol)


class LentConnection(asyncpg.Connection):
    """in_transaction_now: whether the session is inside a transaction, where the statement lane knows better than
    asyncpg; else None. has_failed: the transaction, if there is one, had failed when the statement lane looked last.
    """

    _protocol: Any
    _transport: asyncio.Transport
    _cancel: Callable[[asyncio.Future[None]], Awaitable[None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_transaction_now: bool | None = None
        self.has_failed = False
        self._reported: tuple[str, dict[str, str]] = ("", {})
        self._reported_is_known = self._is_lent = False
        self._receiver: Tap | None = None  # what asyncpg receives by, if not by itself
        self._may_be_told = False  # what nobody has asked for

    def is_in_transaction(self) -> bool:
        """As asyncpg's; it knows of what has run in the statement lane, too."""
        now = self.in_transaction_now
        return bool(super().is_in_transaction()) if now is None else now

    @property
    def reported(self) -> dict[str, str]:
        """The parameters that PostgreSQL reports, as it did last; the same object while they are the same."""
        if self.is_closed() or self._reported_is_known:
            return self._reported[1]
        self._reported_is_known = self._is_lent
        words = repr(self.get_settings())  # they have no other way of telling all
        if words != self._reported[0]:
            self._reported = words, ast.literal_eval(words[words.index("{") : words.rindex("}") + 1])
        return self._reported[1]

    @property
    def speaks_utf8(self) -> bool:
        """Whether text is UTF-8 on both sides, so that it need not be looked at."""
        settings = self.get_settings()
        return bool(settings.client_encoding.upper() in ("UTF8", "UTF-8") and settings.server_encoding != "SQL_ASCII")

    def lend(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Let another protocol have the connection, until `take_back`. Nothing may be under way."""
        self._let_receive(protocol)
        self._is_lent = True
        return self._transport

    def take_back(self) -> None:
        """The connection is asyncpg's again. Nothing may be under way."""
        self._is_lent = self._reported_is_known = False
        if self.in_transaction_now == self._protocol.is_in_transaction():
            self.in_transaction_now = None
        if not self._may_be_told:
            self._receiver = None if self.in_transaction_now is None else self._new_receiver()
        self.untap()

    def expect_notifications(self) -> None:
        """From now on the session may listen, and be told at any time what comes in several pieces: whoever is to
        have the connection must know whether one has begun. Nothing may be under way."""
        if not self._may_be_told:
            self._may_be_told = True
            self._receiver = self._receiver or self._new_receiver()
            if not self._is_lent:
                self.untap()

    def expect_no_notifications(self) -> None:
        """The session listens no more. Nothing may be under way."""
        if self._may_be_told and (self._receiver is None or not self._receiver.missing):
            self._may_be_told = False
            self.take_back()

    def _new_receiver(self) -> Tap:
        """A tap that waits for PostgreSQL's next word on whether a transaction is open, which asyncpg hears, too."""
        return Tap(self._protocol, self._hears_of_transaction, kind=pgwire.READY)

    def _hears_of_transaction(self) -> None:
        self.in_transaction_now = None
        if not self._may_be_told:
            receiver, self._receiver = self._receiver, None
            if self._transport.get_protocol() is receiver:  # or another tap is before it
                self.untap()

    def _let_receive(self, protocol: asyncio.Protocol) -> None:
        receiver = self._receiver
        if receiver is not None and receiver.missing:
            protocol = RestFirst(receiver, self._transport, protocol)
        self._transport.set_protocol(protocol)

    def pass_on(self, message: bytes) -> None:
        """A message from PostgreSQL that belongs to no statement: a notice, a changed parameter, a notification."""
        self._reported_is_known = False
        (self._receiver or self._protocol).data_received(message)

    def lost(self, error: Exception | None) -> None:
        """The connection was lost while it was lent."""
        self._protocol.connection_lost(error)

    async def cancel_running(self) -> None:
        """Ask PostgreSQL to cancel what the session runs; returns when it has taken note of it. If it cannot be
        asked, the connection is cut."""
        await self._cancel(asyncio.get_running_loop().create_future())

    async def quiet(self) -> None:
        """Wait until a statement of asyncpg's that was cancelled is over, on both sides of the connection."""
        if not self._protocol._is_cancelling():
            return
        loop, again = asyncio.get_running_loop(), AGAIN_SECONDS
        over, asking = asyncio.ensure_future(self._protocol._wait_for_cancellation()), None
        try:
            while not (await asyncio.wait([over], timeout=again))[0]:
                if asking is None or asking.done():
                    asking = loop.create_task(self.cancel_running())
                    again *= 2
            if asking is not None:
                await asyncio.wait([asking])  # or it might hit the session's next statement
        finally:
            over.cancel()
            if asking is not None:
                asking.cancel()

    def request_cancel(self) -> None:
        """Have asyncpg cancel what it runs."""
        self._protocol._request_cancel()

    def tap(self, tap: Callable[[asyncio.Protocol], AnyTap]) -> AnyTap:
        """Have what comes from PostgreSQL go through a tap on its way to asyncpg, until `untap`. Nothing may be under
        way."""
        made = tap(self._receiver or self._protocol)
        self._let_receive(made)
        return made

    def untap(self) -> None:
        """asyncpg hears again without a tap."""
        if not self._transport.is_closing():
            self._transport.set_protocol(self._receiver or self._protocol)
