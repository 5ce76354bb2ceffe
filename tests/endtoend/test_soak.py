"""A short soak: all kinds of requests from many processes, while backends are terminated and workers killed.

Every row and every write is judged.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.endtoend.processes import environment
from tests.supervising import LANE

REQUESTS = 20_000


@pytest.mark.timeout(300)
def test_no_row_is_wrong_and_no_write_is_lost_or_doubled(dsn: str) -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--requests", str(REQUESTS), "--seed", "1", "--dsn", dsn]
    command += ["--lane", LANE]
    soak = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment(), capture_output=True, text=True, timeout=280
    )
    assert soak.returncode == 0, soak.stdout[-8000:] + soak.stderr[-4000:]
    assert "nothing wrong" in soak.stdout
