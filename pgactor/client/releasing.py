"""What is looked at when a pool takes a lease back."""

from __future__ import annotations

import warnings

from .failures import interface_error, interface_warning
from .holding import Holding


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
