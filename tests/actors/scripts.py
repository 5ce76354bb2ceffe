"""PostgreSQL by script: a test reads what the statement lane writes, and says what PostgreSQL answers, byte for byte.

A `Story` is played on a `Bench`. Its replies may be fed as they are, cut in two at any byte, or byte by byte: what
comes of it must be the same.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import msgspec

from pgactor.actors.backend import Backend
from pgactor.actors.group import Group
from pgactor.actors.lane import Lane
from pgactor.actors.pipeline import Pipeline
from pgactor.actors.session import Session
from pgactor.actors.shapes import Shape, ShapeTable
from pgactor.config import Settings
from pgactor.config.connect import ConnectSettings
from pgactor.config.pool import PoolSettings
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.core.statement import Statement
from pgactor.messages import Execute, Fetch
from pgactor.messages.unions import StatementRequest
from tests.client.virtual import turns

PATIENCE = 5.0
INT4, INT8, TEXT, DATE, NUMERIC, INET = 23, 20, 25, 1082, 1700, 869

# --- what PostgreSQL says -----------------------------------------------------------------------------------


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + (4 + len(body)).to_bytes(4, "big") + body


def fields(kind: str, **given: str) -> bytes:
    """An error or a notice, by the letters of its fields."""
    return message(kind, b"".join(f"{letter}{text}\0".encode() for letter, text in given.items()) + b"\0")


def error(code: str, *, routine: str = "somewhere", severity: str = "ERROR", text: str = "no") -> bytes:
    return fields("E", S=severity, V=severity, C=code, M=text, F="x.c", L="1", R=routine)


def fatal(code: str = "57P01") -> bytes:
    return error(code, routine="ProcessInterrupts", severity="FATAL", text="terminating connection")


PARSED = message("1")
BOUND = message("2")
CLOSED = message("3")
NO_DATA = message("n")
EMPTY = message("I")
SUSPENDED = message("s")
IDLE = message("Z", b"I")
NOTICE = fields("N", S="NOTICE", V="NOTICE", C="00000", M="by the way")
PARAMETER = message("S", b"TimeZone\0UTC\0")
NOTIFICATION = message("A", struct.pack(">I", 99) + b"channel\0payload\0")


def takes(*types: int) -> bytes:
    """ParameterDescription."""
    return message("t", struct.pack(f">H{len(types)}I", len(types), *types))


def gives(*types: int, names: str = "abcdefgh") -> bytes:
    """RowDescription."""
    columns = [
        name.encode() + b"\0" + struct.pack(">IHIhIH", 0, 0, kind, 8, 2**32 - 1, 0)
        for name, kind in zip(names, types, strict=False)
    ]
    return message("T", len(types).to_bytes(2, "big") + b"".join(columns))


def row(*values: bytes | None) -> bytes:
    """DataRow."""
    told = b"".join(b"\xff" * 4 if each is None else len(each).to_bytes(4, "big") + each for each in values)
    return message("D", len(values).to_bytes(2, "big") + told)


def number(value: int) -> bytes:
    """A row of one int4."""
    return row(value.to_bytes(4, "big", signed=True))


def tag(text: str) -> bytes:
    """CommandComplete."""
    return message("C", text.encode() + b"\0")


def described(*, parameters: tuple[int, ...] = (), columns: bytes | None = None, closed: int = 1) -> bytes:
    """The whole answer to a description; of an int4 if nothing else is said."""
    told = gives(INT4) if columns is None else columns
    return CLOSED * closed + PARSED + takes(*parameters) + told + IDLE


def ran(*rows: bytes, said: str | None = None) -> bytes:
    """The whole answer to a statement."""
    return BOUND + b"".join(rows) + tag(f"SELECT {len(rows)}" if said is None else said) + IDLE


# --- what it is told ----------------------------------------------------------------------------------------


def split(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Messages: their kinds and their bodies."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at + 1)
        yield chr(data[at]), data[at + 5 : at + 1 + length]
        at += 1 + length
    assert at == len(data)


def spoken(data: bytes) -> Iterator[str]:
    """The messages of a client, in words."""
    for kind, body in split(data):
        parts = body.split(b"\0")
        match kind:
            case "P":
                yield f"parse {parts[0].decode()}: {parts[1].decode()}"
            case "C" | "D":
                assert body[:1] == b"S"
                yield f"{'close' if kind == 'C' else 'describe'} {parts[0][1:].decode()}"
            case "B":
                yield f"bind {parts[1].decode()}"
            case "E":
                yield f"execute {struct.unpack_from('>I', body, 1)[0]}"
            case "S":
                yield "sync"
            case _:
                raise AssertionError(kind)


class FakeTransport:
    """As asyncio's. writes: what was written and not looked at yet."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.writes: list[bytes] = []
        self.aborted = False
        self.paused = False
        self.pauses = 0
        self.buffered = 0

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.writes.append(data)

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def is_paused(self) -> bool:
        return self.paused

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self.lose)

    def lose(self, why: Exception | None = None) -> None:
        """The connection is no more."""
        self.aborted = True
        if self.protocol is not None:
            self.protocol.connection_lost(why)


class LentSession:
    """What the pipeline sees of asyncpg. cancels: the cancel requests that are out, or were."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.lent = False
        self.closed = False
        self.passed_on = b""
        self.cancels: list[asyncio.Future[None]] = []
        self.swallows_timeouts = False
        self.lost_with: list[Exception | None] = []
        self.forgotten = 0
        self.in_transaction_now: bool | None = None
        self.has_failed = False

    def lend(self, protocol: Any) -> FakeTransport:
        assert not self.lent
        assert not self.closed
        self.lent = True
        self.transport.set_protocol(protocol)
        return self.transport

    def take_back(self) -> None:
        assert self.lent
        assert not self.transport.paused
        self.lent = False
        self.transport.set_protocol(None)

    def is_lent(self) -> bool:
        return self.lent

    def pass_on(self, data: bytes) -> None:
        self.passed_on += data

    def lost(self, why: Exception | None) -> None:
        assert not self.closed
        self.lost_with.append(why)

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True
        self.transport.abort()

    async def cancel_running(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.cancels.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not self.swallows_timeouts:
                raise


# --- the bench ----------------------------------------------------------------------------------------------

Event = tuple[Any, ...]


class Bench:
    """A pipeline between a script and who hears of it.

    events: what became of the requests, in order. back: the requests that came back. counters: the lane's.
    """

    def __init__(self, *, size: int = 100, command_timeout: float | None = None, max_bytes: int = 1 << 26) -> None:
        connect = ConnectSettings(statement_cache_size=size, command_timeout=command_timeout)
        self.counters: dict[str, int] = {}
        self.lane = Lane(
            Settings(connect=connect, pool=PoolSettings(), awake_seconds=0.0), ShapeTable(), self.counters
        )
        self.session = LentSession()
        self.transport = self.session.transport
        self.events: list[Event] = []
        self.back: list[Request] = []
        self.rounds: list[list[Request]] = []
        self.given_away: list[Request] = []
        self.sent: list[Request] = []
        self.worker = Worker(1, now=0.0)
        self.on_diverted: Callable[[Request], None] = lambda _: None
        self.parts: dict[int, list[Any]] = {}
        self.has_room = True
        self.on_room: Callable[[], object] = lambda: None
        self.on_came_back: Callable[[], None] = lambda: None
        self.settings_told = 0
        backend = SimpleNamespace(
            holder=SimpleNamespace(number=3),
            pid=4242,
            name="backend 3",
            lane_is_quiet=lambda: None,
            divert=self.divert,
            tenancy=SimpleNamespace(tell_settings=self.tell_settings),
        )
        self.pipeline = Pipeline(
            cast(Backend, backend),
            cast(Session, self.session),
            reports=self,
            lane=self.lane,
            patience=PATIENCE,
            max_bytes=max_bytes,
        )
        self.feed: Callable[[bytes], Awaitable[None]] = self.feed_whole

    def divert(self, request: Request) -> None:
        self.given_away.append(request)
        self.events.append(("diverted", request.id))

    def tell_settings(self) -> None:
        self.settings_told += 1

    # --- its reports ----------------------------------------------------------------------------------------

    def _answer(self, what: str, request: Request, *found: Any) -> None:
        assert request in self.sent
        assert request not in self.back
        if not request.answered:
            request.answered = True
            self.events.append((what, request.id, *found))

    def part(self, request: Request, shape: Shape, rows: bytes, go_on: Callable[[], object]) -> bool:
        assert request not in self.back
        assert not request.answered
        self.parts.setdefault(request.id, []).append(msgspec.msgpack.decode(rows))
        self.on_room = go_on
        return self.has_room

    def rows(self, request: Request, shape: Shape, rows: list[bytes]) -> None:
        before = [row for part in self.parts.get(request.id, ()) for row in part]
        self._answer("rows", request, before + [msgspec.msgpack.decode(each) for each in rows])

    def tag(self, request: Request, tag: bytes) -> None:
        self._answer("tag", request, tag.decode())

    def failed(self, request: Request, error: Exception) -> None:
        what = error.sqlstate if isinstance(error, asyncpg.PostgresError) else type(error).__name__
        self._answer("failed", request, what)

    def results(self, request: Request, group: Group) -> None:
        self._answer("results", request, group.error)

    def came_back(self, backend: Backend, requests: list[Request]) -> None:
        assert requests
        for request in requests:
            assert request.answered
            assert request in self.sent
            assert request not in self.back
            assert request not in self.given_away
        self.back += requests
        self.rounds.append(requests)
        self.on_came_back()

    def diverted(self, backend: Backend, request: Request) -> None:
        assert request not in self.back
        assert request not in self.given_away
        self.given_away.append(request)
        self.events.append(("diverted", request.id))
        self.on_diverted(request)

    # --- what the brain does --------------------------------------------------------------------------------

    def statement(self, sql: str) -> Statement:
        return self.lane.statements.get(sql)

    def request(self, payload: StatementRequest, sql: str) -> Request:
        """A request that was not sent."""
        return Request(self.worker, payload.id, Kind.STATEMENT, 0.0, self.statement(sql), payload)

    def send(self, payload: StatementRequest, sql: str) -> Request:
        """Send a request, if the lane admits it."""
        request = self.request(payload, sql)
        self.lane.admit(request)
        assert request.work is not None
        self.sent.append(request)
        self.pipeline.send(request)
        return request

    def fetch(self, sql: str, *args: Any, limit: int = 0) -> Request:
        return self.send(Fetch(len(self.sent) + 1, 7, None, sql, list(args), limit), sql)

    def execute(self, sql: str, *args: Any) -> Request:
        return self.send(Execute(len(self.sent) + 1, 7, None, sql, list(args)), sql)

    def withdraw(self, request: Request) -> None:
        """Nobody waits for it any more."""
        if not request.answered:
            request.answered = True
            self.events.append(("withdrawn", request.id))
            self.pipeline.cancel(request)

    # --- what PostgreSQL does -------------------------------------------------------------------------------

    def reads(self) -> list[str]:
        """What was written since it last read."""
        written = b"".join(self.transport.writes)
        self.transport.writes.clear()
        return list(spoken(written))

    def read(self, data: bytes) -> None:
        """A piece of what PostgreSQL says arrives."""
        if not self.transport.aborted:
            self.transport.protocol.data_received(data)

    async def feed_whole(self, data: bytes) -> None:
        """PostgreSQL says this."""
        await turns(3)
        self.read(data)
        await self.rest()

    async def rest(self) -> None:
        """Let happen what can; whatever is paused goes on."""
        await turns(4)
        while self.transport.paused:
            await turns(1)

    async def knows(self, sql: str, *, columns: bytes | None = None, parameters: tuple[int, ...] = ()) -> None:
        """Have a statement described, and forget that."""
        request = self.fetch(sql, *(1 for _ in parameters))
        await turns(3)
        self.read(described(parameters=parameters, columns=columns))
        await turns(3)
        plan = self.statement(sql).plan
        if not plan.why_not:
            self.read(BOUND + tag(plan.usual_tag.decode().replace("SELECT 1", "SELECT 0")) + IDLE)
            await turns(3)
            assert self.back == [request]
        self.forget()

    def forget(self) -> None:
        """From here on the story counts."""
        self.reads()
        for what in (self.events, self.back, self.rounds, self.given_away, self.sent):
            cast(list[Any], what).clear()
        self.counters.clear()
        self.transport.pauses = 0

    def breaks(self, why: Exception | None = None) -> None:
        """The connection breaks off."""
        self.transport.lose(why)

    # --- the books ------------------------------------------------------------------------------------------

    def unrun(self) -> list[int]:
        """Once the connection is lost: who certainly did not run, as the backend asks."""
        never = self.pipeline.never_ran()
        assert len(never) == len(set(never))
        assert not set(never) & set(self.back)
        assert not set(never) & set(self.given_away)
        return [request.id for request in never if not request.answered]

    def unknown(self) -> list[int]:
        """And whose outcome is unknown: who is left."""
        never = self.unrun()
        over = {*self.back, *self.given_away}
        return [each.id for each in self.sent if each not in over and not each.answered and each.id not in never]

    def is_over(self) -> bool:
        """Whether all that were sent have ended, each once, and nothing is remembered of them."""
        assert len(set(self.back)) == len(self.back)
        pipeline, cancelling = self.pipeline, self.pipeline._cancelling
        kept = [
            *pipeline._units,
            *pipeline._flight.unsent,
            *pipeline._flight._messages,
            *pipeline._prepared.waiting(),
            *pipeline._back,
            *pipeline._again,
            *pipeline._connection._pieces,
            *cancelling.unwanted,
            *cancelling.exposed,
            *cancelling._held,
        ]
        over = {*self.back, *self.given_away} == set(self.sent)
        return not kept and over and cancelling.cancelled is None and not pipeline._flight.is_barred

    def is_cut(self) -> bool:
        """Whether the pipeline has cut the connection."""
        return self.transport.aborted


Story = Callable[[Bench], Awaitable[None]]


async def played(story: Story, cut_at: int | None = None, *, bytewise: bool = False, **given: Any) -> tuple[Any, int]:
    """Play the story on a bench of its own. Returns what came of it, and how many bytes PostgreSQL said.

    cut_at: after so many bytes, a piece ends.
    """
    bench = Bench(**given)
    said = 0

    async def feed(data: bytes) -> None:
        nonlocal said
        await turns(3)
        place = None if cut_at is None else cut_at - said
        said += len(data)
        if bytewise:
            pieces = [data[at : at + 1] for at in range(len(data))]
        elif place is not None and 0 < place < len(data):
            pieces = [data[:place], data[place:]]
        else:
            pieces = [data]
        for piece in pieces:
            bench.read(piece)
            await turns(1)
        await bench.rest()

    bench.feed = feed
    await story(bench)
    await turns()
    lost = (bench.unrun(), bench.unknown()) if bench.is_cut() else None
    outcome = {
        "events": bench.events,
        "back": None if bench.is_cut() else [request.id for request in bench.back],
        "cut": bench.is_cut(),
        "lost": lost,
        "passed on": bench.session.passed_on,
        "counters": bench.counters,
        "cancels": len(bench.session.cancels),
        "known": [statement.sql for statement in bench.pipeline._prepared.known],
    }
    return outcome, said


async def same_however_cut(story: Story, **given: Any) -> dict[str, Any]:
    """Play the story in one piece, cut in two at every byte, and byte by byte; returns what comes of it."""
    outcome, said = await played(story, **given)
    for place in range(1, said):
        again, _ = await played(story, place, **given)
        assert again == outcome, f"cut after {place} bytes"
    again, _ = await played(story, bytewise=True, **given)
    assert again == outcome, "byte by byte"
    return cast(dict[str, Any], outcome)
