"""What browsers are told: the same bytes to all of them, made once for each look."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from .figures import STATES, Figures, Point
from .watch import Sight

HISTORY = 900
"""How many points of each pool are kept, for a browser that comes later: a quarter of an hour at a look a second."""

SILENCE_SECONDS = 15.0
"""After so long without news a comment is sent, so that a browser that is gone is noticed."""


class Start(msgspec.Struct):
    """The first event of a stream. states: what the numbers of each point's `states` count. history: of each pool,
    the oldest point first; there is none of a time without an answer."""

    version: str
    interval: float
    states: tuple[str, ...]
    history: dict[str, list[Point]]


class State(msgspec.Struct):
    """An event of each look. points: of the pools, as of this moment; none if there was no answer."""

    endpoint: str
    at: float
    error: str
    silent_seconds: float
    pools: dict[str, Figures]
    unseen: dict[str, str]
    points: dict[str, Point]


class Board:
    """Shows the last look, and the points of those before, to as many as want it. Nothing is kept for a slow browser:
    it misses looks, and gets the newest when it is ready."""

    def __init__(self, version: str, interval: float) -> None:
        self._version, self._interval = version, interval
        self._history: dict[str, deque[Point]] = {}
        self._last = b""
        self._number = 0
        self._closed = False
        self._changed = asyncio.Event()

    def post(self, sight: Sight) -> None:
        """There was a look."""
        points = {} if sight.error else {name: each.point(sight.at) for name, each in sight.pools.items()}
        for name, point in points.items():
            self._history.setdefault(name, deque(maxlen=HISTORY)).append(point)
        for name, history in list(self._history.items()):
            if history[-1].at < sight.at - HISTORY * self._interval:  # a pool that is gone
                del self._history[name]
        state = State(sight.endpoint, sight.at, sight.error, sight.silent_seconds, sight.pools, sight.unseen, points)
        self._last = _event("state", state)
        self._number += 1
        self._wake()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._wake()

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events: a `Start`, then a `State` at once and after each look."""
        history = {name: list(points) for name, points in self._history.items()}
        seen, last = self._number, self._last
        yield _event("start", Start(self._version, self._interval, STATES, history)) + last
        while not self._closed:
            changed = self._changed
            if self._number == seen:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    yield b": nothing new\n\n"
                continue
            seen = self._number
            yield self._last

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _event(name: str, data: msgspec.Struct) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
