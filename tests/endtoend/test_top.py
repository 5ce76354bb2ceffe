"""`pgactor top`, in a pipe and in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgactor
from pgactor import Client
from tests.endtoend.processes import environment
from tests.endtoend.troubles import Trouble
from tests.supervising import StartSupervisor, SupervisorProcess, until

OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""So that it hears of Ctrl-C and of the terminal's size."""

TOP = [sys.executable, "-m", "pgactor", "top"]


def once(endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Print a single frame."""
    command = [*TOP, "--once", *arguments]
    variables = environment(PGACTOR_ENDPOINT=endpoint, COLUMNS="300")
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)


class Terminal:
    """`pgactor top` in a terminal of its own. text: all it has written."""

    def __init__(self, endpoint: str, rows: int, columns: int) -> None:
        self._fd, theirs = pty.openpty()
        self.resize(rows, columns)
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *TOP, "--interval", "0.2"],
            env=environment(PGACTOR_ENDPOINT=endpoint, TERM="xterm-256color"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def resize(self, rows: int, columns: int) -> None:
        """Give it another size, of which its process is told."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._fd, keys)

    def read(self) -> str:
        """What was written by now."""
        while select.select([self._fd], [], [], 0.02)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            self.text += data.decode(errors="replace")
        return self.text

    def frame(self) -> list[str]:
        """The lines of the last whole frame, without colours."""
        frames = self.read().split("\x1b[H")
        return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in frames[-2].splitlines()]

    def status(self) -> int:
        """Its exit status, once it has ended."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        until(ended)
        self.read()
        return self.process.returncode

    def end(self) -> None:
        """Whatever it does."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


@pytest.fixture
def terminal(shared: SupervisorProcess) -> Iterator[Terminal]:
    """A terminal of 24 lines with 80 columns, in which a frame is shown."""
    shown = Terminal(shared.ipc, 24, 80)
    try:
        until(lambda: shown.read().count("\x1b[H") >= 3)
        yield shown
    finally:
        shown.end()


def test_a_single_frame_shows_pools_and_workers_and_rates(shared: SupervisorProcess) -> None:
    with Client(shared.ipc, label="a [worker]") as client, client.acquire() as lease:
        lease.fetchval("select 7")
        done = once(shared.ipc, "--interval", "0.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"pgactor {pgactor.__version__}  ")
    for word in ("a [worker]", "L leased 1", "select 7", "test_top.py:", "of 8", "pgactor top"):
        assert word in done.stdout
    assert re.search(r"requests [0-9.]+/s", done.stdout)
    assert "\x1b" not in done.stdout


def test_a_long_lease_and_a_queue_are_shown_within_two_seconds_with_the_label_of_their_cause(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = start_supervisor(max_size=1, pool={"lease_warning_seconds": 0.3})
    took: list[float] = []
    began = time.monotonic()
    subprocess.run([*TOP, "--help"], check=True, capture_output=True, timeout=60)
    starting = time.monotonic() - began  # that a machine is slow to start a Python is not counted
    while len(took) < 3:  # a machine that is busy otherwise may miss it
        with Trouble(supervisor.ipc) as trouble:
            until(trouble.has_begun)
            began = time.monotonic()
            shown = " ".join(once(supervisor.ipc, "--interval", "0.7").stdout.split())
            took.append(time.monotonic() - began - starting)
            assert "! nightly report: lease 0." in shown, shown
            assert "! queue of 3, the first for " in shown, shown
            assert " behind nightly report (leased for " in shown, shown
            assert "3 waiting" in shown or "1 waiting" in shown
        if took[-1] < 2:
            return
    raise AssertionError(f"it took {took} s")


def test_a_supervisor_that_is_not_there_is_told(short_tmp: Path) -> None:
    done = once(f"ipc://{short_tmp}/none.sock")
    assert done.returncode == 1
    assert "NO ANSWER, nothing has been seen yet: SupervisorUnavailable" in done.stdout


def test_what_is_no_terminal_is_told_of_once() -> None:
    done = subprocess.run(
        TOP, env=environment(), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pgactor top --once" in done.stderr


def fits_in(terminal: Terminal, columns: int) -> None:
    """In the end no line of a frame is longer; else the frame is told."""
    try:
        until(lambda: max(map(len, terminal.frame())) <= columns)
    except AssertionError:
        raise AssertionError(f"more than {columns} columns:\n" + "\n".join(terminal.frame())) from None


def test_it_fits_the_terminal_and_follows_its_size(terminal: Terminal) -> None:
    frame = terminal.frame()
    assert frame[0].startswith("pgactor ")
    assert len(frame) <= 24
    assert max(map(len, frame)) <= 80
    assert any(line.startswith("q: end") for line in frame)
    terminal.resize(10, 40)
    fits_in(terminal, 40)
    terminal.resize(50, 140)
    until(lambda: 80 < max(map(len, terminal.frame())) <= 140)


def test_q_ends_it_and_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.press(b"q")
    assert terminal.status() == 0
    assert terminal.text.rstrip().endswith("\x1b[?1049l")  # the screen before is back
    assert "\x1b[?25h" in terminal.text  # the cursor, too


def test_ctrl_c_ends_it_in_order(terminal: Terminal) -> None:
    terminal.press(b"\x03")
    assert terminal.status() == 0
    assert "Traceback" not in terminal.text


def test_it_goes_on_when_the_supervisor_was_restarted(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=2)
    terminal = Terminal(supervisor.ipc, 24, 100)
    try:
        until(lambda: "of 2" in terminal.read())
        supervisor.stop()
        until(lambda: "NO ANSWER, what follows is " in terminal.read())
        supervisor.start()
        until(lambda: "NO ANSWER" not in "".join(terminal.frame()))
    finally:
        terminal.end()


def test_tab_shows_the_next_pool(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=2, toml="[pools.replica]\nmin_size = 0\nmax_size = 77\n")
    terminal = Terminal(supervisor.ipc, 24, 100)
    try:
        until(lambda: " of 2" in terminal.read())
        assert " of 77" not in terminal.text
        terminal.press(b"\t")
        until(lambda: " of 77" in terminal.read())
    finally:
        terminal.end()
