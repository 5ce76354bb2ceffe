"""What a worker does to come into each state of a lease, to stay there, and to go on.

Each of `STATES` runs in a thread of a worker process (worker.py), with either client. It says when it is there,
waits for the test, goes on, and returns a word that tells how that went.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tests.integration.driving import Driven

ADDED = 1000
"""What a worker adds to its row in a transaction that it may not live to commit."""

COPIED = 40_000
"""Rows that it copies before it stops: more than a chunk of data, so that some of it is in PostgreSQL."""

STUBBORN = """
do $$ begin
    perform pg_sleep(60);
exception when query_canceled then
    perform pg_advisory_xact_lock({gate});
end $$
"""
"""A statement that does not end when it is cancelled, but when the test gives the gate free."""


class Post:
    """Where a worker stands. client: a `Client`, or a `Driven` AsyncClient. table: with its row `row`. gate: the
    number of an advisory lock that the test holds. arrived: tells that it is there. go_on: the test says so."""

    def __init__(
        self, client: Any, *, table: str, row: int, gate: int, ttl: float | None, arrived: Callable[[], None]
    ) -> None:
        self.client = client
        self.table = table
        self.row = row
        self.gate = gate
        self.ttl = ttl
        self.arrived = arrived
        self.go_on = threading.Event()
        self.lease: Any = None

    def acquire(self) -> Any:
        """The worker's lease."""
        self.lease = self.client.acquire(timeout=60, ttl=self.ttl)
        return self.lease

    def stay(self) -> None:
        """Be there, until the test says otherwise."""
        self.arrived()
        self.go_on.wait()

    @property
    def is_async(self) -> bool:
        """Which of the clients it is."""
        return isinstance(self.client, Driven)


def queued(post: Post) -> str:
    """It waits for a backend."""
    post.arrived()
    return use(post.acquire())


def granted(post: Post) -> str:
    """The lease was granted, and the worker does not know: it has not read the answer."""
    return queued(post)


def idle(post: Post) -> str:
    """It has a lease, and has not used it."""
    lease = post.acquire()
    post.stay()
    return use(lease)


def running(post: Post) -> str:
    """A statement runs, until the gate is free."""
    lease = post.acquire()
    post.arrived()
    lease.execute("select pg_advisory_xact_lock($1)", post.gate)
    return use(lease)


def in_a_transaction(post: Post) -> str:
    """It holds locks of every kind, a temporary table and a setting, in a transaction with an open savepoint."""
    lease = post.acquire()
    with lease.transaction():
        _touch_everything(post, lease)
        with lease.transaction():
            lease.execute("select 1")
            post.stay()
            word = use(lease)
    return word


def resetting(post: Post) -> str:
    """It has released its lease, and the backend is not ready for the next yet: what ran does not end at once."""
    lease = post.acquire()
    lease.execute("begin")
    _touch_everything(post, lease)
    errors: list[str] = []
    thread = threading.Thread(target=_run_into_the_release, args=(post, lease, errors), daemon=True)
    thread.start()
    sql = "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"
    while not post.client.fetchval(sql, _target(lease).backend_pid):
        time.sleep(0.005)
    lease.release()
    post.stay()
    thread.join()
    return errors[0]


def copying_in(post: Post) -> str:
    """It has sent some of the rows of a COPY, and has more."""
    lease = post.acquire()

    first = b"".join(b"%d\t0\n" % -(post.row * COPIED + each) for each in range(COPIED))

    def pieces() -> Iterator[bytes]:
        yield first
        post.stay()

    async def pieces_of_async() -> AsyncIterator[bytes]:
        yield first
        await _stay_async(post)

    source = pieces_of_async() if post.is_async else pieces()
    return str(lease.copy_to_table(post.table, source=source))


def copying_out(post: Post) -> str:
    """It has taken some of the data of a COPY, of which there is more than may be on its way."""
    lease = post.acquire()

    def take(data: bytes) -> None:
        if not post.go_on.is_set():
            post.stay()

    async def take_async(data: bytes) -> None:
        if not post.go_on.is_set():
            await _stay_async(post)

    sql = "select repeat('x', 1000) from generate_series(1, 5000)"
    return str(lease.copy_from_query(sql, output=take_async if post.is_async else take))


def in_a_cursor(post: Post) -> str:
    """It has fetched some of a cursor's rows."""
    lease = post.acquire()
    with lease.transaction():
        _touch_everything(post, lease)
        cursor = lease.cursor("select generate_series(1, 1000)")
        if post.is_async:
            cursor = Driven(cursor, lease.loop)
        assert len(cursor.fetch(10)) == 10
        post.stay()
        assert cursor.fetchrow()[0] == 11
    return "went on"


STATES = {
    each.__name__: each
    for each in (idle, running, in_a_transaction, resetting, copying_in, copying_out, in_a_cursor, granted, queued)
}


def use(lease: Any) -> str:
    """A lease that was not lost is on the backend that it was granted."""
    assert lease.fetchval("select pg_backend_pid()") == _target(lease).backend_pid
    return "went on"


def _touch_everything(post: Post, lease: Any) -> None:
    lease.execute(f"update {post.table} set value = value + {ADDED} where id = {post.row}")
    lease.execute(
        "select pg_advisory_lock($1), pg_advisory_xact_lock($2)", post.gate + post.row, -post.gate - post.row
    )
    lease.execute("create temp table mine (id int)")
    lease.execute("set work_mem = '1234kB'")


def _run_into_the_release(post: Post, lease: Any, errors: list[str]) -> None:
    try:
        lease.execute(STUBBORN.format(gate=post.gate))
    except Exception as error:
        errors.append(type(error).__name__)
    else:
        errors.append("it ended")


async def _stay_async(post: Post) -> None:
    post.arrived()
    while not post.go_on.is_set():
        await asyncio.sleep(0.01)


def _target(lease: Any) -> Any:
    return lease.target if isinstance(lease, Driven) else lease
