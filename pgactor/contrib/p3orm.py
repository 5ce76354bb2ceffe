"""p3orm: a driver whose connections are the supervisor's.

    from pgactor.contrib.p3orm import postgres

    await postgres().connect_pool("ipc:///run/pgactor/main.sock")

Tables, queries and relationships of p3orm then use it.
"""

from __future__ import annotations

from typing import Any

from ..client.aiolease import AsyncLease
from ..client.aiopool import Pool
from ..client.creating import create_pool

try:
    from p3orm import core
    from p3orm.drivers.postgres import ConnectionContext, PostgresDriver
    from p3orm.exceptions import AlreadyConnected, NotConnected
    from pypika.enums import Dialects
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "p3orm":
        raise
    raise ModuleNotFoundError(
        "pgactor.contrib.p3orm needs p3orm, which is not installed: pip install 'pgactor[p3orm]'", name="p3orm"
    ) from error


def postgres() -> PgactorDriver:
    """The driver of this process; from the first call on, p3orm's own `postgres()` and `driver()` give it, too.

    Raises `AlreadyConnected` if p3orm has another driver that is in use.
    """
    if isinstance(core.DRIVER, PgactorDriver):
        return core.DRIVER
    if core.DRIVER is not None and core.DRIVER.is_connected():
        raise AlreadyConnected("p3orm is connected by a driver of its own: disconnect that first")
    driver = core.DRIVER = PgactorDriver()
    core.DIALECT = Dialects.POSTGRESQL
    return driver


class PgactorDriver(PostgresDriver):
    """PostgresDriver's methods. The first argument of `connect` and `connect_pool` is the supervisor's endpoint."""

    def __init__(self) -> None:
        self._connection: AsyncLease | None = None
        self._pool: Pool | None = None
        self._opened: Pool | None = None  # the pool, also where the connection of it is all that is shown

    @property
    def connection(self) -> AsyncLease | None:
        """What `connect` has made, with asyncpg.Connection's methods; else None."""
        return self._connection

    @property
    def pool(self) -> Pool | None:
        """What `connect_pool` has made, with asyncpg.Pool's methods; else None."""
        return self._pool

    async def connect(self, endpoint: str | None = None, **options: Any) -> None:
        """Hold one of the supervisor's connections until `disconnect`. options: of `pgactor.create_pool`.

        Raises `AlreadyConnected`, and what create_pool and acquire raise.
        """
        pool = await self._open(endpoint, options)
        try:
            self._connection = await pool.acquire()
        except BaseException:
            self._opened = None
            pool.terminate()
            raise

    async def connect_pool(self, endpoint: str | None = None, **options: Any) -> None:
        """Reach the supervisor. Statements then hold no connection. options: of `pgactor.create_pool`.

        Raises `AlreadyConnected`, and what create_pool raises.
        """
        self._pool = await self._open(endpoint, options)

    async def disconnect(self) -> None:
        """Give the connection back, and wait for what is under way in the pool. Without either, nothing happens."""
        connection, pool = self._connection, self._opened
        self._connection = self._pool = self._opened = None
        if connection is not None:
            connection.release()
        if pool is not None:
            await pool.close()

    def is_connected(self) -> bool:
        """Whether there is a connection or a pool, and it was not lost or closed."""
        if self._connection is not None:
            return self._connection.is_held
        return self._opened is not None and not self._opened.is_closing()

    async def _open(self, endpoint: str | None, options: dict[str, Any]) -> Pool:
        if self.is_connected():
            raise AlreadyConnected("there is a connection or a pool already: disconnect() first")
        await self.disconnect()  # from what was lost
        pool = self._opened = create_pool(endpoint, **options)
        try:
            return await pool
        except BaseException:
            self._opened = None
            raise

    def _acquire_connection(self) -> ConnectionContext:
        found = self._connection or self._pool
        if found is None:
            raise NotConnected("there is no connection and no pool: connect() or connect_pool() first")
        return ConnectionContext(found)  # a pool's statement holds no connection, so none is acquired for it
