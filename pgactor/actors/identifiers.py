"""Names in SQL."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A name for SQL, exactly as it is."""
    return '"' + name.replace('"', '""') + '"'
