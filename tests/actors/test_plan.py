"""How a statement is run in the statement lane."""

from __future__ import annotations

import struct
from decimal import Decimal

import msgspec
import pytest

from pgactor.actors.pgwire import Field
from pgactor.actors.plan import NotQuick, Plan
from pgactor.actors.quicktypes import QuickTypes
from pgactor.actors.shapes import ShapeTable

from .scripts import IDLE, INET, INT4, INT8, NUMERIC, TEXT, number, row, split, spoken, tag

VOID = 2278


def plan(verb: str = "select", types: tuple[int, ...] = (), *columns: int) -> Plan:
    made = Plan(b"name")
    fields = tuple(Field(name, kind) for name, kind in zip("abcd", columns, strict=False))
    made.describe(verb, types, fields, QuickTypes(), ShapeTable())
    return made


def test_a_plan_begins_as_a_name() -> None:
    made = Plan(b"name")
    assert not made.described
    assert not made.has_rows
    assert not made.may_end_with(b"SELECT 1")
    assert repr(made) == "<Plan name>"


def test_a_bind_message_has_the_arguments_the_formats_and_the_limit() -> None:
    made = plan("select", (INT4, NUMERIC, TEXT), INT8, NUMERIC)
    args = [7, Decimal("1.5"), "x"]
    said = made.bind(args, 0)
    assert list(spoken(said)) == ["bind name", "execute 0", "sync"]
    (_, body), *_ = split(said)
    assert body == (
        b"\0name\0"
        + struct.pack(">HHHH", 3, 1, 0, 1)  # a numeric travels as text
        + struct.pack(">HIiI3sI1s", 3, 4, 7, 3, b"1.5", 1, b"x")
        + struct.pack(">HHH", 2, 1, 0)
    )
    for limit in (1, 2, 1000):
        assert list(spoken(made.bind(args, limit))) == ["bind name", f"execute {limit}", "sync"]
    assert list(spoken(made.bind_one_of_many(args))) == ["bind name", "execute 0"]


@pytest.mark.parametrize("args", [[], [1, 2], ["1"], [1.0], [True], [2**31]], ids=repr)
def test_arguments_that_are_not_exactly_of_the_types_are_not_quick(args: list[object]) -> None:
    with pytest.raises(NotQuick):
        plan("select", (INT4,), INT4).bind(args, 0)


@pytest.mark.parametrize(
    ("types", "columns"), [((INET,), ()), ((), (INET,)), ((VOID,), ()), ((70000,), (INT4,))], ids=repr
)
def test_types_that_are_not_quick_are_not_for_this_lane(types: tuple[int, ...], columns: tuple[int, ...]) -> None:
    made = plan("select", types, *columns)
    assert made.described
    assert made.why_not == "types"


def test_a_plan_matches_its_own_description_only() -> None:
    made = plan("select", (INT4,), INT8)
    assert made.matches((INT4,), (Field("a", INT8),))
    assert not made.matches((INT8,), (Field("a", INT8),))
    assert not made.matches((INT4,), (Field("a", INT4),))
    assert not made.matches((INT4,), (Field("b", INT8),))
    assert not made.matches((INT4,), ())


@pytest.mark.parametrize(
    ("verb", "usual", "may", "may_not"),
    [
        ("select", "SELECT 1", ["SELECT 0", "SELECT 100"], ["INSERT 0 1", "SELECTS 1", "", "FETCH 1"]),
        ("table", "SELECT 1", ["SELECT 0"], ["UPDATE 1"]),
        ("values", "SELECT 1", ["SELECT 0"], ["UPDATE 1"]),
        ("insert", "INSERT 0 1", ["INSERT 0 0", "INSERT 0 9"], ["SELECT 1", "UPDATE 1"]),
        ("update", "UPDATE 1", ["UPDATE 0"], ["DELETE 1", "SELECT 1"]),
        ("delete", "DELETE 1", ["DELETE 0"], ["UPDATE 1"]),
        ("merge", "MERGE 1", ["MERGE 0"], ["INSERT 0 1"]),
        ("with", "SELECT 1", ["SELECT 0", "INSERT 0 1", "UPDATE 1", "DELETE 1", "MERGE 1"], ["COMMIT", "BEGIN"]),
        ("begin", "BEGIN", [], ["COMMIT", "SELECT 1"]),
        ("commit", "COMMIT", ["ROLLBACK"], ["BEGIN"]),
    ],
)
def test_a_statement_ends_with_its_own_verb(verb: str, usual: str, may: list[str], may_not: list[str]) -> None:
    made = plan(verb)
    assert made.usual_tag == usual.encode()
    assert made.end == tag(usual) + IDLE
    assert all(made.may_end_with(each.encode()) for each in [usual, *may])
    assert not any(made.may_end_with(each.encode()) for each in may_not)


@pytest.mark.parametrize(
    ("verb", "columns", "has_rows"),
    [
        ("select", (INT4,), True),
        ("select", (), True),  # rows without columns
        ("with", (), True),
        ("insert", (), False),
        ("insert", (INT4,), True),
        ("commit", (), False),
    ],
)
def test_whether_there_are_rows_is_told_by_the_columns_and_the_verb(
    verb: str, columns: tuple[int, ...], has_rows: bool
) -> None:
    made = plan(verb, (), *columns)
    assert made.has_rows == has_rows
    assert made.width == len(columns)


def test_rows_become_msgpack_of_the_plans_shape() -> None:
    made = plan("select", (), INT4)
    rows: list[bytes] = []
    data = number(5) + row(None) + tag("SELECT 2")
    assert made.rows(data, 0, len(data), rows) == len(number(5) + row(None))
    assert [msgspec.msgpack.decode(each) for each in rows] == [[5], [None]]
    assert [column.name for column in made.shape.columns] == ["a"]
