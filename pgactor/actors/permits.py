"""Permits: which keys a supervisor accepts, and what each of them may do.

They are read from a directory: one TOML file for each key, named after whoever has it. It is looked at again and
again, so that keys come and go without a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from .. import keys
from ..config.mistakes import explained
from ..errors import ConfigError, NotPermitted

log = logging.getLogger("pgactor.permits")


class Permit(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the owner of a key may do.

    pools: the names of the pools that it may join, `NAME/*` for all of a template; None: all. read_only: it may not
    write. may_administer: it may resize pools, replace their connect arguments and have connections expired.
    name: its file's.
    """

    public_key: str
    pools: list[str] | None = None
    read_only: bool = False
    may_administer: bool = False
    name: str = ""

    def may_join(self, pool: str) -> bool:
        """Whether it may use the pool of that name."""
        return self.pools is None or pool in self.pools or f"{pool.partition('/')[0]}/*" in self.pools


def may_join(permit: Permit | None, pool: str) -> str:
    """The pool's name, if the worker may use it. permit: None: it needs none. Raises `NotPermitted`."""
    if permit is not None and not permit.may_join(pool):
        names = ", ".join(permit.pools or ()) or "none"
        raise NotPermitted(f"the key {permit.name!r} may not use the pool {pool[:200]!r}, only: {names}")
    return pool


def known(permit: Permit | None, pools: Iterable[str]) -> list[str]:
    """Those of the pools that the worker may know of, which are those that it may use."""
    return [name for name in pools if permit is None or permit.may_join(name)]


class Permits:
    """The permits of a directory. Raises `ConfigError` for a directory or a file that cannot be read."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._files: dict[str, tuple[tuple[int, ...], Permit | None]] = {}
        self._by_key: dict[str, Permit] = {}
        self._look(first=True)

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, public_key: str) -> Permit | None:
        """The permit of a key; None: it has none."""
        return self._by_key.get(public_key)

    def look_again(self) -> None:
        """Read what has changed. What a file said before stays in force if it cannot be read now, which is logged."""
        try:
            self._look()
        except ConfigError as error:
            log.error("%s; the keys stay as they were", error)

    def _look(self, *, first: bool = False) -> None:
        try:
            keys.require_trusted(self._directory, self._directory.stat())
            found = {path.name: path for path in self._directory.iterdir() if path.suffix == ".toml"}
            stamps = {name: _stamp(path) for name, path in found.items()}
        except OSError as error:
            raise ConfigError(f"{self._directory}: {error.strerror}") from None
        if {name: stamp for name, (stamp, _) in self._files.items()} == stamps:
            return
        files: dict[str, tuple[tuple[int, ...], Permit | None]] = {}
        for name, path in sorted(found.items()):
            stamp, permit = self._files.get(name, ((), None))
            if stamp != stamps[name]:
                try:
                    permit = _read(path)
                except ConfigError as error:
                    if first:
                        raise
                    log.error("%s; what it said before stays in force", error)
            files[name] = stamps[name], permit
        by_key: dict[str, Permit] = {}
        for _, permit in files.values():
            if permit is not None and (other := by_key.setdefault(permit.public_key, permit)) is not permit:
                message = f"{self._directory}: {other.name} and {permit.name} have the same key"
                if first:
                    raise ConfigError(message)
                log.error("%s; the first one counts", message)
        self._files, self._by_key = files, by_key


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode, status.st_uid


def _read(path: Path) -> Permit:
    table = keys.read(path)
    if "secret_key" in table:
        raise ConfigError(f"{path}: it holds a secret key, which is its owner's alone: only public_key belongs here")
    if "name" in table:
        raise ConfigError(f"{path}: unknown field `name`; the file's own name is it")
    try:
        permit = msgspec.convert(table, Permit)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {explained(error, Permit.__struct_fields__[:-1])}") from None
    keys.check(permit.public_key, f"{path}: public_key")
    return msgspec.structs.replace(permit, name=path.stem)
