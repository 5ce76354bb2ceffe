"""The reply to one statement, message by message: BindComplete, rows, the command's end, ReadyForQuery.

An error may take the place of any of the first three. Everything else is a doubt: the reply may be another
statement's, and no row of it may reach anybody.
"""

from __future__ import annotations

from ..core.request import Request
from ..errors import MessageTooLarge
from ..messages import Execute, Fetch
from . import pgwire
from .plan import Plan
from .transcode import Doubt

PART_BYTES = 48 * 1024
"""So much of a result is passed on before the rest has come."""

BIND_OF_PARSED, BIND, ROWS, SYNC, SYNC_AFTER_REFUSAL = range(-1, 4)
"""What a reply awaits: BindComplete (of what had to be parsed, and was), rows and the command's end, ReadyForQuery
(after it was not even bound)."""


class Reply:
    """The reply to the statement that is the first in flight; once it is whole, the next one's.

    awaited: what must come now. rows: those that have come, as msgpack; they were so many bytes. part_bytes: with so
    many they may be passed on before the rest has come. tag: of the command, where it was not the usual one. error:
    PostgreSQL's, by its fields, or what is wrong with the rows. status: PostgreSQL's at the end of the last one that
    `take` saw end; only on a lease may it be another one than outside of a transaction.
    """

    __slots__ = ("_max_bytes", "awaited", "error", "part_bytes", "rows", "rows_bytes", "status", "tag")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.part_bytes = min(PART_BYTES, max_bytes // 2)
        self.status = b"I"
        self.begin_next()

    def begin_next(self) -> None:
        """What comes now belongs to the next statement."""
        self.awaited = BIND
        self.tag = b""
        self.error: dict[str, str] | Exception | None = None
        self.rows: list[bytes] = []
        self.rows_bytes = 0

    def take_rows(self, plan: Plan, data: bytes, at: int, end: int, *, wanted: bool = True) -> int:
        """Take in the rows that are there; returns where they end. wanted: else they need only be readable."""
        rows = self.rows
        try:
            stop = plan.rows(data, at, end, rows)
        except Doubt:
            raise
        except Exception as error:  # a value that Python does not have; what follows of the rows is skipped
            self.error = error
            return at
        if not wanted:
            rows.clear()
            return stop
        self.rows_bytes += stop - at
        if self.rows_bytes > 2 * self._max_bytes:  # far too much; the peer will say so of less
            rows.clear()
            self.error = MessageTooLarge(
                f"the result is more than {self._max_bytes} bytes, the cap (max_frame_bytes); fetch fewer rows or "
                "columns at a time"
            )
        return stop

    def take_part(self) -> list[bytes]:
        """The rows that have come; they are no more in here."""
        rows, self.rows, self.rows_bytes = self.rows, [], 0
        return rows

    def may_suspend(self, head: Request) -> bool:
        """Whether there may be more rows than were asked for: it has been so many."""
        limit: int = head.payload.limit if type(head.payload) is Fetch else 0
        return limit > 0 and (self.error is not None or len(self.rows) == limit)

    def take(self, head: Request, kind: int, body: bytes) -> bool:
        """A message of PostgreSQL's; whether it is the last. Raises `Doubt` for one that cannot be."""
        plan, awaited = head.work[0], self.awaited
        if kind == pgwire.ERROR:
            if isinstance(self.error, dict):
                raise Doubt("two errors came for one statement")
            self.error = pgwire.error_fields(body)
            self.awaited = SYNC_AFTER_REFUSAL if awaited == BIND else SYNC
        elif kind == pgwire.READY and awaited >= SYNC:
            if body != b"I" and head.lease is None:
                raise Doubt("a statement left its session inside a transaction")
            self.status = body
            return True
        elif kind == pgwire.PARSE_COMPLETE and awaited == BIND and plan.parses:
            self.awaited = BIND_OF_PARSED
        elif awaited != ROWS:
            raise Doubt(f"{chr(kind)!r} came before a statement was bound, or after its end")
        elif kind == pgwire.COMMAND_COMPLETE:
            self.tag = body[:-1]
            if not plan.may_end_with(self.tag):
                raise Doubt(f"{self.tag!r} is no answer to {head.statement!r}")
            self.awaited = SYNC
        elif kind == pgwire.EMPTY_QUERY or (kind == pgwire.PORTAL_SUSPENDED and self.may_suspend(head)):
            self.awaited = SYNC
        elif kind != pgwire.DATA_ROW or not plan.has_rows or not (self.error or type(head.payload) is Execute):
            raise Doubt(f"{chr(kind)!r} came in the place of rows")
        elif int.from_bytes(body[:2]) != plan.width:
            raise Doubt("another number of columns")
        return False
