"""An event loop whose time passes by itself: when nothing is left to do now, it is at once the next timer's time.

A story that would wait for ever fails instead.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

THREAD_SECONDS = 10.0
"""How long a thread of a test may take; only a test that fails takes so long."""


class _Selector(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise AssertionError("everybody waits for something that nobody will do")
        self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at second 1000."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 1000.0
        self.errors: list[dict[str, Any]] = []
        super().__init__(selector)
        self._clock_resolution = 1e-9  # the doubt of a real clock would make timers early
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self.now


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run the story on such a loop; exceptions in its callbacks fail it."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        result = runner.run(story)
    assert not loop.errors
    return result


async def turns(count: int = 10) -> None:
    """Let what can happen now happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def pass_by(seconds: float) -> None:
    """Let time pass in the running loop that nobody waits for."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now += seconds


def now() -> float:
    """The time of the running loop."""
    return asyncio.get_running_loop().time()
