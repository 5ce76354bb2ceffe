"""The client for asyncio, a drop-in for asyncpg.Pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

from ..errors import ClientClosed
from ..messages import CopyIn, CopyOut, IsolationLevel, PoolStatus, Request
from . import calls
from .aiochannel import AioChannel
from .aiocopies import AsyncCopies, Pumps
from .aiolease import AsyncLease
from .aiostatements import AsyncStatements
from .chunks import Chunk
from .failures import interface_error
from .options import make_options
from .requests import Pending


class AsyncClient(AsyncStatements, AsyncCopies):
    """A worker's access to the pool, for asyncio and uvloop.

    It belongs to no event loop: each one that it is used in has a link of its own. It connects at the first call, and
    again after the supervisor was restarted; `await client` connects now.

    endpoint: ipc:///path or tcp://host:port; default $PGACTOR_ENDPOINT. connect_timeout: seconds to wait for a
    supervisor that is not there yet. request_timeout: seconds for each statement, the wait for a backend included;
    None: no limit. label: how this worker is named in `pgactor status` and in errors.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        connect_timeout: float = 10.0,
        request_timeout: float | None = 60.0,
        label: str | None = None,
    ) -> None:
        self._options = make_options(endpoint, connect_timeout, request_timeout, label)
        self._default_timeout = request_timeout
        self._closed = False
        self._channels: dict[asyncio.AbstractEventLoop, AioChannel] = {}

    def __await__(self) -> Generator[Any, None, AsyncClient]:
        return self._connected().__await__()

    async def __aenter__(self) -> AsyncClient:
        return await self._connected()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._options.endpoint}{' closed' if self._closed else ''}>"

    def acquire(self, *, timeout: float | None = None, ttl: float | None = None) -> Acquiring:
        """Get a PostgreSQL session for exclusive use: `async with client.acquire() as lease`, or `await` it.

        timeout: seconds to wait for one; raises `PoolTimeout`, which tells who holds what. ttl: seconds that it stays
        yours if your process falls silent; it is renewed by itself while the event loop runs.
        """
        return Acquiring(self, calls.check_timeout(timeout, None), ttl)

    async def release(self, lease: AsyncLease, *, timeout: float | None = None) -> None:
        """Give a lease back, as `lease.release()` does."""
        if not isinstance(lease, AsyncLease):
            raise interface_error(f"release() received an invalid lease: {lease!r} is not one of this client")
        lease.release()

    @asynccontextmanager
    async def transaction(
        self,
        *,
        isolation: IsolationLevel | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[AsyncLease]:
        """A lease with a transaction: committed at the end of `async with`, rolled back if an exception leaves it."""
        async with (
            self.acquire(timeout=timeout) as lease,
            lease.transaction(isolation=isolation, readonly=readonly, deferrable=deferrable),
        ):
            yield lease

    async def batch(
        self,
        statements: Iterable[str | Sequence[object]],
        *,
        atomic: bool = True,
        isolation: IsolationLevel | None = None,
        readonly: bool = False,
        timeout: float | None = None,
    ) -> list[Any]:
        """Run statements one after another, in one request: `pool.batch([("insert ... $1", 1), "delete ..."])`.

        Each is a text, or a sequence of a text and its arguments. Returns for each its rows (`list[Record]`), if it
        has columns, else its command tag, such as 'UPDATE 3'.

        atomic: all of it happens, in one transaction of this isolation and readonly, or nothing; the first error is
        raised, with the statement's index as its `batch_index` (it has none if it is the commit that failed).
        Otherwise each statement is by itself, also after one that failed, and the error of one that failed is
        returned in its place.
        """
        request = calls.batch(statements, self._limit(timeout), atomic=atomic, isolation=isolation, readonly=readonly)
        if not request.statements:
            return []
        return calls.results(await self._call("batch", request), request)

    async def status(self) -> PoolStatus:
        """The state of the pool: connections, workers, leases, counters."""
        request = calls.status()
        return calls.pool_status(await self._call("status", request), request)

    async def expire_connections(self) -> None:
        """Replace every connection of the pool: idle ones now, used ones when they come back."""
        request = calls.expire()
        calls.done(await self._call("expire_connections", request), request)

    async def close(self) -> None:
        """End the link; leases end with it. The client cannot be used again. Closing twice is allowed."""
        self.terminate()

    def terminate(self) -> None:
        """As `close`, without await."""
        self._closed = True
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        for loop, channel in list(self._channels.items()):
            if loop is running or loop.is_closed():
                channel.close()
            else:
                loop.call_soon_threadsafe(channel.close)

    async def _connected(self) -> AsyncClient:
        await self.status()
        return self

    async def _execute_chunks(
        self, command: str, first: Chunk, others: AsyncIterator[Chunk], end: float | None
    ) -> None:
        async with self.acquire(timeout=calls.remaining(end)) as lease:
            await lease._execute_chunks(command, first, others, end)

    async def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        end = calls.until(request.timeout)
        async with self.acquire(timeout=request.timeout) as lease:
            request.timeout = calls.remaining(end)
            return await lease._copy(method, request, pumps)

    def _call(self, method: str, request: Request) -> Coroutine[Any, Any, Pending]:
        return self._channel(method).ask(request)

    async def _acquire(self, timeout: float | None, ttl: float | None) -> AsyncLease:
        request = calls.acquire(timeout, ttl)
        asked_at = time.monotonic()
        channel = self._channel("acquire")
        pending, connected = await channel.call(request)
        return AsyncLease(channel, connected, calls.granted(pending, request), asked_at)

    def _channel(self, method: str) -> AioChannel:
        """The running loop's."""
        if self._closed:
            raise ClientClosed(f"cannot call {method}(): the client is closed")
        loop = asyncio.get_running_loop()
        channel = self._channels.get(loop)
        return self._new_channel(loop) if channel is None else channel

    def _new_channel(self, loop: asyncio.AbstractEventLoop) -> AioChannel:
        for other, stale in list(self._channels.items()):  # other threads may do so too, at the same time
            if other.is_closed():
                stale.close()
                self._channels.pop(other, None)
        channel = self._channels[loop] = AioChannel(self._options)
        return channel


class Acquiring:
    """A lease to be: `await` it, or enter it with `async with`, which releases it at the end."""

    def __init__(self, client: AsyncClient, timeout: float | None, ttl: float | None) -> None:
        self._client = client
        self._timeout = timeout
        self._ttl = ttl
        self._lease: AsyncLease | None = None

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        return self._client._acquire(self._timeout, self._ttl).__await__()

    async def __aenter__(self) -> AsyncLease:
        if self._lease is not None:
            raise interface_error("a connection is already acquired")
        self._lease = await self
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


def create_pool(
    endpoint: str | None = None,
    *,
    connect_timeout: float = 10.0,
    request_timeout: float | None = 60.0,
    label: str | None = None,
) -> AsyncClient:
    """An `AsyncClient` to be awaited or entered, as asyncpg's create_pool: `pool = await create_pool(endpoint)`."""
    return AsyncClient(endpoint, connect_timeout=connect_timeout, request_timeout=request_timeout, label=label)
