"""A supervisor in the test's own event loop, so that a test can break what is inside of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pgactor.actors.supervisor import Supervisor
from pgactor.config import Settings
from pgactor.config.connect import ConnectSettings
from pgactor.config.pool import PoolSettings
from tests.supervising import LANE

_numbers = itertools.count(1)


@asynccontextmanager
async def in_process(
    dsn: str,
    folder: Path,
    *,
    pool: dict[str, Any] | None = None,
    order: Callable[[int | None], None] = lambda _: None,
    **settings: Any,
) -> AsyncIterator[Supervisor]:
    """A supervisor that serves on ipc, at `supervisor.endpoints[0]`, until the block ends."""
    loop = asyncio.get_running_loop()
    supervisor = Supervisor(
        Settings(
            endpoints=[f"ipc://{folder}/in-{next(_numbers)}.sock"],
            pool=PoolSettings(
                **{"max_size": 4, "reopen_backoff_seconds": 0.02, "statement_lane": LANE, **(pool or {})}
            ),
            connect=ConnectSettings(dsn=dsn),
            **settings,
        ),
        order=order,
    )
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop(seconds=0)
        loop.set_exception_handler(None)


class Breaks:
    """Makes a method fail, the next time that it is called with what `when` accepts. happened: how often it did."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.happened = 0

    def once(
        self,
        owner: type,
        name: str,
        when: Callable[..., bool] = lambda *_, **__: True,
        *,
        only: object = None,
        error: Callable[[], BaseException] = lambda: RuntimeError("a bug that the test has put there"),
    ) -> None:
        """only: of this object, not of others of its class."""
        original = getattr(owner, name)

        def broken(self: Any, *args: Any, **named: Any) -> Any:
            if not self_broken.happened and only in (None, self) and when(*args, **named):
                self_broken.happened += 1
                raise error()
            return original(self, *args, **named)

        self_broken = self
        self._patch.setattr(owner, name, broken)
