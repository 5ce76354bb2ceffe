"""A scene for each fault: its supervisor and its nursery of workers are shared by the tests of a module."""

from __future__ import annotations

import asyncio
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
from tests.faults.scene import CensusSupervisor, OpenScene, Scene
from tests.integration.driving import Driven, LoopThread

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """An asyncio loop that turns all the time."""
    thread = LoopThread(asyncio.new_event_loop)
    yield thread
    thread.close()


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
