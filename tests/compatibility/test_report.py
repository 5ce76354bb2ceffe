"""docs/compatibility.md tells what the tests show."""

from __future__ import annotations

from tests.compatibility import report
from tests.compatibility.deviations import DEVIATIONS
from tests.compatibility.rows import ROWS


def test_the_page_has_not_drifted() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.page(), "run python -m tests.compatibility.report"


def test_tests_and_deviations_belong_to_rows_that_there_are() -> None:
    assert set(report.sentences()) <= set(ROWS)
    assert set(DEVIATIONS) <= set(ROWS)


def test_what_is_said_to_differ_is_shown() -> None:
    assert set(DEVIATIONS) <= set(report.sentences())


def test_every_row_of_the_pool_is_shown() -> None:
    assert {f"A{number}" for number in range(1, 20)} <= set(report.sentences())


def test_a_name_is_a_sentence_unless_there_is_a_docstring() -> None:
    assert report._sentence(None, "waiters_are_served") == "Waiters are served"
    assert report._sentence("Waiters are served.\n\nMore.", "x") == "Waiters are served"
