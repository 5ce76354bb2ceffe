"""One PostgreSQL pool for all the processes of an application.

Workers use `Client` (blocking) or `AsyncClient` (asyncio); `pgactor serve` is the supervisor, which owns the pool.

Names are imported when they are first used: a worker that needs no asyncio does not wait for its import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .client.aio import AsyncClient
    from .client.aiolease import AsyncLease
    from .client.aiopool import Pool
    from .client.aiosubscription import AsyncSubscription
    from .client.creating import create_pool
    from .client.inbox import Note
    from .client.lease import Lease
    from .client.subscription import Subscription
    from .client.surroundings import deadline, label
    from .client.sync import Client
    from .errors import (
        ClientClosed,
        ClientError,
        ConfigError,
        DatabaseUnavailable,
        LeaseError,
        LeaseExpired,
        LeaseLost,
        MessageTooLarge,
        NotPermitted,
        OutcomeUnknown,
        PgactorError,
        PoolClosing,
        PoolDeadlock,
        PoolError,
        PoolTimeout,
        ProtocolError,
        QueueFull,
        RequestCancelled,
        RequestTimeout,
        SupervisorUnavailable,
        UnsupportedType,
    )
    from .rows import Record

__all__ = [
    "AsyncClient",
    "AsyncLease",
    "AsyncSubscription",
    "Client",
    "ClientClosed",
    "ClientError",
    "ConfigError",
    "DatabaseUnavailable",
    "Lease",
    "LeaseError",
    "LeaseExpired",
    "LeaseLost",
    "MessageTooLarge",
    "NotPermitted",
    "Note",
    "OutcomeUnknown",
    "PgactorError",
    "Pool",
    "PoolClosing",
    "PoolDeadlock",
    "PoolError",
    "PoolTimeout",
    "ProtocolError",
    "QueueFull",
    "Record",
    "RequestCancelled",
    "RequestTimeout",
    "Subscription",
    "SupervisorUnavailable",
    "UnsupportedType",
    "__version__",
    "create_pool",
    "deadline",
    "label",
]

_HOMES = {
    "AsyncClient": ".client.aio",
    "AsyncLease": ".client.aiolease",
    "AsyncSubscription": ".client.aiosubscription",
    "Client": ".client.sync",
    "Lease": ".client.lease",
    "Note": ".client.inbox",
    "Pool": ".client.aiopool",
    "Record": ".rows",
    "Subscription": ".client.subscription",
    "create_pool": ".client.creating",
    "deadline": ".client.surroundings",
    "label": ".client.surroundings",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
