"""A client with asyncpg.Pool's life: it is initialised, used, closing, closed."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Generator
from typing import Any

from ..errors import DatabaseUnavailable
from . import calls, replies
from .aio import AsyncClient
from .aiochannel import AioChannel
from .aiolease import AsyncLease
from .failures import interface_error
from .holding import Holding
from .outstanding import Outstanding
from .poolarguments import PoolArguments

log = logging.getLogger("pgactor.pool")

SLOW_CLOSE_SECONDS = 60


class Pool(AsyncClient):
    """What `create_pool` makes: an `AsyncClient` that behaves as asyncpg.Pool.

    It is to be awaited or entered (`async with`) first, and `close` waits for its leases. It is this worker's share
    of the supervisor's pool: the sizes are those of all, what `close` and `terminate` end is its own.

    arguments: what an application says of the pool's sizes, record_class: of its rows, see `create_pool`. The others
    are `AsyncClient`'s.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        arguments: PoolArguments | None = None,
        record_class: type | None = None,
        **options: Any,
    ) -> None:
        super().__init__(endpoint, **options)
        self._record_class = record_class
        self._arguments = arguments or PoolArguments()
        self._initializing = False
        self._initialized = False
        self._closing = False
        self._outstanding = Outstanding()

    def __await__(self) -> Generator[Any, None, Pool]:
        return self._ready().__await__()

    async def __aenter__(self) -> Pool:
        return await self._ready()

    def is_closing(self) -> bool:
        """Whether the pool is closed, or about to be."""
        return self._closed or self._closing

    def get_min_size(self) -> int:
        """How many connections the supervisor keeps open; before the pool is initialised, what it was made with."""
        return super().get_min_size() if self._initialized else self._arguments.min_size

    def get_max_size(self) -> int:
        """How many connections there may be; before the pool is initialised, what it was made with."""
        return super().get_max_size() if self._initialized else self._arguments.max_size

    def get_init_size(self) -> int:
        """How many the supervisor opens when it starts; before the pool is initialised, what it was made with."""
        return super().get_init_size() if self._initialized else self._arguments.init_size

    async def expire_connections(self) -> None:
        """Replace every connection of the supervisor's pool: idle ones now, used ones when they come back. May be
        called before the pool is initialised; a closed pool has none."""
        if not self._closed:
            request = calls.expire()
            replies.done(await super()._channel("expire_connections").ask(request), request)

    async def close(self) -> None:
        """Wait until this pool's leases are released and its statements answered, then end the link; the supervisor's
        connections stay. A cancel, as by asyncio.wait_for(), or an error ends it at once."""
        if self._closed:
            return
        self._require_initialized()
        self._closing = True
        warning = asyncio.get_running_loop().call_later(SLOW_CLOSE_SECONDS, self._warn_of_leases)
        try:
            await self._quiet()
        finally:
            warning.cancel()
            self.terminate()

    def terminate(self) -> None:
        """End the link at once: what runs on this pool's leases is cancelled, and they are rolled back. May be called
        again."""
        if self._closed:
            return
        self._require_initialized()
        self._closing = False
        for lease in self._outstanding.held():
            lease.break_off()  # the supervisor hears of it by the end of the link
        super().terminate()

    async def _ready(self) -> Pool:
        """Reach the supervisor, and see whether it has a database. If not, the pool is closed."""
        if self._initialized:
            return self
        if self._initializing:
            raise interface_error("pool is being initialized in another task")
        self._initializing = True
        try:
            await self._initialize()
        except BaseException:
            super().terminate()
            raise
        finally:
            self._initializing = False
            self._initialized = True
        return self

    async def _initialize(self) -> None:
        request = calls.status()
        pending = await super()._channel("create_pool").ask(request)
        status = self._knowledge.learn(replies.pool_status(pending, request))
        if not status.size and status.database != "ok":
            raise DatabaseUnavailable(f"the supervisor has no connection to PostgreSQL: {status.database}")
        if difference := self._arguments.differences(status):
            warnings.warn(difference, stacklevel=4)

    async def _quiet(self) -> None:
        """Wait until nothing of this pool is under way."""
        channel = self._channels.get(asyncio.get_running_loop())
        while self._outstanding or (channel is not None and channel.is_busy):
            await self._outstanding.none_held()
            if channel is not None and channel.is_busy:
                await channel.quiet()

    def _warn_of_leases(self) -> None:
        log.warning(
            "Pool.close() has waited %d s for connections to be released: look for those that are never released %s; "
            "asyncio.wait_for() would end the wait",
            SLOW_CLOSE_SECONDS,
            self._outstanding.held(),
        )

    async def _acquire(self, timeout: float | None, ttl: float | None, place: str = "") -> AsyncLease:
        lease = await super()._acquire(timeout, ttl, place)
        lease._record_class = self._record_class
        self._outstanding.add(lease)
        return lease

    def _lease_over(self, lease: Holding) -> None:
        super()._lease_over(lease)
        assert isinstance(lease, AsyncLease)  # noqa: S101  # for mypy
        self._outstanding.remove(lease)

    def _channel(self, method: str) -> AioChannel:
        if self._closing:
            raise interface_error("pool is closing")
        self._require_initialized()
        if self._closed:
            raise interface_error("pool is closed")
        return super()._channel(method)

    def _require_initialized(self) -> None:
        if self._initializing:
            raise interface_error(
                "pool is being initialized, but not yet ready: likely there is a race between creating a pool and "
                "using it"
            )
        if not self._initialized:
            raise interface_error("pool is not initialized")
