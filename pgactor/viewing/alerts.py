"""What somebody should look at, and who causes it."""

from __future__ import annotations

import msgspec

from ..messages.pool import HolderStatus, LeaseStatus, PoolStatus

QUEUE_SECONDS = 0.5
"""A queue whose oldest request has waited for this long does not just smooth out a peak."""

CAUSES = 3
"""How many of those who cause it are named."""

TAKEN = ("busy", "draining", "leased", "resetting", "closing")

REFUSALS = {
    "refused_pool_timeout": "got no connection in time",
    "requests_timed_out": "took too long",
    "refused_queue_full": "found the queue full",
    "refused_database_unavailable": "found no database",
    "refused_deadlock": "would have waited for each other",
}
"""The counters of requests that the pool itself ended with an error, and what became of those."""


class Alert(msgspec.Struct):
    """What somebody should look at. kind: "lease" held long, "queue", "database", "refused", "stall" or "fault".
    text: one line for people. labels: of those who cause it, the worst first; the worker's where there is none."""

    kind: str
    text: str
    labels: list[str] = []


def alerts(before: PoolStatus | None, now: PoolStatus) -> list[Alert]:
    """All there are, the gravest kind first. before: what is told as news is what has happened since; None: there is
    no news."""
    found = []
    if now.database != "ok":
        found.append(Alert("database", f"PostgreSQL: {now.database}"))
    if now.waiting and now.oldest_waiting_seconds >= QUEUE_SECONDS:
        found.append(_queue(now))
    found += [_lease(lease) for lease in now.leases if lease.reported]
    if before is not None:
        found += _news(before, now)
    return found


def _news(before: PoolStatus, now: PoolStatus) -> list[Alert]:
    news = []
    ended = {what: now.counters.get(name, 0) - before.counters.get(name, 0) for name, what in REFUSALS.items()}
    if words := ", ".join(f"{count} {what}" for what, count in ended.items() if count > 0):
        news.append(Alert("refused", f"requests ended with an error: {words}"))
    if now.stalls > before.stalls:
        news.append(Alert("stall", f"the supervisor's event loop stood still for {now.last_stall}"))
    if now.faults > before.faults:
        news.append(Alert("fault", f"{now.faults - before.faults} unexpected errors: see the supervisor's log"))
    return news


def _lease(lease: LeaseStatus) -> Alert:
    label = lease.label or lease.worker
    who = f"{lease.worker} (pid {lease.pid})" if lease.pid else lease.worker
    doing = "waiting for another lease" if lease.state == "waiting" else lease.state
    where = f", acquired at {lease.where}" if lease.where else ""
    return Alert(
        "lease", f"{label}: lease {lease.lease} held for {lease.seconds:.1f} s by {who}, {doing}{where}", [label]
    )


def _queue(now: PoolStatus) -> Alert:
    """Who has the connections, and who wants the most."""
    text = f"queue of {now.waiting}, the first for {now.oldest_waiting_seconds:.1f} s"
    labels = {lease.lease: lease.label or lease.worker for lease in now.leases}
    taken = [each for each in now.holders if each.state in TAKEN]
    taken.sort(key=lambda each: (each.state != "leased", -each.seconds))  # a busy one may be busy with many in turn
    groups: dict[tuple[str, str], list[HolderStatus]] = {}
    for holder in taken:
        groups.setdefault((_label(holder, labels), holder.state), []).append(holder)
    named = [
        f"{f'{len(those)} x ' if len(those) > 1 else ''}{label} ({state} for {those[0].seconds:.1f} s)"
        for (label, state), those in groups.items()
    ]
    if named:
        text += f" behind {', '.join(named[:CAUSES])}{' and others' if len(named) > CAUSES else ''}"
    text += f"; {len(taken)} of {now.max_size} connections are taken"
    if most := max((worker for worker in now.workers if worker.waiting), key=lambda each: each.waiting, default=None):
        text += f"; most wait for {most.label or f'worker {most.number}'}: {most.waiting}"
    return Alert("queue", text, list(dict.fromkeys(label for label, _ in groups))[:CAUSES])


def _label(holder: HolderStatus, labels: dict[str, str]) -> str:
    return holder.label or labels.get(holder.lease) or holder.worker or f"connection {holder.number}"
