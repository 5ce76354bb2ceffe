"""The example applications as processes: gunicorn, celery, and the traffic that asks them."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.endtoend.processes import ask, environment, state_of

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SCHEMA = (ROOT / "workers" / "schema.sql").read_text(encoding="utf-8")
ACCOUNTS, IN_EACH = 100, 1_000_000
"""What the schema puts in."""

_CLIENTS = """
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""


class Program:
    """A command of this Python's environment, such as `gunicorn`, in a process group of its own; its output is in a
    file."""

    def __init__(self, command: str, *arguments: str, log: Path, **variables: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(BIN / command), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=environment(PYTHONUNBUFFERED="1", **variables),
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What it and its workers have printed."""
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send it, not its workers, a signal."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and its exit status; what does not obey is killed, and a failure."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not stop:\n{self.said}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and its workers at once."""
        with suppress(ProcessLookupError):  # nothing is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Failure:
    """A request that had no answer, or another than it should. key: of its transfer, if it was one."""

    path: str
    began: float
    ended: float
    what: str
    key: str | None = None


def call(port: int, method: str, path: str, form: dict[str, object] | None = None) -> tuple[int, Any]:
    """One HTTP request on a connection of its own: the status, and the JSON or text of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
        connection.request(method, path, urlencode(form) if form else None, headers)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.headers.get_content_subtype() == "json" else body.decode()
    finally:
        connection.close()


class Traffic:
    """Threads that ask a web application without a pause: `with Traffic([port]) as traffic`. ports: asked in turn,
    with a connection for each request, as proxies do; the list may grow meanwhile. Nothing is ever asked twice.

    done: how many answers there were, by path. written: the keys of the transfers that were confirmed.
    """

    def __init__(self, ports: list[int], *, threads: int = 4, pause: float = 0.0) -> None:
        self.ports = ports
        self.done: Counter[str] = Counter()
        self.written: set[str] = set()
        self.failures: list[Failure] = []
        self._pause = pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """How many requests were answered as they should."""
        return sum(self.done.values())

    def _ask(self, thread: int) -> None:
        for number in itertools.count():
            if self._over.wait(self._pause):
                return
            port = self.ports[(number + thread) % len(self.ports)]
            if number % 4 == 1:
                key = str(uuid.uuid4())
                source, target = 1 + number % 40, 41 + (number + thread) % 40
                form = {"source": source, "target": target, "amount": 1, "key": key}
                self._one(port, "POST", "/transfers", 201, key, form)
            elif number % 50 == 2:
                self._one(port, "GET", "/report?seconds=0.05", 200)
            else:
                self._one(port, "GET", f"/accounts/{1 + number % ACCOUNTS}", 200)

    def _one(
        self,
        port: int,
        method: str,
        path: str,
        right: int,
        key: str | None = None,
        form: dict[str, object] | None = None,
    ) -> None:
        began = time.monotonic()
        try:
            status, body = call(port, method, path, form)
            failed = "" if status == right else f"{status} {body}"
        except (OSError, http.client.HTTPException) as error:
            failed = repr(error)
        if failed:
            self.failures.append(Failure(path, began, time.monotonic(), failed, key))
            return
        self.done[path.split("?")[0].split("/")[1]] += 1
        if key:
            self.written.add(key)


@dataclass(frozen=True)
class Killing:
    """When a process was killed: between these two, by the monotonic clock. (What came of it may be seen in another
    thread before the one that killed goes on.)"""

    before: float
    after: float


def in_flight_at(killing: Killing, failures: Sequence[Failure], *, within: float) -> list[Failure]:
    """Those whose requests were under way then, and failed no later than so many seconds after."""
    return [
        each
        for each in failures
        if each.began <= killing.after and killing.before <= each.ended <= killing.after + within
    ]


def connections(dsn: str) -> int:
    """How many clients the database has, without the one that asks."""
    number: int = ask(dsn, f"SELECT count(*) {_CLIENTS}")[0][0]
    return number


def waits_for_a_lock(dsn: str) -> int | None:
    """The pid of a backend that does, None if there is none."""
    found = ask(dsn, f"SELECT pid {_CLIENTS} AND wait_event_type = 'Lock'")
    return found[0][0] if found else None


def kill_holder(endpoint: str, backend: int) -> Killing:
    """kill -9 of the process whose lease has this backend."""
    state = state_of(endpoint)
    holder = next(each for each in state.holders if each.backend_pid == backend)
    pid = next(each.pid for each in state.workers if each.leases and f"(pid {each.pid})" in holder.worker)
    before = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return Killing(before, time.monotonic())
