"""Who may enter the statement lane, and why the others may not.

An optimisation that can be switched off: what does not enter, asyncpg runs in the session lane, with the same
result. A statement enters if its text is known to leave nothing in the session, if all its types are quick ones
(quicktypes.py) and if its arguments are exactly of these types.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..config import Settings
from ..core.pace import Pace
from ..core.request import Request
from ..core.statement import REMEMBERED_LENGTH, Statement, StatementTable
from ..messages import Batch, Execute, ExecuteMany, Fetch
from .batches import begin_transaction
from .group import Group
from .pgwire import Field
from .plan import NotQuick, Plan
from .quicktypes import QuickTypes
from .shapes import ShapeTable
from .transactionwords import transaction_words
from .turn import Turn, processors

log = logging.getLogger("pgactor.lane")

MAX_GROUP = 1000
"""How many statements travel together at most; asyncpg is quicker with more."""


class Lane:
    """What the statement lanes of all backends have in common.

    turn: of the event loop. pace: of all statements. statements: those that were met last. wanted: types that
    nothing is known of; whoever has a session at hand looks them up. size: how many statements one backend keeps
    prepared. command_timeout: for how many seconds one may run, as asyncpg has it; 0: no limit.
    """

    def __init__(
        self, settings: Settings, shapes: ShapeTable, counters: dict[str, int], pace: Pace | None = None
    ) -> None:
        self.turn = Turn(settings.awake_seconds if processors() > 1 else 0.0)
        self.pace = pace or Pace()
        self.statements = StatementTable()
        self.size = min(settings.connect.statement_cache_size, 4096)
        self.wanted: set[int] = set()
        self.command_timeout = settings.connect.command_timeout or 0.0
        self._off = "off" if settings.pool.statement_lane == "off" else "" if self.size else "prepare_never"
        if settings.pool.recycling == "verified" and not self._off:
            self._off = "verified"  # each statement travels alone, behind its connection's test
        self._short_seconds = settings.pool.pipeline_short_seconds
        self._resets = settings.pool.resets_always
        self._shapes = shapes
        self._counters = counters
        self._types = QuickTypes()
        self._undecided: list[Statement] = []
        self._names = 0

    def admit(self, request: Request) -> None:
        """Let the request in, with its Bind message where one can be made, or count why not."""
        message, statement = request.payload, request.statement
        assert statement is not None  # noqa: S101  # only leases have none
        if type(message) is Fetch or type(message) is Execute:
            why_not = self._off or self._why_not(statement)
            if not why_not:
                plan = statement.plan
                if not plan.described:
                    request.work = (plan, None)
                    return
                try:
                    limit = message.limit if type(message) is Fetch else 0
                    request.work = (plan, plan.bind(message.args, limit))
                    return
                except NotQuick:
                    why_not = "arguments"
        else:
            why_not = self._off or self._admit_group(request)
        if why_not:
            self.count(why_not)

    def admit_on_lease(self, request: Request) -> bool:
        """Let a lease's statement in, or count why not. What concerns the transaction may enter, too."""
        message, statement = request.payload, request.statement
        if (type(message) is not Fetch or message.statement is not None) and type(message) is not Execute:
            self.count("lease")
            return False
        assert statement is not None  # noqa: S101  # it has a text
        why_not = self._off
        if not why_not and not statement.leaves_nothing:
            request.work = None if message.args or type(message) is Fetch else transaction_words(statement)
            why_not = "" if request.work is not None else "text"
        elif not why_not and type(message) is Execute and not message.args and "$" in statement.sql:
            why_not = "text"  # PostgreSQL complains in other words of a parameter where no statement is prepared
        elif not why_not and not (why_not := self._why_not(statement)):
            plan = statement.plan
            try:
                limit = message.limit if type(message) is Fetch else 0
                request.work = (plan, plan.bind(message.args, limit) if plan.described else None)
            except NotQuick:
                why_not = "arguments"
        if why_not:
            self.count(why_not)
        return not why_not

    def _admit_group(self, request: Request) -> str:
        """Let a batch in, or a statement with many arguments; or tell why not."""
        message, statement = request.payload, request.statement
        if isinstance(message, Batch):
            statements = [(self.statements.get(sql), args) for sql, args in message.statements]
        elif isinstance(message, ExecuteMany) and statement is not None:
            statements = [(statement, args) for args in message.args]
        else:
            return "many"
        if not 0 < len(statements) <= MAX_GROUP:
            return "many"
        different = {each for each, _ in statements}
        if len(different) > self.size // 2:
            return "many"
        for each in different:
            if why_not := self._why_not(each):
                return why_not
        if isinstance(message, ExecuteMany):
            request.work = Group(request, statements, wants_results=False)
        elif message.atomic and message.isolation is None and not message.readonly:
            request.work = Group(request, statements)
        elif message.atomic:
            begin, commit = self.statements.get(begin_transaction(message)), self.statements.get("COMMIT")
            request.work = Group(request, statements, begin=begin, commit=commit)
        else:
            short = all(each.seconds is not None and each.seconds < self._short_seconds for each in different)
            request.work = Group(request, statements, synced=True, paced=not short)
        return ""

    def count(self, why_not: str) -> None:
        """A request goes to the session lane."""
        name = f"in_session_{why_not}"
        self._counters[name] = self._counters.get(name, 0) + 1

    def _why_not(self, statement: Statement) -> str:
        """Why the statement may not enter; "" if it may, and then it has a plan."""
        plan: Plan | None = statement.plan
        if plan is not None and statement.leaves_nothing:  # a batch's own BEGIN has one, too
            return plan.why_not
        if not statement.leaves_nothing or len(statement.sql) > REMEMBERED_LENGTH or "\0" in statement.sql:
            return "text"
        if self._resets:
            return "reset"
        self.new_plan(statement)
        return ""

    def new_plan(self, statement: Statement) -> Plan:
        """Begin a new plan of the statement."""
        self._names += 1
        plan = statement.plan = Plan(b"pgactor_%d" % self._names)
        return plan

    def described(self, statement: Statement, plan: Plan, types: tuple[int, ...], fields: tuple[Field, ...]) -> bool:
        """A backend tells how it sees the statement. Returns whether the plan is right for it; if not, the statement
        is to be described there anew, under the plan that it has then."""
        if plan is not statement.plan:
            return False
        if not plan.described:
            plan.describe(
                statement.verb or statement.sql.partition(" ")[0].lower(), types, fields, self._types, self._shapes
            )
            if plan.why_not and (unknown := self._types.unknown({*types, *(field.type for field in fields)})):
                self.wanted.update(unknown)
                self._undecided.append(statement)
            return True
        if plan.matches(types, fields):
            return True
        self.new_plan(statement)
        return False

    def refuse(self, statement: Statement, why_not: str) -> None:
        """The statement is not for this lane."""
        plan = statement.plan or self.new_plan(statement)
        plan.described = True
        plan.why_not = why_not

    def learn(self, asked: Iterable[int], types: Iterable[tuple[int, str, str, int]]) -> None:
        """What was found of the types asked for, as quicktypes.LOOKUP tells it."""
        for oid, name, kind, element in types:
            self._types.learn(oid, name, kind, element)
        for oid in self._types.unknown(asked):  # they are dropped already
            self._types.learn(oid, "?", "?", 0)
        self.wanted.difference_update(asked)
        for statement in self._undecided:
            statement.plan = None  # it has another try
        self._undecided.clear()

    def switch_off(self, why_not: str, words: str) -> None:
        """From now on, all goes to the session lane."""
        log.warning("the statement lane is switched off: %s", words)
        self._off = why_not
