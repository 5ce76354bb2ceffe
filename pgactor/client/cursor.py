"""A cursor for blocking code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..rows import Record
from . import deeds, replies
from .recordclass import as_class
from .resources import CursorFacts, PreparedFacts, guarded

if TYPE_CHECKING:
    from .lease import Lease


class Cursor(CursorFacts):
    """A statement's rows, some at a time: asyncpg.Cursor's methods, without await, and iteration.

    It stands before the first row, and each call goes on from where it stands.
    """

    _lease: Lease

    def __init__(
        self,
        lease: Lease,
        query: str,
        args: Sequence[object],
        prefetch: int | None,
        timeout: float | None,
        record_class: type | None,
        statement: PreparedFacts | None = None,
    ) -> None:
        super().__init__(lease, query, statement)
        self._prefetch = deeds.check_prefetch(prefetch)
        self._timeout = timeout
        self._record_class = record_class
        number = None if statement is None else statement.number
        encode = lease._encoder(query) if statement is None else statement.encode
        args = args if encode is None else encode(args)
        request = deeds.open_cursor(query, args, lease._limit(timeout), lease.token, number)
        self._opened(replies.opened(lease._call("cursor", request), request))

    @guarded
    def __iter__(self) -> Iterator[Record]:
        return self._rows()

    def _rows(self) -> Iterator[Record]:
        while not self._exhausted:
            self._require_usable("__next__")
            yield from self._fetch(self._prefetch, self._timeout)
        self._close()

    @guarded
    def fetch(self, n: int, *, timeout: float | None = None) -> list[Record]:
        """The next n rows; fewer, if there are no more."""
        count = self._require_ready(n)
        return [] if self._exhausted else self._fetch(count, timeout)

    @guarded
    def fetchrow(self, *, timeout: float | None = None) -> Record | None:
        """The next row, or None."""
        self._require_ready(1)
        rows = [] if self._exhausted else self._fetch(1, timeout)
        return rows[0] if rows else None

    @guarded
    def forward(self, n: int, *, timeout: float | None = None) -> int:
        """Skip the next n rows. Returns how many there were."""
        count = self._require_ready(n)
        lease = self._lease
        request = deeds.move_cursor(self.number, count, lease._limit(timeout), lease.token)
        moved = deeds.moved(replies.command_tag(lease._call("forward", request), request))
        self._exhausted = self._exhausted or moved < count
        return moved

    def _fetch(self, count: int, timeout: float | None) -> list[Record]:
        self._require_ready(count)
        lease = self._lease
        request = deeds.fetch_cursor(self.number, count, lease._limit(timeout), lease.token)
        rows = replies.rows(lease._call("fetch", request), request)
        self._took(rows, count)
        return as_class(rows, self._record_class)
