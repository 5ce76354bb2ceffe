"""Worker processes, tables, and a supervisor for tests that need none of their own."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.endtoend.deployed import SCHEMA
from tests.endtoend.processes import Worker, ask
from tests.supervising import StartSupervisor, SupervisorProcess

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(dsn: str) -> Iterator[SupervisorProcess]:
    """A running supervisor that all tests of a module share, on ipc and tcp, with at most 8 connections. A tcp worker
    is lost after 1 s of silence."""
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        supervisor = SupervisorProcess(
            folder=Path(folder), dsn=dsn, max_size=8, heartbeat_seconds=0.2, silence_seconds=1
        )
        try:
            yield supervisor
        finally:
            supervisor.stop()


@pytest.fixture
def table(dsn: str) -> Iterator[str]:
    """A table with (id int primary key, value int), and in it (1, 0)."""
    name = f"endtoend_{os.getpid()}_{next(_numbers)}"
    ask(dsn, f"create table {name} (id int primary key, value int)")
    ask(dsn, f"insert into {name} values (1, 0)")
    yield name
    ask(dsn, f"drop table {name}")


@pytest.fixture
def start_worker(start_supervisor: StartSupervisor) -> Iterator[Callable[..., Worker]]:
    """Makes worker processes, `start_worker(source, endpoint, *arguments)`; all are ended, with their children, at
    the end of the test, before its supervisors are stopped."""
    with ExitStack() as stack:

        def start(source: str, endpoint: str, *arguments: object) -> Worker:
            worker = Worker(source, endpoint, *arguments)
            stack.callback(worker.end)
            return worker

        yield start


@pytest.fixture
def shop(dsn: str) -> Iterator[str]:
    """The dsn of a database with the tables of the examples, and nobody else in it."""
    name = f"shop_{os.getpid()}_{next(_numbers)}"
    ask(dsn, f"create database {name}")
    address = urlsplit(dsn)._replace(path=f"/{name}").geturl()
    for statement in SCHEMA.split(";\n"):
        ask(address, statement)
    yield address
    ask(dsn, f"drop database {name} with (force)")


@pytest.fixture
def ending() -> Iterator[Callable[[SupervisorProcess], SupervisorProcess]]:
    """Stops supervisors at the end."""
    with ExitStack() as stack:

        def add(supervisor: SupervisorProcess) -> SupervisorProcess:
            stack.callback(supervisor.stop)
            return supervisor

        yield add
