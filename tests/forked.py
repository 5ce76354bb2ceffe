"""Processes that are forks of one that has imported pgactor: what the imports cost is paid once, and not by each of
hundreds of supervisors. Nothing else is different; a start from the command line is what tests marked command_line
and tests/endtoend/test_cli have."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(
    ["__main__", "uvloop", "pgactor.cli.serving", "pgactor.actors.supervisor", "pgactor.actors.pipeline", __name__]
)


class ForkedProcess:
    """A call of the function; of `subprocess.Popen` it has what a test needs."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self._process = _forkserver.Process(target=function, args=args, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit status, if it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired("a fork", timeout or 0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing, if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def run_pgactor(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """The command `pgactor`, which writes to the log."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["pgactor", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from pgactor.cli import main

    main()
