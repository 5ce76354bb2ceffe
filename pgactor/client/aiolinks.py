"""Links to the supervisor for an event loop: the sockets are ours, the loop only tells when they are ready.

asyncio's transports would hide whether a write failed; here a frame of which nothing left is known not to have run.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import weakref
from contextlib import suppress
from typing import Any, Protocol

from ..errors import ProtocolError
from ..zmtp import Connection, frame_header
from .dealer import dealer, refusal, was_wrong
from .links import RECEIVE_BYTES, connect_safely, single
from .options import Options
from .requests import LostLink


class Listener(Protocol):
    """Who hears of a link."""

    def frames(self, frames: list[bytes]) -> None: ...
    def lost(self, error: LostLink) -> None: ...


class AioLink(Protocol):
    """A link to the supervisor."""

    def send(self, frame: bytes) -> None:
        """Send, or buffer, one frame. Raises `LostLink` if nothing of it could be sent."""

    def close(self) -> None:
        """End the link."""


async def connect(options: Options, listener: Listener) -> AioLink:
    """Make a link. Raises `OSError` when nobody listens, `LostLink` when whoever does is no supervisor."""
    if options.endpoint.startswith("ipc://"):
        return await IpcLink.connect(options, listener)
    return await TcpLink.connect(options, listener)


class IpcLink:
    """A Unix socket, on which ZMTP is spoken."""

    def __init__(self, sock: socket.socket, options: Options, listener: Listener) -> None:
        self._socket = sock
        self._listener = listener
        self._zmtp = Connection("DEALER", max_message_bytes=options.max_frame_bytes)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._closed = False

    @classmethod
    async def connect(cls, options: Options, listener: Listener) -> IpcLink:
        """Connect and greet."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            connect_safely(sock, options)  # on a Unix socket it never has to wait
        except BaseException:
            sock.close()
            raise
        link = cls(sock, options, listener)
        _links.add(link)
        link._loop.add_reader(sock.fileno(), link._read)
        try:
            link._write(link._zmtp.take_output())
            await link._ready
        except BaseException:
            link.close()
            raise
        return link

    def send(self, frame: bytes) -> None:
        if self._closed:
            raise LostLink("the link is closed")
        self._write(frame_header(len(frame)) + frame)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._loop.is_closed():
                self._loop.remove_reader(self._socket.fileno())
                self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            if not self._ready.done():
                self._ready.cancel()

    def abandon(self) -> None:
        """In a forked child: give up the copy of the socket, but keep its number, which the copy of the parent's loop
        believes to be its own."""
        if not self._closed:
            self._closed = True
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self._socket.fileno(), inheritable=False)
            os.close(nowhere)

    def _write(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise LostLink(f"the supervisor has closed the link ({error.strerror or error})") from None
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._loop.add_writer(self._socket.fileno(), self._write_more)

    def _write_more(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(LostLink(f"the supervisor has closed the link ({error.strerror or error})"))
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        if self._closed:
            return
        try:
            size = self._socket.recv_into(self._buffer)
            if not size:
                raise LostLink("the supervisor has closed the link")
            messages = [single(parts) for parts in self._zmtp.receive(self._buffer[:size])]
            if output := self._zmtp.take_output():
                self._write(output)
        except BlockingIOError:
            return
        except LostLink as error:
            self._lose(error)
            return
        except ProtocolError as error:
            self._lose(LostLink(str(error), error))
            return
        except OSError as error:
            self._lose(LostLink(f"the link broke ({error.strerror or error})"))
            return
        if not self._ready.done() and self._zmtp.ready:
            self._ready.set_result(None)
            self._loop.call_soon(self._listener.frames, messages)  # when whoever connects has the link
        elif messages:
            self._listener.frames(messages)

    def _lose(self, error: LostLink) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)  # connect closes it
            return
        self.close()
        self._listener.lost(error)


class TcpLink:
    """A pyzmq DEALER whose descriptors the loop watches."""

    def __init__(self, options: Options, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._closed = False
        self._options = options
        self._context, self._socket, self._monitor, self._turn = dealer(options)
        import zmq

        self._zmq = zmq
        self._fds = [int(s.getsockopt(zmq.FD)) for s in (self._socket, self._monitor)]

    @classmethod
    async def connect(cls, options: Options, listener: Listener) -> TcpLink:
        """Connect and greet."""
        link = cls(options, listener)
        _links.add(link)
        try:
            link._loop.add_reader(link._fds[0], link._read)
            link._loop.add_reader(link._fds[1], link._hear)
            link._socket.connect(options.endpoint)
            link._hear()
            await link._ready
        except BaseException:
            was_wrong(options, link._turn)
            link.close()
            raise
        return link

    def send(self, frame: bytes) -> None:
        if self._closed:
            raise LostLink("the link is closed")
        try:
            self._socket.send(frame, self._zmq.NOBLOCK)
        except self._zmq.ZMQError as error:
            raise LostLink(error.strerror) from None
        self._loop.call_soon(self._read)  # sending may have eaten the descriptor's edge

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._loop.is_closed():
                for fd in self._fds:
                    self._loop.remove_reader(fd)
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
            self._context.term()
            if not self._ready.done():
                self._ready.cancel()

    def abandon(self) -> None:
        """In a forked child: let go without touching libzmq, whose threads did not come along."""
        self._closed = True
        _abandoned.append((self._context, self._socket, self._monitor))

    def _read(self) -> None:
        frames: list[bytes] = []
        while not self._closed and len(frames) < 256:
            try:
                frames.append(self._socket.recv(self._zmq.NOBLOCK))
            except self._zmq.Again:
                break
            except self._zmq.ZMQError as error:
                if error.errno != errno.EINTR:
                    self._lose(LostLink(error.strerror))
                    return
        else:
            if not self._closed:
                self._loop.call_soon(self._read)
        if frames:
            self._listener.frames(frames)

    def _hear(self) -> None:
        """Something happened to the connection."""
        while not self._closed and self._monitor.poll(0):
            error = refusal(self._monitor, self._options)
            if error is None:
                if not self._ready.done():
                    self._ready.set_result(None)
            elif not self._ready.done():
                self._ready.set_exception(error)
                return
            else:
                self._lose(LostLink("the supervisor has closed the link"))

    def _lose(self, error: LostLink) -> None:
        self.close()
        self._listener.lost(error)


_links: weakref.WeakSet[IpcLink | TcpLink] = weakref.WeakSet()
_abandoned: list[Any] = []
"""libzmq's sockets of a parent process, kept from being collected."""


def _after_fork_in_child() -> None:
    for link in list(_links):
        with suppress(OSError):
            link.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
