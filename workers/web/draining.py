"""uvicorn's worker for gunicorn, which resets no connection when it ends (max_requests, HUP, SIGTERM).

uvicorn's own closes at once whatever connection it has accepted and not read a request from: what the client had sent
is dropped, and it sees ConnectionResetError. This one accepts no more, reads on for a moment, answers what comes with
`Connection: close`, and only then does as uvicorn does.

gunicorn -c workers/web/gunicorn.conf.py -k workers.web.draining.DrainingWorker workers.web.starlette_app:application
"""

from __future__ import annotations

import asyncio
import socket
import sys

from gunicorn.arbiter import Arbiter
from uvicorn import Server
from uvicorn_worker import UvicornWorker

SECONDS = 0.25
"""How long it reads on. A request follows its connection by a round trip to the proxy; below graceful_timeout."""


class DrainingServer(Server):
    """A server that reads what has been sent to it before it closes."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer what comes on the connections that are there, then do as uvicorn does."""
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await asyncio.sleep(SECONDS)
        await super().shutdown(sockets)


class DrainingWorker(UvicornWorker):  # type: ignore[misc]  # it has no types
    """UvicornWorker with that server."""

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = DrainingServer(self.config)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
