"""Piccolo: an engine whose connections are the supervisor's.

    DB = PgactorEngine(config={"endpoint": "ipc:///run/pgactor/main.sock"})       # in piccolo_conf.py

All else of an application stays as it was with PostgresEngine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..client.aio import AsyncClient
from ..client.aiolease import AsyncLease
from ..client.aiopool import Pool
from ..client.creating import create_pool
from ..errors import ClientError, SupervisorUnavailable
from ..rows import Record

try:
    from piccolo.engine.postgres import AsyncBatch, PostgresEngine, PostgresTransaction
    from piccolo.utils.warnings import colored_warning
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "piccolo":
        raise
    raise ModuleNotFoundError(
        "pgactor.contrib.piccolo needs Piccolo, which is not installed: pip install 'pgactor[piccolo]'",
        name="piccolo",
    ) from error

if TYPE_CHECKING:
    from piccolo.query.base import Query

CONFIG = ("endpoint", "connect_timeout", "request_timeout", "label", "pool", "server_key", "key")
"""What `config` may have: the arguments of AsyncClient."""


class PgactorEngine(PostgresEngine):
    """PostgresEngine's parameters and methods, in any event loop, run_sync's too.

    config: arguments of `pgactor.AsyncClient`, all optional. extensions, log_queries, log_responses, extra_nodes: as
    PostgresEngine's. A node is another engine, perhaps of another pool of the same supervisor:
    `{"endpoint": "ipc:///run/pgactor/main.sock", "pool": "replica"}`.

    A statement outside of transactions holds no connection, with or without a connection pool. A transaction and a
    batch hold one, as a lease, which ends with their block.

    Raises `ClientError` for a config of other arguments, such as those that connect to PostgreSQL.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        extensions: Sequence[str] = (),
        log_queries: bool = False,
        log_responses: bool = False,
        extra_nodes: Mapping[str, PostgresEngine] | None = None,
    ) -> None:
        config = dict(config or {})
        if foreign := [name for name in config if name not in CONFIG]:
            raise ClientError(
                f"PgactorEngine's config does not take {', '.join(foreign)}, but {', '.join(CONFIG)}: it is the "
                "supervisor that connects to PostgreSQL, and is told how in [connect] of its configuration"
            )
        self.pool: Pool | None = None
        self._client = AsyncClient(**config)
        super().__init__(config, extensions, log_queries, log_responses, extra_nodes)

    async def get_version(self) -> float:
        """PostgreSQL's version, such as 17.4; 0.0, and a warning, if there is no supervisor."""
        try:
            version: float = await super().get_version()
        except SupervisorUnavailable as error:
            colored_warning(f"PostgreSQL's version is unknown: {error}")
            return 0.0
        return version

    async def start_connection_pool(self, **kwargs: Any) -> None:
        """Reach the supervisor, so that an application that could not work is told as it starts.

        kwargs: further arguments of `pgactor.create_pool`. min_size, max_size and the like are the supervisor's; a
        UserWarning tells of those that it has otherwise. If there is a pool already, there is a warning.
        """
        if self.pool:
            colored_warning("A connection pool was started already: close it first, to have another one.")
        else:
            self.pool = await create_pool(**{**self.config, **kwargs})

    async def close_connection_pool(self) -> None:
        """Wait for what is under way in the pool, and end this process's use of it; the supervisor's connections
        stay."""
        pool = self.pool
        if pool is None:
            colored_warning("No connection pool was started.")
        else:
            self.pool = None
            await pool.close()

    async def get_new_connection(self) -> AsyncLease:
        """A connection of one's own, until its close(). It is no part of what `close_connection_pool` waits for."""
        return await self._client.acquire()

    async def batch(self, query: Query, batch_size: int = 100, node: str | None = None) -> PgactorBatch:
        """The rows of a query, by and by: `async with await engine.batch(query) as batch`. node: of extra_nodes."""
        engine = self if node is None else self.extra_nodes[node]
        return PgactorBatch(await engine.get_new_connection(), query, batch_size)

    def transaction(self, allow_nested: bool = True) -> PgactorTransaction:
        """A transaction: `async with engine.transaction()`. Within another it is that one, or a TransactionError if
        it is not allow_nested."""
        return PgactorTransaction(self, allow_nested)

    async def _run_in_pool(self, query: str, args: Sequence[Any] | None = None) -> list[Record]:
        pool = self.pool
        if pool is None:
            raise ValueError("No connection pool was started.")
        return await pool.fetch(query, *(args or ()))

    async def _run_in_new_connection(self, query: str, args: Sequence[Any] | None = None) -> list[Record]:
        return await self._client.fetch(query, *(args or ()))


class PgactorTransaction(PostgresTransaction):
    """PostgresTransaction, whose connection is given back whatever becomes of it: also when it cannot begin, or when
    its COMMIT fails, as with a deferred constraint."""

    async def begin(self) -> None:
        """Begin it."""
        try:
            await super().begin()
        except BaseException:
            self.connection.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return bool(await super().__aexit__(kind, error, trace))
        except BaseException:
            self.connection.release()
            self.engine.current_transaction.reset(self.context)
            raise


class PgactorBatch(AsyncBatch):
    """AsyncBatch, whose connection is given back whatever becomes of it."""

    async def __aenter__(self) -> PgactorBatch:
        try:
            await super().__aenter__()
        except BaseException:
            self.connection.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self.connection.release()
        return False
