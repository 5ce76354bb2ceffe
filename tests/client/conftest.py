"""What the tests of the blocking client share."""

from __future__ import annotations

import pytest

from .memory import MemorySupervisor
from .threads import Clock, Waiters


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> MemorySupervisor:
    return MemorySupervisor().serve(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("channel", "connected", "heart"):
        monkeypatch.setattr(f"pgactor.client.{module}.time", clock)
    return clock


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> Waiters:
    return Waiters(monkeypatch)
