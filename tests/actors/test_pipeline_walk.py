"""The statement lane on one backend, with a PostgreSQL that does anything it may, in any order."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from pgactor.actors.cancelling import SOON_SECONDS
from tests.client.virtual import now, run, turns

from .scripts import (
    BOUND,
    CLOSED,
    IDLE,
    INT4,
    NOTICE,
    PARSED,
    SUSPENDED,
    Bench,
    error,
    gives,
    row,
    split,
    tag,
    takes,
)
from .test_pipeline import CANCELED, CHANGED, FAILS, LOST


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's clock is the loop's."""
    for module in ("cancelling", "flight", "turn"):
        monkeypatch.setattr(f"pgactor.actors.{module}.monotonic", now)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_each_request_ends_once_and_gets_its_own_rows(seed: int) -> None:
    run(walk(seed))


async def walk(seed: int) -> None:
    """A server that keeps its own books of what it has prepared, statements that fail and are lost, requests that are
    withdrawn, and pieces of any size. The rows of each request carry its own argument."""
    random = Random(seed)
    bench = Bench(size=random.choice([2, 3, 100]))
    texts = [f"select a from t{index} where b = $1" for index in range(4)]
    server = Server(random)

    def serve() -> None:
        for data in bench.transport.writes:
            server.hear(data)
        bench.transport.writes.clear()

    said = bytearray()
    for _ in range(250):
        match random.choices(("send", "work", "read", "withdraw", "cancels", "wait"), (30, 30, 30, 6, 8, 5))[0]:
            case "send":
                for _ in range(random.randrange(1, 5)):
                    if len(bench.pipeline._units) < 12 and not bench.lane._off:
                        sql, argument = random.choice(texts), len(bench.sent) + 1
                        if random.random() < 0.2:
                            bench.execute(sql, argument)
                        else:
                            bench.fetch(sql, argument, limit=random.choice([0, 0, 1, 5]))
            case "work":
                await turns(2)
                serve()
                said += server.work(random.randrange(1, 4))
            case "read" if said and not bench.transport.is_paused():
                size = random.choice([1, 5, 20, len(said)])
                bench.read(bytes(said[:size]))
                del said[:size]
            case "withdraw" if bench.sent:
                request = random.choice(bench.sent[-10:])
                if request not in bench.back and request not in bench.given_away:
                    bench.withdraw(request)
            case "cancels":
                for cancel in bench.session.cancels:
                    if not cancel.done():
                        if random.random() < 0.7:
                            server.cancel()
                        cancel.set_result(None)
            case "wait":
                await asyncio.sleep(SOON_SECONDS)
        assert not bench.is_cut()
    for _ in range(100):
        await asyncio.sleep(SOON_SECONDS)
        for cancel in bench.session.cancels:
            if not cancel.done():
                cancel.set_result(None)
        serve()
        said += server.work(100)
        if said:
            bench.read(bytes(said))
            said.clear()
    assert not bench.is_cut()
    assert bench.is_over(), bench.pipeline
    assert {request.id for request in bench.sent} == {event[1] for event in bench.events}
    for what, number, *found in bench.events:
        if what == "rows":
            assert found[0] in ([], [[number]], [[number], [number]])
        elif what == "failed":
            assert found in (["22012"], ["57014"])
    known = {plan.name.decode() for plan in bench.pipeline._prepared.known.values()}
    assert set(server.prepared) <= known, "none is left behind"


class Server:
    """A PostgreSQL that answers at random, but as it may."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.todo: list[list[tuple[str, bytes]]] = [[]]
        self.prepared: dict[str, str] = {}
        self.canceled = False

    def hear(self, data: bytes) -> None:
        for kind, body in split(data):
            self.todo[-1].append((kind, body))
            if kind == "S":
                self.todo.append([])

    def cancel(self) -> None:
        """A cancel request hits what is worked on next, if there is something."""
        self.canceled = len(self.todo) > 1

    def work(self, count: int) -> bytes:
        said = b""
        while count and len(self.todo) > 1:
            count -= 1
            said += self._unit(self.todo.pop(0))
        return said

    def _unit(self, unit: list[tuple[str, bytes]]) -> bytes:
        said = b""
        canceled, self.canceled = self.canceled, False
        for kind, body in unit:
            if self.random.random() < 0.05:
                said += NOTICE
            name = body.strip(b"\0S").split(b"\0")[0].decode()
            match kind:
                case "C":
                    self.prepared.pop(name, None)
                    said += CLOSED
                case "P":
                    if canceled or self.random.random() < 0.03:
                        return said + error("57014" if canceled else "42P01") + IDLE
                    assert name not in self.prepared, "PostgreSQL would refuse the name"
                    self.prepared[name] = body.split(b"\0")[1].decode()
                    said += PARSED
                case "D":
                    said += takes(INT4) + gives(INT4)
                case "B":
                    name = body.split(b"\0")[1].decode()
                    if self.random.random() < 0.003:
                        self.prepared.clear()
                    if name not in self.prepared:
                        return said + LOST + IDLE
                    if self.random.random() < 0.01:
                        return said + CHANGED + IDLE
                    said += BOUND
                    argument = body[body.index(b"\0\0\0\4") + 4 :][:4]
                case "E":
                    limit = int.from_bytes(body[1:5])
                    rows = self.random.randrange(3)
                    shown = min(rows, limit) if limit else rows
                    said += row(argument) * shown
                    if canceled or self.random.random() < 0.05:
                        return said + (CANCELED if canceled else FAILS) + IDLE
                    said += SUSPENDED if limit and shown == limit else tag(f"SELECT {shown}")
                case "S":
                    said += IDLE
        return said
