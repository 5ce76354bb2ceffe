"""The supervisor: `python -m pgactor serve`, as a process."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STARTING_SECONDS = 30.0
NAME = "pgactor-soak"
"""What its connections are called in PostgreSQL, and whose backends are terminated."""

_DEEP = "from pgactor.core import scheduler; scheduler.GATHERED_SECONDS = 0.1; from pgactor.cli import main; main()"
"""`python -m pgactor`, but that more is sent to a backend at once: on a busy machine, where all takes long,
hardly any statement would stand behind another, and that is where rows could come to the wrong request."""


class Supervisor:
    """A running one. name: its connections' application_name. lives: how often it was started. changing: while it is
    killed and started."""

    def __init__(self, command: list[str], dsn: str, ipc: str, tcp: str, name: str, log: Path) -> None:
        self._command = command
        self._dsn = dsn
        self.ipc = ipc
        self.tcp = tcp
        self.name = name
        self.log = log
        self.lives = 0
        self.changing = False
        self._start()

    def _start(self) -> None:
        with self.log.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PGACTOR_DSN": self._dsn},
            )
        self.lives += 1
        assert self._process.stdout is not None
        heard = select.select([self._process.stdout], [], [], STARTING_SECONDS)[0]
        if not heard or not self._process.stdout.readline().startswith("pgactor ready"):
            self.end()
            raise RuntimeError(f"the supervisor did not start: {self.log.read_text()[-2000:]}")

    def restart(self) -> None:
        """SIGKILL it, and start another one."""
        self.changing = True
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._start()
        self.changing = False

    def end(self) -> None:
        """In good order."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def memory_mb(self) -> float:
        """What it holds of memory now."""
        return _memory_mb(self._process.pid, "VmRSS:")

    def most_memory_mb(self) -> float:
        """What it has held at most."""
        return _memory_mb(self._process.pid, "VmHWM:")


@contextmanager
def supervisor(
    dsn: str, folder: Path, *, connections: int, lane: str, deep: bool, chaos: bool = False
) -> Iterator[Supervisor]:
    """Start one, whose connections do not live long. deep: with many statements one behind the other, slow ones among
    them. chaos: it bears with a database that is away for a while, and not with workers that read nothing."""
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
{"max_unsent_bytes = 8388608" if chaos else ""}
[pool]
min_size = 2
max_size = {connections}
max_queries = 5000
max_lifetime_seconds = 20.0
max_lifetime_jitter = 0.5
reopen_backoff_seconds = 0.05
statement_lane = "{lane}"
{"database_grace_seconds = 20.0" if chaos else ""}
{"reopen_backoff_max_seconds = 0.5" if chaos else ""}
{"pipeline_short_seconds = 0.02" if deep else ""}
{"pipeline_stall_seconds = 0.05" if deep else ""}
[connect]
server_settings = {{ application_name = "{name}" }}
"""
    )
    program = ["-c", _DEEP] if deep else ["-m", "pgactor"]
    command = [sys.executable, *program, "serve", "--config", str(config), "--log-level", "WARNING"]
    running = Supervisor(command, dsn, ipc, tcp, name, log)
    try:
        yield running
    finally:
        running.end()


def _memory_mb(pid: int, field: str) -> float:
    with suppress(OSError):  # it was killed
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0
