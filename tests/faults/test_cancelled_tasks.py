"""A task that is cancelled, at every await of whatever it does, leaves nothing behind and the client usable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from pgactor import AsyncClient
from tests.faults.scene import CensusSupervisor, Scene
from tests.integration.driving import Driven

Deed = Callable[[AsyncClient, str], Coroutine[Any, Any, None]]

MOMENTS = ("before it is sent", "while it is on its way", "as the answer comes")
"""When, in the wait for something, the cancel comes."""


class CancelledAt:
    """A coroutine whose task is cancelled in its n-th wait, from 0, at this moment of it."""

    def __init__(self, work: Coroutine[Any, Any, None], n: int, moment: str) -> None:
        self._work = work
        self._n = n
        self._moment = moment
        self._waits = 0

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                awaited = steps.send(None) if error is None else steps.throw(error)
            except StopIteration:
                return
            if self._waits == self._n:
                self._cancel(task, awaited)
            self._waits += 1
            error = None
            try:
                yield awaited
            except BaseException as thrown:
                error = thrown

    def _cancel(self, task: asyncio.Task[Any], awaited: Any) -> None:
        loop = asyncio.get_running_loop()
        if self._moment == "before it is sent":
            task.cancel()
        elif self._moment == "as the answer comes" and awaited is not None:
            awaited.add_done_callback(lambda _: task.cancel())
        else:  # what it sends leaves at the end of this turn
            loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(task.cancel)))


async def statements(client: AsyncClient, table: str) -> None:
    await client.fetchval("select 1")
    await client.execute(f"insert into {table} values (1, 1)")
    await client.fetch("select generate_series(1, 20000)")
    await client.executemany(f"insert into {table} values ($1, $2)", [(n, n) for n in range(2, 9)])
    await client.batch([f"update {table} set value = 2 where id = 1", "select 1"])


async def a_lease(client: AsyncClient, table: str) -> None:
    async with client.acquire() as lease, lease.transaction():
        await lease.execute(f"insert into {table} values (1, 1)")
        await lease.execute("select pg_advisory_lock(77)")
        async with lease.transaction():
            await lease.execute(f"update {table} set value = 2")
        prepared = await lease.prepare("select $1::int")
        await prepared.fetchval(1)
        async for _ in lease.cursor("select generate_series(1, 120)"):
            pass
        cursor = await lease.cursor("select generate_series(1, 9)")
        await cursor.forward(2)
        await cursor.fetch(2)


async def a_session(client: AsyncClient, table: str) -> None:
    lease = await client.acquire()
    try:
        await lease.execute("create temp table mine (id int)")
        await lease.execute("set work_mem = '1234kB'")
        await lease.add_listener("faults", lambda *_: None)
        await lease.remove_listener("faults", lambda *_: None)
        await lease.reset()
    finally:
        await client.release(lease)


async def copies(client: AsyncClient, table: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, 6000, 2000):
            yield b"".join(b"%d\t0\n" % (start + n) for n in range(2000))
            await asyncio.sleep(0)

    async def take(_: bytes) -> None:
        await asyncio.sleep(0)

    async with client.acquire() as lease:
        await lease.copy_to_table(table, source=pieces())
        await lease.copy_from_query("select repeat('x', 1000) from generate_series(1, 1200)", output=take)
        await lease.execute(f"truncate {table}")
        await lease.copy_records_to_table(table, records=[(n, n) for n in range(100)])


async def many_chunks(client: AsyncClient, table: str) -> None:
    async def rows() -> AsyncIterator[tuple[int, str]]:
        for n in range(5):
            yield n, "x" * 500_000
            await asyncio.sleep(0)

    await client.executemany(f"insert into {table} values ($1, length($2))", rows())


async def hearing(client: AsyncClient, table: str) -> None:
    async with client.listen("faults") as subscription:
        await client.notify("faults", "a")
        async for _ in subscription:
            break


DEEDS: dict[str, Deed] = {
    each.__name__: each for each in (statements, a_lease, a_session, copies, many_chunks, hearing)
}


@pytest.fixture
def own_table(db: Driven, table: str) -> Iterator[str]:
    """A table that only the tasks write to."""
    db.execute(f"create table {table}_own (id int primary key, value int)")
    yield f"{table}_own"
    db.execute(f"drop table {table}_own")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("deed", DEEDS)
async def test_a_task_that_is_cancelled_at_any_await_leaves_nothing(
    scene: Scene, census_supervisor: CensusSupervisor, own_table: str, deed: str, moment: str
) -> None:
    async with AsyncClient(census_supervisor.ipc, label="cancelled") as others:
        n = 0
        while True:
            client = AsyncClient(census_supervisor.ipc, label="cancelled")
            work = CancelledAt(DEEDS[deed](client, own_table), n, moment)
            task = asyncio.create_task(_run(work))
            with_it = asyncio.create_task(others.fetchval("select $1::int", n))
            cancelled = await task
            assert await with_it == n
            await _nothing_is_left(client)
            await client.execute(f"truncate {own_table}")
            await client.close()
            if not cancelled:
                break
            n += 1
    assert n >= 3
    await asyncio.to_thread(scene.must_be_as_before)


async def _run(work: Awaitable[None]) -> bool:
    """Whether it was cancelled; any other end than that or its own is a failure."""
    try:
        await work
    except asyncio.CancelledError:
        return True
    return False


async def _nothing_is_left(client: AsyncClient) -> None:
    """No lease, no request; and the client, which is open still, serves on."""
    async with asyncio.timeout(20):
        while any(
            each.leases + each.running + each.waiting
            for each in (await client.status()).workers
            if each.label == "cancelled"
        ):
            pass
    assert await client.fetchval("select 2") == 2
