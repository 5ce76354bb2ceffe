"""What is on its way to PostgreSQL and back, on one connection.

Replies carry no name: what comes back belongs to the first that was sent. All that is sent in one turn of the event
loop leaves with one write, at the turn's end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from ..core.request import Request
from .connection import Connection
from .describing import Describing
from .failures import in_words
from .unit import Unit, request_of


class Flight:
    """The units in flight.

    units: the first is the one that PostgreSQL works on. unsent: those of them that were not written yet.
    since: when the first had nobody before it. is_barred: nothing is written for now.
    on_write: who is told, once, that something was written.
    """

    def __init__(self, units: deque[Unit], connection: Connection) -> None:
        self.units = units
        self.unsent: list[Unit] = []
        self.since = 0.0
        self.is_barred = False
        self.on_write: Callable[[], object] | None = None
        self._messages: list[bytes] = []  # of the unsent
        self._connection = connection
        self._loop = asyncio.get_running_loop()

    def write(self, unit: Unit, message: bytes) -> None:
        """Send the unit's message behind those in flight."""
        self.units.append(unit)
        self.unsent.append(unit)
        if not self._messages:
            self._loop.call_soon(self.flush)
        self._messages.append(message)

    def flush(self) -> None:
        """Write what has gathered."""
        connection = self._connection
        if connection.transport is None or self.is_barred or connection.is_cut or not self._messages:
            return
        if len(self.unsent) == len(self.units):
            self.since = monotonic()
        try:
            connection.transport.write(b"".join(self._messages))
        except Exception as error:
            connection.cut(f"nothing can be written: {in_words(error)}")
            return
        self._messages.clear()
        self.unsent.clear()
        if self.on_write is not None:
            on_write, self.on_write = self.on_write, None
            on_write()

    def withdraw(self, unit: Unit) -> bool:
        """Take the unit out, if it was not written yet; whether it was so."""
        if unit not in self.unsent:
            return False
        at = self.unsent.index(unit)
        del self.unsent[at], self._messages[at]
        self.units.remove(unit)
        return True

    @property
    def first(self) -> Unit | None:
        """The one that PostgreSQL works on, if it was written."""
        return self.units[0] if self.units else None

    def is_first(self, request: Request, *, alone: bool = False) -> bool:
        """Whether PostgreSQL works on the request now, or describes its statement (alone: for nobody else)."""
        first = self.first
        if isinstance(first, Describing):
            return request in first.requests and not (alone and any(not each.answered for each in first.requests))
        return first is not None and request_of(first) is request
