"""The specification suffices: clients written from protocols/README.md alone, in other languages, against a real
supervisor. Where a language or its packages are missing, the skip says which.

- Node (tests/protocol/node): stock ZeroMQ and msgpack packages.
- Perl (tests/protocol/perl): nothing but Perl; it speaks ZMTP and msgpack by hand, on a plain socket.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pgactor.version import __version__
from tests.supervising import SupervisorProcess

HERE = Path(__file__).parent

Script = Callable[[str], list[str]]

pytestmark = pytest.mark.xdist_group("other_languages")  # one installs what it needs


@pytest.fixture
def table(dsn: str) -> Iterator[str]:
    """An empty table (id int primary key, name text)."""
    import asyncio

    async def run(sql: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()

    name = f"pgactor_other_{os.getpid()}"
    asyncio.run(run(f"create table {name} (id int primary key, name text)"))
    yield name
    asyncio.run(run(f"drop table {name}"))


@pytest.fixture
def node() -> Script:
    """The command that runs a script of the client in Node."""
    node, npm, folder = shutil.which("node"), shutil.which("npm"), HERE / "node"
    if node is None:
        pytest.skip("there is no node on the PATH")
    if not (folder / "node_modules" / "zeromq").exists():
        if npm is None:
            pytest.skip("there is no npm on the PATH to install zeromq and @msgpack/msgpack with")
        # Nothing of theirs is run: zeromq brings its library along, built.
        install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
        try:
            installed = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("npm could not install zeromq and @msgpack/msgpack within 60 s")
        if installed.returncode:
            pytest.skip(f"npm could not install zeromq and @msgpack/msgpack: {installed.stderr.strip()[-300:]}")
    probe = [node, "--input-type=module", "--eval", "import 'zeromq'; import '@msgpack/msgpack';"]
    probed = subprocess.run(probe, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if probed.returncode:
        pytest.skip(f"zeromq and @msgpack/msgpack do not run in this node: {probed.stderr.strip()[-300:]}")
    return lambda script: [node, str(folder / script)]


@pytest.fixture
def perl() -> list[str]:
    """The command that runs the client in Perl."""
    perl = shutil.which("perl")
    if perl is None:
        pytest.skip("there is no perl on the PATH")
    probe = [perl, "-MIO::Socket::UNIX", "-MJSON::PP", "-MEncode", "-e", "pack('q>', 1)"]
    probed = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=False)
    if probed.returncode:
        pytest.skip(f"this perl lacks a module of its own core, or 64-bit integers: {probed.stderr.strip()[-300:]}")
    return [perl, str(HERE / "perl" / "speak.pl")]


def speak(command: list[str], *arguments: str) -> dict[str, Any]:
    """Run a client; returns what it was told."""
    spoken = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert spoken.returncode == 0, spoken.stderr
    told: dict[str, Any] = json.loads(spoken.stdout)
    return told


def test_a_client_in_node_fetches_batches_and_leases(node: Script, supervisor: SupervisorProcess, table: str) -> None:
    told = speak(node("speak.mjs"), supervisor.ipc, table)
    assert told["welcome"] == {"version": 1, "supervisor": f"pgactor {__version__}", "heartbeat": 0}
    assert told["values"] == told["again"]
    assert told["values"] == [
        {
            "i": 42,
            "t": "Grüße",
            "n": None,
            "d": "1.10",
            "u": "000102030405060708090a0b0c0d0e0f",
            "b": "4611686018427387904n",
            "a": [1, None, 3],
        }
    ]
    assert told["time"] == [{"at": "2024-05-01T12:30:00.000Z", "day": "2024-02-29"}]
    assert told["none"] == []
    assert told["many"] == {
        "fulfilled": 99,
        "first": [{"q": 0}],
        "failed": "DivisionByZeroError",
        "sqlstate": "22012",
    }
    assert told["batch"] == ["INSERT 0 1", [{"name": "one"}]]
    assert told["undone"] == {"errorClass": "UniqueViolationError", "index": 1}
    assert told["lease"] == {"ttl": 30, "same": True}
    assert told["tags"] == ["BEGIN", "INSERT 0 1", "COMMIT", "BEGIN", "INSERT 0 1"]
    assert told["inside"] == {"errorClass": "DivisionByZeroError", "inTransaction": True}
    assert told["busy"] == ["ROLLBACK", "InterfaceError"]
    assert told["released"] == "lease_lost"
    assert told["status"] == {"labels": ["node client"], "leased": 0}
    assert rows_of(supervisor, table) == [(1, "one"), (3, "three")]


def test_a_client_in_node_prepares_statements_and_moves_cursors(
    node: Script, supervisor: SupervisorProcess, table: str
) -> None:
    told = speak(node("speak_leases.mjs"), supervisor.ipc, table)
    assert told["settings"]["server_encoding"] == "UTF8"
    assert told["prepared"] == {"parameters": [[20, "int8"]], "columns": [["g", "int4"], ["n", "int8"]]}
    assert told["rows"] == [{"g": 1, "n": 10}, {"g": 2, "n": 20}]
    assert told["described"] == [["int4", "text"], []]
    assert told["outside"] == "NoActiveSQLTransactionError"
    assert told["cursor"] == [
        [{"g": 1, "n": 1}, {"g": 2, "n": 2}],
        "MOVE 1",
        [{"g": 4, "n": 4}, {"g": 5, "n": 5}],
    ]
    assert told["closed"] == ["InvalidCursorNameError", "InterfaceError"]
    assert told["heard"] == [["settings", {"TimeZone": "Asia/Tokyo"}], ["notice", "look"]]
    assert told["reset"] == [{"new": True}]


def test_a_client_in_node_copies_both_ways_with_little_credit(
    node: Script, supervisor: SupervisorProcess, table: str
) -> None:
    told = speak(node("speak_copy.mjs"), supervisor.ipc, table)
    assert (told["in"], told["out"], told["records"]) == ("COPY 2000", "COPY 1000", "COPY 2")
    assert told["data"] == [1000 * len("1001\tname 1001\n"), "2000\tname 2000"]
    assert told["csv"] == ["name", "name 1"]
    assert told["mine"] == ["request_cancelled", True]
    assert told["theirs"] == ["InvalidTextRepresentationError", "22P02"]
    assert told["after"] == [{"n": 2002, "last": 3002}]


def test_a_client_in_node_listens_with_a_lease_and_without(
    node: Script, supervisor: SupervisorProcess, table: str
) -> None:
    told = speak(node("speak_listen.mjs"), supervisor.ipc, table)
    assert told["heard"] == [
        *(["notification", table, payload, False] for payload in "123"),
        ["notification", "Grüße, “you”", "", False],
    ]
    assert told["own"] == [["notification", table, "own", True]]


def test_a_client_in_perl_fetches_batches_and_leases(
    perl: list[str], supervisor: SupervisorProcess, table: str
) -> None:
    told = speak(perl, supervisor.ipc.removeprefix("ipc://"), table)
    assert told["welcome"] == ["welcome", 1]
    assert told["rows"] == [[[42, "Grüße", None, True, 0.5, "1.10"]], [[43, "x", None, False, -2.0, "0"]]]
    assert told["names"] == ["i", "t", "n", "b", "f", "d"]
    assert told["many"] == {"rows": 49, "failed": 1, "sqlstate": ["22012"]}
    assert told["batch"] == [["done", 0, "INSERT 0 1"], ["rows", 1]]
    assert told["same"] is True
    assert told["tags"] == ["BEGIN", "INSERT 0 1", "COMMIT"]
    assert told["released"] == "lease_lost"
    assert rows_of(supervisor, table) == [(1, "one"), (2, "two")]


def rows_of(supervisor: SupervisorProcess, table: str) -> list[tuple[int, str]]:
    """What was left in the table, seen by a client of our own."""
    from pgactor import Client

    with Client(supervisor.ipc) as client:
        return [tuple(row) for row in client.fetch(f"select id, name from {table} order by id")]
