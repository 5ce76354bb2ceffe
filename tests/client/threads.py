"""Threads that share a link, and a clock that only they move."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pgactor.client import calls
from pgactor.client.acquirer import Entered
from pgactor.client.channel import Channel
from pgactor.client.connected import Connected
from pgactor.client.pending import Pending
from pgactor.messages import Done, Request, Token
from pgactor.messages.session import Notice, Settings

from .memory import MemorySupervisor, options
from .virtual import THREAD_SECONDS


class Interruption(BaseException):
    """What a signal, or a green thread's timeout, raises wherever the thread is."""


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


class HeldToken:
    """A lease, as its link sees it."""

    def __init__(self, fence: int = 1, ttl: float = 30.0) -> None:
        self.token = Token(7, 0, fence)
        self.ttl = ttl
        self.entered: Entered | None = None
        self.end: BaseException | None = None
        self.told: list[Settings | Notice] = []

    def ended(self, error: BaseException) -> None:
        self.end = error

    def pushed(self, message: Settings | Notice) -> None:
        self.told.append(message)

    def renewed(self, at: float) -> None:
        pass


class Waiters:
    """The events that followers wait on: `asleep` tells that one waits, `after` what happens when it wakes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asleep = threading.Semaphore(0)
        self.after: dict[str, BaseException] = {}
        waiters = self

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                waiters.asleep.release()
                woken = super().wait(THREAD_SECONDS if timeout is None else timeout)
                assert woken or timeout is not None, "nobody woke it"
                error = waiters.after.pop(threading.current_thread().name, None)
                if error is not None:
                    raise error
                return woken

        patch.setattr("pgactor.client.connected.threading", SimpleNamespace(**{**vars(threading), "Event": Event}))

    def one_is_asleep(self) -> None:
        assert self.asleep.acquire(timeout=THREAD_SECONDS)


class Caller(threading.Thread):
    """A thread that makes one call."""

    def __init__(self, shared: Channel, name: str, request: Request | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self.shared = shared
        self.request = request or calls.execute(name, (), None, None)
        self.pending: Pending | None = None
        self.connected: Connected | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.pending, self.connected = self.shared.call(self.request)
        except BaseException as error:
            self.error = error

    def result(self) -> str | None:
        """The command tag it got."""
        self.join(THREAD_SECONDS)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        assert self.pending is not None
        if self.pending.error is not None:
            raise self.pending.error
        assert isinstance(self.pending.reply, Done)
        return self.pending.reply.status


@contextmanager
def open_channel(**given: float) -> Iterator[Channel]:
    shared = Channel(options(**given))  # type: ignore[arg-type]  # all of them are numbers of seconds
    try:
        yield shared
    finally:
        shared.close()


def connect(shared: Channel, supervisor: MemorySupervisor) -> Connected:
    """Make one call, for its link."""
    caller = Caller(shared, "first")
    link = supervisor.next_link()
    link.say(Done(link.next_request().id))
    caller.result()
    while not link.reading.empty():
        link.reading.get()
    link.frames.clear()
    assert caller.connected is not None
    return caller.connected


def leader_and_followers(shared: Channel, supervisor: MemorySupervisor, waiters: Waiters, count: int) -> list[Caller]:
    """Threads that wait: the first one reads for all."""
    link = supervisor.links[-1]
    callers = [Caller(shared, "caller 0")]
    assert link.reading.get(timeout=THREAD_SECONDS) == "caller 0"
    for number in range(1, count):
        callers.append(Caller(shared, f"caller {number}"))
        waiters.one_is_asleep()
    return callers
