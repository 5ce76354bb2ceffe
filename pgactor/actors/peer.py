"""A worker's link as the conductor sees it, whatever road it came by.

Replies gather here and leave as one frame at the end of the turn of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

from .. import wire
from ..core.roster import Worker
from ..errors import MessageTooLarge
from ..messages import SHAPES_PER_LINK, Failed, FromSupervisor, Reply
from .failures import failed

log = logging.getLogger("pgactor.gateway")


class Peer(ABC):
    """One link. worker: who said hello on it. shapes: the numbers of those it was told, the first told first."""

    road: str

    def __init__(self, *, max_frame_bytes: int) -> None:
        self.worker: Worker | None = None
        self.pid = 0
        self.shapes: dict[int, None] = {}
        self.closed = False
        self.said_goodbye = False
        self.max_frame_bytes = max_frame_bytes
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._loop = asyncio.get_running_loop()

    def send(self, message: FromSupervisor) -> bool:
        """Send the message with the next frame. What is too large becomes an error for its request; then, and when
        the link is closed, the answer is False."""
        if self.closed:
            return False
        encoded = wire.encode_message(message)
        fits = len(encoded) + 8 <= self.max_frame_bytes
        if not fits:
            encoded = wire.encode_message(self._too_large(message, len(encoded)))
        if not self._outbox:
            self._loop.call_soon(self.flush)
        elif self._outbox_bytes + len(encoded) + 8 > self.max_frame_bytes:
            self.flush()  # and what follows leaves with the flush that is due
        self._outbox.append(encoded)
        self._outbox_bytes += len(encoded)
        return fits

    def remember(self, shape: int) -> None:
        """The worker was told this shape; like the worker, forget the first told when there are too many."""
        if len(self.shapes) >= SHAPES_PER_LINK:
            del self.shapes[next(iter(self.shapes))]
        self.shapes[shape] = None

    def _too_large(self, message: FromSupervisor, size: int) -> Failed:
        return failed(
            message.id if isinstance(message, Reply | Failed) else None,
            MessageTooLarge(
                f"the result is {size} bytes, over the cap of {self.max_frame_bytes} (max_frame_bytes); "
                "fetch fewer rows or columns at a time"
            ),
            in_transaction=getattr(message, "in_transaction", False),
        )

    def flush(self) -> None:
        """Write what has gathered."""
        if self._outbox and not self.closed:
            frame = wire.join(self._outbox)
            self._outbox.clear()
            self._outbox_bytes = 0
            self.write(frame)

    @abstractmethod
    def write(self, frame: bytes) -> None:
        """Write one frame to the link."""

    @abstractmethod
    def close(self, reason: str) -> None:
        """Write what has gathered and end the link."""
