"""The pages: every error is told of, links lead somewhere, and the site builds without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pgactor.errors import BY_CODE, OutcomeUnknown, PgactorError, PoolError
from tests.docs.blocks import PAGES, ROOT

TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """What troubleshooting.md says under each of its third headings."""
    parts = re.split(r"^### (.+)$", TROUBLES, flags=re.MULTILINE)
    return {
        name: re.split(r"^## ", text, flags=re.MULTILINE)[0]
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_troubleshooting_has_each_error_and_no_other() -> None:
    assert sorted(sections()) == sorted(cls.__name__ for cls in BY_CODE.values())


@pytest.mark.parametrize("cls", BY_CODE.values(), ids=lambda cls: cls.__name__)
def test_troubleshooting_tells_an_errors_code_promise_and_bases(cls: type[PgactorError]) -> None:
    text = " ".join(sections()[cls.__name__].split())
    assert text.startswith(f"Code `{cls.code}`{', retry.' if cls.retry else '.'}")
    if cls.retry or issubclass(cls, PoolError):
        assert "**not run**" in text
    if cls is OutcomeUnknown:
        assert "**may have taken effect**" in text
    assert "**" in text or cls.__subclasses__(), "what is promised is in bold"
    for base in (TimeoutError, ConnectionError, PermissionError, TypeError):
        assert (f"Also a {base.__name__}" in text) == issubclass(cls, base)


@pytest.mark.parametrize("page", ["README.md", "workers/README.md", "CHANGELOG.md", "protocols/README.md"])
def test_links_of_pages_outside_of_docs_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


class Fetched(HTMLParser):
    """The addresses that a page of the site has a browser fetch by itself."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(given.get("src") or "")
        elif tag == "link":
            self.found.append(given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it; proxies that lead nowhere stand for the network."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_the_site_has_every_page_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.name for path in site.glob("*.html")}
    assert {"about.html", "protocol.html", "workers.html", "changelog.html"} <= pages
    assert {f"{Path(page).stem}.html" for page in PAGES if page.startswith("docs/")} <= pages
    fetched = [address for page in site.glob("*.html") for address in Fetched(page).found]
    assert fetched
    assert not [address for address in fetched if re.match(r"(https?:)?//", address)]


def test_the_reference_has_what_is_exported(site: Path) -> None:
    import pgactor

    text = (site / "reference.html").read_text(encoding="utf-8")
    for name in pgactor.__all__:
        if name != "__version__":
            assert re.search(rf'id="pgactor\.[\w.]*\b{name}"', text, re.IGNORECASE), name
