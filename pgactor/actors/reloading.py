"""Reloading: which settings may change while the supervisor runs, and what changes with them.

Only what is different in the file counts: what a worker has changed meanwhile (`resize`) stays, unless the file says
something new of the same. Everything is checked before anything is changed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ..config import DEFAULT_POOL, Settings
from ..config.connect import ConnectSettings
from ..config.pool import PoolSettings
from ..errors import ConfigError
from .destination import find

POOL_KEYS = frozenset(
    {
        "min_size",
        "max_size",
        "init_size",
        "max_queries",
        "max_inactive_connection_lifetime",
        "max_lifetime_seconds",
        "max_lifetime_jitter",
        "max_waiting",
        "queue_timeout_seconds",
        "lease_ttl_seconds",
        "max_hold_seconds",
        "opens_at_once",
        "reopen_backoff_seconds",
        "reopen_backoff_max_seconds",
        "database_grace_seconds",
        "reset_timeout_seconds",
        "lease_warning_seconds",
        "listen_check_seconds",
        "worker_window",
        "max_requests_per_worker",
        "max_bytes_per_worker",
        "max_leases_per_worker",
        "workers_may_administer",
    }
)
"""Those of a pool that may."""

TOP_KEYS = frozenset({"drain_timeout_seconds"})
"""Those of no pool that may."""

FIXED_CONNECT_KEYS = frozenset({"statement_cache_size", "command_timeout"})
"""Those of how connections are opened that may not: the statement lane goes by them."""

_TABLES = ("pool", "connect", "pools", "templates")


class PoolChange(NamedTuple):
    """What becomes of a pool. renew: its connections are to be opened anew, by these arguments."""

    settings: PoolSettings
    connect: ConnectSettings
    renew: bool


class Changes(NamedTuple):
    """settings: what is gone by afterwards. pools: those that change. made: what changes, in words. left: the names
    of what stays as it is, since only a restart can change it."""

    settings: Settings
    pools: dict[str, PoolChange]
    made: list[str]
    left: list[str]


def changes(old: Settings, new: Settings, running: dict[str, PoolSettings]) -> Changes:
    """What is to be done. running: the settings that the pools go by now. Raises `ConfigError` for settings that
    cannot be."""
    made: list[str] = []
    left: list[str] = []
    top: dict[str, Any] = {}
    for name in Settings.__struct_fields__:
        value, before = getattr(new, name), getattr(old, name)
        if name in _TABLES or value == before:
            continue
        if name == "curve" and value.client_keys == before.client_keys:
            top[name] = value  # another file of the server key, whose content counts
            continue
        if name in TOP_KEYS:
            top[name] = value
            made.append(f"{name} {before} -> {value}")
        else:
            left.append(name)
    left += [f"templates.{name}" for name in _different(old.templates, new.templates)]
    left += [f"pools.{name}" for name in sorted(old.pools.keys() ^ new.pools.keys())]
    pools: dict[str, PoolChange] = {}
    tables: dict[str, Any] = dict(old.pools)
    top["connect"] = _connect("connect", old.connect, new.connect, made, left)
    for name in (DEFAULT_POOL, *sorted(old.pools.keys() & new.pools.keys())):
        if name == DEFAULT_POOL:
            prefix, dials, renew = "pool.", top["connect"], top["connect"] != old.connect
            changed = _limits(prefix, old.pool, new.pool, made, left)
            top["pool"] = msgspec.structs.replace(old.pool, **changed)
        else:
            prefix, before, after = f"pools.{name}.", old.pools[name], new.pools[name]
            changed = _limits(prefix, before, after, made, left)
            connect = _connect(f"{prefix}connect", before.connect, after.connect, made, left)
            if before.dsn != after.dsn:
                made.append(f"{prefix}dsn")
            if before.hooks != after.hooks:
                left.append(f"{prefix}hooks")
            tables[name] = msgspec.structs.replace(before, **changed, connect=connect, dsn=after.dsn)
            dials = tables[name].connecting(top["connect"])
            renew = dials != before.connecting(old.connect)
        if renew:
            find(dials)  # raises what is wrong with it
        if changed or renew:
            try:
                settings = msgspec.structs.replace(running[name], **changed)
            except ValueError as error:
                raise ConfigError(f"{prefix}{error}, with what workers have changed") from None
            pools[name] = PoolChange(settings, dials, renew)
    top["pools"] = tables
    return Changes(msgspec.structs.replace(old, **top), pools, made, left)


def _limits(prefix: str, old: PoolSettings, new: PoolSettings, made: list[str], left: list[str]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in PoolSettings.__struct_fields__:
        before, value = getattr(old, name), getattr(new, name)
        if value == before:
            continue
        if name in POOL_KEYS:
            changed[name] = value
            made.append(f"{prefix}{name} {before} -> {value}")
        else:
            left.append(prefix + name)
    return changed


def _connect(
    prefix: str, old: ConnectSettings, new: ConnectSettings, made: list[str], left: list[str]
) -> ConnectSettings:
    """The new ones, but for what cannot change. Values are not told: passwords are among them."""
    kept: dict[str, Any] = {}
    for name in _different(msgspec.structs.asdict(old), msgspec.structs.asdict(new)):
        if name in FIXED_CONNECT_KEYS:
            kept[name] = getattr(old, name)
            left.append(f"{prefix}.{name}")
        else:
            made.append(f"{prefix}.{name}")
    return msgspec.structs.replace(new, **kept)


def _different(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
