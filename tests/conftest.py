"""Where the tests take PostgreSQL and supervisors from: real ones, always.

PostgreSQL: $PGACTOR_TEST_DSN, else a container where a Docker daemon answers, else the embedded one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.supervising import StartSupervisor, SupervisorProcess, container_postgres

# The same examples in each run: a test that passes passes again. Slow machines are no failure.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """A database whose user may do everything."""
    given = os.environ.get("PGACTOR_TEST_DSN")
    if given:
        yield given
        return
    with ExitStack() as stack:
        found = stack.enter_context(container_postgres())
        if found is None:
            from pgactor.actors.embedded import embedded_postgres

            found = stack.enter_context(embedded_postgres())
        yield found


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder with a path short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        yield Path(folder)


@pytest.fixture
def start_supervisor(request: pytest.FixtureRequest, dsn: str, short_tmp: Path) -> Iterator[StartSupervisor]:
    """Makes `pgactor serve` processes: `start_supervisor(max_size=4)`; each is stopped at the end of the test."""
    forked = request.node.get_closest_marker("command_line") is None
    with ExitStack() as stack:

        def start(**settings: Any) -> SupervisorProcess:
            process = SupervisorProcess(folder=short_tmp, **{"dsn": dsn, "forked": forked, **settings})
            stack.callback(process.stop)
            return process

        yield start


@pytest.fixture
def supervisor(start_supervisor: StartSupervisor) -> SupervisorProcess:
    """One running supervisor, on ipc and tcp, with at most 4 connections."""
    return start_supervisor(max_size=4)
