"""psqlpy's names of settings -> libpq's and our own.

A pool written for psqlpy keeps its parameters: each of ConnectionPool's is understood in `[connect]`, and in `[pool]`
those that are about the pool. Its enumerations are taken by their names, too: `ReadWrite`, `VerifyFull`, `Random`.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import ConfigError

OF_CONNECT = {
    "username": "user",
    "db_name": "database",
    "dbname": "database",  # libpq's own
    "keepalives_retries": "keepalives_count",
    "ssl_mode": "sslmode",
    "ca_file": "sslrootcert",
}
"""Other names of [connect]'s keys."""

OF_POOL = {"max_db_pool_size": "max_size", "conn_recycling_method": "recycling"}
"""Other names of [pool]'s keys."""

DURATIONS = {
    "connect_timeout": 1.0,
    "tcp_user_timeout": 1000.0,  # libpq counts it in milliseconds
    "keepalives_idle": 1.0,
    "keepalives_interval": 1.0,
}
"""What psqlpy takes as NAME_sec and NAME_nanosec, and how much of libpq's unit a second is."""

_SEVERAL = {"hosts": "host", "ports": "port"}
_ENUMERATIONS = ("target_session_attrs", "load_balance_hosts", "sslmode")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def resolve(connect: dict[str, Any], pool: dict[str, Any] | None = None) -> None:
    """Rename the keys of these tables in place. pool: None where there is no pool to be told.

    Raises `ConfigError` for a setting that is given by two names, and for nanoseconds without seconds.
    """
    for table in (connect,) if pool is None else (connect, pool):
        for alias, name in OF_POOL.items():
            if alias in table:
                if pool is None:
                    raise ConfigError(f"{alias} is the pool's, and cannot be changed with the connect arguments")
                _rename(table, alias, pool, name)
    if "ca_file" in connect and not connect.keys() & {"sslmode", "ssl_mode", "ssl"}:
        connect["sslmode"] = "verify-full"  # psqlpy verifies by it whatever the mode is
    for alias, name in OF_CONNECT.items():
        if alias in connect:
            _rename(connect, alias, connect, name)
    for name, unit in DURATIONS.items():
        _duration(connect, name, unit)
    for several, name in _SEVERAL.items():
        if several in connect:
            first = _as_list(connect.pop(several))
            connect[name] = first + _as_list(connect[name]) if name in connect else first
    for name in _ENUMERATIONS:
        if isinstance(connect.get(name), str):
            connect[name] = _HUMP.sub("-", connect[name]).lower().replace("_", "-")
    if pool is not None and isinstance(pool.get("recycling"), str):
        pool["recycling"] = pool["recycling"].lower()


def _rename(table: dict[str, Any], alias: str, other: dict[str, Any], name: str) -> None:
    if name in other:
        raise ConfigError(f"{alias} and {name} are two names of one setting: give one of them")
    other[name] = table.pop(alias)


def _duration(connect: dict[str, Any], name: str, unit: float) -> None:
    seconds, nanoseconds = f"{name}_sec", f"{name}_nanosec"
    if nanoseconds in connect and seconds not in connect:
        raise ConfigError(f"{nanoseconds} is expected together with {seconds}")
    if seconds not in connect:
        return
    if name in connect:
        raise ConfigError(f"{seconds} and {name} are two names of one setting: give one of them")
    for each in (seconds, nanoseconds):
        given = connect.get(each, 0)
        if isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0:
            raise ConfigError(f"{each} is expected to be a number, greater or equal to zero")
    try:
        connect[name] = unit * (connect.pop(seconds) + connect.pop(nanoseconds, 0) / 1e9)
    except OverflowError:
        raise ConfigError(f"{seconds} and {nanoseconds} are more than a number can be") from None


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
