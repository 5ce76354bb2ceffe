"""Many processes and threads at once on few connections: everybody is served, rightly, in turn."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Iterator

import asyncpg
import pytest

from pgactor import AsyncClient, Client, PoolTimeout, RequestTimeout
from tests.endtoend.processes import StartSupervisor, StartWorker, ask
from tests.supervising import SupervisorProcess, until

ROADS = ["ipc", "tcp"]
ONE_SHOTS = 30
TRANSACTIONS = 5


@pytest.fixture
def database(dsn: str) -> Iterator[str]:
    """A database of its own: whoever is connected to it, the test knows why."""
    name = f"endtoend_{os.getpid()}"
    ask(dsn, f"create database {name}")
    yield name
    ask(dsn, f"drop database {name}")


class Sampler:
    """Counts the connections to a database all the time, from outside."""

    def __init__(self, dsn: str, database: str) -> None:
        self.samples: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._sample(dsn, database)))

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    async def _sample(self, dsn: str, database: str) -> None:
        connection = await asyncpg.connect(dsn)
        sql = "select count(*) from pg_stat_activity where datname = $1 and backend_type = 'client backend'"
        while not self._stopped.is_set():
            self.samples.append(await connection.fetchval(sql, database))
            await asyncio.sleep(0.005)
        await connection.close()


@pytest.mark.parametrize(("road", "processes"), [("ipc", 64), ("tcp", 24)])
def test_many_processes_share_4_connections_fairly(
    database: str, start_supervisor: StartSupervisor, dsn: str, start_worker: StartWorker, road: str, processes: int
) -> None:
    supervisor = start_supervisor(max_size=4, connect={"database": database})
    with Client(supervisor.ipc) as client, Sampler(dsn, database) as sampler:
        client.execute("create table sums (worker int primary key, value int not null)")
        client.execute("insert into sums select n, 0 from generate_series(0, $1::int - 1) n", processes)
        farm = start_worker(
            """
            import pgactor, time
            processes, one_shots, transactions = map(int, sys.argv[1:])
            client = pgactor.Client()
            start = Gate()

            def work(me):
                start.wait()
                began, right = time.monotonic(), 0
                for number in range(one_shots):
                    right += client.fetchval("select $1::int * 1000 + $2::int", me, number) == me * 1000 + number
                    if number % (one_shots // transactions) == 0:
                        with client.acquire() as lease, lease.transaction():
                            before = lease.fetchval("select value from sums where worker = $1 for update", me)
                            lease.execute("update sums set value = $2::int + 1 where worker = $1", me, before)
                say([right, time.monotonic() - began])
                client.close()

            pids = [fork(work, me) for me in range(processes)]
            start.open()
            os.close(start.reader)
            assert {status_of(pid) for pid in pids} == {0}
            """,
            getattr(supervisor, road),
            processes,
            ONE_SHOTS,
            TRANSACTIONS,
        )
        results = [farm.hear(seconds=60) for _ in range(processes)]
        farm.must_end_well()
        assert [right for right, _ in results] == [ONE_SHOTS] * processes
        sums = client.fetch("select value from sums")
        assert [row[0] for row in sums] == [TRANSACTIONS] * processes
    assert max(sampler.samples) == 4
    assert len(sampler.samples) > 5
    times = [seconds for _, seconds in results]
    ratio = max(times) / statistics.median(times)
    print(f"{road}: slowest / median {ratio:.2f}; median {statistics.median(times):.2f} s")
    assert ratio < 3


def test_a_worker_that_floods_the_queue_does_not_keep_others_waiting(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=2)
    flooded = threading.Event()

    async def flood() -> float:
        async with AsyncClient(supervisor.ipc, label="greedy") as client:
            requests = [asyncio.create_task(client.execute("select pg_sleep(0.01)")) for _ in range(300)]
            await requests[1]
            flooded.set()
            await asyncio.gather(*requests)
        return time.monotonic()

    ended: list[float] = []
    greedy = threading.Thread(target=lambda: ended.append(asyncio.run(flood())))
    greedy.start()
    times = []
    with Client(supervisor.ipc, label="modest") as client:
        client.status()
        assert flooded.wait(20)
        assert client.status().waiting > 100
        began_at = time.monotonic()
        for number in range(5):
            began = time.monotonic()
            assert client.fetchval("select $1::int", number) == number
            times.append(time.monotonic() - began)
        done = time.monotonic()
        greedy.join()
    assert ended[0] > done, "the flood was over too soon for this to tell anything"
    assert max(times) < (ended[0] - began_at) / 2, times


@pytest.mark.parametrize("road", ROADS)
def test_16_threads_that_share_a_client_get_their_own_answers(
    start_supervisor: StartSupervisor, table: str, road: str
) -> None:
    supervisor = start_supervisor(max_size=4)
    failures: list[str] = []
    ready = threading.Barrier(16)
    client = Client(getattr(supervisor, road))

    def work(me: int) -> None:
        try:
            ready.wait()
            client.execute(f"insert into {table} values ($1, 0)", 100 + me)
            for number in range(20):
                mine = me * 1000 + number
                match (me + number) % 6:
                    case 0:
                        rows = client.fetch("select $1::int + n as n from generate_series(1, 50) n", mine)
                        assert [row["n"] for row in rows] == [mine + n for n in range(1, 51)]
                    case 1:
                        with pytest.raises(asyncpg.InvalidTextRepresentationError, match=f'\'|"x{mine}"'):
                            client.fetchval("select ($1::text)::int", f"x{mine}")
                    case 2:
                        with pytest.raises((RequestTimeout, PoolTimeout)):
                            client.execute("select pg_sleep(20)", timeout=0.02 if number < 3 else 0.05)
                    case 3:
                        with client.acquire() as lease, lease.transaction():
                            assert lease.fetchval("select $1::int", mine) == mine
                            lease.execute(f"update {table} set value = value + 1 where id = $1", 100 + me)
                            assert lease.fetchval("select pg_backend_pid()") == lease.backend_pid
                    case 4:
                        assert client.fetchval("select $1::text", f"{mine}" * 10_000) == f"{mine}" * 10_000
                    case _:
                        assert client.fetchval("select $1::int", mine) == mine
        except BaseException as error:
            failures.append(f"{me}: {error!r}")

    threads = [threading.Thread(target=work, args=(me,)) for me in range(16)]
    with client:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        rows = client.fetch(f"select id, value from {table} where id >= 100")
        expected = {100 + me: sum((me + number) % 6 == 3 for number in range(20)) for me in range(16)}
        assert {row["id"]: row["value"] for row in rows} == expected
        until(lambda: client.status().busy == client.status().leased == client.status().resetting == 0)
        assert len([each for each in client.status().workers if each.pid == os.getpid()]) == 1


@pytest.mark.parametrize("road", ROADS)
async def test_thousands_of_requests_in_flight_of_one_worker_all_get_their_own_answers(
    supervisor: SupervisorProcess, road: str
) -> None:
    async with AsyncClient(getattr(supervisor, road)) as client:
        for _ in range(2):
            numbers = range(3000)
            answers = await asyncio.gather(*[client.fetchval("select $1::int", number) for number in numbers])
            assert answers == list(numbers)
        big = await asyncio.gather(*[client.fetchval("select repeat('x', 300000) || $1", str(n)) for n in range(100)])
        assert [each[300000:] for each in big] == [str(n) for n in range(100)]
        assert (await client.status()).counters["workers_lost"] == 0
