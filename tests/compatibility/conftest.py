"""What integration tests have, for tests that put asyncpg and pgactor side by side; servers to connect to, and
addresses that do not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

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
from tests.tls_postgres import Server, tls_postgres

__all__ = ["db", "kind", "launch", "loop_thread", "open_client", "start", "table", "uvloop_thread"]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL on TCP."""
    with tls_postgres() as found:
        if found is None:
            pytest.skip("no PostgreSQL that could be started on TCP")
        yield found


@pytest.fixture(scope="session")
def tls_server(server: Server) -> Server:
    """One with certificates."""
    if not server.tls:
        pytest.skip("no PostgreSQL with TLS, or no openssl")
    return server


@pytest.fixture
def refusing() -> int:
    """A port of 127.0.0.1 that refuses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def silent() -> Iterator[int]:
    """A port of 127.0.0.1 that does not even refuse: nobody accepts, and the backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
