"""The mailbox of a backend: what it is to do, one thing after another."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto

from ..core.request import Request
from .hooks import Setup


class Order(Enum):
    """What can be in the mailbox besides requests."""

    RESET = auto()
    CLOSE = auto()
    LOST = auto()


Letter = Request | Order | Setup


class Mailbox(deque[Letter]):
    """Letters, the first that came first."""

    _woken: asyncio.Future[None] | None = None

    def post(self, letter: Letter) -> None:
        """One more, which wakes whoever waits for it."""
        self.append(letter)
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def next(self) -> Letter:
        """Take the first; wait until there is one."""
        while not self:
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
            self._woken = None
        return self.popleft()
