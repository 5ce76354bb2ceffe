"""The thread that renews leases."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pgactor.client import heart
from pgactor.client.heart import IDLE_ROUNDS, IDLE_SECONDS, Heart
from pgactor.client.requests import LostLink
from pgactor.messages import Heartbeat, Release, Token

from .memory import MemorySupervisor
from .threads import Clock, HeldToken, connect, open_channel
from .virtual import THREAD_SECONDS

BEAT = "beat"


class Rounds:
    """The rounds of a heart, each ended by the test. events: its pauses and beats. interval: until the next beat;
    None: there is no lease."""

    def __init__(self, patch: pytest.MonkeyPatch, clock: Clock) -> None:
        self.clock = clock
        self.interval: float | None = None
        self.events: queue.SimpleQueue[float | str] = queue.SimpleQueue()
        self._go_on = threading.Semaphore(0)
        rounds = self

        class Condition(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                rounds.events.put(timeout)
                self.release()
                try:
                    assert rounds._go_on.acquire(timeout=THREAD_SECONDS), "nobody ends the round"
                finally:
                    self.acquire()
                return True

            def notify(self, n: int = 1) -> None:
                rounds._go_on.release()

        patch.setattr(heart, "threading", SimpleNamespace(**{**vars(threading), "Condition": Condition}))
        self.heart = Heart(lambda: self.events.put(BEAT), lambda: self.interval)

    def hold(self, interval: float) -> None:
        """Now there is a lease."""
        self.interval = interval
        self.heart.watch(interval)

    def next(self) -> float | str:
        """Wait for a pause or a beat."""
        return self.events.get(timeout=THREAD_SECONDS)

    def end_round(self, seconds: float) -> None:
        """The pause is over."""
        self.clock.sleep(seconds)
        self._go_on.release()

    def thread(self) -> threading.Thread:
        """The one that lives."""
        thread = self.heart._thread
        assert thread is not None
        assert thread.is_alive()
        return thread

    def idle_until_the_end(self) -> None:
        """From the beginning of the first idle round on."""
        thread = self.thread()
        for _ in range(IDLE_ROUNDS):
            assert self.next() == IDLE_SECONDS
            self.end_round(IDLE_SECONDS)
        thread.join(THREAD_SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Rounds]:
    rounds = Rounds(monkeypatch, clock)
    yield rounds
    rounds.heart.end()


def test_no_thread_is_there_before_the_first_lease(rounds: Rounds) -> None:
    assert rounds.heart._thread is None


def test_it_beats_at_the_end_of_each_interval(rounds: Rounds) -> None:
    rounds.hold(10.0)
    assert rounds.thread().daemon
    for _ in range(3):
        assert rounds.next() == 10.0
        assert rounds.events.empty()
        rounds.end_round(10.0)
        assert rounds.next() == BEAT


def test_it_ends_after_some_rounds_without_a_lease_and_is_started_again_by_the_next(rounds: Rounds) -> None:
    rounds.hold(10.0)
    first = rounds.thread()
    assert rounds.next() == 10.0
    rounds.interval = None
    rounds.end_round(10.0)
    assert rounds.next() == BEAT, "the lease was there when the round began"
    rounds.idle_until_the_end()
    assert rounds.heart._thread is None
    assert rounds.events.empty(), "without a lease it does not beat"
    rounds.hold(5.0)
    assert rounds.thread() is not first
    assert rounds.next() == 5.0
    rounds.end_round(5.0)
    assert rounds.next() == BEAT


def test_who_takes_one_lease_after_another_has_one_thread_for_all(rounds: Rounds) -> None:
    rounds.hold(10.0)
    only = rounds.thread()
    for _ in range(3):
        assert rounds.next() == 10.0
        rounds.interval = None
        rounds.end_round(10.0)
        assert rounds.next() == BEAT
        for _ in range(IDLE_ROUNDS - 1):
            assert rounds.next() == IDLE_SECONDS
            rounds.end_round(IDLE_SECONDS)
        assert rounds.next() == IDLE_SECONDS
        rounds.hold(10.0)
        rounds.end_round(IDLE_SECONDS)
        assert rounds.thread() is only


def test_a_lease_that_must_be_renewed_sooner_ends_the_round(rounds: Rounds) -> None:
    rounds.hold(1000.0)
    assert rounds.next() == 1000.0
    rounds.hold(2.0)
    assert rounds.next() == BEAT
    assert rounds.next() == 2.0


def test_a_lease_that_may_be_renewed_later_leaves_the_round_alone(rounds: Rounds) -> None:
    rounds.hold(2.0)
    assert rounds.next() == 2.0
    rounds.heart.watch(3.0)
    rounds.heart.watch(2.0)
    assert not rounds._go_on.acquire(blocking=False), "nobody was notified"
    assert rounds.events.empty()


def test_it_ends_at_once_when_there_will_be_no_lease_any_more(rounds: Rounds) -> None:
    rounds.hold(1000.0)
    thread = rounds.thread()
    assert rounds.next() == 1000.0
    rounds.heart.end()
    thread.join(THREAD_SECONDS)
    assert not thread.is_alive()


def test_a_thread_that_could_not_be_started_is_started_by_the_next_lease(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            rounds.hold(10.0)
    rounds.hold(10.0)
    assert rounds.thread()
    assert rounds.next() == 10.0


# --- of a link ----------------------------------------------------------------------------------------------


def next_heartbeat(supervisor: MemorySupervisor) -> Heartbeat:
    while True:
        message = supervisor.links[0].heard.get(timeout=THREAD_SECONDS)
        if isinstance(message, Heartbeat) and message.leases:
            return message


def hearts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pgactor-heartbeat"]


def test_a_lease_is_renewed_again_and_again_without_any_call(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        lease = HeldToken(ttl=0.006)
        connected.hold(lease)
        for _ in range(3):
            assert next_heartbeat(supervisor).leases == [lease.token]


def test_a_short_lease_does_not_wait_for_the_heartbeat_of_a_long_one(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        long, short = HeldToken(1, ttl=3000.0), HeldToken(2, ttl=0.006)
        connected.hold(long)
        connected.hold(short)
        assert next_heartbeat(supervisor).leases == [long.token, short.token]


def test_a_lease_on_a_link_whose_end_cannot_be_seen_is_heard_as_often_as_the_supervisor_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor = MemorySupervisor(heartbeat_seconds=0.002).serve(monkeypatch)
    with open_channel() as shared:
        lease = HeldToken(ttl=3000.0)
        connect(shared, supervisor).hold(lease)
        for _ in range(3):
            assert next_heartbeat(supervisor).leases == [lease.token]


def test_the_heartbeat_starts_again_for_the_first_lease_after_a_while_without(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heart, "IDLE_SECONDS", 0.001)
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        first, second = HeldToken(1, ttl=0.006), HeldToken(2, ttl=0.006)
        connected.hold(first)
        thread = connected._heart._thread
        assert thread is not None
        next_heartbeat(supervisor)
        connected.drop(first)
        thread.join(THREAD_SECONDS)
        assert not thread.is_alive()
        connected.hold(second)
        while next_heartbeat(supervisor).leases != [second.token]:
            pass  # a last one of the first may still lie there


def test_closing_ends_the_heartbeats_thread(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connect(shared, supervisor).hold(HeldToken(ttl=3000.0))
        beating = hearts()
        assert beating
    for thread in beating:
        thread.join(THREAD_SECONDS)
        assert not thread.is_alive()


def test_the_end_of_the_link_ends_the_heartbeats_thread(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        connected.hold(HeldToken(ttl=3000.0))
        beating = hearts()
        assert beating
        connected.lose(LostLink("it broke"))
        for thread in beating:
            thread.join(THREAD_SECONDS)
            assert not thread.is_alive()


def test_a_lease_that_no_thread_can_renew_is_given_back(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with open_channel() as shared:
        connected = connect(shared, supervisor)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="can't start"):
                connected.hold(HeldToken(1))
        assert supervisor.links[0].told == [Release(Token(7, 0, 1))]
        lease = HeldToken(2, ttl=0.006)
        connected.hold(lease)
        assert next_heartbeat(supervisor).leases == [lease.token]
