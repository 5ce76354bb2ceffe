"""pgactor.contrib.p3orm with tables of p3orm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import p3orm
import pytest
from p3orm import core

from pgactor import ClientError, SupervisorUnavailable
from pgactor.contrib.p3orm import PgactorDriver, postgres
from tests.integration.driving import Driven, WatchedSupervisor


@pytest.fixture
async def driver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PgactorDriver]:
    """p3orm's driver, which is ours."""
    monkeypatch.setattr(core, "DRIVER", None)
    monkeypatch.setattr(core, "DIALECT", None)
    made = postgres()
    yield made
    await made.disconnect()


@pytest.fixture
def thing(driver: PgactorDriver, table: str) -> Any:
    """A Table of p3orm on (id, name), which is a table of the database."""

    class Thing(p3orm.Table):
        __tablename__ = table
        id = p3orm.Column(int, pk=True)
        name = p3orm.Column(str)

    return Thing


@pytest.mark.parametrize("method", ["connect", "connect_pool"])
async def test_tables_are_written_and_read(
    served: WatchedSupervisor, driver: PgactorDriver, thing: Any, db: Driven, table: str, method: str
) -> None:
    await getattr(driver, method)(served.ipc)
    one = await thing.insert_one(thing(id=1, name="one"))
    assert one.name == "one"
    await thing.insert_many([thing(id=2, name="two"), thing(id=3, name="three")])
    one.name = "first"
    await thing.update_one(one)
    found = await thing.fetch_all(thing.id > 0, order=thing.id)
    assert [(each.id, each.name) for each in found] == [(1, "first"), (2, "two"), (3, "three")]
    await thing.delete_where(thing.id == 2)
    assert await thing.fetch_first(thing.id == 2) is None
    with pytest.raises(asyncpg.UniqueViolationError):
        await thing.insert_one(thing(id=1, name="again"))


async def test_p3orms_own_functions_give_this_driver(driver: PgactorDriver) -> None:
    assert postgres() is p3orm.postgres() is core.driver() is driver


@pytest.mark.parametrize("first", ["connect", "connect_pool"])
@pytest.mark.parametrize("second", ["connect", "connect_pool"])
async def test_a_second_connect_is_refused_until_a_disconnect(
    served: WatchedSupervisor, driver: PgactorDriver, first: str, second: str
) -> None:
    await driver.disconnect()  # nothing happens
    await getattr(driver, first)(served.ipc)
    with pytest.raises(p3orm.AlreadyConnected):
        await getattr(driver, second)(served.ipc)
    assert driver.is_connected()
    await driver.disconnect()
    assert (driver.connection, driver.pool, driver.is_connected()) == (None, None, False)
    await getattr(driver, second)(served.ipc)
    assert driver.is_connected()


async def test_the_connection_and_the_pool_are_asyncpgs_in_use(
    served: WatchedSupervisor, driver: PgactorDriver, table: str
) -> None:
    await driver.connect(served.ipc)
    connection, pool = driver.connection, driver.pool
    assert (connection is None, pool is None) == (False, True)
    assert connection is not None
    async with connection.transaction():
        await connection.execute(f"insert into {table} values (1, 'one')")
    await driver.disconnect()
    await driver.connect_pool(served.ipc)
    pool = driver.pool
    assert pool is not None
    async with pool.acquire() as lease:
        assert await lease.fetchval(f"select name from {table}") == "one"


async def test_a_query_without_a_connection_is_refused(thing: Any) -> None:
    with pytest.raises(p3orm.NotConnected):
        await thing.fetch_all(thing.id > 0)


async def test_statements_of_a_pool_hold_no_connection(
    served: WatchedSupervisor, driver: PgactorDriver, thing: Any
) -> None:
    await driver.connect_pool(served.ipc)
    assert driver.pool is not None
    held = [await driver.pool.acquire() for _ in range(2)]  # of three
    await thing.insert_one(thing(id=1, name="one"))
    assert len(await thing.fetch_all(thing.id > 0)) == 1
    assert (await driver.pool.status()).leased == 2
    for lease in held:
        lease.release()


async def test_what_cannot_be_reached_leaves_the_driver_unconnected(
    served: WatchedSupervisor, driver: PgactorDriver
) -> None:
    nowhere = served.ipc + ".nowhere"
    for method in (driver.connect, driver.connect_pool):
        with pytest.raises(SupervisorUnavailable):
            await method(nowhere, connect_timeout=0.01)
        with pytest.raises(ClientError, match=r"user=, database=.*\[connect\]"):
            await method(served.ipc, user="app", database="app")
        assert not driver.is_connected()
    await driver.connect(served.ipc)
    assert driver.is_connected()


async def test_after_a_lost_connection_another_can_be_made(served: WatchedSupervisor, driver: PgactorDriver) -> None:
    await driver.connect(served.ipc)
    assert driver.connection is not None
    driver.connection.terminate()
    assert not driver.is_connected()
    await driver.connect(served.ipc)
    assert await driver.connection.fetchval("select 1") == 1


async def test_another_driver_in_use_is_not_thrown_out(
    served: WatchedSupervisor, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "DRIVER", None)
    await p3orm.postgres().connect(dsn)
    with pytest.raises(p3orm.AlreadyConnected):
        postgres()
    await p3orm.postgres().disconnect()
    assert isinstance(postgres(), PgactorDriver)
