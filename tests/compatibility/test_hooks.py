"""Hooks, and the life of connections: asyncpg's pool and pgactor's, with the same settings, in the same stories."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pgactor import AsyncClient, DatabaseUnavailable
from pgactor.config.pool import PoolSettings
from tests import hooks
from tests.integration.conftest import Launch
from tests.integration.driving import Driven, outcome

Condition = Callable[[], Awaitable[object]]

SETTINGS = {"min_size": 0, "max_size": 1}
HOOKS = ("connect", "setup", "init", "reset")


class Side:
    """One of the two pools. folder: where its hooks write down their calls and take their orders."""

    def __init__(self, pool: Any, folder: Path, name: str) -> None:
        self.pool = pool
        self.folder = folder
        self.name = name

    @property
    def is_asyncpg(self) -> bool:
        return isinstance(self.pool, asyncpg.Pool)

    async def size(self) -> int:
        """How many connections there are."""
        size: int = self.pool.get_size() if self.is_asyncpg else (await self.pool.status()).size
        return size

    async def pid(self) -> int:
        """The connection that the next statement gets."""
        async with self.pool.acquire() as connection:
            pid: int = await connection.fetchval("select pg_backend_pid()")
            return pid

    def order(self, text: str = "") -> None:
        hooks.give_order(self.folder, text)

    async def calls(self, count: int) -> list[str]:
        """The calls of hooks, once there are so many: pgactor resets when the worker has gone on already."""

        async def are_there() -> bool:
            return len(hooks.calls(self.folder)) >= count

        await until(are_there)
        return hooks.calls(self.folder)


Story = Callable[[Side], Awaitable[Any]]
Compare = Callable[..., Any]


async def until(condition: Condition, *, seconds: float = 15.0) -> None:
    """Wait for the condition."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def compare(dsn: str, start: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Has both go through a story, which must end the same way. called: the hooks that they have."""

    def run(story: Story, *, called: tuple[str, ...] = (), **settings: Any) -> Any:
        settings = {**SETTINGS, **settings}
        folders = {side: tmp_path / side for side in ("asyncpg", "pgactor")}
        for folder in folders.values():
            folder.mkdir()
        table = "".join(f'{name} = "tests.hooks:{name}"\n' for name in called)
        supervisor = start(
            toml=f"[hooks]\n{table}",
            environment={"HOOKS_FOLDER": str(folders["pgactor"])},
            **{name: settings[name] for name in ("min_size", "max_size")},
            pool={**settings, "database_grace_seconds": 0},
        )
        monkeypatch.setenv("HOOKS_FOLDER", str(folders["asyncpg"]))

        @asynccontextmanager
        async def theirs() -> AsyncIterator[Side]:
            functions = {name: getattr(hooks, name) for name in called}
            named = {"application_name": f"{supervisor.name}-theirs"}
            made = await asyncpg.create_pool(dsn, server_settings=named, **settings, **functions)
            try:
                yield Side(made, folders["asyncpg"], named["application_name"])
            finally:
                made.terminate()

        @asynccontextmanager
        async def ours() -> AsyncIterator[Side]:
            async with AsyncClient(supervisor.ipc) as made:
                yield Side(made, folders["pgactor"], supervisor.name)

        async def tell(side: Any) -> Any:
            async with side() as each:
                return await story(each)

        def run_one(side: Any) -> Any:
            return outcome(lambda: asyncio.run(tell(side)))

        expected, found = run_one(theirs), run_one(ours)
        assert found == expected
        assert expected[0] == "returned", expected
        return expected

    return run


def raised(error: BaseException) -> tuple[str, str]:
    """What is compared of an error."""
    return type(error).__name__, str(error)


# --- A2, A3: the start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_size": 0, "min_size": -1},
        {"max_size": -1},
        {"min_size": -1},
        {"min_size": 3, "max_size": 2, "init_size": -1},
        {"min_size": 0, "init_size": -1},
        {"init_size": 11},
        {"min_size": 3, "init_size": 2, "max_queries": -1},
        {"max_queries": -1, "max_inactive_connection_lifetime": -1},
        {"max_inactive_connection_lifetime": -1},
        {"max_inactive_connection_lifetime": float("-inf")},
    ],
    ids=str,
)
def test_A2_sizes_that_cannot_be_are_refused_in_asyncpgs_words_and_order(wrong: dict[str, Any]) -> None:
    given = {"min_size": 1, "max_size": 10, **wrong}

    async def theirs() -> None:
        asyncpg.create_pool("postgresql://nowhere", **given)

    expected = outcome(lambda: asyncio.run(theirs()))
    assert expected[:2] == ("raised", ValueError)
    assert outcome(lambda: PoolSettings(**given)) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"min_size": 2, "max_size": 4}, 2),
        ({"init_size": 3, "min_size": 1, "max_size": 4}, 3),
        ({"init_size": 3, "min_size": 0, "max_size": 3}, 3),
        ({"init_size": 1, "min_size": 1, "max_size": 3}, 1),
        ({"min_size": 0, "max_size": 3}, 0),
    ],
    ids=str,
)
def test_A3_init_size_connections_are_there_at_start_min_size_by_default(
    compare: Compare, settings: dict[str, int], expected: int
) -> None:
    async def story(side: Side) -> int:
        async def are_there() -> bool:
            return await side.size() >= expected

        await until(are_there)
        return await side.size()

    assert compare(story, **settings)[1][1] == str(expected)


def test_A3_one_is_opened_alone_first_the_rest_together(compare: Compare) -> None:
    async def story(side: Side) -> list[str]:
        called = await side.calls(8)
        return [name.partition(" ")[0] for name in called[:5]]

    compare(story, called=("connect", "init"), init_size=4, min_size=1, max_size=4)


def test_A3_an_error_of_the_start_is_told_and_not_repeated_by_all_of_them(
    dsn: str, start: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chosen deviation: the supervisor starts all the same and tries again, as the database may be late."""
    hooks.give_order(tmp_path, "init raise")
    monkeypatch.setenv("HOOKS_FOLDER", str(tmp_path))

    async def theirs() -> None:
        with pytest.raises(ValueError, match="the init hook does not like it"):
            await asyncpg.create_pool(dsn, init=hooks.init, min_size=3, max_size=3)
        assert hooks.calls(tmp_path) == ["init 0"]

    asyncio.run(theirs())
    (tmp_path / "calls").unlink()
    supervisor = start(
        toml='[hooks]\ninit = "tests.hooks:init"\n',
        environment={"HOOKS_FOLDER": str(tmp_path)},
        min_size=3,
        max_size=3,
        pool={"database_grace_seconds": 0, "reopen_backoff_seconds": 3600, "reopen_backoff_max_seconds": 3600},
    )

    async def ours() -> None:
        async with AsyncClient(supervisor.ipc) as pool:
            with pytest.raises(DatabaseUnavailable, match="ValueError: the init hook does not like it"):
                await pool.fetchval("select 1")
        assert hooks.calls(tmp_path) == ["init 0"]

    asyncio.run(ours())


# --- A6: hooks ------------------------------------------------------------------------------------------------


def test_A6_each_hook_is_called_in_its_time(compare: Compare) -> None:
    async def story(side: Side) -> list[str]:
        for _ in range(2):
            async with side.pool.acquire() as connection:
                await connection.fetchval("select 1")
        await side.calls(6)
        await side.pool.fetchval("select 1")
        await side.pool.executemany("select $1::int", [(1,), (2,)])
        await side.calls(10)
        async with side.pool.acquire():
            pass
        return await side.calls(12)

    compare(story, called=HOOKS)


def test_A6_what_setup_does_holds_for_the_use_and_is_reset_after_it(compare: Compare) -> None:
    async def story(side: Side) -> list[str]:
        sql = "select current_setting('hooks.setup')"
        found = [await side.pool.fetchval(sql) for _ in range(2)]
        async with side.pool.acquire() as connection:
            return [*found, await connection.fetchval(sql)]

    compare(story, called=("setup",))


def test_A6_a_reset_hook_takes_the_place_of_the_usual_reset(compare: Compare) -> None:
    async def story(side: Side) -> list[Any]:
        async with side.pool.acquire() as connection:
            await connection.execute("set application_name = 'kept'")
        async with side.pool.acquire() as connection:
            return [await connection.fetchval("show application_name"), connection.is_in_transaction()]

    compare(story, called=("reset",))


@pytest.mark.parametrize("order", ["setup raise", "setup sql"])
def test_A6_an_error_of_setup_reaches_the_requester_and_closes_the_connection(compare: Compare, order: str) -> None:
    async def story(side: Side) -> list[Any]:
        before = await side.pid()
        side.order(order)
        errors = []
        for use in (side.pid(), side.pool.fetchval("select 1"), side.pool.execute("select 1")):
            with pytest.raises((ValueError, asyncpg.PostgresError)) as caught:
                await use
            errors.append(raised(caught.value))
        side.order()
        return [errors, await side.pid() == before, await side.calls(5)]

    compare(story, called=("setup",))


def test_A6_a_setup_that_is_given_up_closes_the_connection(compare: Compare) -> None:
    async def story(side: Side) -> list[Any]:
        before = await side.pid()
        side.order("setup hang")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await side.pool.acquire(timeout=0.2)
        calls = len(hooks.calls(side.folder))
        waiting = asyncio.ensure_future(side.pid())
        await side.calls(calls + 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        side.order()
        return [await side.pid() == before, hooks.calls(side.folder)]

    compare(story, called=("setup",))


@pytest.mark.parametrize("order", ["init raise", "init sql", "init cut", "connect raise", "connect number"])
def test_A6_a_connection_that_is_not_made_is_told_with_asyncpgs_words(compare: Compare, order: str) -> None:
    """A chosen deviation: many may wait for that connection, so what they get is a DatabaseUnavailable with it."""

    async def story(side: Side) -> list[Any]:
        side.order(order)
        with pytest.raises(Exception, match=r".") as caught:
            await side.pid()
        assert side.is_asyncpg or isinstance(caught.value, DatabaseUnavailable)
        theirs = ": ".join(raised(caught.value)) if side.is_asyncpg else str(caught.value)
        side.order()

        async def works() -> bool:
            try:
                return bool(await side.pid())
            except DatabaseUnavailable:
                return False

        await until(works)
        return [theirs.rpartition("the last attempt: ")[2]]

    compare(story, called=("connect", "init"))


@pytest.mark.parametrize("order", ["reset raise", "reset sql", "reset cut"])
def test_A6_a_reset_that_fails_costs_the_connection(compare: Compare, order: str) -> None:
    """A chosen deviation: asyncpg raises the error at release, where pgactor's worker does not wait."""

    async def story(side: Side) -> bool:
        before = await side.pid()
        side.order(order)
        try:
            await side.pid()
        except Exception:
            assert side.is_asyncpg
        await side.calls(2)
        side.order()
        return await side.pid() == before

    compare(story, called=("reset",))


# --- A9, A12: what becomes of a connection at its release -----------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_A12_a_connection_is_replaced_when_it_comes_back_after_max_queries(compare: Compare, count: int) -> None:
    async def story(side: Side) -> list[Any]:
        async with side.pool.acquire() as connection:
            pids = {await connection.fetchval("select pg_backend_pid()") for _ in range(count + 4)}
        return [len(pids), await side.pid() in pids]

    compare(story, max_queries=count)


def test_A9_a_connection_that_has_served_its_time_is_closed_and_not_reset(compare: Compare) -> None:
    async def story(side: Side) -> list[Any]:
        pids = [await side.pid() for _ in range(3)]
        return [len(set(pids)), hooks.calls(side.folder)]

    compare(story, called=("reset",), max_queries=1)


def test_A9_a_connection_of_an_earlier_generation_is_closed_and_not_reset(compare: Compare) -> None:
    async def story(side: Side) -> list[Any]:
        async with side.pool.acquire() as connection:
            before = await connection.fetchval("select pg_backend_pid()")
            await side.pool.expire_connections()
            same = await connection.fetchval("select pg_backend_pid()") == before
        return [same, await side.pid() == before, await side.calls(1)]

    compare(story, called=("reset",))


def test_A9_a_connection_that_is_dead_at_its_release_is_replaced_and_not_reset(compare: Compare, db: Driven) -> None:
    async def story(side: Side) -> list[Any]:
        async with side.pool.acquire() as connection:
            before = await connection.fetchval("select pg_backend_pid()")
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
                await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        return [await side.pid() == before, await side.calls(1)]

    compare(story, called=("reset",))


def test_A9_a_transaction_that_is_left_open_is_rolled_back_before_the_reset(compare: Compare, table: str) -> None:
    async def story(side: Side) -> list[Any]:
        async with side.pool.acquire() as connection:
            await connection.execute("begin")
            await connection.execute(f"insert into {table} values (1, 'a')")
        return [await side.pool.fetchval(f"select count(*) from {table}"), await side.calls(2)]

    compare(story, called=("reset",))


# --- A13: idle ones, and the floor ----------------------------------------------------------------------------


async def _use_all(side: Side, count: int) -> None:
    connections = [await side.pool.acquire() for _ in range(count)]
    for connection in connections:
        await side.pool.release(connection)


@pytest.mark.parametrize("min_size", [0, 1, 2])
def test_A13_idle_connections_are_closed_but_for_min_size(compare: Compare, min_size: int) -> None:
    async def story(side: Side) -> list[int]:
        await _use_all(side, 3)

        async def is_small() -> bool:
            return await side.size() <= min_size

        await until(is_small)
        await asyncio.sleep(0.5)  # several lifetimes
        return [await side.size()]

    compare(story, min_size=min_size, max_size=3, max_inactive_connection_lifetime=0.1)


def test_A13_a_lifetime_of_zero_closes_none(compare: Compare) -> None:
    async def story(side: Side) -> int:
        await _use_all(side, 3)
        await asyncio.sleep(0.3)
        return await side.size()

    compare(story, max_size=3, max_inactive_connection_lifetime=0)


def test_A13_a_connection_in_use_does_not_count_as_idle(compare: Compare) -> None:
    async def story(side: Side) -> bool:
        async with side.pool.acquire() as connection:
            before = await connection.fetchval("select pg_backend_pid()")
            await asyncio.sleep(0.4)
            return bool(await connection.fetchval("select pg_backend_pid()") == before)

    compare(story, max_inactive_connection_lifetime=0.1)


def test_A13_min_size_is_restored_without_anybody_asking(compare: Compare, db: Driven) -> None:
    async def story(side: Side) -> list[int]:
        async def are_there() -> bool:
            return await side.size() == 2

        await until(are_there)
        ours = "from pg_stat_activity where application_name = $1"
        before = {row["pid"] for row in await asyncio.to_thread(db.fetch, f"select pid {ours}", side.name)}
        await asyncio.to_thread(db.execute, f"select pg_terminate_backend(pid) {ours}", side.name)

        async def are_new() -> bool:
            pids = {row["pid"] for row in await asyncio.to_thread(db.fetch, f"select pid {ours}", side.name)}
            return len(pids) == 2 and not pids & before

        await until(are_new)
        await until(are_there)
        return [len(before), await side.size()]

    compare(story, min_size=2, max_size=3)


def test_A13_a_failure_to_restore_the_floor_is_tried_again(compare: Compare, db: Driven) -> None:
    async def story(side: Side) -> int:
        async def is_there() -> bool:
            return await side.size() == 1

        await until(is_there)
        side.order("init raise")
        sql = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1"
        await asyncio.to_thread(db.execute, sql, side.name)
        await side.calls(3)
        side.order()
        await until(is_there)
        return await side.size()

    compare(story, called=("init",), min_size=1)
