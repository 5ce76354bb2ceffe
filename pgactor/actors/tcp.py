"""Workers on TCP: a pyzmq ROUTER, whose file descriptor the event loop watches.

libzmq tells nothing of links that end. What it does tell: a message that cannot be routed any more (with
ROUTER_MANDATORY), so every peer is sent an empty frame now and then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import zmq

from ..errors import ConfigError, NotPermitted, ProtocolError
from .curve import Curve
from .failures import failed, in_words
from .faults import tell
from .peer import Frames, Peer
from .tcpconnection import TcpConnection

log = logging.getLogger("pgactor.gateway")

EMPTY_FRAME = b"\x90"
PROBE_SECONDS = 15.0
FRAMES_IN_LIBZMQ = 16
"""How many unsent frames of a worker libzmq holds, which counts them and not their bytes; the others wait here."""
RETRY_SECONDS = 0.002
GOODBYE_SECONDS = 1.0
"""How long the last words to a peer have to leave before its connection is shut down."""
KEYS_SECONDS = 1.0
"""How often it is looked whether keys have come or gone."""
MOST_UNHEARD = 100_000
"""So many messages of one worker may wait to be heard: libzmq reads for all, so it cannot be made to wait."""
MOST_GIVEN_UP = 1024
"""Of how many links that were given up it is remembered."""
BIND_SECONDS = 0.03
"""How often it is looked whether the supervisor before this one has let go of the port."""


class TcpPeer(Peer):
    """A worker on TCP, named by the routing id that libzmq gave it."""

    road = "tcp"

    def __init__(
        self, gateway: TcpGateway, routing_id: bytes, connection: TcpConnection, *, max_frame_bytes: int
    ) -> None:
        super().__init__(max_frame_bytes=max_frame_bytes)
        self._gateway = gateway
        self._connection = connection
        self.routing_id = routing_id
        self.unsent: deque[bytes] = deque()
        self.unsent_bytes = 0

    def write(self, frame: bytes, rest: bytes = b"") -> None:
        self._gateway.send(self, frame + rest)

    def unsent_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        if len(self.backlog) > MOST_UNHEARD:
            self.drop(f"{len(self.backlog)} of its messages are not heard yet, and it says more")

    def abort(self, reason: str) -> None:
        self._gateway.forget(self, reason)
        self._connection.end()

    def close(self, reason: str) -> None:
        self.flush()
        self._gateway.forget(self, reason)
        self._loop.call_later(GOODBYE_SECONDS, self._connection.end)


class TcpGateway:
    """Listens on one tcp:// endpoint, on loopback only unless there are keys (curve): without, anyone who can connect
    is a worker."""

    def __init__(self, endpoint: str, curve: Curve | None = None) -> None:
        self.endpoint = endpoint
        self._curve = curve
        _check(endpoint, keys=curve is not None)
        self._peers: dict[bytes, TcpPeer] = {}
        self._given_up: dict[bytes, None] = {}  # the last whose workers were lost: they may not know
        self._waiting: set[TcpPeer] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._probe: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._binding: asyncio.Task[None] | None = None

    async def start(
        self, frames: Frames, *, max_frame_bytes: int, max_unsent_bytes: int, take_over: bool = False
    ) -> None:
        """Listen. take_over: as soon as the supervisor that does has let go of the port. Raises `ConfigError` if the
        address cannot be used or is in use."""
        self._frames = frames
        self._max_frame_bytes = max_frame_bytes
        self._max_unsent_bytes = max_unsent_bytes
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._socket = router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.IPV6, "[" in self.endpoint)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.MAXMSGSIZE, max_frame_bytes)
        router.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
        router.setsockopt(zmq.SNDHWM, FRAMES_IN_LIBZMQ)
        if self._curve is not None:
            self._curve.start(self._context, router)
            self._look = self._loop.call_later(KEYS_SECONDS, self._look_at_keys)
        try:
            router.bind(self.endpoint)
        except zmq.ZMQError as error:
            self._stop_judging()
            self._context.destroy(linger=0)
            self._socket = None
            if take_over and error.errno == zmq.EADDRINUSE:
                again = partial(
                    self.start, frames, max_frame_bytes=max_frame_bytes, max_unsent_bytes=max_unsent_bytes
                )
                self._binding = self._loop.create_task(self._start_later(partial(again, take_over=True)))
                return
            raise ConfigError(f"cannot listen on {self.endpoint}: {error.strerror}") from None
        self.endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._fd = int(router.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._read)
        self._loop.call_soon(self._read)
        self._probe = self._loop.call_later(PROBE_SECONDS, self._probe_all)

    async def _start_later(self, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """libzmq cannot share a port: it is tried again shortly."""
        await asyncio.sleep(BIND_SECONDS)
        await start()
        if self._socket is not None:
            log.info("listening on %s, too", self.endpoint)

    async def claim_again(self) -> None:
        """Listen at the port again, if it was let go of for another supervisor. Raises `ConfigError`."""
        if self._socket is None and (self._binding is None or self._binding.done()):
            await self.start(
                self._frames,
                max_frame_bytes=self._max_frame_bytes,
                max_unsent_bytes=self._max_unsent_bytes,
                take_over=True,
            )

    def stop_listening(self) -> None:
        """New links are let in all the same, and their requests refused: to unbind would end those that are here."""

    def close(self) -> None:
        """End every link."""
        if self._binding is not None:
            self._binding.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._fd)
            self._stop_judging()
            self._context.destroy(linger=200)  # before the socket is let go, which would close it without lingering
            self._socket = None
        for timer in (self._probe, self._retry):
            if timer is not None:
                timer.cancel()
        self._retry = None

    def _stop_judging(self) -> None:
        if self._curve is not None:
            self._curve.close()
        if self._look is not None:
            self._look.cancel()

    def _look_at_keys(self) -> None:
        """End the links whose key is gone, or may do something else now: they can come again."""
        if self._curve is not None:
            self._curve.permits.look_again()
            for peer in list(self._peers.values()):
                if peer.permit is not None and self._curve.permits.get(peer.permit.public_key) != peer.permit:
                    self._refuse(
                        peer, NotPermitted(f"the permit of the key {peer.permit.name!r} was changed or removed")
                    )
        self._look = self._loop.call_later(KEYS_SECONDS, self._look_at_keys)

    def _refuse(self, peer: TcpPeer, error: NotPermitted | ProtocolError) -> None:
        log.warning("%s is disconnected: %s", peer.worker or "a stranger", error)
        peer.send(failed(None, error))
        peer.close(str(error))

    def send(self, peer: TcpPeer, frame: bytes) -> None:
        """Send one frame, or let it wait; a peer that is gone, or does not read, is disconnected."""
        if self._socket is None:
            return
        peer.unsent.append(frame)
        peer.unsent_bytes += len(frame)
        self._send_unsent(peer)
        if peer.unsent_bytes > self._max_unsent_bytes:
            peer.drop(f"it does not read its replies, {peer.unsent_bytes} bytes are unsent")
        # The descriptor is edge-triggered, and sending may have eaten the edge: look again.
        self._loop.call_soon(self._read)

    def _send_unsent(self, peer: TcpPeer) -> None:
        """Give libzmq what it takes. It does not tell when it takes more, so that is tried again shortly."""
        try:
            while peer.unsent and self._socket is not None:
                frame = peer.unsent[0]
                self._socket.send_multipart((peer.routing_id, frame), zmq.NOBLOCK, copy=len(frame) < 65536)
                peer.unsent.popleft()
                peer.unsent_bytes -= len(frame)
        except zmq.Again:
            self._waiting.add(peer)
            if self._retry is None:
                self._retry = self._loop.call_later(RETRY_SECONDS, self._try_again)
        except zmq.ZMQError as error:
            self.forget(peer, error.strerror)
        peer.room_made()

    def _try_again(self) -> None:
        self._retry = None
        waiting, self._waiting = self._waiting, set()
        for peer in waiting:
            if not peer.closed:
                self._send_unsent(peer)
        self._loop.call_soon(self._read)

    def forget(self, peer: TcpPeer, reason: str) -> None:
        """The peer is not served any more."""
        peer.closed = True
        peer.unsent.clear()
        peer.unsent_bytes = 0
        peer.room_made()
        if self._peers.get(peer.routing_id) is peer:
            del self._peers[peer.routing_id]
            self._given_up[peer.routing_id] = None
            if len(self._given_up) > MOST_GIVEN_UP:
                del self._given_up[next(iter(self._given_up))]
            self._loop.call_soon(peer.heard_by.disconnected, peer, reason)

    def _read(self) -> None:
        router = self._socket
        for _ in range(256):  # then let others have the loop
            if router is None:
                return
            try:
                routing_id = router.recv(zmq.NOBLOCK)
                peer = self._peers.get(routing_id)
                if peer is None:
                    frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
                    peer = self._new_peer(routing_id, frames[0])
                    parts = [frame.bytes for frame in frames]
                else:
                    parts = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            except zmq.ZMQError as error:
                log.error("%s: %s", self.endpoint, error)
                return
            if peer.closed:
                continue
            if len(parts) == 1:
                try:
                    peer.heard_by.frame(peer, parts[0])
                except Exception as error:
                    tell("a link is ended", error)
                    self.forget(peer, in_words(error))
            else:
                reason = f"a message is expected to have one part, this one had {len(parts)}"
                peer.heard_by.malformed(peer, reason)
                peer.send(failed(None, ProtocolError(reason)))
        self._loop.call_soon(self._read)

    def _new_peer(self, routing_id: bytes, frame: Any) -> TcpPeer:
        """A link that was not heard before; it is closed already if it is not let in."""
        connection = TcpConnection(frame)
        peer = TcpPeer(self, routing_id, connection, max_frame_bytes=self._max_frame_bytes)
        peer.heard_by = self._frames
        peer.given_up = routing_id in self._given_up
        self._peers[routing_id] = peer
        if routing_id[0] != 0:  # not libzmq's own, but an identity: another could take it over, with all it has
            self._refuse(peer, ProtocolError("a worker on tcp is expected to have no identity (ZMQ_ROUTING_ID)"))
        elif self._curve is not None:
            peer.permit = self._curve.permit_of(frame)
            if peer.permit is None:  # it was removed since the handshake
                self._refuse(peer, NotPermitted("the supervisor has no permit for this key any more"))
        return peer

    def _probe_all(self) -> None:
        for peer in list(self._peers.values()):
            try:
                if self._socket is not None:
                    self._socket.send_multipart((peer.routing_id, EMPTY_FRAME), zmq.NOBLOCK)
            except zmq.Again:
                continue  # it has much to read: its replies will tell
            except zmq.ZMQError as error:
                self.forget(peer, error.strerror)
        self._loop.call_soon(self._read)
        self._probe = self._loop.call_later(PROBE_SECONDS, self._probe_all)


def _check(endpoint: str, *, keys: bool) -> None:
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(f"{endpoint}: expected tcp://127.0.0.1:PORT or tcp://[::1]:PORT") from None
    if not loopback and not keys:
        raise ConfigError(
            f"{endpoint}: tcp is served without keys on loopback only: anyone who can connect can use the database; "
            "make keys with `pgactor keygen` and name them in [curve], or use tcp://127.0.0.1:PORT, or an ipc:// "
            "endpoint on a shared volume"
        )
    if port is None:
        raise ConfigError(f"{endpoint}: the port is missing")
