"""What `pgactor top` shows: a sight as lines of a terminal of some size."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..display import plain
from ..messages.pool import HolderStatus
from .figures import STATES, Figures, Spread
from .watch import Sight

LETTERS = {
    "idle": ("i", "black on green"),
    "busy": ("B", "white on blue"),
    "draining": ("D", "black on cyan"),
    "leased": ("L", "black on yellow"),
    "resetting": ("r", "white on magenta"),
    "opening": ("o", "black on white"),
    "closing": ("c", "white on bright_black"),
    "vacant": ("\N{MIDDLE DOT}", "dim"),
}
"""A holder's cell, by its state: seen without colours, too."""

UNKNOWN = "?"
NARROW = 110
"""A terminal with fewer columns has no place for all columns of the leases."""
ALERTS, STRIP = 4, 4
"""How many lines they have at most, where lines are few."""


def frame(sight: Sight, pool: str | None, width: int, height: int | None, hint: str = "") -> RenderableType:
    """One picture. pool: which of the sight's; None, or one that is gone: the first. height: None for all that
    there is to say. hint: what keys do."""
    figures = sight.pools.get(pool or "") or next(iter(sight.pools.values()), None)
    head = [_title(sight, figures)]
    if sight.error:
        head.append(_silence(sight, figures))
    if figures is None:
        return _clip([*head, Text(hint, "dim")], width)
    if len(sight.pools) > 1 or sight.unseen:
        head.append(_pools(sight, figures))
    head += _rates(figures)
    cells = width * (STRIP if height is not None else 1000)
    head += _strip(figures.status.holders, width, cells)
    head.append(_legend(figures))
    alerts = [Text(f"! {plain(alert.text)}", "bold red") for alert in figures.alerts]
    if height is not None:
        if len(alerts) > ALERTS:
            alerts[ALERTS - 1 :] = [Text(f"! {len(alerts) - ALERTS + 1} more warnings", "bold red")]
        head += alerts
        alerts = []
    made = _leases(figures, narrow=height is not None and width < NARROW), _statements(figures), _workers(figures)
    tables = [_Rows(*each) for each in made if each[1]]
    if height is not None:
        left = height - len(head) - bool(hint) - 1  # a terminal scrolls when its last line is full
        for table, lines in zip(tables, share(left, [1 + len(table.rows) for table in tables]), strict=True):
            table.rows = table.rows[: max(0, lines - 1)]
    shown = [table.made(shorten=height is not None) for table in tables if table.rows]
    return Group(_clip(head, width), *alerts, *shown, *([Text(hint, "dim")] if hint else []))


def share(lines: int, wanted: Sequence[int]) -> list[int]:
    """How many lines each gets of those that there are: they take turns, as long as one wants more. One line alone
    would be a head without a table, so that is none."""
    given = [0] * len(wanted)
    while lines > 0 and (hungry := [index for index, most in enumerate(wanted) if given[index] < most]):
        for index in hungry[:lines]:
            given[index] += 1
            lines -= 1
    return [0 if each == 1 else each for each in given]


def duration(seconds: float | None) -> str:
    """Three figures, and the unit that fits."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:  # what is more is rounded to a second
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class _Rows:
    """A table to be. columns: their names and how much of the width each has, 0 for what it needs."""

    def __init__(self, columns: dict[str, int], rows: list[tuple[str | Text, ...]]) -> None:
        self.columns, self.rows = columns, rows

    def made(self, *, shorten: bool) -> Table:
        """As rich has it. shorten: what is too long, so that each row is one line."""
        table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="reverse", pad_edge=False)
        for name, ratio in self.columns.items():
            table.add_column(name, no_wrap=shorten, overflow="ellipsis" if shorten else "fold", ratio=ratio or None)
        for row in self.rows:
            table.add_row(*(each if isinstance(each, Text) else Text(plain(each)) for each in row))
        return table


def _clip(lines: Iterable[Text], width: int) -> Group:
    clipped = []
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
        clipped.append(line)
    return Group(*clipped)


def _title(sight: Sight, figures: Figures | None) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(sight.at))
    if figures is None:
        return Text(f"pgactor top  {clock}  {sight.endpoint}")
    status = figures.status
    line = Text.assemble((f"pgactor {status.version}", "bold"), f"  {clock}  up {duration(status.uptime_seconds)}")
    line.append("  database: ")
    line.append(plain(status.database), "" if status.database == "ok" else "bold red")
    return line.append(f"  {sight.endpoint}", "dim")


def _silence(sight: Sight, figures: Figures | None) -> Text:
    seen = f"what follows is {duration(sight.silent_seconds)} old" if figures else "nothing has been seen yet"
    return Text(f"NO ANSWER, {seen}: {plain(sight.error)}", "bold white on red")


def _pools(sight: Sight, chosen: Figures) -> Text:
    line = Text("pools  ")
    for name, figures in sight.pools.items():
        status = figures.status
        words = f" {plain(name)} {status.size}/{status.max_size}"
        words += f" waiting {status.waiting} " if status.waiting else " "
        line.append(words, "reverse" if figures is chosen else "bold red" if figures.alerts else "")
    for name, why in sight.unseen.items():
        line.append(f" {plain(name)} ({plain(why)})", "dim")
    return line


def _rates(figures: Figures) -> list[Text]:
    def rate(value: float | None) -> str:
        return UNKNOWN if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"

    def spread(name: str, *parts: str) -> str:
        found = figures.spreads.get(name)
        return "  ".join(f"{part} {_part(found, part)}" for part in parts)

    status, depth = figures.status, figures.spreads.get("depth")
    deep = UNKNOWN if depth is None else f"{depth.mean:.1f}"
    first = Text.assemble("requests ", (f"{rate(figures.requests)}/s", "bold"), "  ")
    first.append(f"refused {rate(figures.refused)}/s", "bold red" if figures.refused else "")
    first.append(f"  leases {rate(figures.leases)}/s  pipelined {deep}  lag {spread('lag', 'p99')}")
    second = Text(f"took {spread('total', 'p50', 'p95', 'p99')}  wait {spread('wait', 'p99')}  ")
    second.append(f"service {spread('service', 'p99')}")
    third = Text("queue ")
    third.append(str(status.waiting), "bold red" if status.waiting else "bold")
    if status.waiting:
        third.append(f", the first for {duration(status.oldest_waiting_seconds)}", "bold red")
    third.append(f"  workers {len(status.workers)}, {sum(bool(each.waiting) for each in status.workers)} waiting")
    third.append(f"  leases {len(status.leases)}  connections {status.size} of {status.max_size}")
    return [first, second, third]


def _part(spread: Spread | None, part: str) -> str:
    if spread is None:
        return UNKNOWN
    value: float = getattr(spread, part)
    return f">{duration(value)}" if spread.beyond and part == "p99" else duration(value)


def _strip(holders: list[HolderStatus], width: int, most: int) -> list[Text]:
    """A cell for each holder, in as many lines as it takes."""
    shown = holders if len(holders) <= most else holders[: most - len(" and 1000000 more")]
    cells = Text()
    for holder in shown:
        cells.append(*LETTERS.get(holder.state, (UNKNOWN, "")))
    if len(shown) < len(holders):
        cells.append(f" and {len(holders) - len(shown)} more")
    return [cells[start : start + width] for start in range(0, len(cells), width)]


def _legend(figures: Figures) -> Text:
    line = Text()
    for state in STATES:
        if count := figures.states.get(state, 0):
            letter, style = LETTERS[state]
            line.append(letter, style).append(f" {state} {count}  ")
    return line


def _leases(figures: Figures, *, narrow: bool) -> tuple[dict[str, int], list[tuple[str | Text, ...]]]:
    columns = {"LEASE HELD": 0, "LABEL": 3, "WORKER": 2, "ACQUIRED AT": 3, "STATE": 0}
    if not narrow:
        columns["STATEMENT"] = 3
    rows: list[tuple[str | Text, ...]] = []
    for lease in sorted(figures.status.leases, key=lambda each: -each.seconds):
        held = Text(duration(lease.seconds), "bold red" if lease.reported else "")
        who = f"{lease.worker} {lease.pid or ''}"
        place, _, line = lease.where.rpartition("/")  # what follows the last one tells most
        where = line if narrow and place else lease.where
        row = (held, lease.label or "(no label)", who, where or UNKNOWN, lease.state, lease.statement)
        rows.append(row[: len(columns)])
    return columns, rows


def _statements(figures: Figures) -> tuple[dict[str, int], list[tuple[str | Text, ...]]]:
    columns = {"SLOWEST: AT MOST": 0, "MEAN": 0, "TIMES": 0, "STATEMENT": 1}
    return columns, [
        (duration(each.max_seconds), duration(each.mean_seconds), f"{each.count:,}", each.statement)
        for each in figures.status.slowest
    ]


def _workers(figures: Figures) -> tuple[dict[str, int], list[tuple[str | Text, ...]]]:
    columns = {"WORKER": 1, "PID": 0, "BY": 0, "CONNECTED": 0, "WAITING": 0, "RUNNING": 0, "LEASES": 0}
    workers = sorted(figures.status.workers, key=lambda each: (-each.waiting, -each.leases, -each.running))
    return columns, [
        (each.label or f"worker {each.number}", str(each.pid or ""), each.road, duration(each.connected_seconds),
         str(each.waiting), str(each.running), str(each.leases))
        for each in workers
    ]  # fmt: skip
