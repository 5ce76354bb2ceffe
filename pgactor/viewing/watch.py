"""The one who asks a supervisor for the state of its pools, again and again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec

from ..client.aio import AsyncClient
from ..messages.pool import PoolStatus
from .figures import Figures, figures

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 3.0
"""A supervisor that does not answer a status within this time counts as one that does not answer."""


class Sight(msgspec.Struct):
    """What was seen. at: when it was looked, in seconds since 1970. error: why there is no answer now, "" if there is
    one; then pools is what was seen last, silent_seconds ago. pools: by their names, the first one first. unseen: the
    names of the other pools, and why nothing is known of them."""

    endpoint: str
    at: float
    error: str
    silent_seconds: float
    pools: dict[str, Figures]
    unseen: dict[str, str]


class Watch:
    """Asks the supervisor at the endpoint; it connects by itself, and again after a restart.

    pool: the one pool to watch; None: all that are configured. A pool that was made of a template would never be idle
    for as long as a watch is connected to it, so such ones are watched only by name. label: how the watch is named
    among the workers.
    """

    def __init__(self, endpoint: str, pool: str | None, *, label: str) -> None:
        self._endpoint = endpoint
        self._pool = pool or None
        self._label = label
        self._clients: dict[str | None, AsyncClient] = {}
        self._seen: dict[str, PoolStatus] = {}
        self._sight = Sight(endpoint, 0.0, "", 0.0, {}, {})
        self._answered_at: float | None = None

    async def look(self) -> Sight:
        """Ask once. An error is told in what it returns; none is raised."""
        unseen: dict[str, str] = {}
        try:
            first = await self._status(self._pool)
        except Exception as error:
            return self._failed(error)
        found = {first.pool: first}
        if self._pool is None:
            for name in first.pools:
                if name == first.pool:
                    continue
                if "/" in name:
                    unseen[name] = "made of a template: watched only by name, as with --pool, which keeps it open"
                    continue
                try:
                    found[name] = await self._status(name)
                except Exception as error:
                    unseen[name] = _in_words(error)
        pools = {name: figures(self._seen.get(name), status) for name, status in found.items()}
        self._seen = found
        self._answered_at = time.monotonic()
        self._sight = Sight(self._endpoint, time.time(), "", 0.0, pools, unseen)
        return self._sight

    async def close(self) -> None:
        """End the links."""
        for client in self._clients.values():
            await client.close()

    async def _status(self, pool: str | None) -> PoolStatus:
        client = self._clients.get(pool)
        if client is None:
            client = self._clients[pool] = AsyncClient(
                self._endpoint, connect_timeout=CONNECT_SECONDS, label=self._label, pool=pool
            )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await client.status()
        except BaseException:
            del self._clients[pool]  # a new link is made: who knows what became of this one
            with suppress(Exception):
                await client.close()
            raise

    def _failed(self, error: Exception) -> Sight:
        silent = 0.0 if self._answered_at is None else time.monotonic() - self._answered_at
        self._sight = msgspec.structs.replace(
            self._sight, at=time.time(), error=_in_words(error), silent_seconds=silent
        )
        return self._sight


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"the supervisor has not answered within {ANSWER_SECONDS:g} s"
    return " ".join(f"{type(error).__name__}: {error}".split())
