"""A lease from its grant on: its time, its listeners."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pgactor import AsyncClient, Client
from pgactor.client.leased import Callback, Leased, as_callback
from pgactor.messages.session import Notice

from .memory import ENDPOINT, MemorySupervisor, granted
from .virtual import THREAD_SECONDS


def test_a_listener_that_another_thread_adds_while_a_notice_is_told_hears_the_next_one() -> None:
    class Lease(Leased):
        told = 0

        def _callback(self, callback: Callable[..., Any]) -> Callback:
            return as_callback(callback)

        def _dispatch(self, callback: Callback, *args: object) -> None:
            self.told += 1
            self.add_log_listener(lambda *_: None)  # in the middle, as another thread may

    lease = Lease(granted(1), time.monotonic(), "ipc:///run/nowhere.sock")  # type: ignore[abstract]
    lease._connected = SimpleNamespace(tell=lambda _: None)  # type: ignore[assignment]
    lease.add_log_listener(lambda *_: None)
    lease.pushed(Notice(lease.token, {"message": "one"}))
    assert lease.told == 1
    lease.pushed(Notice(lease.token, {"message": "two"}))
    assert lease.told == 3


def test_the_wait_for_a_supervisor_is_no_part_of_a_leases_time(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = MemorySupervisor().serve(monkeypatch)
    connected_at = []

    def connecting() -> None:
        time.sleep(0.1)
        connected_at.append(time.monotonic())

    supervisor.connecting = connecting
    client = Client(ENDPOINT)
    with ThreadPoolExecutor() as threads:
        acquiring = threads.submit(client.acquire)
        link = supervisor.next_link()
        link.say(granted(link.next_request().id, ttl=3000.0))
        lease = acquiring.result(THREAD_SECONDS)
    assert lease._expires_at >= connected_at[0] + 3000.0
    client.close()

    async def story() -> None:
        async_client = AsyncClient(ENDPOINT)
        acquiring = asyncio.ensure_future(async_client.acquire())
        while not (supervisor.aiolinks and supervisor.aiolinks[0].requests):
            await asyncio.sleep(0)
        link = supervisor.aiolinks[0]
        link.say(granted(link.requests[0].id, ttl=3000.0))
        assert (await acquiring)._expires_at >= connected_at[1] + 3000.0
        await async_client.close()

    asyncio.run(story())
