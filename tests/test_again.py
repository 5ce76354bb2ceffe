"""What failed runs once more, alone; whatever fails for real has an exit status that says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLAKY = """
import pathlib, pytest

@pytest.mark.xdist_group("some group")
@pytest.mark.parametrize("who", ["me@here"])
def test_once(who):
    seen = pathlib.Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError
"""
GOOD = "\ndef test_good(): pass\n"
WRONG = "\ndef test_wrong(): assert False\n"
CRASHES = "\ndef test_crash(): import os; os._exit(0)\n"
DIES_AT_THE_END = """
import os

def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        os._exit(0)
"""
LOW_COVERAGE = """
def pytest_sessionfinish(session):
    session.exitstatus = 1
"""


def again(folder: Path, **files: str) -> tuple[int, str]:
    """The status and output for these files, tests among them."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "tests.again", "-q", "-n2", "--dist=loadgroup"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "xdist.plugin",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout + done.stderr


def test_what_passes_alone_is_named_and_is_no_failure(tmp_path: Path) -> None:
    status, said = again(tmp_path, test_it=FLAKY + GOOD)
    assert status == 0, said
    assert said.endswith("\nneeded a second run:\n    test_it.py::test_once[me@here]\n")
    assert "1 failed, 1 passed" in said
    assert "\n1 passed" in said, "only what had failed"


def test_where_nothing_fails_nothing_runs_twice(tmp_path: Path) -> None:
    status, said = again(tmp_path, test_it=GOOD)
    assert (status, said.count("passed"), "second" in said) == (0, 1, False), said


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"test_it": FLAKY + WRONG}, "not all of it passed alone"),
        ({"test_it": FLAKY, "test_bad": "import nothing_of_this_name"}, "1 error"),
        ({"test_it": CRASHES}, "crashed while running"),
        ({"test_it": GOOD, "conftest": DIES_AT_THE_END}, "died, between two"),
        ({"test_it": GOOD, "conftest": LOW_COVERAGE}, "1 passed"),
        ({"nothing": ""}, "no tests ran"),
        ({"test_it": "".join(f"\ndef test_{n}(): assert 0\n" for n in range(31))}, "31 failed"),
    ],
    ids=["twice", "not collected", "a crash", "a crash at the end", "another failure", "nothing to run", "too many"],
)
def test_all_else_is_a_failure(tmp_path: Path, files: dict[str, str], words: str) -> None:
    status, said = again(tmp_path, **files)
    assert status != 0, said
    assert words in said
    assert "needed a second run" not in said
