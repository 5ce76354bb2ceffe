"""`make fuzz`: the tests of this folder again and again with other examples, for as long as one likes; and, if
atheris is installed (the `fuzz` extra), with examples that it finds by what code they reach.

Stops at the first finding, and shows it; hypothesis tells how to try it again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.budget import LONG

HERE = Path(__file__).parent
ROUND_SECONDS = 60
TIMES = 10
ATHERIS_TARGETS = {
    "test_zmtp": "test_however_a_stream_is_cut_the_same_is_understood_and_the_same_refused",
    "test_config_file": "test_tables_of_any_shape_are_settings_or_a_clear_error",
    "test_postgres_side": "test_whatever_is_said_costs_no_more_than_the_connection",
    "test_frames": "test_every_request_is_answered_once_to_who_asked_and_nothing_is_left_of_anybody",
}
"""Those that need no fixtures; atheris works on one at a time."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long, about (default: 300)")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; others follow from it")
    parser.add_argument("--guided", choices=ATHERIS_TARGETS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.guided is not None:
        guided(given.guided, given.seconds)
    end = time.monotonic() + given.seconds
    random = Random(given.seed)
    with_atheris = find_spec("atheris") is not None
    print(f"with hypothesis{' and atheris' if with_atheris else ' (atheris is not installed)'}", flush=True)
    rounds = 0
    while not rounds or time.monotonic() < end:
        rounds += 1
        if (status := by_hypothesis(random.randrange(2**32))) != 0:
            return status
        left = end - time.monotonic()
        for name in ATHERIS_TARGETS if with_atheris and left > 0 else ():
            seconds = min(ROUND_SECONDS, left) / len(ATHERIS_TARGETS)
            command = [sys.executable, "-m", "tests.fuzz", "--guided", name, "--seconds", str(seconds)]
            if (status := subprocess.run(command, check=False).returncode) != 0:
                return status
    print(f"{rounds} rounds, nothing found")
    return 0


def by_hypothesis(seed: int) -> int:
    """One round; its exit status."""
    print(f"--hypothesis-seed={seed}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout=0", f"--hypothesis-seed={seed}", str(HERE)]
    return subprocess.run(command, env={**os.environ, LONG: str(TIMES)}, check=False).returncode


def guided(name: str, seconds: float) -> None:
    """Have atheris find examples for one test. It ends the process."""
    import atheris

    with atheris.instrument_imports(include=["pgactor"], enable_loader_override=False):
        module = importlib.import_module(f"tests.fuzz.{name}")
    test: Any = getattr(module, ATHERIS_TARGETS[name])
    one: Callable[[bytes], object] = test.hypothesis.fuzz_one_input
    with getattr(module, "alone", nullcontext)():
        found = Path(".hypothesis")
        found.mkdir(exist_ok=True)
        limits = f"-max_total_time={max(1, int(seconds))}", "-rss_limit_mb=4096", "-len_control=0"
        atheris.Setup([name, *limits, f"-artifact_prefix={found}/"], one)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
