"""`pgactor demo` and its witness."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import asyncpg
import pytest

from pgactor.demo.witness import Witness
from tests.endtoend.processes import environment


@pytest.fixture
def quiet_dsn(dsn: str) -> Iterator[str]:
    """A database that nobody else is connected to."""
    name = f"demo_{uuid.uuid4().hex}"

    async def execute(command: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(command)
        await connection.close()

    asyncio.run(execute(f"CREATE DATABASE {name}"))
    address, slash, _ = dsn.partition("?")[0].rpartition("/")
    yield f"{address}{slash}{name}{dsn[len(dsn.partition('?')[0]) :]}"
    asyncio.run(execute(f"DROP DATABASE {name} WITH (FORCE)"))


def test_the_witness_counts_all_connections_but_its_own(quiet_dsn: str) -> None:
    async def be_connected(witness: Witness) -> None:
        connection = await asyncpg.connect(quiet_dsn)
        deadline = time.monotonic() + 20
        while not witness.most and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        await connection.close()

    with Witness(quiet_dsn) as witness:
        asyncio.run(witness._fetch("SELECT pg_sleep(0.5)"))  # while it counts
        assert witness.most == 0
        asyncio.run(be_connected(witness))
        assert witness.most == 1


def test_the_demo_finds_every_write_once(quiet_dsn: str) -> None:
    command = [sys.executable, "-m", "pgactor", "demo", "--dsn", quiet_dsn]
    command += ["--workers", "3", "--connections", "2", "--seconds", "2"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was killed -9 in a transaction" in done.stdout
