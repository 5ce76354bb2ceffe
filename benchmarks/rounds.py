"""Who runs next to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cases import RATIOS, Case, Contender
from .measure import Bench
from .results import UNITS, Compared, Results, Run

FAILURES = 2
"""A contender that failed so often in a case is not tried again there."""


def order(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """A round: the first contender runs between each two others; every second round is turned round."""
    first, *others = contenders
    found: list[Contender] = []
    for at in range(0, len(others), 2):
        found += [others[at], first, *others[at + 1 : at + 2]]
    found = found or [first]
    return found if number % 2 == 0 else found[::-1]


def run_case(bench: Bench, case: Case, results: Results, *, rounds: int, tell: Callable[[str], None]) -> None:
    """All rounds of a case. A contender that fails costs the others nothing."""
    if case.work == "transfer":
        bench.database.fill_transfers()
    contenders = []
    for contender in case.contenders:
        reason = bench.needs(contender)
        if reason is None:
            contenders.append(contender)
        else:
            results.left_out[contender.name] = reason
    failures: dict[str, int] = {}
    for number in range(rounds):
        for position, contender in enumerate(order(contenders, number)):
            if failures.get(contender.name, 0) >= FAILURES:
                continue
            try:
                values, errors = bench.run(case, contender, number)
                run = Run(case.name, contender.name, number, position, values, errors)
            except Exception as error:
                run = Run(case.name, contender.name, number, position, failure=f"{type(error).__name__}: {error}")
                failures[contender.name] = failures.get(contender.name, 0) + 1
                if case.work == "transfer":
                    bench.database.fill_transfers()
            results.runs.append(run)
            tell(_line(case, run))


def asked_ratios(results: Results, cases: Sequence[Case]) -> list[Compared]:
    """The ratios that are always shown."""
    firsts = {case.name: case.contenders[0].name for case in cases}
    return [
        results.compared(ratio.case, firsts[ratio.case], ratio.theirs, ratio.figure)
        for ratio in RATIOS
        if ratio.case in firsts
    ]


def all_ratios(results: Results, cases: Sequence[Case]) -> list[Compared]:
    """Of each case's first contender and each other one, in each figure."""
    return [
        compared
        for case in cases
        for other in case.contenders[1:]
        for figure in UNITS
        if (compared := results.compared(case.name, case.contenders[0].name, other.name, figure)).values
    ]


def _line(case: Case, run: Run) -> str:
    said = run.failure or ", ".join(
        f"{run.values[figure]:,.{0 if run.values[figure] >= 100 else 2}f} {UNITS[figure]}"
        for figure in ("per_second", "p50_ms", "p99_ms")
        if figure in run.values
    )
    errors = "".join(f", {count} {name}" for name, count in run.errors.items())
    return f"{case.name}, round {run.round + 1}, {run.contender}: {said}{errors}"
