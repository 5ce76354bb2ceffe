"""A server that takes no writes any more: after a failover it may be a standby, or fenced off, and the connections to
it are there still.

PostgreSQL tells by the error of the first write (25006). The caller has it, and the connection is replaced when it
comes back, which leads to whoever is the primary by then. A transaction that was read-only by wish says the same, so
the session is asked, too; and a pool that was told to find a server for reading has what it wants.
"""

from __future__ import annotations

from ..core.request import Request
from ..messages import Batch, Failed, Message, Results
from .session import Session

READ_ONLY = "25006"
"""PostgreSQL's code of a statement that cannot run in a read-only transaction."""

FOR_READING = frozenset({"standby", "prefer-standby", "read-only"})
"""The `target_session_attrs` of those who do not expect to write."""


def is_told(request: Request, reply: Message) -> bool:
    """Whether the reply to the request says that a write was refused."""
    if isinstance(reply, Failed):
        return bool(reply.fields.get("sqlstate") == READ_ONLY)
    if isinstance(reply, Results) and isinstance(request.payload, Batch) and not request.payload.atomic:
        return any(is_told(request, each) for each in reply.results)
    return False


def has_gone_wrong(session: Session) -> bool:
    """Whether the session takes no writes whatever the transaction, and should. Before PostgreSQL 14 no session tells
    what it takes: then it counts as one that does not."""
    if session.is_for_reading or session.is_closed():
        return False
    reported = session.reported
    told = [reported.get(name) for name in ("in_hot_standby", "default_transaction_read_only")]
    return None in told or "on" in told
