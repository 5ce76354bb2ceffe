"""The supervisor process: starts everything in order, obeys signals, drains.

Start: lock and listen first, so that a second supervisor is refused before it opens a connection; then the pool.
Ready means that requests are accepted; the database may still be down.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from ..config import Settings
from ..errors import ConfigError
from ..messages.pool import PoolStatus
from .asyncpgcheck import check_asyncpg
from .curve import Curve
from .embedded import embedded_postgres
from .faults import Faults
from .ipc import IpcGateway
from .monitor import Monitor
from .notify import notify
from .operation import Operation
from .peer import Peer
from .pools import Pools
from .predecessor import Predecessor
from .stalls import Stalls
from .succession import Succession
from .tcp import TcpGateway

log = logging.getLogger("pgactor.supervisor")

DEFAULT_SETTINGS = Settings()

GC_THRESHOLD = 50_000
"""Objects between two looks for cycles: Python's 700 would mean one every dozen statements."""


class Supervisor:
    """The pools and their endpoints, from start to drain.

    order: is called with SIGTERM when an operator wants it to drain and end, with None when another supervisor has
    taken over all.
    """

    def __init__(self, settings: Settings, *, order: Callable[[int | None], None] = lambda _: None) -> None:
        self.settings = settings
        self._order = order
        self._predecessor: Predecessor | None = None
        self._succession: Succession
        self._operation: Operation
        self.endpoints: list[str] = []
        self._gateways: list[IpcGateway | TcpGateway] = []
        self._pools: Pools
        self._faults = Faults(lambda brain, reason: self._pools.restart(brain, reason))
        self._stalls: Stalls
        self._monitor: Monitor | None = None

    async def start(self, *, take_over: bool = False) -> None:
        """Listen and open the first connections. take_over: from the supervisor that listens at the endpoints, if
        there is one. Raises `ConfigError` if an endpoint cannot be served, or a hook not be imported."""
        check_asyncpg()
        self._loop = asyncio.get_running_loop()
        self._stalls = Stalls(self.settings.stall_seconds)
        self._pools = Pools(self.settings, add_to_status=self._add_to_status)
        self._loop.set_exception_handler(self._faults)
        self._operation = Operation(
            self._pools,
            end=lambda: self._order(signal.SIGTERM),
            hand_over=self._hand_over,
            drain_seconds=lambda: self.settings.drain_timeout_seconds,
        )
        self._pools.operate = self._operation.hear
        if take_over:
            self._predecessor = await Predecessor.find(self.settings.endpoints)
        before = self._predecessor.endpoints if self._predecessor is not None else []
        try:
            if self._predecessor is not None:
                self._pools.lend(None)
            for endpoint in self.settings.endpoints:
                gateway = _gateway(endpoint, self.settings)
                self._gateways.append(gateway)
                await gateway.start(
                    self._pools,
                    max_frame_bytes=self.settings.max_frame_bytes,
                    max_unsent_bytes=self.settings.max_unsent_bytes,
                    take_over=endpoint in before,
                )
            if self.settings.metrics_endpoint is not None:
                monitor = Monitor(self.settings.metrics_endpoint, self._pools)
                await monitor.start()
                self._monitor = monitor
        except BaseException:
            self._close_gateways()
            if self._predecessor is not None:
                self._predecessor.close()
            raise
        self.endpoints = [gateway.endpoint for gateway in self._gateways]
        self._succession = Succession(
            self._pools,
            list(dict.fromkeys((*self.settings.endpoints, *self.endpoints))),
            max_frame_bytes=self.settings.max_frame_bytes,
            claim=self._claim,
            close_tcp=self._close_tcp,
            handed_over=lambda: self._order(None),
        )
        if self._predecessor is not None:
            self._predecessor.take(self._pools.lend)
        self._pools.start()
        self._stalls.start()

    def _add_to_status(self, status: PoolStatus) -> None:
        status.faults = self._faults.count
        status.stalls = self._stalls.count
        status.longest_stall_seconds = round(self._stalls.longest_seconds, 3)
        status.last_stall = self._stalls.last
        status.histograms["lag"] = self._stalls.lags.seconds()

    @property
    def predecessor(self) -> int:
        """The process of the supervisor in whose place it serves; 0: there was none."""
        return 0 if self._predecessor is None else self._predecessor.pid

    def reload(self, load: Callable[[], Settings]) -> None:
        """Go by the settings that it loads now. Those that cannot be are refused, all of them."""
        if self._pools.draining:
            log.warning("nothing is reloaded: this supervisor is about to end")
            return
        try:
            new = load()
            if self.settings.embedded is not None:
                new = with_dsn(new, self.settings.connect.dsn or "")
            found = self._pools.reload(new)
        except ConfigError as error:
            log.error("the configuration is refused, and nothing has changed: %s", error)
            return
        self.settings = found.settings
        log.info("reloaded: %s", ", ".join(found.made) or "nothing has changed")
        for name in found.left:
            log.warning("%s is different now, but only a restart can change it: it stays as it was", name)

    def _hand_over(self, peer: Peer, request: int) -> None:
        self._succession.begin(peer, request)

    async def _claim(self) -> None:
        for gateway in self._gateways:
            await gateway.claim_again()

    async def stop(self, *, seconds: float | None = None) -> None:
        """Take no new work, let what is here end within so many seconds (None: as configured), close all."""
        self._operation.close()
        self._succession.close()
        if self._predecessor is not None:
            self._predecessor.close()
        for gateway in self._gateways:
            gateway.stop_listening()
        await self._pools.drain(self.settings.drain_timeout_seconds if seconds is None else seconds)
        await asyncio.sleep(0)  # the last replies leave at the end of this turn
        self._close_gateways()
        if self._monitor is not None:
            await self._monitor.close()
        self._stalls.stop()

    def _close_tcp(self) -> None:
        for gateway in self._gateways:
            if isinstance(gateway, TcpGateway):
                gateway.close()

    def _close_gateways(self) -> None:
        for gateway in self._gateways:
            gateway.close()


async def serve(
    settings: Settings,
    *,
    ready: Callable[[Supervisor], None] | None = None,
    load: Callable[[], Settings] | None = None,
    take_over: bool = False,
) -> None:
    """Run a supervisor until SIGTERM or SIGINT, then drain; a second signal stops at once. load: gives the settings
    anew, at SIGHUP. take_over: from the supervisor that serves now. Another one may take over from this one, which
    ends it as well."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int | None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if load is not None else ())):
        loop.add_signal_handler(number, signals.put_nowait, number)
    with ExitStack() as stack:
        if settings.embedded is not None:
            dsn = stack.enter_context(embedded_postgres(settings.embedded or None))
            settings = with_dsn(settings, dsn)
        supervisor = Supervisor(settings, order=signals.put_nowait)
        await supervisor.start(take_over=take_over)
        gc.freeze()  # what is here stays; and of what comes, nearly nothing is cyclic
        gc.set_threshold(GC_THRESHOLD)
        if ready is not None:
            ready(supervisor)
        serving = f"STATUS=serving at {', '.join(supervisor.endpoints)}"
        notify("READY=1", f"MAINPID={os.getpid()}", serving)
        while (order := await signals.get()) == signal.SIGHUP:
            if load is not None:
                notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                supervisor.reload(load)
                notify("READY=1", serving)
        if order is None:
            log.info("another supervisor has taken over")
            await supervisor.stop(seconds=0)
            return
        log.info("draining")
        notify("STOPPING=1", "STATUS=draining")
        stopping = asyncio.ensure_future(supervisor.stop())
        again = asyncio.ensure_future(signals.get())
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            log.warning("a second signal: stopping at once")
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await supervisor.stop(seconds=0)
        again.cancel()


def with_dsn(settings: Settings, dsn: str) -> Settings:
    """The same settings for another database."""
    connect = msgspec.structs.replace(settings.connect, dsn=dsn)
    return msgspec.structs.replace(settings, connect=connect)


def _gateway(endpoint: str, settings: Settings = DEFAULT_SETTINGS) -> IpcGateway | TcpGateway:
    if endpoint.startswith("ipc://"):
        return IpcGateway(endpoint, mode=settings.socket_mode, group=settings.socket_group)
    if endpoint.startswith("tcp://"):
        return TcpGateway(endpoint, None if settings.curve.server_key is None else Curve(settings.curve))
    raise ConfigError(f"{endpoint!r} is no endpoint: expected ipc:///path/to.sock or tcp://127.0.0.1:PORT")
