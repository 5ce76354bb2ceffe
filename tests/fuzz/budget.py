"""How much is tried: in the suite a little, and the same each time; with `make fuzz` as much as one likes."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = "PGACTOR_FUZZ_TIMES"
"""With this variable, each test tries so many times as many examples, others each time."""

_TIMES = int(os.environ.get(LONG, "0"))


def budget(examples: int) -> settings:
    """The settings of a test that tries so many examples in the suite."""
    return settings(
        max_examples=examples * max(_TIMES, 1),
        derandomize=not _TIMES,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
