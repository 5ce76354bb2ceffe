"""Results, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .cases import Case
from .results import MORE_IS_BETTER, UNITS, Results

_OURS, _THEIRS = "#2a6fbb", "#b8bec6"
_COLUMNS = 2


def draw(results: Results, cases: Sequence[Case], path: Path) -> None:
    """A bar for each contender, a panel for each case, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [(case, bars) for case in cases if (bars := _bars(results, case))]
    if not shown:
        return
    rows = [shown[at : at + _COLUMNS] for at in range(0, len(shown), _COLUMNS)]
    heights = [max(len(bars) for _, bars in row) + 2.2 for row in rows]
    figure, grid = plt.subplots(
        len(rows), _COLUMNS, figsize=(16, 0.36 * sum(heights)), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for row, panels in zip(rows, grid, strict=True):
        for panel in panels[len(row) :]:
            panel.set_visible(False)
        slots = max(len(bars) for _, bars in row)
        for (case, bars), panel in zip(row, panels, strict=False):
            names = [name for name, _, _ in bars]
            values = [value for _, value, _ in bars]
            colours = [_OURS if name.startswith("pgactor") else _THEIRS for name in names]
            panel.barh(range(len(bars)), values, color=colours, height=0.72)
            panel.set_yticks(range(len(bars)), names, fontsize=9)
            panel.set_ylim(slots - 0.4, -0.6)
            panel.set_xlim(0, max(values) * 1.32)
            for at, (_, value, said) in enumerate(bars):
                panel.text(value + max(values) * 0.01, at, said, va="center", fontsize=8.5)
            good = "more is better" if case.headline in MORE_IS_BETTER else "less is better"
            panel.set_title(f"{case.name}: {case.title}", fontsize=10, loc="left", fontweight="bold", wrap=True)
            panel.set_xlabel(f"{UNITS[case.headline]} ({good})", fontsize=8.5)
            panel.tick_params(axis="x", labelsize=8)
            panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle("; ".join(f"{key}: {value}" for key, value in results.about.items()), fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(results: Results, case: Case) -> list[tuple[str, float, str]]:
    bars = []
    for contender in case.contenders:
        value = results.median(case.name, contender.name, case.headline)
        if value is None:
            continue
        said = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
        p99 = results.median(case.name, contender.name, "p99_ms")
        if p99 is not None and case.headline != "p99_ms":
            said += f"   p99 {p99:,.1f} ms"
        bars.append((contender.name, value, said))
    return bars
