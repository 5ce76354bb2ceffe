"""Tells the service manager how the supervisor fares: systemd's Type=notify."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger("pgactor.supervisor")


def notify(*states: str) -> None:
    """Send these states, such as "READY=1", to the socket that $NOTIFY_SOCKET names; without one, do nothing.

    If nobody is there to hear it, that is logged, and no more: the pool works without.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # systemd's way to write an abstract one
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.sendall("\n".join(states).encode())
    except OSError as error:
        log.warning("$NOTIFY_SOCKET (%s) cannot be told %s: %s", address, states[0], error.strerror)
