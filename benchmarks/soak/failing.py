"""Statements that fail, each with an error that names its request; slow ones; and a table that changes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg

from .asker import Answer, Asker
from .ledger import Outcome
from .reads import check
from .truth import SIDE_ROWS, TAKEN, side_of

_RAISE = "select soak_raise($1::text, $2::text)"
_CLASSES: dict[str, type[asyncpg.PostgresError]] = {
    "26000": asyncpg.InvalidSQLStatementNameError,
    "0A000": asyncpg.FeatureNotSupportedError,
    "P0001": asyncpg.RaiseError,
}
_SLOW = "select $1::text as tag, soak_slow($1::text, $2::float8) as again"
_SIDE = "select $1::text as tag, s.* from soak_s s where id = $2"
_LOCKED = "select $1::text as tag, id from soak_c where id = $2 for update"


def _says(me: Asker, answer: Answer, asked: str, text: str) -> None:
    """The error that was expected must say this: it is this request's own."""
    if answer.as_expected and text not in f"{answer.error} {getattr(answer.error, 'detail', '')}":
        me.wrong(answer, asked, f"an error with {text!r}", repr(answer.error))


async def division(me: Asker) -> None:
    await me.ask("fetch", "select $1::text as tag, 1 / $2::int", me.tag(), 0, expected=asyncpg.DivisionByZeroError)


async def cast(me: Asker) -> None:
    tag = me.tag()
    answer = await me.ask("fetchval", "select $1::text::int", tag, expected=asyncpg.InvalidTextRepresentationError)
    _says(me, answer, f"cast of {tag}", f'"{tag}"')


async def taken(me: Asker) -> None:
    """A key that is taken."""
    key = me.random.randrange(TAKEN)
    sql = "insert into soak_u (id, tag) values ($1, $2)"
    answer = await me.ask("execute", sql, key, me.tag(), expected=asyncpg.UniqueViolationError)
    _says(me, answer, f"{sql} {key}", f"({key})")


async def raised(me: Asker) -> None:
    """A function raises what PostgreSQL says of a prepared statement that is no more; it counts its runs."""
    tag, code = me.tag(), me.random.choice(list(_CLASSES))
    number = me.ledger.begin(me.kind)
    answer = await me.ask("fetch", _RAISE, tag, code, expected=_CLASSES[code])
    _says(me, answer, f"{_RAISE} {tag} {code}", tag)
    me.ledger.end(number, Outcome.OK if answer.as_expected else answer.outcome)


async def deferred(me: Asker) -> None:
    """Fails at the commit, after the command was complete."""
    number = me.ledger.number()
    sql = "insert into soak_r (tag, ref) values ($1, $2)"
    missing = -me.random.randint(1, 1000)
    answer = await me.ask("execute", sql, number, missing, expected=asyncpg.ForeignKeyViolationError)
    _says(me, answer, f"{sql} {missing}", f"({missing})")


async def nonsense(me: Asker) -> None:
    """No statement, or one of what is not there."""
    tag = me.tag()
    if me.random.random() < 0.5:
        await me.ask("fetch", f'select "{tag}"', expected=asyncpg.UndefinedColumnError)
    else:
        await me.ask("fetch", f'selec "{tag}"', expected=asyncpg.PostgresSyntaxError)


async def slow(me: Asker) -> None:
    """Often too slow for its timeout, at times by very little: then whoever stands behind it may be hit instead."""
    tag, seconds = me.tag(), me.random.choice((0.0, 0.001, 0.003, 0.01, 0.01, 0.05)) * me.random.random()
    timeout = seconds + me.random.random() ** 2 * 0.05 if me.random.random() < 0.5 else None
    answer = await me.ask("fetch", _SLOW, tag, seconds, timeout=timeout)
    check(me, answer, _SLOW, (tag, seconds), [(tag, tag)])


async def locked(me: Asker) -> None:
    """Locks a row, for as long as the statement takes."""
    tag, key = me.tag(), me.random.randrange(3)
    timeout = me.random.choice((0.005, 0.05)) if me.random.random() < 0.2 else None
    answer = await me.ask("fetch", _LOCKED, tag, key, timeout=timeout)
    check(me, answer, _LOCKED, (tag, key), [(tag, key)])


async def changing(me: Asker) -> None:
    """A table whose columns come, go and change their types."""
    tag, key = me.tag(), me.random.randint(1, SIDE_ROWS)
    answer = await me.ask("fetch", _SIDE, tag, key)
    if not answer.ok:
        return
    expected = {"tag": tag, **side_of(key)}
    got: list[dict[str, Any]] = [dict(each) for each in answer.value]
    right = len(got) == 1 and {"tag", "id", "v", "note"} <= got[0].keys() <= expected.keys()
    if not right or any(expected[name] != value or not _may_be(name, value) for name, value in got[0].items()):
        me.wrong(answer, f"{_SIDE} {tag} {key}", expected, got)


def _may_be(name: str, value: Any) -> bool:
    return isinstance(value, str if name in ("tag", "note") else int | float | Decimal)
