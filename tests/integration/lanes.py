"""Driving the statement lane: many statements at once, and one that stands still while others stand behind it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from tests.integration.driving import PATIENCE, Driven
from tests.supervising import until

LANES = ("on", "off")

DEEP = {"pipeline_stall_seconds": 30, "pipeline_short_seconds": 1, "pipeline_depth": 32}
"""[pool] settings with which statements stand behind one that stands still."""

QUICK_COMMIT = {"server_settings": {"synchronous_commit": "off"}}
"""[connect] settings with which writes are short."""

GATES = """
    create sequence {schema}.runs;
    create table {schema}.kept (value int);
    create function {schema}.gate(key int, value int) returns int language plpgsql as $$
        begin
            perform nextval('{schema}.runs');
            if key > 0 then perform pg_advisory_xact_lock_shared(key); end if;
            return value;
        end $$;
    create function {schema}.put(key int, value int) returns int language plpgsql as $$
        begin
            insert into {schema}.kept values (value);
            return {schema}.gate(key, value);
        end $$;
"""
"""gate: counts its runs, waits while another session has the key's advisory lock (0: never), and returns the value.
put: keeps the value, too: a write that does not look like one, and so may stand anywhere."""

QUIET_SECONDS = 0.5
"""No more get to a backend if none have for so long."""

_keys = itertools.count(1000)


def new_key() -> int:
    """The key of a gate."""
    return next(_keys)


@contextmanager
def shut_gate(db: Driven, key: int | None = None) -> Iterator[int]:
    """A gate, of that key or a new one, that is shut until the end."""
    key = key or new_key()
    db.fetch("select pg_advisory_lock($1)", key)
    try:
        yield key
    finally:
        db.fetch("select pg_advisory_unlock($1)", key)


@contextmanager
def schema_of_gates(db: Driven, name: str) -> Iterator[str]:
    """A schema with `GATES`, dropped at the end."""
    db.execute(f"drop schema if exists {name} cascade; create schema {name};" + GATES.format(schema=name))
    try:
        yield name
    finally:
        db.execute(f"drop schema {name} cascade")


def together(client: Driven, *calls: tuple[Any, ...]) -> list[Future[Any]]:
    """Begin the calls, each (method, *args) or (method, *args, {option: value}), in one turn of the loop, so that
    they leave in one frame."""
    started: Future[list[Future[Any]]] = Future()
    assert client.loop is not None

    def start() -> None:
        begun = []
        for method, *args in calls:
            options = args.pop() if args and isinstance(args[-1], dict) else {}
            begun.append(client.begin(method, *args, **options))
        started.set_result(begun)

    client.loop.loop.call_soon_threadsafe(start)
    return started.result(PATIENCE)


def results(calls: list[Future[Any]]) -> list[Any]:
    """What each returns, or the exception that it raises."""
    return [call.exception(PATIENCE) or call.result(PATIENCE) for call in calls]


def train(client: Driven, sql: str, *args: Any) -> None:
    """Run the statement until it is known to be short."""
    for _ in range(10):
        for call in together(client, *[("fetchval", sql, *args)] * 20):
            call.result(PATIENCE)


def in_flight(client: Driven) -> int:
    """How many requests have been sent to a backend."""
    return sum(worker.running for worker in client.status().workers)


def line_up(client: Driven, lane: str, *calls: tuple[Any, ...]) -> list[Future[Any]]:
    """Begin the calls, of which one stands still; return when those behind it are on the same backend, in the order
    given. (In the session lane they wait in the queue; in the statement lane some do if PostgreSQL has been slow.)"""
    begun = together(client, *calls)

    def quiet() -> bool:
        missing = sum(not call.done() for call in begun)
        there = in_flight(client)
        now = time.monotonic()
        depths.append((there if missing else 0, now))
        since = next((at for depth, at in reversed(depths) if depth != there), depths[0][1])
        return there >= missing or now - since > QUIET_SECONDS

    depths: list[tuple[int, float]] = []
    until(quiet if lane == "on" else lambda: in_flight(client) == 1)
    deepest[0] = max(deepest[0], *(depth for depth, _ in depths), 0)
    return begun


deepest = [0]
"""How many stood on one backend at most."""


def count(client: Driven, name: str) -> int:
    """One of the supervisor's counters."""
    return int(client.status().counters.get(name, 0))
