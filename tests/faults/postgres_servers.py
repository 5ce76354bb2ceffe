"""PostgreSQL servers of a test's own, which it may stop, crash and promote, and a proxy before them that fails."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.integration.driving import Driven, LoopThread, WatchedSupervisor
from tests.supervising import free_port, until
from tests.tls_postgres import binaries

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # what a server has written survives its process all the same
    "shared_buffers": "16MB",
    "max_connections": "40",
    "wal_level": "replica",
    "max_wal_senders": "4",
}

QUICK = {"reopen_backoff_seconds": 0.05, "reopen_backoff_max_seconds": 0.4, "database_grace_seconds": 20}
"""[pool] settings with which a server that comes back is found soon."""

USER, PASSWORD = "tester", "s3cret-of-tests"


class Server:
    """A PostgreSQL in a folder of its own, on a port of 127.0.0.1."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.owner = "nobody" if os.geteuid() == 0 else None

    def dsn(self, port: int | None = None, **options: Any) -> str:
        """Where it is, or where a proxy before it is."""
        given = {"sslmode": "disable", **options}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"postgresql://{USER}@127.0.0.1:{port or self.port}/postgres?{query}"

    def make(self) -> None:
        """Make its data folder."""
        options = ("-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C")
        self.run("initdb", "-D", str(self.data), *options)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        settings = {**SETTINGS, "port": self.port, "unix_socket_directories": self.folder}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = str(self.folder / "log")
        self.run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", log, "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: "immediate" is a crash, "fast" says goodbye to its clients."""
        self.run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.data))

    def promote(self) -> None:
        """Make a primary of the standby."""
        self.run("pg_ctl", "promote", "-w", "-D", str(self.data))

    def copy_to(self, standby: Server) -> None:
        """Make the other one a standby that follows this one."""
        self.run("pg_basebackup", "-D", str(standby.data), "-R", "-X", "stream", "-c", "fast", "-d", self.dsn())

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        with (self.folder / f"{program}.out").open("w") as out:  # a pipe would be kept open by the server
            command = [str(self.programs / program), *arguments]
            code = subprocess.run(
                command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                user=self.owner,
                cwd=self.folder,
                timeout=60,
            ).returncode
        assert code == 0, (self.folder / f"{program}.out").read_text()


@contextmanager
def server_folder() -> Iterator[Server]:
    """A server that is not there yet; whatever has become of it, it is gone at the end."""
    found = next((folder for folder, _ in binaries() if (folder / "pg_basebackup").exists()), None)
    if found is None:
        pytest.skip("there are no PostgreSQL programs to start a server with")
    server = Server(found, Path(tempfile.mkdtemp(prefix="pga-pg-")))
    try:
        if server.owner is not None:
            who = pwd.getpwnam(server.owner)
            os.chown(server.folder, who.pw_uid, who.pw_gid)
        yield server
    finally:
        with suppress(AssertionError):
            server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


class _Wire:
    """One connection through the proxy. gates: whether what the client, and what the server, says is passed on."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.gates = (asyncio.Event(), asyncio.Event())
        self.passed = [0, 0]  # bytes


class Proxy:
    """Stands before a server and passes on what is said, or does not.

    attempts: when each connection was opened, by time.monotonic. pieces: how many bytes of what the server says are
    passed on at a time, each `pause` seconds later than the one before; 0: all at once.
    """

    def __init__(self, target: int, thread: LoopThread) -> None:
        self.target = target
        self.attempts: list[float] = []
        self.pieces = 0
        self.pause = 0.0
        self._is_black = (False, False)
        self._wires: list[_Wire] = []
        self._thread = thread
        self._listening: asyncio.Server = thread.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._listening.sockets[0].getsockname()[1]

    @property
    def replied(self) -> int:
        """How many bytes of replies have been passed on, on the connections that there are."""
        return sum(wire.passed[1] for wire in self._wires)

    def blacken(self, *, requests: bool = True, replies: bool = True, present: bool = True, new: bool = True) -> None:
        """Pass nothing more on, and cut nothing: neither what is said on the connections that are present, nor on new
        ones, neither requests nor replies; but for what is spared."""
        self._is_black = (requests and new, replies and new)
        if present:
            self._call(self._set_gates, (requests, replies))

    def heal(self) -> None:
        """Pass on what was held up, and what comes."""
        self._is_black = (False, False)
        self._call(self._set_gates, (False, False))

    def close(self) -> None:
        """Take no more connections, and cut those that are there."""
        self._call(self._close)

    def _set_gates(self, black: tuple[bool, bool]) -> None:
        for wire in self._wires:
            for gate, is_black in zip(wire.gates, black, strict=True):
                gate.clear() if is_black else gate.set()

    def _close(self) -> None:
        self._listening.close()
        self._set_gates((False, False))
        for wire in self._wires:
            _abort(wire)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        async def call() -> None:
            function(*args)

        self._thread.run(call())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts.append(time.monotonic())
        wire = _Wire(writer)
        for gate, is_black in zip(wire.gates, self._is_black, strict=True):
            if not is_black:
                gate.set()
        self._wires.append(wire)
        try:
            far, wire.server = await asyncio.open_connection("127.0.0.1", self.target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(wire, 0, reader, wire.server))
                group.create_task(self._pump(wire, 1, far, writer))
        except* (OSError, _Ended):
            pass
        finally:
            self._wires.remove(wire)
            _abort(wire)

    async def _pump(self, wire: _Wire, way: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            size = self.pieces if way and self.pieces else len(data)
            for at in range(0, len(data), size):
                if way and self.pieces:
                    await asyncio.sleep(self.pause)
                await wire.gates[way].wait()
                sink.write(data[at : at + size])
                wire.passed[way] += len(data[at : at + size])
                await sink.drain()
        await wire.gates[way].wait()  # that a connection has ended is held up, too
        raise _Ended


class _Ended(Exception):
    """One side has closed the connection."""


def _abort(wire: _Wire) -> None:
    for writer in (wire.client, wire.server):
        if writer is not None:
            writer.transport.abort()


# --- fixtures -------------------------------------------------------------------------------------------------

MakeProxy = Callable[..., Proxy]
Serve = Callable[..., WatchedSupervisor]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    """A server of the module's own."""
    with server_folder() as server:
        server.make()
        server.start()
        yield server


@pytest.fixture
def admin(postgres: Server, loop_thread: LoopThread) -> Iterator[Driven]:
    """asyncpg's connection to it, past all proxies."""
    with connected(postgres.dsn(), loop_thread) as connection:
        yield connection


@contextmanager
def connected(dsn: str, thread: LoopThread, **options: Any) -> Iterator[Driven]:
    """asyncpg's own connection."""

    async def connect() -> Any:
        return await asyncpg.connect(dsn, timeout=10, **options)

    connection = Driven(thread.run(connect()), thread)
    try:
        yield connection
    finally:
        connection.target.terminate()


@pytest.fixture
def make_proxy(loop_thread: LoopThread) -> Iterator[MakeProxy]:
    """Makes proxies: `make_proxy(server)`."""
    with ExitStack() as stack:

        def make(server: Server) -> Proxy:
            proxy = Proxy(server.port, loop_thread)
            stack.callback(proxy.close)
            return proxy

        yield make


@pytest.fixture
def proxy(postgres: Server, make_proxy: MakeProxy) -> Proxy:
    """A proxy before the module's server."""
    return make_proxy(postgres)


@pytest.fixture
def serve(short_tmp: Path) -> Iterator[Serve]:
    """Makes supervisors: `serve(dsn, max_size=4, pool={...})`."""
    with ExitStack() as stack:

        def start(dsn: str, *, pool: dict[str, Any] | None = None, **settings: Any) -> WatchedSupervisor:
            made = WatchedSupervisor(folder=short_tmp, dsn=dsn, pool={**QUICK, **(pool or {})}, **settings)
            stack.callback(_stop, made)
            return made

        yield start


def _stop(supervisor: WatchedSupervisor) -> None:
    supervisor.stop()
    log = supervisor.log.read_text()
    assert "Traceback" not in log, f"no fault of PostgreSQL's is a surprise:\n{log}"


def full_service(client: Driven, size: int, *, seconds: float = 15.0) -> None:
    """Wait until so many leases can be held at once, each of which works, and all is said to be well."""

    def served() -> bool:
        leases: list[Any] = []
        try:
            while len(leases) < size:
                leases.append(client.acquire(timeout=2))
            return all(lease.fetchval("select 7", timeout=2) == 7 for lease in leases)
        except (OSError, asyncpg.PostgresError):
            return False
        finally:
            for lease in leases:
                with suppress(Exception):
                    lease.release()

    until(served, seconds=seconds)
    until(lambda: client.status().idle == size, seconds=seconds)
    assert client.status().database == "ok"
