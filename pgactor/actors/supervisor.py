"""The supervisor process: starts everything in order, obeys signals, drains.

Start: lock and listen first, so that a second supervisor is refused before it opens a connection; then the pool.
Ready means that requests are accepted; the database may still be down.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from ..config import Settings
from ..errors import ConfigError
from ..messages.pool import PoolStatus
from .curve import Curve
from .embedded import embedded_postgres
from .faults import Faults
from .ipc import IpcGateway
from .monitor import Monitor
from .notify import notify
from .pools import Pools
from .session import check_asyncpg
from .stalls import Stalls
from .tcp import TcpGateway

log = logging.getLogger("pgactor.supervisor")

DEFAULT_SETTINGS = Settings()

GC_THRESHOLD = 50_000
"""Objects between two looks for cycles: Python's 700 would mean one every dozen statements."""


class Supervisor:
    """The pools and their endpoints, from start to drain."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.endpoints: list[str] = []
        self._gateways: list[IpcGateway | TcpGateway] = []
        self._pools: Pools
        self._faults = Faults(lambda brain, reason: self._pools.restart(brain, reason))
        self._stalls: Stalls
        self._monitor: Monitor | None = None

    async def start(self) -> None:
        """Listen and open the first connections. Raises `ConfigError` if an endpoint cannot be served, or a
        hook not be imported."""
        check_asyncpg()
        self._loop = asyncio.get_running_loop()
        self._stalls = Stalls(self.settings.stall_seconds)
        self._pools = Pools(self.settings, add_to_status=self._add_to_status)
        self._loop.set_exception_handler(self._faults)
        try:
            for endpoint in self.settings.endpoints:
                gateway = _gateway(endpoint, self.settings)
                self._gateways.append(gateway)
                await gateway.start(
                    self._pools,
                    max_frame_bytes=self.settings.max_frame_bytes,
                    max_unsent_bytes=self.settings.max_unsent_bytes,
                )
            if self.settings.metrics_endpoint is not None:
                monitor = Monitor(self.settings.metrics_endpoint, self._pools)
                await monitor.start()
                self._monitor = monitor
        except BaseException:
            self._close_gateways()
            raise
        self.endpoints = [gateway.endpoint for gateway in self._gateways]
        self._pools.start()
        self._stalls.start()

    def _add_to_status(self, status: PoolStatus) -> None:
        status.faults = self._faults.count
        status.stalls = self._stalls.count
        status.longest_stall_seconds = round(self._stalls.longest_seconds, 3)
        status.last_stall = self._stalls.last
        status.histograms["lag"] = self._stalls.lags.seconds()

    async def stop(self, *, seconds: float | None = None) -> None:
        """Take no new work, let what is here end within so many seconds (None: as configured), close all."""
        for gateway in self._gateways:
            gateway.stop_listening()
        await self._pools.drain(self.settings.drain_timeout_seconds if seconds is None else seconds)
        await asyncio.sleep(0)  # the last replies leave at the end of this turn
        self._close_gateways()
        if self._monitor is not None:
            await self._monitor.close()
        self._stalls.stop()

    def _close_gateways(self) -> None:
        for gateway in self._gateways:
            gateway.close()


async def serve(settings: Settings, *, ready: Callable[[Supervisor], None] | None = None) -> None:
    """Run a supervisor until SIGTERM or SIGINT, then drain; a second signal stops at once."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    with ExitStack() as stack:
        if settings.embedded is not None:
            dsn = stack.enter_context(embedded_postgres(settings.embedded or None))
            settings = with_dsn(settings, dsn)
        supervisor = Supervisor(settings)
        await supervisor.start()
        gc.freeze()  # what is here stays; and of what comes, nearly nothing is cyclic
        gc.set_threshold(GC_THRESHOLD)
        if ready is not None:
            ready(supervisor)
        notify("READY=1", f"STATUS=serving at {', '.join(supervisor.endpoints)}")
        await signals.get()
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
