"""The supervisor: `python -m pgactor serve`, as a process."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STARTING_SECONDS = 30.0
NAME = "pgactor-soak"
"""What its connections are called in PostgreSQL, and whose backends are terminated."""

_DEEP = "from pgactor.core import scheduler; scheduler.GATHERED_SECONDS = 0.1; from pgactor.cli import main; main()"
"""`python -m pgactor`, but that more is sent to a backend at once: on a busy machine, where all takes long,
hardly any statement would stand behind another, and that is where rows could come to the wrong request."""


@dataclass(frozen=True)
class Supervisor:
    """A running one. name: its connections' application_name."""

    pid: int
    ipc: str
    tcp: str
    name: str
    log: Path

    def memory_mb(self) -> float:
        """What it holds of memory now."""
        return _memory_mb(self.pid, "VmRSS:")

    def most_memory_mb(self) -> float:
        """What it has held at most."""
        return _memory_mb(self.pid, "VmHWM:")


@contextmanager
def supervisor(dsn: str, folder: Path, *, connections: int, lane: str, deep: bool) -> Iterator[Supervisor]:
    """Start one, whose connections do not live long. deep: with many statements one behind the other, slow ones among
    them."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    ipc, tcp, name = f"ipc://{folder}/soak.sock", f"tcp://127.0.0.1:{port}", f"{NAME}-{os.getpid()}"
    config, log = folder / "soak.toml", folder / "supervisor.log"
    config.write_text(
        f"""
endpoints = ["{ipc}", "{tcp}"]
heartbeat_seconds = 0.5
silence_seconds = 5.0
[pool]
min_size = 2
max_size = {connections}
max_queries = 5000
max_lifetime_seconds = 20.0
max_lifetime_jitter = 0.5
reopen_backoff_seconds = 0.05
statement_lane = "{lane}"
{"pipeline_short_seconds = 0.02" if deep else ""}
{"pipeline_stall_seconds = 0.05" if deep else ""}
[connect]
server_settings = {{ application_name = "{name}" }}
"""
    )
    program = ["-c", _DEEP] if deep else ["-m", "pgactor"]
    command = [sys.executable, *program, "serve", "--config", str(config), "--log-level", "WARNING"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "PGACTOR_DSN": dsn}
        )
    try:
        assert process.stdout is not None
        heard = select.select([process.stdout], [], [], STARTING_SECONDS)[0]
        if not heard or not process.stdout.readline().startswith("pgactor ready"):
            raise RuntimeError(f"the supervisor did not start: {log.read_text()[-2000:]}")
        yield Supervisor(process.pid, ipc, tcp, name, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _memory_mb(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0
