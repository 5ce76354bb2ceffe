"""Reads the settings from a TOML file, then the environment, then flags; the later wins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .. import aliases
from ..config import Settings
from ..endpoint import ENDPOINT_VARIABLE
from ..errors import ConfigError
from .connect import ConnectSettings
from .curve import CurveSettings
from .hooks import HookSettings
from .mistakes import explained
from .tables import TemplateTable

_ENVIRONMENT = {
    ENDPOINT_VARIABLE: ("endpoints",),
    "PGACTOR_DSN": ("connect", "dsn"),
    "PGACTOR_MIN_SIZE": ("pool", "min_size"),
    "PGACTOR_MAX_SIZE": ("pool", "max_size"),
    "PGACTOR_SOCKET_MODE": ("socket_mode",),
    "PGACTOR_SOCKET_GROUP": ("socket_group",),
    "PGACTOR_METRICS_ENDPOINT": ("metrics_endpoint",),
}

_TABLES = (Settings, TemplateTable, ConnectSettings, HookSettings, CurveSettings)
_KNOWN = [name for table in _TABLES for name in table.__struct_fields__]
"""The keys of all tables."""


def load(
    path: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[tuple[str, ...], Any] | None = None,
) -> Settings:
    """Read the settings: the file, then the environment (PGACTOR_DSN, PGACTOR_ENDPOINT, PGACTOR_MIN_SIZE,
    PGACTOR_MAX_SIZE, PGACTOR_SOCKET_MODE, PGACTOR_SOCKET_GROUP, PGACTOR_METRICS_ENDPOINT; of another pool
    PGACTOR_DSN_NAME and the like), then the overrides, given as {("pool", "max_size"): 4}.

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
            _put(tree, keys, _read(variable, value))
    _put_named(tree, environment)
    for keys, value in (overrides or {}).items():
        _put(tree, keys, value)
    try:
        _resolve_aliases(tree)
        return msgspec.convert(tree, Settings, strict=False)
    except ConfigError as error:
        raise ConfigError(f"{path or 'settings'}: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path or 'settings'}: {explained(error, _KNOWN)}") from None


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
            if len(keys) == 1 or not variable.startswith(f"{prefix}_") or not environment[variable]:
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
        raise ConfigError(f"connect arguments: {explained(error, _KNOWN)}") from None


def _resolve_aliases(tree: dict[str, Any]) -> None:
    connect, pool = tree.setdefault("connect", {}), tree.setdefault("pool", {})
    if isinstance(connect, dict) and isinstance(pool, dict):
        aliases.resolve(connect, pool)
    for tables in (tree.get("pools"), tree.get("templates")):
        for table in tables.values() if isinstance(tables, dict) else ():
            if isinstance(table, dict) and isinstance(table.setdefault("connect", {}), dict):
                aliases.resolve(table["connect"], table)


def _read(variable: str, value: str) -> Any:
    """The value of a variable that has no name of a pool in it."""
    if variable == ENDPOINT_VARIABLE:
        return [value]
    if variable == "PGACTOR_SOCKET_MODE":  # octal, as chmod has it
        if not value.isdecimal() or set(value) & {"8", "9"}:
            raise ConfigError(f"{variable} is expected to be such as 0660, not {value!r}")
        return int(value, 8)
    return value


def _put(tree: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"[{key}] is expected to be a table of settings")
    tree[keys[-1]] = value
