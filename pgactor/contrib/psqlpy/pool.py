"""psqlpy's ConnectionPool."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ...client.aiolease import AsyncLease
from ...client.aiopool import Pool
from ...client.creating import create_pool
from ...client.failures import interface_error
from ...client.sync import Client
from ...errors import ClientError
from .connection import Connection
from .listener import Listener
from .results import decode_json
from .statements import Statements

LOOK_SECONDS = 1.0
"""How long status() and resize(), which block, wait for a supervisor that is not there."""

_SCHEMES = ("ipc://", "tcp://")


@dataclass(frozen=True)
class ConnectionPoolStatus:
    """How many connections the supervisor may have, has, and has idle, and how many wait for one; of all workers."""

    max_size: int
    size: int
    available: int
    waiting: int


class ConnectionPool(Statements):
    """psqlpy's parameters and methods.

    dsn: the supervisor's endpoint, ipc:///path or tcp://host:port; default $PGACTOR_ENDPOINT. application_name: how
    this worker is named in `pgactor status`. connect_timeout_sec, connect_timeout_nanosec: how long to wait for a
    supervisor that is not there yet; 10 s if they are not given. max_db_pool_size is the supervisor's: a UserWarning,
    at the first use, says so if it has another one. conn_recycling_method changes nothing.

    All else is about connections to PostgreSQL, which are the supervisor's, and raises `ClientError`.

    A statement of the pool itself, `await pool.fetch(...)`, holds no connection. `connection` and `acquire` give one
    for exclusive use.
    """

    def __init__(
        self,
        dsn: str | None = None,
        username: str | None = None,
        password: str | None = None,
        host: str | None = None,
        hosts: list[str] | None = None,
        port: int | None = None,
        ports: list[int] | None = None,
        db_name: str | None = None,
        target_session_attrs: Any = None,
        options: str | None = None,
        application_name: str | None = None,
        connect_timeout_sec: int | None = None,
        connect_timeout_nanosec: int | None = None,
        tcp_user_timeout_sec: int | None = None,
        tcp_user_timeout_nanosec: int | None = None,
        keepalives: bool | None = None,
        keepalives_idle_sec: int | None = None,
        keepalives_idle_nanosec: int | None = None,
        keepalives_interval_sec: int | None = None,
        keepalives_interval_nanosec: int | None = None,
        keepalives_retries: int | None = None,
        load_balance_hosts: Any = None,
        max_db_pool_size: int | None = None,
        conn_recycling_method: Any = None,
        ssl_mode: Any = None,
        ca_file: str | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in _OURS and value is not None}
        _refuse(dsn, given)
        if max_db_pool_size is not None and max_db_pool_size < 2:
            raise ClientError("max_db_pool_size must be more than 1")
        if connect_timeout_nanosec is not None and connect_timeout_sec is None:
            raise ClientError("connect_timeout_nanosec must be used with connect_timeout_sec")
        self._options: dict[str, Any] = {"endpoint": dsn}
        if application_name is not None:
            self._options["label"] = application_name
        if connect_timeout_sec is not None:
            self._options["connect_timeout"] = connect_timeout_sec + (connect_timeout_nanosec or 0) / 1e9
        create_pool(**self._options)  # what is wrong is told here, and not at the first use
        self._max_db_pool_size = max_db_pool_size
        self._pool: Pool | None = None
        self._ready = asyncio.Lock()
        self._held = 0
        self._closed = False

    def __enter__(self) -> ConnectionPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def acquire(self) -> Connection:
        """A connection for `async with`."""
        return Connection(self._acquire, self._returned)

    async def connection(self) -> Connection:
        """A connection, until its close()."""
        return await self.acquire().__aenter__()

    def listener(self) -> Listener:
        """What calls functions for notifications. It needs no connection of the pool."""
        return Listener(self, self._runner)

    def status(self) -> ConnectionPoolStatus:
        """The supervisor's numbers. It blocks until it has them."""
        with self._blocking() as client:
            status = client.status()
        return ConnectionPoolStatus(status.max_size, status.size, status.idle, status.waiting)

    def resize(self, new_max_size: int) -> None:
        """Change how many connections the supervisor's pool may have, for all workers. It blocks until that is done.

        Raises `NotPermitted` where workers may not administer.
        """
        with self._blocking() as client:
            client.resize(new_max_size)

    def close(self) -> None:
        """Give no more connections; those that are held stay until they are given back."""
        self._closed = True
        self._end_if_unused()

    def _blocking(self) -> Client:
        self._require_open()
        wait = min(LOOK_SECONDS, self._options.get("connect_timeout", LOOK_SECONDS))
        return Client(**{**self._options, "connect_timeout": wait})

    async def _runner(self) -> Pool:
        self._require_open()
        if self._pool is None:
            async with self._ready:
                if self._pool is None:
                    pool = await create_pool(**self._options, init=decode_json)
                    self._compare(pool)
                    self._pool = pool
                    if self._closed:  # meanwhile
                        pool.terminate()
        return self._pool

    async def _acquire(self) -> AsyncLease:
        pool = await self._runner()
        self._held += 1
        try:
            return await pool.acquire()
        except BaseException:
            self._returned()
            raise

    def _returned(self) -> None:
        self._held -= 1
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self._closed and not self._held and self._pool is not None:
            self._pool.terminate()

    def _require_open(self) -> None:
        if self._closed:
            raise interface_error("the pool is closed")

    def _compare(self, pool: Pool) -> None:
        size = pool.get_max_size()
        if self._max_db_pool_size not in (None, size):
            warnings.warn(
                f"max_db_pool_size={self._max_db_pool_size} has no effect here: the supervisor's pool has "
                f"max_size={size}, for all workers; set it there, and leave it out here",
                stacklevel=2,
            )


_OURS = frozenset(
    {
        "self",
        "dsn",
        "application_name",
        "connect_timeout_sec",
        "connect_timeout_nanosec",
        "max_db_pool_size",
        "conn_recycling_method",
    }
)
"""Parameters that mean something here."""


def connect_pool(*args: Any, **options: Any) -> ConnectionPool:
    """A ConnectionPool of these parameters."""
    return ConnectionPool(*args, **options)


def _refuse(dsn: str | None, given: dict[str, Any]) -> None:
    """Raises `ClientError` for parameters about connections to PostgreSQL."""
    if dsn is not None and not dsn.startswith(_SCHEMES):
        raise ClientError(
            "ConnectionPool's dsn is the supervisor's endpoint here, ipc:///path or tcp://host:port; the dsn of "
            "PostgreSQL is the supervisor's, in [connect] of its configuration"
        )
    if given:
        raise ClientError(
            f"ConnectionPool() does not take {', '.join(f'{name}=' for name in given)}: the supervisor connects to "
            "PostgreSQL, and is told how in [connect] of its configuration, where psqlpy's names are known"
        )
