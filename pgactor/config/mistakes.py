"""msgspec's complaints about tables of settings, with what may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

FEW = 10
"""So many keys are told one by one."""


def explained(error: Exception, known: Sequence[str]) -> str:
    """The error's words; of an unknown key with the nearest known one, or all of them where they are few."""
    text = str(error)
    if "unknown field `" not in text:
        return text
    if near := difflib.get_close_matches(text.split("`")[1], known, n=1):
        return f"{text}; did you mean `{near[0]}`?"
    return f"{text}; expected are {', '.join(known)}" if len(known) <= FEW else text
