"""`pgactor serve` as a process of a test, and PostgreSQL as a container."""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.forked import ForkedProcess, run_pgactor

_numbers = itertools.count()

_FIRST_PORT, _PORTS = 10_000, 22_000
_ports = (_FIRST_PORT + number % _PORTS for number in range(os.getpid() * 7919, os.getpid() * 7919 + _PORTS))
"""Those below Linux's own choice, in an order in which the processes of a test run are far from each other."""

LANE = os.environ.get("PGACTOR_TEST_STATEMENT_LANE", "on")
"""The statement_lane of supervisors whose test does not choose one: the whole suite passes both ways (`make test`
and `make test-lane-off`)."""

_TABLE_OF_A_POOL = re.compile(r"^\[(?:pools|templates)\.[^.\]]+\]$", re.MULTILINE)


class SupervisorProcess:
    """A running `pgactor serve`. ipc, tcp: its endpoints. Settings that are no flags go to a TOML file:
    `pool={...}`, `connect={...}` and top-level keys such as max_frame_bytes. toml: further tables, as text; those of
    other pools get the `LANE`, too.
    environment: further variables. flags: of `pgactor serve`. forked: from a process that has imported pgactor, which
    is much cheaper than to run the `command`; one that is not `python -m pgactor` is always run."""

    def __init__(
        self,
        *,
        folder: Path,
        dsn: str,
        max_size: int = 4,
        min_size: int = 0,
        pool: dict[str, Any] | None = None,
        connect: dict[str, Any] | None = None,
        wait: bool = True,
        toml: str = "",
        environment: dict[str, str] | None = None,
        flags: tuple[str, ...] = (),
        forked: bool = True,
        **top: Any,
    ) -> None:
        number = next(_numbers)
        self.ipc = f"ipc://{folder}/{number}.sock"
        self.tcp = f"tcp://127.0.0.1:{free_port()}"
        self.log = folder / f"{number}.log"
        config = folder / f"{number}.toml"
        pool = {"min_size": min_size, "max_size": max_size, "statement_lane": LANE, **(pool or {})}
        tables = {"pool": pool, "connect": {"dsn": dsn, **(connect or {})}}
        top.setdefault("endpoints", [self.ipc, self.tcp])
        config.write_text(_toml(top) + "".join(f"[{name}]\n{_toml(table)}" for name, table in tables.items()))
        with config.open("a") as file:
            file.write(_TABLE_OF_A_POOL.sub(rf'\g<0>\nstatement_lane = "{LANE}"', toml))
        self._environment = environment or {}
        self._forked = forked
        self.command = [sys.executable, "-m", "pgactor", "serve", "--config", str(config), *flags]
        self.start(wait=wait)

    def start(self, *, wait: bool = True) -> None:
        """Start it (again) with the same settings."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PGACTOR_")}
        environment |= self._environment
        seen = self.log.read_text().count("pgactor ready") if self.log.exists() else 0
        self.process: ForkedProcess | subprocess.Popen[bytes]
        self.log.touch()
        if self._forked and self.command[1:3] == ["-m", "pgactor"]:
            self.process = ForkedProcess(run_pgactor, self.command[3:], self.log, environment)
        else:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)
        if wait:
            try:
                until(
                    lambda: self.log.read_text().count("pgactor ready") > seen or self.process.poll() is not None,
                    seconds=90,
                )
            except AssertionError:
                self.process.kill()
                self.process.wait()
            if self.process.poll() is not None:
                raise AssertionError(f"the supervisor did not start:\n{self.log.read_text()}")

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self.process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the supervisor did not stop:\n{self.log.read_text()}") from None


StartSupervisor = Callable[..., SupervisorProcess]
"""Makes a supervisor with the settings given as keywords; the test's end stops it."""


def until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Wait for the condition; fail if it does not come true in time. What takes long is looked at less often."""
    begin = time.monotonic()
    while not condition():
        passed = time.monotonic() - begin
        if passed > seconds:
            raise AssertionError(f"this did not come true within {seconds} s: {condition}")
        time.sleep(min(max(0.005, passed / 20), 0.1))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, nor soon: Linux gives it to no outgoing connection."""
    for port in _ports:
        with suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports are in use")


@contextmanager
def container_postgres() -> Iterator[str | None]:
    """The dsn of a PostgreSQL in a container; None where no Docker daemon answers or it cannot get the image."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    import docker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # testcontainers moves its modules about, with warnings
        from testcontainers.postgres import PostgresContainer

        try:
            docker.from_env(timeout=60).close()
            container = PostgresContainer("postgres:17", driver=None).start()
        except docker.errors.DockerException as error:
            print(f"no container: {error}", file=sys.stderr)
            container = None
        gc.collect()  # docker leaves sockets open where nobody listens; let it be heard of here
    if container is None:
        yield None
        return
    try:
        yield container.get_connection_url()
    finally:
        container.stop()


def _toml(table: dict[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in table.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
