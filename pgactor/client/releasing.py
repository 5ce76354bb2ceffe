"""What is looked at when a lease is given back."""

from __future__ import annotations

import warnings

from ..messages import Failed
from .failures import broken_off, exception, interface_error, interface_warning
from .holding import Holding
from .requests import Pending


def check_member(lease: object, belongs: bool) -> None:
    """Raises asyncpg.InterfaceError unless the lease belongs to the pool that is to take it back."""
    if not belongs:
        raise interface_error(f"Pool.release() received invalid connection: {lease!r} is not a member of this pool")


def warn_of_listeners(lease: Holding) -> None:
    """Issue an asyncpg.InterfaceWarning for each kind of listeners that the lease's owner has left on it."""
    for kind, count in lease.listeners_left().items():
        if count:
            plural = "s" if count > 1 else ""
            text = f"{lease!r} is being released to the pool but has {count} active {kind} listener{plural}"
            warnings.warn(interface_warning(text), stacklevel=2)


def check_unbroken(pending: Pending) -> None:
    """Raises asyncpg.ConnectionDoesNotExistError if the request was ended by the end of its lease, and not by
    PostgreSQL."""
    reply, error = pending.reply, pending.error
    if isinstance(reply, Failed) and reply.code not in ("asyncpg", "python"):
        error = exception(reply)
    if error is not None:
        raise broken_off() from error
