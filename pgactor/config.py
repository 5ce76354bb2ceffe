"""Settings of the supervisor: from a TOML file, then the environment, then flags; the later wins.

Every key has its unit in its name, but for those that are asyncpg's own (`[connect]`, `max_queries`,
`max_inactive_connection_lifetime`), which keep asyncpg's names and are in seconds.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from .endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE
from .errors import ConfigError
from .messages import DEFAULT_MAX_FRAME_BYTES


class PoolSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many connections, how long they live, how long requests wait."""

    min_size: int = 1
    max_size: int = 10
    max_queries: int = 50_000
    """A connection is replaced after this many requests; 0: never."""
    max_inactive_connection_lifetime: float = 300.0
    """An idle connection above min_size is closed after this many seconds; 0: never."""
    max_lifetime_seconds: float = 3600.0
    """A connection is replaced when it is this old; 0: never."""
    max_lifetime_jitter: float = 0.1
    """The part of max_lifetime_seconds that is left to chance, so that connections do not all end at once."""
    max_waiting: int = 10_000
    """How many requests may wait for a backend; further ones are refused with QueueFull."""
    queue_timeout_seconds: float = 30.0
    """How long a request may wait for a backend, unless it brings a shorter timeout of its own."""
    lease_ttl_seconds: float = 30.0
    """How long a silent owner keeps its lease, unless it asks for another time."""
    max_hold_seconds: float | None = None
    """How long a lease may be held at all."""
    opens_at_once: int = 4
    """How many connections may be opening at the same time."""
    reopen_backoff_seconds: float = 0.1
    """The pause after a failed open or a dead connection; doubled with each failure, jittered."""
    reopen_backoff_max_seconds: float = 5.0
    database_grace_seconds: float = 5.0
    """How long requests go on waiting while PostgreSQL refuses every connection."""
    reset_timeout_seconds: float = 5.0
    """How long a backend may take to cancel, roll back and reset; then it is closed."""
    reset_every_statement: bool = False
    """Reset the session after each statement, for databases whose functions change the session."""
    statement_lane: Literal["on", "off"] = "on"
    """Whether statements of several workers may travel down one connection one behind the other."""
    pipeline_depth: int = 32
    """How many of them at most; 1: each has the connection to itself."""
    pipeline_short_seconds: float = 0.001
    """Only a statement that takes less than this, on average, travels with others."""
    pipeline_stall_seconds: float = 0.01
    """Nothing is sent behind a statement that has taken this long."""
    worker_window: int = 0
    """How many statements of one worker may travel with others' at the same time; what it has more waits in the
    supervisor, where nobody stands behind it. 0: twice pipeline_depth, or max_size if that is more."""
    lease_share: float = 0.75
    """The part of the connections that leases may hold while statements are coming; at least one, and all but one at
    most."""

    @property
    def most_in_flight(self) -> int:
        """How many statements of one worker share backends with others' at the same time, at most."""
        return self.worker_window or max(2 * self.pipeline_depth, self.max_size)

    def __post_init__(self) -> None:
        if self.max_size <= 0:
            raise ValueError("max_size is expected to be greater than zero")
        if self.min_size < 0:
            raise ValueError("min_size is expected to be greater or equal to zero")
        if self.min_size > self.max_size:
            raise ValueError("min_size is greater than max_size")
        if not 0 <= self.max_lifetime_jitter <= 1:
            raise ValueError("max_lifetime_jitter is expected to be between 0 and 1")
        if not 0 <= self.lease_share <= 1:
            raise ValueError("lease_share is expected to be between 0 and 1")
        for name in ("max_waiting", "opens_at_once", "pipeline_depth"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is expected to be greater than zero")
        for name in ("queue_timeout_seconds", "lease_ttl_seconds", "reset_timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is expected to be greater than zero")
        if self.max_hold_seconds is not None and not self.max_hold_seconds > 0:
            raise ValueError("max_hold_seconds is expected to be greater than zero")
        for name in (
            "max_queries",
            "max_inactive_connection_lifetime",
            "max_lifetime_seconds",
            "reopen_backoff_seconds",
            "reopen_backoff_max_seconds",
            "database_grace_seconds",
            "pipeline_short_seconds",
            "pipeline_stall_seconds",
            "worker_window",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is expected to be greater or equal to zero")


class ConnectSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The arguments of asyncpg.connect that can be written in a file; see asyncpg's documentation of each."""

    dsn: str | None = None
    host: str | list[str] | None = None
    port: int | list[int] | None = None
    user: str | None = None
    password: str | None = None
    passfile: str | None = None
    service: str | None = None
    servicefile: str | None = None
    database: str | None = None
    timeout: float = 10.0
    statement_cache_size: int = 1000
    max_cached_statement_lifetime: int = 0
    max_cacheable_statement_size: int = 1024 * 15
    command_timeout: float | None = None
    ssl: bool | str | None = None
    direct_tls: bool | None = None
    server_settings: dict[str, str] | None = None
    target_session_attrs: str | None = None
    krbsrvname: str | None = None
    gsslib: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for asyncpg.connect."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        if "application_name=" not in (self.dsn or ""):  # asyncpg prefers server_settings to the dsn
            given["server_settings"] = {"application_name": "pgactor", **(self.server_settings or {})}
        return {name: value for name, value in given.items() if value is not None}


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Everything a supervisor is told.

    endpoints: where workers connect, ipc:// and tcp:// on loopback. embedded: a folder for a PostgreSQL of the
    supervisor's own. max_frame_bytes: the largest frame it takes. max_unsent_bytes: how much may wait for a
    worker that does not read, before it is disconnected. heartbeat_seconds, silence_seconds: how often a tcp
    worker must be heard, and when it counts as lost. drain_timeout_seconds: how long SIGTERM waits for work in
    progress. awake_seconds: how long the supervisor looks for more to do, after little work, before it sleeps; on one
    processor it does not.
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

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("endpoints is expected to name at least one endpoint")
        for name in ("max_frame_bytes", "max_unsent_bytes"):
            if getattr(self, name) < 1024:
                raise ValueError(f"{name} is expected to be at least 1024")
        if not 0 < self.heartbeat_seconds < self.silence_seconds:
            raise ValueError("heartbeat_seconds is expected to be positive and less than silence_seconds")
        if not 0 <= self.awake_seconds <= 0.01:
            raise ValueError("awake_seconds is expected to be between 0 and 0.01")


_ENVIRONMENT = {
    ENDPOINT_VARIABLE: ("endpoints",),
    "PGACTOR_DSN": ("connect", "dsn"),
    "PGACTOR_MIN_SIZE": ("pool", "min_size"),
    "PGACTOR_MAX_SIZE": ("pool", "max_size"),
}


def load(
    path: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[tuple[str, ...], Any] | None = None,
) -> Settings:
    """Read the settings: the file, then the environment (PGACTOR_DSN, PGACTOR_ENDPOINT, PGACTOR_MIN_SIZE,
    PGACTOR_MAX_SIZE), then the overrides, given as {("pool", "max_size"): 4}.

    Raises `ConfigError` that names the file and the key.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for variable, keys in _ENVIRONMENT.items():
        if value := environment.get(variable):
            _put(tree, keys, [value] if keys == ("endpoints",) else value)
    for keys, value in (overrides or {}).items():
        _put(tree, keys, value)
    try:
        return msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path or 'settings'}: {_explain(str(error))}") from None


def _put(tree: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"[{key}] is expected to be a table of settings")
    tree[keys[-1]] = value


def _explain(text: str) -> str:
    """Add the nearest known key to msgspec's complaint about an unknown one."""
    if "unknown field `" not in text:
        return text
    unknown = text.split("`")[1]
    known = [name for struct in (Settings, PoolSettings, ConnectSettings) for name in struct.__struct_fields__]
    near = difflib.get_close_matches(unknown, known, n=1)
    return f"{text}; did you mean `{near[0]}`?" if near else text
