"""The blocks of code in the documentation, as Markdown has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
_OUTSIDE = ["CHANGELOG.md", "README.md", "protocols/README.md", "workers/README.md"]
PAGES = [*_OUTSIDE, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

_NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*\Z")
_parser = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A block of code. line: where it begins in its page, from 1. language: of a fence; "sh" if it names none, and
    for what is indented. not_run: the reason that a comment before it gives; "": none."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, *languages: str) -> list[Block]:
    """The page's blocks in these languages; in all, if none is named."""
    return [block for block in _blocks(page) if not languages or block.language in languages]


def _blocks(page: str) -> Iterator[Block]:
    reason = ""
    for token in _parser.parse((ROOT / page).read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = (token.info.split() or ["sh"])[0]
            yield Block(page, token.map[0] + 1, language, token.content, reason)
        marked = _NOT_RUN.search(token.content) if token.type == "html_block" else None
        reason = marked[1] if marked else ""


def inline_code(page: str) -> Iterator[str]:
    """What stands between backquotes in the page's text."""
    for token in _parser.parse((ROOT / page).read_text(encoding="utf-8")):
        yield from (child.content for child in token.children or () if child.type == "code_inline")
