"""Statements that write. Each notes in the ledger what it is about to do, and what it is told of it."""

from __future__ import annotations

from typing import Any

import asyncpg

from .asker import Answer, Asker
from .ledger import TAGS, Outcome, worker_of
from .truth import COUNTERS, note_of

INSERT = "insert into soak_w (tag, worker, note) values ($1, $2, $3)"
_RETURNING = f"{INSERT} returning tag, note"
_BY_CTE = f"with new as ({INSERT} returning tag, note) select tag, note from new"
_DELETE = "delete from soak_w where tag = $1"
COUNT = "update soak_c set n = n + 1 where id = $1"
_COUNT_RETURNING = "update soak_c set n = n + 1 where id = $1 returning $2::text as tag, id"
_FAILS = "select $1::text as tag, 1 / $2::int"


def row(tag: int) -> tuple[int, int, str]:
    """What is inserted for the tag."""
    return tag, worker_of(tag), note_of(tag)


def counter(me: Asker) -> int:
    """One of them; some are asked for often, so that statements wait for each other's locks."""
    return me.random.randrange(COUNTERS if me.random.random() < 0.9 else 3)


async def insert(me: Asker) -> None:
    tag = me.ledger.begin(me.kind, inserts=[0])
    if me.random.random() < 0.6:
        answer = await me.ask("execute", INSERT, *row(tag))
        me.must(answer, f"{INSERT} {tag}", "INSERT 0 1")
    else:
        sql = _RETURNING if me.random.random() < 0.7 else _BY_CTE
        answer = await me.ask("fetch", sql, *row(tag))
        me.must(answer, f"{sql} {tag}", [(tag, note_of(tag))])
    me.ledger.end(tag, answer.outcome)
    if answer.ok and len(me.deletable) < 1000:
        me.deletable.append(tag)


async def delete(me: Asker) -> None:
    """A row that is known to be there: 'DELETE 0' means that it was deleted twice, or lost."""
    if not me.deletable:
        await insert(me)
        return
    tag = me.deletable.pop(me.random.randrange(len(me.deletable)))
    number = me.ledger.begin(me.kind, deletes=tag)
    answer = await me.ask("execute", _DELETE, tag)
    me.must(answer, f"{_DELETE} {tag}", "DELETE 1")
    me.ledger.end(number, answer.outcome)


async def count(me: Asker) -> None:
    key = counter(me)
    number = me.ledger.begin(me.kind, counts=[key])
    if me.random.random() < 0.7:
        answer = await me.ask("execute", COUNT, key)
        me.must(answer, f"{COUNT} {key}", "UPDATE 1")
    else:
        tag = me.tag()
        answer = await me.ask("fetchrow", _COUNT_RETURNING, key, tag)
        me.must(answer, f"{_COUNT_RETURNING} {key} {tag}", (tag, key))
    me.ledger.end(number, answer.outcome)


async def many(me: Asker) -> None:
    """executemany and fetchmany: all of it, or nothing."""
    size = me.random.choice((1, 2, 5, 20, 120))
    tag = me.ledger.begin(me.kind, inserts=range(size))
    rows = [row(tag + offset) for offset in range(size)]
    if me.random.random() < 0.3:
        answer = await me.ask("fetchmany", _RETURNING, rows)
        me.must(answer, f"fetchmany {size} from {tag}", [(each[0], each[2]) for each in rows])
    else:
        answer = await me.ask("executemany", INSERT, rows)
    me.ledger.end(tag, answer.outcome)


async def many_that_fail(me: Asker) -> None:
    """One of the many arguments is in the way of the others."""
    size = me.random.choice((2, 5, 30))
    tag = me.ledger.begin(me.kind, inserts=range(size))
    rows: list[tuple[Any, ...]] = [row(tag + offset) for offset in range(size)]
    at = me.random.randrange(size)
    rows[at] = (tag + at, worker_of(tag), None)
    answer = await me.ask("executemany", INSERT, rows, expected=asyncpg.NotNullViolationError)
    me.ledger.end(tag, answer.outcome)


async def very_many(me: Asker) -> None:
    """More than fits into one request: pgactor sends it in pieces, in one transaction of a lease."""
    tag = me.ledger.begin(me.kind, inserts=range(TAGS))
    rows = [(*row(tag + offset), "x" * 2000) for offset in range(TAGS)]
    sql = "insert into soak_w select $1, $2, $3 where length($4::text) = 2000"
    answer = await me.ask("executemany", sql, rows)
    me.ledger.end(tag, answer.outcome)


async def batch(me: Asker) -> None:
    """Two rows and two counters: all or nothing."""
    first, second = sorted((counter(me), counter(me)))  # in order, so that nobody waits in a circle
    tag = me.ledger.begin(me.kind, inserts=[0, 1], counts=[first, second])
    asked = me.tag()
    answer = await me.ask(
        "batch",
        [
            (INSERT, *row(tag)),
            (_COUNT_RETURNING, first, asked),
            (COUNT, second),
            (_RETURNING, *row(tag + 1)),
        ],
        isolation=me.random.choice((None, None, None, "read_committed")),
    )
    expected = ["INSERT 0 1", [(asked, first)], "UPDATE 1", [(tag + 1, note_of(tag + 1))]]
    me.must(answer, f"batch {tag}", expected)
    me.ledger.end(tag, answer.outcome)


async def batch_that_fails(me: Asker) -> None:
    """Nothing of it happens, wherever the failure is."""
    key, tag_of_error = counter(me), me.tag()
    tag = me.ledger.begin(me.kind, inserts=[0, 1], counts=[key])
    statements: list[tuple[Any, ...]] = [(INSERT, *row(tag)), (COUNT, key), (INSERT, *row(tag + 1))]
    at = me.random.randint(0, 3)
    statements.insert(at, (_FAILS, tag_of_error, 0))
    answer = await me.ask("batch", statements, expected=asyncpg.DivisionByZeroError)
    if answer.as_expected and (index := getattr(answer.error, "batch_index", None)) != at:
        me.wrong(answer, f"batch {statements}", f"an error of statement {at}", f"an error of statement {index}")
    me.ledger.end(tag, answer.outcome)


async def loose_batch(me: Asker) -> None:
    """Statements that are independent of each other, some of which fail."""
    size = me.random.randint(2, 6)
    failing = {at for at in range(size) if me.random.random() < 0.3}
    tags = [me.ledger.begin(me.kind, inserts=[0]) if at not in failing else me.ledger.number() for at in range(size)]
    statements = [(_FAILS, me.tag(), 0) if at in failing else (INSERT, *row(tag)) for at, tag in enumerate(tags)]
    answer = await me.ask("batch", statements, atomic=False)
    for at, tag in enumerate(tags):
        if at not in failing:
            me.ledger.end(tag, _outcome_of(me, answer, at))
        elif answer.ok and type(answer.value[at]) is not asyncpg.DivisionByZeroError:
            me.wrong(answer, f"statement {at} of {statements}", "DivisionByZeroError", answer.value[at])


def _outcome_of(me: Asker, answer: Answer, at: int) -> Outcome:
    """Of a statement of a batch that was answered."""
    if not answer.ok:
        return answer.outcome
    if answer.value[at] == "INSERT 0 1":
        return Outcome.OK
    me.wrong(answer, f"statement {at} of a batch of {len(answer.value)}", "INSERT 0 1", repr(answer.value[at]))
    return Outcome.UNKNOWN
