"""What one worker may have at the same time: requests, their bytes, leases. What is over is refused at once.

The bytes of small frames are not counted, since the number of requests bounds them, and most are small.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from ..config.pool import PoolSettings
from ..core.request import Kind
from ..core.roster import Worker
from ..errors import QueueFull
from ..messages import Request
from .failures import failed
from .peer import Peer

SMALL_BYTES = 8192
"""A frame of no more is not counted."""


class _Held:
    """Large frames of one worker: the bytes of each, and the ids of its requests, some of which may be unanswered."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, list[int]]] = []
        self.bytes = 0

    def sweep(self, unanswered: set[int]) -> None:
        """Forget the frames whose requests have all been answered."""
        self.frames = [each for each in self.frames if not unanswered.isdisjoint(each[1])]
        self.bytes = sum(size for size, _ in self.frames)


class Limits:
    """The limits of each worker of a pool. requests: how many may be unanswered."""

    def __init__(self, settings: PoolSettings) -> None:
        self._held: WeakKeyDictionary[Peer, _Held] = WeakKeyDictionary()
        self.configure(settings)

    def configure(self, settings: PoolSettings) -> None:
        """Go by other settings. What is over already stays."""
        self.requests = settings.max_requests_per_worker or sys.maxsize
        self._bytes = settings.max_bytes_per_worker or sys.maxsize
        self._leases = settings.max_leases_per_worker or sys.maxsize

    def too_many_requests(self) -> QueueFull:
        """The refusal of a request."""
        return QueueFull(
            f"this worker has {self.requests} unanswered requests, as many as one may have "
            "(max_requests_per_worker); it was not run"
        )

    def too_many_leases(self, worker: Worker) -> QueueFull | None:
        """The refusal of a lease; None: there may be another."""
        if len(worker.leases) + len(worker.requests) < self._leases:
            return None  # without a look at each
        waiting = sum(request.kind is Kind.LEASE for request in worker.requests.values())
        if len(worker.leases) + waiting < self._leases:
            return None
        return QueueFull(
            f"this worker holds {len(worker.leases)} leases and waits for {waiting}, as many as one may have "
            "(max_leases_per_worker)"
        )

    def within(self, peer: Peer, worker: Worker, messages: Sequence[Any], size: int) -> Sequence[Any]:
        """Those messages of a large frame, of so many bytes, that may be heard; the others are refused."""
        ids = [message.id for message in messages if isinstance(message, Request)]
        if not ids:
            return messages
        held = self._held.setdefault(peer, _Held())
        if held.bytes + size > self._bytes:
            unanswered = {message.id for message in peer.backlog if isinstance(message, Request)}
            held.sweep(unanswered.union(worker.requests))
        if held.bytes + size > self._bytes:
            error = QueueFull(
                f"this worker's unanswered requests are {held.bytes} bytes, and {size} more would be over the "
                f"{self._bytes} that one may have (max_bytes_per_worker); it was not run"
            )
            for each in ids:
                peer.send(failed(each, error))
            return [message for message in messages if not isinstance(message, Request)]
        held.frames.append((size, ids))
        held.bytes += size
        return messages
