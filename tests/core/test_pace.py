"""What all statements suffer together is told from what one suffers alone."""

from __future__ import annotations

import pytest

from pgactor.core.pace import MOST, Pace
from pgactor.core.statement import LEAST_SECONDS, Statement


def run(pace: Pace, statement: Statement, seconds: float, times: int) -> float:
    """The statement takes so long, so often; what it would take at its best, by the last."""
    counted = 0.0
    for _ in range(times):
        counted = pace.at_best(seconds, statement)
    return counted


def test_on_an_idle_machine_a_statement_counts_as_it_is() -> None:
    pace = Pace()
    assert run(pace, Statement("select 1"), 0.003, 100) == pytest.approx(0.003, rel=0.05)


def test_where_all_statements_take_longer_none_of_them_is_slow() -> None:
    pace, statements = Pace(), [Statement("select 1"), Statement("select 2")]
    for statement in statements:
        run(pace, statement, 100e-6, 10)
    for _ in range(200):
        counted = [pace.at_best(2e-3, statement) for statement in statements]
    assert 15 < pace.slowdown < 21
    assert max(counted) < 0.2e-3


def test_when_the_machine_is_idle_again_they_count_as_before() -> None:
    pace, statement = Pace(), Statement("select 1")
    run(pace, statement, 100e-6, 10)
    run(pace, statement, 2e-3, 200)
    assert run(pace, statement, 100e-6, 200) == pytest.approx(100e-6, rel=0.1)
    assert pace.slowdown == pytest.approx(1.0, abs=0.05)


def test_one_that_is_slow_by_its_argument_at_times_does_not_move_the_pace() -> None:
    pace, quick, moody = Pace(), Statement("select 1"), Statement("select f($1)")
    run(pace, moody, 100e-6, 1)
    for _ in range(100):
        run(pace, quick, 100e-6, 20)
        assert pace.at_best(0.05, moody) > 0.045


def test_no_more_than_so_great_a_slowdown_is_believed() -> None:
    pace, statement = Pace(), Statement("select 1")
    run(pace, statement, 100e-6, 1)
    run(pace, statement, 3600.0, 1000)
    assert pace.slowdown == MOST


def test_nothing_is_quicker_than_the_shortest_statement() -> None:
    pace, statement = Pace(), Statement("select 1")
    run(pace, statement, 0.001, 1)
    run(pace, statement, 0.0, 1)
    assert statement.best == LEAST_SECONDS
