"""Time in which this process had no processor, or was stopped: the supervisor is not to blame for what was not read
then, and may have had none either."""

from __future__ import annotations

LATE_SECONDS = 0.5
"""What is less late is so by the way."""


def forgiving(patience: float, *, began: float, due: float, now: float) -> float:
    """Until when an answer is awaited, by the clock, after a look for it that began then, was to end when it was due,
    and has ended now: one that is late counts as if it had taken no time."""
    if now < due + LATE_SECONDS:
        return patience
    return max(patience + now - began, now + LATE_SECONDS)
