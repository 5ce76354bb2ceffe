"""Blocking links to the supervisor. By the endpoint's scheme: ipc is ZeroMQ's wire protocol on a plain socket, which
needs no thread and no library; tcp is pyzmq, imported when it is first used.

A link is made once and lost once; making another is the channel's work.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import NotPermitted, ProtocolError
from ..ownership import check_peer, check_socket
from ..zmtp import Connection, frame_header
from .dealer import dealer, refusal, was_wrong
from .options import Options
from .requests import LostLink

RECEIVE_BYTES = 65536
"""Small enough that the buffer is not mapped and unmapped with each use."""
LONGEST_POLL_MS = 2**31 - 1
STUCK_SECONDS = 30
"""How long a supervisor may leave a request unread before the link counts as lost."""
TICK_SECONDS = 1
"""How long the kernel lets a thread wait in `recv`; a longer wait is made of such, what is left of it of a `poll`."""


class Link(Protocol):
    """A link to the supervisor. `send` may be called by any thread, `receive` by one at a time."""

    def send(self, frame: bytes) -> None:
        """Send one frame. Raises `LostLink`; then no part of the frame will be acted on."""

    def receive(self, timeout: float | None) -> list[bytes]:
        """Wait for frames, at most so many seconds; none if that time passes. Raises `LostLink`."""

    def close(self) -> None:
        """End the link."""

    def abandon(self) -> None:
        """Close this process's copy of a link that belongs to its parent; the parent's goes on."""


def connect(options: Options, timeout: float) -> Link:
    """Make a link. Raises `OSError` when nobody listens, `LostLink` when whoever does is no supervisor."""
    if options.endpoint.startswith("ipc://"):
        return IpcLink(options, timeout)
    return TcpLink(options, timeout)


class IpcLink:
    """A Unix socket, on which ZMTP is spoken."""

    def __init__(self, options: Options, timeout: float) -> None:
        self._zmtp = Connection("DEALER", max_message_bytes=options.max_frame_bytes)
        self._sending = threading.Lock()
        self._early: list[bytes] = []
        self._tick = float("inf")
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _links.add(self)
        deadline = time.monotonic() + timeout
        try:
            self._socket.settimeout(max(0.001, timeout))
            connect_safely(self._socket, options)
            self._socket.sendall(self._zmtp.take_output())
            while not self._zmtp.ready:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError("the supervisor did not greet in time")
                self._early += self.receive(remaining)
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STUCK_SECONDS, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", TICK_SECONDS, 0))
        if type(self._socket).__module__ == "socket":  # not gevent's, which does not wait in the kernel
            self._tick = float(TICK_SECONDS)

    def send(self, frame: bytes) -> None:
        header = frame_header(len(frame))
        if len(frame) < 65536:
            self._write(header + frame)
        else:
            self._write(header, frame)

    def _write(self, *pieces: bytes) -> None:
        with self._sending:
            try:
                for piece in pieces:
                    self._socket.sendall(piece)
            except BaseException as error:  # a signal's, too: part of a frame may be out, which nothing may complete
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
                if isinstance(error, OSError):
                    raise LostLink(f"the supervisor has closed the link ({error.strerror or error})") from None
                raise

    def receive(self, timeout: float | None) -> list[bytes]:
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            size = self._receive_into_buffer(timeout)
        except OSError as error:
            raise LostLink(f"the link broke ({error.strerror or error})") from None
        if size is None:
            return []
        if not size:
            raise LostLink("the supervisor has closed the link")
        try:
            messages = self._zmtp.receive(self._buffer[:size])
        except ProtocolError as error:
            raise LostLink(str(error), error) from None
        if output := self._zmtp.take_output():
            self._write(output)
        return [single(parts) for parts in messages]

    def _receive_into_buffer(self, timeout: float | None) -> int | None:
        """How many bytes there are; None: none in that time."""
        while timeout is None or timeout >= self._tick:  # nearly always: nothing but one system call
            try:
                return self._socket.recv_into(self._buffer)
            except BlockingIOError:  # a tick has passed
                if timeout is not None:
                    timeout -= self._tick
        return self._socket.recv_into(self._buffer) if _readable(self._socket, timeout) else None

    def close(self) -> None:
        with suppress(OSError):  # the supervisor may have been quicker
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in receive
        self._socket.close()

    def abandon(self) -> None:
        self._socket.close()

    def __del__(self) -> None:
        with suppress(AttributeError):  # there was no descriptor left for one
            self._socket.close()  # a client that is never closed, as a module's is, is no mistake to warn of


class TcpLink:
    """A pyzmq DEALER. Its socket is no thread's own, so a lock guards each touch; who waits watches its descriptor
    without the lock, and is woken through a pipe when another's send has read what it waits for."""

    def __init__(self, options: Options, timeout: float) -> None:
        import zmq

        self._zmq = zmq
        self._lock = threading.Lock()
        self._received: list[bytes] = []
        self._context, self._socket, self._monitor, turn = dealer(options)
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._fd = self._socket.getsockopt(zmq.FD)
        try:
            self._socket.connect(options.endpoint)
            if not self._monitor.poll(max(1, int(timeout * 1000))):
                raise TimeoutError("the supervisor did not greet in time")
            if (error := refusal(self._monitor, options)) is not None:
                raise error
        except BaseException:
            was_wrong(options, turn)
            self.close()
            raise

    def send(self, frame: bytes) -> None:
        with self._lock:
            if self._socket is None:
                raise LostLink("the link is closed")
            if self._monitor.poll(0):
                raise LostLink("the supervisor has closed the link")
            try:
                self._socket.send(frame, self._zmq.NOBLOCK)
            except self._zmq.ZMQError as error:
                raise LostLink(error.strerror) from None
            self._drain()  # sending may have eaten the descriptor's edge
            if self._received:
                self._wake()

    def receive(self, timeout: float | None) -> list[bytes]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self._socket is None:
                    raise LostLink("the link is closed")
                self._drain()
                if self._received:
                    received, self._received = self._received, []
                    return received
                if self._monitor.poll(0):
                    raise LostLink("the supervisor has closed the link")
                watched = [self._fd, self._wake_reader, self._monitor.getsockopt(self._zmq.FD)]
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return []
            poll = select.poll()
            for fd in watched:
                poll.register(fd, select.POLLIN)
            poll.poll(None if remaining is None else remaining * 1000 + 1)
            with suppress(BlockingIOError):  # it was not the pipe
                os.read(self._wake_reader, 4096)

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.disable_monitor()
                self._monitor.close(0)
                self._socket.close(0)
                self._socket = None
                self._context.term()
                self._wake()  # the pipe stays for whoever polls it, who would wait on another's descriptor else

    def abandon(self) -> None:
        # libzmq's threads did not come along into this process: touching its sockets would wait for them for ever.
        # The parent's link stays whole; the supervisor notices the parent's end by its heartbeats.
        _abandoned.append((self._context, self._socket, self._monitor))
        self._socket = None

    def __del__(self) -> None:
        with suppress(Exception):  # at the interpreter's end much is gone already
            self.close()
            os.close(self._wake_writer)
            os.close(self._wake_reader)

    def _drain(self) -> None:
        try:
            while True:
                self._received.append(self._socket.recv(self._zmq.NOBLOCK))
        except self._zmq.Again:
            return
        except self._zmq.ZMQError as error:
            raise LostLink(error.strerror) from None

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full: it is awake enough
            os.write(self._wake_writer, b"\0")


_abandoned: list[Any] = []
"""Sockets of a parent process, kept from being collected: collecting them would close them."""

_links: weakref.WeakSet[IpcLink] = weakref.WeakSet()
"""Those of this process, also while they are being made, when no channel knows them yet."""


def _after_fork_in_child() -> None:
    for link in list(_links):
        link.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)


def connect_safely(sock: socket.socket, options: Options) -> None:
    """Connect with the ipc endpoint. Raises OSError if nobody listens, `LostLink` if it is not who it should be."""
    path = Path(options.endpoint.removeprefix("ipc://"))
    try:
        check_socket(path)
        sock.connect(str(path))
        check_peer(sock, path)
    except NotPermitted as error:
        raise LostLink(str(error), error) from None


def single(parts: list[bytes]) -> bytes:
    """The only part of a message. Raises `LostLink` for more: a supervisor never sends them."""
    if len(parts) != 1:
        raise LostLink(f"the other side sends messages of {len(parts)} parts: it is no pgactor supervisor")
    return parts[0]


def _readable(sock: socket.socket, timeout: float) -> bool:
    fd = sock.fileno()
    if fd < 0:
        raise LostLink("the link is closed")
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(min(timeout * 1000, LONGEST_POLL_MS)))
