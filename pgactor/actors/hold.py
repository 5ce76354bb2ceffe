"""A worker does not read its large result: no more of it is read from PostgreSQL, unless others stand behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ..core.request import Request
from .connection import Connection
from .flight import Flight
from .unit import Unit, requests_of

HELD_SECONDS = 0.05
"""How often it is looked whether others have come to stand behind the statement of such a worker."""

GATHERED_BYTES = 32 * 1024 * 1024
"""So much may be unsent to a worker that does not read, before those whose statements stand behind its own wait."""


class Hold:
    """Holds one backend's connection. units: what is in flight on it."""

    def __init__(self, units: Iterable[Unit], connection: Connection, flight: Flight) -> None:
        self._units = units
        self._connection = connection
        self._flight = flight
        self._loop = asyncio.get_running_loop()

    def begin(self, head: Request) -> None:
        """The worker of the first in flight has no room for more, and will say when it has."""
        if not self._may_gather_for(head):
            self._connection.hold()
            self._loop.call_later(HELD_SECONDS, self._look_again, head)

    def _look_again(self, head: Request) -> None:
        """Others may have come to stand behind it since nothing more is read for it."""
        if self._connection.is_held and self._flight.is_first(head):
            if self._may_gather_for(head):
                self._connection.resume()
            else:
                self._loop.call_later(HELD_SECONDS, self._look_again, head)

    def _may_gather_for(self, head: Request) -> bool:
        """Whether more may be read for a worker that does not read as quickly, since other workers' statements stand
        behind."""
        others = any(request.worker is not head.worker for unit in self._units for request in requests_of(unit))
        return others and head.worker.link.unsent_size() < GATHERED_BYTES
