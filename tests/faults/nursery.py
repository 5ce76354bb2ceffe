"""Workers as the test has them in hand: real processes, each in the state that it was ordered in."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.endtoend.processes import Worker
from tests.faults.worker import PATIENCE, Line


class Hand:
    """A worker, or a child of one, as the test has it in hand."""

    def __init__(self, line: Line, pid: int) -> None:
        self.line = line
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def tell(self, word: str) -> None:
        """Have it do something."""
        self.line.say(word)

    def hear(self) -> Any:
        """What it says next."""
        return self.line.hear(PATIENCE)

    def ask(self, word: str) -> Any:
        """Have it do something, and hear what comes of it."""
        self.tell(word)
        return self.hear()

    def signal(self, number: signal.Signals) -> None:
        """Send it alone a signal, if it lives."""
        signal.pidfd_send_signal(self._pidfd, number)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline, "it does not stop"
            time.sleep(0.001)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.signal(signal.SIGKILL)
        self.must_end()

    def must_end(self) -> None:
        """Wait until the process has ended."""
        assert select.select([self._pidfd], [], [], PATIENCE)[0], f"worker {self.pid} does not end"

    def close(self) -> None:
        """Forget it."""
        self.line.close()
        os.close(self._pidfd)


class Nursery:
    """Where the test gets its workers from."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "workers.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._listener.settimeout(PATIENCE)
        self._process = Worker("from tests.faults.worker import nurse\nnurse()", "")
        self._hands: list[Hand] = []

    def worker(self, **order: object) -> Hand:
        """A new worker; the arguments are those of `main`, but for its path."""
        self._process.tell(json.dumps({"path": self.path, **order}))
        return self.next()

    def next(self) -> Hand:
        """The next process to call: a worker that was ordered, or a child that one was told to fork."""
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            raise AssertionError(f"no worker called:\n{self.errors}") from None
        line = Line(sock)
        hand = Hand(line, line.hear(PATIENCE))
        self._hands.append(hand)
        return hand

    @property
    def errors(self) -> str:
        """What all of them have written to stderr."""
        return self._process.errors

    def end_workers(self) -> None:
        """Kill those that are left, and wait for their end."""
        for hand in self._hands:
            with suppress(ProcessLookupError):
                hand.kill()
            hand.close()
        self._hands.clear()

    def close(self) -> None:
        """End them all."""
        self.end_workers()
        self._process.end()
        self._listener.close()
