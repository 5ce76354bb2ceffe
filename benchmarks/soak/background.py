"""Something that goes on in a thread of its own, with its own event loop, for as long as a `with` lasts."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import Counter
from types import TracebackType
from typing import Self


class Background(ABC):
    """It is at work inside of `with`. done: what it has done, and how often. failed: the error that has ended it."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failed: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:
            self.failed = error

    @abstractmethod
    async def _work(self) -> None:
        """Go on until `_stopped`."""
