"""What machines ask of the supervisor, over HTTP: /metrics, /healthz and /readyz.

/healthz: the process lives and its event loop turns, or there would be no answer. /readyz: PostgreSQL can be reached
and requests are taken; else 503, and why not. `?pool=NAME` asks for one pool only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from ..config.monitor import address_of
from ..errors import ConfigError
from .pools import Pools

log = logging.getLogger("pgactor.monitor")

HEAD_BYTES = 16 * 1024
"""How long a request's head may be."""

ASK_SECONDS = 10.0
"""For how long one that asks may take: to do so, and to read the answer."""

MOST_ASKING = 32
"""How many may ask at the same time."""

REACH_SECONDS = 3.0
"""For how long /readyz waits for a connection where there is none, and none has failed."""

LOOK_SECONDS = 0.02
"""How often it looks meanwhile."""

TEXT = "text/plain; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Answer(NamedTuple):
    """What is answered."""

    status: int
    body: bytes
    content_type: str = TEXT


class Monitor:
    """The HTTP listener."""

    def __init__(self, endpoint: str, pools: Pools) -> None:
        """Raises `ConfigError` if prometheus-client is not installed."""
        try:
            from prometheus_client.exposition import choose_encoder

            from .exporter import Exporter
        except ImportError:
            raise ConfigError("metrics_endpoint needs prometheus-client: pip install 'pgactor[metrics]'") from None
        self._choose_encoder = choose_encoder
        self._exporter = Exporter(pools.states)
        self._pools = pools
        self._host, self._port = address_of(endpoint)
        self._server: asyncio.Server | None = None
        self._asking: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._server is None:
            return f"http://{self._host}:{self._port}"
        host, port, *_ = self._server.sockets[0].getsockname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises `ConfigError` if that cannot be."""
        try:
            self._server = await asyncio.start_server(self._connected, self._host, self._port, limit=HEAD_BYTES)
        except OSError as error:
            raise ConfigError(f"metrics_endpoint {self.url}: {error.strerror or error}") from None
        log.info("metrics and probes at %s", self.url)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    # --- HTTP ---------------------------------------------------------------------------------------------

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._asking) >= MOST_ASKING:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._respond(head))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()

    async def _respond(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, _, rest = first.partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1."):
            answer = Answer(400, b"this is no request of HTTP/1.1\n")
        elif method not in ("GET", "HEAD"):
            answer = Answer(405, b"GET is expected\n")
        else:
            answer = await self._answer(target, headers)
        head_lines = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        return "\r\n".join((*head_lines, "", "")).encode("latin-1") + (answer.body if method != "HEAD" else b"")

    async def _answer(self, target: str, headers: Mapping[str, str]) -> Answer:
        url = urlsplit(target)
        match url.path:
            case "/metrics":
                encode, content_type = self._choose_encoder(headers.get("accept", ""))
                return Answer(200, encode(self._exporter), content_type)
            case "/healthz":
                return Answer(200, b"ok\n")
            case "/readyz":
                return await self._ready(parse_qs(url.query).get("pool", []))
            case _:
                return Answer(404, b"there are /metrics, /healthz and /readyz\n")

    # --- whether it is ready ------------------------------------------------------------------------------

    async def _ready(self, asked: list[str]) -> Answer:
        if unknown := [name for name in asked if name not in self._pools.conductors]:
            return Answer(404, f"there is no pool {unknown[0][:200]!r}\n".encode())
        names = asked or self._pools.lasting
        reasons = await asyncio.gather(*map(self._why_not, names))
        lines = [f"{name}: {reason or 'ok'}\n" for name, reason in zip(names, reasons, strict=True)]
        return Answer(503 if any(reasons) else 200, "".join(lines).encode())

    async def _why_not(self, name: str) -> str:
        """Why the pool is not ready; "" if it is. Where nothing is known of PostgreSQL, as there is no connection yet
        and none has failed, one is opened."""
        loop = asyncio.get_running_loop()
        end = loop.time() + REACH_SECONDS
        while (conductor := self._pools.conductors.get(name)) is not None:
            why_not = conductor.why_not_ready()
            if why_not is not None:
                return why_not
            if loop.time() >= end:
                return f"PostgreSQL has not let a connection in for {REACH_SECONDS:g} s"
            await asyncio.sleep(LOOK_SECONDS)
        return "the pool is closed"
