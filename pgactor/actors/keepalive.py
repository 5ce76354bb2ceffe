"""When a TCP connection to PostgreSQL counts as dead: libpq's keepalives and tcp_user_timeout, as socket options.

Keepalives are on unless they are switched off, as with libpq and psqlpy. An option that the system does not know is
left out, as there, too.
"""

from __future__ import annotations

import math
import socket

from ..errors import ConfigError

OPTIONS = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")

_NAMES = {
    "keepalives_idle": ("TCP_KEEPIDLE", "TCP_KEEPALIVE"),  # the latter is macOS's name
    "keepalives_interval": ("TCP_KEEPINTVL",),
    "keepalives_count": ("TCP_KEEPCNT",),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT",),
}


def socket_options(options: dict[str, str]) -> list[tuple[int, int, int]]:
    """What socket.setsockopt is to be called with. Zero means the system's default, and is left out.

    Raises `ConfigError` for what is no number.
    """
    found = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    keeps = options.get("keepalives") != "0"
    if options.get("keepalives", "1") not in ("0", "1"):
        raise ConfigError(f"keepalives is expected to be 0 or 1; got {options['keepalives']!r}")
    if keeps:
        found.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
    for name, constants in _NAMES.items():
        value = _whole(name, options.get(name) or "0")
        if value and (keeps or name == "tcp_user_timeout"):
            constant = next((getattr(socket, each) for each in constants if hasattr(socket, each)), None)
            if constant is not None:
                found.append((socket.IPPROTO_TCP, constant, value))
    return found


def _whole(name: str, text: str) -> int:
    """The number; a part of one counts as a whole."""
    try:
        value = math.ceil(float(text))
    except (ValueError, OverflowError):
        value = -1
    if not 0 <= value < 2**31:
        raise ConfigError(f"{name} is expected to be a number, greater or equal to zero; got {text!r}")
    return value
