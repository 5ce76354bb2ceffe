"""docker-compose.yml, for real, from what a clean checkout would have; skipped where no Docker daemon answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.endtoend.deployed import ACCOUNTS, IN_EACH, ROOT, Traffic, call
from tests.supervising import until

MAX_SIZE = 6
SECONDS = float(os.environ.get("PGACTOR_TEST_COMPOSE_SECONDS", "10"))
"""How long the traffic goes on after scaling."""

SEND = """
import itertools, sys
from workers.tasks.app import balance, report, transfer
for number in range(int(sys.argv[1])):
    transfer.delay(1 + number % 40, 41 + number % 40, 1)
    balance.delay(1 + number % 100)
    if number % 20 == 0:
        report.delay(0.2)
"""


class Compose:
    """`docker compose` with a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.command = ["docker", "compose", "--project-name", f"pgactor-test-{os.getpid()}"]
        self.folder = folder
        self.variables = {**os.environ, "WEB_PORTS": "0", "WEB_TCP_PORTS": "0", "PGACTOR_MAX_SIZE": str(MAX_SIZE)}

    def run(self, *arguments: str, seconds: float = 300) -> str:
        """Its output. Fails with all that it printed if it fails."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self, *services: str) -> None:
        """Have these, or all, built, started and healthy."""
        self.run("up", "--build", "--wait", "--wait-timeout", "170", *services, seconds=400)

    def sql(self, query: str) -> str:
        """What PostgreSQL answers, beside the pool."""
        psql = ("psql", "--username=app", "--no-align", "--tuples-only", "--command", query)
        return self.run("exec", "-T", "postgres", *psql).strip()

    def ports(self, number: int, service: str = "web") -> list[int]:
        """Where the web containers are, on this machine."""
        return [
            int(self.run("port", "--index", str(each + 1), service, "8000").rpartition(":")[2])
            for each in range(number)
        ]

    def connections(self) -> int:
        """How many of PostgreSQL's connections are the pool's."""
        return int(self.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgactor'"))

    def status(self) -> Any:
        """`pgactor status --json`."""
        return json.loads(self.run("exec", "-T", "supervisor", "pgactor", "status", "--json"))


def why_not() -> str:
    """Why there is no Docker here; "" if there is."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            return f"{' '.join(command)}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}"
    return ""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of this repository would have: neither caches nor a .venv."""
    if reason := why_not():
        pytest.skip(f"docker compose cannot be tested: {reason}")
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "protocols/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def compose(checkout: Path) -> Iterator[Compose]:
    """A project of its own, which is gone afterwards."""
    compose = Compose(checkout)
    try:
        yield compose
    finally:
        subprocess.run(
            [*compose.command, "--profile", "tcp", "down", "--volumes", "--rmi", "local", "--timeout", "5"],
            cwd=checkout,
            env=compose.variables,
            capture_output=True,
            timeout=120,
        )


@pytest.mark.timeout(600)
def test_web_and_tasks_are_scaled_without_an_error_or_another_connection(compose: Compose) -> None:
    compose.up()
    users = {name: compose.run("exec", "-T", name, "id", "-un").strip() for name in ("supervisor", "web", "tasks")}
    assert users == {"supervisor": "supervisor", "web": "web", "tasks": "tasks"}
    highest = 0
    with Traffic(compose.ports(1), threads=3, pause=0.01) as traffic:
        compose.run("exec", "-T", "tasks", "python", "-c", SEND, "200")
        until(lambda: traffic.answered > 100, seconds=60)
        scale = ("up", "--detach", "--wait", "--no-recreate", "--scale", "web=4", "--scale", "tasks=4")
        compose.run(*scale)
        highest = max(highest, compose.connections())
        traffic.ports[:] = compose.ports(4)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            compose.run("exec", "-T", "tasks", "python", "-c", SEND, "20")
            highest = max(highest, compose.connections())
    assert traffic.failures == []
    assert {"accounts", "transfers", "report"} <= set(traffic.done)
    assert 1 < highest <= MAX_SIZE
    until(lambda: compose.run("exec", "-T", "redis", "redis-cli", "llen", "celery").strip() == "0", seconds=60)
    until(lambda: compose.status()["leased"] == 0, seconds=60)
    assert len({each["number"] for each in compose.status()["workers"] if each["label"] in ("web", "tasks")}) > 8
    assert compose.sql("SELECT sum(balance) FROM accounts") == str(ACCOUNTS * IN_EACH)
    assert compose.sql("SELECT count(*) FROM transfers WHERE made_by = 'web'") == str(len(traffic.written))
    log = compose.run("logs", "tasks")
    assert " raised " not in log
    assert "Traceback" not in log


@pytest.mark.timeout(600)
def test_workers_without_the_volume_have_keys(compose: Compose) -> None:
    compose.up("web-tcp")
    (port,) = compose.ports(1, "web-tcp")
    assert call(port, "GET", "/accounts/5") == (200, {"id": 5, "owner": "owner 5", "balance": IN_EACH})
    status = json.loads(compose.run("exec", "-T", "supervisor-tcp", "pgactor", "status", "--json"))
    assert "tcp" in {each["road"] for each in status["workers"]}
    without = ("exec", "-T", "--env", "PGACTOR_KEY=", "--env", "PGACTOR_SERVER_KEY=", "web-tcp", "pgactor", "status")
    with pytest.raises(AssertionError, match="SupervisorUnavailable"):
        compose.run(*without)
