"""asyncpg's own pool and pgactor's, on one database."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.compatibility.sides import Sides
from tests.integration.driving import WatchedSupervisor

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def supervisors(dsn: str) -> Iterator[Any]:
    """Makes supervisors that serve until the module's last test is done."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pga-"))

        def start(**settings: Any) -> WatchedSupervisor:
            made = WatchedSupervisor(folder=Path(folder), **{"dsn": dsn, "min_size": 1, "max_size": 4, **settings})
            stack.callback(made.stop)
            return made

        yield start


@pytest.fixture(scope="module")
def sides(dsn: str, supervisors: Any) -> Sides:
    """Both, with at least 1 connection and at most 4."""
    return Sides(dsn, supervisors())


@pytest.fixture(scope="module")
def single(dsn: str, supervisors: Any) -> Sides:
    """Both, with one connection."""
    return Sides(dsn, supervisors(max_size=1))


@pytest_asyncio.fixture
async def direct(dsn: str) -> AsyncIterator[Any]:
    """A connection of asyncpg's outside of all pools: PostgreSQL's own view."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def table(direct: Any) -> AsyncIterator[str]:
    """An empty table (id int primary key, name text), dropped at the end."""
    name = f"pgactor_compat_{os.getpid()}_{next(_numbers)}"
    await direct.execute(f"create table {name} (id int primary key, name text)")
    yield name
    await direct.execute(f"drop table {name}")
