"""Rows A1 to A19: asyncpg.Pool, its own tests' questions asked of both."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import os
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

import pgactor
from pgactor import AsyncLease, ClientError
from pgactor.client.holding import METHODS
from tests.compatibility.sides import Side, Sides, error_now, error_of, told, until
from tests.integration.driving import WatchedSupervisor

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def supervisors(dsn: str) -> Iterator[Any]:
    """Makes supervisors that serve until the module's last test is done."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pga-"))

        def start(**settings: Any) -> WatchedSupervisor:
            made = WatchedSupervisor(folder=Path(folder), **{"dsn": dsn, "min_size": 1, "max_size": 4, **settings})
            stack.callback(made.stop)
            return made

        yield start


@pytest.fixture(scope="module")
def sides(dsn: str, supervisors: Any) -> Sides:
    """Both, with at least 1 connection and at most 4."""
    return Sides(dsn, supervisors())


@pytest.fixture(scope="module")
def single(dsn: str, supervisors: Any) -> Sides:
    """Both, with one connection."""
    return Sides(dsn, supervisors(max_size=1))


@pytest_asyncio.fixture
async def direct(dsn: str) -> AsyncIterator[Any]:
    """A connection of asyncpg's outside of all pools: PostgreSQL's own view."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def table(direct: Any) -> AsyncIterator[str]:
    """An empty table (id int primary key, name text), dropped at the end."""
    name = f"pgactor_compat_{os.getpid()}_{next(_numbers)}"
    await direct.execute(f"create table {name} (id int primary key, name text)")
    yield name
    await direct.execute(f"drop table {name}")


# --- A1 create_pool -----------------------------------------------------------------------------------------


async def test_A1_create_pool_is_no_coroutine_and_the_pool_can_be_awaited(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        made = side.create_pool(min_size=1, max_size=4)
        assert not inspect.iscoroutine(made)
        pool = await made
        try:
            return pool is made, await pool is made, await pool.fetchval("select 1")
        finally:
            await pool.close()

    assert await sides.tell(story) == (True, True, 1)


async def test_A1_a_pool_can_be_entered_and_is_closed_when_it_is_left(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        made = side.create_pool(min_size=1, max_size=4)
        async with made as pool:
            assert pool is made
            value = await pool.fetchval("select 1")
        return value, pool.is_closing(), await error_of(pool.fetchval("select 1"))

    assert await sides.tell(story) == (1, True, ("InterfaceError", "pool is closed"))


async def test_A1_leaving_a_pool_waits_for_its_connections(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.create_pool(min_size=1, max_size=4) as pool:
            held = await pool.acquire()
            asyncio.get_running_loop().call_later(
                0.05, lambda: released.append(asyncio.ensure_future(pool.release(held)))
            )
        return len(released)

    for side in (sides.asyncpg, sides.pgactor):
        released: list[Any] = []
        assert await told(story, side) == 1


def test_A1_create_pool_takes_all_arguments_of_asyncpgs() -> None:
    theirs = inspect.signature(asyncpg.create_pool).parameters
    ours = inspect.signature(pgactor.create_pool).parameters
    assert set(theirs) - set(ours) == {"dsn", "connect_kwargs"}
    assert all(ours[name].kind is theirs[name].kind for name in set(theirs) & set(ours))


async def test_A1_sizes_that_the_supervisor_has_otherwise_are_told_once(sides: Sides) -> None:
    with pytest.warns(UserWarning, match=r"create_pool\(max_size=20, max_queries=7\) has no effect here") as caught:
        async with sides.pgactor.create_pool(min_size=1, max_size=20, max_queries=7) as pool:
            await pool.fetchval("select 1")
    assert len(caught) == 1
    assert "pool has max_size=4, max_queries=50000, for all workers" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with sides.pgactor.create_pool(min_size=1, max_size=4, max_inactive_connection_lifetime=300):
            pass


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"dsn": "postgresql://x"}, r"does not take dsn=: .* in \[connect\]"),
        ({"host": "h", "user": "u"}, "does not take host=, user="),
        ({"connect": asyncpg.connect}, r"does not take connect=: .* \[pool\]"),
        ({"connection_class": int}, "does not take connection_class=.*AsyncLease"),
        ({"setup": "a:b"}, r"setup='a:b'\): expected a coroutine function"),
    ],
)
def test_A1_what_belongs_to_the_supervisor_is_refused_with_the_place_for_it(
    arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ClientError, match=text):
        pgactor.create_pool("ipc:///nowhere", **arguments)
    pgactor.create_pool("ipc:///nowhere", connection_class=asyncpg.Connection, record_class=asyncpg.Record, loop=None)


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("base", [asyncpg.Record, pgactor.Record])
async def test_A1_record_class_is_the_statements_default(sides: Sides, base: type, hooked: bool) -> None:
    def get(self: Any, name: str) -> Any:
        return self[name]

    def shown(row: Any) -> Any:
        return type(row).__name__, hasattr(row, "one"), dict(row)

    async def nothing(con: Any) -> None: ...

    async def story(side: Side) -> Any:
        record: Any = type("Dotted", (asyncpg.Record if side is sides.asyncpg else base,), {"__getattr__": get})
        found = []
        async with side.pool(record_class=record, setup=nothing if hooked else None) as pool:
            async with pool.acquire() as con, con.transaction():
                for each in (pool, con):
                    found += [shown(row) for row in await each.fetch("select 1 as one")]
                    found += [shown(await each.fetchrow("select 2 as one")), await each.fetchval("select 3")]
                    found += [shown(row) for row in await each.fetchmany("select $1::int as one", [(4,), (5,)])]
                    found.append(await each.fetchrow("select 1 where false"))
                    found.append(shown(await each.fetchrow("select 6 as one", record_class=asyncpg.Record))[1:])
                    found.append(shown(await each.fetchrow("select 7 as one", record_class=None)))
                statement = await con.prepare("select 8 as one")
                found += [shown(await statement.fetchrow()), *map(shown, await statement.fetch())]
                found += [shown(row) async for row in statement.cursor()]
                found += [shown(row) async for row in con.cursor("select 9 as one")]
                found.append(shown(await (await con.cursor("select 10 as one")).fetchrow()))
            if side is not sides.asyncpg:
                rows, tag = await pool.batch(["select 11 as one", "do 'begin end'"])
                assert (shown(rows[0]), tag) == (("Dotted", True, {"one": 11}), "DO")
                assert (await pool.repeatable.fetchrow("select 12 as one")).one == 12
        return found

    await sides.tell(story)


@pytest.mark.parametrize("wrong", [int, dict])
async def test_A1_a_record_class_that_is_none_is_refused(wrong: type) -> None:
    with pytest.raises(TypeError) as of_asyncpg:
        asyncpg.create_pool("postgresql:///", record_class=wrong)
    with pytest.raises(TypeError) as of_pgactor:
        pgactor.create_pool("ipc:///nowhere", record_class=wrong)
    assert str(of_pgactor.value) == str(of_asyncpg.value)


async def test_A1_command_timeout_is_the_statements_default(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(command_timeout=0.1) as pool:
            with pytest.raises(asyncio.TimeoutError):
                await pool.fetchval("select pg_sleep(30)")

        def wrong(timeout: Any) -> Any:
            return lambda: side.create_pool(min_size=1, command_timeout=timeout)

        return [await error_of(wrong(timeout)) for timeout in (0, -1, True, "x")]

    texts = [text for _, text in await sides.tell(story)]
    assert texts[0] == "invalid command_timeout value: expected greater than 0 float (got 0.0)"


# --- A2 arguments -------------------------------------------------------------------------------------------

WRONG = [
    {"max_size": 0},
    {"max_size": -3, "min_size": -1, "max_queries": 0},
    {"min_size": -1},
    {"min_size": 5, "max_size": 4},
    {"min_size": 11},
    {"max_size": 9},
    {"init_size": -1},
    {"init_size": 11},
    {"init_size": 5},
    {"init_size": 5, "max_queries": 0},
    {"max_queries": 0},
    {"max_queries": -1, "max_inactive_connection_lifetime": -1},
    {"max_inactive_connection_lifetime": -0.5},
]


@pytest.mark.parametrize("arguments", WRONG, ids=str)
async def test_A2_wrong_arguments_are_refused_when_the_pool_is_made(sides: Sides, arguments: dict[str, Any]) -> None:
    async def story(side: Side) -> Any:
        return error_now(lambda: side.create_pool(**arguments))

    name, _ = await sides.tell(story)
    assert name == "ValueError"


# --- A3 the start -------------------------------------------------------------------------------------------


async def test_A3_a_connection_is_there_once_the_pool_is_initialised(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            return pool.get_size() >= 1, pool.get_idle_size() >= 1

    assert await sides.tell(story) == (True, True)


async def test_A3_a_failed_start_raises_and_leaves_a_closed_pool(supervisors: Any) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nowhere = f"postgresql://u@127.0.0.1:{nobody.getsockname()[1]}/x"
    theirs = asyncpg.create_pool(nowhere, min_size=1, max_size=1)
    ours = pgactor.create_pool(supervisors(dsn=nowhere, max_size=1).ipc)
    unreachable = pgactor.create_pool("ipc:///nowhere/at/all.sock", connect_timeout=0.1)
    for pool in (theirs, ours, unreachable):
        with pytest.raises(OSError):  # asyncpg's is a ConnectionRefusedError, ours ConnectionErrors
            await pool
        assert pool.is_closing()
        assert await error_of(pool.fetchval("select 1")) == ("InterfaceError", "pool is closed")


# --- A4 states ----------------------------------------------------------------------------------------------


async def test_A4_a_pool_that_is_not_initialised_says_so(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        pool = side.create_pool(min_size=1, max_size=4)
        errors = [
            await error_of(pool.acquire()),
            await error_of(pool.fetch("select 1")),
            await error_of(pool.close()),
            error_now(pool.terminate),
        ]
        sizes = pool.get_size(), pool.get_idle_size(), pool.get_min_size(), pool.get_max_size(), pool.get_init_size()
        await pool.expire_connections()
        closing = pool.is_closing()
        if not side.is_asyncpg:
            pgactor.AsyncClient.terminate(pool)  # expire_connections() has made a link
        return errors, sizes, closing

    errors, sizes, closing = await sides.tell(story)
    assert set(errors) == {("InterfaceError", "pool is not initialized")}
    assert (sizes, closing) == ((0, 0, 1, 4, 1), False)


async def test_A4_a_pool_that_is_being_initialised_says_so(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        pool = side.create_pool(min_size=1, max_size=4)
        task = asyncio.ensure_future(pool.__aenter__())
        await asyncio.sleep(0)
        errors = [
            await error_of(pool.__aenter__()),
            await error_of(pool.fetch("select 1")),
            await error_of(pool.acquire()),
            await error_of(pool.close()),
            error_now(pool.terminate),
        ]
        await task
        await pool.close()
        return errors

    errors = await sides.tell(story)
    assert errors[0] == ("InterfaceError", "pool is being initialized in another task")
    assert errors[1][1].startswith("pool is being initialized, but not yet ready")


async def test_A4_a_closing_pool_gives_nothing_and_a_closed_one_neither(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            held = await pool.acquire()
            closing = asyncio.ensure_future(pool.close())
            await until(pool.is_closing)
            errors = [await error_of(pool.acquire()), await error_of(pool.fetchrow("select 1"))]
            still = await held.fetchval("select 7")
            await pool.release(held)
            await closing
            errors += [await error_of(pool.acquire()), await error_of(pool.execute("select 1"))]
            await pool.close()
            await pool.expire_connections()
            return errors, still, pool.is_closing()

    errors, still, closing = await sides.tell(story)
    assert [text for _, text in errors] == ["pool is closing"] * 2 + ["pool is closed"] * 2
    assert (still, closing) == (7, True)


# --- A5 acquire ---------------------------------------------------------------------------------------------


async def test_A5_acquire_can_be_awaited_and_entered(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            con = await pool.acquire()
            awaited = await con.fetchval("select 1")
            await pool.release(con)
            async with pool.acquire(timeout=5) as con:
                return awaited, await con.fetchval("select 2")

    assert await sides.tell(story) == (1, 2)


async def test_A5_an_acquire_context_serves_once(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            context = pool.acquire()
            async with context:
                errors = [await error_of(context.__aenter__())]
            errors.append(await error_of(context.__aenter__()))
            awaited = pool.acquire()
            con = await awaited
            errors.append(await error_of(awaited.__aenter__()))
            await pool.release(con)
            return errors

    assert await sides.tell(story) == [("InterfaceError", "a connection is already acquired")] * 3


async def test_A5_acquire_gives_up_at_its_timeout_and_nothing_is_lost(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=4) as pool:
            held = [await pool.acquire() for _ in range(4)]
            for timeout in (0.05, 0, -1):
                with pytest.raises(asyncio.TimeoutError):
                    await pool.acquire(timeout=timeout)
            for con in held:
                await pool.release(con)
            return [await pool.fetchval("select 1") for _ in range(8)]

    assert await sides.tell(story) == [1] * 8


async def test_A5_a_timeout_tells_who_holds_what(sides: Sides) -> None:
    async with sides.asyncpg.pool(max_size=1) as pool, pool.acquire():
        assert await error_of(pool.acquire(timeout=0.01)) == ("TimeoutError", "")
    async with sides.pgactor.pool() as pool:
        held = [await pool.acquire() for _ in range(4)]
        with pytest.raises(pgactor.PoolTimeout, match=r"(?s)size 4, idle 0.*leased for .* as lease") as caught:
            await pool.acquire(timeout=0.01)
        assert isinstance(caught.value, asyncio.TimeoutError)
        for con in held:
            await pool.release(con)


async def test_A5_no_time_to_wait_is_time_enough_for_an_idle_connection(sides: Sides) -> None:
    async with sides.asyncpg.pool() as pool:
        assert pool.get_idle_size() == 1
        assert (await error_of(pool.acquire(timeout=0)))[0] == "TimeoutError"
    async with sides.pgactor.pool() as pool:
        for timeout in (0, -1):
            async with pool.acquire(timeout=timeout) as con:
                assert await con.fetchval("select 1") == 1
            await _resets_done(sides.pgactor, pool)


async def test_A5_a_cancelled_acquire_gives_its_connection_back(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=4) as pool:
            held = [await pool.acquire() for _ in range(4)]

            async def wait() -> Any:
                return await pool.acquire()

            waiting = asyncio.ensure_future(wait())
            await asyncio.sleep(0.01)
            waiting.cancel()
            for con in held:
                await pool.release(con)
            with pytest.raises(asyncio.CancelledError):
                await waiting
            again = [await pool.acquire(timeout=5) for _ in range(4)]
            for con in again:
                await pool.release(con)
            return len(again)

    assert await sides.tell(story) == 4


async def test_A5_waiters_are_served_in_order(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=4) as pool:
            held = [await pool.acquire() for _ in range(4)]
            order: list[int] = []

            async def wait(number: int) -> None:
                async with pool.acquire():
                    order.append(number)

            waiting = [asyncio.ensure_future(wait(number)) for number in range(5)]
            await asyncio.sleep(0.05)
            for con in held:
                await pool.release(con)
            await asyncio.gather(*waiting)
            return order

    assert await sides.tell(story) == [0, 1, 2, 3, 4]


async def test_A5_the_connection_released_last_is_acquired_next(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=4) as pool:
            held = [await pool.acquire() for _ in range(3)]
            last = await held[1].fetchval("select pg_backend_pid()")
            for con in (held[0], held[2]):
                await pool.release(con)
            await _resets_done(side, pool)
            await pool.release(held[1])
            await _resets_done(side, pool)
            async with pool.acquire() as con:
                return await con.fetchval("select pg_backend_pid()") == last

    assert await sides.tell(story) is True


async def _resets_done(side: Side, pool: Any) -> None:
    """pgactor resets a session behind the worker's back; wait for it."""
    if not side.is_asyncpg:

        async def done() -> bool:
            return bool((await pool.status()).resetting == 0)

        await until(done)


# --- A6 hooks -----------------------------------------------------------------------------------------------


async def test_A6_setup_is_run_at_each_acquire_and_for_each_statement_of_the_pool(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        calls = 0

        async def setup(con: Any) -> None:
            nonlocal calls
            calls += 1
            await con.execute(f"set application_name = 'n{calls}'")

        async with side.pool(setup=setup) as pool:
            show = "show application_name"
            async with pool.acquire() as con:
                names = [await con.fetchval(show)]
            names.append(await pool.fetchval(show))
            names += [(await pool.fetchrow(show))[0], (await pool.fetch(show))[0][0]]
            names += [await pool.execute("select 1"), (await pool.fetchmany("select $1::int", [(5,)]))[0][0]]
            await pool.executemany("select $1::int", [(1,)])
            return calls, names

    assert await sides.tell(story) == (7, ["n1", "n2", "n3", "n4", "SELECT 1", 5])


class Odd(Exception):
    """Of the application."""


async def test_A6_an_error_of_setup_is_raised_and_the_pool_goes_on(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        fail = True

        async def setup(con: Any) -> None:
            await con.execute("begin")
            if fail:
                raise Odd("no")

        async with side.pool(setup=setup, max_size=4) as pool:
            errors = [await error_of(pool.acquire()) for _ in range(6)]
            fail = False
            async with pool.acquire(timeout=5) as con:
                return set(errors), con.is_in_transaction()

    assert await sides.tell(story) == ({("Odd", "no")}, True)


async def test_A6_a_setup_that_takes_too_long_is_ended_by_acquires_timeout(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        slow = True

        async def setup(con: Any) -> None:
            if slow:
                await con.execute("select pg_sleep(30)")

        async with side.pool(setup=setup) as pool:
            with pytest.raises(asyncio.TimeoutError):
                await pool.acquire(timeout=0.2)
            slow = False
            return await pool.fetchval("select 1")

    assert await sides.tell(story) == 1


async def test_A6_reset_is_run_at_each_release_after_the_rollback(sides: Sides, table: str) -> None:
    async def story(side: Side) -> Any:
        seen: list[Any] = []

        async def reset(con: Any) -> None:
            seen.append((con.is_in_transaction(), await con.fetchval(f"select count(*) from {table}")))

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # asyncpg tells it of the BEGIN
        async with side.pool(reset=reset) as pool:
            async with pool.acquire() as con:
                await con.execute("begin")
                await con.execute(f"insert into {table} values (1)")
            await pool.fetchval("select 1")
        return seen

    assert await sides.tell(story) == [(False, 0), (False, 0)]


async def test_A6_an_error_of_reset_is_raised_and_the_connection_free(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async def reset(con: Any) -> None:
            raise Odd("no")

        async with side.pool(reset=reset, max_size=4) as pool:
            errors = []
            for _ in range(6):
                con = await pool.acquire(timeout=5)
                errors.append(await error_of(pool.release(con)))
                errors.append(error_now(partial(con.fetchval, "select 1")))
            return set(errors)

    assert {name for name, _ in await sides.tell(story)} == {"Odd", "InterfaceError"}


async def test_A6_init_is_run_before_the_first_acquire_and_its_error_ends_the_start(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        calls: list[int] = []

        async def init(con: Any) -> None:
            calls.append(1)

        async def bad(con: Any) -> None:
            raise Odd("no")

        async with side.pool(init=init) as pool:
            before = len(calls)
            await pool.fetchval("select 1")
        return before, await error_of(side.create_pool(min_size=1, max_size=4, init=bad))

    assert await sides.tell(story) == (1, ("Odd", "no"))


@pytest.mark.parametrize("method", ["execute", "fetch", "add_listener", "transaction"])
async def test_A6_what_init_cannot_do_from_a_worker_is_a_clear_error(sides: Sides, method: str) -> None:
    async def init(con: Any) -> None:
        getattr(con, method)

    with pytest.raises(ClientError, match=rf"Connection.{method}\(\) in create_pool's init: the supervisor opens"):
        await sides.pgactor.create_pool(init=init)


async def test_A6_codecs_that_init_sets_apply_everywhere_in_the_pool(sides: Sides) -> None:
    import json

    async def init(con: Any) -> None:
        await con.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async def story(side: Side) -> Any:
        async with side.pool(init=init) as pool:
            async with pool.acquire() as con:
                on_lease = await con.fetchval("select $1::jsonb", {"a": [1]})
            return on_lease, await pool.fetchval("select $1::jsonb", {"b": 2})

    assert await sides.tell(story) == ({"a": [1]}, {"b": 2})


@pytest.mark.parametrize("typename", ["json", "jsonb"])
async def test_A6_json_codecs_of_the_pool_cost_no_lease_and_do_all_they_do_with_one(
    sides: Sides, typename: str
) -> None:
    import json

    def encode(value: Any) -> str:
        if value == "bad":
            raise ValueError("cannot encode this")
        return json.dumps(value)

    async def init(con: Any) -> None:
        await con.set_type_codec(typename, schema="pg_catalog", encoder=encode, decoder=json.loads)

    async def of_many() -> Any:
        yield ([1],)

    async def story(side: Side) -> Any:
        async with side.pool(init=init) as pool:
            found = [
                await pool.fetch(f"select $1::{typename} as a, 1 as n, null::{typename}", {"a": [1, None]}),
                await pool.fetchrow(f"select array[$1::{typename}, null] as a, $2::int", [1], 2),
                await pool.fetchval(f"select $1::{typename}[]", [{"b": 1}, None, (1, 2)]),
                await pool.fetchval(f"select '{{\"x\": [true]}}'::{typename}"),
                await pool.fetchmany(f"select $1::{typename} as j", [([1],), ({},), (None,)]),
                await pool.execute(f"select $1::{typename}", {"c": 1}),
                await pool.execute("select 1; select 2"),
                await pool.executemany(f"select $1::{typename}", [({},), ([],)]),
                await pool.executemany(f"select $1::{typename}", [([1],)] if side.is_asyncpg else of_many()),
                await error_of(lambda: pool.fetch(f"select $1::{typename}", "bad")),
                await error_of(lambda: pool.executemany(f"select $1::{typename}", [(1,), ("bad",)])),
                await error_of(lambda: pool.fetch(f"selec $1::{typename}", {})),
                await error_of(lambda: pool.fetch(f"select $1::{typename}")),
            ]
            if side.is_asyncpg:
                return found
            before = (await pool.status()).counters
            await pool.fetchval(f"select $1::{typename}", {"again": 1})
            assert (await pool.status()).counters["leases_granted"] == before["leases_granted"]
            return found

    await sides.tell(story)


async def test_A6_json_inside_of_what_is_not_plain_is_decoded_too_on_a_lease(sides: Sides) -> None:
    import json

    async def init(con: Any) -> None:
        await con.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async def story(side: Side) -> Any:
        async with side.pool(init=init) as pool:
            return [
                await pool.fetchval("select row(1, '[2]'::json)"),
                await pool.fetchval("select array[row('{}'::json)]"),
                await pool.fetch("select 1 as n, current_date is null as no"),
            ]

    assert (await sides.tell(story))[0] == (1, [2])


# --- A7 shortcuts -------------------------------------------------------------------------------------------


async def test_A7_statements_of_the_pool(sides: Sides, table: str) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            return [
                await pool.execute(f"truncate {table}"),
                await pool.execute(f"insert into {table} values ($1, $2)", 1, "a"),
                await pool.executemany(f"insert into {table} values ($1, $2)", [(2, "b"), (3, None)]),
                await pool.fetch(f"select * from {table} order by id"),
                await pool.fetchrow(f"select * from {table} where id = $1", 2),
                await pool.fetchrow("select 1 where false"),
                await pool.fetchval("select 1, 'x'", column=1),
                await pool.fetchmany("select $1::int as n", [(1,), (2,)]),
                await error_of(pool.fetch("select 1/0")),
                await error_of(pool.execute("selec")),
            ]

    assert len((await sides.tell(story))[3]) == 3


async def test_A7_a_statements_timeout_ends_it(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            for run in (pool.fetch, pool.fetchrow, pool.fetchval, pool.execute):
                with pytest.raises(asyncio.TimeoutError):
                    await run("select pg_sleep(30)", timeout=0.1)
            return await pool.fetchval("select 1")

    assert await sides.tell(story) == 1


async def test_A7_copies_of_the_pool(sides: Sides, table: str) -> None:
    import io

    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            await pool.execute(f"delete from {table}")
            out, from_query = io.BytesIO(), io.BytesIO()
            return [
                await pool.copy_records_to_table(table, records=[(1, "a"), (2, None)]),
                await pool.copy_to_table(table, source=io.BytesIO(b"3\tc\n")),
                await pool.copy_from_table(table, output=out),
                await pool.copy_from_query(f"select id from {table} where id > $1", 1, output=from_query),
                out.getvalue(),
                from_query.getvalue(),
            ]

    assert (await sides.tell(story))[2] == "COPY 3"


# --- A8 release ---------------------------------------------------------------------------------------------


async def test_A8_a_connection_of_another_pool_and_what_is_none_are_refused(sides: Sides, direct: Any) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool, side.pool() as other:
            foreign = await other.acquire()
            errors = [await error_of(pool.release(each)) for each in (foreign, "x", None)]
            await other.release(foreign)
            errors.append(await error_of(pool.release(foreign)))
            return errors

    errors = await sides.tell(story)
    assert errors[0] == (
        "InterfaceError",
        "Pool.release() received invalid connection: <connection> is not a member of this pool",
    )
    async with sides.pgactor.pool() as pool:
        name, _ = await error_of(pool.release(direct))
        assert name == "InterfaceError"


async def test_A8_releasing_twice_is_silent(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            con = await pool.acquire()
            results = [await pool.release(con), await pool.release(con, timeout=1)]
            async with pool.acquire() as con:
                await pool.release(con)
            await pool.close()
            return [*results, await pool.release(con)]

    assert await sides.tell(story) == [None] * 3


async def test_A8_a_release_goes_on_when_its_caller_is_cancelled(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        ended: list[bool] = []

        async def reset(con: Any) -> None:
            await con.execute("select pg_sleep(0.1)")
            ended.append(True)

        async with side.pool(reset=reset, max_size=4) as pool:
            con = await pool.acquire()
            releasing = asyncio.ensure_future(pool.release(con))
            await asyncio.sleep(0.02)
            releasing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await releasing
            await until(lambda: ended)
            await pool.close()
            return ended

    assert await sides.tell(story) == [True]


async def test_A8_the_timeout_of_a_release_defaults_to_that_of_acquire(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async def reset(con: Any) -> None:
            await con.execute("select pg_sleep(30)")

        async with side.pool(reset=reset) as pool:
            for options in ({}, {"timeout": 0.1}):
                con = await pool.acquire(timeout=30 if options else 0.3)
                with pytest.raises(asyncio.TimeoutError):
                    await pool.release(con, **options)
            return True

    assert await sides.tell(story) is True


# --- A9 to A13 the supervisor's work ------------------------------------------------------------------------


async def test_A9_what_is_open_is_rolled_back_at_release(sides: Sides, table: str) -> None:
    async def story(side: Side) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with side.pool() as pool:
            async with pool.acquire() as con:
                await con.execute("begin")
                await con.execute(f"insert into {table} values (1)")
            return await pool.fetchval(f"select count(*) from {table}")

    assert await sides.tell(story) == 0


async def test_A9_a_dead_connection_is_replaced(sides: Sides, direct: Any) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            con = await pool.acquire()
            pid = await con.fetchval("select pg_backend_pid()")
            await direct.execute("select pg_terminate_backend($1)", pid)

            async def ended() -> bool:
                return not await direct.fetchval("select count(*) from pg_stat_activity where pid = $1", pid)

            await until(ended)
            name, _ = await error_of(lambda: con.fetchval("select 1"))
            await pool.release(con)
            return name != "", await pool.fetchval("select pg_backend_pid()") != pid

    assert await sides.tell(story) == (True, True)


LEAVINGS = {
    "SET": ("set work_mem = '7MB'", "show work_mem"),
    "advisory lock": ("select pg_advisory_lock(77)", "select count(*) from pg_locks where locktype = 'advisory'"),
    "LISTEN": ("listen left_here", "select count(*) from pg_listening_channels()"),
}
MORE_LEAVINGS = {
    "temporary table": ("create temp table left_here (id int)", "select to_regclass('pg_temp.left_here') is null"),
    "PREPARE": (
        "prepare left_here as select 1",
        "select count(*) from pg_prepared_statements where name = 'left_here'",
    ),
    "SET ROLE": ("set role pg_monitor", "select current_user = session_user"),
}


async def _leave(pool: Any, left: str, question: str) -> tuple[Any, Any]:
    """(before, after): the answer in a session, before `left`, and in that session's next life."""
    async with pool.acquire() as con:
        pid = await con.fetchval("select pg_backend_pid()")
        before = await con.fetchval(question)
        await con.execute(left)
    async with pool.acquire() as con:
        assert await con.fetchval("select pg_backend_pid()") == pid
        return before, await con.fetchval(question)


@pytest.mark.parametrize("what", LEAVINGS)
async def test_A10_nothing_of_a_session_is_left_to_the_next(single: Sides, what: str) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=1) as pool:
            before, after = await _leave(pool, *LEAVINGS[what])
            return before == after

    assert await single.tell(story) is True


@pytest.mark.parametrize("what", MORE_LEAVINGS)
async def test_A10_what_asyncpg_leaves_behind_is_gone_too(single: Sides, what: str) -> None:
    async with single.asyncpg.pool(max_size=1) as pool:
        before, after = await _leave(pool, *MORE_LEAVINGS[what])
        assert before != after or what == "SET ROLE"  # newer asyncpg may mend it
    async with single.pgactor.pool(max_size=1) as pool:
        before, after = await _leave(pool, *MORE_LEAVINGS[what])
        assert before == after


async def test_A11_a_release_while_a_statement_runs_ends_both(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            con = await pool.acquire()
            running = asyncio.ensure_future(con.fetchval("select pg_sleep(30)"))
            await asyncio.sleep(0.1)
            errors = [await error_of(pool.release(con)), await error_of(running)]
            errors.append(error_now(lambda: con.fetchval("select 1")))
            return errors, await pool.fetchval("select 1")

    errors, value = await sides.tell(story)
    assert errors[0] == ("InterfaceError", "cannot perform operation: another operation is in progress")
    assert errors[1] == ("ConnectionDoesNotExistError", "connection was closed in the middle of operation")
    assert value == 1


@pytest.mark.parametrize(("kind", "count"), [("notification", 1), ("log", 2)])
async def test_A11_listeners_that_are_left_at_release_are_warned_of(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, kind: str, count: int
) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            con = await pool.acquire()
            if hasattr(con, "add_listener"):
                for number in range(count):

                    def listener(*args: Any, number: int = number) -> None: ...

                    if kind == "log":
                        con.add_log_listener(listener)
                    else:
                        await con.add_listener("left", listener)
            else:  # leases cannot listen yet
                monkeypatch.setattr(AsyncLease, "listeners_left", lambda lease: {kind: count})
            with pytest.warns(asyncpg.InterfaceWarning) as caught:
                await pool.release(con)
            return [str(each.message).partition("> is ")[2] for each in caught]

    plural = "s" if count > 1 else ""
    expected = f"being released to the pool but has {count} active {kind} listener{plural}"
    assert await sides.tell(story) == [expected]


async def test_A12_a_connection_is_replaced_after_max_queries(dsn: str, supervisors: Any) -> None:
    settings = {"min_size": 1, "max_size": 1, "max_queries": 6}
    both = Sides(dsn, supervisors(min_size=1, max_size=1, pool={"max_queries": 6}))

    async def story(side: Side) -> Any:
        async with side.pool(**settings) as pool:
            pids = [await pool.fetchval("select pg_backend_pid()") for _ in range(20)]
            return 1 < len(set(pids)) < 20

    assert await both.tell(story) is True


async def test_A13_an_idle_connection_above_min_size_is_closed(dsn: str, supervisors: Any) -> None:
    settings: dict[str, Any] = {"min_size": 1, "max_size": 3, "max_inactive_connection_lifetime": 0.2}
    supervisor = supervisors(min_size=1, max_size=3, pool={"max_inactive_connection_lifetime": 0.2})
    both = Sides(dsn, supervisor)

    async def story(side: Side) -> Any:
        async with side.pool(**settings) as pool:
            held = [await pool.acquire() for _ in range(3)]
            for con in held:
                await pool.release(con)
            before = pool.get_size()
            await until(lambda: pool.get_size() == 1)
            return before, await pool.fetchval("select 1")

    assert await both.tell(story) == (3, 1)


# --- A14 sizes ----------------------------------------------------------------------------------------------


async def test_A14_sizes(dsn: str, supervisors: Any) -> None:
    both = Sides(dsn, supervisors(min_size=2, max_size=3))

    async def story(side: Side) -> Any:
        async with side.pool(min_size=2, max_size=3) as pool:
            await until(lambda: pool.get_size() == 2 and pool.get_idle_size() == 2)

            def sizes() -> tuple[int, ...]:
                return pool.get_size(), pool.get_idle_size(), pool.get_min_size(), pool.get_max_size()

            seen = [sizes()]
            held = []
            for _ in range(3):
                held.append(await pool.acquire())
                seen.append(sizes())
            for con in held:
                await pool.release(con)
                seen.append(sizes())
            seen.append((pool.get_init_size(), pool.is_closing()))
            await pool.close()
            return [*seen, (pool.get_size(), pool.get_idle_size(), pool.is_closing())]

    seen = await both.tell(story)
    assert seen[3] == (3, 0, 2, 3)
    assert seen[-2:] == [(2, False), (0, 0, True)]


async def test_A14_a_look_at_old_sizes_has_them_asked_for_anew(sides: Sides, direct: Any) -> None:
    async with sides.pgactor.pool() as one, sides.pgactor.pool() as other:
        held = [await other.acquire() for _ in range(4)]
        await until(lambda: (one.get_size(), one.get_idle_size()) == (4, 0))
        for con in held:
            await other.release(con)
        await until(lambda: one.get_idle_size() == 4)


# --- A15 renewal --------------------------------------------------------------------------------------------


async def test_A15_expired_connections_are_replaced_and_a_held_one_stays_usable(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=4) as pool:
            pid = "select pg_backend_pid()"
            held = await pool.acquire()
            old = await held.fetchval(pid)
            await pool.expire_connections()
            usable = await held.fetchval(pid) == old
            await pool.release(held)
            again = [await pool.acquire() for _ in range(4)]
            new = [await con.fetchval(pid) for con in again]
            for con in again:
                await pool.release(con)
            return usable, old in new

    assert await sides.tell(story) == (True, False)


# --- A16 the end --------------------------------------------------------------------------------------------


async def test_A16_close_waits_for_connections_and_statements(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=4) as pool:
            held = await pool.acquire()
            statement = asyncio.ensure_future(pool.fetchval("select 5 from pg_sleep(0.2)"))
            await asyncio.sleep(0.05)
            closing = asyncio.ensure_future(pool.close())
            value = await statement
            waits = not closing.done()
            await pool.release(held)
            await closing
            return value, waits

    assert await sides.tell(story) == (5, True)


async def test_A16_a_cancelled_close_terminates(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            held = await pool.acquire()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.close(), 0.1)
            return pool.is_closing(), error_now(lambda: held.fetchval("select 1")), await error_of(pool.acquire())

    closing, on_held, on_pool = await sides.tell(story)
    assert closing
    assert on_held[1].endswith("connection has been released back to the pool")
    assert on_pool == ("InterfaceError", "pool is closed")


async def test_A16_terminate_ends_own_connections_at_once_and_may_be_repeated(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool(max_size=4) as pool:
            held = await pool.acquire()
            running = asyncio.ensure_future(held.fetchval("select pg_sleep(30)"))
            await asyncio.sleep(0.1)
            pool.terminate()
            pool.terminate()
            errors = [await error_of(running), error_now(lambda: held.fetchval("select 1"))]
            await pool.close()
            await pool.release(held)
            return errors

    errors = await sides.tell(story)
    assert errors[0] == ("ConnectionDoesNotExistError", "connection was closed in the middle of operation")


async def test_A16_terminate_calls_termination_listeners(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            held = await pool.acquire()
            called: list[Any] = []
            held.add_termination_listener(called.append)
            pool.terminate()
            await until(lambda: called)
            return len(called)

    assert await sides.tell(story) == 1


async def test_A16_terminate_leaves_other_workers_alone(sides: Sides) -> None:
    async with sides.pgactor.pool() as one, sides.pgactor.pool() as other:
        held = await other.acquire()
        mine = await one.acquire()
        await mine.execute("set work_mem = '7MB'")
        one.terminate()

        async def one_lease() -> bool:
            return bool((await other.status()).leased == 1)

        await until(one_lease)
        assert await held.fetchval("select 1") == 1
        await other.release(held)


async def test_A16_a_close_that_takes_long_tells_to_look_for_unreleased_connections(
    sides: Sides, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    monkeypatch.setattr(
        loop, "call_later", lambda delay, *args: call_later(0.01 if delay == 60 else delay, *args), raising=False
    )

    async def story(side: Side) -> Any:
        caplog.clear()
        async with side.pool() as pool:
            held = await pool.acquire()
            closing = asyncio.ensure_future(pool.close())
            await until(lambda: caplog.records)
            (record,) = caplog.records
            await pool.release(held)
            await closing
            return record.levelname, "unreleased" in record.getMessage() or "never released" in record.getMessage()

    with caplog.at_level(logging.WARNING):
        assert await sides.tell(story) == ("WARNING", True)


async def test_A16_close_does_not_wait_for_what_cannot_come_back(sides: Sides, supervisors: Any) -> None:
    supervisor = supervisors(drain_timeout_seconds=0.2)
    pool = await pgactor.create_pool(supervisor.ipc)
    held = await pool.acquire()
    closing = asyncio.ensure_future(pool.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    supervisor.stop()
    await asyncio.wait_for(closing, 10)
    assert held.is_over


# --- A17 after release --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
async def test_A17_every_method_of_a_released_connection_raises_where_it_is_called(sides: Sides, method: str) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool:
            con = await pool.acquire()
            await pool.release(con)
            return error_now(lambda: getattr(con, method)()), error_now(lambda: getattr(con, method)("x", y=1))

    text = f"cannot call Connection.{method}(): connection has been released back to the pool"
    assert await sides.tell(story) == (("InterfaceError", text), ("InterfaceError", text))


def test_A17_no_method_of_asyncpgs_is_forgotten() -> None:
    theirs = {name for name, each in inspect.getmembers(asyncpg.Connection, inspect.isfunction) if name[0] != "_"}
    assert set(METHODS) >= theirs


# --- A18 cancels, timeouts, misuse --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_A18_a_statement_that_is_given_up_is_cancelled_and_the_connection_kept(sides: Sides, how: str) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            pid = await con.fetchval("select pg_backend_pid()")
            if how == "timeout":
                with pytest.raises(asyncio.TimeoutError):
                    await con.fetchval("select pg_sleep(30)", timeout=0.1)
            else:
                running = asyncio.ensure_future(con.fetchval("select pg_sleep(30)"))
                await asyncio.sleep(0.1)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            return await con.fetchval("select pg_backend_pid()") == pid

    assert await sides.tell(story) is True


async def test_A18_one_statement_at_a_time_on_a_connection(sides: Sides) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            running = asyncio.ensure_future(con.fetchval("select 3 from pg_sleep(0.2)"))
            await asyncio.sleep(0.05)
            return await error_of(con.fetchval("select 1")), await running

    text = "cannot perform operation: another operation is in progress"
    assert await sides.tell(story) == (("InterfaceError", text), 3)


@pytest.mark.parametrize("timeout", [True, False, "x"])
async def test_A18_a_timeout_that_is_none_is_refused(sides: Sides, timeout: Any) -> None:
    async def story(side: Side) -> Any:
        async with side.pool() as pool, pool.acquire() as con:
            return [
                await error_of(con.fetch("select 1", timeout=timeout)),
                await error_of(con.execute("select 1", timeout=timeout)),
                await error_of(pool.fetchval("select 1", timeout=timeout)),
            ]

    (name, _), *_ = await sides.tell(story)
    assert name == "ValueError"


# --- A19 changes of the schema ------------------------------------------------------------------------------


async def test_A19_a_statement_is_prepared_again_when_its_table_has_changed(
    sides: Sides, table: str, direct: Any
) -> None:
    async def story(side: Side) -> Any:
        await direct.execute(f"alter table {table} add if not exists more int; alter table {table} drop more")
        async with side.pool() as pool, pool.acquire() as con:
            await con.execute(f"delete from {table}")
            await con.execute(f"insert into {table} values (1)")
            before = await con.fetchrow(f"select * from {table}")
            await direct.execute(f"alter table {table} add more int")
            after = await con.fetchrow(f"select * from {table}")
            async with con.transaction():
                await con.fetchrow(f"select * from {table}")
                await con.execute(f"alter table {table} drop more")
                error = await error_of(con.fetchrow(f"select * from {table}"))
                await con.execute("rollback")
                await con.execute("begin")
            return before, after, error[0]

    before, after, error = await sides.tell(story)
    assert (len(before), len(after)) == (2, 3)
    assert error == "InvalidCachedStatementError"
