"""The statements of one event loop that wait in their own process, because the supervisor has enough of its.

What waits here costs the supervisor nothing, nor those who share it: an overload stays with the process that makes
it. The order is that of the supervisor's own queue: who came first goes first, until the oldest has waited for half
of its time; from then on the newest goes first. So who is served is served soon, and the others give up here.

How many may be with the supervisor it tells itself. Where even so some come back unserved, because many workers want
more than there is, half as many are sent; with each round of answers one more is dared again, and with each quarter
of a second in which somebody waits, since all that are out may be slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from ..errors import PoolTimeout, QueueFull
from ..messages import Batch, Execute, ExecuteMany, Failed, Fetch, FetchMany

T = TypeVar("T")

SHARED = frozenset({Execute, Fetch, ExecuteMany, FetchMany, Batch})
"""The requests that take part, unless they belong to a lease, whose connection waits for them."""

LEAST = 4
"""So many are sent, however many come back unserved."""

SHRINK_SECONDS = 0.1
"""Those that come back unserved within this time were sent before it was known, and halve nothing once more."""

DARE_SECONDS = 0.25
"""After an overload one more is sent when somebody has waited this long, answers or not."""

ASK_SECONDS = 0.25
"""How often the supervisor is asked who holds its connections, while some wait here in vain."""

TOLD_SECONDS = 1.0
"""How old its words may be when they are told again."""

_UNSERVED = frozenset({PoolTimeout.code, QueueFull.code})


class _Waiting(NamedTuple):
    """A statement in the line. turn: True when it is its turn, False when its time is over."""

    turn: asyncio.Future[bool]
    half_time: float


class Line:
    """most: how many statements may be with the supervisor at the same time; 0: as many as there are. out: how many
    are. waiting: how many wait here."""

    def __init__(self) -> None:
        self.most = 0
        self.out = 0
        self.waiting = 0
        self._window = 0
        self._answers = 0  # since `most` has grown
        self._shrunk_at = float("-inf")
        self._daring: asyncio.TimerHandle | None = None
        self._patience = 0.0
        self._line: deque[_Waiting] = deque()  # those whose time is over leave it later
        self._asked_at = self._told_at = float("-inf")
        self._told: Failed | None = None
        self._none_out: asyncio.Future[None] | None = None  # is awaited

    def welcome(self, window: int, patience: float) -> None:
        """The supervisor says how many it wants at the same time, and for how many seconds one may wait, here and
        there together; 0: any number, for ever."""
        self.most = self._window = window
        self._patience = patience
        self._admit(float("-inf"))  # it may want more than the one before

    @property
    def is_full(self) -> bool:
        """Whether one more has to wait."""
        return self.out >= self.most > 0

    async def wait(self, now: float, timeout: float | None) -> bool:
        """Wait for a place, which whoever gets it gives back by `leave`. False: there was none in time."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        patience = self._patience or float("inf")
        seconds = patience if timeout is None else min(timeout, patience)
        if len(self._line) > 2 * self.waiting + LEAST:  # one that is patient may stand before them
            self._line = deque(each for each in self._line if not each.turn.done())
        self._line.append(_Waiting(turn, now + seconds / 2))
        self.waiting += 1
        self._dare_later(loop)
        timer = None if seconds == float("inf") else loop.call_later(seconds, _end, turn, False)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None and turn.result():
                self.leave(now)  # it came in the same moment
            raise
        finally:
            self.waiting -= 1
            if timer is not None:
                timer.cancel()

    def leave(self, now: float) -> None:
        """A place is free: it goes to whose turn it is."""
        self.out -= 1
        if self.most < self._window:
            self._answers += 1
            if self._answers >= self.most:
                self.most, self._answers = self.most + 1, 0
        self._admit(now)
        if self._none_out is not None and not self.out:
            _end(self._none_out, None)
            self._none_out = None

    def _dare_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._daring is None and self.most < self._window:
            self._daring = loop.call_later(DARE_SECONDS, self._dare, loop)

    def _dare(self, loop: asyncio.AbstractEventLoop) -> None:
        self._daring = None
        if self.waiting and self.most < self._window:
            self.most += 1
            self._admit(loop.time())
            self._dare_later(loop)

    def came_back(self, now: float, reply: object) -> None:
        """The supervisor has answered one; if it did not serve it, fewer are sent."""
        if isinstance(reply, Failed) and reply.code in _UNSERVED and now >= self._shrunk_at + SHRINK_SECONDS:
            self.most = min(self.most, max(LEAST, self.most // 2))
            self._shrunk_at, self._answers = now, 0

    async def none_out(self) -> None:
        """Wait until none is with the supervisor, or on its way there, and none waits."""
        while self.out:
            if self._none_out is None:
                self._none_out = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._none_out)  # others may await it, too

    def close(self, error: Callable[[], Exception]) -> None:
        """End the waiting of all, each by an error of its own."""
        while self._line:
            turn, _ = self._line.popleft()
            if _waits(turn):
                turn.set_exception(error())

    def _admit(self, now: float) -> None:
        while self._line and not self.is_full:
            oldest = self._line[0]
            if not _waits(oldest.turn):
                self._line.popleft()
                continue
            turn, _ = self._line.popleft() if now < oldest.half_time else self._line.pop()
            if _waits(turn):
                turn.set_result(True)
                self.out += 1

    # --- why there was no place ---------------------------------------------------------------------------

    def may_ask(self, now: float) -> bool:
        """Whether to send one that has no time left after all, for the supervisor's words on why: now and then."""
        if now < self._asked_at + ASK_SECONDS:
            return False
        self._asked_at = now
        return True

    def heard(self, now: float, reply: object) -> bool:
        """The supervisor's answer to a request that had no time left. Whether it is that there was none."""
        if isinstance(reply, Failed) and reply.code == PoolTimeout.code:
            self._told, self._told_at = reply, now
            return True
        return False

    def lapsed(self, now: float, seconds: float, timeout: float | None) -> PoolTimeout:
        """The error for who waited so many seconds. timeout: its own."""
        own = timeout is not None and not 0 < self._patience < timeout
        limit = "the request's own timeout" if own else "the supervisor's queue_timeout_seconds"
        words, facts = "", {}
        if self._told is not None and now < self._told_at + TOLD_SECONDS:
            words, facts = self._told.message.partition("it was not run.")[2], self._told.fields
        return PoolTimeout(
            f"no backend came free within {seconds:.2f} s ({limit}); it was not run. This process has {self.out} "
            f"statements with the supervisor, and {self.waiting} that wait for one of them to end.{words}",
            **facts,
        )


def _waits(turn: asyncio.Future[T]) -> bool:
    """Whether somebody does, in a loop that can turn."""
    return not (turn.done() or turn.get_loop().is_closed())


def _end(turn: asyncio.Future[T], result: T) -> None:
    if _waits(turn):
        turn.set_result(result)
