"""The supervisor's own key is changed while it serves, under load: nobody who is there notices."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pgactor import AsyncClient, Client, SupervisorUnavailable
from tests.security.conftest import KeyFiles, keygen
from tests.supervising import SupervisorProcess, until

SOON = 10.0

Serving = Callable[..., SupervisorProcess]


class ServerKeys:
    """The supervisor's keys, one after the other."""

    def __init__(self, keys: KeyFiles, client: Path) -> None:
        self._keys = keys
        self._client = client
        self.public = [keys.server]

    def make(self) -> Path:
        """Another one; returns its secret file."""
        folder = self._keys.folder / f"next{len(self.public)}"
        keygen("server", "--directory", str(folder))
        self.public.append(folder / "server.pub")
        return folder / "server.key"

    def options(self, *numbers: int) -> dict[str, Any]:
        """What a client is made with that has been given these of them."""
        return {"server_key": ",".join(str(self.public[number]) for number in numbers), "key": str(self._client)}


@pytest.fixture
def server_keys(keys: KeyFiles) -> ServerKeys:
    return ServerKeys(keys, keys.client("app"))


def reload(supervisor: SupervisorProcess, words: str) -> None:
    """SIGHUP, until the log says so."""
    before = len(supervisor.log.read_text())
    supervisor.process.send_signal(signal.SIGHUP)
    until(lambda: words in supervisor.log.read_text()[before:])


async def test_a_new_server_key_is_used_for_new_links_under_load_without_one_failing_request(
    keys: KeyFiles, server_keys: ServerKeys, serving: Serving
) -> None:
    coming = server_keys.make()
    supervisor = serving()
    stop = threading.Event()
    done: dict[int, int] = {}

    def blocking(worker: int) -> None:
        with Client(supervisor.tcp, **server_keys.options(0, 1)) as client:
            for number in itertools.count(1):
                if stop.is_set():
                    return
                assert client.fetchval("select $1::int", number) == number
                done[worker] = number

    def fresh(worker: int) -> None:
        """A link for each request: at any time, some are being made."""
        for number in itertools.count(1):
            if stop.is_set():
                return
            with Client(supervisor.tcp, **server_keys.options(0, 1)) as client:
                assert client.fetchval("select $1::int", number) == number
            done[worker] = number

    async def asking(worker: int, client: AsyncClient) -> None:
        for number in itertools.count(1):
            if stop.is_set():
                return
            assert await client.fetchval("select $1::int", number) == number
            done[worker] = number

    async def more() -> None:
        """Each has done some more."""
        reached = {worker: done.get(worker, 0) + 5 for worker in range(len(tasks))}
        while any(done.get(worker, 0) < reached[worker] for worker in reached):
            for task in tasks:
                assert not task.done(), task.result()
            await asyncio.sleep(0.01)

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(4) as threads:
        async with AsyncClient(supervisor.tcp, **server_keys.options(0)) as with_the_old_one:
            lease = await with_the_old_one.acquire()
            await lease.execute("create temporary table mine (id int)")
            tasks = [loop.run_in_executor(threads, blocking, 0), loop.run_in_executor(threads, blocking, 1)]
            tasks += [loop.run_in_executor(threads, fresh, 2), loop.run_in_executor(threads, fresh, 3)]
            tasks += [asyncio.ensure_future(asking(worker, with_the_old_one)) for worker in range(4, 8)]
            try:
                await more()
                links = {worker.number for worker in (await with_the_old_one.status()).workers}
                coming.replace(keys.folder / "server.key")
                await asyncio.to_thread(reload, supervisor, "reloaded: curve.server_key")
                await more()
            finally:
                stop.set()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert [end for end in ends if end is not None] == []
            assert await lease.fetchval("select count(*) from mine") == 0, "it goes on, with its link"
            assert links & {worker.number for worker in (await with_the_old_one.status()).workers}
            await with_the_old_one.release(lease)
    with Client(supervisor.tcp, **server_keys.options(1)) as client:
        assert client.fetchval("select 1") == 1
    await asyncio.to_thread(must_be_told_of_the_key, supervisor, server_keys.options(0))


def must_be_told_of_the_key(supervisor: SupervisorProcess, options: dict[str, Any]) -> None:
    with (
        Client(supervisor.tcp, connect_timeout=1.0, **options) as client,
        pytest.raises(SupervisorUnavailable, match="is server_key its own"),
    ):
        client.fetchval("select 1")


def test_it_is_changed_as_often_as_one_likes_and_only_the_newest_counts(
    keys: KeyFiles, server_keys: ServerKeys, serving: Serving
) -> None:
    supervisor = serving()
    for number in (1, 2, 3):
        server_keys.make().replace(keys.folder / "server.key")
        reload(supervisor, "reloaded: curve.server_key")
        for _ in range(5):
            with Client(supervisor.tcp, **server_keys.options(number)) as client:
                assert client.fetchval("select 1") == 1
        must_be_told_of_the_key(supervisor, server_keys.options(number - 1))
    reload(supervisor, "reloaded: nothing has changed")


def test_a_key_that_cannot_be_read_is_refused_and_the_old_one_stays(
    keys: KeyFiles, server_keys: ServerKeys, serving: Serving
) -> None:
    supervisor = serving()
    secret = keys.folder / "server.key"
    secret.write_text('secret_key = "short"\n')
    reload(supervisor, "server.key: secret_key is expected to be a key of 40 characters")
    secret.unlink()
    reload(supervisor, "nothing has changed: the secret key is expected to be the path of a file")
    with Client(supervisor.tcp, **server_keys.options(0)) as client:
        assert client.fetchval("select 1") == 1


def test_another_file_may_be_named_and_the_directory_of_clients_needs_a_restart(
    keys: KeyFiles, server_keys: ServerKeys, serving: Serving
) -> None:
    supervisor = serving()
    path = Path(supervisor.command[-1])
    text = path.read_text()
    path.write_text(text.replace(f"{keys.folder}/server.key", str(server_keys.make())))
    reload(supervisor, "reloaded: curve.server_key")
    with Client(supervisor.tcp, **server_keys.options(1)) as client:
        assert client.fetchval("select 1") == 1
    path.write_text(text.replace(str(keys.permits), str(keys.folder)))
    reload(supervisor, "curve is different now, but only a restart can change it")


def test_nobody_else_can_listen_at_the_port(server_keys: ServerKeys, keys: KeyFiles, serving: Serving) -> None:
    supervisor = serving()
    server_keys.make().replace(keys.folder / "server.key")
    reload(supervisor, "reloaded: curve.server_key")
    other = serving(endpoints=[supervisor.tcp], wait=False)
    assert other.process.wait(SOON) == 1
    assert "Address already in use" in other.log.read_text()
    with Client(supervisor.tcp, **server_keys.options(1)) as client:
        assert client.fetchval("select 1") == 1
