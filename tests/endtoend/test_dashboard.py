"""`pgactor dashboard`, as browsers and those who are none see it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pgactor import Client
from pgactor.messages.pool import PoolStatus
from tests.endtoend.processes import environment, state_of
from tests.endtoend.troubles import Trouble
from tests.supervising import StartSupervisor, SupervisorProcess, until


class Dashboard:
    """A running `pgactor dashboard`. url: of its page."""

    def __init__(self, endpoint: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "pgactor", "dashboard", "--port", "0", "--endpoint", endpoint, *arguments]
        self._open = ExitStack()
        self.process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        said = re.fullmatch(r"pgactor dashboard at (http://127\.0\.0\.1:(\d+)/)\n", self.process.stdout.readline())
        assert said is not None
        self.url, self.port = said[1], int(said[2])

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        """Ask for it; the answer's body is read as it comes. It is closed when the dashboard is stopped."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        self._open.callback(connection.close)
        connection.request("GET", path, headers=headers)
        return self._open.enter_context(connection.getresponse())

    def states(self) -> Iterator[dict[str, Any]]:
        """The states that a browser is told from now on."""
        kind = ""
        for line in self.get("/events"):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind == "state":
                yield json.loads(value)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Its exit status, and what it has written to stderr."""
        self.process.send_signal(number)
        try:
            errors = self.process.communicate(timeout=60)[1]
        finally:
            self.process.kill()  # nothing, if it has ended
            self.process.wait()
            self._open.close()
        return self.process.returncode, errors


@pytest.fixture
def dashboards() -> Iterator[list[Dashboard]]:
    """All in it are stopped at the end, and must have ended well."""
    with ExitStack() as stack:
        started: list[Dashboard] = []
        yield started
        for each in started:
            stack.callback(each.process.kill)
        for each in started:
            assert each.stop() == (0, "")


@pytest.fixture(scope="module")
def dashboard(shared: SupervisorProcess) -> Iterator[Dashboard]:
    """One on the shared supervisor, which looks often."""
    started = Dashboard(shared.ipc, "--interval", "0.2")
    try:
        yield started
    finally:
        assert started.stop() == (0, "")


def test_a_long_lease_and_a_queue_are_told_within_two_seconds_with_the_label_of_their_cause(
    start_supervisor: StartSupervisor, dashboards: list[Dashboard]
) -> None:
    supervisor = start_supervisor(max_size=1, pool={"lease_warning_seconds": 0.3})
    dashboards.append(Dashboard(supervisor.ipc))
    states = dashboards[0].states()
    took: list[float] = []
    while len(took) < 3:  # a machine that is busy otherwise may miss it
        assert next(states)["pools"]["default"]["alerts"] == []
        with Trouble(supervisor.ipc) as trouble:
            until(trouble.has_begun)
            began = time.monotonic()
            seen: dict[str, Any] = {}
            while not {"lease", "queue"} <= seen.keys():
                assert time.monotonic() - began < 20, seen
                seen |= {alert["kind"]: alert for alert in next(states)["pools"]["default"]["alerts"]}
            took.append(time.monotonic() - began)
        assert seen["lease"]["labels"] == seen["queue"]["labels"] == ["nightly report"]
        assert seen["lease"]["text"].startswith("nightly report: lease 0.")
        assert seen["queue"]["text"].startswith("queue of 3, the first for ")
        if took[-1] < 2:
            return
        until(lambda: not next(states)["pools"]["default"]["alerts"])
    raise AssertionError(f"it took {took} s")


def test_ten_browsers_cost_the_supervisor_no_more_than_one(shared: SupervisorProcess, dashboard: Dashboard) -> None:
    streams = [dashboard.states() for _ in range(10)]
    for stream in streams:
        next(stream)
    looks = {next(stream)["at"] for stream in streams for _ in range(4)}
    assert len(looks) < 10  # and not 40: what they are told is of the same looks
    assert [each.label for each in state_of(shared.ipc).workers].count("pgactor dashboard") == 1


def test_the_state_is_all_of_the_status_with_rates_and_without_arguments(
    shared: SupervisorProcess, dashboard: Dashboard
) -> None:
    with Client(shared.ipc, label="asker") as client:
        for _ in range(3):
            client.fetchval("select $1::text || 'told'", "a secret argument")
        states = dashboard.states()
        next(states)
        client.fetchval("select $1::text || 'told'", "a secret argument")
        state = next(each for each in states if each["pools"]["default"]["requests"])
    figures = state["pools"]["default"]
    assert set(figures["status"]) == set(PoolStatus.__struct_fields__)
    assert "|| 'told'" in json.dumps(figures)
    assert "a secret argument" not in json.dumps(state)
    assert figures["spreads"]["total"]["p99"] > 0


def test_a_supervisor_that_is_gone_is_told_and_its_return_too(
    start_supervisor: StartSupervisor, dashboards: list[Dashboard]
) -> None:
    supervisor = start_supervisor(max_size=1)
    dashboards.append(Dashboard(supervisor.ipc, "--interval", "0.2"))
    states = dashboards[0].states()
    first = next(states)["pools"]["default"]["status"]["epoch"]
    supervisor.stop()
    gone = next(each for each in states if each["error"] and each["silent_seconds"] > 0.1)
    assert "SupervisorUnavailable" in gone["error"]
    assert gone["points"] == {}
    assert gone["pools"]["default"]["status"]["epoch"] == first  # what was seen last
    supervisor.start()
    back = next(each for each in states if not each["error"])["pools"]["default"]
    assert back["status"]["epoch"] != first
    assert back["requests"] is None  # of two lives there is no difference


def test_every_pool_is_shown(start_supervisor: StartSupervisor, dashboards: list[Dashboard]) -> None:
    tables = "[pools.replica]\nmin_size = 0\nmax_size = 7\n"
    supervisor = start_supervisor(max_size=1, toml=tables)
    dashboards += [Dashboard(supervisor.ipc), Dashboard(supervisor.ipc, "--pool", "replica")]
    both, one = (next(each.states())["pools"] for each in dashboards)
    assert {name: pool["status"]["max_size"] for name, pool in both.items()} == {"default": 1, "replica": 7}
    assert set(one) == {"replica"}


def test_the_page_is_one_and_asks_nobody_else(dashboard: Dashboard) -> None:
    response = dashboard.get("/")
    page = response.read().decode()
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert len(page) < 40_000
    assert re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page) == ["data:,"]
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "innerHTML" not in page
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/", "/events"])
def test_it_answers_to_no_other_name_than_that_of_this_machine(dashboard: Dashboard, path: str) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", f"evil.example:{dashboard.port}"):
        assert dashboard.get(path, Host=host).status == 421, host
    for host in ("localhost", f"127.0.0.1:{dashboard.port}", f"[::1]:{dashboard.port}"):
        assert dashboard.get("/", Host=host).status == 200, host


def test_it_listens_on_loopback_only(dashboard: Dashboard) -> None:
    table = Path(f"/proc/{dashboard.process.pid}/net/tcp")
    if not table.exists():
        pytest.skip("there is no /proc here to look it up")
    lines = [line.split() for line in table.read_text().splitlines()[1:]]
    here = {
        line[1].split(":")[0]
        for line in lines
        if line[3] == "0A" and int(line[1].split(":")[1], 16) == dashboard.port
    }
    assert here == {"0100007F"}


def test_a_port_that_is_taken_is_told_in_one_line(shared: SupervisorProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "pgactor", "dashboard", "--endpoint", shared.ipc, "--port"]
        port = str(taken.getsockname()[1])
        done = subprocess.run([*command, port], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "Address already in use" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_well_while_browsers_look(shared: SupervisorProcess, number: signal.Signals) -> None:
    dashboard = Dashboard(shared.ipc)
    next(dashboard.states())
    began = time.monotonic()
    assert dashboard.stop(number) == (0, "")
    assert time.monotonic() - began < 10


# --- the page in a browser ----------------------------------------------------------------------------------------

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, where there is one."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"there is no browser here: none of {', '.join(BROWSERS)}")
    playwright = pytest.importorskip("playwright.sync_api")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


def test_the_page_shows_trouble_and_loss_and_return(
    start_supervisor: StartSupervisor, dashboards: list[Dashboard], browser: Any
) -> None:
    supervisor = start_supervisor(max_size=1, pool={"lease_warning_seconds": 0.3})
    dashboards.append(Dashboard(supervisor.ipc, "--interval", "0.2"))
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(dashboards[0].url)
    evil = "<img src=x onerror=alert(1)><b>report</b>"
    with Trouble(supervisor.ipc, evil):
        page.locator("#alerts", has_text=f"{evil}: lease 0.").wait_for()
        page.locator("#alerts", has_text=f"behind {evil} (leased for").wait_for()
        page.locator("#leases td.first", has_text=" s").wait_for()
        page.locator("#charts", has_text="waiting 3").wait_for()
        assert evil in page.inner_text("#leases")
        assert page.locator(".chart path").count() > 4
        for width in (400, 1400):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#alerts").wait_for(state="hidden")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    supervisor.stop()
    page.locator("#banner", has_text="The supervisor does not answer. What is shown is ").wait_for()
    assert page.locator("#all.old").count() == 1
    supervisor.start()
    page.locator("#banner").wait_for(state="hidden")
    assert complaints == []
    page.close()
