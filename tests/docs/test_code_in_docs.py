"""All code in the documentation runs: Python against a real supervisor and database, settings through the loader. For
commands see test_commands_in_docs.py."""

from __future__ import annotations

import configparser
import json
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from pgactor.actors.permits import Permit
from pgactor.config.loading import load
from tests.docs.blocks import PAGES, ROOT, Block, blocks
from tests.docs.notebook import Notebook
from tests.docs.preludes import AFTER, BEFORE
from tests.endtoend.processes import ask
from tests.supervising import SupervisorProcess

pytestmark = pytest.mark.xdist_group("docs")  # one supervisor serves all pages

NOT_RUN = {
    "docs/observability.md": ["it is what PostgreSQL is sent, and has a parameter"],
    "docs/psycopg.md": ["this is what was there before; the tests do not install psycopg"],
}
"""The blocks that do not run, by page, with the reasons that they give."""

PYTHON = [page for page in PAGES if blocks(page, "python")]
NOT_CODE = {"text"}


def those_in(*languages: str) -> list[object]:
    """The blocks of all pages in these languages, as parameters."""
    found = [block for page in PAGES for block in blocks(page, *languages) if not block.not_run]
    return [pytest.param(block, id=str(block)) for block in found]


@pytest.fixture(scope="module")
def everyones(dsn: str) -> Iterator[str]:
    """The dsn of the pages' database."""
    name = f"docs_{os.getpid()}"
    ask(dsn, f"create database {name}")
    yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    ask(dsn, f"drop database {name} with (force)")


@pytest.fixture
def database(everyones: str) -> str:
    """The same with nothing in it."""
    ask(everyones, "drop schema public cascade")
    ask(everyones, "create schema public")
    return everyones


@pytest.fixture(scope="module")
def supervisor(everyones: str) -> Iterator[SupervisorProcess]:
    """A supervisor of the pages' database, with a second pool of it."""
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        replica = "[pools.replica]\nmax_size = 1\n"
        started = SupervisorProcess(folder=Path(folder), dsn=everyones, max_size=4, toml=replica)
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture
def here(supervisor: SupervisorProcess, database: str, monkeypatch: pytest.MonkeyPatch) -> SupervisorProcess:
    """The supervisor, which $PGACTOR_ENDPOINT names, of a database with nothing in it."""
    monkeypatch.setenv("PGACTOR_ENDPOINT", supervisor.ipc)
    monkeypatch.chdir(ROOT)
    return supervisor


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs(page: str, here: SupervisorProcess, database: str, tmp_path: Path) -> None:
    replaced = {
        "ipc:///run/pgactor/main.sock": here.ipc,
        "postgresql://app@db/app": database,
        "/etc/app/": f"{tmp_path}/",
    }
    with Notebook(replaced) as notebook:
        notebook.run(BEFORE.get(page, ""), f"before {page}")
        for block in blocks(page, "python"):
            if not block.not_run:
                notebook.run(block.text, str(ROOT / page), block.line + 1)
        notebook.run(AFTER.get(page, ""), f"after {page}")


def test_preludes_belong_to_pages_with_python() -> None:
    assert BEFORE.keys() | AFTER.keys() <= set(PYTHON)


def test_what_is_not_run_is_known_and_has_a_reason() -> None:
    found: dict[str, list[str]] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.not_run:
                found.setdefault(page, []).append(block.not_run)
    assert found == NOT_RUN


@pytest.mark.parametrize("block", those_in("sql"))
def test_sql_runs(block: Block, database: str) -> None:
    ask(database, block.text)


@pytest.mark.parametrize("block", those_in("toml"))
def test_settings_are_accepted(block: Block, tmp_path: Path) -> None:
    table = tomllib.loads(block.text)
    if "public_key" in table:  # a permit of a key
        msgspec.convert(table, Permit)
        return
    path = tmp_path / "pgactor.toml"
    path.write_text(block.text, encoding="utf-8")
    load(str(path), environment={})


@pytest.mark.parametrize("block", those_in("json", "yaml", "ini"))
def test_other_data_can_be_read(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    else:
        configparser.ConfigParser(interpolation=None).read_string(block.text)


def test_every_block_is_in_a_language_that_is_tested() -> None:
    tested = {"python", "sql", "toml", "json", "yaml", "ini", "console", "sh"} | NOT_CODE
    unknown = [
        f"{block} {block.language}" for page in PAGES for block in blocks(page) if block.language not in tested
    ]
    assert not unknown


def test_a_wrong_result_is_noticed() -> None:
    with Notebook({}) as notebook:
        notebook.run("1 + 1  # -> 2", "page")
        with pytest.raises(AssertionError):
            notebook.run("if True:\n    1 + 1  # -> 3", "page")
