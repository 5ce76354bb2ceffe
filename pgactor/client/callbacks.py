"""The listeners of a lease, by channel, as asyncpg.Connection keeps them. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from .failures import interface_error

Callback = Callable[..., Any]
"""callback(connection, pid, channel, payload), where connection is the lease; it may be a coroutine function."""


class Callbacks:
    """Each callback once for a channel."""

    def __init__(self) -> None:
        self._callbacks: dict[str, dict[Callback, bool]] = {}

    def __len__(self) -> int:
        return sum(len(each) for each in self._callbacks.values())

    def __contains__(self, channel: str) -> bool:
        return channel in self._callbacks

    def add(self, channel: str, callback: Callback) -> None:
        """The callback is to be called for the channel."""
        self._callbacks.setdefault(channel, {})[callback] = iscoroutinefunction(callback)

    def remove(self, channel: str, callback: Callback) -> bool:
        """It is not to be called for the channel any more; whether it was the channel's last."""
        callbacks = self._callbacks.get(channel, {})
        if callbacks.pop(callback, None) is None or callbacks:
            return False
        del self._callbacks[channel]
        return True

    def of(self, channel: str) -> list[tuple[Callback, bool]]:
        """Those to call for the channel, and whether they are coroutine functions."""
        return list(self._callbacks.get(channel, {}).items())

    def clear(self) -> None:
        """Forget all."""
        self._callbacks.clear()


def require_callable(callback: object) -> None:
    """Raises asyncpg.InterfaceError for what cannot be a callback."""
    if not callable(callback):
        raise interface_error(f"expected a callable or an `async def` function,got {callback!r}")


def left_behind(lease: object, count: int) -> str:
    """What a lease's owner is warned of that releases it with so many listeners."""
    return (
        f"{lease!r} is being released to the pool but has {count} active notification listener"
        f"{'s' if count > 1 else ''}"
    )
