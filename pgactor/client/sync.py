"""The client for blocking code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from ..errors import ClientClosed
from ..messages import CopyIn, CopyOut, IsolationLevel, PoolStatus, Request
from . import calls
from .channel import Channel
from .chunks import Chunk
from .copies import Copies, Pumps
from .lease import Lease
from .options import make_options
from .requests import Pending
from .statements import Statements


class Client(Statements, Copies):
    """A worker's access to the pool, for blocking code.

    Safe in threads, across forks (made before or after, used before or after, in parent and child) and under gevent;
    it needs no event loop. It connects at the first call, and again after the supervisor was restarted.

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
        self._channel = Channel(make_options(endpoint, connect_timeout, request_timeout, label))
        self._default_timeout = request_timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._channel.options.endpoint}{' closed' if self._channel.closed else ''}>"

    def acquire(self, *, timeout: float | None = None, ttl: float | None = None) -> Lease:
        """Get a PostgreSQL session for exclusive use, to be released: `with client.acquire() as lease`.

        timeout: seconds to wait for one; raises `PoolTimeout`, which tells who holds what. ttl: seconds that it stays
        yours if your process falls silent; it is renewed by itself while the process runs.
        """
        request = calls.acquire(calls.check_timeout(timeout, None), ttl)
        asked_at = time.monotonic()
        pending, connected = self._channel.call(request)
        return Lease(self._channel, connected, calls.granted(pending, request), asked_at)

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
        return calls.results(self._call("batch", request), request)

    def status(self) -> PoolStatus:
        """The state of the pool: connections, workers, leases, counters."""
        request = calls.status()
        return calls.pool_status(self._call("status", request), request)

    def expire_connections(self) -> None:
        """Replace every connection of the pool: idle ones now, used ones when they come back."""
        request = calls.expire()
        calls.done(self._call("expire_connections", request), request)

    def close(self) -> None:
        """End the link; leases end with it. The client cannot be used again. Closing twice is allowed."""
        self._channel.close()

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
