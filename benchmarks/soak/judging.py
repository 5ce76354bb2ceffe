"""What an error promises of the request that it answers, and which errors there may be at all.

Backends are terminated, so a statement may end in OutcomeUnknown or in PostgreSQL's own word on that. Whoever asked
with a short timeout may hear of that; whoever did not must not, and nobody may hear that PostgreSQL has cancelled a
statement, for nobody asked it to cancel one that is still waited for.
"""

from __future__ import annotations

import asyncio

import asyncpg

from pgactor import errors

from .ledger import Outcome


def judge(
    error: BaseException,
    *,
    expected: type[BaseException] | None,
    hasty: bool,
    cancelled: bool,
    leased: bool,
    chaos: bool = False,
) -> Outcome:
    """What the error promises. expected: the error that the statement must end in. hasty: it had a short timeout.
    cancelled: the asker withdrew it. leased: it used a lease, which may be lost. chaos:
    PostgreSQL and the supervisor are restarted, the pool is flooded, and the asker itself stopped, at times."""
    match error:
        case asyncio.CancelledError() if cancelled:
            return Outcome.UNKNOWN
        case errors.RequestTimeout() if hasty:
            return Outcome.UNKNOWN
        case errors.OutcomeUnknown() if "did not answer" not in str(error):
            return Outcome.UNKNOWN
        case asyncpg.AdminShutdownError():
            return Outcome.UNKNOWN
        case errors.PoolTimeout() | errors.SupervisorUnavailable() if hasty:
            return Outcome.NO
        case errors.LeaseError() if leased:
            return Outcome.NO
        case errors.OutcomeUnknown() | errors.RequestTimeout() if chaos:
            return Outcome.UNKNOWN
        case errors.PoolTimeout() | errors.SupervisorUnavailable() | errors.DatabaseUnavailable() if chaos:
            return Outcome.NO
        case errors.QueueFull() | errors.PoolClosing() if chaos:
            return Outcome.NO
    return Outcome.NO if expected is not None and type(error) is expected else Outcome.WRONG


def in_words(error: BaseException) -> str:
    """The error, for a report."""
    return f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}: {str(error)[:600]}"
