"""What a statement's text tells of what it may leave in the session.

A list of what is allowed, not of what is forbidden: a statement that begins with one of a few verbs, is alone, makes
no table of its result and calls no function that is known to touch the session leaves nothing behind. Every other one
is followed by a reset. A doubt counts against the statement, since a needless reset costs little. What a function of
the user's own hides cannot be seen here: `reset_every_statement` is for databases that have such.
"""

from __future__ import annotations

import re
from functools import lru_cache

REMEMBERED_LENGTH = 8192
"""How long a text may be whose judgement is remembered, and which is kept alive by that."""

_BEGINS_WELL = re.compile(
    r"(?:\s|--[^\n\r]*|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/|\()*+"  # white space, comments (not nested), parentheses
    r"(?:select|table|values|with|insert|update|delete|merge)\b",
    re.IGNORECASE,
)
_INTO = re.compile(r"\binto\b", re.IGNORECASE)
_WRITES_INTO = re.compile(
    # `insert` may also be a column's name, before SELECT's own INTO, which matters if the table is temporary
    r"\b(?:insert|merge)\s+into\s++(?!(?:temp|temporary|local|global)\b|\"?pg_temp)[\w\"]",
    re.IGNORECASE,
)
_TOUCHES_SESSION = re.compile(
    r"set_config|advisory_(?:un)?lock|setseed|dblink|pg_replication_origin|pg_export_snapshot"
    r"|pg_backup|pg_start_backup|_to_xml|u&\s*\"",
    re.IGNORECASE,
)


def leaves_nothing(sql: str) -> bool:
    """Whether the text is one statement that is known to leave nothing in the session it ran in."""
    return _remembered(sql) if len(sql) <= REMEMBERED_LENGTH else _leaves_nothing(sql)


def _leaves_nothing(sql: str) -> bool:
    if not _BEGINS_WELL.match(sql):
        return False
    if ";" in sql.rstrip().removesuffix(";"):
        return False
    if len(_INTO.findall(sql)) != len(_WRITES_INTO.findall(sql)):
        return False
    return not _TOUCHES_SESSION.search(sql)


_remembered = lru_cache(4096)(_leaves_nothing)
