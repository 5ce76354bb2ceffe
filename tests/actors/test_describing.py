"""One description on its way. What it does to those who wait for it: test_pipeline.py."""

from __future__ import annotations

import pytest

from pgactor.actors.describing import Describing
from pgactor.actors.pgwire import Field
from pgactor.actors.plan import Plan
from pgactor.actors.transcode import Doubt
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.statement import Statement

from .scripts import CLOSED, IDLE, INT4, NO_DATA, NOTICE, PARSED, TEXT, error, gives, message, split, spoken, takes


def describing() -> Describing:
    statement = Statement("select 1")
    return Describing(statement, Plan(b"name"), Request(Worker(1, now=0.0), 1, Kind.STATEMENT, 0.0, statement))


def take(unit: Describing, data: bytes) -> list[bool]:
    return [unit.take(ord(kind), body) for kind, body in split(data)]


def test_it_closes_what_has_the_name_and_what_is_to_be_forgotten() -> None:
    unit = describing()
    said = unit.messages(forget=(b"a", b"b"))
    assert list(spoken(said)) == [
        *("close a", "close b", "close name", "parse name: select 1", "describe name", "sync")
    ]
    assert take(unit, CLOSED * 3 + PARSED + takes(INT4) + gives(TEXT) + IDLE) == [False] * 6 + [True]
    assert unit.types == (INT4,)
    assert unit.fields == (Field("a", TEXT),)
    assert unit.error is None


def test_a_statement_may_have_no_columns() -> None:
    unit = describing()
    unit.messages()
    assert take(unit, CLOSED + PARSED + takes() + NO_DATA + IDLE)[-1]
    assert unit.fields == ()


@pytest.mark.parametrize("before", [b"", CLOSED, CLOSED + PARSED, CLOSED + PARSED + takes() + gives(INT4)])
def test_an_error_may_come_at_any_place(before: bytes) -> None:
    unit = describing()
    unit.messages()
    assert take(unit, before + error("42P01") + IDLE)[-1]
    assert unit.error is not None
    assert unit.error["C"] == "42P01"


def test_anything_else_is_doubted() -> None:
    whole = [CLOSED, PARSED, takes(), gives(INT4), IDLE]
    others = [CLOSED, PARSED, takes(), gives(INT4), IDLE, message("2"), message("D"), message("C"), NOTICE]
    for place, right in enumerate(whole):
        for other in others:
            if other == right:
                continue
            unit = describing()
            unit.messages()
            take(unit, b"".join(whole[:place]))
            with pytest.raises((Doubt, ValueError)):
                take(unit, other)


@pytest.mark.parametrize("status", [b"T", b"E", b"", b"II"])
def test_it_ends_outside_of_a_transaction(status: bytes) -> None:
    unit = describing()
    unit.messages()
    take(unit, CLOSED + PARSED + takes() + NO_DATA)
    with pytest.raises(Doubt):
        take(unit, message("Z", status))
