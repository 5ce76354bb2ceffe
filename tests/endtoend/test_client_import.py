"""What importing and using a client costs a worker, and what it leaves at the worker's exit."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from tests.endtoend.processes import STRICT, environment, without_slowness
from tests.supervising import SupervisorProcess

ROADS = ["ipc", "tcp"]
HEAVY = "asyncpg", "zmq", "uvloop", "click", "rich", "pgactor.core", "pgactor.actors", "pgactor.cli"


def run(source: str, endpoint: str = "") -> subprocess.CompletedProcess[str]:
    """Run the source in a fresh interpreter that makes every warning an error."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, *STRICT, "-c", textwrap.dedent(source)],
        env=environment(PGACTOR_ENDPOINT=endpoint),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert time.monotonic() - started < 10, "it hung at exit"
    done.stderr = without_slowness(done.stderr)
    return done


def must_be_silent(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, "")


FOUND = f"""
import sys
found = sorted(m for m in sys.modules if any(m == heavy or m.startswith(heavy + ".") for heavy in {HEAVY}))
assert not found, found
"""


@pytest.mark.parametrize("name", ["Client", "AsyncClient", "create_pool", "LeaseLost"])
def test_importing_a_name_imports_nothing_of_the_supervisors_side(name: str) -> None:
    must_be_silent(run(f"import pgactor\npgactor.{name}\n" + FOUND))


def test_the_first_uses_on_ipc_import_nothing_of_it_either(shared: SupervisorProcess) -> None:
    source = """
    import pgactor
    with pgactor.Client() as client:
        assert client.fetch("select 1 as a, now() as b, 1.5::numeric as c")[0]["a"] == 1
        client.executemany("select $1::int", [(1,), (2,)])
        with client.transaction() as lease:
            lease.execute("select 1")
        client.status()
    """
    must_be_silent(run(textwrap.dedent(source) + FOUND, shared.ipc))


def test_the_blocking_client_needs_no_asyncio(shared: SupervisorProcess) -> None:
    source = """
    import pgactor, sys
    with pgactor.Client() as client:
        client.fetch("select 1")
    assert "asyncio" not in sys.modules
    """
    must_be_silent(run(source, shared.ipc))


EXITS = {
    "an unclosed client": """
        import pgactor
        client = pgactor.Client()
        client.fetchval("select 1")
    """,
    "a client that went out of scope": """
        import gc, pgactor
        def use():
            pgactor.Client().fetchval("select 1")
        use()
        gc.collect()
    """,
    "an unclosed client that never connected": """
        import pgactor
        client = pgactor.Client("ipc:///nowhere/at/all.sock")
    """,
    "a held lease": """
        import pgactor
        client = pgactor.Client()
        lease = client.acquire(ttl=1)
        lease.execute("begin")
    """,
    "a lease that went out of scope": """
        import gc, pgactor
        def use():
            pgactor.Client().acquire().execute("begin")
        use()
        gc.collect()
    """,
    "a daemon thread in the middle of a call": """
        import pgactor, threading, time
        client = pgactor.Client()
        threading.Thread(target=client.execute, args=("select pg_sleep(20)",), daemon=True).start()
        while not client.status().busy:
            pass
    """,
    "a thread that ends after the main one": """
        import pgactor, threading
        client = pgactor.Client()
        def work():
            threading.main_thread().join()
            with client.acquire() as lease:
                assert lease.fetchval("select 1") == 1
        threading.Thread(target=work).start()
    """,
    "an uncaught error of the database": """
        import pgactor, sys
        sys.excepthook = lambda kind, error, trace: None
        client = pgactor.Client()
        lease = client.acquire()
        import atexit, os
        atexit.register(lambda: os._exit(0))
        lease.execute("selekt 1")
    """,
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("left", EXITS)
def test_the_interpreter_exits_quickly_and_silently_with(shared: SupervisorProcess, left: str, road: str) -> None:
    must_be_silent(run(EXITS[left], getattr(shared, road)))


ASYNC_EXITS = {
    "an unclosed client": """
        import asyncio, pgactor
        client = pgactor.AsyncClient()
        asyncio.run(asyncio.wait_for(client.fetchval("select 1"), 20))
    """,
    "a held lease": """
        import asyncio, pgactor
        client = pgactor.AsyncClient()
        async def main():
            global lease
            lease = await client.acquire(ttl=1)
            await lease.execute("begin")
        asyncio.run(main())
    """,
    "a task in the middle of a call": """
        import asyncio, pgactor
        client = pgactor.AsyncClient()
        async def main():
            asyncio.create_task(client.execute("select pg_sleep(20)"))
            while not (await client.status()).busy:
                pass
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("left", ASYNC_EXITS)
def test_the_interpreter_exits_quickly_with_an_async_client_and(
    shared: SupervisorProcess, left: str, road: str
) -> None:
    done = run(ASYNC_EXITS[left], getattr(shared, road))
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not is_of_resource_warning(line)] == []


def is_of_resource_warning(line: str) -> bool:
    """As of any asyncio library whose client was not closed, Python tells of it, but only where warnings are on."""
    return line.startswith(("ResourceWarning: ", "Exception ignored in: ", "Traceback ", "  "))


@pytest.mark.parametrize("road", ROADS)
def test_a_closed_async_client_leaves_nothing_to_warn_of(shared: SupervisorProcess, road: str) -> None:
    source = """
    import asyncio, pgactor
    async def main():
        async with pgactor.AsyncClient() as client:
            async with client.acquire() as lease, lease.transaction():
                await lease.fetch("select 1")
            lease = await client.acquire()
            await client.fetch("select 1")
    asyncio.run(main())
    """
    must_be_silent(run(source, getattr(shared, road)))
