"""A client that was made and used before a fork, in parent and child, and leases across forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pgactor import Client
from tests.endtoend.processes import STRICT, StartSupervisor, StartWorker, Worker, environment, state_of
from tests.supervising import SupervisorProcess, until

ROADS = ["ipc", "tcp"]
AT_ONCE = 10.0
"""Seconds. Nothing but the end of the socket frees a lease as soon as this: on ipc no silence is ever counted."""


def of(supervisor: SupervisorProcess, road: str) -> str:
    endpoint: str = getattr(supervisor, road)
    return endpoint


def must_free_its_lease_at_once(worker: Worker, endpoint: str) -> None:
    """Kill the worker alone, and see its lease end while its children live."""
    assert state_of(endpoint).leased == 1
    started = time.monotonic()
    worker.kill()
    until(lambda: state_of(endpoint).leased == 0, seconds=AT_ONCE)
    assert time.monotonic() - started < AT_ONCE


# --- gevent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forked", [False, True], ids=["imported", "and forked"])
def test_greenlets_share_a_client_that_is_older_than_gevents_patches(
    shared: SupervisorProcess, start_worker: StartWorker, forked: bool
) -> None:
    """As in gunicorn's gevent worker, with preload_app: it patches after the fork."""
    worker = start_worker(
        """
        import warnings
        import pgactor
        client = pgactor.Client(connect_timeout=5)

        def work():
            warnings.simplefilter("ignore")  # that ssl was imported before: nothing here uses it
            from gevent import monkey, spawn, joinall
            monkey.patch_all()
            greenlets = [spawn(client.fetchval, "select $1::int", number) for number in range(20)]
            joinall(greenlets)
            assert [each.get() for each in greenlets] == list(range(20))

        if sys.argv[1] == "True":
            say(status_of(fork(work)))
        else:
            work()
            say(0)
        """,
        shared.ipc,
        forked,
    )
    assert worker.hear() == 0
    worker.must_end_well()


# --- the blocking client ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("used_before", [True, False], ids=["used before", "unused before"])
@pytest.mark.parametrize("order", ["parent first", "child first", "both at once"])
@pytest.mark.parametrize("road", ROADS)
def test_parent_and_child_each_get_their_own_answers_in_any_order(
    shared: SupervisorProcess, start_worker: StartWorker, road: str, order: str, used_before: bool
) -> None:
    worker = start_worker(
        """
        import pgactor
        order, used_before = sys.argv[1], sys.argv[2] == "True"
        client = pgactor.Client()
        if used_before:
            client.fetchval("select 1")
        parent_is_done, child_is_done = Gate(), Gate()

        def use(base):
            for number in range(base, base + 40):
                assert client.fetchval("select $1::int", number) == number

        def child():
            if order == "parent first":
                parent_is_done.wait()
            use(1000)
            child_is_done.open()
            client.close()

        pid = fork(child)
        if order == "child first":
            child_is_done.wait()
        use(2000)
        parent_is_done.open()
        say(status_of(pid))
        use(3000)
        client.close()
        """,
        of(shared, road),
        order,
        used_before,
    )
    assert worker.hear() == 0, worker.errors
    worker.must_end_well()


def test_parent_and_child_have_a_link_each(shared: SupervisorProcess, start_worker: StartWorker) -> None:
    worker = start_worker(
        """
        import pgactor
        client = pgactor.Client(label="forker")
        client.fetchval("select 1")
        before = [w.number for w in client.status().workers if w.label == "forker"]

        def child():
            say(sorted(w.pid for w in client.status().workers if w.label == "forker"))

        pid = fork(child)
        status_of(pid)
        say(sorted((os.getpid(), pid)))
        say([before, [w.number for w in client.status().workers if w.pid == os.getpid()]])
        client.close()
        """,
        shared.ipc,
    )
    seen, expected, (before, after) = worker.hear(), worker.hear(), worker.hear()
    assert seen == expected
    assert before == after, "the parent's link did not outlive the fork"
    worker.must_end_well()


@pytest.mark.parametrize("way", ["os._exit", "sys.exit", "an exception", "kill -9"])
@pytest.mark.parametrize("road", ROADS)
def test_a_child_that_ends_at_once_does_the_parent_no_harm(
    shared: SupervisorProcess, start_worker: StartWorker, road: str, way: str
) -> None:
    worker = start_worker(
        """
        import pgactor, signal
        way = sys.argv[1]
        client = pgactor.Client()
        with client.acquire() as lease:
            session = lease.fetchval("select pg_backend_pid()")
            if (pid := os.fork()) == 0:
                sys.excepthook = lambda *_: None
                if way == "os._exit":
                    os._exit(0)
                if way == "sys.exit":
                    sys.exit(0)
                if way == "kill -9":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError
            say(status_of(pid))
            assert lease.fetchval("select pg_backend_pid()") == session
        assert client.fetchval("select 7") == 7
        client.close()
        """,
        of(shared, road),
        way,
    )
    assert worker.hear() == {"an exception": 1, "kill -9": -9}.get(way, 0)
    worker.must_end_well()


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("child_uses", [True, False], ids=["child used", "child unused"])
def test_a_grandchild_works_too(
    shared: SupervisorProcess, start_worker: StartWorker, road: str, child_uses: bool
) -> None:
    worker = start_worker(
        """
        import pgactor
        child_uses = sys.argv[1] == "True"
        client = pgactor.Client()
        client.fetchval("select 1")

        def use(base):
            for number in range(base, base + 20):
                assert client.fetchval("select $1::int", number) == number

        def grandchild():
            use(100)
            client.close()

        def child():
            if child_uses:
                use(200)
            pid = fork(grandchild)
            use(300)
            assert status_of(pid) == 0
            use(400)
            client.close()

        pid = fork(child)
        use(500)
        say(status_of(pid))
        use(600)
        client.close()
        """,
        of(shared, road),
        child_uses,
    )
    assert worker.hear() == 0, worker.errors
    worker.must_end_well()


@pytest.mark.parametrize("road", ROADS)
def test_forks_while_other_threads_are_in_the_middle_of_calls_harm_neither_side(
    shared: SupervisorProcess, start_worker: StartWorker, road: str
) -> None:
    worker = start_worker(
        """
        import pgactor, threading
        client = pgactor.Client()
        stop = threading.Event()
        failures = []
        calls = [0] * 6

        def work(me):
            try:
                while not stop.is_set():
                    if calls[me] % 5 == 4:
                        with client.acquire() as lease, lease.transaction():
                            assert lease.fetchval("select $1::int", me) == me
                    else:
                        assert client.fetchval("select $1::int", me) == me
                    calls[me] += 1
            except BaseException as error:
                failures.append(repr(error))

        def child(number):
            for n in range(5):
                assert client.fetchval("select $1::int", number + n) == number + n
            with client.acquire() as lease:
                assert lease.fetchval("select 3") == 3
            client.close()

        threads = [threading.Thread(target=work, args=(me,)) for me in range(6)]
        for thread in threads:
            thread.start()
        children = []
        for number in range(12):
            done = sum(calls)
            while sum(calls) < done + 6:  # all of them are at it
                client.fetchval("select 1")
            children.append(fork(child, 100 * number))
        say([status_of(pid) for pid in children])
        stop.set()
        for thread in threads:
            thread.join()
        say(failures)
        client.close()
        """,
        of(shared, road),
    )
    assert worker.hear() == [0] * 12, worker.errors
    assert worker.hear() == []
    worker.must_end_well()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("road", ROADS)
def test_a_module_level_client_works_in_the_processes_of_multiprocessing(
    shared: SupervisorProcess, tmp_path: Path, road: str, method: str
) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            import pgactor

            client = pgactor.Client()

            def square(number):
                return client.fetchval("select $1::int * $1::int", number)

            if __name__ == "__main__":
                assert square(3) == 9
                with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
                    print(pool.map(square, range(20)))
                    pool.close()
                    pool.join()
                assert square(4) == 16
                client.close()
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, *STRICT, str(app), method],
        env=environment(PGACTOR_ENDPOINT=of(shared, road)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert stdout.strip() == str([n * n for n in range(20)])


# --- leases -----------------------------------------------------------------------------------------------------


WAYS = ["release", "with", "close", "collect", "sys.exit", "os._exit", "kill -9"]


@pytest.mark.parametrize("road", ROADS)
def test_a_lease_is_dead_in_a_child_and_nothing_done_there_ends_the_parents(
    shared: SupervisorProcess, start_worker: StartWorker, road: str
) -> None:
    worker = start_worker(
        """
        import gc, signal, pgactor
        client = pgactor.Client()
        lease = client.acquire(ttl=0.5)
        transaction = lease.transaction()
        transaction.start()
        session = lease.fetchval("select pg_backend_pid()")
        for way in sys.argv[1:]:
            if (pid := os.fork()) == 0:
                break
            say(status_of(pid))
        else:
            client.fetchval("select pg_sleep(0.8)")  # the lease idles for longer than its ttl: its renewal keeps it
            assert lease.is_in_transaction()
            assert lease.fetchval("select pg_backend_pid()") == session
            transaction.commit()
            lease.release()
            client.close()
            sys.exit()
        for use in (lambda: lease.fetchval("select 1"), lease.transaction, lease.is_in_transaction):
            try:
                use()
            except pgactor.LeaseLost as error:
                said = str(error)
            else:
                said = "the child used it"
        say(said)
        assert client.fetchval("select 1") == 1
        if way == "release":
            lease.release()
        elif way == "with":
            with lease:
                pass
        elif way == "close":
            client.close()
        elif way == "collect":
            del lease, transaction, client, use
            gc.collect()
        elif way == "sys.exit":
            sys.exit(0)
        elif way == "kill -9":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
        """,
        of(shared, road),
        *WAYS,
    )
    for way in WAYS:
        assert worker.hear() == "the lease belongs to the parent of this process: acquire one of your own"
        assert worker.hear() == (-9 if way == "kill -9" else 0), (way, worker.errors)
    worker.must_end_well()


def test_a_lease_of_the_child_is_its_own(shared: SupervisorProcess, start_worker: StartWorker) -> None:
    worker = start_worker(
        """
        import pgactor
        client = pgactor.Client()
        lease = client.acquire()

        def child():
            with client.acquire() as own:
                say([own.backend_pid, own.fetchval("select pg_backend_pid()")])

        pid = fork(child)
        say([lease.backend_pid, lease.fetchval("select pg_backend_pid()")])
        say(status_of(pid))
        lease.release()
        client.close()
        """,
        shared.ipc,
    )
    first, second, status = worker.hear(), worker.hear(), worker.hear()
    assert status == 0
    assert first[0] == first[1]
    assert second[0] == second[1]
    assert first[0] != second[0]
    worker.must_end_well()


ORPHANS = """
import pgactor
used = sys.argv[1] == "used"
client = pgactor.Client()
lease = client.acquire()
lease.execute("begin")

def child():
    if used:
        client.fetchval("select 1")
    say("alive")
    hear()

fork(child)
assert lease.fetchval("select 2") == 2
hear()
"""


@pytest.mark.parametrize("child", ["used", "unused"])
def test_a_killed_parents_lease_is_freed_at_once_although_its_child_lives(
    start_supervisor: StartSupervisor, start_worker: StartWorker, child: str
) -> None:
    supervisor = start_supervisor()
    worker = start_worker(ORPHANS, supervisor.ipc, child)
    assert worker.hear() == "alive"
    must_free_its_lease_at_once(worker, supervisor.ipc)


def test_on_tcp_a_killed_parents_lease_is_freed_when_it_was_silent_for_too_long_though_its_child_has_the_connection(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor(heartbeat_seconds=0.2, silence_seconds=1)
    worker = start_worker(ORPHANS, supervisor.tcp, "used")
    assert worker.hear() == "alive"
    assert state_of(supervisor.tcp).leased == 1
    worker.kill()
    until(lambda: state_of(supervisor.tcp).leased == 0)


def test_a_grandchild_keeps_nothing_of_a_killed_grandparent(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor()
    worker = start_worker(
        """
        import pgactor
        client = pgactor.Client()
        lease = client.acquire()

        def grandchild():
            client.fetchval("select 1")
            say("alive")
            hear()

        def child():
            fork(grandchild)
            hear()

        fork(child)
        hear()
        """,
        supervisor.ipc,
    )
    assert worker.hear() == "alive"
    must_free_its_lease_at_once(worker, supervisor.ipc)


def test_a_program_that_a_worker_starts_inherits_no_link(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor()
    worker = start_worker(
        """
        import pgactor, subprocess
        client = pgactor.Client()
        lease = client.acquire()
        program = "import os; os.write(1, b'1\\\\n'); os.read(0, 1)"
        subprocess.Popen([sys.executable, "-c", program], close_fds=False)
        hear()
        """,
        supervisor.ipc,
    )
    assert worker.hear() == 1
    must_free_its_lease_at_once(worker, supervisor.ipc)


def test_a_child_made_while_a_thread_was_connecting_holds_nothing_of_that_link(
    start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor()
    supervisor.process.send_signal(signal.SIGSTOP)  # its socket takes connections, but nobody greets
    try:
        worker = start_worker(
            """
            import pgactor, threading
            client = pgactor.Client()
            leases = []
            thread = threading.Thread(target=lambda: leases.append(client.acquire()))
            thread.start()
            sockets = lambda: sum("socket:" in os.readlink(f"/proc/self/fd/{fd}") for fd in fds())
            def fds():
                return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
            while not sockets():
                pass

            def child():
                say(sockets())
                hear()

            fork(child)
            say("forked")
            thread.join()
            say("leased")
            hear()
            """,
            supervisor.ipc,
        )
        said = {str(worker.hear()), str(worker.hear())}
    finally:
        supervisor.process.send_signal(signal.SIGCONT)
    assert worker.hear() == "leased"
    must_free_its_lease_at_once(worker, supervisor.ipc)
    assert said == {"0", "forked"}


# --- the asyncio client -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("order", ["parent first", "child first", "both at once"])
@pytest.mark.parametrize("road", ROADS)
def test_an_async_client_works_in_the_parents_loop_and_in_a_new_loop_of_the_child(
    shared: SupervisorProcess, start_worker: StartWorker, road: str, order: str, loop: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    worker = start_worker(
        """
        import asyncio, importlib, pgactor
        order, run = sys.argv[1], importlib.import_module(sys.argv[2]).run
        client = pgactor.AsyncClient()
        parent_is_done, child_is_done = Gate(), Gate()

        async def use(base):
            numbers = range(base, base + 40)
            assert await asyncio.gather(*[client.fetchval("select $1::int", n) for n in numbers]) == list(numbers)

        async def in_child():
            await use(1000)
            async with client.acquire() as lease, lease.transaction():
                assert await lease.fetchval("select 5") == 5
            await client.close()

        def child():
            if order == "parent first":
                parent_is_done.wait()
            run(in_child())
            child_is_done.open()

        async def main():
            await use(1)
            pid = fork(child)
            if order == "child first":
                child_is_done.wait()
            await use(2000)
            parent_is_done.open()
            say(await asyncio.to_thread(status_of, pid))
            await use(3000)
            await client.close()

        run(main())
        """,
        of(shared, road),
        order,
        loop,
    )
    assert worker.hear() == 0, worker.errors
    worker.must_end_well()


@pytest.mark.parametrize("road", ROADS)
def test_an_async_lease_is_dead_in_a_child_and_nothing_done_there_ends_the_parents(
    shared: SupervisorProcess, start_worker: StartWorker, road: str
) -> None:
    ways = ["release", "use", "close", "end"]
    worker = start_worker(
        """
        import asyncio, pgactor
        client = pgactor.AsyncClient()

        async def in_child(way, lease):
            try:
                await lease.fetchval("select 1")
            except pgactor.LeaseLost as error:
                say(str(error))
            else:
                say("the child used it")
            if way == "release":
                lease.release()
                await client.release(lease)
            elif way == "use":
                async with client.acquire() as own:
                    assert await own.fetchval("select 1") == 1
            elif way == "close":
                await client.close()

        async def main():
            async with client.acquire(ttl=0.5) as lease, lease.transaction():
                session = await lease.fetchval("select pg_backend_pid()")
                for way in sys.argv[1:]:
                    pid = fork(lambda: asyncio.run(in_child(way, lease)))
                    say(await asyncio.to_thread(status_of, pid))
                await client.fetchval("select pg_sleep(0.8)")
                assert await lease.fetchval("select pg_backend_pid()") == session
                assert lease.is_in_transaction()
            await client.close()

        asyncio.run(main())
        """,
        of(shared, road),
        *ways,
    )
    for _ in ways:
        assert worker.hear() == "the lease belongs to the parent of this process: acquire one of your own"
        assert worker.hear() == 0, worker.errors
    worker.must_end_well()


@pytest.mark.parametrize("child", ["used", "unused"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_killed_parents_async_lease_is_freed_at_once_although_its_child_lives(
    start_supervisor: StartSupervisor, start_worker: StartWorker, loop: str, child: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    supervisor = start_supervisor()
    worker = start_worker(
        """
        import asyncio, importlib, pgactor
        used, run = sys.argv[1] == "used", importlib.import_module(sys.argv[2]).run
        client = pgactor.AsyncClient()

        async def in_child():
            await client.fetchval("select 1")
            say("alive")
            hear()

        def child():
            if used:
                run(in_child())
            else:
                say("alive")
                hear()

        async def main():
            lease = await client.acquire()
            await lease.execute("begin")
            fork(child)
            assert await lease.fetchval("select 2") == 2
            await asyncio.to_thread(hear)

        run(main())
        """,
        supervisor.ipc,
        child,
        loop,
    )
    assert worker.hear() == "alive"
    must_free_its_lease_at_once(worker, supervisor.ipc)


def test_nothing_is_left_of_all_these_workers(shared: SupervisorProcess) -> None:
    with Client(shared.ipc, label="last") as client:
        until(lambda: client.status().leased == 0)
        until(lambda: [w.label for w in client.status().workers if w.road == "ipc"] == ["last"])
        assert client.status().waiting == 0
