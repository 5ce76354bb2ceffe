"""A supervisor that a module's tests share, and PostgreSQL's own view."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Launch, db, launch, loop_thread, table
from tests.integration.driving import WatchedSupervisor

__all__ = ["db", "launch", "loop_thread", "table"]


@pytest.fixture(scope="module")
def served(launch: Launch) -> WatchedSupervisor:
    """A running supervisor with at most 3 connections."""
    return launch(max_size=3)
