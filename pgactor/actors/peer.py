"""A worker's link as the conductor sees it, whatever road it came by.

Replies gather here and leave as one frame: at the end of the turn of the event loop, or, while requests wait for
backends, a moment later. Then a reply's own wait was long and its worker has more to come, and each frame less is a
wake-up less, of the worker and of this process.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .. import wire
from ..core.roster import Worker
from ..errors import MessageTooLarge
from ..messages import SHAPES_PER_LINK, Failed, Reply
from ..messages.unions import FromSupervisor
from .failures import failed, in_words, name_of
from .faults import tell
from .permits import Permit

log = logging.getLogger("pgactor.gateway")

GATHER_SECONDS = 0.001
GATHERED_REPLIES = 16
GATHERED_BYTES = 64 * 1024
"""How long, how many, and how many bytes of replies may wait for each other while requests wait for backends."""

ENOUGH_BYTES = 1024 * 1024
"""With so many unsent no more of a large result is read for the worker."""
STALLED_SECONDS = 10.0
"""A worker that others' statements wait behind, and that reads nothing for so long, is disconnected."""


class Frames(Protocol):
    """Who takes the frames of workers."""

    def frame(self, peer: Peer, frame: bytes) -> None: ...
    def disconnected(self, peer: Peer, reason: str) -> None: ...
    def malformed(self, peer: Peer | None, reason: str) -> None: ...


class Peer(ABC):
    """One link. heard_by: who takes its frames: its pool's dialogue, once it has said which pool that is.

    worker: who said hello on it. given_up: somebody did, and was lost by silence. shapes: the numbers of those it was
    told, the first told first. errors: how often each class of error was told. backlog: its messages that are read
    and not heard yet. permit: what its key may do; None: it needs none. is_owner: whether it is known to be a process
    of this process's user, or of root."""

    road: str
    heard_by: Frames

    def __init__(self, *, max_frame_bytes: int) -> None:
        self.worker: Worker | None = None
        self.permit: Permit | None = None
        self.pid = 0
        self.is_owner = False
        self.shapes: dict[int, None] = {}
        self.errors: dict[str, int] = {}
        self.closed = False
        self.said_goodbye = False
        self.given_up = False
        self.backlog: deque[Any] = deque()
        self.max_frame_bytes = max_frame_bytes
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._flushing: asyncio.Handle | None = None  # the flush that is due
        self._gathering = False  # not at the end of this turn, but later
        self._on_room: list[Callable[[], object]] = []
        self._patience: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def send(self, message: FromSupervisor, *, may_wait: bool = False) -> bool:
        """Send the message with the next frame. may_wait: it may wait a moment for others.

        What is too large becomes an error for its request; then, and when the link is closed, the answer is False.
        """
        if self.closed:
            return False
        if type(message) is Failed:
            name = name_of(message)
            self.errors[name] = self.errors.get(name, 0) + 1
        try:
            encoded = wire.encode_message(message)
        except Exception as error:
            tell(f"what was to be sent to {self.worker} cannot be", error)
            encoded = wire.encode_message(failed(message.id if isinstance(message, Reply | Failed) else None, error))
        fits = len(encoded) + 8 <= self.max_frame_bytes
        if not fits:
            encoded = wire.encode_message(self._too_large(message, len(encoded)))
        self._put(encoded, may_wait)
        return fits

    def send_encoded(self, id: int, encoded: bytes, *, may_wait: bool = False) -> bool:
        """Send the reply to a request, encoded already. The answer is as of `send`."""
        if self.closed:
            return False
        if len(encoded) + 8 > self.max_frame_bytes:
            self._put(wire.encode_message(_over_the_cap(id, len(encoded), self.max_frame_bytes)), may_wait)
            return False
        self._put(encoded, may_wait)
        return True

    def send_data(self, head: bytes, data: bytes) -> None:
        """Send a frame of its own at once: its beginning, and the much that follows."""
        self.flush()
        self._write(head, data)

    def _put(self, encoded: bytes, may_wait: bool) -> None:
        if self._outbox_bytes + len(encoded) + 8 > self.max_frame_bytes:
            self.flush()
        self._outbox.append(encoded)
        self._outbox_bytes += len(encoded)
        if may_wait and len(self._outbox) < GATHERED_REPLIES and self._outbox_bytes < GATHERED_BYTES:
            if self._flushing is None:
                self._flushing = self._loop.call_later(GATHER_SECONDS, self.flush)
                self._gathering = True
        elif self._gathering or self._flushing is None:
            self._unschedule()
            self._flushing = self._loop.call_soon(self.flush)

    def has_room(self, or_call: Callable[[], object]) -> bool:
        """Whether more of a large result may be sent now. If not, `or_call` is called once it may, or nobody is there
        to read it."""
        if self.closed or self._outbox_bytes + self.unsent_size() <= ENOUGH_BYTES:
            return True
        self._on_room.append(or_call)
        if self._patience is None:
            self._patience = self._loop.call_later(STALLED_SECONDS, self._look_again, self.unsent_size())
        return False

    def room_made(self) -> None:
        """There may be room again."""
        while self._on_room and (self.closed or self.unsent_size() <= ENOUGH_BYTES):
            self._on_room.pop(0)()

    def _look_again(self, size: int) -> None:
        """Something has waited for room for a while; so many bytes were unsent then."""
        self._patience = None
        if self._on_room and not self.closed:
            if self.unsent_size() < size:
                self._patience = self._loop.call_later(STALLED_SECONDS, self._look_again, self.unsent_size())
            else:
                self.drop(f"it has read nothing of a large result for {STALLED_SECONDS:g} s")

    def drop(self, reason: str) -> None:
        """End the link at once: the worker does not read its replies."""
        fields = {"worker": str(self.worker), "pid": self.pid}
        log.warning("%s is disconnected: %s", self.worker, reason, extra=fields)
        self.abort(reason)

    def unsent_size(self) -> int:
        """How many bytes are written and not sent yet."""
        return 0

    def remember(self, shape: int) -> None:
        """The worker was told this shape; like the worker, forget the first told when there are too many."""
        if len(self.shapes) >= SHAPES_PER_LINK:
            del self.shapes[next(iter(self.shapes))]
        self.shapes[shape] = None

    def _too_large(self, message: FromSupervisor, size: int) -> Failed:
        request = message.id if isinstance(message, Reply | Failed) else None
        in_transaction = getattr(message, "in_transaction", False)
        return _over_the_cap(request, size, self.max_frame_bytes, in_transaction=in_transaction)

    def flush(self) -> None:
        """Write what has gathered."""
        self._unschedule()
        if self._outbox:
            frame = wire.join(self._outbox)
            self._outbox.clear()
            self._outbox_bytes = 0
            self._write(frame)

    def _write(self, frame: bytes, rest: bytes = b"") -> None:
        if self.closed:
            return
        try:
            self.write(frame, rest)
            self.room_made()
        except Exception as error:  # some of it may not have been sent
            tell(f"the link of {self.worker} is ended", error)
            self.abort(in_words(error))

    def _unschedule(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self._gathering = False

    @abstractmethod
    def write(self, frame: bytes, rest: bytes = b"") -> None:
        """Write one frame to the link. rest: its end, where that is large and by itself."""

    def pause_reading(self) -> None:  # noqa: B027  # not every road can
        """Read no more of the worker's messages for a while, where that is possible."""

    def resume_reading(self) -> None:  # noqa: B027
        """Read them again."""

    def finish(self) -> None:
        """Write what has gathered, as the last: what comes is not heard any more."""
        self.flush()
        self.closed = True

    def abort(self, reason: str) -> None:
        """End the link, with what was not sent."""
        self.close(reason)

    @abstractmethod
    def close(self, reason: str) -> None:
        """Write what has gathered and end the link."""


def _over_the_cap(id: int | None, size: int, cap: int, *, in_transaction: bool = False) -> Failed:
    return failed(
        id,
        MessageTooLarge(
            f"the result is {size} bytes, over the cap of {cap} (max_frame_bytes); fetch fewer rows or columns at a "
            "time"
        ),
        in_transaction=in_transaction,
    )
