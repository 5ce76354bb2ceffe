"""What begins, ends or concerns a transaction on a lease, in the statement lane: BEGIN, SAVEPOINT, COMMIT ...

It is parsed and run in one go, without a name: there is nothing to describe, a COMMIT can never meet a name that
PostgreSQL has lost, and the names of savepoints do not crowd out the statements that are prepared.
"""

from __future__ import annotations

import re

from ..core.statement import Statement
from . import pgwire
from .plan import Plan

_VERBS = ("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release")
_FIRST_WORD = re.compile(r"\s*+([a-z]++)", re.IGNORECASE | re.ASCII)
_RUN = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0" + pgwire.EXECUTE_ALL + pgwire.SYNC
"""Bind what was parsed, with no arguments and no formats; Execute, Sync."""


_PLANS = {verb: Plan.of_words(verb) for verb in _VERBS}


def transaction_words(statement: Statement) -> tuple[Plan, bytes] | None:
    """What the pipeline needs to run a text that `keeps_clean`; None: it is none of these, as SET LOCAL is none,
    which changes what the statements after it mean."""
    sql = statement.sql
    found = _FIRST_WORD.match(sql)
    plan = None if found is None else _PLANS.get(found[1].lower())
    if plan is None or "\0" in sql:
        return None
    return plan, pgwire.parse(b"", sql) + _RUN
