"""A worker on tcp."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .peer import Peer
from .tcpconnection import TcpConnection

if TYPE_CHECKING:
    from .tcp import TcpGateway

GOODBYE_SECONDS = 1.0
"""How long the last words to a peer have to leave before its connection is shut down."""
MOST_UNHEARD = 100_000
"""So many messages of one worker may wait to be heard: libzmq reads for all, so it cannot be made to wait."""


class TcpPeer(Peer):
    """A worker on TCP, named by the routing id that libzmq gave it. connection: the one beneath."""

    road = "tcp"

    def __init__(
        self, gateway: TcpGateway, routing_id: bytes, connection: TcpConnection, *, max_frame_bytes: int
    ) -> None:
        super().__init__(max_frame_bytes=max_frame_bytes)
        self._gateway = gateway
        self.connection = connection
        self.routing_id = routing_id
        self.unsent: deque[bytes] = deque()
        self.unsent_bytes = 0
        self.silent_since = self.vouched_at = 0.0  # see silence.py

    def write(self, frame: bytes, rest: bytes = b"") -> None:
        self._gateway.send(self, frame + rest)

    def unsent_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        if len(self.backlog) > MOST_UNHEARD:
            self.drop(f"{len(self.backlog)} of its messages are not heard yet, and it says more")

    def abort(self, reason: str) -> None:
        self._gateway.forget(self, reason)
        self.connection.end()

    def close(self, reason: str) -> None:
        self.flush()
        self._gateway.forget(self, reason)
        self._loop.call_later(GOODBYE_SECONDS, self.connection.end)
