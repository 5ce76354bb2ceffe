"""Who may enter the statement lane."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pgactor.actors.group import Group
from pgactor.actors.lane import MAX_GROUP, Lane
from pgactor.actors.pgwire import Field
from pgactor.actors.shapes import ShapeTable
from pgactor.config import Settings
from pgactor.config.connect import ConnectSettings
from pgactor.config.pool import PoolSettings
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.statement import REMEMBERED_LENGTH
from pgactor.messages import Batch, Execute, ExecuteMany, Fetch, FetchMany
from pgactor.messages.unions import StatementRequest
from tests.client.virtual import run

from .scripts import INET, INT4, INT8, spoken

WORKER = Worker(1, now=0.0)
SQL = "select a from t where b = $1"


class Bench:
    """A lane, and what it counts."""

    def __init__(self, *, size: int = 100, command_timeout: float | None = None, **pool: Any) -> None:
        connect = ConnectSettings(statement_cache_size=size, command_timeout=command_timeout)
        self.counters: dict[str, int] = {}
        self.lane = Lane(Settings(connect=connect, pool=PoolSettings(**pool)), ShapeTable(), self.counters)

    def admit(self, message: StatementRequest) -> Request:
        sql = message.statements[0][0] if isinstance(message, Batch) else message.sql
        request = Request(WORKER, 1, Kind.STATEMENT, 0.0, self.lane.statements.get(sql), message)
        self.lane.admit(request)
        return request

    def describe(self, sql: str, types: tuple[int, ...] = (INT4,), *columns: int) -> bool:
        statement = self.lane.statements.get(sql)
        fields = tuple(Field("a", kind) for kind in columns or (INT4,))
        return self.lane.described(statement, statement.plan, types, fields)


def fetch(sql: str = SQL, *args: Any, limit: int = 0) -> Fetch:
    return Fetch(1, 7, None, sql, list(args), limit)


def test_a_statement_enters_and_is_bound_once_it_is_described() -> None:
    async def story() -> None:
        bench = Bench()
        first = bench.admit(fetch(SQL, 1))
        assert first.work == (first.statement.plan, None)  # type: ignore[union-attr]
        assert bench.describe(SQL)
        plan, message = bench.admit(fetch(SQL, 1, limit=5)).work
        assert plan is first.work[0]
        assert list(spoken(message)) == ["bind pgactor_1", "execute 5", "sync"]
        plan, message = bench.admit(Execute(1, 7, None, SQL, [1])).work
        assert list(spoken(message)) == ["bind pgactor_1", "execute 0", "sync"]
        assert bench.counters == {}

    run(story())


@pytest.mark.parametrize(
    "sql",
    [
        "set work_mem = '1MB'",
        "select 1; select 2",
        "select set_config('a', 'b', false)",
        "create table x (a int)",
        "",
        "select '\0'",
        "select 1 -- " + "x" * REMEMBERED_LENGTH,
    ],
    ids=lambda sql: sql[:20],
)
def test_a_text_that_may_leave_something_or_is_too_long_does_not_enter(sql: str) -> None:
    async def story() -> None:
        bench = Bench()
        assert bench.admit(fetch(sql)).work is None
        assert bench.counters == {"in_session_text": 1}

    run(story())


@pytest.mark.parametrize(
    ("given", "why_not"),
    [
        ({"statement_lane": "off"}, "off"),
        ({"size": 0}, "prepare_never"),
        ({"reset_every_statement": True}, "reset"),
    ],
)
def test_settings_may_keep_all_out(given: dict[str, Any], why_not: str) -> None:
    async def story() -> None:
        bench = Bench(**given)
        assert bench.admit(fetch(SQL, 1)).work is None
        assert bench.admit(Batch(1, 7, None, [(SQL, [1])])).work is None
        assert bench.counters == {f"in_session_{why_not}": 2}

    run(story())


def test_arguments_of_other_types_do_not_enter() -> None:
    async def story() -> None:
        bench = Bench()
        bench.admit(fetch(SQL, 1))
        bench.describe(SQL)
        for args in (["1"], [], [1, 2], [None, None]):
            assert bench.admit(fetch(SQL, *args)).work is None
        assert bench.counters == {"in_session_arguments": 4}
        assert bench.admit(fetch(SQL, None)).work is not None

    run(story())


def test_types_that_are_not_quick_do_not_enter() -> None:
    async def story() -> None:
        bench = Bench()
        bench.admit(fetch(SQL, 1))
        assert bench.describe(SQL, (INET,))
        assert bench.admit(fetch(SQL, 1)).work is None
        assert bench.counters == {"in_session_types": 1}
        assert bench.lane.wanted == set(), "PostgreSQL's own types are known"

    run(story())


def test_types_that_nothing_is_known_of_are_asked_for_once_and_their_statements_tried_again() -> None:
    async def story() -> None:
        bench = Bench()
        bench.admit(fetch(SQL, 1))
        assert bench.describe(SQL, (INT4,), 70000, 70001)
        assert bench.lane.wanted == {70000, 70001}
        assert bench.admit(fetch(SQL, 1)).work is None
        bench.lane.learn([70000, 70001], [(70000, "mood", "e", 0)])  # the other one was dropped
        assert bench.lane.wanted == set()
        plan, message = bench.admit(fetch(SQL, 1)).work
        assert (plan.name, message) == (b"pgactor_2", None)
        assert bench.describe(SQL, (INT4,), 70000, 70001)
        assert plan.why_not == "types"
        assert bench.lane.wanted == set(), "nothing is found of that one"

    run(story())


def test_another_description_makes_a_new_plan_under_a_new_name() -> None:
    async def story() -> None:
        bench = Bench()
        old = bench.admit(fetch(SQL, 1)).work[0]
        statement = bench.lane.statements.get(SQL)
        assert bench.describe(SQL)
        assert bench.describe(SQL), "another backend sees the same"
        assert not bench.describe(SQL, (INT8,)), "and a third one something else"
        assert statement.plan is not old
        assert statement.plan.name == b"pgactor_2"
        assert not bench.lane.described(statement, old, (INT4,), (Field("a", INT4),)), "the old plan is over"

    run(story())


def test_a_statement_that_is_refused_stays_so() -> None:
    async def story() -> None:
        bench = Bench()
        request = bench.admit(fetch(SQL, 1))
        assert request.statement is not None
        bench.lane.refuse(request.statement, "text")
        assert bench.admit(fetch(SQL, 1)).work is None
        bench.lane.refuse(bench.lane.statements.get("select 2"), "text")
        assert bench.admit(fetch("select 2")).work is None
        assert bench.counters == {"in_session_text": 2}

    run(story())


def test_when_the_lane_is_switched_off_nobody_enters(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench()
        with caplog.at_level(logging.WARNING):
            bench.lane.switch_off("encoding", "no UTF-8")
        assert bench.admit(fetch(SQL, 1)).work is None
        assert bench.counters == {"in_session_encoding": 1}
        assert caplog.messages == ["the statement lane is switched off: no UTF-8"]

    run(story())


def test_several_statements_enter_as_a_group() -> None:
    async def story() -> None:
        bench = Bench()
        for message in (
            Batch(1, 7, None, [(SQL, [1]), ("select 2", [])]),
            Batch(1, 7, None, [(SQL, [1])], atomic=False),
            ExecuteMany(1, 7, None, SQL, [[1], [2]]),
        ):
            assert type(bench.admit(message).work) is Group
        assert bench.counters == {}

    run(story())


@pytest.mark.parametrize(
    ("message", "why_not"),
    [
        (Batch(1, 7, None, [("set x.y = 1", [])]), "text"),
        (Batch(1, 7, None, [(SQL, [1]), ("set x.y = 1", [])]), "text"),
        (ExecuteMany(1, 7, None, SQL, []), "many"),
        (ExecuteMany(1, 7, None, SQL, [[1]] * (MAX_GROUP + 1)), "many"),
        (Batch(1, 7, None, [(f"select {number}", []) for number in range(51)]), "many"),
        (FetchMany(1, 7, None, SQL, [[1]]), "many"),
    ],
    ids=range(6),
)
def test_groups_that_do_not_enter(message: StatementRequest, why_not: str) -> None:
    async def story() -> None:
        bench = Bench()
        assert bench.admit(message).work is None
        assert bench.counters == {f"in_session_{why_not}": 1}

    run(story())


def test_what_the_settings_say_of_the_session_holds_here_too() -> None:
    async def story() -> None:
        assert Bench(size=10_000).lane.size == 4096
        assert Bench(size=7).lane.size == 7
        assert Bench(command_timeout=3.0).lane.command_timeout == 3.0
        assert Bench().lane.command_timeout == 0.0

    run(story())
