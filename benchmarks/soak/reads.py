"""Statements that read: each row has the tag of its request, and the values that its id predicts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import time as clock
from datetime import timedelta
from typing import Any

from .asker import Answer, Asker
from .truth import QUICK, ROWS, same, values

_LOOKUP = f"select $1::text as tag, {QUICK} from soak_t where id = $2"
_LOOKUP_BY_NUMBER = "select $1::int8 as tag, id, txt, maybe, num from soak_t where id = $2"
_LOOKUP_ALL = "select $1::text as tag, t.* from soak_t t where id = $2"
_VALUE = "select $1::text || ':' || txt from soak_t where id = $2"
_RANGE = "select $1::text as tag, id, big, num, maybe, at from soak_t where id between $2 and $3 order by id"
_ANY = "select $1::text as tag, id, txt, raw from soak_t where id = any($2::int[]) order by id"
_NOBODY = f"select $1::text as tag, {QUICK} from soak_t where id = $2 and big <> big"
_NULLS = (
    "select $1::text as tag, $2::int as a, $3::text as b, $4::float8 as c, $5::numeric as d, "
    "null::timestamptz as e, null::int[] as f"
)
_MANY_TYPES = (
    "select $1::text as tag, $2::interval as span, row($3::int, $1::text) as pair, "
    "make_time(1, 2, $3 % 60) as time, null::inet as nothing"
)
_BIG = "select $1::text as tag, g as id, repeat(md5(g::text), 256) as txt from generate_series(1, $2::int) g"
_COUNTED = "select g, $1::text from generate_series(1, $2::int) g"


def check(me: Asker, answer: Answer, sql: str, args: Sequence[Any], expected: Sequence[Sequence[Any]]) -> bool:
    """Whether it is an answer; these must be its rows."""
    if answer.ok:
        rows = answer.value
        if len(rows) != len(expected):
            me.wrong(answer, f"{sql} {args}", f"{len(expected)} rows: {expected!r}", f"{len(rows)} rows: {rows!r}")
        for got, wanted in zip(rows, expected, strict=False):
            if not same(got, wanted):
                me.wrong(answer, f"{sql} {args}", wanted, got)
                break
    return answer.ok


async def _read(me: Asker, sql: str, args: Sequence[Any], expected: Sequence[Sequence[Any]], **named: Any) -> None:
    """Ask for rows by one of the ways there are."""
    way = me.random.random()
    if way < 0.5 or "calm" in named:
        check(me, await me.ask("fetch", sql, *args, **named), sql, args, expected)
    elif way < 0.85:
        answer = await me.ask("fetchrow", sql, *args, **named)
        if answer.ok and answer.value is None:
            answer.value = []
        elif answer.ok:
            answer.value = [answer.value]
        check(me, answer, sql, args, expected[:1])
    elif way < 0.95:
        column = me.random.randrange(len(expected[0])) if expected else 0
        answer = await me.ask("fetchval", sql, *args, column=column, **named)
        me.must(answer, f"column {column} of {sql} {args}", expected[0][column] if expected else None)
    else:
        me.must(await me.ask("execute", sql, *args, **named), f"{sql} {args}", f"SELECT {len(expected)}")


def _key(me: Asker) -> int:
    return me.random.randint(1, ROWS)


async def lookup(me: Asker) -> None:
    tag, key = me.tag(), _key(me)
    await _read(me, _LOOKUP, (tag, key), [(tag, *values(key, QUICK))])


async def lookup_by_number(me: Asker) -> None:
    tag, key = me.ledger.number(), _key(me)
    await _read(me, _LOOKUP_BY_NUMBER, (tag, key), [(tag, *values(key, "id, txt, maybe, num"))])


async def lookup_all_columns(me: Asker) -> None:
    tag, key = me.tag(), _key(me)
    await _read(me, _LOOKUP_ALL, (tag, key), [(tag, *values(key, "*"))])


async def value(me: Asker) -> None:
    tag, key = me.tag(), _key(me)
    await _read(me, _VALUE, (tag, key), [(f"{tag}:{values(key, 'txt')[0]}",)])


async def several(me: Asker) -> None:
    tag, first = me.tag(), _key(me)
    last = min(ROWS, first + int(me.random.expovariate(1 / 15)))
    expected = [(tag, *values(key, "id, big, num, maybe, at")) for key in range(first, last + 1)]
    await _read(me, _RANGE, (tag, first, last), expected)


async def listed(me: Asker) -> None:
    tag, ids = me.tag(), sorted({_key(me) for _ in range(me.random.randrange(12))})
    await _read(me, _ANY, (tag, ids), [(tag, *values(key, "id, txt, raw")) for key in ids])


async def nobody(me: Asker) -> None:
    await _read(me, _NOBODY, (me.tag(), _key(me)), [])


async def nulls(me: Asker) -> None:
    tag = me.tag()
    given = [None if me.random.random() < 0.5 else each for each in (7, "", 0.1)]
    await _read(me, _NULLS, (tag, *given, None), [(tag, *given, None, None, None)])


async def many_types(me: Asker) -> None:
    tag, key = me.tag(), _key(me)
    span = timedelta(days=key, microseconds=key)
    expected = [(tag, span, (key, tag), clock(1, 2, key % 60), None)]
    answer = await me.ask("fetch", _MANY_TYPES, tag, span, key)
    if answer.ok:
        answer.value = [(*row[:2], tuple(row[2]), *row[3:]) for row in answer.value]
    check(me, answer, _MANY_TYPES, (tag, span, key), expected)


async def big(me: Asker) -> None:
    tag, count = me.tag(), me.random.randint(50, 500)  # of 8 KB each
    answer = await me.ask("fetch", _BIG, tag, count)
    expected = [(tag, g, hashlib.md5(b"%d" % g).hexdigest() * 256) for g in range(1, count + 1)]
    check(me, answer, _BIG, (tag, count), expected)


async def counted(me: Asker) -> None:
    """Its tag tells how many rows there were."""
    tag, count = me.tag(), me.random.randrange(100)
    me.must(await me.ask("execute", _COUNTED, tag, count), f"{_COUNTED} {tag} {count}", f"SELECT {count}")


async def once(me: Asker) -> None:
    """A text that nobody asks again, or only a few."""
    tag, number = me.tag(), me.random.randrange(20_000)
    await _read(me, f"select $1::text as tag, {number} as number", (tag,), [(tag, number)])


async def batch(me: Asker) -> None:
    """Several look-ups of different shapes in one request."""
    statements: list[tuple[Any, ...]] = []
    expected: list[list[tuple[Any, ...]]] = []
    for _ in range(me.random.randint(1, 6)):
        tag, key = me.tag(), _key(me)
        if me.random.random() < 0.5:
            statements.append((_LOOKUP, tag, key))
            expected.append([(tag, *values(key, QUICK))])
        elif me.random.random() < 0.9:
            statements.append((_ANY, tag, [key]))
            expected.append([(tag, *values(key, "id, txt, raw"))])
        else:  # the session lane's, for one of its types
            statements.append((_LOOKUP_ALL, tag, key))
            expected.append([(tag, *values(key, "*"))])
    answer = await me.ask("batch", statements, atomic=me.random.random() < 0.5)
    if answer.ok and len(answer.value) != len(expected):
        me.wrong(answer, f"batch {statements}", expected, answer.value)
    elif answer.ok:
        for (sql, *args), got, wanted in zip(statements, answer.value, expected, strict=True):
            check(me, Answer(answer.outcome, got), sql, args, wanted)
