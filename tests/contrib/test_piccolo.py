"""pgactor.contrib.piccolo with tables of Piccolo. Piccolo's own tests run with tests.contrib.piccolo_tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from piccolo.columns import Integer, Text
from piccolo.engine.exceptions import TransactionError
from piccolo.engine.postgres import PostgresEngine
from piccolo.table import create_table_class

from pgactor import AsyncClient, Client, ClientError
from pgactor.contrib import piccolo
from pgactor.contrib.piccolo import PgactorEngine
from tests.integration.conftest import Launch
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import free_port, until


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine has the process's life, and its link is left to the next loop; tests have more of them."""
    clients: list[AsyncClient] = []

    def client(**options: Any) -> AsyncClient:
        clients.append(AsyncClient(**options))
        return clients[-1]

    monkeypatch.setattr(piccolo, "AsyncClient", client)
    yield
    for each in clients:
        each.terminate()


@pytest.fixture
def engine(served: WatchedSupervisor) -> PgactorEngine:
    return PgactorEngine(config={"endpoint": served.ipc})


@pytest.fixture
def band(engine: PgactorEngine, table: str) -> Any:
    """A Table of Piccolo on (id, name), which is a table of the database."""
    return made(table, engine)


def made(table: str, engine: PostgresEngine) -> Any:
    columns = {"id": Integer(primary_key=True), "name": Text(null=True, default=None)}
    return create_table_class(f"Band{table}", class_kwargs={"tablename": table, "db": engine}, class_members=columns)


@pytest.fixture
def free(served: WatchedSupervisor) -> Iterator[None]:
    """No connection is held after the test."""
    yield
    with Client(served.ipc) as client:
        until(lambda: client.status().leased == 0)


pytestmark = pytest.mark.usefixtures("free")


def names(db: Driven, table: str) -> list[str]:
    return [row["name"] for row in db.fetch(f"select name from {table} order by id")]


def test_run_sync_works_in_any_loop_and_thread(band: Any) -> None:
    band.insert(band(id=1, name="one")).run_sync()
    band(id=2, name="two").save().run_sync()
    band.update({band.name: "second"}).where(band.id == 2).run_sync()
    assert band.select().order_by(band.id).run_sync() == [{"id": 1, "name": "one"}, {"id": 2, "name": "second"}]

    async def inside() -> Any:
        return band.objects().get(band.id == 1).run_sync().name  # Piccolo does it in a thread

    assert asyncio.run(inside()) == "one"
    assert band.count().run_sync() == 2
    with pytest.raises(asyncpg.UniqueViolationError):
        band.insert(band(id=1)).run_sync()


def test_the_version_is_postgresqls(engine: PgactorEngine, dsn: str) -> None:
    assert engine.get_version_sync() == PostgresEngine(config={"dsn": dsn}).get_version_sync() > 10


def test_without_a_supervisor_there_is_an_engine_and_a_warning() -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with pytest.warns(Warning, match=f"version is unknown.*{endpoint}"):
        PgactorEngine(config={"endpoint": endpoint, "connect_timeout": 0.01})


def test_extensions_are_made_when_the_engine_is(served: WatchedSupervisor, db: Driven) -> None:
    db.execute("drop extension if exists pg_trgm")
    if not db.fetchval("select count(*) from pg_available_extensions where name = 'pg_trgm'"):
        pytest.skip("this PostgreSQL has no pg_trgm")
    PgactorEngine(config={"endpoint": served.ipc}, extensions=("pg_trgm",))
    assert db.fetchval("select count(*) from pg_extension where extname = 'pg_trgm'") == 1


def test_how_to_reach_postgresql_is_told_to_be_the_supervisors() -> None:
    with pytest.raises(ClientError, match=r"does not take host, database.*\[connect\]"):
        PgactorEngine(config={"host": "localhost", "database": "app"})


async def test_more_queries_than_connections_are_answered_with_a_pool_and_without(band: Any) -> None:
    engine = band._meta.db
    await band.insert(band(id=1, name="one"))
    for start in (engine.start_connection_pool, engine.get_version):
        assert await asyncio.gather(*(band.select() for _ in range(200))) == [[{"id": 1, "name": "one"}]] * 200
        await start()
    await engine.close_connection_pool()
    assert engine.pool is None
    assert await band.count() == 1


async def test_starting_and_closing_a_pool_twice_warns(engine: PgactorEngine) -> None:
    await engine.start_connection_pool()
    pool = engine.pool
    with pytest.warns(Warning, match="started already"):
        await engine.start_connection_pool()
    assert engine.pool is pool
    await engine.close_connection_pool()
    with pytest.warns(Warning, match="No connection pool"):
        await engine.close_connection_pool()


async def test_a_pools_sizes_are_told_to_be_the_supervisors(engine: PgactorEngine) -> None:
    with pytest.warns(UserWarning, match="max_size=20.*max_size=3"):
        await engine.start_connection_pool(min_size=0, max_size=20)
    await engine.close_connection_pool()


async def test_closing_the_pool_waits_for_transactions(band: Any, db: Driven, table: str) -> None:
    engine = band._meta.db
    await engine.start_connection_pool()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with engine.transaction():
            begun.set()
            await go_on.wait()
            await band.insert(band(id=1, name="late"))

    working = asyncio.create_task(work())
    await begun.wait()
    closing = asyncio.create_task(engine.close_connection_pool())
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await asyncio.gather(working, closing)
    assert await asyncio.to_thread(names, db, table) == ["late"]


@pytest.mark.parametrize("pooled", [True, False])
async def test_transactions_savepoints_and_what_is_nested(band: Any, db: Driven, table: str, pooled: bool) -> None:
    engine = band._meta.db
    if pooled:
        await engine.start_connection_pool()
    async with engine.transaction() as outer:
        assert engine.transaction_exists()
        await band.insert(band(id=1, name="kept"))
        savepoint = await outer.savepoint()
        await band.insert(band(id=2, name="gone"))
        await savepoint.rollback_to()
        await outer.savepoint("named")
        await band.insert(band(id=3, name="gone"))
        await outer.rollback_to("named")
        async with engine.transaction() as inner:
            assert inner is outer
        with pytest.raises(TransactionError):
            engine.transaction(allow_nested=False)
    assert not engine.transaction_exists()

    async def failing() -> None:
        async with engine.transaction():
            await band.insert(band(id=4, name="gone"))
            raise KeyError

    with pytest.raises(KeyError):
        await failing()
    async with engine.transaction() as transaction:
        await band.insert(band(id=5, name="gone"))
        await transaction.rollback()
    with pytest.raises(ValueError, match="Savepoint names"):
        async with engine.transaction() as transaction:
            await transaction.savepoint("a; drop table b")
    assert await asyncio.to_thread(names, db, table) == ["kept"]
    if pooled:
        await engine.close_connection_pool()


async def test_an_atomic_happens_as_a_whole_or_not_at_all(band: Any, db: Driven, table: str) -> None:
    atomic = band._meta.db.atomic()
    atomic.add(band.insert(band(id=1, name="one")), band.raw("select 1 / 0"))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await atomic
    atomic.add(band.insert(band(id=1, name="one")), band.insert(band(id=2, name="two")))
    await atomic.run()
    assert await asyncio.to_thread(names, db, table) == ["one", "two"]


@pytest.mark.parametrize("pooled", [True, False])
async def test_a_commit_that_fails_holds_no_connection_and_ends_the_transaction(
    band: Any, db: Driven, table: str, pooled: bool
) -> None:
    await asyncio.to_thread(db.execute, f"alter table {table} add unique (name) deferrable initially deferred")
    engine = band._meta.db
    if pooled:
        await engine.start_connection_pool()
    for _ in range(5):  # more than there are connections
        with pytest.raises(asyncpg.UniqueViolationError):
            async with engine.transaction():
                await band.insert(band(id=1, name="same"), band(id=2, name="same"))
        assert not engine.transaction_exists()
    assert await band.count() == 0
    if pooled:
        await engine.close_connection_pool()


async def test_a_batch_gives_rows_by_and_by(band: Any, db: Driven, table: str) -> None:
    await asyncio.to_thread(db.execute, f"insert into {table} select id, 'n' from generate_series(1, 7) as id")
    async with await band.select(band.id).order_by(band.id).batch(batch_size=3) as batch:
        found = [[row["id"] for row in part] async for part in batch]
    assert found == [[1, 2, 3], [4, 5, 6], [7]]


async def test_a_batch_that_fails_holds_no_connection_and_its_error_is_raised(band: Any) -> None:
    for _ in range(4):
        with pytest.raises(asyncpg.UndefinedColumnError):
            async with await band.raw("select nothing").batch():
                pass
        with pytest.raises(KeyError):
            async with await band.select().batch():
                raise KeyError


def test_a_node_is_another_engine_of_another_pool(launch: Launch, dsn: str, table: str, db: Driven) -> None:
    toml = f'[pools.replica]\nmax_size = 2\n[pools.replica.connect]\ndsn = "{dsn}"\n'
    toml += '[pools.replica.connect.server_settings]\ndefault_transaction_read_only = "on"\n'
    endpoint = launch(max_size=2, toml=toml).ipc
    replica = PgactorEngine(config={"endpoint": endpoint, "pool": "replica"})
    band = made(table, PgactorEngine(config={"endpoint": endpoint}, extra_nodes={"replica": replica}))
    band.insert(band(id=1, name="one")).run_sync()
    assert band.select(band.name).run_sync(node="replica") == [{"name": "one"}]
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        band.delete(force=True).run_sync(node="replica")
    with pytest.raises(KeyError):
        band.select().run_sync(node="another")

    async def pooled_and_by_batch() -> Any:
        await replica.start_connection_pool()
        async with await band.select(band.name).batch(node="replica") as batch:
            found = [part async for part in batch]
        found.append(await band.select(band.name).run(node="replica"))
        await replica.close_connection_pool()
        return found

    assert asyncio.run(pooled_and_by_batch()) == [[{"name": "one"}]] * 2


def test_queries_and_responses_are_printed(served: WatchedSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    engine = PgactorEngine(config={"endpoint": served.ipc}, log_queries=True, log_responses=True)

    made("anything", engine).raw("select 12345 as number").run_sync()
    printed = capsys.readouterr().out
    assert "select 12345 as number" in printed
    assert "12345" in printed.partition("response")[2]


@pytest.mark.parametrize("name", ["piccolo", "p3orm"])
def test_a_framework_that_is_missing_is_named_with_its_extra(name: str) -> None:
    code = f"import sys; sys.modules[{name!r}] = None\nimport pgactor.contrib.{name}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'pgactor[{name}]'" in run.stderr
