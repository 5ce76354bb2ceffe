"""Messages in, messages out, with workers and PostgreSQL sessions that are no more than objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import asyncpg
import msgspec
import pytest

from pgactor import wire
from pgactor.actors.conductor import Conductor, new_epoch
from pgactor.actors.session import Session
from pgactor.config import Settings
from pgactor.config.pool import PoolSettings
from pgactor.errors import ConfigError
from pgactor.messages import (
    PROTOCOL_VERSION,
    SHAPES_PER_LINK,
    Acquire,
    Bye,
    Cancel,
    Done,
    Execute,
    ExecuteMany,
    Failed,
    Fetch,
    FetchMany,
    Granted,
    Heartbeat,
    Hello,
    LeaseEnded,
    Message,
    Part,
    Release,
    Rows,
    Token,
    Welcome,
)
from pgactor.messages.pool import Expire, Status, StatusReport
from pgactor.messages.unions import FromWorker
from tests.client.virtual import run, turns

from .scripts import BOUND, CLOSED, IDLE, described, error, fatal, ran, split
from .scripts import number as row_of
from .sessions import COLUMNS, FakeSession
from .test_peer import MemoryPeer

EPOCH = 77


class Bench:
    """A conductor and the sessions that it opened. refusal: opening fails with this."""

    def __init__(self, **pool: float | str) -> None:
        given = {"min_size": 0, "max_size": 2, "statement_lane": "off", **pool}
        settings = Settings(
            pool=msgspec.convert(given, PoolSettings), heartbeat_seconds=3.0, silence_seconds=10.0, awake_seconds=0.0
        )
        self.sessions: list[FakeSession] = []
        self.refusal: Exception | None = None
        self.instantly = True
        self.conductor = Conductor(settings, connect=self._connect, epoch=EPOCH)
        self.conductor.start()

    async def _connect(self) -> Session:
        if self.refusal is not None:
            raise self.refusal
        session = FakeSession(1000 + len(self.sessions))
        session.instantly = self.instantly
        self.sessions.append(session)
        return session.as_session()

    def stranger(self, **given: int | str) -> MemoryPeer:
        """A link on which nothing was said yet."""
        return MemoryPeer(**{"max_frame_bytes": 1 << 20, **given})  # type: ignore[arg-type]  # each of its own type

    def worker(self, **given: int | str) -> Dialogue:
        """A worker that has said hello."""
        dialogue = Dialogue(self.conductor, self.stranger(**given))
        dialogue.say(Hello(PROTOCOL_VERSION, "tester", 99))
        return dialogue

    async def drained(self) -> None:
        """Nothing is left open."""
        await self.conductor.drain(1.0)
        assert all(session.closed for session in self.sessions)


class Dialogue:
    """What a worker says and hears."""

    def __init__(self, conductor: Conductor, peer: MemoryPeer) -> None:
        self.conductor = conductor
        self.peer = peer
        self._heard = 0

    def say(self, *messages: FromWorker) -> None:
        """One frame."""
        self.conductor.dialogue.frame(self.peer, wire.encode(messages))

    async def hears(self) -> list[Message]:
        """What it was told since it last listened."""
        await turns()
        heard = [message for frame in self.peer.said for message in frame]
        new, self._heard = heard[self._heard :], len(heard)
        return new

    async def ask(self, message: FromWorker) -> Message:
        """Say it, and hear the one answer."""
        await self.hears()
        self.say(message)
        (answer,) = await self.hears()
        return answer


def fetch(id: int, sql: str = "select 1", *, lease: Token | None = None, timeout: float | None = None) -> Fetch:
    return Fetch(id, EPOCH, timeout, sql, [], 0, lease)


def execute(id: int, sql: str, *, lease: Token | None = None, timeout: float | None = None) -> Execute:
    return Execute(id, EPOCH, timeout, sql, [], lease)


# --- saying hello -------------------------------------------------------------------------------------------


def test_hello_is_answered_with_a_welcome() -> None:
    async def story() -> None:
        bench = Bench()
        (welcome,) = await bench.worker().hears()
        assert isinstance(welcome, Welcome)
        assert (welcome.version, welcome.epoch, welcome.heartbeat_seconds) == (PROTOCOL_VERSION, EPOCH, 0.0)

    run(story())


@pytest.mark.parametrize("kind", [Fetch, ExecuteMany, FetchMany])
def test_the_number_of_a_prepared_statement_without_a_lease_is_refused_and_nothing_run(kind: type) -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = True
        worker = bench.worker()
        answer = await worker.ask(kind(1, EPOCH, None, "select 1", [], statement=5))
        assert isinstance(answer, Failed)
        assert (answer.id, answer.code) == (1, "protocol")
        assert "expected to give its lease" in answer.message
        assert not any("select 1" in session.history for session in bench.sessions)
        assert isinstance(await worker.ask(fetch(1)), Rows), "its id is free"

    run(story())


def test_a_workers_name_cannot_forge_lines_of_a_log_or_move_a_cursor() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = Dialogue(bench.conductor, bench.stranger())
        dialogue.say(Hello(PROTOCOL_VERSION, "web\n1970 ERROR \x1b[2J" + "x" * 500, 99))
        worker = dialogue.peer.worker
        assert worker is not None
        assert worker.label.isprintable()
        assert worker.label.startswith("web\N{REPLACEMENT CHARACTER}1970")
        assert len(worker.label) == 200

    run(story())


def test_on_tcp_the_welcome_asks_for_heartbeats() -> None:
    async def story() -> None:
        (welcome,) = await Bench().worker(road="tcp").hears()
        assert isinstance(welcome, Welcome)
        assert welcome.heartbeat_seconds == 3.0

    run(story())


def test_another_version_of_the_protocol_is_refused_and_the_link_ended() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = Dialogue(bench.conductor, bench.stranger())
        dialogue.say(Hello(PROTOCOL_VERSION + 1), fetch(1))
        (refusal,) = await dialogue.hears()
        assert isinstance(refusal, Failed)
        assert (refusal.id, refusal.code) == (None, "protocol")
        assert "use the same pgactor on both sides" in refusal.message
        assert dialogue.peer.closed

    run(story())


def test_who_says_no_hello_first_is_refused() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = Dialogue(bench.conductor, bench.stranger())
        dialogue.say(fetch(5), Heartbeat())
        first, second = await dialogue.hears()
        assert isinstance(first, Failed)
        assert isinstance(second, Failed)
        assert (first.id, second.id) == (5, None)
        assert "hello" in first.message
        assert bench.sessions == []

    run(story())


def test_a_second_hello_is_refused_and_the_worker_stays_who_it_was() -> None:
    async def story() -> None:
        dialogue = Bench().worker()
        worker = dialogue.peer.worker
        answer = await dialogue.ask(Hello(PROTOCOL_VERSION, "somebody else"))
        assert isinstance(answer, Failed)
        assert "hello was said already" in answer.message
        assert dialogue.peer.worker is worker

    run(story())


def test_the_kernels_word_on_the_pid_is_better_than_the_workers() -> None:
    async def story() -> None:
        bench = Bench()
        peer = bench.stranger()
        peer.pid = 4711
        Dialogue(bench.conductor, peer).say(Hello(PROTOCOL_VERSION, "x" * 1000, 99))
        assert peer.worker is not None
        assert peer.worker.pid == 4711
        assert len(peer.worker.label) == 200

    run(story())


# --- statements ---------------------------------------------------------------------------------------------


def test_a_statement_is_run_and_answered() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        answer = await dialogue.ask(fetch(1))
        assert isinstance(answer, Rows)
        assert answer.id == 1
        assert msgspec.msgpack.decode(answer.data) == [[1], [2]]
        assert bench.sessions[0].history == ["select 1"]
        await bench.drained()

    run(story())


def test_a_statement_that_may_leave_something_is_followed_by_a_reset() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        assert await dialogue.ask(execute(1, "set work_mem = '1MB'")) == Done(1, "DONE")
        assert bench.sessions[0].history == ["set work_mem = '1MB'", "renew"]
        await bench.drained()

    run(story())


def test_every_statement_is_followed_by_a_reset_where_that_is_asked_for() -> None:
    async def story() -> None:
        bench = Bench(reset_every_statement=True)
        await bench.worker().ask(fetch(1))
        await turns()
        assert bench.sessions[0].history == ["select 1", "renew"]
        await bench.drained()

    run(story())


def test_the_reply_of_a_worker_that_awaits_nothing_else_does_not_wait_for_others() -> None:
    async def story() -> None:
        bench = Bench(max_size=1)
        crowd, alone = [bench.worker() for _ in range(5)], bench.worker()
        for dialogue in (*crowd, alone):
            await dialogue.ask(fetch(0))  # its shape is told
        alone.say(fetch(1))
        for dialogue in crowd:  # all of them wait for the only backend
            dialogue.say(*(fetch(number) for number in range(1, 20)))
        await turns(200)  # in no time at all
        assert len(alone.peer.said) == 3, "a welcome and two replies"
        await bench.drained()

    run(story())


def test_a_shape_is_told_to_each_worker_once() -> None:
    async def story() -> None:
        bench = Bench()
        first, second = bench.worker(), bench.worker()
        for dialogue in (first, second):
            told = []
            for number in (1, 2, 3):
                answer = await dialogue.ask(fetch(number))
                assert isinstance(answer, Rows)
                told.append(answer.columns)
            assert told == [list(COLUMNS), None, None]
        await bench.drained()

    run(story())


def test_a_shape_whose_rows_were_too_large_to_send_is_told_with_the_next() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker(max_frame_bytes=1024)
        first = await dialogue.ask(fetch(1))
        assert isinstance(first, Rows)
        dialogue.peer.shapes.clear()
        bench.sessions[0].rows_found = [("x" * 2000,)]  # type: ignore[list-item]
        too_large = await dialogue.ask(fetch(2))
        assert isinstance(too_large, Failed)
        assert too_large.code == "message_too_large"
        bench.sessions[0].rows_found = [(1,)]
        answer = await dialogue.ask(fetch(3))
        assert isinstance(answer, Rows)
        assert answer.columns == list(COLUMNS)
        await bench.drained()

    run(story())


def test_a_shape_that_the_worker_has_forgotten_is_told_again() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        first = await dialogue.ask(fetch(1))
        assert isinstance(first, Rows)
        for number in range(SHAPES_PER_LINK):
            dialogue.peer.remember(1000 + number)
        again = await dialogue.ask(fetch(2))
        assert isinstance(again, Rows)
        assert again.columns == list(COLUMNS)
        await bench.drained()

    run(story())


def test_the_worker_says_how_large_its_frames_may_be() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = Dialogue(bench.conductor, bench.stranger())
        dialogue.say(Hello(PROTOCOL_VERSION, max_frame_bytes=2000))
        dialogue.say(fetch(1))
        await dialogue.hears()
        bench.sessions[0].rows_found = [("x" * 2000,)]  # type: ignore[list-item]
        answer = await dialogue.ask(fetch(2))
        assert isinstance(answer, Failed)
        assert answer.code == "message_too_large"
        await bench.drained()

    run(story())


@pytest.mark.parametrize(
    "make",
    [
        lambda epoch: Fetch(3, epoch, None, "select 1"),
        lambda epoch: Acquire(3, epoch, None),
        lambda epoch: Status(3, epoch, None),
        lambda epoch: Expire(3, epoch, None),
    ],
    ids=["fetch", "acquire", "status", "expire"],
)
def test_a_request_for_another_life_of_the_supervisor_is_refused_unrun(
    make: Callable[[int], FromWorker],
) -> None:
    async def story() -> None:
        bench = Bench()
        answer = await bench.worker().ask(make(EPOCH - 1))
        assert isinstance(answer, Failed)
        assert (answer.id, answer.code) == (3, "supervisor_unavailable")
        assert "it was not run" in answer.message
        assert bench.sessions == []

    run(story())


def test_a_withdrawn_statement_is_cancelled_and_answered_once() -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = False
        dialogue = bench.worker()
        await dialogue.hears()
        dialogue.say(fetch(1))
        assert await dialogue.hears() == []
        dialogue.say(Cancel(1), Cancel(1), Cancel(55))
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Failed)
        assert (answer.id, answer.code) == (1, "request_cancelled")
        assert "cancel select 1" in bench.sessions[0].history
        await bench.drained()

    run(story())


def test_a_statement_that_takes_too_long_is_cancelled() -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = False
        dialogue = bench.worker()
        await dialogue.hears()
        dialogue.say(fetch(1, timeout=2.0))
        await asyncio.sleep(1.9)
        assert await dialogue.hears() == []
        await asyncio.sleep(0.2)
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Failed)
        assert answer.code == "request_timeout"
        assert "cancel select 1" in bench.sessions[0].history
        await bench.drained()

    run(story())


def test_an_id_that_is_in_use_is_refused_and_the_first_goes_on() -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = False
        dialogue = bench.worker()
        await dialogue.hears()
        dialogue.say(fetch(1), fetch(1, "select 2"))
        (refusal,) = await dialogue.hears()
        assert isinstance(refusal, Failed)
        assert (refusal.id, refusal.code) == (None, "protocol")
        bench.sessions[0].end()
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Rows)
        await bench.drained()

    run(story())


def test_a_lost_worker_is_told_nothing_more_and_its_statement_is_cancelled() -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = False
        dialogue = bench.worker()
        dialogue.say(fetch(1))
        await turns()
        dialogue.peer.closed = True
        bench.conductor.dialogue.disconnected(dialogue.peer, "its link was closed")
        await turns()
        assert "cancel select 1" in bench.sessions[0].history
        assert bench.conductor.pool.roster.all() == []
        await bench.drained()

    run(story())


# --- the statement lane -------------------------------------------------------------------------------------


def by_itself(session: FakeSession) -> None:
    """The session answers what comes down the lane: each statement with a row of its place among all."""
    loop, place = asyncio.get_running_loop(), 0

    def write(data: bytes) -> None:
        nonlocal place
        said = b""
        for kind, _ in split(data):
            if kind == "P":
                said += described()
            elif kind == "B":
                place += 1
                said += ran(row_of(place))
        loop.call_soon(session.transport.protocol.data_received, said)

    session.transport.write = write  # type: ignore[method-assign]  # of this one


async def lane(**pool: float | str) -> tuple[Bench, Dialogue, FakeSession]:
    """A pool of one connection with a statement lane, and a worker."""
    bench = Bench(**{"statement_lane": "on", "min_size": 1, "max_size": 1, **pool})
    dialogue = bench.worker()
    await dialogue.hears()
    (session,) = bench.sessions
    return bench, dialogue, session


def values(message: Message) -> list[list[int]]:
    assert isinstance(message, Rows | Part)
    found: list[list[int]] = msgspec.msgpack.decode(message.data)
    return found


def test_statements_of_many_workers_travel_down_one_lane_and_each_gets_its_own_rows() -> None:
    async def story() -> None:
        bench, first, session = await lane()
        by_itself(session)
        second = bench.worker()
        await second.hears()
        heard: list[list[Message]] = [[], []]
        for turn in range(3):
            for dialogue in (first, second):
                dialogue.say(*(fetch(10 * turn + each) for each in range(10)))
            await turns(100)
            for each, dialogue in enumerate((first, second)):
                heard[each] += await dialogue.hears()
        everything = [value for message in heard[0] + heard[1] for (value,) in values(message)]
        assert sorted(everything) == list(range(1, 61))
        for messages in heard:
            assert sorted(message.id for message in messages if isinstance(message, Rows)) == list(range(30))
            assert [isinstance(message, Rows) and message.columns is not None for message in messages] == [
                True,
                *[False] * 29,
            ], "the shape is told once"
        assert session.history == []
        assert bench.conductor.pool.counters["statements_pipelined"] == 60
        await bench.drained()

    run(story())


def test_a_shape_is_the_same_in_both_lanes() -> None:
    async def story() -> None:
        bench, dialogue, session = await lane()
        by_itself(session)
        session.instantly = True
        quick = await dialogue.ask(fetch(1, "select n from t"))
        assert isinstance(quick, Rows)
        assert quick.columns is not None
        token = await acquire(dialogue, 2)
        await dialogue.ask(fetch(5, "listen x", lease=token))
        session.coded = frozenset({1})  # so asyncpg runs what is prepared, too
        slow = await dialogue.ask(fetch(3, "select n from t", lease=token))
        assert isinstance(slow, Rows)
        assert slow.columns is None, "an int8, which was told before"
        dialogue.say(Release(token))
        await turns()
        again = await dialogue.ask(fetch(4, "select n from t"))
        assert isinstance(again, Rows)
        assert (again.shape, again.columns) == (quick.shape, None)
        await bench.drained()

    run(story())


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65535, 65536])
def test_any_number_of_rows_is_a_whole_message(count: int) -> None:
    async def story() -> None:
        bench, dialogue, session = await lane()
        dialogue.say(fetch(1))
        await turns()
        session.transport.protocol.data_received(described())
        await turns()
        session.transport.protocol.data_received(ran(*[row_of(7)] * count))
        await turns(100)
        *parts, answer = await dialogue.hears()
        assert bool(parts) == (count > 1000), "many rows do not come at once"
        assert [row for each in (*parts, answer) for row in values(each)] == [[7]] * count
        assert isinstance(answer, Rows)
        assert not answer.in_transaction
        await bench.drained()

    run(story())


def test_rows_of_the_lane_that_are_too_large_to_send_are_an_error_and_the_shape_is_told_with_the_next() -> None:
    async def story() -> None:
        bench = Bench(statement_lane="on", min_size=1, max_size=1)
        dialogue = bench.worker(max_frame_bytes=1024)
        await dialogue.hears()
        (session,) = bench.sessions
        dialogue.say(fetch(1))
        await turns()
        session.transport.protocol.data_received(described())
        await turns()
        session.transport.protocol.data_received(ran(*[row_of(7)] * 1000))
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Failed)
        assert answer.code == "message_too_large"
        by_itself(session)
        again = await dialogue.ask(fetch(2))
        assert isinstance(again, Rows)
        assert again.columns is not None
        await bench.drained()

    run(story())


def test_a_tag_and_an_error_come_through_the_lane() -> None:
    async def story() -> None:
        bench, dialogue, session = await lane()
        dialogue.say(execute(1, "select 1"))
        await turns()
        session.transport.protocol.data_received(described())
        await turns()
        session.transport.protocol.data_received(ran(row_of(1)))
        assert await dialogue.hears() == [Done(1, "SELECT 1")]
        dialogue.say(execute(2, "select 1"))
        await turns()
        session.transport.protocol.data_received(BOUND + error("22012", text="division by zero") + IDLE)
        (failure,) = await dialogue.hears()
        assert isinstance(failure, Failed)
        assert (failure.id, failure.error_class, failure.message) == (2, "DivisionByZeroError", "division by zero")
        await bench.drained()

    run(story())


def test_what_the_lane_cannot_run_is_answered_by_asyncpg() -> None:
    async def story() -> None:
        bench, dialogue, session = await lane()
        session.instantly = True
        dialogue.say(fetch(1))
        await turns()
        session.transport.protocol.data_received(CLOSED + error("42P01") + IDLE)
        (answer,) = await dialogue.hears()
        assert values(answer) == [[1], [2]]
        assert session.history == ["select 1"]
        assert bench.conductor.pool.counters["in_session_unprepared"] == 1
        await bench.drained()

    run(story())


def test_a_withdrawn_statement_of_the_lane_is_answered_at_once_and_cancelled() -> None:
    async def story() -> None:
        bench, dialogue, session = await lane()
        dialogue.say(fetch(1))
        await turns()
        session.transport.protocol.data_received(described())
        await turns()
        dialogue.say(Cancel(1))
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Failed)
        assert answer.code == "request_cancelled"
        assert session.cancels == 1
        session.transport.protocol.data_received(BOUND + error("57014") + IDLE)
        assert await dialogue.hears() == []
        await bench.drained()

    run(story())


def test_when_the_lanes_connection_is_lost_each_request_ends_once() -> None:
    async def story() -> None:
        bench, dialogue, session = await lane(reopen_backoff_seconds=0.1)
        by_itself(session)
        for turn in range(3):  # so it is known to be short
            await dialogue.ask(fetch(100 + turn))
        session.transport.write = lambda data: None  # type: ignore[method-assign]  # of this one
        dialogue.say(*(fetch(each) for each in range(5)))
        await turns()
        session.transport.protocol.data_received(BOUND + fatal())
        session.lose()
        await asyncio.sleep(1.0)
        by_itself(bench.sessions[1])
        (failure,) = await dialogue.hears()
        assert isinstance(failure, Failed)
        assert (failure.id, failure.error_class) == (0, "AdminShutdownError")
        bench.sessions[1].transport.protocol.data_received(described())
        await turns(100)
        again = await dialogue.hears()
        assert sorted(message.id for message in again if isinstance(message, Rows)) == [1, 2, 3, 4]
        await bench.drained()

    run(story())


# --- leases -------------------------------------------------------------------------------------------------


async def acquire(dialogue: Dialogue, id: int = 1, ttl: float | None = None) -> Token:
    answer = await dialogue.ask(Acquire(id, EPOCH, None, ttl))
    assert isinstance(answer, Granted)
    return answer.lease


def test_a_lease_is_granted_used_and_released() -> None:
    async def story() -> None:
        bench = Bench(max_size=1)
        dialogue = bench.worker()
        granted = await dialogue.ask(Acquire(1, EPOCH, None, 12.5))
        assert isinstance(granted, Granted)
        assert (granted.ttl, granted.backend_pid, granted.waited) == (12.5, 1000, 0.0)
        bench.sessions[0].in_transaction = True
        assert await dialogue.ask(execute(2, "begin", lease=granted.lease)) == Done(2, "DONE", True)
        dialogue.say(Release(granted.lease))
        await turns()
        assert bench.sessions[0].history == ["begin", "renew"]
        answer = await dialogue.ask(execute(3, "x", lease=granted.lease))
        assert isinstance(answer, Failed)
        assert answer.code == "lease_lost"
        await bench.drained()

    run(story())


def test_a_lease_does_one_thing_at_a_time_and_says_so_in_asyncpgs_words() -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = False
        dialogue = bench.worker()
        token = await acquire(dialogue)
        bench.sessions[0].in_transaction = True
        dialogue.say(execute(2, "first", lease=token))
        await turns()
        busy = await dialogue.ask(execute(3, "second", lease=token))
        assert isinstance(busy, Failed)
        assert (busy.id, busy.error_class) == (3, "InterfaceError")
        assert busy.message == "cannot perform operation: another operation is in progress"
        assert busy.in_transaction, "the lease is where it was"
        bench.sessions[0].end()
        assert await dialogue.hears() == [Done(2, "DONE", True)]
        await bench.drained()

    run(story())


def test_a_lease_without_a_heartbeat_expires_and_its_owner_is_told() -> None:
    async def story() -> None:
        bench = Bench(lease_ttl_seconds=6.0)
        dialogue = bench.worker()
        token = await acquire(dialogue)
        for _ in range(3):
            await asyncio.sleep(5.0)
            dialogue.say(Heartbeat([token]))
        assert await dialogue.hears() == []
        await asyncio.sleep(7.0)
        (end,) = await dialogue.hears()
        assert isinstance(end, LeaseEnded)
        assert (end.lease, end.code) == (token, "lease_expired")
        assert bench.sessions[0].history == []
        await bench.drained()

    run(story())


def test_the_wait_for_a_lease_is_told_with_it() -> None:
    async def story() -> None:
        bench = Bench(max_size=1)
        first, second = bench.worker(), bench.worker()
        token = await acquire(first, ttl=100.0)
        await second.hears()
        second.say(Acquire(1, EPOCH, None))
        await asyncio.sleep(4.0)
        first.say(Release(token))
        (granted,) = await second.hears()
        assert isinstance(granted, Granted)
        assert granted.waited == pytest.approx(4.0)
        await bench.drained()

    run(story())


def test_a_silent_worker_on_tcp_loses_its_lease_and_its_link() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker(road="tcp")
        await acquire(dialogue, ttl=1000.0)
        await asyncio.sleep(11.0)
        assert dialogue.peer.closed
        assert "nothing was heard of it" in dialogue.peer.ends[0]
        assert bench.sessions[0].history == []
        await bench.drained()

    run(story())


def test_a_lost_connection_ends_its_lease() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        token = await acquire(dialogue)
        bench.sessions[0].lose()
        (end,) = await dialogue.hears()
        assert isinstance(end, LeaseEnded)
        assert (end.lease, end.code) == (token, "lease_lost")
        await bench.drained()

    run(story())


# --- administration -----------------------------------------------------------------------------------------


def test_status_tells_the_state_of_the_pool() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        await dialogue.ask(fetch(1))
        answer = await dialogue.ask(Status(2, EPOCH, None))
        assert isinstance(answer, StatusReport)
        assert (answer.status.epoch, answer.status.idle, answer.status.size) == (EPOCH, 1, 1)
        assert [worker.label for worker in answer.status.workers] == ["tester"]
        await bench.drained()

    run(story())


def test_expire_replaces_every_connection() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        await dialogue.ask(fetch(1))
        assert await dialogue.ask(Expire(2, EPOCH, None)) == Done(2)
        await turns()
        assert bench.sessions[0].history[-1] == "close"
        await dialogue.ask(fetch(3))
        assert len(bench.sessions) == 2
        await bench.drained()

    run(story())


def test_goodbye_ends_the_link_and_what_follows_in_the_frame_is_not_done() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        await dialogue.hears()
        dialogue.say(Bye(), fetch(1))
        assert await dialogue.hears() == []
        assert dialogue.peer.said_goodbye
        assert dialogue.peer.closed
        assert bench.sessions == []
        bench.conductor.dialogue.disconnected(dialogue.peer, "closed")
        assert bench.conductor.pool.counters["workers_lost"] == 0

    run(story())


# --- what cannot be understood ------------------------------------------------------------------------------


def test_a_malformed_message_costs_only_its_own_request() -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        await dialogue.hears()
        malformed = msgspec.msgpack.encode(["fetch", 1, EPOCH, None, 5])
        parts = [malformed, wire.encode_message(fetch(2)), msgspec.msgpack.encode(["nonsense"])]
        bench.conductor.dialogue.frame(dialogue.peer, wire.join(parts))
        answers = await dialogue.hears()
        failures = [answer for answer in answers if isinstance(answer, Failed)]
        assert [(failure.id, failure.code) for failure in failures] == [(1, "protocol"), (None, "protocol")]
        assert [answer.id for answer in answers if isinstance(answer, Rows)] == [2]
        await bench.drained()

    run(story())


@pytest.mark.parametrize("ttl", [0, -1.0, float("nan")])
def test_an_impossible_ttl_is_refused_to_its_request(ttl: float) -> None:
    async def story() -> None:
        bench = Bench()
        answer = await bench.worker().ask(Acquire(4, EPOCH, None, ttl))
        assert isinstance(answer, Failed)
        assert (answer.id, answer.code) == (4, "protocol")

    run(story())


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"GET / HTTP/1.1"])
def test_a_frame_that_is_none_is_refused_and_the_link_goes_on(garbage: bytes) -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        await dialogue.hears()
        bench.conductor.dialogue.frame(dialogue.peer, garbage)
        (refusal,) = await dialogue.hears()
        assert isinstance(refusal, Failed)
        assert (refusal.id, refusal.code) == (None, "protocol")
        assert isinstance(await dialogue.ask(fetch(1)), Rows)
        await bench.drained()

    run(story())


def test_a_flood_of_malformed_messages_is_counted_and_seldom_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench()
        dialogue = bench.worker()
        for _ in range(100):
            bench.conductor.dialogue.frame(dialogue.peer, b"\xc1")
        assert bench.conductor.pool.counters["malformed_messages"] == 100

    with caplog.at_level(logging.WARNING, "pgactor.conductor"):
        run(story())
    assert [record.args[0] for record in caplog.records if record.args] == [1, 2, 4, 8, 16, 32, 64]  # type: ignore[index]
    assert "tester (pid 99)" in caplog.text


# --- PostgreSQL is not there --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.InvalidCatalogNameError("database does not exist"),
        ConfigError("the connection settings cannot be parsed"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_refusal_that_waiting_does_not_mend_is_told_at_once(refusal: Exception) -> None:
    async def story() -> None:
        bench = Bench()
        bench.refusal = refusal
        dialogue = bench.worker()
        answer = await dialogue.ask(fetch(1))
        assert isinstance(answer, Failed)
        assert answer.code == "database_unavailable"
        assert str(refusal) in answer.message
        await bench.drained()

    run(story())


def test_a_database_that_is_down_for_a_while_is_awaited() -> None:
    async def story() -> None:
        bench = Bench()
        bench.refusal = ConnectionRefusedError(111, "Connection refused")
        dialogue = bench.worker()
        await dialogue.hears()
        dialogue.say(fetch(1))
        await asyncio.sleep(1.0)
        assert await dialogue.hears() == []
        bench.refusal = None
        await asyncio.sleep(6.0)
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Rows)
        await bench.drained()

    run(story())


# --- the end ------------------------------------------------------------------------------------------------


def test_a_drain_lets_work_in_progress_end() -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = False
        dialogue = bench.worker()
        await dialogue.hears()
        dialogue.say(fetch(1))
        await turns()
        drain = asyncio.create_task(bench.conductor.drain(100.0))
        await asyncio.sleep(50.0)
        refused = await dialogue.ask(fetch(2))
        assert isinstance(refused, Failed)
        assert refused.code == "pool_closing"
        bench.sessions[0].end()
        await drain
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Rows)
        assert bench.sessions[0].closed

    run(story())


def test_a_drain_that_takes_too_long_ends_what_is_left() -> None:
    async def story() -> None:
        bench = Bench()
        bench.instantly = False
        dialogue = bench.worker()
        await dialogue.hears()
        dialogue.say(fetch(1))
        await turns()
        await bench.conductor.drain(3.0)
        (answer,) = await dialogue.hears()
        assert isinstance(answer, Failed)
        assert answer.code == "outcome_unknown"
        assert bench.sessions[0].closed

    run(story())


def test_a_session_that_does_not_close_does_not_hold_the_drain_up() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.worker().ask(fetch(1))
        bench.sessions[0].closes = False
        await bench.conductor.drain(1.0)
        assert bench.sessions[0].closed
        assert bench.sessions[0].history[-1] == "terminate"

    run(story())


def test_no_life_of_the_supervisor_has_the_number_of_an_earlier_one() -> None:
    assert 0 < new_epoch() < 1 << 62
    assert new_epoch() <= new_epoch()
