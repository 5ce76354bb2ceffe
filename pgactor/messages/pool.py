"""The pool itself: its state, and what changes it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ..messages import Number, Reply, Request
from .histogram import Histogram


class Status(Request, tag="status"):
    """Ask for the state of the pool; answered by `StatusReport`."""


class StatusReport(Reply, tag="status_report"):
    """The state of the pool, as `PoolStatus`."""

    status: PoolStatus


class PoolStatus(msgspec.Struct):
    """The state of the pool at one moment; `counters` rise from the supervisor's start.

    pool: its name. pools: the names of all pools that the supervisor has now. init_size, max_queries,
    max_inactive_connection_lifetime: settings, beside min_size and max_size. faults: how many unexpected errors the
    supervisor has met and logged. stalls: how often its event loop stood still for longer than stall_seconds;
    last_stall: for how long, and where, in words.

    oldest_waiting_seconds: since when the oldest of those waits that are first in line, each of a worker. errors: how
    often each class of error was the answer to a request. histograms: in seconds `wait` (for a backend), `service`
    (from then on, at the backend), `total` (both, of statements), `lease` (held), `lag` (of the supervisor's event
    loop); and `depth`, how many statements were in flight on a backend when it answered some. slowest: the statements
    that took the most time, all their runs together or one of them.
    """

    version: str
    epoch: int
    uptime_seconds: float
    min_size: int
    max_size: int
    size: int
    idle: int
    busy: int
    leased: int
    resetting: int
    opening: int
    waiting: int
    database: str
    counters: dict[str, int]
    holders: list[HolderStatus]
    workers: list[WorkerStatus]
    init_size: int = 0
    pool: str = "default"
    pools: list[str] = []
    max_queries: int = 0
    max_inactive_connection_lifetime: float = 0.0
    leases: list[LeaseStatus] = []
    faults: int = 0
    stalls: int = 0
    longest_stall_seconds: float = 0.0
    last_stall: str = ""
    oldest_waiting_seconds: float = 0.0
    errors: dict[str, int] = {}
    histograms: dict[str, Histogram] = {}
    slowest: list[StatementStatus] = []

    @property
    def available(self) -> int:
        """How many connections are open and idle: psqlpy's word."""
        return self.idle


class StatementStatus(msgspec.Struct):
    """One statement, as far as the supervisor remembers it. count: how often it has run. mean_seconds, max_seconds:
    how long it kept a backend; of those that were answered together, each an equal part."""

    statement: str
    count: int
    mean_seconds: float
    max_seconds: float


class LeaseStatus(msgspec.Struct):
    """One lease. holder: its connection's number. worker, pid: whose it is. label: for what it was acquired, the
    request's label or the task's name; where: the file, line and function that did. seconds: since it was granted.
    state: "running" a statement, "in transaction", "idle", or "waiting" for another lease. statement: the running or
    last one. reported: it is held for more than lease_warning_seconds. traceparent: of the trace
    that it was acquired in."""

    lease: str
    holder: int
    worker: str
    pid: int
    label: str
    where: str
    seconds: float
    state: str
    statement: str = ""
    backend_pid: int = 0
    reported: bool = False
    traceparent: str = ""


class HolderStatus(msgspec.Struct):
    """One slot of the pool. seconds: since it came into this state. statement: the running or last one. label: of the
    request that runs, else of its lease."""

    number: int
    state: str
    seconds: float
    backend_pid: int = 0
    uses: int = 0
    worker: str = ""
    lease: str = ""
    statement: str = ""
    label: str = ""


class WorkerStatus(msgspec.Struct):
    """One worker process. waiting, running, leases: how many requests and leases of it are in these states."""

    number: int
    label: str
    pid: int
    road: str
    connected_seconds: float
    waiting: int
    running: int
    leases: int


class Expire(Request, tag="expire"):
    """Replace every connection: idle ones now, used ones when they come back; answered by `Done`."""


class Resize(Request, tag="resize"):
    """Change how many connections the pool may have; answered by `Done`, refused where the supervisor does not permit
    it. min_size: None leaves it, or brings it down to max_size."""

    max_size: Annotated[int, msgspec.Meta(ge=1)]
    min_size: Number | None = None


class SetConnectArgs(Request, tag="set_connect_args"):
    """Replace the connect arguments of new connections, as asyncpg.Pool.set_connect_args does; answered by `Done`,
    refused where the supervisor does not permit it."""

    dsn: str | None
    arguments: dict[str, Any] = {}  # noqa: RUF012 - msgspec makes a new one for each

    def __repr__(self) -> str:
        return f"<SetConnectArgs {', '.join(self.arguments)}>"  # no values: passwords are among them
