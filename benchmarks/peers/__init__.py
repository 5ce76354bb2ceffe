"""pgactor, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from .session import Session, SyncSession, Target

__all__ = ["PEERS", "Peer", "Session", "SyncSession", "Target"]


@dataclass(frozen=True)
class Peer:
    """Who is measured. through: what stands between it and PostgreSQL; home: module and function that open it."""

    through: Literal["pgactor", "pgbouncer", "nothing"]
    home: str
    sync: bool = False

    def open(self, target: Target) -> AbstractAsyncContextManager[Session]:
        """Connect, from asyncio."""
        opener: Callable[[Target], AbstractAsyncContextManager[Session]] = self._opener()
        return opener(target)

    def open_sync(self, target: Target) -> AbstractContextManager[SyncSession]:
        """Connect, from blocking code."""
        opener: Callable[[Target], AbstractContextManager[SyncSession]] = self._opener()
        return opener(target)

    def _opener(self) -> Any:  # imported by whoever uses it: the libraries are many
        module, _, name = self.home.partition(":")
        return getattr(import_module(f".{module}", __name__), name)


PEERS: Mapping[str, Peer] = {
    "pgactor": Peer("pgactor", "of_pgactor:client"),
    "pgactor, as lease": Peer("pgactor", "of_pgactor:leases"),
    "PgBouncer + asyncpg": Peer("pgbouncer", "of_asyncpg:connections"),
    "PgBouncer + asyncpg.Pool": Peer("pgbouncer", "of_asyncpg:pool"),
    "PgBouncer + psycopg": Peer("pgbouncer", "of_psycopg:connections"),
    "asyncpg.Pool": Peer("nothing", "of_asyncpg:pool"),
    "asyncpg.Pool, no reset": Peer("nothing", "of_asyncpg:pool_without_reset"),
    "asyncpg": Peer("nothing", "of_asyncpg:connections"),
    "psqlpy": Peer("nothing", "of_psqlpy:pool"),
    "psycopg_pool": Peer("nothing", "of_psycopg:pool"),
    "psycopg": Peer("nothing", "of_psycopg:connections"),
    "pgactor.Client": Peer("pgactor", "of_pgactor:sync_client", sync=True),
    "PgBouncer + psycopg (sync)": Peer("pgbouncer", "of_psycopg:sync_connection", sync=True),
    "PgBouncer + psycopg_pool (sync)": Peer("pgbouncer", "of_psycopg:sync_pool", sync=True),
    "psycopg (sync)": Peer("nothing", "of_psycopg:sync_connection", sync=True),
    "psycopg_pool (sync)": Peer("nothing", "of_psycopg:sync_pool", sync=True),
}
