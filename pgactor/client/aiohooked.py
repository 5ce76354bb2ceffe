"""A pool whose application has functions to be run on its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Sequence
from functools import partial
from typing import Any

from ..messages import Fetch, FetchMany, Request
from ..messages.session import Prepared
from ..rows import Record
from . import calls, deeds, replies
from .aiolease import AsyncLease, encoded_args
from .aiopool import Pool
from .hooks import Hooks
from .pending import Pending
from .poolcodecs import PoolCodecs
from .surroundings import without_deadline


class HookedPool(Pool):
    """A pool with `init`, `setup` or `reset` of the application's.

    Since these belong to a connection, every statement runs on a lease of its own, as in asyncpg.Pool; hooks that are
    named in the supervisor's configuration do not cost that, nor does an `init` that sets codecs for json and other
    texts only. A `batch` runs without them.
    """

    def __init__(self, endpoint: str | None = None, *, hooks: Hooks, **options: Any) -> None:
        super().__init__(endpoint, **options)
        self._hooks = hooks

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """As `AsyncClient.execute`, on a lease."""
        return str(await self._within("execute", timeout, query, *args))

    async def executemany(
        self,
        command: str,
        args: Iterable[Sequence[object]] | AsyncIterable[Sequence[object]],
        *,
        timeout: float | None = None,
    ) -> None:
        """As `AsyncClient.executemany`, on a lease."""
        await self._within("executemany", timeout, command, args)

    async def fetch(
        self, query: str, *args: object, timeout: float | None = None, record_class: type | None = None
    ) -> list[Record]:
        """As `AsyncClient.fetch`, on a lease."""
        rows: list[Record] = await self._within("fetch", timeout, query, *args, record_class=record_class)
        return rows

    async def fetchrow(
        self, query: str, *args: object, timeout: float | None = None, record_class: type | None = None
    ) -> Record | None:
        """As `AsyncClient.fetchrow`, on a lease."""
        row: Record | None = await self._within("fetchrow", timeout, query, *args, record_class=record_class)
        return row

    async def fetchval(self, query: str, *args: object, column: int = 0, timeout: float | None = None) -> Any:
        """As `AsyncClient.fetchval`, on a lease."""
        return await self._within("fetchval", timeout, query, *args, column=column)

    async def fetchmany(
        self,
        query: str,
        args: Iterable[Sequence[object]],
        *,
        timeout: float | None = None,
        record_class: type | None = None,
    ) -> list[Record]:
        """As `AsyncClient.fetchmany`, on a lease."""
        rows: list[Record] = await self._within("fetchmany", timeout, query, args, record_class=record_class)
        return rows

    async def release(self, lease: AsyncLease, *, timeout: float | None = None) -> None:
        """Give a lease back; `reset` is called with it before. A cancel of the caller does not stop that.

        timeout: seconds for the reset; default that of `acquire`. An error of it is raised, and the lease released.
        """
        mine = isinstance(lease, AsyncLease) and lease.owner is self and lease.is_held
        if self._hooks.reset is None or not mine or lease.running:
            await super().release(lease, timeout=timeout)
        else:
            limit = calls.check_timeout(timeout, lease.acquire_timeout)
            await asyncio.shield(asyncio.ensure_future(self._reset(lease, limit)))

    async def _reset(self, lease: AsyncLease, timeout: float | None) -> None:
        try:
            with without_deadline():
                async with asyncio.timeout(timeout):
                    if lease.in_transaction:
                        await lease.execute("ROLLBACK")
                    if self._hooks.reset is not None:
                        await self._hooks.reset(lease)
        finally:
            await super().release(lease)

    async def _within(self, method: str, timeout: float | None, query: str, *args: Any, **options: Any) -> Any:
        end = calls.until(self._limit(timeout))
        codecs = self._hooks.codecs
        if codecs is not None:
            described = await self._described(codecs, query, end) if args or method != "execute" else None
            if described is None or codecs.suffice(described):
                encode = None if described is None else codecs.encoder(described)
                run = getattr(super(), method)
                given = args if encode is None else encoded_args(method, encode, args)
                return await run(query, *given, timeout=calls.remaining(end), **options)
        async with self.acquire(timeout=calls.remaining(end)) as lease:
            return await getattr(lease, method)(query, *args, timeout=calls.remaining(end), **options)

    async def _described(self, codecs: PoolCodecs, query: str, end: float | None) -> Prepared:
        described = codecs.described(query)
        if described is None:
            request = deeds.describe(query, calls.remaining(end), None)
            described = replies.prepared(await self._call("describe", request), request)
            codecs.learn(query, described)
        return described

    async def _call(self, method: str, request: Request) -> Pending:
        pending = await super()._call(method, request)
        codecs = self._hooks.codecs
        if codecs is not None and isinstance(request, Fetch | FetchMany) and pending.rows is not None:
            pending.decode = partial(codecs.decoded_of, pending.rows)
        return pending

    async def _initialize(self) -> None:
        await super()._initialize()
        await self._hooks.begin()

    async def _acquire(self, timeout: float | None, ttl: float | None, place: str = "") -> AsyncLease:
        end = calls.until(timeout)
        lease = await super()._acquire(timeout, ttl, place)
        try:
            async with asyncio.timeout(calls.remaining(end)):
                await self._hooks.prepare(lease)
        except BaseException:
            lease.release()
            raise
        return lease
