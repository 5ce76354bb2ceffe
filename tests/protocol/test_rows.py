from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgactor.errors import ProtocolError, UnsupportedType
from pgactor.rows import Column, ColumnKind, Record, RowDecoder, RowEncoder, kind_of, record_class

ODD: Any = object()
"""What nobody can take for a value."""


def record_of(*names: str) -> type[Record]:
    return record_class(names, (ColumnKind.ANY,) * len(names))


ROW = record_of("id", "name")((1, "x"))
TWINS = record_of("a", "b", "a")((1, 2, 3))


def shape(*kinds: ColumnKind) -> tuple[Column, ...]:
    return tuple(Column(f"c{at}", kind, kind.value) for at, kind in enumerate(kinds))


def crossed(columns: tuple[Column, ...], rows: list[tuple[Any, ...]]) -> list[Record]:
    return RowDecoder(columns).decode(RowEncoder(columns).encode(rows))


# -- Record ----------------------------------------------------------------------------------------------------


def test_a_record_is_read_by_position_name_and_slice() -> None:
    assert (ROW[0], ROW[-1], ROW["name"], ROW[True]) == (1, "x", "x", "x")
    assert ROW[0:1] == (1,)
    assert type(ROW[0:1]) is tuple
    assert (list(ROW), len(ROW)) == ([1, "x"], 2)
    assert ROW.get("name") == "x"
    assert ROW.get("no") is None
    assert ROW.get("no", 5) == 5


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("no", KeyError("no")),
        (None, KeyError(None)),
        (1.5, KeyError(1.5)),
        ([], KeyError([])),
        (2, IndexError("record index out of range")),
        (-3, IndexError("record index out of range")),
    ],
    ids=repr,
)
def test_a_missing_key_is_an_error_that_names_it(key: Any, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        ROW[key]
    assert caught.value.args == error.args


def test_a_slice_of_names_is_an_error_of_type() -> None:
    with pytest.raises(TypeError, match="slice indices"):
        ROW["id":"name"]


def test_in_asks_for_names_not_for_values() -> None:
    assert "id" in ROW
    assert "x" not in ROW
    assert 1 not in ROW
    assert [] not in ROW
    assert ROW.get([]) is None  # type: ignore[arg-type]


def test_keys_values_and_items_are_iterators() -> None:
    for get, expected in (
        (ROW.keys, ["id", "name"]),
        (ROW.values, [1, "x"]),
        (ROW.items, [("id", 1), ("name", "x")]),
    ):
        found = get()
        assert iter(found) is found
        assert list(found) == expected
    assert dict(ROW) == {**ROW} == {"id": 1, "name": "x"}


def test_of_columns_of_the_same_name_the_last_one_is_found() -> None:
    assert TWINS["a"] == 3
    assert list(TWINS.keys()) == ["a", "b", "a"]
    assert list(TWINS.items()) == [("a", 1), ("b", 2), ("a", 3)]
    assert dict(TWINS) == {"a": 3, "b": 2}
    assert repr(TWINS) == "<Record a=1 b=2 a=3>"


def test_a_record_compares_and_hashes_as_a_tuple() -> None:
    assert ROW == (1, "x")
    assert record_of("other", "names")((1, "x")) == ROW
    assert cast("object", [1, "x"]) != ROW
    assert ROW < (2,)
    assert hash(ROW) == hash((1, "x"))


def test_a_record_shows_its_names_and_values() -> None:
    assert repr(ROW) == str(ROW) == "<Record id=1 name='x'>"
    assert repr(record_of()(())) == "<Record>"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, *(lambda r, p=p: pickle.loads(pickle.dumps(r, p)) for p in range(6))]
)
def test_a_record_can_be_copied_and_pickled(copied: Callable[[Record], Record]) -> None:
    for record in (ROW, TWINS, record_of()(())):
        twin = copied(record)
        assert type(twin) is type(record)
        assert repr(twin) == repr(record)


def test_a_class_is_made_once_for_the_same_columns() -> None:
    assert record_of("id", "name") is type(ROW)
    assert not hasattr(ROW, "__dict__")


# -- columns ---------------------------------------------------------------------------------------------------


def test_a_column_crosses_as_an_array() -> None:
    column = Column("id", ColumnKind.INT, "int8")
    data = msgspec.msgpack.encode(column)
    assert msgspec.msgpack.decode(data) == ["id", "int", "int8"]
    assert msgspec.msgpack.decode(data, type=Column) == column


def test_a_type_that_is_not_known_is_packed_value_by_value() -> None:
    assert kind_of(23) is ColumnKind.INT
    assert kind_of(1266) is ColumnKind.ANY  # timetz
    assert kind_of(1007) is ColumnKind.ANY  # int4[]
    assert kind_of(123456) is ColumnKind.ANY


# -- rows ------------------------------------------------------------------------------------------------------

TIMES = st.times().map(lambda v: v.replace(fold=0))
VALUES: dict[ColumnKind, st.SearchStrategy[Any]] = {
    ColumnKind.ANY: st.lists(st.none() | st.text() | st.uuids()) | st.integers() | TIMES,
    ColumnKind.BOOL: st.booleans(),
    ColumnKind.INT: st.integers(-(1 << 63), (1 << 64) - 1),
    ColumnKind.FLOAT: st.floats(),
    ColumnKind.STR: st.text(),
    ColumnKind.BYTES: st.binary(),
    ColumnKind.DECIMAL: st.decimals(allow_nan=False) | st.just(Decimal("NaN")),
    ColumnKind.DATE: st.dates(),
    ColumnKind.TIME: TIMES,
    ColumnKind.DATETIME: (st.datetimes() | st.datetimes(timezones=st.just(UTC))).map(lambda v: v.replace(fold=0)),
    ColumnKind.TIMEDELTA: st.timedeltas(),
    ColumnKind.UUID: st.uuids(),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[Column, ...], list[tuple[Any, ...]]]:
    kinds = draw(st.lists(st.sampled_from(ColumnKind), max_size=20))
    return shape(*kinds), draw(st.lists(st.tuples(*(st.none() | VALUES[kind] for kind in kinds)), max_size=4))


@given(tables())
def test_rows_of_any_shape_come_back_the_same(table: tuple[tuple[Column, ...], list[tuple[Any, ...]]]) -> None:
    columns, rows = table
    got = crossed(columns, rows)
    assert [[(type(v), repr(v)) for v in row] for row in got] == [[(type(v), repr(v)) for v in row] for row in rows]
    names, kinds = tuple(column.name for column in columns), tuple(column.kind for column in columns)
    assert all(type(row) is record_class(names, kinds) for row in got)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ColumnKind.DECIMAL, Decimal("1.10")),
        (ColumnKind.DECIMAL, Decimal("NaN")),
        (ColumnKind.DECIMAL, Decimal("-Infinity")),
        (ColumnKind.DECIMAL, Decimal("1E+100")),
        (ColumnKind.DATE, date.max),
        (ColumnKind.TIME, time.max),
        (ColumnKind.DATETIME, datetime.min),
        (ColumnKind.DATETIME, datetime.max),
        (ColumnKind.DATETIME, datetime(1, 1, 1, tzinfo=UTC)),
        (ColumnKind.DATETIME, datetime.max.replace(tzinfo=UTC)),
        (ColumnKind.TIMEDELTA, timedelta.min),
        (ColumnKind.TIMEDELTA, timedelta.max),
        (ColumnKind.UUID, UUID(int=0)),
        (ColumnKind.ANY, time(1, tzinfo=timezone(timedelta(seconds=3)))),
        (ColumnKind.ANY, [(1, (2, None))]),
    ],
    ids=repr,
)
def test_values_at_the_edges_come_back_the_same(kind: ColumnKind, value: Any) -> None:
    ((got,),) = crossed(shape(kind), [(value,)])
    assert (type(got), repr(got)) == (type(value), repr(value))


@pytest.mark.parametrize("kinds", [[ColumnKind.INT], [ColumnKind.INT, ColumnKind.ANY]], ids=["typed", "mixed"])
@pytest.mark.parametrize("width", [0, 1, 15, 16, 17, 1600])
def test_rows_of_any_width_come_back(width: int, kinds: list[ColumnKind]) -> None:
    columns = shape(*(kinds * width)[:width])
    rows = [tuple(range(width)), (None,) * width]
    assert crossed(columns, rows) == rows
    assert crossed(columns, []) == []


@pytest.mark.parametrize(
    ("value", "type_name"),
    [(object(), "odd"), ([asyncpg.Range(ODD)], "odds")],
)
def test_a_value_that_cannot_cross_names_its_column(value: Any, type_name: str) -> None:
    columns = (Column("id", ColumnKind.INT, "int4"), Column("period", ColumnKind.ANY, type_name))
    with pytest.raises(UnsupportedType) as caught:
        RowEncoder(columns).encode([(1, None), (2, value)])
    assert str(caught.value) == (
        f'column "period" has type {type_name}, which does not cross to workers; cast it, e.g. to text'
    )


def test_a_typed_column_that_holds_an_unknown_object_is_named() -> None:
    columns = (Column("id", ColumnKind.INT, "int4"), Column("data", ColumnKind.STR, "jsonb"))
    with pytest.raises(UnsupportedType, match='column "data" has type jsonb'):
        RowEncoder(columns).encode([(1, object())])


def test_a_value_that_is_not_of_its_columns_kind_names_row_and_column() -> None:
    columns = (Column("id", ColumnKind.INT, "int4"), Column("data", ColumnKind.STR, "jsonb"))
    data = RowEncoder(columns).encode([(1, "x"), (2, {"a": 1})])
    with pytest.raises(
        ProtocolError, match=r'^row 1, column "data" \(jsonb\): Expected `str \| null`, got `object`$'
    ):
        RowDecoder(columns).decode(data)


def test_what_no_column_is_to_blame_for_is_raised_as_it_is() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        RowEncoder(()).encode([5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "data", [b"", b"\xc0", b"\x91\x92\x01\x02", b"\x91\x91\xd4\x63\x00", b"\x91\x91" + b"\x91" * 5000 + b"\xc0"]
)
def test_what_is_not_rows_is_a_clean_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="the rows of this result cannot be decoded"):
        RowDecoder(shape(ColumnKind.ANY)).decode(data)


@given(st.sampled_from(ColumnKind), st.binary(max_size=30))
def test_whatever_the_bytes_are_only_a_clean_error_comes_out(kind: ColumnKind, data: bytes) -> None:
    for prefix in (b"", b"\x91\x91"):
        with suppress(ProtocolError):
            RowDecoder(shape(kind)).decode(prefix + data)


def test_the_rows_may_lie_within_a_larger_message() -> None:
    columns = shape(ColumnKind.INT)
    message = msgspec.msgpack.encode([msgspec.Raw(RowEncoder(columns).encode([(1,), (None,)]))])
    (raw,) = msgspec.msgpack.decode(message, type=list[msgspec.Raw])
    assert RowDecoder(columns).decode(raw) == [(1,), (None,)]
