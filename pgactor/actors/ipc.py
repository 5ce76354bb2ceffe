"""Workers on Unix sockets: ZeroMQ's wire protocol, spoken by ourselves on the event loop.

The kernel tells who is at the other end, and closes the socket when that process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from ..errors import ConfigError, ProtocolError
from ..ownership import check_directory, check_old_socket
from ..zmtp import Connection, frame_header
from .failures import failed
from .peer import ENOUGH_BYTES, Frames, Peer

log = logging.getLogger("pgactor.gateway")

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""How many bytes a socket's path may have."""


class IpcPeer(Peer, asyncio.Protocol):
    """A worker on a Unix socket."""

    road = "ipc"

    def __init__(self, frames: Frames, *, max_frame_bytes: int, max_unsent_bytes: int) -> None:
        super().__init__(max_frame_bytes=max_frame_bytes)
        self.heard_by = frames
        self._max_unsent_bytes = max_unsent_bytes
        self._zmtp = Connection("ROUTER", max_message_bytes=max_frame_bytes)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=ENOUGH_BYTES, low=ENOUGH_BYTES // 4)
        self.pid = peer_pid(transport.get_extra_info("socket"))
        self.is_owner = peer_uid(transport.get_extra_info("socket")) in (0, os.geteuid())
        self._transport.write(self._zmtp.take_output())

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._zmtp.receive(data)
        except ProtocolError as error:
            self.heard_by.malformed(self, str(error))
            if self._zmtp.ready:
                self.send(failed(None, ProtocolError(str(error))))
            self.close(str(error))
            return
        if output := self._zmtp.take_output():
            self._transport.write(output)
            self._check_unsent()
        for parts in messages:
            if len(parts) == 1:
                self.heard_by.frame(self, parts[0])
            else:
                reason = f"a message is expected to have one part, this one had {len(parts)}"
                self.heard_by.malformed(self, reason)
                self.send(failed(None, ProtocolError(reason)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.room_made()
        self.heard_by.disconnected(self, str(exc) if exc else "its link was closed")

    def write(self, frame: bytes, rest: bytes = b"") -> None:
        if rest:
            self._transport.writelines((frame_header(len(frame) + len(rest)) + frame, rest))
        elif len(frame) < 65536:
            self._transport.write(frame_header(len(frame)) + frame)
        else:
            self._transport.writelines((frame_header(len(frame)), frame))
        self._check_unsent()

    def unsent_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self.room_made()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def _check_unsent(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent > self._max_unsent_bytes:
            self.drop(f"it does not read its replies, {unsent} bytes are unsent")

    def abort(self, reason: str) -> None:
        self.closed = True
        self._transport.abort()

    def finish(self) -> None:
        super().finish()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self, reason: str) -> None:
        self.flush()
        self.closed = True
        self._transport.close()


class IpcGateway:
    """Listens on one ipc:// endpoint. A lock beside the socket keeps a second supervisor from taking it over."""

    def __init__(self, endpoint: str, *, mode: int | None = None, group: str | None = None) -> None:
        """mode, group: the socket's, if it is not for its owner alone."""
        self.endpoint = endpoint
        self._mode = mode
        self._group = group
        self.path = Path(endpoint.removeprefix("ipc://"))
        self._lock: int | None = None
        self._inode = 0
        self._accept: Callable[[], IpcPeer]
        self._server: asyncio.Server | None = None

    async def start(
        self, frames: Frames, *, max_frame_bytes: int, max_unsent_bytes: int, take_over: bool = False
    ) -> None:
        """Listen. take_over: in the place of the supervisor that does, which knows of it. Raises `ConfigError` if the
        path cannot be used or another supervisor uses it."""

        def accept() -> IpcPeer:
            return IpcPeer(frames, max_frame_bytes=max_frame_bytes, max_unsent_bytes=max_unsent_bytes)

        self._accept = accept
        try:
            if len(os.fsencode(self.path)) > LONGEST_PATH:  # workers could not connect to it
                raise OSError(f"the path is too long, by {len(os.fsencode(self.path)) - LONGEST_PATH} bytes")
            if not self.path.parent.exists():
                self.path.parent.mkdir(mode=0o700, parents=True)
                self._share(self.path.parent, 0o750)
            check_directory(self.path.parent, shared=self._mode is not None)
            if not take_over:
                self._take_lock()
                check_old_socket(self.path)
                self.path.unlink(missing_ok=True)
            await self.claim()
        except OSError as error:
            raise ConfigError(f"cannot listen on {self.endpoint}: {error.strerror or error}") from None

    async def claim_again(self) -> None:
        """Listen at the path again, if another supervisor has taken it. Raises OSError."""
        if not self._is_at(self.path, self._inode):
            await self.claim()

    async def claim(self) -> None:
        """Listen at the path from now on, with the lock, whoever did before: links that are made afterwards are made
        here, and at no moment to nobody. Raises OSError."""
        mine = self.path.with_name(f".{os.getpid()}")
        mine.unlink(missing_ok=True)
        listener = self._bind(mine)
        self.stop_listening()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, sock=listener, backlog=1024)
        try:
            mine.rename(self.path)
        except OSError:
            mine.unlink()
            raise
        self._inode = self.path.stat().st_ino
        if self._lock is None or not self._is_at(self._lock_path, os.fstat(self._lock).st_ino):
            self._replace_lock()

    def stop_listening(self) -> None:
        """Take no new links."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Remove the socket and give the endpoint free."""
        self.stop_listening()
        if self._lock is not None:
            if self._is_at(self.path, self._inode):  # else it is another supervisor's
                self.path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _bind(self, path: Path) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            previous = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(previous)
            self._share(path, self._mode or 0o600)
        except BaseException:
            listener.close()
            raise
        return listener

    def _share(self, path: Path, mode: int) -> None:
        """Give it to the group that is configured, if one is."""
        if self._group is not None:
            try:
                shutil.chown(path, group=self._group)
            except LookupError:
                raise ConfigError(f"socket_group: there is no group {self._group!r}") from None
            path.chmod(mode)

    def _take_lock(self) -> None:
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(
                f"another supervisor serves {self.endpoint} already; stop it, take over from it (--takeover), or "
                "choose another endpoint"
            ) from None
        if self._is_at(self._lock_path, os.fstat(lock).st_ino):
            self._lock = lock
        else:  # it was replaced meanwhile, by a supervisor that takes over
            os.close(lock)
            self._take_lock()

    def _replace_lock(self) -> None:
        """Put a lock that is held already in the place of the one that another supervisor holds: so there is no
        moment without."""
        mine = self.path.with_name(f".{os.getpid()}.lock")
        lock = os.open(mine, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine.rename(self._lock_path)
        if self._lock is not None:
            os.close(self._lock)
        self._lock = lock

    @property
    def _lock_path(self) -> Path:
        return Path(f"{self.path}.lock")

    @staticmethod
    def _is_at(path: Path, inode: int) -> bool:
        try:
            return path.stat().st_ino == inode
        except FileNotFoundError:
            return False


def peer_uid(sock: socket.socket) -> int:
    """The user of the process at the other end; -1 if the kernel does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def peer_pid(sock: socket.socket) -> int:
    """The pid of the process at the other end, as this process sees it; 0 if the kernel does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid
