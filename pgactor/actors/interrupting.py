"""Interrupting what asyncpg does on one backend, when nobody wants it any more.

It does one thing after another, in the backend's task. Cancelling that task cancels asyncpg's wait, by which asyncpg
cancels the query in PostgreSQL; the task itself goes on. What asyncpg would not come back from is given up instead:
PostgreSQL is to end it, in so much time, or the connection is closed.
"""

from __future__ import annotations

import asyncio
from typing import Self

from ..core.request import Request
from .copying import Copy
from .hooks import Setup
from .session import Session


class Interrupting:
    """Interrupts what is done in the task, by its session.

    under_way: what is done now. patience: how many seconds what is given up may take.
    """

    def __init__(self, session: Session, task: asyncio.Task[None], *, patience: float) -> None:
        self.under_way: Request | Setup | None = None
        self._session = session
        self._task = task
        self._patience = patience
        self._is_interrupted = False
        self._cutting: asyncio.TimerHandle | None = None  # what was given up is to end before
        self._loop = asyncio.get_running_loop()

    def during(self, what: Request | Setup) -> Self:
        """For a `with` block: this is done in it, and may be interrupted, which ends the block in silence."""
        self.under_way = what
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        was_interrupted, self._is_interrupted = self._is_interrupted, False
        self.under_way = None
        if self._cutting is not None:
            self._cutting.cancel()
            self._cutting = None
        if not was_interrupted or not isinstance(error, asyncio.CancelledError):
            return False
        self._task.uncancel()
        return True

    def interrupt(self) -> None:
        """Interrupt what is under way, unless it was already."""
        what = self.under_way
        if what is None or self._is_interrupted:
            return
        self._is_interrupted = True
        if isinstance(what, Request) and self._gives_up(what):
            self._cutting = self._loop.call_later(self._patience, self._cut, what)
        else:
            self._task.cancel()

    def _gives_up(self, request: Request) -> bool:
        """Whether PostgreSQL is to end the request, which cancelling the task would not."""
        return self._session.give_up() or (isinstance(request.payload, Copy) and request.payload.give_up())

    def _cut(self, request: Request) -> None:
        """The request was given up a while ago: it must have ended."""
        if self.under_way is request:
            self._session.terminate()
