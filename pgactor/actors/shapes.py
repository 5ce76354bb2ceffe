"""Shapes: the columns of results. A shape has a number, and each worker is told its columns once."""

from __future__ import annotations

import msgspec

from ..rows import Column, RowEncoder

MAX_SHAPES = 4096
"""How many shapes are kept. A number is never used again."""


class Shape:
    """The columns of a result, and how its rows are encoded.

    as_known, as_told: the fields `shape` and `columns` of a Rows message, encoded, for a worker that knows the shape
    and for one that is to be told.
    """

    __slots__ = ("as_known", "as_told", "columns", "encode", "number")

    def __init__(self, number: int, columns: tuple[Column, ...]) -> None:
        self.number = number
        self.columns = list(columns)
        self.encode = RowEncoder(columns).encode
        self.as_known = msgspec.msgpack.encode(number) + b"\xc0"
        self.as_told = msgspec.msgpack.encode(number) + msgspec.msgpack.encode(self.columns)


class ShapeTable:
    """All shapes that are known now."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[Column, ...], Shape] = {}
        self._numbers = 0

    def get(self, columns: tuple[Column, ...]) -> Shape:
        """The shape of these columns, a new one if need be."""
        shape = self._shapes.get(columns)
        if shape is None:
            if len(self._shapes) >= MAX_SHAPES:
                del self._shapes[next(iter(self._shapes))]
            self._numbers += 1
            shape = self._shapes[columns] = Shape(self._numbers, columns)
        return shape
