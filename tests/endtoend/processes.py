"""Worker processes of a test: a Python of their own that runs what it is given and talks with the test in lines.

What they run may use `say`, `hear`, `Gate`, `fork` and `status_of`, which the prelude defines.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from pgactor import Client
from pgactor.messages.pool import PoolStatus
from tests.supervising import SupervisorProcess

STRICT = ("-X", "dev", "-W", "error", "-W", "ignore:This process (pid:DeprecationWarning")
"""Every warning is an error, but for Python 3.12's on forks among threads, which are what is tested."""

PRELUDE = '''
import json, os, sys, traceback

def say(word):
    """Tell the test."""
    os.write(1, (json.dumps(word) + "\\n").encode())

def hear():
    """Wait for a line of the test, '' once it hung up. Nothing is buffered that a fork would copy."""
    line = b""
    while not line.endswith(b"\\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode().strip()

class Gate:
    """What one process waits at until another opens it, or ends."""
    def __init__(self):
        self.reader, self.writer = os.pipe()
    def open(self):
        os.close(self.writer)
    def wait(self):
        os.close(self.writer)
        os.read(self.reader, 1)

def fork(function, *args):
    """Run the function in a child; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)

def status_of(pid):
    """Wait for the child's end; returns its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
'''


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, with no variable of pgactor's but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PGACTOR_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), **variables}


def without_slowness(errors: str) -> str:
    """The text without asyncio's complaints, in Python's development mode, that a busy machine is slow."""
    return re.sub(r"^Executing <.*> took [0-9.]+ seconds\n", "", errors, flags=re.MULTILINE)


class Worker:
    """A worker process, the first of a process group of its own."""

    def __init__(self, source: str, endpoint: str, *arguments: object, flags: Sequence[str] = STRICT) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # until `end`
        self._unread = b""
        self.process = subprocess.Popen(
            [sys.executable, *flags, "-c", PRELUDE + textwrap.dedent(source), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(PGACTOR_ENDPOINT=endpoint),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def errors(self) -> str:
        """What it and its children have written to stderr."""
        self._stderr.seek(0)
        return without_slowness(self._stderr.read().decode())

    def tell(self, word: str = "go") -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, *, seconds: float = 40.0) -> Any:
        """What it says next."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not self._receive(deadline):
                raise AssertionError(f"the worker said no more (status {self.process.poll()}):\n{self.errors}")
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def _receive(self, deadline: float) -> bool:
        """Wait for output; False at its end, which comes when the last process that could write has ended."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise AssertionError(f"the worker was silent for too long:\n{self.errors}")
        data = os.read(fd, 65536)
        self._unread += data
        return bool(data)

    def signal(self, number: signal.Signals) -> None:
        """Send it alone, not its children, a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """kill -9 of it alone; its children live on."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def wait(self, *, seconds: float = 40.0) -> int:
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end:\n{self.errors}") from None

    def must_end_well(self) -> None:
        """It ends with status 0 and has written nothing to stderr."""
        status = self.wait()
        assert (status, self.errors) == (0, ""), f"status {status}:\n{self.errors}"

    def end(self) -> None:
        """Kill what is left of it and its children, and wait until all of them are gone."""
        with suppress(ProcessLookupError):  # nothing is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 30
        while self._receive(deadline):
            continue
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # something was told to a process that had ended
                    stream.close()
        self._stderr.close()


StartWorker = Callable[..., Worker]
"""The fixture `start_worker`."""

StartSupervisor = Callable[..., SupervisorProcess]
"""The fixture `start_supervisor`."""


def ask(dsn: str, sql: str, *args: object) -> list[Any]:
    """Run a statement on a connection that has nothing to do with the pool."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    return asyncio.run(run())


def state_of(endpoint: str) -> PoolStatus:
    """The state of the pool."""
    with Client(endpoint, label="observer") as client:
        return client.status()
