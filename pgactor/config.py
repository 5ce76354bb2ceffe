"""Settings of the supervisor: from a TOML file, then the environment, then flags; the later wins.

Every key has its unit in its name, but for those that are asyncpg's own (`[connect]`, `max_queries`,
`max_inactive_connection_lifetime`), which keep asyncpg's names and are in seconds.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from . import aliases
from .endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE
from .errors import ConfigError
from .messages import DEFAULT_MAX_FRAME_BYTES

MOST_CONNECTIONS = 262_143
"""The largest max_connections that PostgreSQL takes."""


class PoolSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many connections, how long they live, how long requests wait."""

    min_size: int = 1
    max_size: int = 10
    max_queries: int = 50_000
    """A connection is replaced after this many requests; 0: never."""
    max_inactive_connection_lifetime: float = 300.0
    """An idle connection above min_size is closed after this many seconds; 0: never."""
    init_size: int | None = None
    """Connections to open at start, one alone first; None: min_size. Those above min_size may be closed as idle."""
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
    recycling: Literal["reset", "clean", "verified", "fast"] = "reset"
    """How a connection is made ready for another worker; see docs/configuration.md."""
    workers_may_administer: bool | None = None
    """Whether workers may resize the pool and replace its connect arguments; not given: those on ipc may."""

    @property
    def resets_always(self) -> bool:
        """Whether the session is reset after every use, whatever is known of what ran there."""
        return self.reset_every_statement or self.recycling == "clean"

    def resized(self, max_size: int, min_size: int | None = None) -> PoolSettings:
        """The same for another size. min_size: None leaves it, or brings it down to max_size.

        Raises ValueError for sizes that cannot be.
        """
        if max_size > MOST_CONNECTIONS:
            raise ValueError(f"max_size is expected to be at most {MOST_CONNECTIONS}, PostgreSQL's own limit")
        least = min(self.min_size, max(max_size, 0)) if min_size is None else min_size
        return msgspec.structs.replace(self, max_size=max_size, min_size=least)

    @property
    def initial_size(self) -> int:
        """How many connections are opened at start."""
        return self.min_size if self.init_size is None else self.init_size

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
        if self.initial_size < 0:
            raise ValueError("init_size is expected to be greater or equal to zero")
        if self.initial_size > self.max_size:
            raise ValueError("init_size is greater than max_size")
        if self.initial_size < self.min_size:
            raise ValueError("init_size is smaller than min_size")
        if self.max_queries < 0:  # 0 means never here
            raise ValueError("max_queries is expected to be greater than zero")
        if not self.max_inactive_connection_lifetime >= 0:
            raise ValueError("max_inactive_connection_lifetime is expected to be greater or equal to zero")
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


ASYNCPGS_ARGUMENTS = (
    *("dsn", "host", "port", "user", "password", "passfile", "service", "servicefile", "database", "timeout"),
    *("statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size", "command_timeout"),
    *("ssl", "direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
)
"""Which of the settings of `[connect]` asyncpg.connect knows."""

DEFAULT_CONNECT_SECONDS = 10.0
"""How long an attempt to connect may take: an application waits for its connections."""


class ConnectSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The arguments of asyncpg.connect that can be written in a file, and libpq's options beyond them, by its names.

    timeout: seconds for a whole attempt to connect, at all hosts; None: 10, or no limit where connect_timeout is
    given. connect_timeout: for each address, in seconds; 0: no limit. tcp_user_timeout: in milliseconds.
    keepalives_idle, keepalives_interval: in seconds.
    """

    dsn: str | None = None
    host: str | list[str] | None = None
    port: int | list[int] | None = None
    user: str | None = None
    password: str | None = None
    passfile: str | None = None
    service: str | None = None
    servicefile: str | None = None
    database: str | None = None
    timeout: float | None = None
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
    hostaddr: str | list[str] | None = None
    options: str | None = None
    application_name: str | None = None
    connect_timeout: float | None = None
    tcp_user_timeout: float | None = None
    keepalives: bool | int | None = None
    keepalives_idle: float | None = None
    keepalives_interval: float | None = None
    keepalives_count: int | None = None
    load_balance_hosts: str | None = None
    channel_binding: str | None = None
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    sslpassword: str | None = None
    sslcrl: str | None = None
    sslnegotiation: str | None = None
    ssl_min_protocol_version: str | None = None
    ssl_max_protocol_version: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for asyncpg.connect, without what only libpq knows."""
        given = {name: getattr(self, name) for name in ASYNCPGS_ARGUMENTS}
        given["timeout"] = DEFAULT_CONNECT_SECONDS if self.timeout is None else self.timeout
        if "application_name=" not in (self.dsn or ""):  # asyncpg prefers server_settings to the dsn
            given["server_settings"] = {"application_name": "pgactor", **(self.server_settings or {})}
        return {name: value for name, value in given.items() if value is not None}


class HookSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Async functions that the supervisor calls, each as "module:function"; what asyncpg.create_pool takes by these
    names. connect: opens a connection. init: given each new one. setup: given each before it is used. reset: given
    each after it was used, in the place of the usual reset."""

    connect: str | None = None
    setup: str | None = None
    init: str | None = None
    reset: str | None = None

    @property
    def each_use(self) -> bool:
        """Whether there is something to call for each use of a connection."""
        return self.setup is not None or self.reset is not None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            given = getattr(self, name)
            if given is not None and not _HOOK.fullmatch(given):
                raise ValueError(f"{name} is expected to be 'module:function' (got {given!r})")


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


DEFAULT_POOL = "default"
"""The name of the first pool: `[pool]`, with `[connect]` and `[hooks]`."""

_POOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HOOK = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Everything a supervisor is told.

    pools: those beside the first, by their names. templates: of pools that are made on demand.
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
    hooks: HookSettings = HookSettings()
    pools: dict[str, PoolTable] = {}
    templates: dict[str, TemplateTable] = {}

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
    PGACTOR_MAX_SIZE; of another pool PGACTOR_DSN_NAME and the like), then the overrides, given as
    {("pool", "max_size"): 4}.

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
    _put_named(tree, environment)
    for keys, value in (overrides or {}).items():
        _put(tree, keys, value)
    try:
        _resolve_aliases(tree)
        return msgspec.convert(tree, Settings, strict=False)
    except ConfigError as error:
        raise ConfigError(f"{path or 'settings'}: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path or 'settings'}: {_explain(str(error))}") from None


def _put_named(tree: dict[str, Any], environment: Mapping[str, str]) -> None:
    """The variables of the pools beside the first: PGACTOR_DSN_REPLICA, and the like of its sizes. One that the file
    does not know is made by its dsn."""
    names = {
        name.upper().replace("-", "_"): (table, name)
        for table in ("templates", "pools")
        if isinstance(tree.get(table), dict)
        for name in tree[table]
    }
    for variable in sorted(environment):  # the dsn comes first
        for prefix, keys in _ENVIRONMENT.items():
            if keys == ("endpoints",) or not variable.startswith(f"{prefix}_") or not environment[variable]:
                continue
            name = variable.removeprefix(f"{prefix}_")
            if keys[-1] == "dsn":
                names.setdefault(name, ("pools", name.lower()))
            if name not in names:
                raise ConfigError(f"{variable}: there is no pool {name.lower()!r}; PGACTOR_DSN_{name} would make one")
            _put(tree, (*names[name], keys[-1]), environment[variable])


def connect_settings(dsn: str | None, arguments: Mapping[str, Any]) -> ConnectSettings:
    """Settings of `[connect]` given as keyword arguments, psqlpy's names among them. Raises `ConfigError`."""
    table = {name: value for name, value in {"dsn": dsn, **arguments}.items() if value is not None}
    aliases.resolve(table)
    try:
        return msgspec.convert(table, ConnectSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"connect arguments: {_explain(str(error))}") from None


def _resolve_aliases(tree: dict[str, Any]) -> None:
    connect, pool = tree.setdefault("connect", {}), tree.setdefault("pool", {})
    if isinstance(connect, dict) and isinstance(pool, dict):
        aliases.resolve(connect, pool)


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
    known = [
        name
        for struct in (Settings, TemplateTable, ConnectSettings, HookSettings)
        for name in struct.__struct_fields__
    ]
    near = difflib.get_close_matches(unknown, known, n=1)
    return f"{text}; did you mean `{near[0]}`?" if near else text
