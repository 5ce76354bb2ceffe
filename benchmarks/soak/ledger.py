"""Every write, noted before it is sent and when it is answered.

A note is one `write` to a file, which a killed process cannot take back: what it began and did not end is unknown,
and what it never began must not be there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

TAGS = 1024
"""How many rows one write may insert: the tags from its own number on."""


class Outcome(StrEnum):
    """What an answer promises of a request."""

    OK = "ok"
    NO = "no"
    """It did not happen."""
    UNKNOWN = "unknown"
    WRONG = "wrong"
    """An answer that there must not be. Of a write, as good as unknown."""


class Write(NamedTuple):
    """One write, all of which happens or nothing: the tags of the rows that it inserts, the tag that it deletes, the
    counters that it adds one to."""

    number: int
    kind: str
    inserts: tuple[int, ...]
    deletes: int | None
    counts: tuple[int, ...]
    outcome: Outcome


class Ledger:
    """The notes of one worker process. worker: its number, in every tag."""

    def __init__(self, path: Path, worker: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._numbers = itertools.count(worker << 40, TAGS)

    def number(self) -> int:
        """A new write's number, and the first of its tags."""
        return next(self._numbers)

    def begin(
        self,
        kind: str,
        *,
        number: int | None = None,
        inserts: Sequence[int] = (),
        deletes: int | None = None,
        counts: Sequence[int] = (),
    ) -> int:
        """Note a write that is about to be sent. inserts: which of its tags. Returns its number."""
        number = self.number() if number is None else number
        fields = [
            "b",
            str(number),
            kind.replace(" ", "_"),
            ",".join(map(str, inserts)),
            "" if deletes is None else str(deletes),
            ",".join(map(str, counts)),
        ]
        os.write(self._file, (" ".join(field or "-" for field in fields) + "\n").encode())
        return number

    def end(self, number: int, outcome: Outcome) -> None:
        """Note what became of it."""
        os.write(self._file, f"e {number} {outcome.value}\n".encode())


def worker_of(tag: int) -> int:
    """The worker whose tag it is."""
    return tag >> 40


def read(path: Path) -> Iterator[Write]:
    """The writes of a worker process that has ended."""
    begun: dict[int, list[str]] = {}
    for line in path.read_text().splitlines():
        what, number, *rest = line.split(" ")
        if what == "b":
            begun[int(number)] = rest
        else:
            yield _write(int(number), begun.pop(int(number)), Outcome(rest[0]))
    for number_left, rest in begun.items():
        yield _write(number_left, rest, Outcome.UNKNOWN)


def _write(number: int, fields: list[str], outcome: Outcome) -> Write:
    kind, inserts, deletes, counts = fields
    return Write(
        number,
        kind.replace("_", " "),
        tuple(number + offset for offset in _ints(inserts)),
        None if deletes == "-" else int(deletes),
        tuple(_ints(counts)),
        Outcome.UNKNOWN if outcome is Outcome.WRONG else outcome,
    )


def _ints(field: str) -> list[int]:
    return [] if field == "-" else [int(each) for each in field.split(",")]
