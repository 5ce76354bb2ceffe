"""What is in the tables at the end, against what the workers noted; and what the sessions have kept."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from pgactor import AsyncClient, OutcomeUnknown
from pgactor.errors import LeaseError
from pgactor.messages.pool import PoolStatus

from .leases import CLEAN, LEFT_BEHIND
from .ledger import Outcome, Write, read, worker_of
from .supervisor import Supervisor
from .truth import COUNTERS, TAKEN, note_of

IDLE_SECONDS = 15.0
"""How long what was begun may take to come to rest."""


@dataclass
class Verdict:
    """violations: what must not be. facts: what was looked at, for people to read."""

    violations: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


async def judge_all(dsn: str, supervisor: Supervisor, ledgers: Iterable[Path], *, restarts: int = 0) -> Verdict:
    """Look at everything, when the workers have ended. restarts: of PostgreSQL."""
    verdict = Verdict()
    async with AsyncClient(supervisor.ipc, label="judge") as client:
        status = await _at_rest(client, verdict)
        await _sessions(client, status, verdict)
    connection = await asyncpg.connect(dsn)
    try:
        await _left_in_postgres(connection, supervisor, verdict)
        writes = [write for path in ledgers for write in read(path)]
        await _writes(connection, writes, verdict, restarts)
    finally:
        await connection.close()
    return verdict


async def _at_rest(client: AsyncClient, verdict: Verdict) -> PoolStatus:
    end = time.monotonic() + IDLE_SECONDS
    while True:
        status = await client.status()
        others = [worker for worker in status.workers if worker.label != "judge"]
        holders = [holder for holder in status.holders if holder.state not in ("idle", "vacant")]
        if not (holders or status.waiting or others):
            break
        if time.monotonic() > end:
            verdict.violations.append(
                f"after {IDLE_SECONDS:g} s the pool is not at rest: {status.waiting} wait, {holders=}, {others=}"
            )
            break
        await asyncio.sleep(0.05)
    told = {name: count for name, count in sorted(status.counters.items()) if count}
    verdict.facts.append("the supervisor counted " + ", ".join(f"{count} {name}" for name, count in told.items()))
    if status.counters.get("in_session_names_lost", 0) > 100 or status.counters["malformed_messages"]:
        verdict.violations.append(f"the statement lane was switched off, or messages were malformed: {told}")
    return status


async def _sessions(client: AsyncClient, status: PoolStatus, verdict: Verdict) -> None:
    """Look at every session of the pool from inside."""
    for _ in range(10):
        try:
            verdict.violations += await _kept(client, status.max_size)
            break
        except (OutcomeUnknown, LeaseError, asyncpg.AdminShutdownError):  # one was terminated just before
            await asyncio.sleep(0.5)
    else:
        verdict.violations.append("sessions end, though nobody terminates them any more")
    await client.status()


async def _kept(client: AsyncClient, sessions: int) -> list[str]:
    """What so many sessions have kept."""
    async with AsyncExitStack() as stack:
        leases = [await stack.enter_async_context(client.acquire(timeout=10)) for _ in range(sessions)]
        rows = [tuple(*await lease.fetch(LEFT_BEHIND, "end")) for lease in leases]
        return [f"a session has kept {row!r}" for row in rows if row[1:] != CLEAN]


async def _left_in_postgres(connection: asyncpg.Connection, supervisor: Supervisor, verdict: Verdict) -> None:
    name = supervisor.name
    await asyncio.sleep(0.3)
    sessions = await connection.fetch(
        "select pid, state, left(query, 200) as query from pg_stat_activity "
        "where application_name = $1 and state <> 'idle'",
        name,
    )
    locks = await connection.fetch(
        "select l.* from pg_locks l join pg_stat_activity a using (pid) where a.application_name = $1", name
    )
    tables = await connection.fetch("select relname from pg_class where relname = 'soak_tmp'")
    verdict.violations += [f"left in PostgreSQL: {dict(row)}" for row in [*sessions, *locks, *tables]]
    for table, rows in (("soak_r", 0), ("soak_u", TAKEN)):
        found = await connection.fetchval(f"select count(*) from {table}")
        if found != rows:
            verdict.violations.append(f"{table} has {found} rows, not {rows}: a statement that failed has happened")


async def _writes(connection: asyncpg.Connection, writes: list[Write], verdict: Verdict, restarts: int) -> None:
    found: Counter[int] = Counter()
    for tag, worker, note in await connection.fetch("select tag, worker, note from soak_w"):
        found[tag] += 1
        if (worker, note) != (worker_of(tag), note_of(tag)):
            verdict.violations.append(f"wrong values in the row {tag}: {worker}, {note!r}")
    deleted: dict[int | None, Write] = {write.deletes: write for write in writes if write.deletes is not None}
    happened_after_all: Counter[bool] = Counter()
    low: Counter[int] = Counter()
    high: Counter[int] = Counter()
    for write in writes:
        happened = _happened(write, found, deleted, verdict)
        if write.outcome is Outcome.UNKNOWN and happened is not None:
            happened_after_all[happened] += 1
        for key in write.counts:
            low[key] += bool(happened)
            high[key] += happened is not False
    verdict.violations += [f"the row {tag} was never inserted by anybody" for tag in found]
    await _counters(connection, low, high, verdict)
    if not restarts:  # a crash makes sequences skip numbers, and lose those of what was rolled back
        await _raised(connection, writes, verdict)
    outcomes = Counter(write.outcome.value for write in writes)
    verdict.facts.append(
        f"{len(writes)} writes noted: {outcomes['ok']} happened, {outcomes['no']} did not, {outcomes['unknown']} "
        f"unknown, of which {happened_after_all[True]} are there and {happened_after_all[False]} are not"
    )


def _happened(write: Write, found: Counter[int], deleted: dict[int | None, Write], verdict: Verdict) -> bool | None:
    """Whether the write happened, by what is in the table; None where that does not tell. Its rows are ticked off."""
    told = {Outcome.OK: True, Outcome.NO: False}.get(write.outcome)
    if not write.inserts:
        return told
    copies = {tag: found.pop(tag, 0) for tag in write.inserts}
    [tag, *_] = write.inserts
    if (gone := deleted.get(tag)) is not None:  # only what is known to have been inserted is deleted
        allowed = {Outcome.OK: (0,), Outcome.NO: (1,)}.get(gone.outcome, (0, 1))
        if copies[tag] not in allowed or write.outcome is not Outcome.OK:
            verdict.violations.append(f"{copies[tag]} rows {tag} after {write} and {gone}")
        return True
    counts = set(copies.values())
    if len(counts) != 1 or not counts <= {0, 1}:
        verdict.violations.append(f"doubled, or only in part: {write} has {copies} rows")
    elif told is not None and counts != {int(told)}:
        verdict.violations.append(f"{'lost' if told else 'not undone'}: {write}")
    return 1 in counts


async def _counters(connection: asyncpg.Connection, low: Counter[int], high: Counter[int], verdict: Verdict) -> None:
    for key, n in await connection.fetch("select id, n from soak_c order by id"):
        if not low[key] <= n <= high[key]:
            verdict.violations.append(f"counter {key} is {n}, outside of {low[key]} to {high[key]}")
    slack = sum(high.values()) - sum(low.values())
    verdict.facts.append(f"{COUNTERS} counters, {sum(high.values())} times counted, {slack} of them perhaps")


async def _raised(connection: asyncpg.Connection, writes: list[Write], verdict: Verdict) -> None:
    """What failed with a code that PostgreSQL also uses for what never ran was not run again."""
    outcomes = Counter(write.outcome for write in writes if write.kind == "raised")
    least, most = outcomes[Outcome.OK], outcomes[Outcome.OK] + outcomes[Outcome.UNKNOWN]
    runs = await connection.fetchval("select last_value - (not is_called)::int from soak_raised")
    if not least <= runs <= most:
        verdict.violations.append(f"soak_raise() ran {runs} times, outside of {least} to {most}")
