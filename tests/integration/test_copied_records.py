"""copy_records_to_table: the worker encodes the records, where that is what asyncpg in the supervisor would do."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from pgactor import LeaseLost
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import until


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=2)


@pytest.fixture(params=["sync-ipc"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which client, on which road; the others are at tests/compatibility/test_copy.py."""
    return str(request.param)


@pytest.fixture
def lease(open_client: OpenClient, supervisor: WatchedSupervisor, kind: str) -> Iterator[Any]:
    with open_client(supervisor, kind).acquire() as lease:
        yield lease


def copy_of(lease: Any, db: Driven, records: list[Any], columns: str, found: list[Any] | None = None) -> str:
    """How PostgreSQL sees the COPY of these records to a new table. found: what it holds in the end; None: they."""
    lease.execute(f"drop table if exists copied; create table copied ({columns})")
    shown: list[str] = []
    sql = "select query from pg_stat_activity where query like 'COPY%copied%' and state = 'active'"

    def look() -> bool:
        shown.extend(row["query"] for row in db.fetch(sql))
        return bool(shown)

    def source() -> Iterator[Any]:
        yield from records
        until(look)

    assert lease.copy_records_to_table("copied", records=source()) == f"COPY {len(records)}"
    assert [tuple(row) for row in lease.fetch("select * from copied")] == (found or records)
    return shown[0].lower()


def test_values_of_postgresqls_own_types_are_encoded_by_the_worker(lease: Any, db: Driven) -> None:
    utc = dt.UTC
    record = (
        *(1, 2**40, 1.5, True, "text", b"bytes", Decimal("12.50"), UUID(int=5), dt.date(2024, 2, 29), None),
        *(dt.datetime(2024, 1, 1, 12), dt.datetime(2024, 1, 1, tzinfo=utc), dt.timedelta(days=2), '{"a": 1}'),
    )
    columns = """
        a int, b bigint, c float8, d bool, e text, f bytea, g numeric, h uuid, i date, j int, k timestamp,
        l timestamptz, m interval, n jsonb
    """
    assert "'binary'" in copy_of(lease, db, [record] * 3000, columns), "as data, which the supervisor does not read"


def test_what_asyncpg_needs_the_database_for_is_encoded_by_the_supervisor(lease: Any, db: Driven) -> None:
    lease.execute("drop type if exists mood cascade; create type mood as enum ('happy', 'sad')")
    assert "'binary'" not in copy_of(lease, db, [(1, "happy"), (2, "sad"), (3, None)], "a int, b mood")
    assert "'binary'" not in copy_of(lease, db, [([1, 2],), ([],)], "a int[]")


def test_text_is_right_whatever_the_sessions_encoding(lease: Any, db: Driven) -> None:
    lease.execute("set client_encoding to latin1")
    copy_of(lease, db, [("é",)], "a text")
    lease.execute("reset client_encoding")
    assert db.fetchval("select ascii(a) from copied") == ord("é")


def test_a_table_that_has_changed_meanwhile_is_looked_at_again(lease: Any) -> None:
    for kind, value in (("int4", 5), ("float4", 2.5), ("int4", 6)):
        lease.execute(f"drop table if exists copied; create table copied (a {kind})")
        lease.copy_records_to_table("copied", records=[(value,)])
        assert lease.fetchval("select a from copied") == value
    lease.execute("alter table copied alter a type float4")
    lease.copy_records_to_table("copied", records=[(0.5,)])
    assert sorted(row["a"] for row in lease.fetch("select a from copied")) == [0.5, 6]


def test_a_value_that_does_not_fit_undoes_all_and_leaves_the_lease_usable(lease: Any) -> None:
    lease.execute("drop table if exists copied; create table copied (a int, b text)")
    good = [(number, "x" * 100) for number in range(5000)]
    with pytest.raises(TypeError, match=r"^'str' object cannot be interpreted as an integer$"):
        lease.copy_records_to_table("copied", records=[*good, ("six", "x")])
    with pytest.raises(TypeError):
        lease.copy_records_to_table("copied", records=[("six", "x")])
    assert lease.copy_records_to_table("copied", records=good) == "COPY 5000"
    assert lease.copy_records_to_table("copied", records=[]) == "COPY 0"
    assert lease.fetchval("select count(*) from copied") == 5000


def again(sort: str) -> Iterator[Any]:
    """Records of one and the same object, filled anew each time."""
    row: list[Any] = [0, None]
    buffer = bytearray(8)
    for number in range(5000):
        row[0] = number
        buffer[:] = number.to_bytes(8)
        row[1] = {"text": f"row {number}", "bytea": buffer, "int[]": [number]}[sort]
        yield (number, buffer) if sort == "bytea" else row


async def each_of(records: Iterator[Any]) -> AsyncIterator[Any]:
    for record in records:
        yield record


@pytest.mark.parametrize("kind", ["sync-ipc", "async-ipc"])
@pytest.mark.parametrize("is_async", [False, True], ids=["iterator", "async iterator"])
def test_a_source_may_fill_the_same_record_again(lease: Any, is_async: bool) -> None:
    for sort, read, options in (
        ("text", "b = 'row ' || a", {}),
        ("bytea", "b = int8send(a)", {}),
        ("int[]", "b = array[a]", {}),
        ("text", "b = 'row ' || a", {"where": "true"}),
    ):
        lease.execute(f"drop table if exists copied; create table copied (a int, b {sort})")
        records = each_of(again(sort)) if is_async else again(sort)
        assert lease.copy_records_to_table("copied", records=records, **options) == "COPY 5000"
        assert lease.fetchval(f"select count(distinct a) from copied where {read}") == 5000, (sort, options)


@pytest.mark.parametrize("kind", ["sync-ipc", "async-ipc"])
@pytest.mark.parametrize("error", [TimeoutError, LookupError, LeaseLost], ids=lambda error: error.__name__)
def test_what_a_source_raises_is_raised_as_it_is(lease: Any, error: type[Exception]) -> None:
    def records(count: int) -> Iterator[Any]:
        yield from ((number,) for number in range(count))
        raise error("the source's own")

    lease.execute("drop table if exists copied; create table copied (a int)")
    for count in (0, 1, 5000):
        for source in (records(count), each_of(records(count))):
            with pytest.raises(error, match=r"^the source's own$"):
                lease.copy_records_to_table("copied", records=source)
    assert lease.fetchval("select count(*) from copied") == 0


def test_the_time_is_looked_at_with_each_record(lease: Any) -> None:
    taken = 0

    def slow() -> Iterator[Any]:
        nonlocal taken
        for taken in range(1, 101):
            time.sleep(0.1)
            yield (taken,)

    lease.execute("drop table if exists copied; create table copied (a int)")
    with pytest.raises(TimeoutError):
        lease.copy_records_to_table("copied", records=slow(), timeout=0.25)
    assert taken <= 10, "and not with each batch of sixteen"
    assert lease.fetchval("select count(*) from copied") == 0


def test_a_schema_without_a_name_is_none(lease: Any) -> None:
    lease.execute("drop table if exists copied; create table copied (a int)")
    assert lease.copy_records_to_table("copied", records=[(1,)], schema_name="") == "COPY 1"


def test_codecs_that_a_hook_of_the_supervisor_has_set_are_heeded(
    start: Any, open_client: OpenClient, db: Driven
) -> None:
    supervisor = start(max_size=1, toml='[hooks]\ninit = "tests.hooks:set_text_codec"\n')
    with open_client(supervisor, "sync-ipc").acquire() as lease:
        assert "'binary'" not in copy_of(lease, db, [(1, "x")], "a int, b text", found=[(1, "<x>")])
