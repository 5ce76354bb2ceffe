"""Many arguments of one statement, on their way into asyncpg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


class GivenUp(Exception):
    """Nobody waits any more for the arguments to be sent."""


class Feed:
    """Many arguments, which asyncpg takes as there is room for them. ended: it has taken all, or none yet,
    or will take no more."""

    def __init__(self, args: Iterable[Sequence[Any]]) -> None:
        self.args = args
        self.ended = True
        self.given_up = False

    def __iter__(self) -> Iterator[Sequence[Any]]:
        self.ended = False
        for each in self.args:
            if self.given_up:
                raise GivenUp
            yield each
        self.ended = True

    def end(self) -> None:
        """The statement has ended."""
        self.ended = True
