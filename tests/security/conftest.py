"""Keys, and supervisors that ask for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgactor import AsyncClient, Client
from tests.endtoend.processes import environment
from tests.supervising import StartSupervisor, SupervisorProcess


class KeyFiles:
    """The keys of a test: the supervisor's, and a directory of permits beside those of clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.permits = folder / "permits"
        self.permits.mkdir(mode=0o700)
        keygen("server", "--directory", str(folder))

    @property
    def server(self) -> Path:
        """The supervisor's public key."""
        return self.folder / "server.pub"

    def client(self, name: str, *flags: str) -> Path:
        """Make a client's key and permit it; returns its file."""
        keygen("client", name, "--directory", str(self.folder), *flags)
        (self.folder / f"{name}.toml").rename(self.permits / f"{name}.toml")
        return self.folder / f"{name}.key"

    @property
    def toml(self) -> str:
        """The supervisor's table."""
        return f'[curve]\nserver_key = "{self.folder}/server.key"\nclient_keys = "{self.permits}"\n'

    def options(self, key: Path) -> dict[str, str]:
        """What a client is made with."""
        return {"server_key": str(self.server), "key": str(key)}


def keygen(*arguments: str, status: int = 0) -> str:
    """`pgactor keygen`, as users call it; returns what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "pgactor", "keygen", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def keys(short_tmp: Path) -> KeyFiles:
    """The supervisor's key, and an empty directory of permits."""
    return KeyFiles(short_tmp)


Clients = Callable[..., Client]


@pytest.fixture
def serving(start_supervisor: StartSupervisor, keys: KeyFiles) -> Callable[..., SupervisorProcess]:
    """Starts a supervisor with the keys of the test."""

    def serve(**settings: Any) -> SupervisorProcess:
        return start_supervisor(**{"toml": keys.toml, **settings})

    return serve


__all__ = ["AsyncClient"]
