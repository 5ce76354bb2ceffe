"""A terminal with a shell, in which the commands of a page are typed one after the other.

What serves (a supervisor, gunicorn, top ...) has to show that it is ready, and goes on while the next block's
commands run, as in another terminal; within a block it is ended first, unless it is in the background. Every command
has to end with status 0, and without a traceback.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.docs.blocks import Block
from tests.endtoend.processes import environment

SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A command that goes on until it is ended. shows: what it prints when it is ready. path: of a page that it
    then has, at the address it has printed."""

    shows: str
    path: str = ""
    end: signal.Signals = signal.SIGTERM


SERVERS = {
    "pgactor serve": Server("pgactor ready at "),
    "pgactor top": Server("connections ", end=signal.SIGINT),
    "pgactor dashboard": Server("http://", "/"),
    "gunicorn": Server("Listening at: ", "/accounts/1"),
    "celery": Server(" ready."),
}


def typed(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of the block, and the lines it is shown to print. `[--pool NAME]...` is taken as given once."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            yield lines[start].removeprefix("$ "), lines[start + 1 : end]
    else:
        for line in lines:
            command = re.sub(r"\[(--[^\]]*)\](\.\.\.)?", r"\1", line)
            if shlex.split(command, comments=True):
                yield command, []


class Program:
    """A command that runs, in a pseudo-terminal of its own."""

    def __init__(self, command: str, folder: Path, variables: Mapping[str, str]) -> None:
        self.command = command
        self.said = ""
        self._fd, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=variables,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def read_until(self, text: str) -> None:
        """Read what it prints, until a line with that is there ("": until it has ended)."""
        deadline = time.monotonic() + SECONDS
        while not text or not re.search(f"{re.escape(text)}.*\n", self.said):
            assert time.monotonic() < deadline, f"$ {self.command}\n{self.said}"
            if not select.select([self._fd], [], [], 0.1)[0]:
                continue
            try:
                self.said += os.read(self._fd, 65536).decode(errors="replace")
            except OSError:  # the other side is closed: all that wrote to it have ended
                assert not text, f"$ {self.command}\n{self.said}"
                return

    def must_end_well(self, number: signal.Signals | None = None) -> str:
        """End it by the signal, or wait for its end. Returns what it printed, without colours."""
        if number is not None:
            self._process.send_signal(number)
        self.read_until("")
        status = self._process.wait(SECONDS)
        assert status == 0, f"$ {self.command}\n{self.said}\nstatus {status}"
        assert "Traceback" not in self.said, f"$ {self.command}\n{self.said}"
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", self.said)

    def kill(self) -> None:
        """End it and what it began, whatever they do."""
        with suppress(ProcessLookupError):  # nothing is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._fd)


class Terminal:
    """folder: where it is. variables: of its environment, beside the usual ones. replaced: what is written in
    commands, and what stands for it here. Use as a context: in the end all servers are ended, the last one first."""

    def __init__(self, folder: Path, variables: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._folder = folder
        self._variables = environment(PATH=path, TERM="xterm", PYTHONUNBUFFERED="1", **variables)
        self._replaced = replaced
        self._serving: list[tuple[Program, Server]] = []

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._serving and error is None:
                self._end_last()
        finally:
            for program, _ in reversed(self._serving):
                program.kill()

    def run(self, block: Block, unless: Callable[[str], object]) -> None:
        """Type the block's commands, unless that says otherwise, and compare what they print with what it shows."""
        in_front = False
        for command, shown in typed(block):
            if unless(command):
                continue
            if in_front:
                self._end_last()
            in_front, said = self.type(command)
            for line in map(self._here, shown):
                assert line in said, f"$ {command}\n{said}\nhas not: {line}"

    def type(self, command: str) -> tuple[bool, str]:
        """Run a command. Returns whether it goes on and nobody else can type here, and what it has printed."""
        line = self._here(command)
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            self._variables |= dict(word.split("=", 1) for word in words[1:])
            return False, ""
        background = words[-1] == "&"
        if background:
            line = re.sub(r"&\s*(#.*)?$", "", line)
        program = Program(line, self._folder, self._variables)
        server = next((SERVERS[name] for name in SERVERS if line.startswith(name) and "--once" not in words), None)
        try:
            if server is None:
                return False, program.must_end_well()
            program.read_until(server.shows)
            if server.path:
                address = re.search(r"http://[\d.]+:\d+", program.said)
                assert address, program.said
                with urllib.request.urlopen(address[0] + server.path, timeout=SECONDS) as answer:
                    assert answer.status == 200
            self._serving.append((program, server))
            return not background, program.said
        finally:
            if (program, server) not in self._serving:
                program.kill()

    def _end_last(self) -> None:
        program, server = self._serving[-1]
        program.must_end_well(server.end)
        self._serving.pop()
        program.kill()

    def _here(self, text: str) -> str:
        for written, here in self._replaced.items():
            text = text.replace(written, here)
        return text
