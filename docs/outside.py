"""A hook of mkdocs: the site has pages and files from outside of docs/, which links in the repository lead to.

A link to a file becomes one to a copy of it, a link to a folder plain text; in the repository itself both work as
they are written.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {
    "about.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "protocol.md": "protocols/README.md",
    "workers.md": "workers/README.md",
}
"""Where pages of the site come from that are not in docs/."""

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, source in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have the page's links lead to where things are in the site, and add the files that it names."""
    here = (ROOT / PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent
    homes = {source: name for name, source in PAGES.items()}

    def relinked(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = os.path.relpath(here / target, ROOT)
        if path.startswith("docs/"):
            return f"[{text}]({path.removeprefix('docs/')}{anchor})"
        if path in homes:
            return f"[{text}]({homes[path]}{anchor})"
        if (ROOT / path).is_dir():
            return text
        if not (ROOT / path).is_file() or path.endswith(".md"):
            return link[0]  # mkdocs will complain of it
        if files.get_file_from_path(f"source/{path}") is None:
            files.append(File.generated(config, f"source/{path}", abs_src_path=str(ROOT / path)))
        return f"[{text}](source/{path})"

    return _LINK.sub(relinked, markdown)
