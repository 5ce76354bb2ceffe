"""Progress, and the table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .crew import unanswered
from .ledger import Outcome
from .mix import KINDS

SHOWN = 8
"""How many violations are shown."""


def total(counts: Counter[tuple[str, str]], what: str) -> int:
    """Of all kinds."""
    return sum(count for (_, each), count in counts.items() if each == what)


def progress(seconds: float, counts: Counter[tuple[str, str]], rest: str) -> str:
    """A line of it."""
    requests = total(counts, "requests")
    return (
        f"{seconds:5.0f} s {requests:9,} requests {requests / max(seconds, 0.001):6,.0f}/s  "
        f"unknown {total(counts, Outcome.UNKNOWN):,}  wrong {total(counts, Outcome.WRONG):,}  {rest}"
    )


def show(console: Console, counts: Counter[tuple[str, str]], errors: Counter[str]) -> None:
    """By kind of request: how many, and what became of them."""
    table = Table(title="requests, by kind")
    columns = ("requests", *(outcome.value for outcome in Outcome))
    table.add_column("kind")
    for name in ("requests", "ok", "failed", "unknown", "wrong"):
        table.add_column(name, justify="right")
    for kind in KINDS:
        table.add_row(kind, *(f"{counts[kind, each]:,}" for each in columns))
    table.add_section()
    table.add_row("all", *(f"{total(counts, each):,}" for each in columns))
    console.print(table)
    console.print(f"{unanswered(counts)} requests were not answered when their worker was killed")
    told = ", ".join(f"{count} {name}" for name, count in errors.most_common())
    console.print(f"errors: {told}", markup=False)


def show_violations(console: Console, violations: Sequence[str], seed: int) -> None:
    """The first few."""
    for each in violations[:SHOWN]:
        console.print(f"VIOLATION {each}", markup=False)
    if len(violations) > SHOWN:
        console.print(f"and {len(violations) - SHOWN} more", markup=False)
    console.print(f"{len(violations)} violations, with seed {seed}" if violations else f"nothing wrong, seed {seed}")
