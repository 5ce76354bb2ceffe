"""How connections are opened: `[connect]`."""

from __future__ import annotations

from typing import Any

import msgspec

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

    def __repr__(self) -> str:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        return f"<ConnectSettings {', '.join(given)}>"  # no values: passwords are among them

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for asyncpg.connect, without what only libpq knows."""
        given = {name: getattr(self, name) for name in ASYNCPGS_ARGUMENTS}
        given["timeout"] = DEFAULT_CONNECT_SECONDS if self.timeout is None else self.timeout
        if "application_name=" not in (self.dsn or ""):  # asyncpg prefers server_settings to the dsn
            given["server_settings"] = {"application_name": "pgactor", **(self.server_settings or {})}
        return {name: value for name, value in given.items() if value is not None}
