"""The TCP connection beneath a link. libzmq has no way to end a single one of a ROUTER's, so it is shut down here."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

import zmq

_ESTABLISHED = 1  # Linux's TCP_ESTABLISHED


class TcpConnection:
    """The connection that a frame came by. libzmq owns the descriptor, and may have closed it already; then its
    number may be another's. So what is shut down is only what is still connected with the same peer."""

    def __init__(self, frame: Any) -> None:
        self._fd: int = frame.get(zmq.SRCFD)
        self._peer = self._peer_now()

    @property
    def is_open(self) -> bool:
        """Whether it is there yet."""
        return self._peer is not None and self._peer_now() == self._peer

    @property
    def is_answered(self) -> bool:
        """Whether the other side's kernel acknowledges what it is sent. Where that cannot be told, it does not."""
        try:
            with self._copy() as copy:
                state, _, retransmits, *_ = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        except (OSError, AttributeError):
            return False
        return state == _ESTABLISHED and retransmits == 0

    def end(self) -> None:
        """Shut it down; both sides see its end."""
        if self.is_open:
            with self._copy() as copy, suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)

    def _peer_now(self) -> object:
        """Who is at the other end; None: nobody."""
        try:
            with self._copy() as copy:
                return copy.getpeername() or None
        except OSError:
            return None

    def _copy(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self._fd))
