"""asyncpg's connection while statements travel on it: borrowed, read, given back; or cut, or lost.

What PostgreSQL sends comes in pieces of any size. Here they are put together and read a window at a time, so that a
large result does not keep others waiting, and does not gather here faster than it is read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from . import pgwire
from .failures import in_words
from .faults import tell
from .reader import Reader
from .session import Session
from .transcode import Doubt
from .turn import Turn

log = logging.getLogger("pgactor.pipeline")

WINDOW = 64 * 1024
"""How many bytes of replies are read before others have their turn."""


class Owner(Protocol):
    """Who has borrowed the connection."""

    def was_read(self) -> None:
        """All that is there for now has been read."""

    def was_lost(self) -> None:
        """The connection is no more."""


class Connection(asyncio.Protocol):
    """The connection. transport: asyncio's, while it is borrowed. is_cut: given up, with its end yet to be told."""

    def __init__(self, session: Session, *, name: str, reader: Reader, owner: Owner, turn: Turn) -> None:
        self._session = session
        self._name = name  # of its backend, for the log
        self._reader = reader
        self._owner = owner
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.is_lost = False
        self.is_cut = False
        # what has come, and is not a whole message yet or has to wait for the next turn
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._needed_bytes = 0
        self._is_paused = False
        self._is_held = False

    def borrow(self) -> None:
        """Have the connection from asyncpg, unless it is closed."""
        if self._session.is_closed():
            self.is_lost = True
        else:
            self.transport = self._session.lend(self)

    def give_back(self) -> None:
        """asyncpg has the connection again. Nothing is in flight."""
        assert self.transport is not None  # noqa: S101  # it was borrowed
        if self._pieces:  # of messages that nobody asked for
            self._session.pass_on(b"".join(self._pieces))
            self._pieces.clear()
        if self._is_paused or self._is_held:
            self._is_paused = self._is_held = False
            self.transport.resume_reading()
        self.transport = None
        self._session.take_back()

    @property
    def is_held(self) -> bool:
        """Whether no more is read, until `resume`."""
        return self._is_held

    def hold(self) -> None:
        """Read no more, for there is no room for what is read, until `resume`."""
        if self.transport is not None and not self._is_held:
            if not self._is_paused:
                self.transport.pause_reading()
            self._is_held = True

    def resume(self) -> None:
        """There is room again."""
        if self.transport is not None and self._is_held:
            self._is_held = False
            if self._is_paused:
                self._loop.call_soon(self._go_on)
            else:
                self.transport.resume_reading()

    def cut(self, why: str) -> None:
        """Give the connection up: what it says, or does not say, cannot be trusted any more."""
        if self.is_lost or self.is_cut:
            return
        log.error("%s is cut: %s", self._name, why)
        self.is_cut = True
        self._pieces.clear()
        if self.transport is not None:
            self.transport.abort()
        else:  # it has just been given back
            self._session.terminate()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.transport = None
        self._owner.was_lost()
        if not self._session.is_closed():  # or asyncpg has cut it
            self._session.lost(exc)

    # --- reading ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.is_cut:
            return
        self._turn.enter()
        if self._pieces:
            self._pieces.append(data)
            self._bytes += len(data)
            if self._bytes < self._needed_bytes:
                return  # of a long message; it is put together once
            data = b"".join(self._pieces)
            self._pieces.clear()
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Read a window at most; what is left waits for the next turn, or for the rest of its message."""
        end = min(len(data), WINDOW)
        try:
            at = self._reader.read(data, end)
            if not at and end < len(data):
                at = self._reader.read(data, len(data))  # a message of more than a window
        except (Doubt, ValueError, IndexError) as doubt:
            self.cut(str(doubt))
            return
        except Exception as error:
            self._failed(error)
            return
        try:
            if at < len(data):
                self._keep(data[at:], may_go_on=end < len(data))
            self._owner.was_read()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        tell(f"{self._name} is cut", error)
        self.cut(in_words(error))

    def _keep(self, rest: bytes, *, may_go_on: bool) -> None:
        """Keep what was not read. may_go_on: there may be whole messages in it."""
        if self.transport is None:  # it was given back meanwhile
            self._session.pass_on(rest)
            return
        self._pieces.append(rest)
        self._bytes = len(rest)
        self._needed_bytes = 1 + pgwire.header(rest)[1] if len(rest) >= 5 else 5
        if may_go_on and self._needed_bytes <= self._bytes:
            self._is_paused = True
            if not self._is_held:
                self.transport.pause_reading()
                self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.transport is not None and self._is_paused and not self._is_held:
            self._turn.enter()
            self._is_paused = False
            self.transport.resume_reading()
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._read(data)
