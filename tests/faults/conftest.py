"""A scene for each fault of a worker, whose supervisor and nursery of workers a module's tests share; and PostgreSQL
servers that may be harmed."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from pgactor import Client
from tests.faults.nursery import Nursery
from tests.faults.postgres_servers import admin, make_proxy, postgres, proxy, serve
from tests.faults.scene import CensusSupervisor, OpenScene, Scene
from tests.integration.conftest import loop_thread, open_client, uvloop_thread
from tests.integration.driving import Driven, LoopThread

__all__ = ["admin", "loop_thread", "make_proxy", "open_client", "postgres", "proxy", "serve", "uvloop_thread"]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def db(dsn: str, loop_thread: LoopThread) -> Iterator[Driven]:
    """PostgreSQL past the supervisor: what locks there are, and who holds them."""

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(dsn)

    connection = loop_thread.run(connect())
    yield Driven(connection, loop_thread)
    loop_thread.run(connection.close())


@pytest.fixture(scope="module")
def census_supervisor(dsn: str) -> Iterator[CensusSupervisor]:
    """A supervisor that can be asked what it remembers. A tcp worker is lost after 1 s of silence."""
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        supervisor = CensusSupervisor(
            folder=Path(folder),
            dsn=dsn,
            max_size=12,
            min_size=12,
            heartbeat_seconds=0.2,
            silence_seconds=1,
            pool={"lease_share": 1.0, "max_inactive_connection_lifetime": 0, "reset_timeout_seconds": 30},
        )
        yield supervisor
        supervisor.stop()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Where the workers come from."""
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        nursery = Nursery(Path(folder))
        yield nursery
        nursery.close()


@pytest.fixture(scope="module")
def observer(census_supervisor: CensusSupervisor) -> Iterator[Client]:
    """A worker that watches."""
    with Client(census_supervisor.ipc, label="observer") as client, client.listen("nobody"):  # one connection listens
        yield client


@pytest.fixture
def table(db: Driven) -> Iterator[str]:
    """An empty table (id int primary key, value int)."""
    name = f"faults_{os.getpid()}_{next(_numbers)}"
    db.execute(f"create table {name} (id int primary key, value int)")
    yield name
    db.execute(f"drop table {name}")


@pytest.fixture
def open_scene(
    census_supervisor: CensusSupervisor, observer: Client, nursery: Nursery, db: Driven, table: str
) -> Iterator[OpenScene]:
    """Makes scenes: `open_scene("tcp")`."""
    with ExitStack() as stack:

        def open_one(road: str = "ipc") -> Scene:
            scene = Scene(census_supervisor, observer, nursery, db, table, road)
            stack.callback(scene.close)
            return scene

        yield open_one


@pytest.fixture
def scene(open_scene: OpenScene) -> Scene:
    """One where the workers come by ipc."""
    return open_scene("ipc")
