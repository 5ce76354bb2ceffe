"""CURVE on a ROUTER: the keys, who is let in, and the handshakes' judge (ZAP, https://rfc.zeromq.org/spec/27/).

libzmq asks, for each handshake, on a socket of its context; the answer names the link's key to whoever reads its
messages. pyzmq's authenticator keeps a directory of another format, without permits, and a task per question.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import zmq

from .. import keys
from ..config.curve import CurveSettings
from ..errors import ConfigError
from .permits import Permit, Permits

log = logging.getLogger("pgactor.curve")

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"pgactor"
LOOK_SECONDS = 0.1
"""How long the directory of keys is not looked at again for a key that is not in it."""


class Curve:
    """Raises `ConfigError` for keys that cannot be read."""

    def __init__(self, settings: CurveSettings) -> None:
        if settings.server_key is None or settings.client_keys is None:
            raise ConfigError("curve needs server_key and client_keys")
        self._secret = keys.secret_key(settings.server_key)
        self.permits = Permits(settings.client_keys)
        self._zap: zmq.Socket[bytes] | None = None
        self._refused = 0
        self._looked_at = 0.0
        self._loop: asyncio.AbstractEventLoop

    def start(self, context: Any, router: Any) -> None:
        """Have this ROUTER, which is not bound yet, speak CURVE."""
        self._loop = asyncio.get_running_loop()
        self._zap = zap = context.socket(zmq.REP)
        zap.setsockopt(zmq.LINGER, 0)
        zap.bind(ZAP_ENDPOINT)
        self._fd = int(zap.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._judge)
        router.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, self._secret.encode())

    def is_other(self, secret: str) -> bool:
        """Whether this is another secret key than the supervisor's."""
        return secret != self._secret

    def change_key(self, secret: str, router: Any = None) -> str:
        """Have this ROUTER use another secret key where it is bound from now on. Returns the one before."""
        before, self._secret = self._secret, secret
        if router is not None:
            router.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        return before

    def close(self) -> None:
        """Judge no more; the context ends the socket."""
        if self._zap is not None:
            self._loop.remove_reader(self._fd)
            self._zap = None

    def permit_of(self, frame: Any) -> Permit | None:
        """The permit of the link that the frame came by."""
        return self.permits.get(frame.get("User-Id"))

    def _judge(self) -> None:
        while self._zap is not None:
            try:
                asked = self._zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._zap.send_multipart(self._answer(asked), zmq.NOBLOCK)  # the descriptor's edge: look again

    def _new_permit(self, key: str) -> Permit | None:
        """The permit of a key that has just come; the directory is not looked at with each stranger that knocks."""
        now = self._loop.time()
        if now < self._looked_at + LOOK_SECONDS:
            return None
        self._looked_at = now
        self.permits.look_again()
        return self.permits.get(key)

    def _answer(self, asked: list[bytes]) -> list[bytes]:
        version, number, _, address, _, mechanism, *credentials = asked
        key = keys.text_of(credentials[0]) if mechanism == b"CURVE" and credentials else ""
        permit = self.permits.get(key) or self._new_permit(key)
        if permit is None:
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:  # who tries again and again does not fill the log
                who = address.decode(errors="replace")
                log.warning(
                    "handshake %d refused, of %s: client_keys has no %s", self._refused, who, key or "key of it"
                )
            return [version, number, b"400", b"unknown key", b"", b""]
        return [version, number, b"200", b"", key.encode(), b""]
