"""Clients of every kind, supervisors that a module shares, and PostgreSQL's own view of what happens."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop

from pgactor import AsyncClient, Client
from tests.integration.driving import KINDS, Driven, LoopThread, WatchedSupervisor
from tests.supervising import SupervisorProcess

OpenClient = Callable[..., Driven]
Launch = Callable[..., WatchedSupervisor]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """An asyncio loop that turns all the time."""
    thread = LoopThread(asyncio.new_event_loop)
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def uvloop_thread() -> Iterator[LoopThread]:
    """A uvloop that turns all the time."""
    thread = LoopThread(uvloop.new_event_loop)
    yield thread
    thread.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which client, on which road."""
    return str(request.param)


@pytest.fixture
def open_client(request: pytest.FixtureRequest) -> Iterator[OpenClient]:
    """Makes clients: `open_client(supervisor, "async-tcp", connect_timeout=1)`; each is closed at the end."""
    with ExitStack() as stack:

        def open_one(supervisor: SupervisorProcess, kind: str, **options: Any) -> Driven:
            shell, road = kind.split("-")
            endpoint = getattr(supervisor, road)
            loop = None
            if shell != "sync":
                loop = request.getfixturevalue("uvloop_thread" if shell == "uvloop" else "loop_thread")
            made = Client(endpoint, **options) if loop is None else AsyncClient(endpoint, **options)
            client = Driven(made, loop)
            stack.callback(lambda: client.close())
            return client

        yield open_one


@pytest.fixture(scope="module")
def launch(dsn: str) -> Iterator[Launch]:
    """Makes supervisors that serve until the module's last test is done."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pga-"))

        def launch_one(**settings: Any) -> WatchedSupervisor:
            made = WatchedSupervisor(folder=Path(folder), **{"dsn": dsn, **settings})
            stack.callback(made.stop)
            return made

        yield launch_one


@pytest.fixture
def start(dsn: str, short_tmp: Path) -> Iterator[Launch]:
    """Makes supervisors that serve until the test is done."""
    with ExitStack() as stack:

        def start_one(**settings: Any) -> WatchedSupervisor:
            made = WatchedSupervisor(folder=short_tmp, **{"dsn": dsn, **settings})
            stack.callback(made.stop)
            return made

        yield start_one


@pytest.fixture(scope="module")
def db(dsn: str, loop_thread: LoopThread) -> Iterator[Driven]:
    """asyncpg itself: the measure of results and errors, and the way to see what PostgreSQL does."""
    connection = loop_thread.run(_connect(dsn))
    yield Driven(connection, loop_thread)
    loop_thread.run(connection.close())


@pytest.fixture
def table(db: Driven) -> Iterator[str]:
    """An empty table (id int primary key, name text), dropped at the end."""
    name = f"pgactor_it_{os.getpid()}_{next(_numbers)}"
    db.execute(f"create table {name} (id int primary key, name text)")
    yield name
    db.execute(f"drop table {name}")


async def _connect(dsn: str) -> Any:
    return await asyncpg.connect(dsn)
