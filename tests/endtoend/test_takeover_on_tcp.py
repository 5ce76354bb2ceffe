"""One supervisor takes over from another one on tcp, with keys: at once, while leases of the old one last."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from pgactor import AsyncClient, Client
from tests.endtoend.processes import ask
from tests.endtoend.test_zero_downtime import SOON, Ending, ending, take_over, watched
from tests.security.conftest import KeyFiles, keygen, keys, serving
from tests.supervising import SupervisorProcess, until

__all__ = ["ending", "keys", "serving"]

Serving = Callable[..., SupervisorProcess]


@pytest.fixture
def given(keys: KeyFiles) -> dict[str, Any]:
    """What a client is made with; it needs no time beyond its own to find the new supervisor."""
    return {**keys.options(keys.client("app")), "connect_timeout": 5.0}


async def test_not_one_request_fails_while_supervisors_change_twice_under_load_and_leases_last(
    serving: Serving, ending: Ending, given: dict[str, Any], dsn: str, table: str
) -> None:
    name = f"takeover_tcp_{os.getpid()}"
    old = serving(max_size=4, min_size=4, connect={"server_settings": {"application_name": name}})
    await asyncio.to_thread(
        ask, dsn, f"create table {table}_log (worker int, number int, primary key (worker, number))"
    )
    stop = threading.Event()
    done: dict[int, int] = {}

    def blocking(worker: int) -> None:
        with Client(old.tcp, **given) as client:
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
            with Client(old.tcp, **given) as client:
                client.execute(f"insert into {table}_log values ($1, $2)", worker, number)
            done[worker] = number + 1

    async def asking(worker: int, client: AsyncClient) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            await client.execute(f"insert into {table}_log values ($1, $2)", worker, number)
            assert await client.fetchval("select $1::int", number) == number
            done[worker] = number + 1

    with watched(dsn, name) as seen, ThreadPoolExecutor(8) as threads, Client(old.tcp, **given) as idle:
        assert idle.fetchval("select 1") == 1
        async with AsyncClient(old.tcp, **given) as client:
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


def test_the_new_one_may_have_another_key(
    serving: Serving, ending: Ending, keys: KeyFiles, given: dict[str, Any]
) -> None:
    keygen("server", "--directory", str(keys.folder / "next"))
    given["server_key"] += f",{keys.folder}/next/server.pub"
    old = serving(max_size=2)
    with Client(old.tcp, **given) as client, Client(old.tcp, **given) as other:
        lease = client.acquire()
        (keys.folder / "next" / "server.key").replace(keys.folder / "server.key")
        new = ending(take_over(old))
        assert other.fetchval("select 1") == client.fetchval("select 1") == 1
        assert lease.fetchval("select 2") == 2
        new.process.send_signal(signal.SIGHUP)
        until(lambda: "until the supervisor before this one has ended" in new.log.read_text())
        lease.release()
        assert old.process.wait(SOON) == 0
        assert client.fetchval("select 3") == other.fetchval("select 3") == 3


def reloaded(supervisor: SupervisorProcess, times: int) -> bool:
    return supervisor.log.read_text().count("reloaded: curve.server_key") == times


def test_the_old_one_is_dialed_again_if_the_new_one_dies_whatever_keys_it_had_before(
    serving: Serving, keys: KeyFiles, given: dict[str, Any]
) -> None:
    old = serving(max_size=2)
    for count, name in enumerate(("next", "third"), 1):
        keygen("server", "--directory", str(keys.folder / name))
        (keys.folder / name / "server.key").replace(keys.folder / "server.key")
        old.process.send_signal(signal.SIGHUP)
        until(partial(reloaded, old, count))
    given["server_key"] = str(keys.folder / "third" / "server.pub")
    with Client(old.tcp, **given) as client:
        lease = client.acquire()
        new = take_over(old)
        with Client(old.tcp, **given) as other:
            assert other.fetchval("select 1") == 1
        new.process.kill()
        new.process.wait()
        until(lambda: "this one goes on" in old.log.read_text())
        for _ in range(10):
            with Client(old.tcp, **{**given, "connect_timeout": 0.0}) as other:
                assert other.fetchval("select 2", timeout=20) == 2
        assert lease.fetchval("select 3") == 3
        lease.release()


def test_who_comes_while_the_old_one_keeps_a_lease_is_served_by_the_new_one_at_once(
    serving: Serving, ending: Ending, given: dict[str, Any]
) -> None:
    old = serving(max_size=2)
    with Client(old.tcp, **given) as client:
        lease = client.acquire()
        ending(take_over(old))
        for number in range(10):
            with Client(old.tcp, **given) as other:
                assert other.fetchval("select $1::int", number) == number
        assert lease.fetchval("select 1") == 1
        lease.release()
        assert old.process.wait(SOON) == 0
