"""PostgreSQL crashes under load and comes back, or says goodbye: every request ends once, as what it is, and the pool
is whole again by itself, without a storm."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import Future
from typing import Any

import asyncpg
import pytest

from pgactor import LeaseError, OutcomeUnknown, PgactorError
from tests.faults.postgres_servers import Proxy, Serve, Server, connected, full_service
from tests.integration.conftest import OpenClient
from tests.integration.driving import Driven, LoopThread
from tests.supervising import until

pytestmark = pytest.mark.xdist_group("postgres restarts")

KINDS = ("sync-ipc", "async-ipc", "async-tcp")
PATIENCE = 20.0

NOT_STORED = (LeaseError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
"""Errors after which a write has certainly not happened, beside those that may be tried again."""


class Load:
    """Clients that write numbers and read them, in statements, batches and leases, until they are to stop.

    stored: what was acknowledged. not_stored: what was said not to have happened. unknown: of what nobody knows.
    strange: whatever should not have been said.
    """

    def __init__(self, clients: list[Driven], table: str) -> None:
        self.stored: list[int] = []
        self.not_stored: list[int] = []
        self.unknown: list[int] = []
        self.strange: list[Any] = []
        self.slowest = 0.0
        self._numbers = itertools.count(1)
        self._insert = f"insert into {table} values ($1)"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(client,)) for client in clients]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let what has begun come to its end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a request hangs"

    def check(self, found: Counter[int]) -> None:
        """Compare what was said with what is in the table."""
        assert self.strange == []
        assert max(found.values(), default=1) == 1
        assert set(self.stored) <= set(found), "what was acknowledged is there"
        assert not set(self.not_stored) & set(found), "what was said not to have run has not"
        assert set(found) <= {*self.stored, *self.unknown}
        assert self.slowest < PATIENCE

    def _work(self, client: Driven) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            calls: list[tuple[int, Future[Any]]] = []
            for _ in range(8):
                number = next(self._numbers)
                calls.append((number, client.begin("execute", self._insert, number, timeout=PATIENCE)))
                calls.append((0, client.begin("fetchval", "select 7", timeout=PATIENCE)))
                number = next(self._numbers)
                calls.append((number, client.begin("batch", [(self._insert, number)], timeout=PATIENCE)))
            for number, call in calls:
                self._note(number, call.exception(2 * PATIENCE))
            self._lease(client, next(self._numbers))
            self.slowest = max(self.slowest, time.monotonic() - began)

    def _lease(self, client: Driven, number: int) -> None:
        """A transaction, statement by statement: whatever goes wrong before COMMIT is sent has not happened."""
        committing = False
        try:
            lease = client.acquire(timeout=PATIENCE)
            try:
                lease.execute("begin", timeout=PATIENCE)
                lease.execute(self._insert, number, timeout=PATIENCE)
                committing = True
                lease.execute("commit", timeout=PATIENCE)
            finally:
                lease.release()
        except Exception as error:
            sure = not committing and isinstance(error, OutcomeUnknown)
            self._note(number, LeaseError("it was not committed") if sure else error)
        else:
            self._note(number, None)

    def _note(self, number: int, error: BaseException | None) -> None:
        if error is None:
            self.stored += [number] * (number > 0)  # 0 is a read
        elif isinstance(error, OutcomeUnknown):
            self.unknown.append(number)
        elif isinstance(error, NOT_STORED) or (isinstance(error, PgactorError) and error.retry):
            self.not_stored.append(number)
        else:
            self.strange.append(error)


@pytest.fixture
def load_table(admin: Driven) -> str:
    admin.execute("drop table if exists written; create table written (number int)")
    return "written"


@pytest.mark.parametrize(("mode", "lane"), [("immediate", "on"), ("immediate", "off"), ("fast", "on")])
def test_under_load_a_restart_costs_what_was_in_flight_and_nothing_is_lost_or_doubled(
    serve: Serve,
    open_client: OpenClient,
    postgres: Server,
    proxy: Proxy,
    loop_thread: LoopThread,
    load_table: str,
    lane: str,
    mode: str,
) -> None:
    supervisor = serve(postgres.dsn(proxy.port), max_size=4, pool={"statement_lane": lane})
    clients = [open_client(supervisor, kind) for kind in KINDS]
    load = Load(clients, load_table)
    storms = []
    try:
        for _ in range(2):
            before = len(load.stored)
            until(lambda: len(load.stored) > before + 100 or load.strange)  # noqa: B023  # called at once
            attempts, lost = len(proxy.attempts), clients[0].status().counters["connections_lost"]
            down = time.monotonic()
            postgres.stop(mode)
            until(lambda: clients[0].status().database.startswith("failing: "))
            until(lambda: len(proxy.attempts) >= attempts + 8)  # noqa: B023
            assert clients[0].status().counters["connections_lost"] > lost
            postgres.start()
            storms.append((len(proxy.attempts) - attempts, time.monotonic() - down))
            before = len(load.stored)
            until(lambda: len(load.stored) > before + 100 or load.strange)  # noqa: B023
    finally:
        load.stop()
    full_service(clients[0], 4)
    with connected(postgres.dsn(), loop_thread) as db:
        load.check(Counter(row["number"] for row in db.fetch(f"select number from {load_table}")))
    for attempts, seconds in storms:
        # One at a time, 0.025 to 0.05 s after the first failure, then 0.05 to 0.1, 0.1 to 0.2, 0.2 to 0.4 ..., beside
        # four at most before the first failure, four if one still succeeds amid the shutdown, and four at the end.
        assert attempts <= 12 + 4 + seconds / 0.2


def test_who_listens_is_told_of_the_gap_and_hears_again(
    serve: Serve, open_client: OpenClient, postgres: Server, proxy: Proxy, loop_thread: LoopThread
) -> None:
    supervisor = serve(postgres.dsn(proxy.port), max_size=1, min_size=0)
    client = open_client(supervisor, "sync-ipc")
    with client.listen("restarts") as subscription:
        client.notify("restarts", "before")
        notes = iter(subscription.target)
        assert next(notes).payload == "before"
        attempts, down = len(proxy.attempts), time.monotonic()
        postgres.stop()
        until(lambda: len(proxy.attempts) >= attempts + 3)
        postgres.start()
        seconds = time.monotonic() - down
        assert next(notes).gap
        assert len(proxy.attempts) - attempts <= 5 + seconds / 0.2
        client.notify("restarts", "after")
        assert next(notes).payload == "after"
