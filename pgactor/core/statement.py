"""What a statement's text tells of what it may leave in the session.

A list of what is allowed, not of what is forbidden: a statement that begins with one of a few verbs, is alone, makes
no table of its result and calls no function that is known to touch the session leaves nothing behind. Every other one
is followed by a reset. A doubt counts against the statement, since a needless reset costs little. What a function of
the user's own hides cannot be seen here: `reset_every_statement` is for databases that have such.

On a lease there are transactions besides: what begins, ends or concerns nothing but a transaction leaves nothing once
that has ended. Whether it has ended PostgreSQL tells.

Beside it stands what is learned of a statement as it runs: how long it keeps a backend. Only one that is known to be
short may stand behind another's.
"""

from __future__ import annotations

import heapq
import re
from typing import Any

REMEMBERED_LENGTH = 8192
"""How long a text may be of which something is remembered, and which is kept alive by that."""

REMEMBERED_STATEMENTS = 4096
"""Of how many statements something is remembered."""

LEAST_SECONDS = 20e-6
"""What the shortest statement counts for: PostgreSQL's own work for a look-up."""

_BEGINS_WELL = re.compile(
    r"(?:\s|--[^\n\r]*|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/|\()*+"  # white space, comments (not nested), parentheses
    r"(select|table|values|with|insert|update|delete|merge)\b",
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
    r"|pg_backup|pg_start_backup|_to_xml|u&\s*\"|pg_settings|\bts_stat\b|\bts_rewrite\b|_replication_slot",
    re.IGNORECASE,
)
_OF_A_TRANSACTION = re.compile(
    # ASCII: to PostgreSQL any other character is a part of a name. `local` and `transaction` may be names, too, if a
    # dot follows: so what comes after them must begin with a letter.
    r"""
    (?:\s|--[^\n\r]*|/\*(?:[^*/]|\*(?!/)|/(?!\*))*+\*/)*+                 # white space, comments (not nested)
    (?:
        (?:begin(?:\s++(?:work|transaction))?+|start\s++transaction|set\s++transaction)
            (?:[\s,]++(?:isolation|level|serializable|repeatable|read|committed|uncommitted|only|write|not|deferrable))*+
      | set\s++local\s++["a-z_][^;]*+
      | (?:commit|end|rollback|abort)(?:\s++(?:work|transaction))?+(?:\s++and(?:\s++no)?+\s++chain)?+
      | (?:rollback(?:\s++(?:work|transaction))?+\s++to(?:\s++savepoint)?+|savepoint|release(?:\s++savepoint)?+)
            \s++(?:[a-z_]\w*+|"[^";]++")
    )
    \s*+;?+\s*+
    """,
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)

_MAY_LOCK = re.compile(r"\b(?:insert|update|delete|merge|share)\b|advisory", re.IGNORECASE)


class Statement:
    """A statement's text, and what is known of it.

    verb: its first word, where that is one of the few that may leave nothing; else "".
    leaves_nothing: as the function of that name tells. keeps_clean: so it does but, at most, for an open transaction.
    may_lock: it writes, or locks rows: it may have to wait for another session, and nothing may wait for it. seconds:
    how long it keeps a backend, a moving average; None until it has run. best: the least it took, slowly forgotten.
    plan: how the statement lane runs it, which the brain carries and does not read. runs, took, longest: how often it
    ran, for how many seconds together and at most.
    """

    __slots__ = (
        "best",
        "keeps_clean",
        "leaves_nothing",
        "longest",
        "may_lock",
        "plan",
        "runs",
        "seconds",
        "sql",
        "took",
        "verb",
    )

    def __init__(self, sql: str) -> None:
        begins_well = _BEGINS_WELL.match(sql)
        self.sql = sql
        self.verb = begins_well[1].lower() if begins_well else ""
        self.leaves_nothing = leaves_nothing(sql)
        self.keeps_clean = self.leaves_nothing or concerns_a_transaction(sql)
        self.may_lock = _MAY_LOCK.search(sql) is not None
        self.seconds: float | None = None
        self.best: float | None = None
        self.plan: Any = None
        self.runs = 0
        self.took = 0.0
        self.longest = 0.0

    def __repr__(self) -> str:
        return f"<Statement {self.sql[:40]!r}>"

    @property
    def cost(self) -> float:
        """For how many seconds it is expected to keep a backend."""
        return LEAST_SECONDS if self.seconds is None or self.seconds < LEAST_SECONDS else self.seconds

    def ran(self, seconds: float) -> None:
        """It kept a backend for so long, whatever else made it slow."""
        self.runs += 1
        self.took += seconds
        if seconds > self.longest:
            self.longest = seconds

    def learn(self, seconds: float, took: float = 0.0) -> None:
        """It kept a backend for so long; took: as the clock has it, and not at best. The average rises quickly and
        falls slowly: of a statement that is slow at times the slow times count, for those behind it would wait."""
        self.runs += 1  # as `ran` does
        self.took += took
        if took > self.longest:
            self.longest = took
        known = self.seconds
        if known is None:
            self.seconds = seconds
        else:
            self.seconds = known + (seconds - known) * (0.25 if seconds > known else 0.03)


class StatementTable:
    """The statements that were met last."""

    def __init__(self) -> None:
        self._young: dict[str, Statement] = {}
        self._old: dict[str, Statement] = {}

    def slowest(self, number: int) -> list[Statement]:
        """Those that took the most time together, and those that did at once: so many of each, at most."""
        known = [each for each in {**self._old, **self._young}.values() if each.runs]
        most = heapq.nlargest(number, known, key=lambda each: each.took)
        longest = heapq.nlargest(number, known, key=lambda each: each.longest)
        return list(dict.fromkeys(most + longest))

    def get(self, sql: str) -> Statement:
        """What is known of the text. A very long one is met for the first time each time."""
        statement = self._young.get(sql)
        if statement is not None:
            return statement
        statement = self._old.get(sql) or Statement(sql)
        if len(sql) <= REMEMBERED_LENGTH:
            if len(self._young) >= REMEMBERED_STATEMENTS // 2:  # what nobody asked for since the last time is lost
                self._old, self._young = self._young, {}
            self._young[sql] = statement
        return statement


def leaves_nothing(sql: str) -> bool:
    """Whether the text is one statement that is known to leave nothing in the session it ran in."""
    if not _BEGINS_WELL.match(sql):
        return False
    if ";" in sql.rstrip().removesuffix(";"):
        return False
    if len(_INTO.findall(sql)) != len(_WRITES_INTO.findall(sql)):
        return False
    return not _TOUCHES_SESSION.search(sql)


def concerns_a_transaction(sql: str) -> bool:
    """Whether the text is one statement that is known to begin, end or concern a transaction and nothing else: when
    none is open, it has left nothing in the session."""
    return _OF_A_TRANSACTION.fullmatch(sql) is not None
