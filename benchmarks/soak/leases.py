"""Sessions of one's own: transactions, savepoints, deaths, and what they leave behind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from pgactor.errors import LeaseError

from .asker import Asker
from .ledger import Outcome
from .reads import check
from .truth import QUICK, ROWS, values
from .writes import COUNT, INSERT, counter, row

LEFT_BEHIND = """select $1::text as tag, coalesce(current_setting('soak.mark', true), '') as mark,
    to_regclass('pg_temp.soak_tmp')::text as temporary, current_setting('lock_timeout') as lock_timeout,
    (select count(*) from pg_prepared_statements where name like 'soak%') as prepared,
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
    (select count(*) from pg_cursors where name <> '') as cursors,
    (select count(*) from pg_listening_channels()) as channels"""
CLEAN = ("", None, "0", 0, 0, 0, 0)
"""What it must answer, after the tag, to whoever does not hold the lease."""

_LOCK = "select $1::text as tag, id from soak_c where id = $2 for update"
_LOOKUP = f"select $1::text as tag, {QUICK} from soak_t where id = $2"
_DIRT = (
    "set soak.mark = 'dirty'",
    "set lock_timeout = '59s'",
    "create temp table soak_tmp (id int)",
    "select pg_advisory_lock(77, pg_backend_pid())",
    "prepare soak_prepared as select 1",
    "listen soak_channel",
    "begin; declare soak_cursor cursor for select 1",
)


class Stop(Exception):
    """There is no going on with this lease."""


@asynccontextmanager
async def _lease(me: Asker, ttl: float | None = None) -> AsyncIterator[Any]:
    """A lease; a loss of it ends the block."""
    answer = await me.ask("acquire", ttl=ttl)
    if not answer.ok:
        yield None
        return
    try:
        yield answer.value
    except (Stop, LeaseError):
        pass
    finally:
        answer.value.release()


async def _step(me: Asker, lease: Any, method: str, *args: Any, **named: Any) -> Any:
    """One call on the lease (or its transaction); anything but success ends the block."""
    answer = await me.ask(method, *args, on=lease, **named)
    if not answer.ok:
        raise Stop
    return answer.value


async def _lookup(me: Asker, lease: Any) -> None:
    tag, key = me.tag(), me.random.randint(1, ROWS)
    answer = await me.ask("fetch", _LOOKUP, tag, key, on=lease)
    if not check(me, answer, _LOOKUP, (tag, key), [(tag, *values(key, QUICK))]):
        raise Stop


async def transaction(me: Asker) -> None:
    """Two rows, a counter and a look-up; committed, but for some. What never sent its COMMIT did not happen."""
    key = counter(me)
    tag = me.ledger.begin(me.kind, inserts=[0, 1], counts=[key])
    outcome = Outcome.NO
    async with _lease(me) as lease:
        if lease is not None:
            work = lease.transaction(isolation=me.random.choice((None, "read_committed")))
            await _step(me, work, "start")
            await _step(me, lease, "execute", INSERT, *row(tag))
            await _lookup(me, lease)
            await _step(me, lease, "execute", COUNT, key)
            if me.random.random() < 0.1:
                await _step(me, lease, "fetchval", "select pg_sleep(0.005)")
            await _step(me, lease, "execute", INSERT, *row(tag + 1))
            if me.random.random() < 0.7:
                outcome = (await me.ask("commit", on=work)).outcome
            elif me.random.random() < 0.7:
                await me.ask("rollback", on=work)
    me.ledger.end(tag, outcome)


async def savepoint(me: Asker) -> None:
    """What was done within a savepoint is undone with it."""
    tag = me.ledger.begin(me.kind, inserts=[0, 2])
    undone = me.ledger.begin(me.kind, inserts=[0])
    outcome = Outcome.NO
    async with _lease(me) as lease:
        if lease is not None:
            work = lease.transaction()
            await _step(me, work, "start")
            await _step(me, lease, "execute", INSERT, *row(tag))
            inner = lease.transaction()
            await _step(me, inner, "start")
            await _step(me, lease, "execute", INSERT, *row(undone))
            if me.random.random() < 0.5:
                failed = await me.ask(
                    "fetchval", "select 1 / $1::int", 0, on=lease, expected=asyncpg.DivisionByZeroError
                )
                if not failed.as_expected:
                    raise Stop
            await _step(me, inner, "rollback")
            await _step(me, lease, "execute", INSERT, *row(tag + 2))
            outcome = (await me.ask("commit", on=work)).outcome
    me.ledger.end(tag, outcome)
    me.ledger.end(undone, Outcome.NO)


async def row_lock(me: Asker) -> None:
    """Holds a row's lock, while others wait for it, and asks by other ways meanwhile."""
    key = counter(me)
    number = me.ledger.begin(me.kind, counts=[key])
    outcome = Outcome.NO
    async with _lease(me) as lease:
        if lease is not None:
            work, tag = lease.transaction(), me.tag()
            await _step(me, work, "start")
            answer = await me.ask("fetch", _LOCK, tag, key, on=lease)
            if not check(me, answer, _LOCK, (tag, key), [(tag, key)]):
                raise Stop
            if me.random.random() < 0.3:  # which must not stand behind one that waits for this lease's lock
                asked, other = me.tag(), me.random.randint(1, ROWS)
                answer = await me.ask("fetch", _LOOKUP, asked, other, timeout=0.5)
                check(me, answer, _LOOKUP, (asked, other), [(asked, *values(other, QUICK))])
            await _step(me, lease, "fetchval", "select pg_sleep($1)", me.random.random() * 0.01)
            await _step(me, lease, "execute", COUNT, key)
            outcome = (await me.ask("commit", on=work)).outcome
    me.ledger.end(number, outcome)


async def dirt(me: Asker) -> None:
    """Leaves behind what a session can keep."""
    async with _lease(me) as lease:
        if lease is not None:
            for sql in me.random.sample(_DIRT[:-1], me.random.randint(1, 4)):
                await _step(me, lease, "execute", sql)
            if me.random.random() < 0.3:
                await _step(me, lease, "execute", _DIRT[-1])


async def dirt_by_statement(me: Asker) -> None:
    """The same without a lease."""
    tag = me.tag()
    sql = "select $1::text as tag, set_config('soak.mark', $2, false) as mark"
    check(me, await me.ask("fetch", sql, tag, "dirty"), sql, (tag,), [(tag, "dirty")])


async def left_behind(me: Asker) -> None:
    """What others have left behind: nothing."""
    tag = me.tag()
    check(me, await me.ask("fetch", LEFT_BEHIND, tag), LEFT_BEHIND, (tag,), [(tag, *CLEAN)])


async def forgotten(me: Asker) -> None:
    """PostgreSQL forgets every statement that was prepared on this backend."""
    async with _lease(me) as lease:
        if lease is not None:
            if me.random.random() < 0.5:
                await _lookup(me, lease)
            await _step(me, lease, "execute", me.random.choice(("deallocate all", "discard all")))


async def silence(me: Asker) -> None:
    """The whole worker stands still until its lease is lost; what was not committed did not happen."""
    tag = me.ledger.begin(me.kind, inserts=[0])
    async with _lease(me, ttl=0.15) as lease:
        if lease is not None:
            work = lease.transaction()
            await _step(me, work, "start")
            await _step(me, lease, "execute", INSERT, *row(tag))
            time.sleep(0.3)
            answer = await me.ask("execute", INSERT, *row(tag), on=lease, calm=True)
            if answer.ok and me.shared.cancels:  # a blocking client renews its leases by a thread of its own
                me.wrong(answer, "a lease that was silent for longer than its ttl", "LeaseError", answer.value)
    me.ledger.end(tag, Outcome.NO)
