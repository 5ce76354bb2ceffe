"""pyzmq's DEALER, for links over tcp: how it is set up, with its keys, and what is heard of its connection."""

from __future__ import annotations

import errno
from typing import Any

from .. import keys
from .options import Options
from .requests import LostLink

_wrong: dict[str, int] = {}
"""How often the one that was tried of several server keys was the wrong one, by the keys as given: that tells which
is the next to try. It is remembered for the links that follow."""


def dealer(options: Options) -> tuple[Any, Any, Any, int]:
    """A context, a DEALER that does not reconnect by itself, a monitor of its connection, and a number for
    `was_wrong`. Keys are read anew, so that new ones need no restart. Raises `ConfigError` for those that cannot be
    read."""
    import zmq

    turn = _wrong.get(options.server_key, 0)
    settings = [
        (zmq.LINGER, 0),
        (zmq.IPV6, "[" in options.endpoint),
        (zmq.RECONNECT_IVL, -1),
        (zmq.MAXMSGSIZE, options.max_frame_bytes),
        (zmq.HEARTBEAT_IVL, 5000),
        (zmq.HEARTBEAT_TIMEOUT, 60_000),  # without a processor nobody answers
        (zmq.TCP_MAXRT, 15_000),  # but a kernel does, if it is there
        (zmq.SNDHWM, 0),
        (zmq.RCVHWM, 0),
        *_curve(options, turn),
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
    return context, sock, monitor, turn


def was_wrong(options: Options, turn: int) -> None:
    """No link came of the server key that was tried in this turn: the next attempt is with another, if there is one.
    Who tried it at the same time knows nothing new by that."""
    if "," in options.server_key and _wrong.get(options.server_key, 0) == turn:
        _wrong[options.server_key] = turn + 1


def _curve(options: Options, turn: int) -> list[tuple[int, Any]]:
    if not options.key:
        return []
    import zmq

    of_server = keys.public_keys(options.server_key)
    secret = keys.secret_key(options.key)
    return [
        (zmq.CURVE_SERVERKEY, of_server[turn % len(of_server)].encode()),
        (zmq.CURVE_PUBLICKEY, keys.public_of(secret).encode()),
        (zmq.CURVE_SECRETKEY, secret.encode()),
    ]


def refusal(monitor: Any, options: Options) -> OSError | None:
    """Take one event off the monitor: why it is the end of the link; None: the other side has greeted."""
    import zmq
    from zmq.utils.monitor import recv_monitor_message

    event = recv_monitor_message(monitor)["event"]
    if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
        return None
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return LostLink("the supervisor does not accept this client's key: it is none of its client_keys")
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return ConnectionRefusedError(errno.ECONNREFUSED, "only one side uses keys (CURVE)")
    if event == zmq.EVENT_CLOSED:
        return ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
    if options.key:
        return LostLink("it closes the connection: is server_key its own? It may have another one now")
    return LostLink("it closes the connection: are its keys asked for (server_key and key)?")
