"""Runs pytest, and what failed among others once more, alone, in one process: `python -m tests.again ARGUMENTS`.

A test that fails beside others and not alone is named at the end, and is no failure: a busy machine can break it, and
it is to be mended. All else is one: a test that fails twice, tests that cannot be collected, a run that was broken
off, a coverage that is too low. Exits with pytest's status.

(pytest's own --last-failed does not know the tests of an xdist_group by their names, which xdist changes, runs all
tests where it knows none, and remembers the failures of other runs.)
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

MANY = 30
"""More than so many failures are no accident."""

ALONE = ("--numprocesses=1", "--max-worker-restart=0", "-p", "no:cacheprovider")
"""One process, and another that sees it if it dies."""

_GROUP = re.compile(r"@[^\]@]*$")
"""What xdist adds to the name of a test that is in a group."""


class Failures:
    """names: of the tests that failed, each once. crashed: a process of tests died. uncollected: some tests are not
    known."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.crashed = False
        self.uncollected = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear what has become of a part of a test."""
        if report.failed:
            self.names[_GROUP.sub("", report.nodeid)] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Hear whether the tests of a file are known."""
        self.uncollected = self.uncollected or report.failed

    @pytest.hookimpl(optionalhook=True)  # of xdist
    def pytest_testnodedown(self, node: object, error: object) -> None:
        """Hear how a process of tests has ended."""
        self.crashed = self.crashed or error is not None


def run(arguments: list[str]) -> int:
    """The exit status of pytest with these arguments; 0 also if all that failed passes alone."""
    failures = Failures()
    plugins: list[Any] = [failures]
    status = int(pytest.main(arguments, plugins))
    names = list(failures.names)
    if status == pytest.ExitCode.OK and failures.crashed:
        print("a process of tests died, between two of them", flush=True)
        return int(pytest.ExitCode.INTERNAL_ERROR)
    if status != pytest.ExitCode.TESTS_FAILED or failures.uncollected or not 0 < len(names) <= MANY:
        return status
    print(f"\n{len(names)} failed: once more, alone:", *names, sep="\n    ", flush=True)
    command = [sys.executable, "-m", "pytest", "--quiet", *ALONE, *names]
    status = subprocess.run(command, check=False).returncode
    said = "needed a second run" if status == 0 else "failed, and not all of it passed alone"
    print(f"{said}:", *names, sep="\n    ", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
