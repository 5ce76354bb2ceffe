"""Two pools, asyncpg's own and pgactor's, through the same story."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg

import pgactor
from tests.integration.driving import WatchedSupervisor, portrait

Story = Callable[["Side"], Awaitable[Any]]


class Side:
    """One of the two. name: "asyncpg" or "pgactor". create_pool: its function, already told where to connect."""

    def __init__(self, name: str, create_pool: Callable[..., Any]) -> None:
        self.name = name
        self.create_pool = create_pool

    def __repr__(self) -> str:
        return self.name

    @property
    def is_asyncpg(self) -> bool:
        """Whether it is the measure."""
        return self.name == "asyncpg"

    @asynccontextmanager
    async def pool(self, **arguments: Any) -> AsyncIterator[Any]:
        """A pool, terminated at the end."""
        made = await self.create_pool(**({"min_size": 1, "max_size": 4} | arguments))
        try:
            yield made
        finally:
            made.terminate()


class Sides:
    """Both. dsn: of the database. supervisor: in front of it, with min_size 1 and max_size 4."""

    def __init__(self, dsn: str, supervisor: WatchedSupervisor) -> None:
        self.dsn = dsn
        self.supervisor = supervisor
        self.asyncpg = Side("asyncpg", partial(asyncpg.create_pool, dsn))
        self.pgactor = Side("pgactor", partial(pgactor.create_pool, supervisor.ipc))

    async def tell(self, story: Story) -> Any:
        """Have both go through the story; what each returns must be the same, and is returned."""
        theirs = await told(story, self.asyncpg)
        ours = await told(story, self.pgactor)
        assert portrait(ours) == portrait(theirs), f"\nasyncpg: {theirs!r}\npgactor: {ours!r}"
        return theirs


async def told(story: Story, side: Side) -> Any:
    """What the story comes to on one side, in a limited time."""
    async with asyncio.timeout(20):
        return await story(side)


async def error_of(wrong: Awaitable[Any] | Callable[[], Any]) -> tuple[str, str]:
    """The class and the text of the error that this raises, with objects' addresses and names left out."""
    try:
        await (wrong() if callable(wrong) else wrong)
    except Exception as error:
        return type(error).__name__, re.sub(r"<(PoolConnectionProxy|AsyncLease)\b.*>", "<connection>", str(error))
    raise AssertionError("no error was raised")


def error_now(wrong: Callable[[], Any]) -> tuple[str, str]:
    """The class and the text of the error that this call raises, before anything is awaited."""
    try:
        result = wrong()
    except Exception as error:
        return type(error).__name__, str(error)
    if asyncio.iscoroutine(result):
        result.close()
    raise AssertionError("no error was raised")


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for the condition, a function or a coroutine function; fail if it does not come true in time."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.01)
