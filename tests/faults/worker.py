"""A worker of the fault tests: comes into a state (states.py), tells the test where it is, and does as it is told.

A nursery process has everything imported; each worker is forked from it, as gunicorn does it, and connects to the
test (nursery.py), which tells it in lines of JSON what to do. Children that it forks have a line of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from typing import Any

from pgactor import AsyncClient, Client
from tests.faults.states import STATES, Post
from tests.integration.driving import Driven, LoopThread

PATIENCE = 30.0
"""Seconds after which what was expected is not expected any more."""


class Line:
    """Words in lines of JSON, both ways."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unread = b""

    def fileno(self) -> int:
        """The socket, to be polled."""
        return self._socket.fileno()

    def say(self, word: object) -> None:
        """Send the word."""
        self._socket.sendall(json.dumps(word).encode() + b"\n")

    def hear(self, seconds: float | None = None) -> Any:
        """The next word; None when the other side has hung up."""
        self._socket.settimeout(seconds)
        while b"\n" not in self._unread:
            data = self._socket.recv(65536)
            if not data:
                return None
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def call(path: str) -> Line:
    """A line to the test, which is told whose it is."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    line = Line(sock)
    line.say(os.getpid())
    return line


def nurse() -> None:
    """The nursery: forks a worker at each order that comes by stdin; comes back in the worker only."""
    unread = b""
    while data := os.read(0, 65536):
        *orders, unread = (unread + data).split(b"\n")
        for order in orders:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none is waited for
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                main(**json.loads(order))
                return


def main(
    *, path: str, endpoint: str, kind: str, state: str, table: str, row: int, gate: int, ttl: float | None
) -> None:
    """A worker: comes into the state, then does as it is told. It returns when it is to exit."""
    line = call(path)
    loop = LoopThread(asyncio.new_event_loop) if kind == "async" else None
    options: dict[str, Any] = {"label": f"{kind} {state}", "request_timeout": None}
    client = Client(endpoint, **options) if loop is None else Driven(AsyncClient(endpoint, **options), loop)
    client.status()
    post = Post(client, table=table, row=row, gate=gate, ttl=ttl, arrived=lambda: line.say("arrived"))
    outcome: list[str] = []

    def live() -> None:
        try:
            outcome.append(STATES[state](post))
        except Exception as error:
            outcome.append(f"{type(error).__name__}: {error}")

    life = threading.Thread(target=live, daemon=True)
    life.start()
    hold = threading.Event()

    def block() -> None:
        line.say("blocked")
        hold.wait()

    while True:
        match line.hear():
            case "go on":
                post.go_on.set()
                hold.set()
                life.join(PATIENCE)
                line.say(outcome[0] if outcome else "it hangs")
            case "use":
                line.say(use_anew(client))
            case "block the loop":
                assert loop is not None
                loop.loop.call_soon_threadsafe(block)
            case "fork":
                if os.fork() == 0:
                    be_a_child(path, client, post)
                    return
            case "close":
                client.close()
                return
            case "_exit":
                os._exit(0)
            case "exit" | None:
                return


def be_a_child(path: str, client: Any, post: Post) -> None:
    """A child of a worker, forked in its state. It returns when it is to exit."""
    line = call(path)
    while True:
        match line.hear():
            case "use":
                line.say(use_anew(in_this_process(client)))
            case "touch":
                line.say(touch(post))
            case "_exit":
                os._exit(0)
            case "exit" | None:
                return


def in_this_process(client: Any) -> Any:
    """The client or lease; an async one on a loop that turns in this process."""
    return Driven(client.target, LoopThread(asyncio.new_event_loop)) if isinstance(client, Driven) else client


def use_anew(client: Any) -> str:
    """Use the client as if nothing had happened: a statement, and a lease."""
    try:
        assert client.fetchval("select 1") == 1
        with client.acquire(timeout=PATIENCE) as lease, lease.transaction():
            assert lease.fetchval("select 2") == 2
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "used"


def touch(post: Post) -> str:
    """Use the parent's lease; what comes of it."""
    if post.lease is None:
        return "no lease"
    try:
        in_this_process(post.lease).fetchval("select 1")
    except Exception as error:
        return type(error).__name__
    return "it was the child's, too"
