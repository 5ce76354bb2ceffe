"""The unit of docs/deploying.md, as systemd would run it: what it may say, and what is notified when."""

from __future__ import annotations

import configparser
import grp
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgactor import Client
from tests.docs.blocks import blocks
from tests.endtoend.deployed import BIN
from tests.endtoend.processes import environment, state_of

PAGE = "docs/deploying.md"
SECONDS = 30.0


@pytest.fixture
def unit() -> configparser.ConfigParser:
    (block,) = blocks(PAGE, "ini")
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd tells capitals from others
    parser.read_string(block.text)
    return parser


@pytest.fixture
def manager(short_tmp: Path) -> Iterator[socket.socket]:
    """Where a service manager hears what it is notified of."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"{short_tmp}/notify")
        heard.settimeout(SECONDS)
        yield heard


def test_systemd_takes_the_unit(unit: configparser.ConfigParser, short_tmp: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    path = short_tmp / "pgactor.service"
    unit["Service"]["ExecStart"] = unit["Service"]["ExecStart"].replace("/opt/app/bin", str(BIN))
    with path.open("w") as file:
        unit.write(file, space_around_delimiters=False)
    done = subprocess.run([analyze, "verify", "--man=no", path], capture_output=True, text=True, timeout=60)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "pgactor" in line]  # not of others
    assert complaints == []


def test_the_unit_starts_reloads_and_stops_with_notice(
    unit: configparser.ConfigParser, manager: socket.socket, short_tmp: Path, dsn: str
) -> None:
    service = unit["Service"]
    assert service["Type"] == "notify"
    (settings,) = blocks(PAGE, "toml")
    text = settings.text.replace("/run/pgactor", str(short_tmp)).replace('"postgresql://app@db/app"', f'"{dsn}"')
    config = short_tmp / "pgactor.toml"
    config.write_text(text.replace('"app"', f'"{grp.getgrgid(os.getgid()).gr_name}"'))
    start = service["ExecStart"].replace("/opt/app/bin", str(BIN)).replace("/etc/pgactor.toml", str(config))
    variables = environment(NOTIFY_SOCKET=str(manager.getsockname()))
    with (short_tmp / "log").open("wb") as log:
        process = subprocess.Popen(shlex.split(start), env=variables, stdout=log, stderr=log)
    try:
        endpoint = f"ipc://{short_tmp}/main.sock"
        told = manager.recv(4096).decode().splitlines()
        assert told == ["READY=1", f"MAINPID={process.pid}", f"STATUS=serving at {endpoint}"]
        with Client(endpoint) as client:
            assert client.fetchval("select 1", timeout=SECONDS) == 1
        assert state_of(endpoint).max_size == 20

        config.write_text(config.read_text().replace("max_size = 20", "max_size = 21"))
        before = time.monotonic_ns() // 1000
        reload = service["ExecReload"].replace("$MAINPID", str(process.pid))
        subprocess.run(shlex.split(reload), check=True)
        reloading = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.recv(4096).decode())
        assert reloading
        assert before <= int(reloading[1]) <= time.monotonic_ns() // 1000
        assert manager.recv(4096).decode().splitlines() == ["READY=1", f"STATUS=serving at {endpoint}"]
        assert state_of(endpoint).max_size == 21

        with Client(endpoint) as client, client.acquire() as lease:
            process.send_signal(signal.SIGTERM)
            assert manager.recv(4096).decode().splitlines() == ["STOPPING=1", "STATUS=draining"]
            assert lease.fetchval("select 1") == 1, "it drains, and does not break off"
        assert process.wait(float(service["TimeoutStopSec"])) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (short_tmp / "log").read_text()
