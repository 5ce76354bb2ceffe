"""The client for asyncio, a drop-in for asyncpg.Pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any

from ..errors import ClientClosed
from ..messages import IsolationLevel, Request
from ..messages.copying import CopyIn, CopyOut
from ..messages.pool import PoolStatus
from . import acquirer, calls, replies
from .aiochannel import AioChannel
from .aiocopies import AsyncCopies, Pumps
from .aiolease import AsyncLease
from .aiostatements import AsyncStatements
from .aiosubscription import AsyncSubscription
from .chunks import Chunk
from .failures import interface_error
from .holding import Holding
from .inbox import BUFFER_SIZE
from .knowledge import Knowledge
from .options import make_options
from .pending import Pending
from .recordclass import as_class
from .releasing import check_member, warn_of_listeners
from .repeating import AsyncRepeatableReads
from .sizes import Sizes


class AsyncClient(AsyncStatements, AsyncCopies, Sizes):
    """A worker's access to the pool, for asyncio and uvloop.

    It belongs to no event loop: each one that it is used in has a link of its own. It connects at the first call, and
    again after the supervisor was restarted; `await client` connects now.

    endpoint: ipc:///path or tcp://host:port; default $PGACTOR_ENDPOINT. connect_timeout: seconds to wait for a
    supervisor that is not there yet. request_timeout: seconds for each statement, the wait for a backend included;
    None: no limit. label: how this worker is named in `pgactor status` and in errors. pool: which of the supervisor's
    pools; default $PGACTOR_POOL, or its first. "NAME/database" has one made of the template NAME. An endpoint may
    name it too: ipc:///path?pool=NAME. A name that the supervisor does not have is a `PoolError` of the first call.
    server_key, key: on tcp, the supervisor's public key (several, with commas between) and this client's secret one,
    as paths of files that `pgactor keygen` made or as texts; default $PGACTOR_SERVER_KEY and $PGACTOR_KEY.
    comments: statements tell PostgreSQL in a comment what they are for; docs/observability.md has its price.

    The getters (`get_size`, ...) do not wait, so they tell what is known: of the last status that was asked for, kept
    up with the client's own leases. A look at what is older than 0.2 s has it asked for anew, for the next look.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        connect_timeout: float = 10.0,
        request_timeout: float | None = 60.0,
        label: str | None = None,
        pool: str | None = None,
        server_key: str | None = None,
        key: str | None = None,
        comments: bool = False,
    ) -> None:
        self._options = make_options(
            endpoint, connect_timeout, request_timeout, label, pool, server_key, key, comments=comments
        )
        self._default_timeout = self._options.request_timeout
        self._closed = False
        self._channels: dict[asyncio.AbstractEventLoop, AioChannel] = {}
        self._knowledge = Knowledge(self.status)

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

    @property
    def repeatable(self) -> AsyncRepeatableReads:
        """Reads that may be run twice: `await client.repeatable.fetch("select ...")`. One that ends in
        `OutcomeUnknown`, as when the supervisor dies meanwhile, is asked again, once."""
        return AsyncRepeatableReads(self)

    def acquire(self, *, timeout: float | None = None, ttl: float | None = None) -> Acquiring:
        """Get a PostgreSQL session for exclusive use: `async with client.acquire() as lease`, or `await` it.

        timeout: seconds to wait for one; raises `PoolTimeout`, which tells who holds what; `PoolDeadlock` at once if
        all are held by those who wait for another one. ttl: seconds that it stays yours if your process falls silent;
        it is renewed by itself while the event loop runs.
        """
        return Acquiring(self, calls.check_timeout(timeout, None), ttl, acquirer.place())

    async def release(self, lease: AsyncLease, *, timeout: float | None = None) -> None:
        """Give a lease back. One that was released already is left alone.

        timeout: is checked, and needed no more: nothing is waited for, since the supervisor resets the session.
        Raises asyncpg.InterfaceError for what is no lease of this client, and if a statement runs on it: that is
        cancelled then, and the lease released all the same.
        """
        calls.check_timeout(timeout, None)
        check_member(lease, isinstance(lease, AsyncLease) and lease.owner is self)
        if not lease.released:
            warn_of_listeners(lease)
            busy = lease.running > 0
            lease.release()
            if busy:
                raise interface_error("cannot perform operation: another operation is in progress")

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
        results = replies.results(await self._call("batch", request), request)
        return [as_class(each, self._record_class) if isinstance(each, list) else each for each in results]

    def listen(
        self, *channels: str, timeout: float | None = None, buffer_size: int = BUFFER_SIZE
    ) -> AsyncSubscription:
        """Hear what NOTIFY sends on these channels: `async for note in client.listen("orders", "bills")`.

        Names are exact, of 63 bytes at most. One connection of the supervisor's listens for all workers, so it costs
        no lease; each subscription gets each notification once, in the order in which they were committed. It begins
        with `async with client.listen(...) as subscription`, or with the first note asked for.

        Where notifications may have been missed (a connection was lost, or notes were not taken quickly enough) there
        is a note with a text in `note.gap`, one for each channel: whoever keeps what it was told of is to look anew.

        timeout: seconds after which the loop ends if no note comes; None: never. buffer_size: how many notes are kept
        here for a subscriber that is slow; then the oldest go, and a gap is told.
        """
        return AsyncSubscription(partial(self._channel, "listen"), channels, timeout, buffer_size)

    async def status(self) -> PoolStatus:
        """The state of the pool: connections, workers, leases, counters."""
        request = calls.status()
        return self._knowledge.learn(replies.pool_status(await self._call("status", request), request))

    async def expire_connections(self) -> None:
        """Replace every connection of the pool: idle ones now, used ones when they come back."""
        request = calls.expire()
        replies.done(await self._call("expire_connections", request), request)

    async def resize(self, max_size: int, min_size: int | None = None) -> None:
        """Change how many connections the pool may have, for all its workers. min_size: how many are kept open; None
        leaves it, or brings it down to max_size. Connections that are too many are closed when nobody uses them.

        Raises `NotPermitted` where the supervisor's workers_may_administer does not permit it.
        """
        request = calls.resize(max_size, min_size)
        replies.done(await self._call("resize", request), request)

    async def set_connect_args(self, dsn: str | None = None, **connect_kwargs: Any) -> None:
        """Open new connections of the pool by these arguments, in the place of all that it had; those that are open
        stay as they are, until they end or `expire_connections` is called.

        The arguments are the settings of the supervisor's [connect]: asyncpg's, libpq's and psqlpy's. Raises
        `ConfigError` for what cannot be, and `NotPermitted`.
        """
        request = calls.set_connect_args(dsn, connect_kwargs)
        replies.done(await self._call("set_connect_args", request), request)

    def is_closing(self) -> bool:
        """Whether the client is closed, or about to be."""
        return self._closed

    async def close(self) -> None:
        """End the link; leases end with it. The client cannot be used again. Closing twice is allowed."""
        self.terminate()

    def terminate(self) -> None:
        """As `close`, without await."""
        self._closed = True
        self._knowledge.forget()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        for loop, channel in list(self._channels.items()):
            if loop is running or loop.is_closed():
                channel.close()
            else:
                loop.call_soon_threadsafe(channel.close)

    def _known_status(self) -> PoolStatus | None:
        return self._knowledge.status if self._closed else self._knowledge.look()

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

    async def _acquire(self, timeout: float | None, ttl: float | None, place: str = "") -> AsyncLease:
        channel, task = self._channel("acquire"), asyncio.current_task()
        held = acquirer.inside(channel.leases, task)
        request = calls.acquire(timeout, ttl, acquirer.task_name(task), place, held)
        pending = await channel.ask(request)
        lease = AsyncLease(channel, pending.link, *replies.granted(pending, request))
        lease.owner, lease.acquire_timeout, lease.on_over = self, timeout, self._lease_over
        self._knowledge.lease_begun()
        return lease

    def _lease_over(self, lease: Holding) -> None:
        self._knowledge.lease_over()

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
    """A lease to be: `await` it, or enter it with `async with`, once, which releases it at the end."""

    def __init__(self, client: AsyncClient, timeout: float | None, ttl: float | None, place: str) -> None:
        self._client = client
        self._asked = timeout, ttl, place
        self._lease: AsyncLease | None = None
        self._used = False

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        self._used = True
        return self._client._acquire(*self._asked).__await__()

    async def __aenter__(self) -> AsyncLease:
        if self._used or self._lease is not None:
            raise interface_error("a connection is already acquired")
        self._lease = await self._client._acquire(*self._asked)
        self._lease.entered = acquirer.entering(asyncio.current_task())
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease, self._lease, self._used = self._lease, None, True
        if lease is not None:
            await self._client.release(lease)
