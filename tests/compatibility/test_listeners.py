"""FEATURES rows A10, A11 and A20: listeners of a connection of asyncpg.Pool, and of a lease of ours. Row B6: what
psqlpy's Listener gives, `client.listen` gives too.

Each case is run with both and tells what it saw; both must have seen the same.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import pgactor
from tests.supervising import SupervisorProcess

Case = Callable[[Any, Any], Awaitable[Any]]
"""A story with a pool and a connection that has nothing to do with it; returns what was seen."""

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def supervisor(dsn: str) -> Iterator[SupervisorProcess]:
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        made = SupervisorProcess(folder=Path(folder), dsn=dsn, max_size=1)
        yield made
        made.stop()


@pytest.fixture
def same(dsn: str, supervisor: SupervisorProcess) -> Callable[[Case], Any]:
    """Run a case with both, compare, and return what both saw."""

    async def with_pool(make: Callable[[], Any], case: Case) -> Any:
        other = await asyncpg.connect(dsn)
        try:
            async with asyncio.timeout(20), make() as pool:
                return await case(pool, other)
        finally:
            await other.close()

    def both(case: Case) -> Any:
        expected = asyncio.run(with_pool(lambda: asyncpg.create_pool(dsn, min_size=1, max_size=1), case))
        found = asyncio.run(with_pool(lambda: pgactor.create_pool(supervisor.ipc), case))
        assert found == expected
        return expected

    return both


@pytest.fixture
def channel() -> str:
    return f"compat {os.getpid()} {next(_numbers)}"


class Heard:
    """A listener that remembers. expect: wait until it was called so often."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *call: Any) -> None:
        self.calls.append(call)

    async def expect(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.calls) < count:
                await asyncio.sleep(0.005)
        return [payload for *_, payload in self.calls]


async def seen(what: Awaitable[Any]) -> tuple[Any, ...]:
    """How an await ends."""
    try:
        return "returned", await what
    except Exception as error:
        return "raised", type(error), str(error)


def test_A20_add_listener_calls_back_with_connection_pid_channel_payload(
    same: Callable[[Case], Any], channel: str
) -> None:
    async def case(pool: Any, other: Any) -> Any:
        heard = Heard()
        async with pool.acquire() as connection:
            added = await connection.add_listener(channel, heard)
            await other.execute(f"notify \"{channel}\", 'one'")
            await other.execute(f'notify "{channel}"')
            payloads = await heard.expect(2)
            await connection.remove_listener(channel, heard)
        return (
            added,
            payloads,
            [call[0] is connection for call in heard.calls],
            [call[1] == other.get_server_pid() for call in heard.calls],
            [call[2] for call in heard.calls],
        )

    assert same(case) == (None, ["one", ""], [True, True], [True, True], [channel, channel])


def test_A20_add_listener_takes_coroutine_functions(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        heard = Heard()

        async def listener(connection: Any, pid: int, channel: str, payload: str) -> None:
            await asyncio.sleep(0)
            heard(connection, pid, channel, payload)

        async with pool.acquire() as connection:
            await connection.add_listener(channel, listener)
            await other.execute(f"notify \"{channel}\", 'one'")
            payloads = await heard.expect(1)
            await connection.remove_listener(channel, listener)
        return payloads

    assert same(case) == ["one"]


def test_A20_add_listener_twice_calls_once_and_two_listeners_are_both_called(
    same: Callable[[Case], Any], channel: str
) -> None:
    async def case(pool: Any, other: Any) -> Any:
        one, two = Heard(), Heard()
        async with pool.acquire() as connection:
            for listener in (one, one, two):
                await connection.add_listener(channel, listener)
            await other.execute(f"notify \"{channel}\", '1'")
            first = [await one.expect(1), await two.expect(1)]
            await connection.remove_listener(channel, one)
            await other.execute(f"notify \"{channel}\", '2'")
            second = await two.expect(2)
            await connection.remove_listener(channel, two)
            await other.execute(f"notify \"{channel}\", '3'")
            listening = await connection.fetch("select * from pg_listening_channels()")
        return first, second, len(listening), one.calls[1:], two.calls[2:]

    assert same(case) == ([["1"], ["1"]], ["1", "2"], 0, [], [])


def test_A20_add_listener_takes_names_exactly(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        heard = Heard()
        names = [channel + " Ab", channel + " ab", channel + ' "q"', channel + " ü"]
        async with pool.acquire() as connection:
            for name in names:
                await connection.add_listener(name, heard)
            for name in names:
                await other.execute("select pg_notify($1, $1)", name)
            payloads = await heard.expect(4)
            listening = {row[0] for row in await connection.fetch("select * from pg_listening_channels()")}
            for name in names:
                await connection.remove_listener(name, heard)
        return payloads == names, listening == set(names)

    assert same(case) == (True, True)


def test_A20_add_listener_calls_before_the_statement_that_notifies_returns(
    same: Callable[[Case], Any], channel: str
) -> None:
    async def case(pool: Any, other: Any) -> Any:
        heard = Heard()
        async with pool.acquire() as connection:
            await connection.add_listener(channel, heard)
            await connection.execute(f"notify \"{channel}\", 'own'")
            at_once = len(heard.calls)
            own = [call[1] == await connection.fetchval("select pg_backend_pid()") for call in heard.calls]
            await connection.remove_listener(channel, heard)
        return at_once, own

    assert same(case) == (1, [True])


def test_A20_add_listener_in_a_transaction_hears_after_the_commit(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        heard = Heard()
        async with pool.acquire() as connection:
            async with connection.transaction():
                await connection.add_listener(channel, heard)
                await other.execute(f"notify \"{channel}\", 'too early'")
            await other.execute(f"notify \"{channel}\", 'heard'")
            payloads = await heard.expect(1)
            await connection.remove_listener(channel, heard)
        return payloads

    assert same(case) == ["heard"]


@pytest.mark.parametrize("listener", [None, "text", 42])
def test_A20_add_listener_refuses_what_cannot_be_called(
    same: Callable[[Case], Any], channel: str, listener: Any
) -> None:
    async def case(pool: Any, other: Any) -> Any:
        async with pool.acquire() as connection:
            return await seen(connection.add_listener(channel, listener))

    assert same(case)[:2] == ("raised", asyncpg.InterfaceError)


def test_A20_add_listener_s_errors_are_postgresqls(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        async with pool.acquire() as connection:
            empty = await seen(connection.add_listener("", print))
            transaction = connection.transaction()
            await transaction.start()
            await seen(connection.execute("select 1/0"))
            aborted = await seen(connection.add_listener(channel, print))
            await transaction.rollback()
        return empty, aborted

    empty, aborted = same(case)
    assert empty[1] is asyncpg.PostgresSyntaxError
    assert aborted[1] is asyncpg.InFailedSQLTransactionError


def test_A20_remove_listener_of_what_was_not_added_does_nothing(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        async with pool.acquire() as connection:
            unknown_channel = await seen(connection.remove_listener(channel, print))
            await connection.add_listener(channel, print)
            unknown_callback = await seen(connection.remove_listener(channel, len))
            await connection.remove_listener(channel, print)
        return unknown_channel, unknown_callback

    assert same(case) == (("returned", None), ("returned", None))


def test_A20_listen_by_sql_calls_nobody(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        heard = Heard()
        async with pool.acquire() as connection:
            await connection.execute(f'listen "{channel}"')
            await connection.add_listener(channel + "2", heard)
            await other.execute(f"notify \"{channel}\", 'unheard'")
            await other.execute(f"notify \"{channel}2\", 'heard'")
            payloads = await heard.expect(1)
            await connection.remove_listener(channel + "2", heard)
        return payloads

    assert same(case) == ["heard"]


def test_A10_and_A11_listeners_left_at_release_are_warned_of_and_dropped(
    same: Callable[[Case], Any], channel: str
) -> None:
    async def case(pool: Any, other: Any) -> Any:
        one, two = Heard(), Heard()
        counted = []
        for listeners in ([one], [one, two]):
            connection = await pool.acquire()
            for listener in listeners:
                await connection.add_listener(channel, listener)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await pool.release(connection)
            counted += [(each.category, re.sub(r"^<.*?> ", "", str(each.message))) for each in caught]
        await other.execute(f"notify \"{channel}\", 'nobody is there'")
        async with pool.acquire() as connection:
            left = await connection.fetch("select * from pg_listening_channels()")
            await connection.add_listener(channel, two)  # the channel is listened to anew
            await other.execute(f"notify \"{channel}\", 'next'")
            payloads = await two.expect(1)
            await connection.remove_listener(channel, two)
        return counted, len(left), one.calls, payloads

    counted, *rest = same(case)
    assert [each for each, _ in counted] == [asyncpg.InterfaceWarning] * 2
    assert [text for _, text in counted] == [
        "is being released to the pool but has 1 active notification listener",
        "is being released to the pool but has 2 active notification listeners",
    ]
    assert rest == [0, [], ["next"]]


def test_A11_without_listeners_a_release_is_no_warning(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with pool.acquire() as connection:
                await connection.add_listener(channel, print)
                await connection.remove_listener(channel, print)
        return [str(each.message) for each in caught]

    assert same(case) == []


def test_A17_listeners_of_a_released_connection_are_refused(same: Callable[[Case], Any], channel: str) -> None:
    async def case(pool: Any, other: Any) -> Any:
        async with pool.acquire() as connection:
            pass
        found = []
        for method in ("add_listener", "remove_listener"):
            try:
                await getattr(connection, method)(channel, print)
            except asyncpg.InterfaceError as error:
                found.append(str(error))
        return found

    assert same(case) == [
        f"cannot call Connection.{method}(): connection has been released back to the pool"
        for method in ("add_listener", "remove_listener")
    ]


def test_A20_add_listener_with_a_name_that_postgresql_would_cut_is_an_error_here(
    dsn: str, supervisor: SupervisorProcess
) -> None:
    """A chosen deviation: with asyncpg such a listener is added, and never called."""

    async def story() -> None:
        async with pgactor.create_pool(supervisor.ipc) as pool, pool.acquire() as connection:
            with pytest.raises(ValueError, match="63 bytes"):
                await connection.add_listener("x" * 64, print)

    asyncio.run(story())


def test_B6_channel_payload_and_pid_of_psqlpy_s_listener_are_those_of_a_note(
    dsn: str, supervisor: SupervisorProcess, channel: str
) -> None:
    psqlpy = pytest.importorskip("psqlpy")

    async def story() -> None:
        name = re.sub(r"\W", "_", channel)  # psqlpy does not quote it
        theirs: asyncio.Queue[tuple[str, str, int]] = asyncio.Queue()

        async def callback(connection: Any, payload: str, channel: str, pid: int) -> None:
            theirs.put_nowait((channel, payload, pid))

        pool = psqlpy.ConnectionPool(dsn=dsn)
        listener = pool.listener()
        await listener.add_callback(name, callback)
        await listener.startup()
        listener.listen()
        other = await asyncpg.connect(dsn)
        try:
            async with (
                asyncio.timeout(20),
                pgactor.create_pool(supervisor.ipc) as client,
                client.listen(name) as ours,
            ):
                await _until_listening(other, name)
                await other.execute("select pg_notify($1, 'a payload')", name)
                note = await ours.get()
                assert note is not None
                assert (note.channel, note.payload, note.pid) == await theirs.get()
                assert note.payload == "a payload"
        finally:
            listener.abort_listen()
            await listener.shutdown()
            pool.close()
            await other.close()

    asyncio.run(story())


def test_B6_what_its_iteration_and_its_callbacks_tell_and_several_channels(
    dsn: str, supervisor: SupervisorProcess, channel: str
) -> None:
    """The listener: one connection for several channels, each callback's and iteration's notes in order."""
    psqlpy = pytest.importorskip("psqlpy")

    async def story() -> None:
        names = [re.sub(r"\W", "_", channel) + suffix for suffix in ("_a", "_b")]
        theirs: list[tuple[str, str]] = []
        ours: list[tuple[str, str]] = []

        async def callback(connection: Any, payload: str, channel: str, pid: int) -> None:
            theirs.append((channel, payload))

        pool = psqlpy.ConnectionPool(dsn=dsn)
        listener = pool.listener()
        other = await asyncpg.connect(dsn)
        try:
            for name in names:
                await listener.add_callback(name, callback)
            await listener.startup()
            listener.listen()
            async with (
                asyncio.timeout(20),
                pgactor.create_pool(supervisor.ipc) as client,
                client.listen(*names) as subscription,
            ):
                for name in names:
                    await _until_listening(other, name)
                for number in range(10):
                    await other.execute("select pg_notify($1, $2)", names[number % 2], str(number))
                async for note in subscription:
                    ours.append((note.channel, note.payload))
                    if len(ours) == 10:
                        break
                while len(theirs) < 10:
                    await asyncio.sleep(0.01)
                assert ours == [(names[number % 2], str(number)) for number in range(10)]
                assert sorted(theirs) == sorted(ours)
        finally:
            listener.abort_listen()
            await listener.shutdown()
            pool.close()
            await other.close()

    asyncio.run(story())


async def _until_listening(connection: Any, channel: str) -> None:
    """Until psqlpy's LISTEN has arrived, which it does not tell of."""
    sql = """select count(*) from pg_stat_activity
        where query ilike 'listen%' || $1 || '%' and application_name <> 'pgactor'"""
    while not await connection.fetchval(sql, channel):
        await asyncio.sleep(0.01)
