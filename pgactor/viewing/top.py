"""`pgactor top`: the pools in a terminal, looked at again and again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from .frame import frame
from .watch import Sight, Watch

LABEL = "pgactor top"
HINT = "q: end"
HINT_OF_SEVERAL = "q: end   tab: the next pool"
PLAIN_WIDTH = 120
"""Of a frame that goes into a pipe, unless $COLUMNS says otherwise."""


async def once(endpoint: str, pool: str | None, interval: float) -> bool:
    """Print a single frame, of two looks so many seconds apart, since rates are differences. False: there was no
    answer, which is told."""
    watch = Watch(endpoint, pool, label=LABEL)
    try:
        sight = await watch.look()
        if not sight.error:
            await asyncio.sleep(interval)
            sight = await watch.look()
    finally:
        await watch.close()
    console = Console()
    width = console.width if console.is_terminal or os.environ.get("COLUMNS") else PLAIN_WIDTH
    Console(width=width).print(frame(sight, pool, width, None))
    return not sight.error


async def live(endpoint: str, pool: str | None, interval: float) -> None:
    """Show it until q or Ctrl-C is pressed. The terminal is left as it was."""
    await _Top(endpoint, pool, interval).run()


class _Top:
    """What is on the screen. chosen: the pool that is shown, once there was a choice."""

    def __init__(self, endpoint: str, pool: str | None, interval: float) -> None:
        self._watch = Watch(endpoint, pool, label=LABEL)
        self._interval = interval
        self._chosen = pool
        # A size in the environment is that of another time: the terminal's own is asked for.
        self._console = Console(_environ={key: os.environ[key] for key in os.environ.keys() - {"COLUMNS", "LINES"}})
        self._over = asyncio.Event()
        self._sight: Sight | None = None
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._over.set)
        loop.add_signal_handler(signal.SIGWINCH, self._draw)
        looking = asyncio.create_task(self._look_again_and_again())
        looking.add_done_callback(lambda _: self._over.set())
        with _keys(), self._live:
            loop.add_reader(sys.stdin, self._pressed)
            try:
                await self._over.wait()
            finally:
                loop.remove_reader(sys.stdin)
                looking.cancel()
                await asyncio.wait([looking])
                await self._watch.close()
        if not looking.cancelled():
            looking.result()  # its error, which should not be

    async def _look_again_and_again(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            start = loop.time()
            self._sight = await self._watch.look()
            self._draw()
            await asyncio.sleep(max(0.0, start + self._interval - loop.time()))

    def _draw(self) -> None:
        if self._sight is not None:
            width, height = self._console.size
            hint = HINT_OF_SEVERAL if len(self._sight.pools) > 1 else HINT
            self._live.update(frame(self._sight, self._chosen, width, height, hint), refresh=True)

    def _pressed(self) -> None:
        keys = os.read(sys.stdin.fileno(), 64)
        if not keys or b"q" in keys.lower():  # nothing: the terminal is gone
            self._over.set()
        elif keys == b"\t" and self._sight is not None and self._sight.pools:
            names = list(self._sight.pools)
            at = names.index(self._chosen) if self._chosen in names else 0
            self._chosen = names[(at + 1) % len(names)]
            self._draw()


@contextmanager
def _keys() -> Iterator[None]:
    """Each key is told at once and not shown."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
