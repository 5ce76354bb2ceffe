"""Whether the asyncpg that is installed has what session.py and lending.py use of its private parts."""

from __future__ import annotations

import asyncpg
from asyncpg.protocol import protocol as asyncpg_protocol

from ..errors import ConfigError


def check_asyncpg() -> None:
    """Raise `ConfigError` if this asyncpg lacks something that we rely on."""
    needed: tuple[tuple[type, tuple[str, ...]], ...] = (
        (
            asyncpg.Connection,
            (
                *("_cancel", "_do_execute", "_drop_local_statement_cache", "_prepare", "_process_notification"),
                *(
                    "_cleanup_stmts",
                    "_drop_local_type_cache",
                    "_get_statement",
                    "_introspect_type",
                    "_introspect_types",
                    "_protocol",
                ),
                *("_introspect_types", "_params", "_stmt_exclusive_section", "_transport"),
            ),
        ),
        (
            asyncpg_protocol.BaseProtocol,
            (
                *(
                    "bind_execute",
                    "bind_execute_many",
                    "connection_lost",
                    "connection_made",
                    "data_received",
                    "execute",
                ),
                *("_get_timeout", "_is_cancelling", "_request_cancel", "_wait_for_cancellation"),
            ),
        ),
        (asyncpg.PostgresError, ("new",)),
        (asyncpg_protocol.PreparedStatementState, ("_get_attributes", "_get_parameters", "closed", "name")),
        (asyncpg.prepared_stmt.PreparedStatement, ("_state",)),
        (asyncpg.cursor.Cursor, ("_close_portal", "_portal_name", "_state")),
    )
    for owner, names in needed:
        for name in names:
            if not hasattr(owner, name):
                raise ConfigError(
                    f"asyncpg {asyncpg.__version__} has no {owner.__name__}.{name}; use a version that pgactor's "
                    "own requirements allow"
                )
