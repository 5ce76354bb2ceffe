"""Statuses as plain data."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from pgactor.messages.histogram import Histogram
from pgactor.messages.pool import HolderStatus, LeaseStatus, PoolStatus, WorkerStatus
from pgactor.viewing.figures import figures
from pgactor.viewing.watch import Sight

BOUNDS = [0.001, 0.01, 0.1]


def status(
    *, at: float = 10.0, epoch: int = 1, requests: int = 0, counters: dict[str, int] | None = None, **changes: Any
) -> PoolStatus:
    """A pool of four that has nothing to do. at: its uptime."""
    idle = PoolStatus(
        version="1.2.3", epoch=epoch, uptime_seconds=at, min_size=0, max_size=4, size=4, idle=4, busy=0, leased=0,
        resetting=0, opening=0, waiting=0, database="ok", counters={"requests": requests, **(counters or {})},
        holders=[HolderStatus(number, "idle", 1.0, 100 + number) for number in range(4)], workers=[],
    )  # fmt: skip
    return msgspec.structs.replace(idle, **changes)


def times(*counts: int, total: float = 0.0) -> Histogram:
    """How many took at most 1 ms, 10 ms, 100 ms, and longer."""
    return Histogram(BOUNDS, list(counts), total)


def lease(
    label: str = "nightly report", *, seconds: float = 31.0, reported: bool = True, holder: int = 0, **changes: Any
) -> LeaseStatus:
    """A lease of celery's."""
    held = LeaseStatus(
        f"{holder}.7", holder, "celery", 77, label, "/app/jobs.py:12 in run", seconds, "in transaction", "select 1",
        reported=reported,
    )  # fmt: skip
    return msgspec.structs.replace(held, **changes)


def jammed() -> PoolStatus:
    """Two leases, one of them held long, two busy ones, and a queue."""
    return status(
        waiting=12,
        oldest_waiting_seconds=1.25,
        leases=[lease(), lease("GET /export", seconds=2.0, reported=False, holder=1)],
        holders=[
            HolderStatus(0, "leased", 31.0, 100, worker="celery (pid 77)", lease="0.7", statement="select 1"),
            HolderStatus(1, "leased", 2.0, 101, worker="web (pid 5)", lease="1.7"),
            HolderStatus(2, "busy", 40.0, 102, worker="web (pid 5)", label="GET /books"),
            HolderStatus(3, "busy", 0.1, 103, worker="web (pid 5)"),
        ],
        workers=[
            WorkerStatus(1, "celery", 77, "ipc", 60.0, waiting=2, running=0, leases=1),
            WorkerStatus(2, "web", 5, "tcp", 60.0, waiting=10, running=2, leases=1),
        ],
    )


def sight(*statuses: PoolStatus, before: PoolStatus | None = None, error: str = "", silent: float = 0.0) -> Sight:
    """What a watch tells of such pools."""
    pools = {each.pool: figures(before, each) for each in statuses}
    return Sight("ipc:///run/a.sock", time.time(), error, silent, pools, {})
