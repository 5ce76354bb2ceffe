"""The shapes that the supervisor knows."""

from __future__ import annotations

import msgspec

from pgactor import wire
from pgactor.actors.shapes import MAX_SHAPES, ShapeTable
from pgactor.messages import Rows
from pgactor.rows import Column, ColumnKind


def column(name: str, kind: ColumnKind = ColumnKind.INT) -> tuple[Column, ...]:
    return (Column(name, kind, "int8"),)


def test_the_same_columns_are_the_same_shape() -> None:
    table = ShapeTable()
    assert table.get(column("a")) is table.get(column("a"))


def test_other_columns_are_another_shape() -> None:
    table = ShapeTable()
    shapes = [
        table.get(column("a")),
        table.get(column("b")),
        table.get(column("a", ColumnKind.STR)),
        table.get(column("a") + column("b")),
        table.get(()),
    ]
    assert len({shape.number for shape in shapes}) == 5
    assert [len(shape.columns) for shape in shapes] == [1, 1, 1, 2, 0]


def test_a_shape_encodes_its_rows() -> None:
    shape = ShapeTable().get(column("a"))
    assert msgspec.msgpack.decode(shape.encode([(1,), (2,)])) == [[1], [2]]


def test_the_oldest_shape_is_forgotten_when_there_are_too_many() -> None:
    table = ShapeTable()
    shapes = [table.get(column(str(number))) for number in range(MAX_SHAPES + 1)]
    assert table.get(column("1")) is shapes[1]
    assert table.get(column("0")) is not shapes[0]


def test_a_number_is_never_used_again() -> None:
    table = ShapeTable()
    numbers = [table.get(column(str(number))).number for number in range(MAX_SHAPES + 10)]
    numbers += [table.get(column(str(number))).number for number in range(5)]
    assert len(set(numbers)) == len(numbers)


def test_a_shape_is_told_as_it_is_in_a_message() -> None:
    shape = ShapeTable().get(column("a"))
    for encoded, columns in ((shape.as_known, None), (shape.as_told, shape.columns)):
        message = Rows(5, shape.number, columns, msgspec.Raw(b"\x90"))
        assert encoded in wire.encode_message(message)
