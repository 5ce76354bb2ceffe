"""Fixtures of the fault suite: those of the integration tests, and PostgreSQL servers that may be harmed."""

from tests.faults.postgres_servers import admin, make_proxy, postgres, proxy, serve
from tests.integration.conftest import loop_thread, open_client, uvloop_thread

__all__ = ["admin", "loop_thread", "make_proxy", "open_client", "postgres", "proxy", "serve", "uvloop_thread"]
