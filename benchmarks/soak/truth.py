"""The tables, and what is in them: pure functions of an id, so that whoever gets a row knows what must be in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import asyncpg

ROWS = 1000
COUNTERS = 48
SIDE_ROWS = 40
TAKEN = 10
"""How many keys of soak_u are taken."""

QUICK = "id, small, big, real, num, txt, maybe, flag, day, at, plain, ints, texts, raw, u, js"
"""The columns whose types the statement lane knows."""

SCHEMA = """
drop table if exists soak_t, soak_w, soak_c, soak_s, soak_u, soak_r cascade;
drop sequence if exists soak_raised;
create table soak_t (id int primary key, small int2 not null, big int8 not null, real float8 not null,
    num numeric(24, 4) not null, txt text not null, maybe text, flag bool, day date not null, at timestamptz not null,
    plain timestamp not null, ints int[] not null, texts text[] not null, raw bytea not null, u uuid not null,
    js jsonb not null, nums numeric[] not null, span interval not null);
create table soak_w (tag int8 not null, worker int not null, note text not null);
create index on soak_w (tag);
create table soak_c (id int primary key, n int8 not null);
create table soak_s (id int primary key, v int not null, note text not null);
create table soak_u (id int primary key, tag text not null);
create table soak_r (tag int8 not null, ref int not null references soak_t deferrable initially deferred);
create sequence soak_raised;
create or replace function soak_raise(tag text, code text) returns int language plpgsql as $$
    begin
        perform nextval('soak_raised');
        raise exception using errcode = code, message = tag;
    end $$;
create or replace function soak_slow(tag text, seconds float8) returns text language plpgsql as $$
    begin
        perform pg_sleep(seconds);
        return tag;
    end $$
"""

DROP = """
drop table if exists soak_t, soak_w, soak_c, soak_s, soak_u, soak_r cascade;
drop sequence if exists soak_raised;
drop function if exists soak_raise(text, text);
drop function if exists soak_slow(text, float8)
"""


@cache
def truth(key: int) -> dict[str, Any]:
    """The row of soak_t with that key as its id."""
    digest = hashlib.sha256(b"%d" % key).digest()
    big = int.from_bytes(digest[:8], signed=True)
    word = digest.hex()
    return {
        "id": key,
        "small": key * 7919 % 65536 - 32768,
        "big": big,
        "real": big / 1000003,
        "num": Decimal(big).scaleb(-4),
        "txt": "" if key % 7 == 0 else word * 50 if key % 97 == 0 else "é漢 " + (word * 4)[: key % 200],
        "maybe": None if key % 3 == 0 else word[: key % 40],
        "flag": None if key % 5 == 0 else key % 2 == 0,
        "day": date(1900, 1, 1) + timedelta(days=key * 41),
        "at": datetime(1955, 1, 1, tzinfo=UTC) + timedelta(hours=key * 977, microseconds=key * 31337 % 1_000_000),
        "plain": datetime(1970, 1, 1) + timedelta(minutes=key * 7717, microseconds=key),
        "ints": [key, None, -key, key * 1000][: key % 5],
        "texts": ["", 'a "quoted", {word}', word[:5], None][: key % 5],
        "raw": digest[: key % 33],
        "u": UUID(bytes=digest[:16]),
        "js": f'{{"id": {key}}}',
        "nums": [Decimal(key).scaleb(-2), None][: key % 3],
        "span": timedelta(days=key, seconds=key * 7, microseconds=key * 3),
    }


@cache
def values(key: int, columns: str) -> tuple[Any, ...]:
    """Of these columns of that row."""
    row = truth(key)
    return tuple(row.values()) if columns == "*" else tuple(row[name] for name in columns.split(", "))


def note_of(tag: int) -> str:
    """What stands beside the tag in soak_w."""
    return f"{tag * 2654435761 % 1000003} {'x' * (tag % 61)}"


def side_of(key: int) -> dict[str, Any]:
    """The row of soak_s with that key as its id; its columns come, go and change their types."""
    return {"id": key, "v": key * 13 % 1000, "note": f"side {key}", "extra": 7}


def same(got: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whether values are equal and of the same types."""
    return tuple(got) == tuple(expected) and [type(value) for value in got] == [type(value) for value in expected]


async def fill(dsn: str) -> None:
    """Make the tables anew."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        await connection.copy_records_to_table("soak_t", records=[values(key, "*") for key in range(1, ROWS + 1)])
        await connection.executemany("insert into soak_c values ($1, 0)", [(key,) for key in range(COUNTERS)])
        side = [(row["id"], row["v"], row["note"]) for row in map(side_of, range(1, SIDE_ROWS + 1))]
        await connection.executemany("insert into soak_s values ($1, $2, $3)", side)
        await connection.executemany("insert into soak_u values ($1, 'first')", [(key,) for key in range(TAKEN)])
        await connection.execute("analyze soak_t; analyze soak_c; analyze soak_s")
    finally:
        await connection.close()


async def drop(dsn: str) -> None:
    """Leave nothing behind."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(DROP)
    finally:
        await connection.close()
