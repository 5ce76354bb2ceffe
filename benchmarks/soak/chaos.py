"""All that may go wrong, at random, and often: in a thread of its own.

Workers are killed, stopped and woken, PostgreSQL is restarted as by a crash, and the supervisor killed and started
again; somebody reads none of his replies, somebody asks far too much, the pool grows and shrinks. (Backends are the
disturber's.) The supervisor is killed in the first part of the run only: after that one of them lives long, so that
it can be seen whether its memory grows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

from pgactor import AsyncClient, PgactorError

from .background import Background
from .crew import Crew
from .postgres import Postgres
from .supervisor import Supervisor

PAUSE_SECONDS = 1.2
"""Between two of them, at most."""

SUPERVISORS_PART = 0.22
"""In this part of the run, its first, the supervisor is killed at times."""

STOPPED_SECONDS = 2.5
FLOOD = 3000
UNREAD = 800
_UNREAD = "select repeat('x', 1000) as x from generate_series(1, 30)"


class Chaos(Background):
    """For so many seconds. violations: what it has found itself."""

    def __init__(
        self, postgres: Postgres, supervisor: Supervisor, crew: Crew, *, connections: int, seconds: float, seed: int
    ) -> None:
        super().__init__()
        self._postgres = postgres
        self._supervisor = supervisor
        self._crew = crew
        self._connections = connections
        self._seconds = seconds
        self._random = Random(f"{seed} chaos")
        self.violations: list[str] = []

    async def _work(self) -> None:
        began = time.monotonic()
        faults: list[tuple[float, str, Callable[[], Awaitable[None]]]] = [
            (5, "workers killed", self._kill),
            (6, "workers stopped for a while", self._stop),
            (2, "readers that do not read", self._read_nothing),
            (2, "floods", self._flood),
            (4, "pool sizes changed", self._resize),
        ]
        if self._postgres.can_restart:
            faults.append((2, "PostgreSQL restarted", self._restart_postgres))
        with_supervisor = [*faults, (2, "supervisors killed", self._restart_supervisor)]
        while not self._stopped.is_set():
            await asyncio.sleep(self._random.random() * PAUSE_SECONDS)
            passed = time.monotonic() - began
            if passed > self._seconds * 0.95:
                continue  # let all come to rest
            possible = with_supervisor if passed < self._seconds * SUPERVISORS_PART else faults
            [(_, name, fault)] = self._random.choices(possible, [weight for weight, *_ in possible])
            try:
                await fault()
                self.done[name] += 1
            except PgactorError:
                self.done["faults that were refused"] += 1

    async def _kill(self) -> None:
        self._crew.kill_one()

    async def _stop(self) -> None:
        with self._crew.stopped_one():
            await asyncio.sleep(self._random.random() * STOPPED_SECONDS)

    async def _restart_postgres(self) -> None:
        await asyncio.to_thread(self._postgres.restart)

    async def _restart_supervisor(self) -> None:
        await asyncio.to_thread(self._supervisor.restart)

    async def _read_nothing(self) -> None:
        async with AsyncClient(self._supervisor.ipc, label="reads nothing") as client:
            await client.fetch(_UNREAD)
            loop = asyncio.get_running_loop()
            connected = client._channels[loop]._connected
            assert connected is not None
            asked = [asyncio.create_task(client.fetch(_UNREAD)) for _ in range(UNREAD)]
            await asyncio.sleep(0.001)
            loop.remove_reader(connected.link._socket.fileno())  # type: ignore[attr-defined]
            await asyncio.sleep(0.5 + self._random.random())
        await asyncio.gather(*asked, return_exceptions=True)

    async def _flood(self) -> None:
        async with AsyncClient(self._supervisor.ipc, label="flood") as client:
            asked = [client.fetchval("select $1::int", each, timeout=2) for each in range(FLOOD)]
            for number, end in enumerate(await asyncio.gather(*asked, return_exceptions=True)):
                if end != number and not isinstance(end, Exception):
                    self.violations.append(f"in a flood: expected {number}, got {end!r}")

    async def _resize(self) -> None:
        async with AsyncClient(self._supervisor.ipc, label="resizes") as client:
            await client.resize(self._random.randint(2, self._connections))
