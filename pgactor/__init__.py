"""One PostgreSQL pool for all the processes of an application.

Workers use `Client` (blocking) or `AsyncClient` (asyncio); `pgactor serve` is the supervisor, which owns the pool.
"""

from .client.aio import AsyncClient, create_pool
from .client.aiolease import AsyncLease
from .client.lease import Lease
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
    OutcomeUnknown,
    PgactorError,
    PoolClosing,
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
from .version import __version__

__all__ = [
    "AsyncClient",
    "AsyncLease",
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
    "OutcomeUnknown",
    "PgactorError",
    "PoolClosing",
    "PoolError",
    "PoolTimeout",
    "ProtocolError",
    "QueueFull",
    "Record",
    "RequestCancelled",
    "RequestTimeout",
    "SupervisorUnavailable",
    "UnsupportedType",
    "__version__",
    "create_pool",
]
