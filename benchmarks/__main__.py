"""`python -m benchmarks`: peers side by side, alternating in one run."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

import click
from rich.console import Console

from .cases import CASES, chosen
from .chart import draw
from .database import database
from .measure import Bench
from .results import Results
from .rounds import all_ratios, asked_ratios, run_case
from .servers import pgbouncer_version
from .table import show_case, show_ratios


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--scenario", "scenarios", multiple=True, help="A letter, or a case's name; may be repeated. [all]")
@click.option("--rounds", default=5, help="How often all run, in turns.")
@click.option(
    "--seconds", default=0.6, help="Of each run; its warm-up comes before. Some cases take two or three times that."
)
@click.option("--warm-up", default=0.3, help="Seconds under load that are not measured.")
@click.option("--pgbouncer", envvar="PGBOUNCER", show_envvar=True, help="PgBouncer's path, 1.21 or newer.")
@click.option("--setting", "settings", multiple=True, help="A line for the embedded PostgreSQL's configuration.")
@click.option("--json", "json_path", default="benchmarks/results.json", type=click.Path(path_type=Path))
@click.option("--chart", "chart_path", default="benchmarks/results.png", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="One short round, to see that all works.")
@click.option("--list", "list_cases", is_flag=True, help="The cases, and nothing else.")
def main(
    scenarios: tuple[str, ...],
    rounds: int,
    seconds: float,
    warm_up: float,
    pgbouncer: str | None,
    settings: tuple[str, ...],
    json_path: Path,
    chart_path: Path,
    quick: bool,
    list_cases: bool,
) -> None:
    """Compare pgactor with its peers in the database $PGACTOR_BENCH_DSN, or in an embedded PostgreSQL.

    Results are written after each case.
    """
    console = Console(width=None if Console().is_terminal else 250, highlight=False)
    if list_cases:
        for case in CASES:
            click.echo(f"{case.name:12} {case.title}{'  (only if named)' if case.asked_for else ''}")
        return
    cases = chosen(scenarios)
    if not cases:
        raise click.UsageError(f"no such scenario: {', '.join(scenarios)}")
    if quick:
        rounds, seconds = 1, 0.5
    try:
        version = pgbouncer_version(pgbouncer) if pgbouncer else "none"
    except RuntimeError as error:
        raise click.UsageError(str(error)) from None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for all that is started: connections are many
    began = time.monotonic()
    with database(settings) as opened:
        about = {
            "PostgreSQL": opened.version,
            "PgBouncer": version,
            "Python": platform.python_version(),
            "cores": str(len(os.sched_getaffinity(0))),
            "rounds": str(rounds),
            "seconds": f"{seconds:g}",
            **({"settings": ", ".join(settings)} if settings else {}),
        }
        results = Results(about)
        bench = Bench(opened, pgbouncer, seconds, warm_up)
        for case in cases:
            run_case(bench, case, results, rounds=rounds, tell=lambda said: console.print(said, markup=False))
            show_case(console, results, case)
            results.write(json_path, [*asked_ratios(results, cases), *all_ratios(results, cases)])
    show_ratios(console, asked_ratios(results, cases))
    draw(results, cases, chart_path)
    for name, reason in results.left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    console.print(f"{time.monotonic() - began:.0f} s; {json_path}, {chart_path}", markup=False)


if __name__ == "__main__":
    main()
