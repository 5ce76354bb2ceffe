"""What integration tests have, for tests that put asyncpg and pgactor side by side."""

from __future__ import annotations

from tests.integration.conftest import (
    db,
    kind,
    launch,
    loop_thread,
    open_client,
    start,
    table,
    uvloop_thread,
)

__all__ = ["db", "kind", "launch", "loop_thread", "open_client", "start", "table", "uvloop_thread"]
