"""Results, to be read."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .cases import Case
from .results import MORE_IS_BETTER, UNITS, Compared, Results


def show_case(console: Console, results: Results, case: Case) -> None:
    """Medians of all contenders, and the first one's ratio to each."""
    figures = [
        figure
        for figure in UNITS
        if any(results.median(case.name, contender.name, figure) is not None for contender in case.contenders)
    ]
    first = case.contenders[0].name
    ratio = case.headline if case.headline in figures else "per_second"
    table = Table(title=f"{case.name}: {case.title}", title_justify="left")
    table.add_column("")
    for figure in figures:
        table.add_column(UNITS[figure], justify="right")
    table.add_column(f"{first} is, in {UNITS[ratio]}", justify="right")
    table.add_column("failed", justify="right")
    for contender in case.contenders:
        name = contender.name
        runs = results.of(case.name, name)
        if not runs:
            table.add_row(name, *("" for _ in figures), "", results.left_out.get(name, "not run"))
            continue
        compared = results.compared(case.name, first, name, ratio)
        failures = [run.failure for run in runs if run.failure]
        errors = sorted({error for run in runs for error in run.errors})
        requests = sum(sum(run.errors.values()) for run in runs)
        asked = sum(run.values.get("asked", 0) for run in runs)
        said = [f"{len(failures)} runs: {failures[0]}"] if failures else []
        if requests:
            said.append(f"{requests:,} of {asked:,.0f} requests: {', '.join(errors)}")
        table.add_row(
            name,
            *(_number(results.median(case.name, name, figure)) for figure in figures),
            "" if name == first or compared.median is None else f"{compared.median:.2f}x",
            "; ".join(said) or "0",
        )
    console.print(table, markup=False)


def show_ratios(console: Console, compared: Sequence[Compared]) -> None:
    """A line for each ratio."""
    table = Table(title="ratios: medians of the rounds' ratios of neighbours", title_justify="left")
    for name in ("case", "of", "to", "in", "ratio", "lowest", "highest", "rounds", "good is"):
        table.add_column(name, justify="right" if name in ("ratio", "lowest", "highest", "rounds") else "left")
    for one in compared:
        values = one.values
        figures = (
            (f"{one.median:.2f}", f"{min(values):.2f}", f"{max(values):.2f}") if values else ("not measured", "", "")
        )
        good = "more" if one.figure in MORE_IS_BETTER else "less"
        table.add_row(one.case, one.ours, one.theirs, UNITS[one.figure], *figures, str(len(values)), good)
    console.print(table, markup=False)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:,.0f}" if value >= 100 or value.is_integer() else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    )
