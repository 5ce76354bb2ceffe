"""The client for blocking code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from ..errors import ClientClosed
from ..messages import IsolationLevel, Request
from ..messages.copying import CopyIn, CopyOut
from ..messages.pool import PoolStatus
from . import acquirer, calls, replies
from .channel import Channel
from .chunks import Chunk
from .copies import Copies, Pumps
from .failures import interface_error
from .inbox import BUFFER_SIZE
from .lease import Lease
from .options import make_options
from .pending import Pending
from .releasing import check_member, warn_of_listeners
from .repeating import RepeatableReads
from .sizes import Sizes
from .statements import Statements
from .subscription import Subscription


class Client(Statements, Copies, Sizes):
    """A worker's access to the pool, for blocking code.

    Safe in threads, across forks (made before or after, used before or after, in parent and child) and under gevent;
    it needs no event loop. It connects at the first call, and again after the supervisor was restarted.

    endpoint: ipc:///path or tcp://host:port; default $PGACTOR_ENDPOINT. connect_timeout: seconds to wait for a
    supervisor that is not there yet. request_timeout: seconds for each statement, the wait for a backend included;
    None: no limit. label: how this worker is named in `pgactor status` and in errors. pool: which of the supervisor's
    pools; default $PGACTOR_POOL, or its first. "NAME/database" has one made of the template NAME. An endpoint may
    name it too: ipc:///path?pool=NAME. A name that the supervisor does not have is a `PoolError` of the first call.
    server_key, key: on tcp, the supervisor's public key (several, with commas between) and this client's secret one,
    as paths of files that `pgactor keygen` made or as texts; default $PGACTOR_SERVER_KEY and $PGACTOR_KEY.
    comments: statements tell PostgreSQL in a comment what they are for; docs/observability.md has its price.
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
        self._channel = Channel(
            make_options(endpoint, connect_timeout, request_timeout, label, pool, server_key, key, comments=comments)
        )
        self._default_timeout = self._channel.options.request_timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._channel.options.endpoint}{' closed' if self._channel.closed else ''}>"

    @property
    def repeatable(self) -> RepeatableReads:
        """Reads that may be run twice: `client.repeatable.fetch("select ...")`. One that ends in `OutcomeUnknown`, as
        when the supervisor dies meanwhile, is asked again, once."""
        return RepeatableReads(self)

    def acquire(self, *, timeout: float | None = None, ttl: float | None = None) -> Lease:
        """Get a PostgreSQL session for exclusive use, to be released: `with client.acquire() as lease`.

        timeout: seconds to wait for one; raises `PoolTimeout`, which tells who holds what; `PoolDeadlock` at once if
        all are held by those who wait for another one. ttl: seconds that it stays yours if your process falls silent;
        it is renewed by itself while the process runs.
        """
        place, held = acquirer.place(), acquirer.inside(self._channel.leases)
        request = calls.acquire(calls.check_timeout(timeout, None), ttl, "", place, held)
        pending, connected = self._channel.call(request)
        lease = Lease(self._channel, connected, *replies.granted(pending, request))
        lease.owner = self
        return lease

    def release(self, lease: Lease, *, timeout: float | None = None) -> None:
        """Give a lease back. One that was released already is left alone.

        timeout: is checked, and needed no more: nothing is waited for, since the supervisor resets the session.
        Raises asyncpg.InterfaceError for what is no lease of this client, and if a statement runs on it, in another
        thread: the statement is cancelled then, and the lease released all the same.
        """
        calls.check_timeout(timeout, None)
        check_member(lease, isinstance(lease, Lease) and lease.owner is self)
        if not lease.released:
            warn_of_listeners(lease)
            busy = lease.running > 0
            lease.release()
            if busy:
                raise interface_error("cannot perform operation: another operation is in progress")

    @contextmanager
    def transaction(
        self,
        *,
        isolation: IsolationLevel | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Lease]:
        """A lease with a transaction: committed at the end of `with`, rolled back if an exception leaves it."""
        with (
            self.acquire(timeout=timeout) as lease,
            lease.transaction(isolation=isolation, readonly=readonly, deferrable=deferrable),
        ):
            yield lease

    def batch(
        self,
        statements: Iterable[str | Sequence[object]],
        *,
        atomic: bool = True,
        isolation: IsolationLevel | None = None,
        readonly: bool = False,
        timeout: float | None = None,
    ) -> list[Any]:
        """Run statements one after another, in one request: `client.batch([("insert ... $1", 1), "delete ..."])`.

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
        return replies.results(self._call("batch", request), request)

    def listen(self, *channels: str, timeout: float | None = None, buffer_size: int = BUFFER_SIZE) -> Subscription:
        """Hear what NOTIFY sends on these channels: `for note in client.listen("orders", "bills")`.

        Names are exact, of 63 bytes at most. One connection of the supervisor's listens for all workers, so it costs
        no lease; each subscription gets each notification once, in the order in which they were committed. It begins
        with `with client.listen(...) as subscription`, or with the first note asked for.

        Where notifications may have been missed (a connection was lost, or notes were not taken quickly enough) there
        is a note with a text in `note.gap`, one for each channel: whoever keeps what it was told of is to look anew.

        timeout: seconds after which the loop ends if no note comes; None: never. buffer_size: how many notes are kept
        here for a subscriber that is slow; then the oldest go, and a gap is told.
        """
        return Subscription(self._channel, channels, timeout, buffer_size)

    def status(self) -> PoolStatus:
        """The state of the pool: connections, workers, leases, counters."""
        request = calls.status()
        return replies.pool_status(self._call("status", request), request)

    def expire_connections(self) -> None:
        """Replace every connection of the pool: idle ones now, used ones when they come back."""
        request = calls.expire()
        replies.done(self._call("expire_connections", request), request)

    def resize(self, max_size: int, min_size: int | None = None) -> None:
        """Change how many connections the pool may have, for all its workers. min_size: how many are kept open; None
        leaves it, or brings it down to max_size. Connections that are too many are closed when nobody uses them.

        Raises `NotPermitted` where the supervisor's workers_may_administer does not permit it.
        """
        request = calls.resize(max_size, min_size)
        replies.done(self._call("resize", request), request)

    def set_connect_args(self, dsn: str | None = None, **connect_kwargs: Any) -> None:
        """Open new connections of the pool by these arguments, in the place of all that it had; those that are open
        stay as they are, until they end or `expire_connections` is called.

        The arguments are the settings of the supervisor's [connect]: asyncpg's, libpq's and psqlpy's. Raises
        `ConfigError` for what cannot be, and `NotPermitted`.
        """
        request = calls.set_connect_args(dsn, connect_kwargs)
        replies.done(self._call("set_connect_args", request), request)

    def is_closing(self) -> bool:
        """Whether the client is closed."""
        return self._channel.closed

    def terminate(self) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """End the link; leases end with it. The client cannot be used again. Closing twice is allowed."""
        self._channel.close()

    def _known_status(self) -> PoolStatus | None:
        return None if self._channel.closed else self.status()

    def _execute_chunks(self, command: str, chunks: Iterator[Chunk], end: float | None) -> None:
        with self.acquire(timeout=calls.remaining(end)) as lease:
            lease._execute_chunks(command, chunks, end)

    def _copy(self, method: str, request: CopyOut | CopyIn, pumps: Pumps) -> str:
        end = calls.until(request.timeout)
        with self.acquire(timeout=request.timeout) as lease:
            request.timeout = calls.remaining(end)
            return lease._copy(method, request, pumps)

    def _call(self, method: str, request: Request) -> Pending:
        if self._channel.closed:
            raise ClientClosed(f"cannot call {method}(): the client is closed")
        return self._channel.call(request)[0]
