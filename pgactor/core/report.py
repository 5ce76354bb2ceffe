"""The state of the pool, in figures for `status` and in words for errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import DatabaseUnavailable, PoolDeadlock, PoolTimeout, QueueFull
from ..messages.pool import HolderStatus, LeaseStatus, PoolStatus, StatementStatus, WorkerStatus
from ..version import __version__
from .deadlock import is_stuck
from .holder import Holder, HolderState

if TYPE_CHECKING:
    from .fleet import Fleet
    from .lease import Lease
    from .pool import Pool
    from .request import Request
    from .roster import Worker
    from .statement import Statement

COUNTERS = (
    "requests",
    "requests_timed_out",
    "refused_pool_timeout",
    "refused_queue_full",
    "refused_database_unavailable",
    "leases_granted",
    "leases_expired",
    "leases_returned_clean",
    "workers_lost",
    "connections_opened",
    "connections_failed",
    "connections_lost",
    "malformed_messages",
    "statements_pipelined",
    "statements_in_session",
    "leases_held_long",
    "refused_deadlock",
)
"""What is counted from the supervisor's start."""

TOLD_SECONDS = 0.05
"""How old the state may be that an error tells: in an overload thousands are refused at once, and to find out the
state for each of them would cost more than to serve them."""

SLOWEST = 10
"""How many of the slowest statements are told, by each of two measures."""

STATEMENT_LENGTH = 120
"""How many characters of a statement are shown."""


_PASSWORD = re.compile(r"\bpassword(?:\s*=\s*\S|\s+(?:e|u&)?['$]).*", re.IGNORECASE | re.DOTALL)
"""A password in a statement's text, as ALTER ROLE or dblink have it, and what follows it."""


def in_one_line(text: str, most: int = 200) -> str:
    """What a worker says of itself, fit for logs and terminals: so many characters, none that moves a cursor."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:most])


def _shorten(statement: str) -> str:
    line = " ".join(_PASSWORD.sub("password ...", statement[: 4 * STATEMENT_LENGTH]).split())
    line = in_one_line(line, 2 * STATEMENT_LENGTH)
    return line if len(line) <= STATEMENT_LENGTH else line[: STATEMENT_LENGTH - 3] + "..."


def _label_of(request: Request | None) -> str:
    """What the request is for, if it says so."""
    label: str = "" if request is None else getattr(request.payload, "label", "")
    return label


def holder_status(holder: Holder, now: float) -> HolderStatus:
    """One slot of the pool."""
    lease, request = holder.lease, holder.head
    worker = lease.worker if lease is not None else request.worker if request is not None else None
    return HolderStatus(
        number=holder.number,
        state=holder.state.value,
        seconds=round(now - holder.since, 3),
        backend_pid=holder.backend_pid,
        uses=holder.uses,
        worker=str(worker) if worker is not None else "",
        lease=str(lease.token) if lease is not None else "",
        statement="" if holder.last_statement is None else _shorten(holder.last_statement.sql),
        label=_shorten(_label_of(request) or (lease.label if lease is not None else "")),
    )


def lease_status(lease: Lease, now: float) -> LeaseStatus:
    """One lease."""
    worker, holder, last = lease.worker, lease.holder, lease.holder.last_statement
    if is_stuck(lease, now):
        state = "waiting"
    elif lease.running is not None:
        state = "running"
    else:
        state = "in transaction" if lease.in_transaction else "idle"
    return LeaseStatus(
        lease=str(lease.token),
        holder=holder.number,
        worker=worker.label or f"worker {worker.number}",
        pid=worker.pid,
        label=_shorten(lease.label),
        where=" ".join(lease.where.split()),
        seconds=round(now - lease.granted_at, 3),
        state=state,
        statement="" if last is None else _shorten(last.sql),
        backend_pid=holder.backend_pid,
        reported=lease.reported,
        traceparent=" ".join(lease.traceparent.split()),
    )


def worker_status(worker: Worker, now: float) -> WorkerStatus:
    """One worker process."""
    running = sum(request.holder is not None for request in worker.requests.values())
    return WorkerStatus(
        number=worker.number,
        label=worker.label,
        pid=worker.pid,
        road=worker.road,
        connected_seconds=round(now - worker.connected_at, 3),
        waiting=len(worker.requests) - running,
        running=running,
        leases=len(worker.leases),
    )


def status(pool: Pool, now: float) -> PoolStatus:
    """The whole state."""
    count: Any = _count(pool.fleet)
    return PoolStatus(
        version=__version__,
        epoch=pool.epoch,
        uptime_seconds=round(now - pool.started_at, 3),
        min_size=pool.settings.min_size,
        max_size=pool.settings.max_size,
        **count,
        waiting=len(pool.queue),
        database=f"failing: {pool.fleet.opener.last_error}" if pool.fleet.opener.failures else "ok",
        counters=dict(pool.counters),
        holders=[holder_status(holder, now) for holder in _slots(pool.fleet)],
        workers=[worker_status(worker, now) for worker in pool.roster.all()],
        init_size=pool.settings.initial_size,
        pool="",  # the dialogue knows the pools by their names
        pools=[],
        max_queries=pool.settings.max_queries,
        max_inactive_connection_lifetime=pool.settings.max_inactive_connection_lifetime,
        leases=_leases(pool.fleet, now),
        paused=pool.desk.paused,
        oldest_waiting_seconds=round(max(0.0, now - pool.queue.oldest_since(now)), 3),
        errors=dict(pool.metrics.errors),
        histograms=pool.metrics.histograms(),
    )


def statement_status(statement: Statement) -> StatementStatus:
    """One statement that has run."""
    mean = statement.took / statement.runs
    return StatementStatus(_shorten(statement.sql), statement.runs, round(mean, 6), round(statement.longest, 6))


def _slots(fleet: Fleet) -> list[Holder]:
    """The holders that there may be now, and those that are too many and still there."""
    most = fleet.settings.max_size
    return [each for each in fleet.holders if each.number < most or each.state is not HolderState.VACANT]


def _count(fleet: Fleet) -> dict[str, int]:
    """How many holders are in which state."""
    count = dict.fromkeys(HolderState, 0)
    for holder in fleet.holders:
        count[holder.state] += 1
    return {
        "size": len(fleet.holders) - count[HolderState.VACANT] - count[HolderState.OPENING],
        "idle": count[HolderState.IDLE],
        "busy": count[HolderState.BUSY] + count[HolderState.DRAINING],
        "leased": count[HolderState.LEASED],
        "resetting": count[HolderState.RESETTING],
        "opening": count[HolderState.OPENING],
    }


def _leases(fleet: Fleet, now: float) -> list[LeaseStatus]:
    """All leases, the oldest first."""
    living = [holder.lease for holder in fleet.holders if holder.lease is not None]
    return [lease_status(lease, now) for lease in sorted(living, key=lambda lease: lease.token.fence)]


def _lease_in_words(lease: LeaseStatus) -> str:
    """For what and where it was acquired, and what it does now."""
    state = "waiting for another lease" if lease.state == "waiting" else lease.state
    known = [lease.label, f"acquired at {lease.where}" if lease.where else "", state]
    return f" ({', '.join(filter(None, known))})"


def held_long(lease: Lease, now: float) -> str:
    """That the lease is held for very long, and by whom."""
    status = lease_status(lease, now)
    last = f"; its last statement: {status.statement}" if status.statement else ""
    return f"lease {status.lease} is held for {status.seconds:.1f} s by {lease.worker}{_lease_in_words(status)}{last}"


def _holders_in_words(holders: list[HolderStatus], leases: list[LeaseStatus]) -> str:
    lines = []
    told = {lease.lease: _lease_in_words(lease) for lease in leases}
    for holder in holders[:20]:
        line = f"  {holder.number}: {holder.state} for {holder.seconds:.1f} s"
        if holder.worker:
            line += f" by {holder.worker}"
        if holder.lease:
            line += f" as lease {holder.lease}{told[holder.lease]}"
        elif holder.label:
            line += f" ({holder.label})"
        if holder.statement:
            line += f": {holder.statement}"
        lines.append(line)
    if len(holders) > 20:
        lines.append(f"  and {len(holders) - 20} more")
    return "\n".join(lines)


def _facts(fleet: Fleet, waiting: int, now: float) -> tuple[str, dict[str, object]]:
    """The state, in words and in figures, of this moment or of one shortly before."""
    if fleet.told is None or not fleet.told[0] <= now < fleet.told[0] + TOLD_SECONDS:
        fleet.told = (now, *_tell(fleet, waiting, now))
    _, text, facts = fleet.told
    return text, dict(facts)


def _tell(fleet: Fleet, waiting: int, now: float) -> tuple[str, dict[str, object]]:
    count = {"max_size": fleet.settings.max_size, **_count(fleet), "waiting": waiting}
    text = ", ".join(f"{name} {number}" for name, number in count.items())
    if fleet.opener.failures:
        text += f"; PostgreSQL refuses connections: {fleet.opener.last_error}"
    holders = [holder_status(holder, now) for holder in _slots(fleet)]
    leases = _leases(fleet, now)
    if words := _holders_in_words([holder for holder in holders if holder.state != "vacant"], leases):
        text += "\n" + words
    facts: dict[str, object] = {name: count[name] for name in ("max_size", "size", "idle", "waiting")}
    facts["holders"] = [
        {"number": h.number, "state": h.state, "seconds": h.seconds, "worker": h.worker,
         "lease": h.lease, "statement": h.statement}
        for h in holders
    ]  # fmt: skip
    facts["leases"] = [{name: getattr(lease, name) for name in LeaseStatus.__struct_fields__} for lease in leases]
    return text, facts


def pool_timeout(fleet: Fleet, waiting: int, now: float, request: Request) -> PoolTimeout:
    """Why nobody served the request: which limit ran out, and who holds what. waiting: how many requests do."""
    own = request.deadline is not None and request.deadline == request.queue_deadline
    limit = "the request's own timeout" if own else "the supervisor's queue_timeout_seconds"
    text, facts = _facts(fleet, waiting, now)
    return PoolTimeout(
        f"no backend came free within {request.waited + now - request.since:.2f} s ({limit}); it was not run. {text}",
        **facts,
    )


def deadlock(fleet: Fleet, waiting: int, now: float) -> PoolDeadlock:
    """Why the request waits no more for a lease. waiting: how many requests do."""
    text, facts = _facts(fleet, waiting, now)
    return PoolDeadlock(
        "deadlock: whoever holds a lease waits for another one, as this caller does within its own, and there can be "
        f"no more; release one before acquiring the next, or let max_size be greater. {text}",
        **facts,
    )


def queue_full(fleet: Fleet, waiting: int, now: float) -> QueueFull:
    """Why the request may not even wait. waiting: how many requests do."""
    text, facts = _facts(fleet, waiting, now)
    return QueueFull(f"{waiting} requests are waiting already (max_waiting); it was not run. {text}", **facts)


def why_not_ready(pool: Pool, now: float) -> str | None:
    """Why no request can be served now, in words; "": one can. None: there is no connection, and none has failed."""
    fleet, waiting = pool.fleet, len(pool.queue)
    if pool.closing:
        return "the supervisor is shutting down"
    if waiting >= pool.settings.max_waiting:
        return f"{waiting} requests are waiting already (max_waiting)"
    if fleet.open:
        return ""
    return str(unavailable(fleet, now)) if fleet.opener.failures else None


def unavailable(fleet: Fleet, now: float) -> DatabaseUnavailable:
    """Why there is no connection."""
    return DatabaseUnavailable(
        f"PostgreSQL accepts no connection and has not for {fleet.opener.failing_for(now):.1f} s; "
        f"the last attempt: {fleet.opener.last_error}"
    )
