"""`python -m benchmarks.soak`: many requests of all kinds, and every row and every write of them judged."""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import click
from rich.console import Console

from pgactor.actors.embedded import embedded_postgres

from .crew import Crew
from .disturber import Disturber
from .report import progress, show, show_violations, total
from .supervisor import Supervisor, supervisor
from .truth import drop, fill
from .verdict import Verdict, judge_all

PROGRESS_SECONDS = 3.0
STUCK_SECONDS = 60.0
GROWTH_MB = 48.0
"""By how much the supervisor's memory may grow in the second half of the run."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--requests", default=100_000, help="How many, of all processes.")
@click.option("--processes", default=8, help="Worker processes.")
@click.option("--connections", default=8, help="The supervisor's max_size.")
@click.option("--seed", default=1, help="What is left to chance depends on it, but for the time that things take.")
@click.option("--lane", type=click.Choice(["on", "off"]), default="on", help="The supervisor's statement_lane.")
@click.option("--deep/--usual", default=True, help="Send many statements to a backend at once, slow ones among them.")
@click.option("--dsn", help="A database of yours, instead of an embedded one. Tables soak_* are made there.")
@click.option("--keep", is_flag=True, help="Leave the tables, ledgers and logs where they are.")
def main(
    requests: int, processes: int, connections: int, seed: int, lane: str, deep: bool, dsn: str | None, keep: bool
) -> None:
    """Find a wrong row, a lost write or a doubled write. Exits 1 if there is one."""
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="pgs-"))
    with _database(dsn) as database:
        asyncio.run(fill(database))
        with supervisor(database, folder, connections=connections, lane=lane, deep=deep) as running:
            crew = Crew(
                processes=processes, requests=requests, ipc=running.ipc, tcp=running.tcp, folder=folder, seed=seed
            )
            try:
                violations = _soak(console, database, running, crew, requests, seed)
            finally:
                crew.end()
            said = [line for line in running.log.read_text().splitlines() if " ERROR " in line or "Traceback" in line]
        console.print(f"the supervisor's log has {len(said)} errors {said[:5]}", markup=False)
        if keep:
            console.print(f"kept: {folder}", markup=False)
        else:
            asyncio.run(drop(database))
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
    show_violations(console, violations, seed)
    sys.exit(1 if violations else 0)


def _soak(console: Console, dsn: str, running: Supervisor, crew: Crew, requests: int, seed: int) -> list[str]:
    """The run, and what was found."""
    began = said_at = moved_at = time.monotonic()
    random = Random(f"{seed} kills")
    first, half, done = running.memory_mb(), 0.0, 0
    kill_at = began + 3 + random.random() * 10
    with Disturber(dsn, running, seed) as disturber:
        while crew.working:
            crew.listen(0.2)
            now = time.monotonic()
            counts = crew.counts()
            if total(counts, "requests") != done:
                done, moved_at = total(counts, "requests"), now
            elif now - moved_at > STUCK_SECONDS:
                crew.violations.append(f"nothing has moved for {STUCK_SECONDS:g} s")
                break
            if not half and done >= requests / 2:
                half = running.memory_mb()
            if now >= kill_at and done < requests * 0.95:
                crew.kill_one()
                kill_at = now + 4 + random.random() * 12
            if now - said_at >= PROGRESS_SECONDS:
                said_at = now
                rest = ", ".join(f"{name} {count}" for name, count in sorted(disturber.done.items()))
                memory = f"{running.memory_mb():.0f} MB"
                console.print(progress(now - began, counts, f"workers killed {crew.killed}, {rest}, {memory}"))
    seconds = time.monotonic() - began
    try:
        verdict = asyncio.run(judge_all(dsn, running, crew.ledgers))
    except Exception as error:
        verdict = Verdict([f"the state at the end could not be judged: {error!r}"])
    last = running.memory_mb()
    show(console, crew.counts(), crew.errors())
    for fact in verdict.facts:
        console.print(fact, markup=False)
    console.print(
        f"{seconds:.0f} s, {done / seconds:,.0f} requests/s; disturbed: {crew.killed} workers killed, "
        f"{dict(disturber.done)}; the supervisor's memory: {first:.0f} MB at first, {half:.0f} at half time, "
        f"{last:.0f} at last, {running.most_memory_mb():.0f} at most",
        markup=False,
    )
    violations = crew.found() + verdict.violations
    if half and last - half > GROWTH_MB:
        violations.append(f"the supervisor's memory grew from {half:.0f} to {last:.0f} MB in the second half")
    if disturber.failed is not None:
        violations.append(f"the disturber failed: {disturber.failed!r}")
    return violations


@contextmanager
def _database(dsn: str | None) -> Iterator[str]:
    if dsn is not None:
        yield dsn
        return
    with embedded_postgres() as embedded:
        yield embedded
    gc.collect()


if __name__ == "__main__":
    main()
