"""All code in the documentation runs: Python against a real supervisor and database, settings through the loader,
commands through the command line's own parser."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shlex
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from pgactor.actors.permits import Permit
from pgactor.cli import cli
from pgactor.config.loading import load
from tests.docs.blocks import PAGES, ROOT, Block, blocks, inline_code
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
PLACEHOLDERS = {"SECONDS": "1", "NAME": "name", "ENDPOINT": "ipc:///run/pgactor/main.sock"}


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


# --- commands -----------------------------------------------------------------------------------------------


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command: of what follows a `$` in a console, of all lines of other blocks. `[--pool NAME]...`
    is taken as given once."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "console" and not line.startswith("$ "):
            continue
        words = shlex.split(re.sub(r"\[(--[^\]]*)\](\.\.\.)?", r"\1", line.removeprefix("$ ")), comments=True)
        if words:
            yield [PLACEHOLDERS.get(word, word) for word in words if word != "&"]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Reads the arguments of a `pgactor` command as it does itself, and runs nothing."""

    def nothing(self: click.Command, context: click.Context) -> None:
        """In the place of what the command does."""

    def check(arguments: list[str]) -> None:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"pgactor {shlex.join(arguments)}: {result.output}"

    monkeypatch.setattr(click.Command, "invoke", nothing)
    return check


def check_compose(words: list[str]) -> None:
    """What a `docker compose` command names is in docker-compose.yml."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    named = {scaled.partition("=")[0] for option, scaled in pairwise(words) if option == "--scale"}
    if words[0] in ("exec", "port"):
        named.add(words[1])
    assert named <= services.keys()
    profiles = {name for option, name in pairwise(words) if option == "--profile"}
    assert profiles <= {profile for service in services.values() for profile in service.get("profiles", ())}


@pytest.mark.parametrize("block", those_in("console", "sh"))
def test_commands_are_as_their_programs_take_them(block: Block, parse: Callable[[list[str]], None]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for words in commands(block):
        if "pgactor" in words:
            parse(words[words.index("pgactor") + 1 :])
            words = words[: words.index("pgactor")]
        if not words:
            continue
        if words[0] == "make":
            assert words[1] in targets
        elif words[:2] == ["pip", "install"]:
            asked = re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*)\]", words[2])))
            assert set(asked) <= extras.keys()
        elif words[:2] == ["docker", "compose"]:
            check_compose(words[2:])
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2])
        elif words[0] in ("gunicorn", "celery", "python"):
            files = [word for word in words if word.endswith(".py")]
            assert all((ROOT / file).exists() for file in files)
            modules = [word.partition(":")[0] for word in words if word.startswith("workers.")]
            assert all(importlib.util.find_spec(module) for module in modules)
            assert files or modules or "-c" in words


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_a_text_names_exist_with_their_options(page: str) -> None:
    for code in inline_code(page):
        name = re.match(r"pgactor ([a-z]+)", code)
        if name is None or name[1] == "ready":  # what `serve` prints
            continue
        command: click.Command = cli
        for word in code.split()[1:]:
            if isinstance(command, click.Group):
                assert word in command.commands, f"there is no `{code}`"
                command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", code)) <= options | {"--help"}, code


def test_a_wrong_option_is_noticed(parse: Callable[[list[str]], None]) -> None:
    with pytest.raises(AssertionError, match="--max-sise"):
        parse(["serve", "--max-sise", "4"])


def test_a_wrong_result_is_noticed() -> None:
    with Notebook({}) as notebook:
        notebook.run("1 + 1  # -> 2", "page")
        with pytest.raises(AssertionError):
            notebook.run("if True:\n    1 + 1  # -> 3", "page")
