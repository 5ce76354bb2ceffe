"""What one backend has prepared, and what is being described there.

A statement is prepared and described on a backend before it first runs there; all who need it meanwhile wait for the
same description. The backend keeps so many statements as the lane allows, and forgets the one described first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.request import Request
from ..core.statement import Statement
from .describing import Describing
from .group import Group
from .lane import Lane
from .plan import Plan

MAX_ATTEMPTS = 4
"""How often a statement is described whose types change each time, before it is left to asyncpg."""

LOST = "26000"
_NEVER_RAN = {
    LOST: "FetchPreparedStatement",
    "0A000": "RevalidateCachedQuery",
}
"""PostgreSQL's functions that refuse a prepared statement before it runs, by the code they do it with."""

_SYNTAX_ERROR = "42601"


def is_refusal(error: dict[str, str]) -> bool:
    """Whether the error, if it came in the place of BindComplete, is that the prepared statement cannot be used."""
    code = error.get("C", "")
    inside = "W" in error  # of a function, evaluated while its call was planned: it tells where
    return code in _NEVER_RAN and _NEVER_RAN[code] == error.get("R") and not inside


class Prepared:
    """The prepared statements of one backend. known: by which plans, the first described first."""

    def __init__(self, lane: Lane, *, write: Callable[[Describing, bytes], None]) -> None:
        self.known: dict[Statement, Plan] = {}
        self._describing: dict[Statement, Describing] = {}
        self._left_over: list[bytes] = []  # names of plans that nobody uses any more
        self._lane = lane
        self._write = write  # sends a description

    def has_all_of(self, group: Group) -> bool:
        """Whether all of the group is prepared; if not, it waits until the rest is described."""
        missing = {each for each in group.needs() if each.plan is None or self.known.get(each) is not each.plan}
        if group.begin in missing and group.commit is not None:
            missing.add(group.commit)  # if PostgreSQL has lost it, the transaction could not be ended
        group.waits = len(missing)
        group.attempts += 1
        for statement in missing:
            self.describe(statement, group.request)
        return not missing

    def describe(
        self, statement: Statement, request: Request, *, attempt: int = 1, forget: tuple[bytes, ...] = ()
    ) -> None:
        """Have the statement described before the request runs; others that need the same wait for the same."""
        if unit := self._describing.get(statement):
            unit.requests.append(request)
            return
        plan: Plan = statement.plan or self._lane.new_plan(statement)
        before = self.known.pop(statement, plan)
        if before is not plan:
            forget += (before.name,)
        if self._left_over:
            forget += tuple(name for name in self._left_over if name != plan.name)
            self._left_over.clear()
        if len(self.known) >= self._lane.size:
            forget += (self.known.pop(next(iter(self.known))).name,)
        unit = self._describing[statement] = Describing(statement, plan, request, attempt=attempt)
        self._write(unit, unit.messages(forget=forget))

    def described(self, unit: Describing) -> tuple[list[Request], str]:
        """The description has ended, well or not. Returns who need wait no more, and why asyncpg is to run the
        statement, "" if it need not."""
        statement, plan = unit.statement, unit.plan
        del self._describing[statement]
        if unit.error is not None:
            if unit.error.get("C") != _SYNTAX_ERROR:
                return unit.requests, "unprepared"
            self._lane.refuse(statement, "text")  # several statements, too
            return unit.requests, "text"
        if self._lane.described(statement, plan, unit.types, unit.fields):
            self.known[statement] = plan
            return unit.requests, plan.why_not
        waiting = [request for request in unit.requests if not request.answered]
        if unit.attempt >= MAX_ATTEMPTS or not waiting:
            return unit.requests, "schema"
        self.describe(statement, waiting[0], attempt=unit.attempt + 1, forget=(plan.name,))
        self._describing[statement].requests[1:] = waiting[1:]
        return [request for request in unit.requests if request.answered], ""

    def refused(self, statements: Iterable[Statement]) -> None:
        """PostgreSQL has refused to run these as they are prepared."""
        for statement in statements:
            if plan := self.known.pop(statement, None):
                self._left_over.append(plan.name)

    def waiting(self) -> list[Request]:
        """Who wait for descriptions."""
        return [request for unit in self._describing.values() for request in unit.requests]
