"""The connection that listens, and who is told what, with sessions and links that are no more than objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pgactor.actors import listener as module
from pgactor.actors import subscribers
from pgactor.actors.listener import Listener
from pgactor.actors.session import Session
from pgactor.config.pool import PoolSettings
from pgactor.messages import Done, Failed, Message
from pgactor.messages.listening import Gap, Listen, Notification, Unlisten

from .sessions import FakeSession
from .test_peer import MemoryPeer


class ListeningSession(FakeSession):
    notified: Callable[[str, str, int], None] | None = None


class SlowPeer(MemoryPeer):
    """unsent: how many bytes it has yet to read."""

    unsent = 0

    def unsent_size(self) -> int:
        return self.unsent


class Bench:
    """refusal: opening fails with this."""

    def __init__(self) -> None:
        self.sessions: list[ListeningSession] = []
        self.refusal: Exception | None = None
        self.counters: dict[str, int] = {}
        settings = PoolSettings(
            reopen_backoff_seconds=0.001, reopen_backoff_max_seconds=0.002, database_grace_seconds=0
        )
        self.listener = Listener(settings, connect=self._connect, counters=self.counters)

    async def _connect(self) -> Session:
        if self.refusal is not None:
            raise self.refusal
        session = ListeningSession(len(self.sessions))
        session.instantly = True
        self.sessions.append(session)
        return session.as_session()

    def notify(self, channel: str, payload: str) -> None:
        notified = self.sessions[-1].notified
        assert notified is not None
        notified(channel, payload, 42)


def said(peer: MemoryPeer) -> list[Message]:
    peer.flush()
    return [message for frame in peer.said for message in frame]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_connection_that_nobody_needs_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    bench, peer = Bench(), SlowPeer(max_frame_bytes=1 << 20)
    bench.listener.listen(peer, Listen(1, 7, None, ["a"]))
    await until(lambda: said(peer) == [Done(1, "LISTEN")])
    bench.listener.unlisten(peer, Unlisten(2, 7, None, ["a"]))
    await until(lambda: bench.sessions[0].closed)
    bench.listener.listen(peer, Listen(3, 7, None, ["b"]))
    await until(lambda: len(said(peer)) == 3)
    assert len(bench.sessions) == 2
    await bench.listener.close()
    assert bench.sessions[1].closed


async def test_a_connection_that_only_listens_is_looked_after() -> None:
    bench, peer = Bench(), SlowPeer(max_frame_bytes=1 << 20)
    bench.listener.listen(peer, Listen(1, 7, None, ["a"]))
    await until(lambda: said(peer))
    bench.sessions[0].instantly = False  # as at the other end of a cut cable
    bench.listener.configure(PoolSettings(listen_check_seconds=0.05))
    await until(lambda: said(peer)[1:] == [Gap(["a"])])
    assert len(bench.sessions) == 2
    await bench.listener.close()


async def test_a_link_that_does_not_read_is_told_of_a_gap_when_it_reads_again() -> None:
    bench, slow, quick = Bench(), SlowPeer(max_frame_bytes=1 << 20), SlowPeer(max_frame_bytes=1 << 20)
    for peer in (slow, quick):
        bench.listener.listen(peer, Listen(1, 7, None, ["a"]))
    await until(lambda: said(slow) and said(quick))
    slow.unsent = subscribers.MOST_UNSENT_BYTES + 1
    bench.notify("a", "missed")
    slow.unsent = 0
    bench.notify("a", "next")
    assert said(slow)[1:] == [Gap(["a"]), Notification("a", "next", 42)]
    assert [message.payload for message in said(quick)[1:] if isinstance(message, Notification)] == ["missed", "next"]
    slow.unsent = subscribers.MOST_UNSENT_BYTES + 1
    bench.notify("a", "missed, too")
    await asyncio.sleep(2 * subscribers.RETRY_SECONDS)
    assert len(said(slow)) == 3
    slow.unsent = 0
    await until(lambda: said(slow)[3:] == [Gap(["a"])])  # without another note
    assert (bench.counters["notifications"], bench.counters["notifications_sent"]) == (3, 4)
    await bench.listener.close()


async def test_a_notification_that_is_too_large_for_a_link_is_a_gap() -> None:
    bench, peer = Bench(), SlowPeer(max_frame_bytes=1024)
    bench.listener.listen(peer, Listen(1, 7, None, ["a"]))
    await until(lambda: said(peer))
    bench.notify("a", "x" * 2000)
    await until(lambda: said(peer)[1:] == [Gap(["a"])])
    await bench.listener.close()


async def test_each_listen_has_one_answer_whatever_happens() -> None:
    bench, peer = Bench(), SlowPeer(max_frame_bytes=1 << 20)
    bench.refusal = OSError("no route")
    bench.listener._settings = PoolSettings(reopen_backoff_seconds=0.001, database_grace_seconds=60)
    bench.listener.listen(peer, Listen(1, 7, 0.02, ["a"]))
    bench.listener.listen(peer, Listen(2, 7, None, ["a", "b"]))
    bench.listener.listen(peer, Listen(3, 7, None, ["c"]))
    bench.listener.withdraw(peer, 2)
    bench.listener.withdraw(peer, 99)
    await until(lambda: len(said(peer)) == 2)
    await bench.listener.close()
    bench.listener.listen(peer, Listen(4, 7, None, ["d"]))
    answers = {each.id: each.code for each in said(peer) if isinstance(each, Failed)}
    assert answers == {1: "database_unavailable", 2: "request_cancelled", 3: "pool_closing", 4: "pool_closing"}
    assert len(said(peer)) == 4
    assert bench.counters["subscriptions"] == 0


async def test_what_a_link_leaves_behind_is_nothing() -> None:
    bench, peer, other = Bench(), SlowPeer(max_frame_bytes=1 << 20), SlowPeer(max_frame_bytes=1 << 20)
    bench.listener.listen(peer, Listen(1, 7, None, ["a", "b"]))
    bench.listener.listen(peer, Listen(2, 7, None, ["a"]))
    bench.listener.listen(other, Listen(1, 7, None, ["a"]))
    await until(lambda: len(said(peer)) == 2 and said(other))
    bench.listener.leave(peer)
    await until(lambda: bench.counters["channels"] == 1)
    assert bench.counters["subscriptions"] == 1
    bench.notify("a", "1")
    assert len(said(peer)) == 2
    assert said(other)[1:] == [Notification("a", "1", 42)]
    await bench.listener.close()
