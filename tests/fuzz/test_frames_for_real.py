"""Workers that send anything to a real supervisor with a real PostgreSQL: every request is answered once, to who
asked; nothing is logged as a bug, and the supervisor goes on serving others.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgactor import Client, wire
from pgactor.messages import PROTOCOL_VERSION, Failed, Granted, Hello, Reply, Rows, Welcome
from pgactor.zmtp import Connection, encode_message
from tests.fuzz import speech
from tests.fuzz.budget import budget
from tests.supervising import SupervisorProcess

PEERS = 3
FIRST_ID = 1000
CAP = 1 << 26
PATIENCE = 30.0
A_BUG = ("Traceback", "Exception in callback", "never retrieved")
"""What is in the log if something went wrong that nobody had thought of."""
TAGS = sorted(speech.KINDS.keys() - speech.NOT_SAID - {"resize"})


class Talker:
    """A worker who says things. is_loose: it has said what cannot be counted, too. awaited: the ids of requests that
    are not answered yet. markers: what is to come as the answer to some."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.epoch = 0
        self.is_loose = False
        self.awaited: set[int] = set()
        self.answered: Counter[int] = Counter()
        self.markers: dict[int, int] = {}
        self.ended = asyncio.Event()
        self.wrong: list[str] = []
        self._zmtp = Connection("DEALER", max_message_bytes=CAP)
        self._frames = wire.supervisor_frames(CAP)
        self._last_id = FIRST_ID

    async def connect(self, path: str, tokens: list[list[int]]) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(path)
        self._writer.write(self._zmtp.take_output())
        self._tokens = tokens
        self._listening = asyncio.create_task(self._listen())
        self._ready = asyncio.Event()
        await self._ready.wait()
        self.send(wire.encode([Hello(PROTOCOL_VERSION, f"fuzz {self.number}", 1)]))
        while not self.epoch:
            await asyncio.sleep(0.001)

    def send(self, frame: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_message(frame))

    def say(self, message: list[Any]) -> bytes:
        """The message, encoded, and remembered: with an id of its own if it is a request."""
        if speech.is_request(message):
            self._last_id += 1
            message[1] = self._last_id
            self.awaited.add(self._last_id)
            if message[0] == "fetch" and message[4] == "select 1":
                self.markers[self._last_id] = marker = self.number * 10**6 + self._last_id
                message[4] = f"select {marker}"
        elif "id" in speech.KINDS[message[0]].__struct_fields__:
            message[1] = max(0, self._last_id - message[1] // 4)
        return msgspec.msgpack.encode(message)

    async def _listen(self) -> None:
        try:
            while data := await self._reader.read(65536):
                for (frame,) in self._zmtp.receive(data):
                    for message in self._frames.decode(frame):
                        self._hear(message)
                if output := self._zmtp.take_output():
                    self._writer.write(output)
                if self._zmtp.ready:
                    self._ready.set()
        except (ConnectionError, OSError):
            pass
        finally:
            self.ended.set()

    def _hear(self, message: Any) -> None:
        if isinstance(message, Welcome):
            self.epoch = message.epoch
        elif isinstance(message, Granted):
            self._tokens.append(list(msgspec.structs.astuple(message.lease)))
        if isinstance(message, Rows) and (marker := self.markers.get(message.id)) is not None:
            rows = msgspec.msgpack.decode(message.data)
            if rows != [[marker]]:
                self.wrong.append(f"{rows} came for {marker}")
        if isinstance(message, Reply | Failed) and message.id is not None and type(message).__name__ != "Part":
            self.answered[message.id] += 1
            self.awaited.discard(message.id)

    async def all_answered(self) -> None:
        """Wait until nothing is open, or the link is closed."""
        async with asyncio.timeout(PATIENCE):
            while self.awaited and not self.ended.is_set():
                await asyncio.sleep(0.005)

    async def leave(self) -> None:
        self._listening.cancel()
        self._writer.transport.abort()
        await asyncio.gather(self._listening, return_exceptions=True)


@pytest.fixture(scope="module")
def supervisor(dsn: str) -> Iterator[SupervisorProcess]:
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        made = SupervisorProcess(folder=Path(folder), dsn=dsn, max_size=3, pool={"queue_timeout_seconds": 1.0})
        yield made
        made.stop()
        log = made.log.read_text()
        assert not any(bug in log for bug in A_BUG), log[-5000:]


said = st.one_of(
    st.tuples(st.just("well"), st.lists(speech.messages(TAGS), min_size=1, max_size=6)),
    st.tuples(st.just("well"), st.lists(speech.messages(TAGS), min_size=1, max_size=6)),
    st.tuples(st.just("badly"), speech.raw() | st.lists(speech.odd, max_size=3).map(msgspec.msgpack.encode)),
)


@budget(25)
@given(st.lists(st.tuples(st.integers(0, PEERS - 1), said, st.booleans()), min_size=3, max_size=20))
def test_a_supervisor_that_is_told_anything_answers_each_once_and_serves_the_next(
    supervisor: SupervisorProcess, steps: list[tuple[int, tuple[str, Any], bool]]
) -> None:
    asyncio.run(conversation(supervisor, steps))
    with Client(supervisor.ipc) as client:
        assert client.fetchval("select 42", timeout=10) == 42
        log = supervisor.log.read_text()
    assert not any(bug in log for bug in A_BUG), log[-5000:]


async def conversation(supervisor: SupervisorProcess, steps: list[tuple[int, tuple[str, Any], bool]]) -> None:
    tokens: list[list[int]] = []
    talkers = [Talker(number) for number in range(PEERS)]
    for talker in talkers:
        await talker.connect(supervisor.ipc.removeprefix("ipc://"), tokens)
    try:
        for who, (how, words), pause in steps:
            talker = talkers[who]
            if how == "well":
                good = [speech.resolve(each, talker.epoch, tokens) for each in words]
                talker.send(wire.join([talker.say(each) for each in good]))
            else:
                talker.is_loose = True
                talker.send(words)
            if pause:
                await asyncio.sleep(0.01)
        for talker in talkers:
            await talker.all_answered()
            assert not talker.wrong
            assert talker.is_loose or all(times == 1 for times in talker.answered.values())
    finally:
        for talker in talkers:
            await talker.leave()
