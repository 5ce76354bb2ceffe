"""One supervisor takes over from another one, while workers ask both of them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from pgactor import AsyncClient, Client
from tests.endtoend.processes import ask
from tests.supervising import SupervisorProcess

SOON = 10.0
"""Seconds, for what is to happen in the end."""


def take_over(old: SupervisorProcess, *, wait: bool = True) -> SupervisorProcess:
    """Another supervisor, with the same settings, in the place of this one."""
    new = SupervisorProcess.__new__(SupervisorProcess)
    new.__dict__.update(old.__dict__)
    new.log = old.log.with_suffix(f".{next(_numbers)}.log")
    new.command = [*(part for part in old.command if part != "--takeover"), "--takeover"]
    new.start(wait=wait)
    return new


_numbers = itertools.count()


@contextmanager
def watched(dsn: str, name: str) -> Iterator[list[int]]:
    """How many connections of this name PostgreSQL has, looked at all the time."""
    seen: list[int] = []
    stop = threading.Event()

    async def look() -> None:
        import asyncpg

        connection = await asyncpg.connect(dsn)
        sql = "select count(*) from pg_stat_activity where application_name = $1"
        while not stop.is_set():
            seen.append(await connection.fetchval(sql, name))
            await asyncio.sleep(0.005)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


Ending = Callable[[SupervisorProcess], SupervisorProcess]


async def taken_over_twice_under_load(
    old: SupervisorProcess,
    endpoint: str,
    options: dict[str, Any],
    *,
    ending: Ending,
    dsn: str,
    name: str,
    table: str,
) -> None:
    """Have supervisors take over twice, while links are made, used and kept and a lease lasts. No request fails, each
    write happens once, and of connections of this name there are never more than the 4 of the budget."""
    await asyncio.to_thread(
        ask, dsn, f"create table {table}_log (worker int, number int, primary key (worker, number))"
    )
    stop = threading.Event()
    done: dict[int, int] = {}

    def blocking(worker: int) -> None:
        with Client(endpoint, **options) as client:
            for number in itertools.count():
                if stop.is_set():
                    return
                client.execute(f"insert into {table}_log values ($1, $2)", worker, number)
                with client.transaction() as lease:
                    assert lease.fetchval("select $1::int", number) == number
                done[worker] = number + 1

    def fresh(worker: int) -> None:
        """A link for each request: at any time, some are being made."""
        for number in itertools.count():
            if stop.is_set():
                return
            with Client(endpoint, **options) as client:
                client.execute(f"insert into {table}_log values ($1, $2)", worker, number)
            done[worker] = number + 1

    async def asking(worker: int, client: AsyncClient) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            await client.execute(f"insert into {table}_log values ($1, $2)", worker, number)
            assert await client.fetchval("select $1::int", number) == number
            done[worker] = number + 1

    with watched(dsn, name) as seen, ThreadPoolExecutor(8) as threads, Client(endpoint, **options) as idle:
        assert idle.fetchval("select 1") == 1
        async with AsyncClient(endpoint, **options) as client:
            loop = asyncio.get_running_loop()
            workers = [loop.run_in_executor(threads, blocking, number) for number in range(2)]
            workers += [loop.run_in_executor(threads, fresh, number) for number in range(2, 4)]
            workers += [asyncio.ensure_future(asking(number, client)) for number in range(10, 18)]
            try:
                for _ in range(2):
                    held = await client.acquire()
                    await held.execute("begin")
                    reached = dict(done)
                    new = ending(await asyncio.to_thread(take_over, old))
                    while len(done) < len(workers) or any(done[each] < reached.get(each, 0) + 5 for each in done):
                        for each in workers:
                            assert not each.done(), each.result()
                        await asyncio.sleep(0.01)
                    assert old.process.poll() is None, "a lease is held"
                    assert await held.fetchval("select 5") == 5
                    await held.execute(f"update {table} set value = value + 1 where id = 1")
                    await held.execute("commit")
                    await client.release(held)
                    assert await asyncio.to_thread(old.process.wait, SOON) == 0
                    old = new
            finally:
                stop.set()
                ends = await asyncio.gather(*workers, return_exceptions=True)
            assert [end for end in ends if end is not None] == []
            assert (await client.status()).size == 4, "it has the whole budget"
        assert idle.fetchval("select 2") == 2, "it slept through two supervisors"
    assert max(seen) == 4
    assert (await asyncio.to_thread(ask, dsn, f"select value from {table}"))[0][0] == 2
    rows = await asyncio.to_thread(ask, dsn, f"select worker, count(*) from {table}_log group by worker")
    assert {row[0]: row[1] for row in rows} == done, "each write happened once"
    await asyncio.to_thread(ask, dsn, f"drop table {table}_log")
