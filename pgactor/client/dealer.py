"""pyzmq's DEALER, for links over tcp: how it is set up, with its keys, and what is heard of its connection."""

from __future__ import annotations

import errno
import itertools
from typing import Any

from .. import keys
from .options import Options
from .requests import LostLink

_attempts = itertools.count()


def dealer(options: Options) -> tuple[Any, Any, Any]:
    """A context, a DEALER that does not reconnect by itself, and a monitor of its connection. Keys are read anew, so
    that new ones need no restart. Raises `ConfigError` for those that cannot be read."""
    import zmq

    settings = [
        (zmq.LINGER, 0),
        (zmq.IPV6, "[" in options.endpoint),
        (zmq.RECONNECT_IVL, -1),
        (zmq.MAXMSGSIZE, options.max_frame_bytes),
        (zmq.HEARTBEAT_IVL, 5000),
        (zmq.HEARTBEAT_TIMEOUT, 15000),
        (zmq.SNDHWM, 0),
        (zmq.RCVHWM, 0),
        *_curve(options),
    ]
    context = zmq.Context()
    sock = context.socket(zmq.DEALER)
    for option, value in settings:
        sock.setsockopt(option, value)
    lost = (
        zmq.EVENT_DISCONNECTED
        | zmq.EVENT_CLOSED
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    )
    monitor = sock.get_monitor_socket(lost | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    return context, sock, monitor


def _curve(options: Options) -> list[tuple[int, Any]]:
    if not options.key:
        return []
    import zmq

    of_server = keys.public_keys(options.server_key)
    secret = keys.secret_key(options.key)
    return [
        (zmq.CURVE_SERVERKEY, of_server[next(_attempts) % len(of_server)].encode()),  # in turn: one is the right one
        (zmq.CURVE_PUBLICKEY, keys.public_of(secret).encode()),
        (zmq.CURVE_SECRETKEY, secret.encode()),
    ]


def refusal(monitor: Any) -> OSError | None:
    """Take one event off the monitor: why it is the end of the link; None: the other side has greeted."""
    import zmq
    from zmq.utils.monitor import recv_monitor_message

    event = recv_monitor_message(monitor)["event"]
    if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
        return None
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return LostLink("the supervisor does not accept this client's key: it is none of its client_keys")
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return ConnectionRefusedError(errno.ECONNREFUSED, "one side uses keys (CURVE) and the other does not")
    if event == zmq.EVENT_CLOSED:
        return ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
    return LostLink("whoever listens there has closed the connection; with keys: is server_key the supervisor's?")
