"""The loss of a connection with statements on it: what is certain of them.

What was not written did not run. Where PostgreSQL has said goodbye in good order, nothing behind the first in flight
did, either, and its last word is how the first has ended. Of a connection that broke off, or was cut, nothing more is
known.
"""

from __future__ import annotations

from ..core.request import Request
from .connection import Connection
from .describing import Describing
from .failures import server_error
from .flight import Flight
from .group import Group
from .prepared import Prepared
from .reader import Reader
from .reply import BIND, ROWS, Reply
from .reports import Reports
from .session import Session
from .unit import Unit, request_of


class Loss:
    """The loss of one backend's connection."""

    def __init__(
        self,
        session: Session,
        connection: Connection,
        reader: Reader,
        reply: Reply,
        flight: Flight,
        prepared: Prepared,
        *,
        reports: Reports,
    ) -> None:
        self._session = session
        self._connection = connection
        self._reader = reader
        self._reply = reply
        self._flight = flight
        self._prepared = prepared
        self._reports = reports

    def tell(self) -> None:
        """Tell the first in flight its end, if that is certain: PostgreSQL said goodbye while it worked on it, and
        why."""
        goodbye, head = self._goodbye, self._flight.first
        if goodbye is None:
            return
        self._session.in_transaction_now = False  # that ended with the session
        if type(head) is Request and self._reply.awaited == ROWS and not head.answered:
            assert head.statement is not None  # noqa: S101  # only leases have none
            self._reports.failed(head, server_error(goodbye, head.statement.sql))
        elif type(head) is Group and head.began and not head.may_have_happened:
            head.error = (head.index, goodbye)
            self._reports.results(head.request, head)

    def never_ran(self) -> list[Request]:
        """The requests that PostgreSQL certainly did not begin.

        Those whose bytes were not written, those that waited for a description, and after an orderly goodbye all but
        the one that was bound already.
        """
        orderly = self._goodbye is not None
        units: list[Unit] = list(self._flight.units if orderly else self._flight.unsent)
        head = units[0] if units else None
        if orderly and (head.began if type(head) is Group else self._reply.awaited != BIND):
            units = units[1:]
        requests = [
            request_of(unit)
            for unit in units
            if not isinstance(unit, Describing) and not (isinstance(unit, Group) and unit.began)
        ]
        return list(dict.fromkeys(requests + self._prepared.waiting()))  # a group may wait for many

    @property
    def _goodbye(self) -> dict[str, str] | None:
        """PostgreSQL's last word; none of a connection that was cut is believed."""
        return None if self._connection.is_cut else self._reader.goodbye
