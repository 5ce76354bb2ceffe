"""The quick set is compared with asyncpg and with PostgreSQL's own pg_type."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from pgactor.actors import quicktypes
from pgactor.actors.quicktypes import LOOKUP, QuickType, QuickTypes, Wire
from pgactor.rows import ColumnKind, kind_of
from tests.integration.test_values_against_asyncpg import columns_of

SCALARS = [
    *(
        "bool",
        "bytea",
        "name",
        "int8",
        "int2",
        "int4",
        "text",
        "oid",
        "json",
        "float4",
        "float8",
        "bpchar",
        "varchar",
    ),
    *("date", "timestamp", "timestamptz", "uuid", "jsonb"),
]
QUICK = [*SCALARS, *(f"{name}[]" for name in SCALARS), "numeric", '"char"', "void"]
NOT_QUICK = [
    *(
        "numeric[]",
        '"char"[]',
        "time",
        "timetz",
        "interval",
        "xml",
        "money",
        "inet",
        "cidr",
        "macaddr",
        "xid",
        "xid8",
    ),
    *("pg_lsn", "regclass", "tsvector", "point", "int4range", "int4multirange", "int2vector", "oidvector", "bit"),
    *("varbit", "refcursor", "record", "unknown"),
]


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def oid_of(connection: asyncpg.Connection[Any], name: str) -> int:
    oid: int = await connection.fetchval("select $1::text::regtype::oid", name)
    return oid


async def learned(connection: asyncpg.Connection[Any], known: QuickTypes, *names: str) -> list[QuickType | None]:
    """What the table makes of these types after a look-up of those that it does not know."""
    oids = [await oid_of(connection, name) for name in names]
    for row in await connection.fetch(LOOKUP, known.unknown(oids)):
        known.learn(*row)
    return [known.get(oid) for oid in oids]


@pytest.mark.parametrize("name", QUICK)
async def test_a_quick_type_is_a_column_as_asyncpg_describes_it(
    connection: asyncpg.Connection[Any], name: str
) -> None:
    (column,) = await columns_of(connection, f"select null::{name} as v")
    kind = QuickTypes().get(await oid_of(connection, name))
    assert kind is not None
    assert (kind.name, kind.kind) == (column.type, column.kind)
    assert kind.format == (0 if name == "numeric" else 1)
    assert kind.argument == (name not in ('"char"', "void"))


@pytest.mark.parametrize("name", [f"{name}[]" for name in SCALARS])
async def test_an_array_knows_its_elements(connection: asyncpg.Connection[Any], name: str) -> None:
    known = QuickTypes()
    kind = known.get(await oid_of(connection, name))
    assert kind is not None
    assert kind.wire is Wire.ARRAY
    assert kind.element is known.get(await oid_of(connection, name[:-2]))


@pytest.mark.parametrize("name", NOT_QUICK)
async def test_other_types_of_postgresqls_own_are_not_quick_and_need_no_look_up(
    connection: asyncpg.Connection[Any], name: str
) -> None:
    known = QuickTypes()
    oid = await oid_of(connection, name)
    assert known.get(oid) is None
    assert known.unknown([oid]) == []


async def test_no_type_of_postgresqls_own_is_an_enum(connection: asyncpg.Connection[Any]) -> None:
    assert await connection.fetch("select oid from pg_type where oid < 16384 and typtype = 'e'") == []


@pytest.mark.parametrize("name", ["mood", "Mo od", "_mood", "x" * 63], ids=["plain", "quoted", "underscore", "long"])
async def test_an_enum_and_its_array_are_learned(connection: asyncpg.Connection[Any], name: str) -> None:
    await connection.execute(f"create type pg_temp.\"{name}\" as enum ('sad', 'happy')")
    known = QuickTypes()
    array, enum = await learned(connection, known, f'pg_temp."{name}"[]', f'pg_temp."{name}"')
    assert enum is not None
    assert array is not None
    assert (enum.wire, array.wire, array.element) == (Wire.TEXT, Wire.ARRAY, enum)
    columns = await columns_of(connection, f'select null::pg_temp."{name}", null::pg_temp."{name}"[]')
    assert [(each.type, each.kind) for each in columns] == [(enum.name, enum.kind), (array.name, array.kind)]
    assert enum.kind is array.kind is ColumnKind.ANY
    assert known.unknown([enum.oid, array.oid]) == []


async def test_an_array_brings_its_enum_along(connection: asyncpg.Connection[Any]) -> None:
    await connection.execute("create type pg_temp.mood as enum ('sad')")
    known = QuickTypes()
    (array,) = await learned(connection, known, "pg_temp.mood[]")
    assert array is not None
    assert array.element is known.get(await oid_of(connection, "pg_temp.mood"))


async def test_what_is_learned_again_stays_the_same(connection: asyncpg.Connection[Any]) -> None:
    await connection.execute("create type pg_temp.mood as enum ('sad')")
    known = QuickTypes()
    before = await learned(connection, known, "pg_temp.mood", "pg_temp.mood[]")
    for row in await connection.fetch(LOOKUP, [each.oid for each in before if each]):
        known.learn(*row)
    assert await learned(connection, known, "pg_temp.mood", "pg_temp.mood[]") == before


async def test_domains_composites_ranges_and_their_arrays_are_known_to_be_slow(
    connection: asyncpg.Connection[Any],
) -> None:
    await connection.execute(
        "create domain pg_temp.age as int; create type pg_temp.pair as (a int, b text);"
        "create type pg_temp.span as range (subtype = float8); create type pg_temp.mood as enum ('sad');"
        "create domain pg_temp.temper as pg_temp.mood; create type pg_temp.moods as range (subtype = pg_temp.mood)"
    )
    names = [
        f"pg_temp.{name}{suffix}" for name in ("age", "pair", "span", "temper", "moods") for suffix in ("", "[]")
    ]
    known = QuickTypes()
    oids = [await oid_of(connection, name) for name in names]
    assert known.unknown([*oids, *oids, 23, 869]) == oids
    assert await learned(connection, known, *names) == [None] * len(names)
    assert known.unknown(oids) == []


def test_a_fixed_size_type_with_elements_is_no_array() -> None:
    known = QuickTypes()
    known.learn(20000, "mood", "e", 0)
    known.learn(20001, "like_point", "b", 0)  # LOOKUP gives no element to what is not the array of its element
    assert known.get(20001) is None


def test_a_type_of_postgresqls_own_cannot_be_taught_otherwise() -> None:
    known = QuickTypes()
    known.learn(23, "int4", "e", 0)
    kind = known.get(23)
    assert kind is not None
    assert kind.wire is Wire.INT4


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quicktypes, "_MAX_LEARNED", 4)
    known = QuickTypes()
    for oid in range(20000, 20009):
        known.learn(oid, "mood", "e", 0)
    assert known.unknown(range(20000, 20009)) == list(range(20000, 20008))


def test_tables_share_postgresqls_own_types() -> None:
    assert QuickTypes().get(23) is QuickTypes().get(23)
    assert kind_of(23) is ColumnKind.INT
