"""Several statements of one request, which travel together: a batch, or one statement with many arguments.

All of it is written at once. An atomic batch, and one statement with many arguments, have a single Sync, which makes
them one transaction: after an error PostgreSQL skips to it, and rolls back. A batch with an isolation of its own is
`BEGIN`, the statements and a Sync, then `COMMIT` and a Sync: after an error the COMMIT rolls back, so it always ends
outside of a transaction. Statements that are to be independent have a Sync each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..core.request import Request
from ..core.statement import Statement
from . import pgwire
from .pgwire import BOUND, SYNC, command_complete
from .plan import Plan
from .transcode import Doubt

Args = Sequence[Any]


class Result:
    """What became of one statement: its rows, its tag, or its error's fields."""

    __slots__ = ("error", "never_ran", "plan", "rows", "tag")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows: list[bytes] = []
        self.tag = b""
        self.error: dict[str, str] | Exception | None = None
        self.never_ran = False


class _Step:
    """What PostgreSQL does next: run a statement, or come to a Sync (no plan). index: in the batch; None: not of
    it."""

    __slots__ = ("index", "plan", "usual")

    def __init__(self, plan: Plan | None, index: int | None) -> None:
        self.plan = plan
        self.index = index
        self.usual = b"" if plan is None or plan.has_rows else BOUND + command_complete(plan.usual_tag)


class Group:
    """The statements of one request, on their way.

    begin, commit: the statements around them, in a batch with an isolation of its own. synced: whether each has its
    own Sync. paced: whether each is sent only when the one before has ended, so that a timeout finds the rest unsent.
    wants_results: whether anybody asks what each came to. error: what failed all, with the index of the statement.
    waits: for how many descriptions, and attempts: how often it has; why_not: why, by one of them, asyncpg is to run
    it all.
    """

    def __init__(
        self,
        request: Request,
        statements: Sequence[tuple[Statement, Args]],
        *,
        begin: Statement | None = None,
        commit: Statement | None = None,
        synced: bool = False,
        paced: bool = False,
        wants_results: bool = True,
    ) -> None:
        self.request = request
        self.statements = statements
        self.begin = begin
        self.commit = commit
        self.synced = synced
        self.paced = paced
        self.wants_results = wants_results
        self.waits = 0
        self.attempts = 0
        self.why_not = ""
        self.again = False
        self._todo: Sequence[int] = range(len(statements))
        self.results: list[Result | None] = [None] * len(statements)
        self._later: deque[bytes] = deque()
        self._steps: list[_Step] = []
        self._at = 0
        self._result: Result | None = None  # of the step that has begun
        self.error: tuple[int | None, dict[str, str] | Exception] | None = None
        self.began = False
        self._outside = False  # BEGIN itself has failed, and there is no transaction
        self._begin_refused: dict[str, str] | None = None

    def needs(self) -> set[Statement]:
        """All statements that PostgreSQL is to have prepared."""
        found = {self.statements[index][0] for index in self._todo}
        return found | {each for each in (self.begin, self.commit) if each is not None}

    def obstacle(self) -> str:
        """Why, by what is known of its statements, asyncpg is to run it all; "" if nothing speaks against it.

        One is a column of dates in a transaction: there are dates that Python does not have. Here that would be found
        out when PostgreSQL has kept everything already; asyncpg finds it out in time to roll back.
        """
        plans: list[Plan] = [each.plan for each in self.needs()]
        if self.wants_results and not self.synced and any(plan.dated for plan in plans):
            return "dates"
        return next((plan.why_not for plan in plans if plan.why_not), "")

    @property
    def is_undone(self) -> bool:
        """Whether all of it has failed, and nothing is left of it."""
        return self.error is not None and not self.synced

    @property
    def code(self) -> str:
        """The error code of PostgreSQL by which all of it has failed; "": there is none."""
        failed = None if self.error is None else self.error[1]
        return failed.get("C", "") if isinstance(failed, dict) else ""

    def message(self) -> bytes:
        """What to send. Raises `NotQuick` for arguments that are not exactly of the expected types."""
        self._steps, self._at, self._result, self.error, self.began = [], 0, None, None, False
        self._outside, self._begin_refused = False, None
        self._later.clear()
        pieces: list[bytes] = []

        def add(statement: Statement, args: Args, index: int | None) -> None:
            plan: Plan = statement.plan
            pieces.append(plan.bind_one_of_many(args))
            self._steps.append(_Step(plan, index))

        def sync() -> None:
            pieces.append(SYNC)
            self._steps.append(_Step(None, None))

        if self.begin is not None:
            add(self.begin, (), None)
        for index in self._todo:
            add(*self.statements[index], index)
            if self.synced:
                sync()
                if self.paced:
                    self._later.append(b"".join(pieces))
                    pieces.clear()
        if self._later:
            return self._later.popleft()
        if not self.synced:
            sync()
        if self.commit is not None:
            add(self.commit, (), None)
            sync()
        return b"".join(pieces)

    def next_message(self) -> bytes:
        """What to send now that what was sent has come back; nothing, if it is not at a Sync or has been sent."""
        if self._later and self._steps[self._at - 1].plan is None and self._result is None:
            return self._later.popleft()
        return b""

    @property
    def index(self) -> int | None:
        """The statement that PostgreSQL works on; None: none of them."""
        return self._steps[self._at].index if self._at < len(self._steps) else None

    @property
    def may_have_happened(self) -> bool:
        """Whether, were the connection lost now, PostgreSQL may have kept some of it."""
        if not self.began or self.synced:
            return self.began
        return self._at >= len(self._steps) - (1 if self.commit is None else 2)

    # --- what PostgreSQL says -----------------------------------------------------------------------------

    def take_usual(self, data: bytes, at: int, end: int) -> int:
        """Take in what statements without rows nearly always end with; returns where that ends."""
        steps, count = self._steps, len(self._steps)
        while self._at < count and at < end and self._result is None:
            step = steps[self._at]
            if not step.usual or not data.startswith(step.usual, at):
                break
            at += len(step.usual)
            self.began = True
            if step.index is not None:
                assert step.plan is not None  # noqa: S101
                result = self.results[step.index] = Result(step.plan)
                result.tag = step.plan.usual_tag
            self._at += 1
        return at

    def take(self, kind: int, message: bytes) -> bool:
        """A message of PostgreSQL's; whether it is the last. Raises `Doubt` for one that cannot be."""
        if self._at >= len(self._steps):
            raise Doubt(f"{chr(kind)!r} came after the end of a batch")
        step = self._steps[self._at]
        if kind == pgwire.ERROR:
            self._fail(step, pgwire.error_fields(message[5:]))
        elif step.plan is None:
            return self._synced(kind, message)
        elif self._result is None:
            if kind != pgwire.BIND_COMPLETE:
                raise Doubt(f"{chr(kind)!r} came before a statement of a batch was bound")
            self.began = True
            self._result = Result(step.plan)
        elif kind == pgwire.DATA_ROW and step.plan.has_rows:
            self._take_row(self._result, message)
        elif kind == pgwire.COMMAND_COMPLETE:
            self._result.tag = message[5:-1]
            if not step.plan.may_end_with(self._result.tag):
                raise Doubt(f"{self._result.tag!r} is no answer to statement {step.index} of a batch")
            if step.index is not None:
                self.results[step.index] = self._result
            self._result = None
            self._at += 1
        else:
            raise Doubt(f"{chr(kind)!r} came in the middle of a batch")
        return False

    def _take_row(self, result: Result, message: bytes) -> None:
        if not self.wants_results or result.error is not None:
            return
        try:
            if result.plan.rows(message, 0, len(message), result.rows) != len(message):
                raise Doubt("a row that is none")
        except Doubt:
            raise
        except Exception as error:  # a value that Python does not have
            if not self.synced:
                raise Doubt(f"a value in a batch that cannot be: {error}") from error
            result.error = error

    def _fail(self, step: _Step, fields: dict[str, str]) -> None:
        refused = self._result is None
        if step.index is not None and step.plan is not None:
            result = self.results[step.index] = Result(step.plan)
            result.error = fields
            result.never_ran = refused
        if self._at == 0 and self.begin is not None:
            self._outside = True
            self._begin_refused = fields if refused else None
        if self.error is None and not self.synced:
            self.error = (step.index, fields)
        self._result = None
        while self._steps[self._at].plan is not None:  # PostgreSQL skips to the next Sync
            self._at += 1

    def _synced(self, kind: int, message: bytes) -> bool:
        if kind != pgwire.READY:
            raise Doubt(f"{chr(kind)!r} came at the end of a batch")
        self._at += 1
        last = self._at == len(self._steps)
        status = message[5:6]
        outside = last or self.commit is None or self._outside
        if status != (b"I" if outside else b"T" if self.error is None else b"E"):
            raise Doubt(f"a batch left its session in state {status!r}")
        return last

    # --- another try --------------------------------------------------------------------------------------

    def run_again(self, is_refusal: Callable[[dict[str, str]], bool]) -> set[Statement]:
        """Prepare for another try, once, of what PostgreSQL has refused to begin, as `is_refusal` tells of an error's
        fields. Returns the statements that are to be described anew; none: no other try.

        Where statements are not independent these are all of them: PostgreSQL has skipped those behind the refused
        one, and may have to refuse them as well (after a DEALLOCATE ALL all names are lost).
        """
        refused = [
            index
            for index, result in enumerate(self.results)
            if result is not None and result.never_ran and isinstance(result.error, dict) and is_refusal(result.error)
        ]
        begin = self._begin_refused is not None and is_refusal(self._begin_refused)
        if self.again or not (refused or begin):
            return set()
        self.again = True
        if not self.synced:
            return self.needs()
        self._todo = refused
        return {self.statements[index][0] for index in refused}
