"""create_pool, with asyncpg's signature."""

from __future__ import annotations

from typing import Any

from .aiohooked import HookedPool
from .aiopool import Pool
from .hooks import Hook, Hooks
from .poolarguments import PoolArguments, check_command_timeout, refuse_connecting
from .recordclass import record_class_of_pool


def create_pool(
    endpoint: str | None = None,
    *,
    init_size: int | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    max_queries: int | None = None,
    max_inactive_connection_lifetime: float | None = None,
    connect: Any = None,
    setup: Hook | None = None,
    init: Hook | None = None,
    reset: Hook | None = None,
    loop: Any = None,
    connection_class: Any = None,
    record_class: Any = None,
    command_timeout: float | None = None,
    connect_timeout: float = 10.0,
    request_timeout: float | None = 60.0,
    label: str | None = None,
    server_key: str | None = None,
    key: str | None = None,
    pool: str | None = None,
    **connect_arguments: Any,
) -> Pool:
    """A `Pool` to be awaited or entered, as asyncpg's create_pool: `pool = await create_pool(endpoint)`.

    What asyncpg's builds a pool with is the supervisor's here, and set in its configuration. So that an application
    need not change more than this one line, it may pass such arguments all the same:

    - init_size, min_size, max_size, max_queries, max_inactive_connection_lifetime change nothing. They are checked,
      and if the supervisor's pool has other ones, a UserWarning says so once, when the pool is initialised.
    - init is called once, with an object on which type codecs can be set; they apply to this worker's leases. setup
      is called with each lease, reset with each that is released. With one of these, each statement of the pool runs
      on a lease of its own, as asyncpg's do. Hooks that all workers share belong in the supervisor's configuration.
    - command_timeout: seconds, another name of request_timeout.
    - loop changes nothing: the pool can be used in any.
    - record_class: of the rows of all statements that are given no other one; a subclass of pgactor.Record or of
      asyncpg.Record.
    - connect, connection_class, and asyncpg.connect's arguments (dsn, host, user, ...) raise ClientError, which tells
      where they belong; asyncpg's own Connection, the default, is let pass.

    endpoint, connect_timeout, request_timeout, label, pool, server_key, key: see `AsyncClient`.
    """
    arguments = PoolArguments(
        init_size=init_size,
        min_size=min_size,
        max_size=max_size,
        max_queries=max_queries,
        max_inactive_connection_lifetime=max_inactive_connection_lifetime,
    )
    refuse_connecting(connect, connection_class, connect_arguments)
    if command_timeout is not None:
        request_timeout = check_command_timeout(command_timeout)
    options: dict[str, Any] = {
        "arguments": arguments,
        "record_class": record_class_of_pool(record_class),
        "connect_timeout": connect_timeout,
        "request_timeout": request_timeout,
        "label": label,
        "pool": pool,
        "server_key": server_key,
        "key": key,
    }
    hooks = Hooks(init, setup, reset)
    return HookedPool(endpoint, hooks=hooks, **options) if hooks else Pool(endpoint, **options)
