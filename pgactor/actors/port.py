"""A tcp port, at which several sockets may listen for a while: one for each key that the supervisor has had, and that
of the supervisor which takes over. New connections go to one of them only; those that are made stay where they are.

libzmq ends the links that it has accepted when it is told to listen no more, so a socket that is to get no more
connections is left open, and passed over by the kernel (SO_REUSEPORT, with a program that names the socket's place
among all that listen there, in the order in which they began).
"""

from __future__ import annotations

import ctypes
import ipaddress
import logging
import os
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

import zmq

from ..errors import ConfigError

log = logging.getLogger("pgactor.gateway")

_ATTACH_PROGRAM = 51  # SO_ATTACH_REUSEPORT_CBPF, which Python does not name
_RETURN = 0x06  # BPF_RET | BPF_K

BACKLOG = 1024
"""How many connections may wait to be accepted: when supervisors change, all workers come at once."""


class Port:
    """The port of a tcp:// endpoint, and this process's sockets there, which are libzmq's: its context ends them."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._sockets: list[int] = []  # the newest last

    def listen(self, router: Any, *, beside: bool = False) -> None:
        """Have the ROUTER accept links with what it is set to now. beside: beside another process of this user.
        Raises `OSError`."""
        if self._sockets:
            _lead_to(len(self._sockets), self._sockets[0])  # there is none yet, so nothing changes before there is
        try:
            self._listen(router, beside=beside or bool(self._sockets))
        except BaseException:
            self.claim()
            raise

    def make_way(self) -> None:
        """Let new connections go to the process that has begun to listen after this one."""
        self._lead_to(len(self._sockets))

    def claim(self) -> None:
        """It is gone: let them come here again."""
        self._lead_to(len(self._sockets) - 1)

    def close(self) -> None:
        """The sockets are closed."""
        self._sockets.clear()

    def _listen(self, router: Any, *, beside: bool) -> None:
        descriptor = _listening(self.endpoint, beside=beside)
        try:
            router.setsockopt(zmq.USE_FD, descriptor)
            router.bind(self.endpoint)
        except zmq.ZMQError as error:
            os.close(descriptor)
            raise OSError(error.errno, error.strerror) from None
        self.endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._sockets.append(descriptor)

    def _lead_to(self, place: int) -> None:
        if self._sockets:
            try:
                _lead_to(place, self._sockets[0])
            except OSError as error:
                log.warning("%s: new links may go to any socket there: %s", self.endpoint, error)


def _listening(endpoint: str, *, beside: bool) -> int:
    """A descriptor that listens at the endpoint."""
    parts = urlsplit(endpoint)
    family = socket.AF_INET6 if "[" in endpoint else socket.AF_INET
    address = socket.getaddrinfo(parts.hostname, parts.port, family, socket.SOCK_STREAM)[0][4]
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # others may follow, if they ask for it
        sock.listen(BACKLOG)
        return sock.detach()


def _lead_to(place: int, descriptor: int) -> None:
    """Have new connections go to the socket at this place among all that listen at the descriptor's port. While there
    is none there, they go to any. Raises `OSError` where the system cannot do that."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, place))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_PROGRAM, program)


def check(endpoint: str, *, keys: bool) -> None:
    """Raises `ConfigError` for an endpoint that is none, or may not be served: without keys only loopback is."""
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
