"""Workers that send anything, in any order, several at once: each request is answered once, to who asked, and when
they are gone nothing of them is left."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgactor import wire
from pgactor.actors.session import Session
from pgactor.messages import PROTOCOL_VERSION, Failed, Granted, Hello, Reply, Rows
from tests.actors import test_conductor
from tests.actors.sessions import COLUMNS, FakeSession
from tests.actors.test_peer import MemoryPeer
from tests.client.virtual import run, turns
from tests.fuzz import speech
from tests.fuzz.budget import budget

PEERS = 3
FIRST_ID = 1000
"""Smaller ids may be in use when they are used again."""
TAGS = [
    *("hello", "execute", "executemany", "fetch", "fetchmany", "batch", "acquire", "status", "expire", "resize"),
    *("heartbeat", "release", "cancel", "close_statement", "close_cursor", "chunk", "end_of_chunks", "credit", "bye"),
]
"""What the sessions that are no more than objects can do; test_frames_for_real.py has all of it."""


@contextmanager
def alone() -> Iterator[None]:
    """What is said of each link is not kept."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    with alone():
        yield


class EchoSession(FakeSession):
    """Its rows say which statement they are of."""

    async def rows(self, sql: str, args: list[Any], limit: int, shapes: Any, sink: object = None) -> Any:
        await self._statement(sql)
        return [(len(sql),)], shapes.get(COLUMNS)


class Bench(test_conductor.Bench):
    """Sessions answer by themselves, now or a while later."""

    async def _connect(self) -> Session:
        session = EchoSession(1000 + len(self.sessions))
        session.instantly = self.instantly
        self.sessions.append(session)
        return session.as_session()


class Talker:
    """A worker who says things. asked: how often each id was; answered: likewise."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.peer: MemoryPeer = bench.stranger()
        self.asked: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self.lengths: dict[int, int] = {}  # of the statements asked for, by their ids
        self._read = 0
        self._last_id = FIRST_ID

    def say(self, *frames: bytes) -> None:
        for frame in frames:
            if not self.peer.closed:
                self.bench.conductor.dialogue.frame(self.peer, frame)

    def ask(self, message: list[Any]) -> bytes:
        """The message, encoded: most requests with an id of their own, and what names a request with one's."""
        if speech.is_request(message):
            if message[1] < speech.TWICE:
                self._last_id += 1
                message[1] = self._last_id
            self.asked[message[1]] += 1
            if message[0] == "fetch":
                self.lengths[message[1]] = len(message[4])
        elif "id" in speech.KINDS[message[0]].__struct_fields__:
            message[1] = max(0, self._last_id - message[1] // 4)
        return msgspec.msgpack.encode(message)

    def hear(self) -> list[list[int]]:
        """Take in what was answered; returns the leases that were granted."""
        granted = []
        for message in [each for frame in self.peer.said[self._read :] for each in frame]:
            if isinstance(message, Reply | Failed) and message.id is not None:
                self.answered[message.id] += 1
            if isinstance(message, Rows):
                for (length,) in msgspec.msgpack.decode(message.data):
                    assert length == self.lengths.get(message.id, length)
            if isinstance(message, Granted):
                granted.append(list(msgspec.structs.astuple(message.lease)))
        self._read = len(self.peer.frames)
        return granted


async def settle(talkers: list[Talker], tokens: list[list[int]]) -> None:
    await turns(6)
    for talker in talkers:
        tokens += talker.hear()


said = st.one_of(
    st.tuples(st.just("well"), st.lists(speech.messages(TAGS), min_size=1, max_size=4)),
    st.tuples(st.just("well"), st.lists(speech.messages(TAGS), min_size=1, max_size=4)),
    st.tuples(st.just("oddly"), st.lists(speech.odd, min_size=1, max_size=2).map(msgspec.msgpack.encode)),
    st.tuples(st.just("badly"), speech.raw()),
)
steps = st.lists(
    st.tuples(st.integers(0, PEERS - 1), said, st.sampled_from(["", "", "end", "wait", "lose", "leave"])), max_size=14
)


@budget(40)
@given(steps=steps, instantly=st.booleans())
def test_every_request_is_answered_once_to_who_asked_and_nothing_is_left_of_anybody(
    steps: list[tuple[int, tuple[str, Any], str]], instantly: bool
) -> None:
    async def story() -> None:
        bench = Bench(database_grace_seconds=0.5, queue_timeout_seconds=1.0)
        bench.instantly = instantly
        talkers = [Talker(bench) for _ in range(PEERS)]
        tokens: list[list[int]] = []
        loose: set[int] = set()  # who has also said what cannot be counted
        for talker in talkers:
            talker.say(wire.encode([Hello(PROTOCOL_VERSION, "fuzz", 99)]))
        for who, (how, words), then in steps:
            talker = talkers[who]
            if how == "well":
                good = [speech.resolve(each, test_conductor.EPOCH, tokens) for each in words]
                talker.say(wire.join([talker.ask(each) for each in good]))
            else:
                loose.add(who)
                talker.say(words)
            await settle(talkers, tokens)
            match then:
                case "end":
                    for session in bench.sessions:
                        if session.runs:
                            session.end()
                case "wait":
                    await asyncio.sleep(0.3)
                case "lose" if bench.sessions:
                    bench.sessions[who % len(bench.sessions)].lose()
                case "leave" if not talker.peer.closed:
                    talker.peer.closed = True
                    bench.conductor.dialogue.disconnected(talker.peer, "it left")
            await settle(talkers, tokens)
        for _ in range(40):
            await asyncio.sleep(0.1)
            for session in bench.sessions:
                if session.runs:
                    session.end()
        await settle(talkers, tokens)
        for who, talker in enumerate(talkers):
            if who not in loose and not talker.peer.closed:
                assert talker.answered.keys() == talker.asked.keys()
                for number, times in talker.asked.items():
                    most = 1 if number > FIRST_ID else times
                    assert 1 <= talker.answered[number] <= most
            assert talker.peer.worker is None or not talker.peer.worker.requests
            if not talker.peer.closed or talker.peer.said_goodbye:
                talker.peer.closed = True
                bench.conductor.dialogue.disconnected(talker.peer, "the end")
        pool = bench.conductor.pool
        await turns(20)
        assert len(pool.roster) == len(pool.queue) == len(pool.leases) == 0
        assert not bench.conductor._outcomes._setting_up
        await bench.drained()

    run(story())
