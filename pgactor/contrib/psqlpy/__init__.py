"""psqlpy's ConnectionPool, whose connections are the supervisor's. psqlpy itself is not needed.

from pgactor.contrib.psqlpy import ConnectionPool               # was: from psqlpy import ConnectionPool

pool = ConnectionPool("ipc:///run/pgactor/main.sock")
"""

from .connection import Column, Connection, PreparedStatement, Transaction
from .cursor import Cursor
from .listener import Listener, ListenerNotificationMsg
from .options import ConnRecyclingMethod, IsolationLevel, LoadBalanceHosts, ReadVariant, SslMode, TargetSessionAttrs
from .pool import ConnectionPool, ConnectionPoolStatus, connect_pool
from .results import QueryResult, SingleQueryResult

__all__ = [
    "Column",
    "ConnRecyclingMethod",
    "Connection",
    "ConnectionPool",
    "ConnectionPoolStatus",
    "Cursor",
    "IsolationLevel",
    "Listener",
    "ListenerNotificationMsg",
    "LoadBalanceHosts",
    "PreparedStatement",
    "QueryResult",
    "ReadVariant",
    "SingleQueryResult",
    "SslMode",
    "TargetSessionAttrs",
    "Transaction",
    "connect_pool",
]
