"""A statement that is prepared and described on a backend, before it first runs there."""

from __future__ import annotations

from ..core.request import Request
from ..core.statement import Statement
from . import pgwire
from .pgwire import Field
from .plan import Plan
from .transcode import Doubt


class Describing:
    """Close, Parse, Describe and Sync on their way. requests: who waits for it. attempt: how often they have. status:
    PostgreSQL's at the end; only on a lease may it be another one than outside of a transaction."""

    def __init__(self, statement: Statement, plan: Plan, request: Request, *, attempt: int = 1) -> None:
        self.statement = statement
        self.plan = plan
        self.requests = [request]
        self.attempt = attempt
        self.error: dict[str, str] | None = None
        self.types: tuple[int, ...] = ()
        self.fields: tuple[Field, ...] = ()
        self.status = b""
        self._expected = [pgwire.PARSE_COMPLETE, pgwire.PARAMETER_DESCRIPTION]

    def messages(self, *, forget: tuple[bytes, ...] = ()) -> bytes:
        """What to send. forget: names that PostgreSQL need not keep any longer."""
        names = (*forget, self.plan.name)
        self._expected = [pgwire.CLOSE_COMPLETE] * len(names) + self._expected
        return b"".join(map(pgwire.close, names)) + pgwire.parse_and_describe(self.plan.name, self.statement.sql)

    def take(self, kind: int, body: bytes) -> bool:
        """A message of PostgreSQL's; whether it is the last. Raises `Doubt` for one that cannot be."""
        if kind == pgwire.ERROR and self.error is None:
            self.error = pgwire.error_fields(body)
            self._expected = [pgwire.READY]
            return False
        if not self._expected:  # the columns, or word that there are none
            if kind == pgwire.ROW_DESCRIPTION:
                self.fields = pgwire.fields(body)
            elif kind != pgwire.NO_DATA:
                raise Doubt(f"{chr(kind)!r} came in the place of a statement's columns")
            self._expected = [pgwire.READY]
            return False
        if kind != self._expected.pop(0):
            raise Doubt(f"{chr(kind)!r} came while a statement was described")
        if kind == pgwire.PARAMETER_DESCRIPTION:
            self.types = pgwire.parameter_types(body)
        elif kind == pgwire.READY:
            if body != b"I" and self.requests[0].lease is None:
                raise Doubt("a statement was described inside a transaction")
            self.status = body
            return True
        return False
