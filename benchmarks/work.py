"""What one request does, and which check its answer must pass."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from .database import RANGE_ROWS, Reference
from .peers import Session, SyncSession
from .statements import (
    HEAVY,
    LOCKED_ROWS,
    LOCKED_UPDATE,
    LOOKUP,
    RANGE,
    ROWS,
    SLEEP,
    SLOW_BY_ARGUMENT,
    SLOW_SECONDS,
    Transfer,
)

DEADLINE_SECONDS = 1.0
"""How long the callers of an overloaded server wait for an answer."""


class WrongAnswer(Exception):
    """Not what was asked for: such a run counts for nothing."""


@dataclass(frozen=True)
class Part:
    """One kind of request in a mix. deadline: seconds, after which an answer is of no use; None: there is none."""

    kind: str
    weight: float
    run: Callable[[Session, random.Random, float | None], Awaitable[None]]
    deadline: float | None = None

    async def warm(self, session: Session, numbers: random.Random) -> None:
        """Run it, however long it takes: connections are made, statements prepared."""
        await self.run(session, numbers, None)


async def _look_up(session: Session, numbers: random.Random, deadline: float | None) -> None:
    wanted = numbers.randrange(ROWS)
    row = await session.fetchrow(LOOKUP, wanted)
    if row[0] != wanted:
        raise WrongAnswer(f"asked for {wanted}, got {row}")


async def _range(session: Session, numbers: random.Random, deadline: float | None) -> None:
    rows = await session.fetch(RANGE, RANGE_ROWS)
    if sum(row[0] for row in rows) != RANGE_ROWS * (RANGE_ROWS - 1) // 2:
        raise WrongAnswer(f"{len(rows)} rows that are not the first {RANGE_ROWS}")


async def _transfer(session: Session, numbers: random.Random, deadline: float | None) -> None:
    balance = await session.transfer(Transfer.drawn(numbers))
    if not isinstance(balance, int):
        raise WrongAnswer(f"not a balance: {balance!r}")


async def _heavy(session: Session, numbers: random.Random, deadline: float | None) -> None:
    wanted = numbers.randrange(ROWS)
    if deadline is None:
        row = await session.fetchrow(HEAVY, wanted)
    else:
        row = await session.fetchrow_within(deadline, HEAVY, wanted)
    if row[0] != wanted:
        raise WrongAnswer(f"asked for {wanted}, got {row}")


async def _sleep(session: Session, numbers: random.Random, deadline: float | None) -> None:
    await session.fetchrow(SLEEP, SLOW_SECONDS)


async def _slow_by_argument(session: Session, numbers: random.Random, deadline: float | None) -> None:
    wanted = numbers.randrange(ROWS)
    row = await session.fetchrow(SLOW_BY_ARGUMENT, wanted, SLOW_SECONDS if numbers.random() < 0.2 else 0.0)
    if row[0] != wanted:
        raise WrongAnswer(f"asked for {wanted}, got {row}")


async def _locked(session: Session, numbers: random.Random, deadline: float | None) -> None:
    wanted = 0 if numbers.random() < 0.2 else numbers.randrange(1, LOCKED_ROWS)
    row = await session.fetchrow(LOCKED_UPDATE, wanted)
    if row[0] != wanted:
        raise WrongAnswer(f"asked for {wanted}, got {row}")


_SLEEPS = Part("sleep", 0.05, _sleep)
_ARGUMENTS = Part("slow by argument", 0.05, _slow_by_argument)
_LOCKS = Part("row lock", 0.05, _locked)

WORKS: Mapping[str, tuple[Part, ...]] = {
    "look-up": (Part("look-up", 1, _look_up),),
    "range": (Part("range", 1, _range),),
    "transfer": (Part("transfer", 1, _transfer),),
    "heavy": (Part("heavy", 1, _heavy, DEADLINE_SECONDS),),
    "mix": (Part("look-up", 0.85, _look_up), _SLEEPS, _ARGUMENTS, _LOCKS),
    "mix: sleep": (Part("look-up", 0.95, _look_up), _SLEEPS),
    "mix: argument": (Part("look-up", 0.95, _look_up), _ARGUMENTS),
    "mix: lock": (Part("look-up", 0.95, _look_up), _LOCKS),
}
"""The first part of each is what is reported."""


async def verify(session: Session, reference: Reference, *, whole: bool) -> None:
    """Values and their types must be those that asyncpg gives. whole: of the 10 000 rows too."""
    for row in reference.rows:
        _compare(tuple(await session.fetchrow(LOOKUP, row[0])), row)
    if whole:
        rows = await session.fetch(RANGE, RANGE_ROWS)
        for found, expected in zip(rows, reference.range, strict=True):
            _compare(tuple(found), expected)


def verify_sync(session: SyncSession, reference: Reference) -> None:
    """As `verify`."""
    for row in reference.rows:
        _compare(tuple(session.fetchrow(LOOKUP, row[0])), row)


def look_up(session: SyncSession, numbers: random.Random) -> None:
    """One request of blocking code."""
    wanted = numbers.randrange(ROWS)
    row = session.fetchrow(LOOKUP, wanted)
    if row[0] != wanted:
        raise WrongAnswer(f"asked for {wanted}, got {row}")


def _compare(found: tuple[object, ...], expected: tuple[object, ...]) -> None:
    if found != expected or [type(value) for value in found] != [type(value) for value in expected]:
        raise WrongAnswer(f"{found} instead of {expected}")
