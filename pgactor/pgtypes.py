"""asyncpg's own classes of values (Range, BitString, Point, ...) <-> the parts that they are made of.

asyncpg is imported when the first such value is met, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from .extcodes import ExtCode


class PgType(NamedTuple):
    """A class, what takes a value of it apart, and what puts it together again."""

    cls: type
    parts: Callable[[Any], Sequence[object]]
    whole: Callable[..., object]


@cache
def pg_types() -> dict[ExtCode, PgType]:
    """All such classes."""
    import asyncpg

    def path(is_closed: bool, *points: Sequence[float]) -> asyncpg.Path:
        return asyncpg.Path(*points, is_closed=is_closed)

    return {
        ExtCode.RANGE: PgType(asyncpg.Range, _bounds, _range),
        ExtCode.BIT_STRING: PgType(
            asyncpg.BitString,
            lambda bits: (len(bits), bytes(bits.bytes) if len(bits) else b""),
            lambda size, data: asyncpg.BitString.frombytes(data, size),
        ),
        ExtCode.POINT: PgType(asyncpg.Point, tuple, asyncpg.Point),
        ExtCode.BOX: PgType(asyncpg.Box, tuple, asyncpg.Box),
        ExtCode.LINE: PgType(asyncpg.Line, tuple, asyncpg.Line),
        ExtCode.LINE_SEGMENT: PgType(asyncpg.LineSegment, tuple, asyncpg.LineSegment),
        ExtCode.POLYGON: PgType(asyncpg.Polygon, tuple, asyncpg.Polygon),
        ExtCode.PATH: PgType(asyncpg.Path, lambda value: (value.is_closed, *value), path),
        ExtCode.CIRCLE: PgType(asyncpg.Circle, tuple, asyncpg.Circle),
    }


def record_class() -> type:
    """asyncpg.Record."""
    import asyncpg

    return asyncpg.Record


def _bounds(value: Any) -> Sequence[object]:
    return () if value.isempty else (value.lower, value.upper, value.lower_inc, value.upper_inc)


def _range(*bounds: Any) -> object:
    import asyncpg

    if not bounds:
        return asyncpg.Range(empty=True)
    lower, upper, lower_inc, upper_inc = bounds
    return asyncpg.Range(lower, upper, lower_inc=lower_inc, upper_inc=upper_inc)
