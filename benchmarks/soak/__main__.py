"""`python -m benchmarks.soak`: many requests of all kinds, and every row and every write of them judged."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from random import Random

import click
from rich.console import Console

from .chaos import Chaos
from .crew import Crew
from .disturber import Disturber
from .memory import Memory
from .postgres import Postgres, postgres
from .report import progress, show, show_violations, total
from .supervisor import Supervisor, supervisor
from .truth import drop, fill
from .verdict import Verdict, judge_all

PROGRESS_SECONDS = 3.0
STUCK_SECONDS = 60.0
MANY = 10**12
"""Requests: the time is over before."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--requests", default=100_000, help="How many, of all processes.")
@click.option("--minutes", type=float, help="How long, in place of --requests; with chaos.")
@click.option("--processes", default=8, help="Worker processes.")
@click.option("--connections", default=8, help="The supervisor's max_size.")
@click.option("--seed", default=1, help="What is left to chance depends on it, but for the time that things take.")
@click.option("--lane", type=click.Choice(["on", "off"]), default="on", help="The supervisor's statement_lane.")
@click.option("--deep/--usual", default=True, help="Send many statements to a backend at once, slow ones among them.")
@click.option("--dsn", help="A database of yours, instead of an embedded one. Tables soak_* are made there.")
@click.option("--keep", is_flag=True, help="Leave the tables, ledgers and logs where they are.")
def main(
    requests: int,
    minutes: float | None,
    processes: int,
    connections: int,
    seed: int,
    lane: str,
    deep: bool,
    dsn: str | None,
    keep: bool,
) -> None:
    """Find a wrong row, a lost write or a doubled write. Exits 1 if there is one."""
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="pgs-"))
    chaos = minutes is not None
    with postgres(dsn) as database:
        asyncio.run(fill(database.dsn))
        with supervisor(database.dsn, folder, connections=connections, lane=lane, deep=deep, chaos=chaos) as running:
            crew = Crew(
                processes=processes,
                requests=MANY if chaos else requests,
                ipc=running.ipc,
                tcp=running.tcp,
                folder=folder,
                seed=seed,
                until=None if minutes is None else time.monotonic() + minutes * 60,
            )
            trouble = (
                None
                if minutes is None
                else Chaos(database, running, crew, connections=connections, seconds=minutes * 60, seed=seed)
            )
            try:
                violations = _soak(console, database, running, crew, trouble, None if chaos else requests, seed)
            finally:
                crew.end()
            said = [line for line in running.log.read_text().splitlines() if " ERROR " in line or "Traceback" in line]
        console.print(f"the supervisor's log has {len(said)} errors {said[:5]}", markup=False)
        violations += [line for line in said if "an unexpected error" in line]
        if keep:
            console.print(f"kept: {folder}", markup=False)
        else:
            asyncio.run(drop(database.dsn))
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
    show_violations(console, violations, seed)
    sys.exit(1 if violations else 0)


def _soak(
    console: Console,
    database: Postgres,
    running: Supervisor,
    crew: Crew,
    chaos: Chaos | None,
    requests: int | None,
    seed: int,
) -> list[str]:
    """The run, and what was found. requests: how many there are to be, if that is what ends it."""
    began = said_at = moved_at = time.monotonic()
    random = Random(f"{seed} kills")
    memory = Memory(running)
    done = 0
    kill_at = began + 3 + random.random() * 10
    disturber = Disturber(database.dsn, running, seed, may_restart=chaos is not None)

    def faults() -> Counter[str]:
        killed = Counter({"workers killed": crew.killed}) if chaos is None else chaos.done
        return disturber.done + killed

    with disturber, chaos or nullcontext():
        while crew.working:
            crew.listen(0.2)
            now = time.monotonic()
            memory.look(now)
            counts = crew.counts()
            if total(counts, "requests") != done:
                done, moved_at = total(counts, "requests"), now
            elif now - moved_at > STUCK_SECONDS:
                crew.violations.append(f"nothing has moved for {STUCK_SECONDS:g} s")
                break
            if requests is not None and now >= kill_at and done < requests * 0.95:
                crew.kill_one()
                kill_at = now + 4 + random.random() * 12
            if now - said_at >= PROGRESS_SECONDS:
                said_at = now
                rest = ", ".join(f"{name} {count}" for name, count in sorted(faults().items()))
                console.print(progress(now - began, counts, f"{rest}, {running.memory_mb():.0f} MB"), markup=False)
    seconds = time.monotonic() - began
    try:
        verdict = asyncio.run(judge_all(database.dsn, running, crew.ledgers, restarts=database.restarts))
    except Exception as error:
        verdict = Verdict([f"the state at the end could not be judged: {error!r}"])
    show(console, crew.counts(), crew.errors())
    for fact in verdict.facts:
        console.print(fact, markup=False)
    words, growth = memory.judge()
    violations = crew.found() + verdict.violations
    if chaos is not None:  # so many requests may take long where the machine is slow, and memory grows with the first
        violations += growth
    for cause in (disturber, chaos):
        if cause is not None and cause.failed is not None:
            violations.append(f"{type(cause).__name__} failed: {cause.failed!r}")
    if chaos is not None:
        violations += chaos.violations
    console.print(f"{words}, {running.most_memory_mb():.0f} at most; it had {running.lives} lives", markup=False)
    told = ", ".join(f"{count} {name}" for name, count in sorted(faults().items()))
    console.print(
        f"{seconds:.0f} s, {done / seconds:,.0f} requests/s: {done:,} requests, {faults().total():,} faults, "
        f"{len(violations)} findings; faults: {told}",
        markup=False,
    )
    return violations


if __name__ == "__main__":
    main()
