"""Pools beside the first, each with all of its settings in one table: `[pools.NAME]`, `[templates.NAME]`."""

from __future__ import annotations

from typing import Any

import msgspec

from .connect import ConnectSettings
from .hooks import HookSettings
from .pool import PoolSettings


class PoolTable(PoolSettings, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A pool beside the first: `[pools.NAME]`. dsn: short for connect.dsn. A pool without a dsn takes from the first
    one's `[connect]` what it does not say of the connection itself."""

    dsn: str | None = None
    connect: ConnectSettings = msgspec.field(default_factory=lambda: ConnectSettings())
    hooks: HookSettings = HookSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dsn is not None and self.connect.dsn is not None:
            raise ValueError("dsn is expected once: as dsn, or as connect.dsn")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} max_size {self.max_size}>"  # a password may be in its dsn

    def connecting(self, first: ConnectSettings) -> ConnectSettings:
        """How its connections are opened. first: how the first pool's are."""
        said: dict[str, Any] = msgspec.structs.asdict(self.connect)
        if self.dsn is not None:
            said["dsn"] = self.dsn
        if said["dsn"] is None:
            default = msgspec.structs.asdict(ConnectSettings())
            inherited = msgspec.structs.asdict(first)
            said = {name: inherited[name] if value == default[name] else value for name, value in said.items()}
        return ConnectSettings(**said)


class TemplateTable(PoolTable, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Pools that are made when they are first asked for, as NAME/database: `[templates.NAME]`. Its dsn, database or
    user has {database} or {user} in the place of the name.

    max_pools: how many of them at most. pool_idle_seconds: one that no worker has been connected to for so long is
    closed; 0: never.
    """

    min_size: int = 0
    max_pools: int = 10
    pool_idle_seconds: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_pools <= 0:
            raise ValueError("max_pools is expected to be greater than zero")
        if not self.pool_idle_seconds >= 0:
            raise ValueError("pool_idle_seconds is expected to be greater or equal to zero")
