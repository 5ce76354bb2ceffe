"""Large results of types that only asyncpg reads: they pass through the supervisor, which holds little of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pgactor import AsyncClient
from pgactor.errors import LeaseLost, MessageTooLarge, PgactorError, RequestTimeout
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor
from tests.supervising import until

ROWS = 100_000
SLOW = "select n, array[1.5, n::numeric] as numbers, repeat('x', 1000) as text from generate_series(1, $1::int) n"
"""An array of numerics is not for the statement lane. A row has about a kilobyte."""


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=3)


@pytest.fixture(params=["sync-ipc", "async-tcp"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which client, on which road."""
    return str(request.param)


@pytest.fixture
def client(open_client: OpenClient, supervisor: WatchedSupervisor, kind: str) -> Driven:
    return open_client(supervisor, kind)


@pytest.fixture(params=["one-shot", "lease", "transaction", "prepared"])
def fetch(client: Driven, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A way to fetch."""
    if request.param == "one-shot":
        yield client.fetch
        return
    with client.acquire() as lease:
        if request.param == "prepared":
            yield lambda sql, *args, **options: Driven(lease.prepare(sql), client.loop).fetch(*args, **options)
        elif request.param == "lease":
            yield lease.fetch
        else:
            transaction = lease.transaction()
            transaction.start()
            yield lease.fetch
            with suppress(LeaseLost):
                transaction.rollback()


def begin_peak(pid: int | None) -> None:
    """Have `peak_mb` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pid: int | None) -> float:
    """The most memory that a process has had."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM"))


@pytest.mark.parametrize("way", ["one-shot", "lease", "prepared"])
def test_a_large_result_for_a_slow_reader_stays_in_postgresql(
    supervisor: WatchedSupervisor, open_client: OpenClient, way: str
) -> None:
    reader, other = LoopThread(asyncio.new_event_loop), open_client(supervisor, "sync-ipc")
    go_on, counted = threading.Event(), threading.Event()

    async def fetch() -> int:
        async with AsyncClient(supervisor.ipc) as client:
            await client.fetch(SLOW, 3)
            counted.set()
            if way == "one-shot":
                return len(await client.fetch(SLOW, ROWS))
            async with client.acquire() as lease:
                if way == "lease":
                    return len(await lease.fetch(SLOW, ROWS))
                return len(await (await lease.prepare(SLOW)).fetch(ROWS))

    def waiting() -> str | None:
        sql = "select wait_event from pg_stat_activity where query like $1 and state = 'active' and pid <> $2"
        found: str | None = other.fetchval(sql, "select n, array[1.5%", other.fetchval("select pg_backend_pid()"))
        return found

    try:
        begin_peak(supervisor.pid)
        before = peak_mb(supervisor.pid)
        result = reader.start(fetch())
        assert counted.wait(20)
        until(lambda: waiting() is not None or result.done())
        reader.loop.call_soon_threadsafe(go_on.wait, 20)
        until(lambda: waiting() == "ClientWrite")
        for number in range(100):
            assert other.fetchval("select $1::int", number) == number
        assert waiting() == "ClientWrite"
        go_on.set()
        assert result.result(30) == ROWS
        assert peak_mb(supervisor.pid) - before < 20
    finally:
        go_on.set()
        reader.close()


def test_it_is_the_same_result_as_asyncpgs(client: Driven, db: Driven, fetch: Any) -> None:
    sql = """
        select n, array[n::numeric / 7, null] as array, int4range(n, n + 5) as range, row(n, 'a', null) as record,
               inet '10.0.0.1' + n as address, case when n % 1000 = 0 then repeat('y', 300000) end as long
        from generate_series(1, 10000) n
    """
    assert [tuple(row) for row in fetch(sql)] == [tuple(row) for row in db.fetch(sql)]
    assert fetch("select array[1.5::numeric] as few")[0]["few"] == [Decimal("1.5")]


def test_an_error_in_the_midst_is_an_error_and_no_short_result(client: Driven, fetch: Any) -> None:
    sql = SLOW.replace("array[1.5,", "array[1 / ($2::int - n),")
    with pytest.raises(asyncpg.DivisionByZeroError, match=r"^division by zero$"):
        fetch(sql, ROWS, 5000)
    assert client.fetchval("select 1") == 1


def test_a_row_that_is_too_large_in_the_midst_is_an_error(client: Driven, fetch: Any) -> None:
    sql = "select array[n::numeric], repeat('x', case n when 5000 then 70 * 1024 * 1024 else 999 end) as text"
    with pytest.raises(MessageTooLarge):
        fetch(f"{sql} from generate_series(1, 6000) n")
    assert client.fetchval("select 1") == 1


def test_a_timeout_in_the_midst_ends_it(client: Driven, fetch: Any) -> None:
    sql = SLOW.replace("1.5,", "1.5, (case n when 5000 then pg_sleep(60)::text end)::numeric,")
    with pytest.raises((RequestTimeout, TimeoutError)):
        fetch(sql, 6000, timeout=0.7)
    assert client.fetchval("select 1") == 1


def test_a_connection_that_ends_in_the_midst_is_an_error(client: Driven, fetch: Any) -> None:
    sql = SLOW.replace("1.5,", "1.5, (case n when 5000 then pg_terminate_backend(pg_backend_pid()) end)::int,")
    with pytest.raises((PgactorError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        fetch(sql, 6000)
    until(lambda: client.fetchval("select 1") == 1)


def test_rows_of_a_write_and_what_cannot_be_in_a_transaction_work_as_ever(client: Driven, table: str) -> None:
    sql = (
        f"insert into {table} select n, repeat('x', 90) from generate_series(1, 10000) n returning array[id::numeric]"
    )
    assert len(client.fetch(sql)) == 10000
    assert client.fetchval(f"select count(*) from {table}") == 10000
    assert client.fetch(f"vacuum {table}") == []


async def test_who_goes_away_in_the_midst_leaves_the_connection_to_others(supervisor: WatchedSupervisor) -> None:
    async with AsyncClient(supervisor.ipc) as client:
        for _ in range(4):
            task = asyncio.ensure_future(client.fetch(SLOW, 10 * ROWS))
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.wait([task])
            assert len(await client.fetch(SLOW, 1000)) == 1000


def test_a_type_that_has_changed_since_a_statement_was_prepared_is_looked_up_anew(
    client: Driven, db: Driven, table: str
) -> None:
    sql, kind = f"select pair from {table}_pairs", f"{table}_pair"
    db.execute(f"create type {kind} as (a int); create table {table}_pairs (pair {kind})")
    try:
        db.execute(f"insert into {table}_pairs select row(n)::{kind} from generate_series(1, 20000) n")
        with client.acquire() as lease:
            prepared = Driven(lease.prepare(sql), client.loop)
            assert len(prepared.fetch()) == 20000
            db.execute(f"alter type {kind} add attribute b text")
            with pytest.raises(asyncpg.OutdatedSchemaCacheError):
                prepared.fetch()
            prepared = Driven(lease.prepare(sql), client.loop)
            assert prepared.fetch()[0]["pair"] == (1, None)
    finally:
        db.execute(f"drop table {table}_pairs; drop type {kind}")
