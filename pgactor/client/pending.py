"""What becomes of a request that is not answered yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec

from ..messages import Done, Failed, Granted, Results, Rows
from ..messages.pool import StatusReport
from ..messages.session import Opened, Prepared
from ..rows import Record, RowDecoder

Reply = Done | Rows | Results | Prepared | Opened | Granted | StatusReport | Failed


class Pending(msgspec.Struct, eq=False):  # not for the wire: no other object is made as quickly
    """An unanswered request. waiter: whatever the shell waits on. patience: when it stops, by the monotonic clock.
    link: the way it went. reply: what came; rows: how to read it; shapes: how to read each of several results; parts:
    the rows that came before. decode: the codecs' work on the rows. error: why none will come."""

    id: int
    waiter: Any = None
    patience: float | None = None
    link: Any = None
    reply: Reply | None = None
    rows: RowDecoder | None = None
    parts: list[Record] | None = None
    shapes: tuple[RowDecoder | None, ...] = ()
    decode: Callable[[list[Record]], list[Record]] | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.reply is not None or self.error is not None


class PendingLease(Pending):
    """An unanswered wish for a lease. asked_at: when it was sent, by the monotonic clock."""

    asked_at: float = msgspec.field(default_factory=monotonic)


class PendingCopy(Pending):
    """An unanswered copy. chunks: the data that has come for it. credit, spent: how many bytes of data it may send,
    and how many it has. sends: it has more to send, or may have."""

    chunks: deque[bytes] = msgspec.field(default_factory=deque)
    credit: int = 0
    spent: int = 0
    sends: bool = True

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.reply is not None or self.error is not None

    @property
    def done(self) -> bool:
        """Whether it has ended, or there is something for its caller to do."""
        return self.ended or bool(self.chunks) or (self.sends and self.credit > self.spent)

    @property
    def is_over(self) -> bool:
        """Whether its sink or source is of no more use. What PostgreSQL sent before an error is for the sink."""
        reply = self.reply
        return self.error is not None or (isinstance(reply, Failed) and (self.sends or reply.code != "asyncpg"))
