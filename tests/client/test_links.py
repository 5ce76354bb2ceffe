"""A blocking link on a real socket."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import zmq

from pgactor.client import links
from pgactor.client.options import Options
from pgactor.client.requests import LostLink
from pgactor.zmtp import Connection, encode_message


@contextmanager
def linked(folder: Path) -> Iterator[tuple[links.Link, socket.socket]]:
    """A link, and the socket at its other end."""
    path = str(folder / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        greeted: list[socket.socket] = []

        def greet() -> None:
            theirs = listening.accept()[0]
            zmtp = Connection("ROUTER", max_message_bytes=1000)
            theirs.sendall(zmtp.take_output())
            while not zmtp.ready:
                zmtp.receive(theirs.recv(1000))
                theirs.sendall(zmtp.take_output())
            greeted.append(theirs)

        greeting = threading.Thread(target=greet)
        greeting.start()
        link = links.connect(Options(f"ipc://{path}"), 5.0)
        greeting.join()
        with closing(link), greeted[0] as theirs:
            yield link, theirs


@pytest.mark.parametrize("timeout", [0.0, 0.05, links.TICK_SECONDS + 0.05])
def test_nothing_comes_for_as_long_as_was_asked(short_tmp: Path, timeout: float) -> None:
    with linked(short_tmp) as (link, _):
        begun = time.monotonic()
        assert link.receive(timeout) == []
        assert timeout - 0.02 <= time.monotonic() - begun < timeout + 0.5


@pytest.mark.parametrize("timeout", [0.5, 60.0, None])
def test_what_comes_is_received_at_once(short_tmp: Path, timeout: float | None) -> None:
    with linked(short_tmp) as (link, theirs):
        begun = time.monotonic()
        timer = threading.Timer(0.05, theirs.sendall, [encode_message(b"x") + encode_message(b"y")])
        timer.start()
        assert link.receive(timeout) == [b"x", b"y"]
        assert time.monotonic() - begun < 0.4
        timer.join()


@pytest.mark.parametrize("timeout", [0.5, None])
def test_a_wait_goes_on_after_a_tick_and_ends_with_the_link(short_tmp: Path, timeout: float | None) -> None:
    wait = None if timeout is None else links.TICK_SECONDS + timeout
    with linked(short_tmp) as (link, theirs):
        timer = threading.Timer(links.TICK_SECONDS + 0.1, theirs.shutdown, [socket.SHUT_RDWR])
        timer.start()
        with pytest.raises(LostLink, match="closed the link"):
            link.receive(wait)
        timer.join()


def test_a_socket_that_waits_without_the_kernel_is_polled(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Green(socket.socket):
        """As gevent's: it would wait for ever."""

    monkeypatch.setattr(socket, "socket", Green)
    with linked(short_tmp) as (link, _):
        monkeypatch.setattr(links, "_readable", lambda *_: False)
        assert link.receive(60.0) == []


def test_a_signal_does_not_end_a_wait(short_tmp: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with linked(short_tmp) as (link, theirs):
            main = threading.main_thread().ident
            assert main is not None
            timers = [
                threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGUSR1]),
                threading.Timer(0.1, theirs.sendall, [encode_message(b"x")]),
            ]
            for timer in timers:
                timer.start()
            assert link.receive(60.0) == [b"x"]
            assert heard == [signal.SIGUSR1]
            for timer in timers:
                timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_nothing_follows_a_frame_that_a_signal_has_cut_short(short_tmp: Path) -> None:
    class Late(Exception):
        pass

    def late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGUSR1, late)
    try:
        with linked(short_tmp) as (link, theirs):
            main = threading.main_thread().ident
            assert main is not None
            timer = threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGUSR1])
            timer.start()
            with pytest.raises(Late):
                link.send(b"x" * 8_000_000)  # more than the kernel takes while nobody reads
            timer.join()
            theirs.settimeout(10.0)
            while theirs.recv(1 << 20):
                pass  # to the end, which is there: nobody waits for the rest of the frame
            with pytest.raises(LostLink):
                link.send(b"y")
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("timeout", [0.0, 0.5, None])
def test_a_link_that_another_thread_has_closed_is_lost_to_whoever_reads_it(
    short_tmp: Path, timeout: float | None
) -> None:
    with linked(short_tmp) as (link, _):
        link.close()
        with pytest.raises(LostLink):
            link.receive(timeout)


def test_a_tcp_link_that_is_closed_meanwhile_takes_nothing_from_whoever_has_its_descriptors_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipes: list[tuple[int, int]] = []

    class Poll:
        def register(self, *_: int) -> None:
            pass

        def poll(self, _: float | None) -> None:
            link.close()
            for _each in range(8):
                pipes.append(os.pipe())
                os.write(pipes[-1][1], b"another's")

    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        link = links.connect(Options(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"), 5.0)
        monkeypatch.setattr("pgactor.client.links.select.poll", Poll)
        with pytest.raises(LostLink, match="closed"):
            link.receive(None)
    for reader, writer in pipes:
        os.set_blocking(reader, False)
        assert os.read(reader, 100) == b"another's"
        os.close(reader)
        os.close(writer)


def test_where_no_descriptor_is_left_there_is_an_error_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    noise: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    monkeypatch.setattr("pgactor.client.links.socket.socket", full)
    with pytest.raises(OSError, match="too many open files"):
        links.connect(Options("ipc:///run/nowhere.sock"), 1.0)
    gc.collect()
    assert not noise
