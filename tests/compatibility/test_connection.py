"""FEATURES row A20: asyncpg.Connection's methods, on a connection of asyncpg.Pool and on leases of ours.

Each case is a coroutine that is run with a connection of asyncpg's, an async lease and a blocking one, and tells what
it saw; all must have seen the same. What is about callbacks and about awaiting is in tests/integration for the last.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import pgactor
from tests.compatibility.blocking import Blocking
from tests.integration.driving import portrait
from tests.supervising import SupervisorProcess

Case = Callable[[Any], Awaitable[Any]]
Same = Callable[..., Any]


@pytest.fixture(scope="module")
def supervisor(dsn: str) -> Iterator[SupervisorProcess]:
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        made = SupervisorProcess(folder=Path(folder), dsn=dsn, max_size=3)
        yield made
        made.stop()


@pytest.fixture
def same(dsn: str, supervisor: SupervisorProcess) -> Same:
    """Run a case with all, compare, and return what they saw."""

    async def with_asyncpg(case: Case) -> Any:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool, pool.acquire() as connection:
            return await case(connection)

    async def with_pgactor(case: Case) -> Any:
        async with pgactor.create_pool(supervisor.ipc) as pool, pool.acquire() as connection:
            return await case(connection)

    async def with_blocking(case: Case) -> Any:
        with pgactor.Client(supervisor.ipc) as client, client.acquire() as lease:
            return await case(Blocking(lease))

    def all_of_them(case: Case, *, blocking: bool = True) -> Any:
        expected = asyncio.run(with_asyncpg(case))
        assert asyncio.run(with_pgactor(case)) == expected
        if blocking:
            assert asyncio.run(with_blocking(case)) == expected
        return expected

    return all_of_them


async def seen(what: Callable[[], Any]) -> Any:
    """What a call returns or raises, in a form that is the same for both."""
    try:
        result = what()
        return "returned", portrait(await result if hasattr(result, "__await__") else result)
    except Exception as error:
        return "raised", type(error), _anonymous(str(error)), _fields(error)


def _fields(error: Exception) -> dict[str, Any]:
    if not isinstance(error, asyncpg.PostgresError):
        return {}
    return {name: _anonymous(value) for name, value in error.as_dict().items()}


def _anonymous(text: str) -> str:
    """Without the names that asyncpg gives to what it makes, and with its keyword."""
    text = re.sub(r"__asyncpg_(\w+?)_[0-9a-f]+__", r"__asyncpg_\1__", text)
    return text.replace("a `with` block", "an `async with` block")


async def at_once(what: Callable[[], Any]) -> Any:
    """What a call raises before it is awaited."""
    try:
        what()
    except Exception as error:
        return type(error), str(error)
    return "nothing"


@asynccontextmanager
async def temporary(con: Any, columns: str) -> AsyncIterator[None]:
    await con.execute(f"create temp table lease_things ({columns})")
    yield
    await con.execute("drop table lease_things")


# --- prepared statements ----------------------------------------------------------------------------------


def test_A20_prepare_and_what_a_prepared_statement_tells(same: Same) -> None:
    async def case(con: Any) -> Any:
        stmt = await con.prepare("select $1::int as a, $2::text[] as b, ($1, 'x')::text as c")
        named = await con.prepare("select 1", name="mine")
        return [
            _anonymous(stmt.get_name()),
            stmt.get_query(),
            stmt.get_statusmsg(),
            stmt.get_parameters(),
            stmt.get_attributes(),
            type(stmt.get_parameters()[0]),
            type(stmt.get_attributes()[0]),
            named.get_name(),
            named.get_parameters(),
            await con.fetchval("select count(*) from pg_prepared_statements where name = 'mine'"),
        ]

    assert same(case)[-1] == 1


def test_A20_a_prepared_statement_runs(same: Same) -> None:
    async def case(con: Any) -> Any:
        stmt = await con.prepare("select n, n * $1 as m from generate_series(1, 3) n order by n")
        told = [portrait(await stmt.fetch(2)), stmt.get_statusmsg()]
        told += [portrait(await stmt.fetchrow(3)), await stmt.fetchval(3), await stmt.fetchval(3, column=1)]
        told += [portrait(await stmt.fetchmany([(1,), (2,)])), await stmt.fetch(2, timeout=10) == []]
        none = await con.prepare("select 1 where false")
        told += [await none.fetch(), await none.fetchrow(), await none.fetchval(), none.get_statusmsg()]
        async with temporary(con, "a int"):
            insert = await con.prepare("insert into lease_things values ($1)")
            told += [await insert.executemany([(n,) for n in range(5)]), insert.get_statusmsg()]
            told += [await insert.fetch(7), insert.get_statusmsg()]
            told += [await con.fetchval("select sum(a) from lease_things")]
            create = await con.prepare("create temp table lease_more (a int)")
            told += [await create.fetch(), create.get_statusmsg()]
        return told

    same(case)


def test_A20_a_prepared_statement_complains(same: Same) -> None:
    async def case(con: Any) -> Any:
        told = [await seen(lambda: con.prepare("selec 1"))]
        stmt = await con.prepare("select 1 / $1::int")
        for call in (
            lambda: stmt.fetch(),
            lambda: stmt.fetch(1, 2),
            lambda: stmt.fetch("x"),
            lambda: stmt.fetch(0),
            lambda: stmt.fetchval(0),
            lambda: stmt.fetchval(1, column=5),
            lambda: stmt.fetchmany([(1,), (0,)]),
            lambda: stmt.executemany([(1,), ("x",)]),
            lambda: stmt.executemany([1]),
            lambda: stmt.fetch(1),
            lambda: con.prepare("select 1", record_class=dict),
        ):
            told += [await seen(call)]
        told += [await seen(stmt.get_statusmsg)]
        return told

    same(case)


def test_A20_a_name_may_be_used_once_and_again_after_the_release(same: Same, supervisor: SupervisorProcess) -> None:
    async def case(con: Any) -> Any:
        stmt = await con.prepare("select 1", name="once")
        told = await seen(lambda: con.prepare("select 2", name="once"))
        return [told, await stmt.fetchval()]

    same(case)

    async def again() -> None:
        async with pgactor.create_pool(supervisor.ipc) as pool:
            for number in range(4):
                async with pool.acquire() as con:
                    stmt = await con.prepare(f"select {number}", name="once")
                    assert await stmt.fetchval() == number

    asyncio.run(again())


def test_A20_explain(same: Same) -> None:
    async def case(con: Any) -> Any:
        async with temporary(con, "a int"):
            stmt = await con.prepare("insert into lease_things values ($1) returning a")
            plan = await stmt.explain(1)
            measured = await stmt.explain(1, analyze=True)
            return [
                sorted(plan[0]),
                plan[0]["Plan"]["Node Type"],
                sorted(measured[0]),
                measured[0]["Plan"]["Actual Rows"],
                await con.fetchval("select count(*) from lease_things"),
            ]

    assert same(case)[-1] == 0


def test_A20_a_prepared_statement_survives_a_changed_table_outside_of_a_transaction(
    same: Same,
) -> None:
    async def case(con: Any) -> Any:
        async with temporary(con, "a int"):
            stmt = await con.prepare("select * from lease_things")
            told = [await seen(lambda: stmt.fetch())]
            await con.execute("alter table lease_things add b text")
            told += [await seen(lambda: stmt.fetch()), await seen(lambda: con.fetch("select * from lease_things"))]
            return told

    assert same(case)[1][1] is asyncpg.InvalidCachedStatementError


# --- cursors ----------------------------------------------------------------------------------------------

SERIES = "select n from generate_series(1, $1::int) n"


def test_A20_a_cursor_fetches_and_moves(same: Same) -> None:
    async def case(con: Any) -> Any:
        told = []
        async with con.transaction():
            cur = await con.cursor(SERIES, 20)
            told += [portrait(await cur.fetchrow()), await cur.forward(3), portrait(await cur.fetch(2))]
            told += [portrait(await cur.fetch(100, timeout=5)), await cur.fetch(1), await cur.fetchrow()]
            cur = await con.cursor(SERIES, 5)
            told += [await cur.forward(10), await cur.fetchrow(), await cur.fetch(3)]
            stmt = await con.prepare(SERIES)
            cur = await stmt.cursor(3)
            told += [portrait(await cur.fetch(2)), portrait(await cur.fetchrow()), await cur.fetchrow()]
        return told

    same(case)


def test_A20_a_cursor_is_iterated_with_any_prefetch(same: Same) -> None:
    async def case(con: Any) -> Any:
        told: list[Any] = []
        async with con.transaction():
            for count in (0, 1, 49, 50, 51, 100, 101):
                told += [[portrait(row) async for row in con.cursor(SERIES, count)]]
            for prefetch in (1, 3, 1000):
                told += [[row["n"] async for row in con.cursor(SERIES, 7, prefetch=prefetch, timeout=5)]]
            stmt = await con.prepare(SERIES)
            told.append([row["n"] async for row in stmt.cursor(7, prefetch=2)])
            factory = con.cursor(SERIES, 3)
            told.append([[row["n"] async for row in factory] for _ in range(2)])
            # two at once, and other statements between
            one, other = con.cursor(SERIES, 4, prefetch=1).__aiter__(), con.cursor(SERIES, 4, prefetch=1).__aiter__()
            for _ in range(4):
                told += [(await anext(one))[0], await con.fetchval("select 'x'"), (await anext(other))[0]]
        return told

    same(case)


def test_A20_a_cursor_complains(same: Same) -> None:
    async def case(con: Any) -> Any:
        stmt = await con.prepare(SERIES)
        told = [
            await seen(lambda: con.cursor(SERIES, 3)),
            await seen(lambda: con.cursor("selec")),
            await seen(lambda: stmt.cursor(3)),
            await seen(lambda: anext(con.cursor(SERIES, 3).__aiter__())),
        ]
        async with con.transaction():
            cur = await con.cursor(SERIES, 3)
            told += [await seen(lambda: cur.fetch(0)), await seen(lambda: cur.forward(-1))]
            told += [await seen(lambda: cur.fetch(2**40)), await seen(lambda: cur.fetch("x"))]
        told += [await seen(lambda: cur.fetch(1)), await seen(cur.fetchrow), await seen(lambda: cur.forward(1))]
        async with con.transaction():
            told += [(await seen(lambda: cur.fetch(1)))[:3]]
        for args in ((), ("x",), (1, 2)):
            tr = con.transaction()
            await tr.start()
            told += [await seen(lambda: con.cursor(SERIES, *args))]  # noqa: B023  # it is run at once
            await tr.rollback()
        return told

    same(case)


def test_A20_prefetch_is_for_iteration(same: Same) -> None:
    async def case(con: Any) -> Any:
        return [
            await seen(lambda: con.cursor(SERIES, 3, prefetch=5)),
            await seen(lambda: con.cursor(SERIES, 3, prefetch=0).__aiter__()),
        ]

    same(case, blocking=False)


def test_A20_a_cursor_that_is_exhausted_holds_nothing(same: Same) -> None:
    async def case(con: Any) -> Any:
        async with temporary(con, "a int"):
            await con.execute("insert into lease_things values (1), (2)")
            async with con.transaction():
                rows = [row["a"] async for row in con.cursor("select a from lease_things")]
                told = await seen(lambda: con.execute("alter table lease_things add b int"))
            return [rows, told]

    assert same(case)[1][0] == "returned"


def test_A20_a_cursor_sees_the_table_as_it_was_when_it_was_opened(same: Same) -> None:
    async def case(con: Any) -> Any:
        async with temporary(con, "a int"), con.transaction():
            await con.execute("insert into lease_things values (1)")
            cur = await con.cursor("select a from lease_things")
            await con.execute("insert into lease_things values (2)")
            return await seen(lambda: cur.fetch(10))

    same(case)


# --- transactions -----------------------------------------------------------------------------------------


def test_A20_transactions_and_their_misuse(same: Same) -> None:
    async def case(con: Any) -> Any:
        told: list[Any] = []
        tr = con.transaction()
        told += [await seen(tr.commit), await seen(tr.rollback)]
        told += [await seen(tr.start), con.is_in_transaction(), await seen(tr.start)]
        told += [await seen(tr.commit), con.is_in_transaction(), await seen(tr.start), await seen(tr.commit)]
        tr = con.transaction(isolation="serializable", readonly=True, deferrable=True)
        await tr.start()
        told += [await con.fetchval("show transaction_isolation"), await con.fetchval("show transaction_read_only")]
        told += [await seen(tr.rollback), await seen(tr.rollback)]
        async with con.transaction(isolation="repeatable_read") as given:
            told.append(given)
            inner = con.transaction(isolation="serializable")
            told.append(await seen(inner.start))
            async with con.transaction():
                await con.execute("create temp table lease_nested (a int)")
            with suppress(ZeroDivisionError):
                async with con.transaction():
                    await con.execute("insert into lease_nested values (1)")
                    raise ZeroDivisionError
            told.append(await con.fetchval("select count(*) from lease_nested"))
        tr = con.transaction()
        async with tr:
            told += [await seen(tr.commit), await seen(tr.rollback), await seen(tr.__aenter__)]
        await con.execute("begin")
        told.append(await seen(con.transaction().start))
        await con.execute("rollback")
        return told

    same(case)


def test_A20_an_unknown_isolation_is_refused(same: Same) -> None:
    async def case(con: Any) -> Any:
        kind, error, text, _ = await seen(lambda: con.transaction(isolation="x"))
        return kind, error, sorted(text)

    same(case)


# --- facts ------------------------------------------------------------------------------------------------


def test_A20_facts_about_the_session(same: Same) -> None:
    async def case(con: Any) -> Any:
        settings = con.get_settings()
        told = [con.get_server_version(), type(con.get_server_version()).__name__, con.get_reset_query()]
        told += [con.get_server_pid() == await con.fetchval("select pg_backend_pid()")]
        told += [con.is_closed(), con.is_in_transaction(), settings.server_version, settings.client_encoding]
        await con.execute("set timezone = 'Asia/Tokyo'")
        told += [settings.TimeZone]
        async with con.transaction():
            await con.execute("set local timezone = 'Europe/Lisbon'; set local application_name = 'other'")
            told += [settings.TimeZone, settings.application_name, con.is_in_transaction()]
        told += [settings.TimeZone, con.is_in_transaction(), await seen(lambda: settings.no_such_setting)]
        return [*told[:12], told[12], told[13], told[14][:3]]

    assert "Asia/Tokyo" in same(case)


def test_A20_reset_makes_the_session_new(same: Same) -> None:
    async def case(con: Any) -> Any:
        before = await con.fetchval("show timezone")
        stmt = await con.prepare("select 41 + $1::int")
        await con.execute("set timezone = 'Asia/Tokyo'; select pg_advisory_lock(4711); begin")
        told: list[Any] = [con.is_in_transaction()]
        told += [await seen(lambda: con.reset(timeout=10)), con.is_in_transaction()]
        told += [await con.fetchval("show timezone") == before == con.get_settings().TimeZone]
        told += [await con.fetchval("select count(*) from pg_locks where locktype = 'advisory' and objid = 4711")]
        told += [await stmt.fetchval(1)]
        async with con.transaction():
            cur = await con.cursor("select 1")
            told.append(portrait(await cur.fetchrow()))
        return told

    same(case)


def test_A20_reload_schema_state(same: Same) -> None:
    async def case(con: Any) -> Any:
        await con.execute("drop type if exists lease_pair cascade; create type lease_pair as (x int, y int)")
        try:
            await con.execute("create temp table lease_pairs (p lease_pair); insert into lease_pairs values ((1, 2))")
            told = [await seen(lambda: con.fetchval("select (p).y from lease_pairs"))]
            await con.prepare("select p from lease_pairs")  # its type is known now
            await con.execute("alter type lease_pair drop attribute y; alter type lease_pair add attribute y text")
            told += [await seen(con.reload_schema_state)]
            described = await con.prepare("select p from lease_pairs")
            return [*told, described.get_attributes()[0].type.name]
        finally:
            await con.execute("drop type lease_pair cascade")

    same(case)


# --- listeners --------------------------------------------------------------------------------------------


def test_A20_log_listeners_hear_notices(same: Same) -> None:
    async def case(con: Any) -> Any:
        heard: list[Any] = []

        def listen(connection: Any, message: Any) -> None:
            heard.append((connection is con, type(message), str(message), message.as_dict(), message.query))

        async def listen_async(connection: Any, message: Any) -> None:
            heard.append(("async", connection is con, message.message))

        told: list[Any] = [await seen(lambda: con.add_log_listener(3))]
        con.add_log_listener(listen)
        con.add_log_listener(listen)
        con.add_log_listener(listen_async)
        notice = "do $$begin raise notice 'hello %', 1; raise warning 'careful' using hint = 'slowly'; end$$"
        await con.execute(notice)
        await asyncio.sleep(0)
        await con.fetchval("select 1")
        told.append(sorted(heard, key=str))
        heard.clear()
        con.remove_log_listener(listen)
        con.remove_log_listener(listen_async)
        await con.execute(notice)
        await con.fetchval("select 1")
        return [*told, heard]

    saw = same(case, blocking=False)
    assert len(saw[1]) == 4
    assert saw[2] == []


def test_A20_query_loggers(same: Same) -> None:
    async def case(con: Any) -> Any:
        heard: list[Any] = []

        async def listen_async(record: Any) -> None:
            heard.append(("async", record.query))

        def listen(record: Any) -> None:
            error = None if record.exception is None else (type(record.exception), str(record.exception))
            timely = 0 <= record.elapsed < 10
            heard.append((type(record).__name__, record.query, record.args, record.timeout, error, timely))

        with con.query_logger(listen):
            await con.fetch("select $1::int", 1, timeout=3.0)
            await con.fetchval("select 2")
            await con.fetchrow("select 3")
            await con.execute("select 4")
            await con.execute("select $1::int", 5)
            await con.executemany("select $1::int", [(6,)])
            await con.fetchmany("select $1::int", [(7,)])
            await seen(lambda: con.execute("selec"))
            await seen(lambda: con.fetch("select 1 / $1::int", 0))
            stmt = await con.prepare("select 8")
            await stmt.fetch()
            async with con.transaction():
                pass
            await asyncio.sleep(0)
        await con.fetchval("select 9")
        con.add_query_logger(listen_async)
        await con.fetchval("select 10")
        await asyncio.sleep(0.01)
        con.remove_query_logger(listen_async)
        await con.fetchval("select 11")
        await asyncio.sleep(0.01)
        return heard

    assert len(same(case, blocking=False)) == 12


def test_A20_termination_listeners_hear_of_the_end(same: Same, dsn: str) -> None:
    async def case(con: Any) -> Any:
        heard: list[Any] = []
        ended = asyncio.Event()

        async def listen_async(connection: Any) -> None:
            heard.append(("async", connection is con))
            ended.set()

        con.add_termination_listener(lambda connection: heard.append(connection is con))
        con.add_termination_listener(listen_async)
        con.add_termination_listener(print)
        con.remove_termination_listener(print)
        other = await asyncpg.connect(dsn)
        await other.execute("select pg_terminate_backend($1)", con.get_server_pid())
        await other.close()
        async with asyncio.timeout(10):
            await ended.wait()
        return sorted(heard, key=str)

    same(case, blocking=False)


@pytest.mark.parametrize("how", ["terminate", "close"])
def test_A20_terminate_and_close_end_it_at_once(same: Same, how: str) -> None:
    async def case(con: Any) -> Any:
        heard: list[Any] = []
        con.add_termination_listener(lambda connection: heard.append(connection is con))
        stmt = await con.prepare("select 1")
        result = getattr(con, how)()
        if result is not None:
            await result
        told = [await at_once(call) for call in (con.is_closed, con.get_server_pid, lambda: con.fetch("select 1"))]
        told += [await at_once(call) for call in (stmt.fetch, stmt.get_name, stmt.cursor, con.terminate)]
        await asyncio.sleep(0)
        return told, heard

    assert same(case, blocking=False)[1] == [True]


def test_A20_what_terminate_gave_up_is_undone(supervisor: SupervisorProcess) -> None:
    async def case() -> None:
        async with pgactor.create_pool(supervisor.ipc) as pool:
            con = await pool.acquire()
            await con.execute("select pg_advisory_lock(4712)")
            con.terminate()
            async with pool.acquire() as other, asyncio.timeout(10):
                await other.execute("select pg_advisory_lock(4712)")

    asyncio.run(case())


# --- after the release ------------------------------------------------------------------------------------

METHODS: dict[str, tuple[Any, ...]] = {
    "add_listener": ("a", print),
    "remove_listener": ("a", print),
    "close": (),
    "execute": ("select 1",),
    "executemany": ("select 1", []),
    "fetch": ("select 1",),
    "fetchrow": ("select 1",),
    "fetchval": ("select 1",),
    "fetchmany": ("select 1", []),
    "prepare": ("select 1",),
    "reset": (),
    "reload_schema_state": (),
    "cursor": ("select 1",),
    "transaction": (),
    "is_closed": (),
    "is_in_transaction": (),
    "terminate": (),
    "get_server_pid": (),
    "get_server_version": (),
    "get_settings": (),
    "get_reset_query": (),
    "query_logger": (print,),
    "add_log_listener": (print,),
    "remove_log_listener": (print,),
    "add_termination_listener": (print,),
    "remove_termination_listener": (print,),
    "add_query_logger": (print,),
    "remove_query_logger": (print,),
}


def test_A20_after_the_release_every_method_raises_at_once(dsn: str, supervisor: SupervisorProcess) -> None:
    async def told(pool: Any) -> dict[str, Any]:
        con = await pool.acquire()
        stmt = await con.prepare("select 1")
        tr = con.transaction()
        await tr.start()
        cur = await con.cursor("select 1")
        factory = con.cursor("select 1")
        iterator = factory.__aiter__()
        unused = con.transaction()
        await pool.release(con)
        calls: dict[str, Callable[[], Any]] = {
            name: partial(getattr(con, name), *args)
            for name, args in METHODS.items()
            if hasattr(con, name) or "listener" not in name  # LISTEN is a module of its own
        }
        for name in ("get_name", "get_query", "get_statusmsg", "get_parameters", "get_attributes", "cursor", "fetch"):
            calls[f"stmt.{name}"] = getattr(stmt, name)
        calls |= {
            "stmt.fetchval": stmt.fetchval,
            "stmt.fetchrow": stmt.fetchrow,
            "stmt.fetchmany": lambda: stmt.fetchmany([]),
            "stmt.executemany": lambda: stmt.executemany([]),
            "stmt.explain": stmt.explain,
            "cur.fetch": lambda: cur.fetch(1),
            "cur.fetchrow": cur.fetchrow,
            "cur.forward": lambda: cur.forward(1),
            "await factory": lambda: factory.__await__(),
            "async for": lambda: factory.__aiter__(),
            "anext": iterator.__anext__,
            "tr.start": unused.start,
            "tr.commit": tr.commit,
            "tr.rollback": tr.rollback,
        }
        return {name: await at_once(call) for name, call in calls.items()}

    async def of_asyncpg() -> dict[str, Any]:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            return await told(pool)

    async def of_pgactor() -> dict[str, Any]:
        async with pgactor.create_pool(supervisor.ipc) as pool:
            return await told(pool)

    expected, found = asyncio.run(of_asyncpg()), asyncio.run(of_pgactor())
    assert all(each[0] is asyncpg.InterfaceError for each in expected.values())
    missing = {name for name in expected if name not in found}
    assert missing <= {"add_listener", "remove_listener"}
    assert found == {name: each for name, each in expected.items() if name not in missing}


def test_A20_listeners_left_at_the_release_are_warned_of(dsn: str, supervisor: SupervisorProcess) -> None:
    async def told(pool: Any) -> str:
        con = await pool.acquire()
        con.add_log_listener(print)
        with pytest.warns(asyncpg.InterfaceWarning) as caught:
            await pool.release(con)
        return re.sub(r"^<.*> ", "", str(caught[0].message))

    async def of_asyncpg() -> str:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            return await told(pool)

    async def of_pgactor() -> str:
        async with pgactor.create_pool(supervisor.ipc) as pool:
            return await told(pool)

    assert asyncio.run(of_pgactor()) == asyncio.run(of_asyncpg())


# --- record_class -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [asyncpg.Record, pgactor.Record])
def test_A20_record_class_of_prepared_statements_and_cursors(supervisor: SupervisorProcess, base: type) -> None:
    def get(self: Any, name: str) -> Any:
        return self[name]

    dotted: Any = type("Dotted", (base,), {"__getattr__": get})

    async def case() -> None:
        async with pgactor.create_pool(supervisor.ipc) as pool, pool.acquire() as con, con.transaction():
            stmt: Any = await con.prepare("select 1 as one", record_class=dotted)
            assert (await stmt.fetchrow()).one == 1
            assert (await stmt.fetch())[0].one == 1
            assert [row.one async for row in stmt.cursor()] == [1]
            assert [row["one"] async for row in con.cursor("select 1 as one", record_class=dotted)] == [1]
            cur: Any = await con.cursor("select 1 as one, 2 as two", record_class=dotted)
            row = await cur.fetchrow()
            assert (row.two, row["two"], tuple(row), dict(row)) == (2, 2, (1, 2), {"one": 1, "two": 2})
            assert issubclass(dotted, pgactor.Record) is isinstance(row, dotted)

    asyncio.run(case())


@pytest.mark.parametrize("base", [asyncpg.Record, pgactor.Record])
@pytest.mark.parametrize("hooked", [False, True])
def test_A20_record_class_of_fetch_fetchrow_and_fetchmany(
    dsn: str, supervisor: SupervisorProcess, base: type, hooked: bool
) -> None:
    def get(self: Any, name: str) -> Any:
        return self[name]

    dotted: Any = type("Dotted", (base,), {"__getattr__": get})

    async def told(con: Any, record: Any) -> Any:
        none = await con.fetchrow("select 1 where false", record_class=record)
        (row,) = await con.fetch("select $1::int as one", 1, record_class=record, timeout=5)
        first = await con.fetchrow("select 2 as one", record_class=record)
        many = await con.fetchmany("select $1::int as one", [(3,), (4,)], record_class=record)
        plain = await con.fetchrow("select 5 as one", record_class=None)
        wrong = [
            await seen(lambda: con.fetch("select 1", record_class=dict)),
            await seen(lambda: con.fetchrow("select 1", record_class=int)),
            await seen(lambda: con.fetchmany("select 1", [()], record_class="x")),
        ]
        return none, row.one, first.one, [each.one for each in many], dict(row), hasattr(plain, "one"), wrong

    async def of_asyncpg() -> Any:
        of_theirs: Any = type("Dotted", (asyncpg.Record,), {"__getattr__": get})
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool, pool.acquire() as con:
            return await told(con, of_theirs)

    async def nothing(con: Any) -> None: ...

    async def of_pgactor() -> Any:
        async with pgactor.create_pool(supervisor.ipc, setup=nothing if hooked else None) as pool:
            on_pool = await told(pool, dotted)
            async with pool.acquire() as con:
                assert await told(con, dotted) == on_pool
            return on_pool

    found = asyncio.run(of_pgactor())
    with pgactor.Client(supervisor.ipc) as client, client.acquire() as lease:
        assert asyncio.run(told(Blocking(lease), dotted)) == found
    expected = asyncio.run(of_asyncpg())
    assert found == expected


# --- codecs -----------------------------------------------------------------------------------------------


def test_A20_a_text_codec(same: Same) -> None:
    async def case(con: Any) -> Any:
        calls: list[Any] = []

        def encode(value: Any) -> str:
            calls.append(("encode", value))
            return json.dumps(value)

        def decode(value: str) -> Any:
            calls.append(("decode", value))
            return json.loads(value)

        plain = await con.prepare("select $1::json as j")
        await con.set_type_codec("json", schema="pg_catalog", encoder=encode, decoder=decode)
        told: list[Any] = [await con.fetchval("select $1::json", {"a": [1, None]})]
        told += [await con.fetchval("select $1::json", None), calls[:]]
        told += [
            await con.fetchval("select $1::json[]", [{"b": 1}, None, 2]),
            await con.fetchval("select '[1]'::json"),
        ]
        told += [await con.fetchval("select array[['1'::json, '{}']]"), portrait(await con.fetchrow("select 1, 'x'"))]
        told += [await con.fetchval("select row(1, '[2]'::json, null)"), await plain.fetchval("[3]")]
        stmt = await con.prepare("select $1::json as j, $2::int as n")
        told += [portrait(await stmt.fetch({"c": 1}, 2)), portrait(await stmt.fetchmany([([1], 1), ({}, 2)]))]
        async with temporary(con, "j json"):
            await con.executemany("insert into lease_things values ($1)", [({"d": n},) for n in range(3)])
            told += [portrait(await con.fetch("select j from lease_things"))]
            async with con.transaction():
                told += [
                    [row["j"] async for row in con.cursor("select $1::json as j, n from generate_series(1,2) n", [7])]
                ]
                cur = await stmt.cursor("x", 1)
                told += [portrait(await cur.fetchrow())]
        await con.reset_type_codec("json", schema="pg_catalog")
        told += [await con.fetchval("select $1::json", "[4]"), await stmt.fetchval([5], 1)]
        return told

    same(case)


def test_A20_binary_and_tuple_codecs(same: Same) -> None:
    async def case(con: Any) -> Any:
        told: list[Any] = []
        await con.set_type_codec(
            "uuid",
            schema="pg_catalog",
            encoder=bytes.fromhex,
            decoder=lambda data: bytes(data).hex(),
            format="binary",
        )
        told += [
            await con.fetchval("select $1::uuid", "00" * 15 + "01"),
            await con.fetchval("select array[$1::uuid]", "11" * 16),
        ]
        for typename, value in (
            ("interval", (14, 3, 1000)),
            ("date", (8000,)),
            ("timestamp", (123456789,)),
            ("timestamptz", (-5,)),
            ("time", (1000,)),
            ("timetz", (1000, 3600)),
        ):
            await con.set_type_codec(
                typename,
                schema="pg_catalog",
                encoder=lambda value: value,
                decoder=lambda value: value,
                format="tuple",
            )
            told += [await con.fetchval(f"select $1::{typename}", value)]
            told += [await con.fetchval(f"select array[$1::{typename}]", value)]
        await con.execute("drop type if exists lease_complex; create type lease_complex as (r float8, i float8)")
        try:
            await con.set_type_codec(
                "lease_complex", encoder=lambda c: (c.real, c.imag), decoder=lambda t: complex(*t), format="tuple"
            )
            told += [await con.fetchval("select $1::lease_complex", 1 + 2j)]
            told += [await con.fetchval("select array_agg(c) from unnest($1::lease_complex[]) c", [1j, 2j])]
        finally:
            await con.execute("drop type lease_complex")
        return told

    same(case)


def test_A20_codecs_reach_into_composites_ranges_domains_and_arrays_of_them(same: Same) -> None:
    async def case(con: Any) -> Any:
        told: list[Any] = []
        await con.execute(
            """
            drop schema if exists lease_nested cascade; create schema lease_nested;
            set search_path to lease_nested, public;
            create type tagged as (id uuid, d date, note text);
            create type inner_range as range (subtype = uuid);
            create type outer_type as (one tagged, many tagged[], span inner_range);
            create domain some_uuid as uuid; create domain some_tagged as tagged;
            create table kept (id uuid, t tagged, u some_uuid, r inner_range, many uuid[]);
            """
        )
        try:
            await con.set_type_codec(
                "uuid",
                schema="pg_catalog",
                encoder=lambda number: int(number).to_bytes(16),
                decoder=lambda data: int.from_bytes(bytes(data)),
                format="binary",
            )
            await con.set_type_codec(
                "date",
                schema="pg_catalog",
                encoder=lambda day: (day - 1,),
                decoder=lambda day: day[0] + 1,
                format="tuple",
            )
            one, two = (1, 10, "a"), {"id": 2, "note": "b"}
            for sql, argument in (
                ("select $1::tagged", one),
                ("select $1::tagged", [3, None, None]),
                ("select $1::tagged", two),
                ("select $1::tagged", (None, None, None)),
                ("select $1::tagged[]", [one, two, None, (5, 6, "c")]),
                ("select $1::tagged[]", ((7, 8, "d"),)),
                ("select $1::outer_type", (one, [two, one], (1, 9))),
                ("select $1::outer_type", {"many": [], "span": asyncpg.Range(3, None)}),
                ("select $1::inner_range", (1, 2)),
                ("select $1::inner_range", asyncpg.Range(4, 8, upper_inc=True)),
                ("select $1::inner_range", asyncpg.Range(empty=True)),
                ("select $1::inner_range[]", [(1, 2), asyncpg.Range(3, 4)]),
                ("select $1::some_uuid", 12),
                ("select $1::some_tagged", one),
                ("select $1::daterange", (100, 200)),
                ("select $1::daterange", asyncpg.Range(100, 200)),
                ("select $1::uuid[]", [[1, 2], [3, 4]]),
                ("select $1::uuid[]", (5, None)),
                ("select $1::tagged", (1, 2)),
                ("select $1::tagged", {"nothing": 1}),
                ("select $1::tagged", 5),
                ("select $1::tagged", ("x", 1, "y")),
                ("select $1::inner_range", "x"),
            ):
                told += [await seen(partial(con.fetchval, sql, argument))]
                statement = await con.prepare(sql)
                told += [await seen(partial(statement.fetchval, argument))]
            told += [await con.fetchval("select row(1, $1::tagged)", one), await con.fetchval("select null::tagged")]
            records = [(1, one, 2, asyncpg.Range(1, 5), [6, 7]), (None, two, None, None, None)]
            options = {"schema_name": "lease_nested"}
            told += [await con.copy_records_to_table("kept", records=records, **options)]
            told += [await con.copy_records_to_table("kept", records=[([8], 9)], columns=["many", "id"], **options)]
            told += [
                await seen(lambda: con.copy_records_to_table("kept", records=[("x",)], columns=["id"], **options))
            ]
            told += [portrait(await con.fetch("select * from kept"))]
            await con.executemany("insert into kept (t, r) values ($1, $2)", [(one, (1, 2)), (two, None)])
            told += [portrait(await con.fetch("select t, r from kept where r is not null"))]
        finally:
            await con.reset_type_codec("uuid", schema="pg_catalog")
            await con.execute("set search_path to default; drop schema lease_nested cascade")
        return told

    same(case)


def test_A20_codecs_complain(same: Same) -> None:
    async def case(con: Any) -> Any:
        def codec(typename: str, schema: str = "pg_catalog", **options: Any) -> Callable[[], Any]:
            given = {"encoder": str, "decoder": int, **options}
            return lambda: con.set_type_codec(typename, schema=schema, **given)

        told = [
            await seen(codec("nothing")),
            await seen(codec("int4range")),
            await seen(codec("int4", format="x")),
            await seen(lambda: con.reset_type_codec("nothing")),
            await seen(lambda: con.set_builtin_type_codec("nothing", codec_name="int")),
            await seen(lambda: con.set_builtin_type_codec("json", schema="pg_catalog", codec_name="nothing")),
            await seen(codec("int4", encoder=lambda value: 1 / value)),
            await seen(lambda: con.fetch("select $1::int4", 0)),
            await seen(lambda: con.executemany("select $1::int4", [(1,), (0,)])),
            await seen(codec("uuid", encoder=lambda value: value, format="binary")),
            await seen(lambda: con.fetch("select $1::uuid", 5)),
            await seen(lambda: con.fetch("selec $1::int4", 0)),
            await seen(codec("text", decoder=lambda value: 1 / 0)),
            await seen(lambda: con.fetch("select 'x'::text")),
        ]
        await con.execute("drop domain if exists lease_domain; create domain lease_domain as int")
        told += [await seen(codec("lease_domain", "public"))]
        await con.execute("drop domain lease_domain")
        return told

    same(case)


def test_A20_a_builtin_codec(same: Same) -> None:
    async def case(con: Any) -> Any:
        told = [await con.fetchval("select '4294967295'::xid")]
        await con.set_builtin_type_codec("xid", schema="pg_catalog", codec_name="int4")
        told += [await con.fetchval("select '4294967295'::xid"), await con.fetchval("select $1::xid::text", -1)]
        told += [await con.fetchval("select array['4294967295'::xid]")]
        told += [
            await seen(lambda: con.set_builtin_type_codec("xid", schema="pg_catalog", codec_name="int4", format="x"))
        ]
        await con.reset_type_codec("xid", schema="pg_catalog")
        return [*told, await con.fetchval("select '4294967295'::xid")]

    assert -1 in same(case)


def test_A20_codecs_are_the_leases_alone(supervisor: SupervisorProcess) -> None:
    async def case() -> None:
        async with pgactor.create_pool(supervisor.ipc) as pool:
            async with pool.acquire() as con:
                await con.set_type_codec("int4", schema="pg_catalog", encoder=str, decoder=lambda text: f"<{text}>")
                assert await con.fetchval("select $1::int4", 5) == "<5>"
                await con.reset()
                assert await con.fetchval("select $1::int4", 5) == "<5>"
            assert [await pool.fetchval("select $1::int4", 5) for _ in range(6)] == [5] * 6
            async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:  # all that there are
                for con in (one, two, three):
                    assert await con.fetchval("select $1::int4", 5) == 5

    asyncio.run(case())
