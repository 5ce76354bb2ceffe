"""Settings of the supervisor: from a TOML file, then the environment, then flags; the later wins.

Every key has its unit in its name, but for those that are asyncpg's own (`[connect]`, `max_queries`,
`max_inactive_connection_lifetime`), which keep asyncpg's names and are in seconds.
"""

from __future__ import annotations

import re

import msgspec

from ..endpoint import DEFAULT_ENDPOINT
from ..messages import DEFAULT_MAX_FRAME_BYTES
from .connect import ConnectSettings
from .curve import CurveSettings
from .hooks import HookSettings
from .monitor import address_of
from .pool import PoolSettings
from .tables import PoolTable, TemplateTable

DEFAULT_POOL = "default"
"""The name of the first pool: `[pool]`, with `[connect]` and `[hooks]`."""

_POOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Everything a supervisor is told.

    pools: those beside the first, by their names. templates: of pools that are made on demand.
    endpoints: where workers connect, ipc:// and tcp://, which without keys is on loopback. embedded: a folder for a
    PostgreSQL of the supervisor's own. max_frame_bytes: the largest frame it takes. max_unsent_bytes: how much may
    wait for a worker that does not read, before it is disconnected. heartbeat_seconds, silence_seconds: how often a
    tcp worker must be heard, and when it counts as lost. drain_timeout_seconds: how long SIGTERM waits for work in
    progress. stall_seconds: when the event loop stands still for longer, the log and the status tell; 0: never.
    awake_seconds: how long the supervisor looks for more to do, after little work, before it sleeps; on one
    processor it does not. curve: keys for tcp. socket_mode, socket_group: of ipc sockets, for workers of other users;
    given together. metrics_endpoint: where Prometheus and probes are answered, http://HOST:PORT; None: nowhere.
    """

    endpoints: list[str] = msgspec.field(default_factory=lambda: [DEFAULT_ENDPOINT])
    pool: PoolSettings = PoolSettings()
    connect: ConnectSettings = ConnectSettings()
    embedded: str | None = None
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    max_unsent_bytes: int = 256 * 1024 * 1024
    heartbeat_seconds: float = 3.0
    silence_seconds: float = 10.0
    drain_timeout_seconds: float = 10.0
    awake_seconds: float = 100e-6
    hooks: HookSettings = HookSettings()
    pools: dict[str, PoolTable] = {}
    templates: dict[str, TemplateTable] = {}
    curve: CurveSettings = CurveSettings()
    socket_mode: int | None = None
    socket_group: str | None = None
    stall_seconds: float = 0.25
    metrics_endpoint: str | None = None

    def __post_init__(self) -> None:
        for name in (*self.pools, *self.templates):
            if not _POOL_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a pool: letters, digits, _ and - are expected")
            if name == DEFAULT_POOL:
                raise ValueError(f"{name!r} is the first pool's name: its settings are [pool], [connect] and [hooks]")
        if both := sorted(self.pools.keys() & self.templates.keys()):
            raise ValueError(f"{both[0]!r} is a pool and a template; give one of them another name")
        for endpoint in self.endpoints:
            if "?" in endpoint:
                raise ValueError(f"{endpoint}: ?pool=NAME is for clients; the supervisor serves all pools")
        if (self.socket_mode is None) != (self.socket_group is None):
            raise ValueError("socket_mode and socket_group are expected together")
        if self.socket_mode is not None and self.socket_mode & ~0o770:
            raise ValueError("socket_mode is expected to be 0o660, or less: nothing for users outside of the group")
        if not self.endpoints:
            raise ValueError("endpoints is expected to name at least one endpoint")
        for name in ("max_frame_bytes", "max_unsent_bytes"):
            if getattr(self, name) < 1024:
                raise ValueError(f"{name} is expected to be at least 1024")
        if not 0 < self.heartbeat_seconds < self.silence_seconds:
            raise ValueError("heartbeat_seconds is expected to be positive and less than silence_seconds")
        if not 0 <= self.stall_seconds <= 3600:
            raise ValueError("stall_seconds is expected to be between 0 and 3600")
        if not 0 <= self.awake_seconds <= 0.01:
            raise ValueError("awake_seconds is expected to be between 0 and 0.01")
        if self.metrics_endpoint is not None:
            address_of(self.metrics_endpoint)
