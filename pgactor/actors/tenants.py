"""What a lease's worker may ask of what the lease has open, and what each such request is to the brain."""

from __future__ import annotations

from typing import get_args

from ..core.statement import Statement, StatementTable
from ..messages import ExecuteMany, Fetch, FetchMany
from ..messages.listening import Listen, Unlisten
from ..messages.session import Describe, FetchCursor, MoveCursor, OpenCursor, Prepare, Reset, SetCodec

TenantRequest = Prepare | Describe | OpenCursor | FetchCursor | MoveCursor | SetCodec | Reset | Listen | Unlisten
"""Requests to what a lease has open; of a prepared statement there are `StatementRequest`s besides."""

_TENANTS = get_args(TenantRequest)
_OF_A_STATEMENT = (Fetch, ExecuteMany, FetchMany)

_FETCH = Statement("FETCH")
_MOVE = Statement("MOVE")
_CODEC = Statement("SET CODEC")
_RESET = Statement("RESET")
_LISTEN = Statement("LISTEN")


def is_tenants(message: object) -> bool:
    """Whether the message is to what a lease has open, so that its tenancy performs it."""
    return isinstance(message, _TENANTS) or (isinstance(message, _OF_A_STATEMENT) and message.statement is not None)


def statement_of(message: TenantRequest, known: StatementTable) -> tuple[Statement, bool]:
    """What runs, for the brain, and whether the session is clean after it, once no transaction is open any more."""
    match message:
        case Prepare(sql=sql):
            return known.get(sql), False
        case Describe(sql=sql):
            return known.get(sql), True
        case OpenCursor(sql=sql):
            statement = known.get(sql)
            return statement, statement.keeps_clean
        case FetchCursor():
            return _FETCH, True
        case MoveCursor():
            return _MOVE, True
        case SetCodec():
            return _CODEC, False
        case Reset():
            return _RESET, False
        case Listen() | Unlisten():
            return _LISTEN, False
