"""The supervisor and PgBouncer, each a process of its own, ended by its pid."""

from __future__ import annotations

import os
import pwd
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

OLDEST_PGBOUNCER = (1, 21)
STARTING_SECONDS = 20.0
_PORT = 6432  # of a unix socket in a folder of its own


@dataclass(frozen=True)
class Server:
    """What clients connect to. address: an endpoint or a dsn. pid: None where it is the database itself."""

    address: str
    pid: int | None = None


@contextmanager
def supervisor(dsn: str, *, backends: int) -> Iterator[Server]:
    """`pgactor serve`, with its connections open."""
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        endpoint = f"ipc://{folder}/bench.sock"
        command = [sys.executable, "-m", "pgactor", "serve", "--endpoint", endpoint, "--log-level", "ERROR",
                   "--min-size", str(backends), "--max-size", str(backends)]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PGACTOR_DSN": dsn})
        try:
            assert process.stdout is not None
            heard = select.select([process.stdout], [], [], STARTING_SECONDS)[0]
            if not heard or not process.stdout.readline().startswith("pgactor ready"):
                raise RuntimeError("the supervisor did not start")
            yield Server(endpoint, process.pid)
        finally:
            _end(process)


@contextmanager
def pgbouncer(path: str, dsn: str, *, backends: int) -> Iterator[Server]:
    """PgBouncer in transaction mode with prepared statements, on a unix socket."""
    target = _Target.of(dsn)
    with tempfile.TemporaryDirectory(prefix="pgb-") as name:
        folder = Path(name)
        (folder / "pgbouncer.ini").write_text(
            f"""[databases]
bench = {target.line}
[pgbouncer]
listen_addr =
listen_port = {_PORT}
listen_backlog = 4096
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = {backends}
max_prepared_statements = 200
max_client_conn = 5000
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
log_stats = 0
"""
        )
        (folder / "pgbouncer.ini").chmod(0o644)
        user = target.owner if os.geteuid() == 0 else None  # it refuses root, and must reach PostgreSQL's socket
        if user is not None:
            os.chown(folder, user, -1)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([path, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, user=user)
        try:
            deadline = time.monotonic() + STARTING_SECONDS
            while not (folder / f".s.PGSQL.{_PORT}").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PgBouncer did not start: {(folder / 'log').read_text()[-500:]}")
                time.sleep(0.02)
            yield Server(f"postgresql://bench@/bench?host={quote(name)}&port={_PORT}", process.pid)
        finally:
            _end(process, signal.SIGQUIT)  # at once: SIGTERM waits for clients since 1.23


def pgbouncer_version(path: str) -> str:
    """Of the program at that path. Raises RuntimeError for one without prepared statements in transaction mode."""
    try:
        first = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"{path}: {error}") from None
    found = re.match(r"PgBouncer (\d+)\.(\d+)\S*", first)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_PGBOUNCER:
        raise RuntimeError(f"{path} is {first!r}; PgBouncer 1.21 or newer is needed, for prepared statements")
    return found[0].split()[-1]


@dataclass(frozen=True)
class _Target:
    """PgBouncer's line of a database. owner: a user who may reach PostgreSQL's socket."""

    line: str
    owner: int

    @classmethod
    def of(cls, dsn: str) -> _Target:
        given = {"host": "127.0.0.1", "port": "5432", "user": "postgres", **conninfo_to_dict(dsn)}
        names = ("host", "port", "dbname", "user", "password")
        line = " ".join(f"{name}='{given[name]}'" for name in names if given.get(name))
        host = Path(str(given["host"]))
        owner = host.stat().st_uid if host.is_absolute() else 0
        return cls(line, owner or pwd.getpwnam("nobody").pw_uid)


def _end(process: subprocess.Popen[Any], how: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
