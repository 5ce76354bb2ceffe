"""Who could stand between a worker and its supervisor on a Unix socket: whoever may write the socket's directory, and
whoever serves the socket. Both sides look before they begin.

A socket that its group may use is shared on purpose (`socket_mode`, `socket_group`): that one may be another user's.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

from .errors import ConfigError, NotPermitted

_PEER = struct.Struct("3i")


def check_directory(directory: Path, *, shared: bool) -> None:
    """The supervisor's look at the directory of its socket. shared: mode and group of the socket are configured.

    Raises `ConfigError`.
    """
    status = directory.stat()
    if status.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{directory}: everybody can write in this directory, and so replace the socket; "
            "use one for the supervisor alone (mode 0700), which it makes itself if it is not there"
        )
    if shared:
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{directory}: this directory belongs to another user (uid {status.st_uid}), who could replace the "
            "socket; use another one, or set socket_mode and socket_group"
        )
    if status.st_mode & stat.S_IWGRP:
        raise ConfigError(
            f"{directory}: its group can write in this directory, and so replace the socket: "
            f"chmod g-w {directory}, or set socket_mode and socket_group"
        )


def check_old_socket(path: Path) -> None:
    """The supervisor's look at what is in the place of its socket, which it will remove. Raises `ConfigError`."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(f"{path}: there is a file in the socket's place, which is no socket; it was left alone")
    if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise ConfigError(f"{path}: there is a socket of another user (uid {status.st_uid}) in this place")


def check_socket(path: Path) -> None:
    """A worker's look at the socket and its directory, before it connects. Raises `NotPermitted`, and OSError where
    there is none."""
    place, status = path.parent.stat(), path.stat()
    if place.st_mode & stat.S_IWOTH:
        raise NotPermitted(
            f"ipc://{path}: everybody can write in the directory {path.parent}, so the socket may be anybody's; "
            "have the supervisor use a directory of its own (mode 0700)"
        )
    if status.st_mode & stat.S_IWOTH:
        raise NotPermitted(f"ipc://{path}: everybody can use this socket; pgactor's supervisor makes none such")
    for what, owner in ((f"the directory {path.parent}", place.st_uid), ("the socket", status.st_uid)):
        if not _is_trusted(owner, status):
            raise NotPermitted(
                f"ipc://{path}: {what} belongs to another user (uid {owner}); if it is the supervisor's, set its "
                "socket_mode (0o660) and socket_group, a group that this process is in"
            )


def check_peer(sock: socket.socket, path: Path) -> None:
    """A worker's look at who listens at the socket that it is connected with, before it speaks: the path may have
    become another's since `check_socket`. Raises `NotPermitted`."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    uid = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1]
    if not _is_trusted(uid, path.stat()):
        raise NotPermitted(f"ipc://{path}: another user (uid {uid}) listens at this socket")


def _is_trusted(owner: int, sock: os.stat_result) -> bool:
    """Whether this user may serve us at the socket."""
    if owner in (os.geteuid(), 0):
        return True
    shared = bool(sock.st_mode & stat.S_IWGRP)
    return shared and (os.geteuid() == 0 or sock.st_gid in (os.getegid(), *os.getgroups()))
