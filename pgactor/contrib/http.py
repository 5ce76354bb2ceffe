"""What WSGI and ASGI share: how long an HTTP request has left, and its label."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..client.surroundings import deadline, label

MAX_LABEL = 100
"""Characters of a label that has a path in it: whoever calls chooses that."""


def path_label(method: str, path: str) -> str:
    """The label of a request whose route is not known; what it has of the caller's is made fit to be shown."""
    return "".join(each if each.isprintable() else "?" for each in f"{method} {path}"[:MAX_LABEL])


def remaining(timeout: float, started: str | None) -> float:
    """Seconds left of the timeout for a request that the proxy stamped so when it came: `t=1700000000.123`, or in
    milliseconds or microseconds; without a stamp, or with one that is none, all of it.

    A stamp in the future is a clock that is ahead: nothing is added for it.
    """
    try:
        stamp = float((started or "").strip().removeprefix("t="))
    except ValueError:
        return timeout
    if not math.isfinite(stamp) or stamp <= 0:
        return timeout
    while stamp > 1e11:  # the year 5138 in seconds: milliseconds, then
        stamp /= 1000
    return max(0.0, timeout - max(0.0, time.time() - stamp))


@contextmanager
def request(text: str, seconds: float | None) -> Iterator[None]:
    """What is asked of the database meanwhile has this label, and ends within so many seconds; None: as it likes."""
    with label(text):
        if seconds is None:
            yield
        else:
            with deadline(seconds):
                yield
