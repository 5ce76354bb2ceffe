"""docs/compatibility.md: `python -m tests.compatibility.report` writes it, from the tests' names and docstrings.

A test belongs to the row that its name begins with: test_A5_waiters_are_served_in_order. Its first line of docstring
is its sentence, or else its name is.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

from tests.compatibility.deviations import DEVIATIONS
from tests.compatibility.rows import ROWS, SECTIONS, order

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "compatibility.md"

INTRODUCTION = """\
# Compatibility

What asyncpg and psqlpy promise, row by row, and how pgactor keeps it. Each row's tests ask the same of the other
library and of pgactor, side by side, and compare results, error classes and messages; they are in
[tests/compatibility](../tests/compatibility). Where pgactor differs, it does so by choice, and the reason is given.

This page is made by `python -m tests.compatibility.report`.
"""

_NAME = re.compile(r"test_([A-Z]\d+)_(\w+)")
"""A test's name: its row, and what it shows."""


def sentences() -> dict[str, list[str]]:
    """What the tests show, by row."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (name := _NAME.fullmatch(node.name)):
                found[name[1]].append(_sentence(ast.get_docstring(node), name[2]))
    return found


def page() -> str:
    """All of docs/compatibility.md."""
    shown = sentences()
    rows = sorted({*ROWS, *shown, *DEVIATIONS}, key=order)
    parts = [INTRODUCTION]
    for section, title in SECTIONS.items():
        mine = [row for row in rows if row[0] == section]
        parts.append(f"## {section}. {title}\n")
        parts.append("| row | promise | tests | pgactor |\n|---|---|---|---|")
        parts += [_line(row, shown[row]) for row in mine]
        parts += [_details(row, shown[row]) for row in mine if shown[row] or row in DEVIATIONS]
    return "\n".join(parts)


def _line(row: str, shown: list[str]) -> str:
    kept = "differs, see below" if row in DEVIATIONS else "the same" if shown else "not shown yet"
    return f"| {row} | {ROWS[row]} | {len(shown) or '-'} | {kept} |"


def _details(row: str, shown: list[str]) -> str:
    lines = [f"\n### {row}. {ROWS[row]}\n", *(f"- {sentence}" for sentence in shown)]
    if row in DEVIATIONS:
        lines += ["\nChosen otherwise:\n", *(f"- {reason}" for reason in DEVIATIONS[row])]
    return "\n".join([*lines, ""])


def _sentence(docstring: str | None, name: str) -> str:
    words = docstring.splitlines()[0].rstrip(".") if docstring else name.replace("_", " ")
    return words[0].upper() + words[1:]


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != text and f"{PAGE} is not up to date: make compatibility")
    PAGE.write_text(text, encoding="utf-8")
