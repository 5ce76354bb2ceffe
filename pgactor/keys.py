"""CURVE keys, for tcp: what `pgactor keygen` writes, and the supervisor and the clients read.

A key is 40 characters of ZeroMQ's Z85. Key files are TOML, with `public_key`, `secret_key` or both; where a key is
asked for, the path of such a file can be given, or the key itself.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from .errors import ConfigError

_Z85 = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


def public_keys(given: str) -> list[str]:
    """The public keys that are given, several separated by commas. Raises `ConfigError`."""
    return [_key(part.strip(), "public_key") for part in given.split(",")]


def secret_key(given: str) -> str:
    """The secret key that is given. Raises `ConfigError`, also for a file that others can read."""
    return _key(given, "secret_key")


def read(path: Path, *, secret: bool = False) -> dict[str, Any]:
    """What a key file holds. Raises `ConfigError` that names the file, for one that others could have written, too,
    and if there is a secret in it that others could have read."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # whose text might quote a secret
        raise ConfigError(f"{path}: not valid TOML; keys are made by `pgactor keygen`") from None
    require_trusted(path, status)
    if secret and status.st_mode & stat.S_IROTH:
        raise ConfigError(f"{path}: everybody can read this secret key: chmod 600 {path}, or better make new keys")
    return table


def require_trusted(path: Path, status: os.stat_result) -> None:
    """Raises `ConfigError` if another user than this one and root could have written it."""
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path}: it is owned by another user (uid {status.st_uid}), who could change the keys")
    if status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise ConfigError(f"{path}: others can write it, and so could change the keys: chmod go-w {path}")


def check(key: object, what: str) -> str:
    """The key, if it is one. what: where it comes from, for the `ConfigError`, which never quotes it."""
    if not isinstance(key, str) or not _Z85.fullmatch(key):
        raise ConfigError(f"{what} is expected to be a key of 40 characters, as `pgactor keygen` makes them")
    return key


def new_pair() -> tuple[str, str]:
    """A new public and secret key."""
    import zmq

    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def public_of(secret: str) -> str:
    """The public key that belongs to the secret one."""
    import zmq

    return zmq.curve_public(secret.encode()).decode()


def text_of(key: bytes) -> str:
    """A key of 32 bytes, in text."""
    from zmq.utils import z85

    return z85.encode(key).decode()


def write_new(files: dict[Path, str]) -> None:
    """Write new files that are for their owner alone. Raises `ConfigError` if one of them is there already; then
    nothing is written."""
    try:
        for path in files:
            if path.exists() or path.is_symlink():
                raise ConfigError(f"{path} is there already, and keys are never overwritten")
        for path, text in files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _key(given: str, name: str) -> str:
    path = Path(given)
    try:
        path = path.expanduser()
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long for a path; ~ of nobody
        is_file = False
    if is_file:
        table = read(path, secret=name == "secret_key")
        if name not in table:
            raise ConfigError(f"{path}: it has no {name}")
        return check(table[name], f"{path}: {name}")
    if _Z85.fullmatch(given):
        return given
    named = f" ({given})" if "/" in given and name == "public_key" else ""
    raise ConfigError(
        f"the {name.replace('_', ' ')}{named} is expected to be the path of a file that `pgactor keygen` made "
        "(there is none such), or a key of 40 characters"
    )
