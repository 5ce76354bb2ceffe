"""Reads what PostgreSQL says: each message belongs to the first unit in flight, which knows what it may be.

What statements nearly always end with is found as one run of bytes, without looking at its messages. Whatever is not
found there is taken one message after another.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from ..core.request import Request
from ..messages import Fetch
from . import pgwire
from .describing import Describing
from .group import Group
from .pgwire import BOUND, SUSPENDED_IDLE, SUSPENDED_WITHIN
from .reply import BIND, ROWS, Reply
from .session import Session
from .transcode import Doubt
from .unit import Unit

_ANY_TIME = (pgwire.NOTICE, pgwire.PARAMETER_STATUS, pgwire.NOTIFICATION)
"""Messages that may come at any time, and belong to no statement."""

_MAY_BE_LONG = frozenset(
    (*_ANY_TIME, pgwire.DATA_ROW, pgwire.ERROR, pgwire.ROW_DESCRIPTION, pgwire.PARAMETER_DESCRIPTION)
)
_LONG = 30000
_LONGEST = 2**30
"""How long messages may be: a length beyond that is none."""


class Outcomes(Protocol):
    """Who is told how the first unit in flight has ended, and takes it out of there."""

    def succeeded(self, head: Request, tag: bytes, *, in_transaction: bool = False) -> None:
        """The statement has ended well; its rows are in the reply. in_transaction: it has left a lease's session
        inside a transaction."""

    def part_came(self, head: Request) -> None:
        """Many rows of the statement are in the reply, and more may follow."""

    def ended(self, head: Request) -> None:
        """The statement has ended, as the reply tells."""

    def described(self, unit: Describing) -> None:
        """The description has ended, well or not."""

    def group_ended(self, group: Group) -> None:
        """The group has ended, well or not."""

    def go_on_with(self, group: Group, message: bytes) -> None:
        """What was sent of the group has ended; this is to be sent next."""


class Reader:
    """Takes in messages, and tells what they end. goodbye: PostgreSQL's last word, by its fields, if it said one.
    heard_of_settings: it has said that parameters have changed."""

    def __init__(self, session: Session, units: deque[Unit], reply: Reply, *, outcomes: Outcomes) -> None:
        self._session = session  # for what belongs to no statement
        self._units = units
        self._reply = reply
        self._outcomes = outcomes
        self.goodbye: dict[str, str] | None = None
        self.heard_of_settings = False

    def read(self, data: bytes, end: int) -> int:
        """Take in the whole messages before `end`; returns where they end. Raises `Doubt`, `ValueError` or
        `IndexError` for what PostgreSQL cannot have said."""
        units, reply = self._units, self._reply
        at = 0
        while at < end:
            head = units[0] if units else None
            error = reply.error
            if type(head) is Request and error is None:
                if reply.awaited <= BIND and data.startswith(BOUND, at):
                    at += len(BOUND)
                    reply.awaited = ROWS
                if reply.awaited == ROWS:
                    plan = head.work[0]
                    wanted = type(head.payload) is Fetch
                    # With arguments, asyncpg's execute() fails over a date that Python does not have; so does ours.
                    if plan.has_rows and (wanted or (plan.dated and head.payload.args)):
                        at = reply.take_rows(plan, data, at, end, wanted=wanted)
                        if reply.error is not None:
                            continue
                        if reply.rows_bytes >= reply.part_bytes and not head.payload.limit:
                            self._outcomes.part_came(head)
                    if data.startswith(plan.end, at):  # as nearly all do
                        at += len(plan.end)
                        self._outcomes.succeeded(head, plan.usual_tag)
                        continue
                    if data.startswith(SUSPENDED_IDLE, at) and reply.may_suspend(head):
                        at += len(SUSPENDED_IDLE)
                        self._outcomes.succeeded(head, b"")
                        continue
                    if head.lease is not None:
                        if data.startswith(plan.end_within, at):
                            at += len(plan.end_within)
                            self._outcomes.succeeded(head, plan.usual_tag, in_transaction=True)
                            continue
                        if data.startswith(SUSPENDED_WITHIN, at) and reply.may_suspend(head):
                            at += len(SUSPENDED_WITHIN)
                            self._outcomes.succeeded(head, b"", in_transaction=True)
                            continue
            elif type(head) is Group:
                at = head.take_usual(data, at, end)
            if end - at < 5:
                break
            kind, length = pgwire.header(data, at)
            if not 4 <= length <= _LONG and (not 4 <= length <= _LONGEST or kind not in _MAY_BE_LONG):
                raise Doubt(f"{chr(kind)!r} came with a length of {length}")
            stop = at + 1 + length
            if stop > end:
                break
            self._take(head, kind, data[at:stop])
            at = stop
        return at

    def _take(self, head: Unit | None, kind: int, message: bytes) -> None:
        """Take in one message, by the grammar of what it answers."""
        body = message[5:]
        if kind in _ANY_TIME:
            self._session.pass_on(message)
            self.heard_of_settings |= kind == pgwire.PARAMETER_STATUS
        elif kind == pgwire.ERROR and _is_fatal(fields := pgwire.error_fields(body)):
            if "R" in fields:  # PostgreSQL's own word; a pooler's is no goodbye of PostgreSQL
                self.goodbye = fields
        elif head is None:
            raise Doubt(f"{chr(kind)!r} came, and nothing had been asked")
        elif isinstance(head, Describing):
            if head.take(kind, body):
                self._outcomes.described(head)
        elif isinstance(head, Group):
            if head.take(kind, message):
                self._outcomes.group_ended(head)
            elif head.paced and (more := head.next_message()):
                self._outcomes.go_on_with(head, more)
        elif self._reply.take(head, kind, body):
            self._outcomes.ended(head)


def _is_fatal(error: dict[str, str]) -> bool:
    return error.get("V", error.get("S")) in ("FATAL", "PANIC")
