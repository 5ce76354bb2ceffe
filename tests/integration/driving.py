"""Both clients, and asyncpg itself, driven through the same words, so that a case is written once.

`Driven` runs each method to its end: a blocking one where it is called, an async one on an event loop in a thread of
its own, which goes on turning between the calls, as it does in an application.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import asyncpg

from pgactor import AsyncLease, Record
from tests.supervising import SupervisorProcess, until

KINDS = ("sync-ipc", "sync-tcp", "async-ipc", "async-tcp")
ALL_KINDS = (*KINDS, "uvloop-ipc", "uvloop-tcp")
ASYNC_KINDS = ("async-ipc", "async-tcp")

PATIENCE = 30.0
"""Seconds after which a call that has not come back fails its test."""

_numbers = itertools.count(1)
_threads = ThreadPoolExecutor(64, thread_name_prefix="caller")


class LoopThread:
    """An event loop that turns in a thread of its own."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = factory()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Begin the work; cancelling the future cancels its task."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do the work, and return what it returns."""
        return self.start(work).result(PATIENCE)

    def close(self) -> None:
        """Stop and close the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Driven:
    """A client, a lease, a transaction or a connection of asyncpg, each of whose methods runs to its end."""

    def __init__(self, target: Any, loop: LoopThread | None) -> None:
        self.target = target
        self.loop = loop

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if self.loop is None:
                return self._call(name, args, options)
            return self.loop.run(self._await(name, args, options))

        return call

    def begin(self, name: str, *args: Any, **options: Any) -> Future[Any]:
        """Begin a call of the method; the future tells how it ends."""
        if self.loop is None:
            return _threads.submit(self._call, name, args, options)
        return self.loop.start(self._await(name, args, options))

    def __enter__(self) -> Any:
        if self.loop is None:
            return self._wrap(self.target.__enter__())
        if isinstance(self.target, AsyncLease):
            return self
        return self._wrap(self.loop.run(self.target.__aenter__()))

    def __exit__(self, *error: Any) -> None:
        if self.loop is None:
            self.target.__exit__(*error)
        elif isinstance(self.target, AsyncLease):
            self.release()
        else:
            self.loop.run(self.target.__aexit__(*error))

    def _call(self, name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        return self._wrap(getattr(self.target, name)(*args, **options))

    async def _await(self, name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        result = getattr(self.target, name)(*args, **options)
        return self._wrap(await result if inspect.isawaitable(result) else result)

    def _wrap(self, result: Any) -> Any:
        drivable = isinstance(result, AsyncLease) or hasattr(result, "__enter__") or hasattr(result, "__aenter__")
        return Driven(result, self.loop) if drivable else result


class WatchedSupervisor(SupervisorProcess):
    """A supervisor whose backends can be told from all others, by their application_name."""

    def __init__(self, *, connect: dict[str, Any] | None = None, **settings: Any) -> None:
        self.name = f"pgactor-{os.getpid()}-{next(_numbers)}"
        named = {"server_settings": {"application_name": self.name}, **(connect or {})}
        super().__init__(connect=named, **settings)

    def backends(self, db: Driven) -> dict[int, str]:
        """PostgreSQL's processes that serve it, and what each ran last."""
        rows = db.fetch("select pid, query from pg_stat_activity where application_name = $1", self.name)
        return {row["pid"]: row["query"] for row in rows}


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns or raises, in a form that can be compared between asyncpg and pgactor."""
    try:
        return "returned", portrait(call())
    except Exception as error:
        fields: dict[str, Any] = dict(error.as_dict()) if isinstance(error, asyncpg.PostgresError) else {}
        if isinstance(error, asyncpg.InterfaceError):
            fields = {"detail": error.detail, "hint": error.hint}
        cause = None if error.__cause__ is None else (type(error.__cause__), str(error.__cause__))
        return "raised", type(error), str(error), fields, cause


def portrait(value: Any) -> Any:
    """All of a value that must be equal: types and texts, with a Record as its names and values."""
    if isinstance(value, asyncpg.Record | Record):
        return "record", [(name, portrait(each)) for name, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [portrait(each) for each in value]
    return type(value), repr(value)


def linked(client: Driven) -> Driven:
    """The client, with its link to the supervisor: the short timeout of a request may not be enough to make it."""
    client.status()
    return client


def wait_for_statement(db: Driven, text: str, *, running: bool = True, state: str = "active") -> None:
    """Wait until PostgreSQL runs, or no longer runs, a statement in which the text occurs; or has run it last, in
    another state."""
    sql = "select count(*) from pg_stat_activity where state like $2 and query like $1 and pid <> pg_backend_pid()"
    until(lambda: bool(db.fetchval(sql, f"%{text}%", state)) is running)
