"""`pgactor dashboard`: a web page in a process of its own, which asks the supervisor for one status a look, however
many browsers there are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from ipaddress import ip_address

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ..version import __version__
from .board import Board
from .watch import Watch

LABEL = "pgactor dashboard"
MOST_AT_ONCE = 200
"""How many requests, of which each browser's stream is one, are answered at the same time."""


def serve(
    endpoint: str, pool: str | None, *, host: str, port: int, interval: float, ready: Callable[[str], object]
) -> None:
    """Serve the page until a signal comes. ready: is told where it is, once it is there. Raises OSError for an
    address that is not free, or none."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with closing(socket.create_server((host, port), family=family, backlog=64)) as listening:
        loopback = _is_loopback(listening.getsockname()[0])
        asyncio.run(_run(endpoint, pool, listening, interval, ready, only_loopback=loopback))


async def _run(
    endpoint: str,
    pool: str | None,
    listening: socket.socket,
    interval: float,
    ready: Callable[[str], object],
    *,
    only_loopback: bool,
) -> None:
    board = Board(__version__, interval)
    config = uvicorn.Config(
        application(board, only_loopback=only_loopback), log_level="warning", access_log=False, lifespan="off",
        limit_concurrency=MOST_AT_ONCE, timeout_graceful_shutdown=2, server_header=False,
    )  # fmt: skip
    whom = "" if only_loopback else ", for whoever reaches it"
    server = _Server(config, board, lambda: ready(f"pgactor dashboard at {_url(listening)}{whom}"))
    watch = Watch(endpoint, pool, label=LABEL)
    looking = asyncio.create_task(_look_again_and_again(watch, board, interval))
    looking.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        await server.serve([listening])
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        await watch.close()
    if not looking.cancelled():
        looking.result()  # its error, which should not be


async def _look_again_and_again(watch: Watch, board: Board, interval: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        start = loop.time()
        board.post(await watch.look())
        await asyncio.sleep(max(0.0, start + interval - loop.time()))


def application(board: Board, *, only_loopback: bool) -> Starlette:
    """The page, and the stream of events. only_loopback: refuse requests that name another host than this machine: a
    page of elsewhere whose name was made to mean 127.0.0.1 could read along otherwise."""
    page = (files(__package__) / "page" / "dashboard.html").read_bytes()
    headers = {"Content-Security-Policy": _policy(page.decode()), "X-Content-Type-Options": "nosniff",
               "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}  # fmt: skip

    def stranger(request: Request) -> Response | None:
        if not only_loopback or _is_loopback(request.url.hostname or ""):
            return None
        return PlainTextResponse("this page is for this machine alone: ask for it as 127.0.0.1 or localhost\n", 421)

    async def show(request: Request) -> Response:
        return stranger(request) or Response(page, media_type="text/html", headers=headers)

    async def events(request: Request) -> Response:
        return stranger(request) or StreamingResponse(
            board.stream(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return Starlette(routes=[Route("/", show), Route("/events", events)])


class _Server(uvicorn.Server):
    """Tells when it is ready, ends in order at a signal, and ends the streams then: they would not by themselves."""

    def __init__(self, config: uvicorn.Config, board: Board, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._board, self._ready = board, ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: setattr(self, "should_exit", True))
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._board.close()
        await super().shutdown(sockets)


def _policy(page: str) -> str:
    """What a browser may do with the page: use the script and the style that are in it, and ask its own server."""

    def hashes(tag: str) -> str:
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
