"""One session and its mailbox, whatever happens to either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import asyncpg
import msgspec
import pytest

from pgactor.actors.backend import Backend
from pgactor.actors.group import Group
from pgactor.actors.hooks import Setup
from pgactor.actors.lane import Lane
from pgactor.actors.reports import Answer
from pgactor.actors.rest import CLOSE_SECONDS
from pgactor.actors.session import Session
from pgactor.actors.shapes import Shape, ShapeTable
from pgactor.config import Settings
from pgactor.core.holder import Holder
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.messages import Done, Execute, ExecuteMany, Failed, Fetch, FetchMany, Rows
from pgactor.messages.unions import StatementRequest
from tests.client.virtual import now, run, turns

from .scripts import BOUND, CLOSED, IDLE, INET, NO_DATA, described, error, fatal, gives, ran, spoken
from .scripts import number as row_of
from .sessions import COLUMNS, FakeSession

RESET_TIMEOUT = 5.0
WORKER = Worker(1, now=0.0, link=SimpleNamespace(max_frame_bytes=1 << 20))


class Recorder:
    """Who hears of what happens."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.replies: list[Answer] = []
        self.shapes: list[Shape | None] = []
        self.error: BaseException | None = None

    def opened(self, backend: Backend) -> None:
        self.heard.append(f"opened {backend.pid}")

    def open_failed(self, backend: Backend, error: BaseException) -> None:
        self.heard.append("open_failed")
        self.error = error

    def answer(self, request: Request, reply: Answer, shape: Shape | None) -> None:
        self.heard.append(f"answer {request.id}")
        self.replies.append(reply)
        self.shapes.append(shape)

    def schema_changed(self) -> None:
        self.heard.append("schema_changed")

    def finished(self, backend: Backend, request: Request, touched: bool) -> None:
        self.heard.append(f"finished {request.id}{' touched' if touched else ''}")

    def unrun(self, backend: Backend, request: Request) -> None:
        self.heard.append(f"unrun {request.id}")

    def part(self, request: Request, shape: Shape, rows: bytes, go_on: Callable[[], object]) -> bool:
        self.heard.append(f"part {request.id}")
        return True

    def rows(self, request: Request, shape: Shape, rows: list[bytes]) -> None:
        self.heard.append(f"rows {request.id}")

    def tag(self, request: Request, tag: bytes) -> None:
        self.heard.append(f"tag {request.id}")

    def failed(self, request: Request, error: Exception) -> None:
        self.heard.append(f"failed {request.id}")

    def results(self, request: Request, group: Group) -> None:
        self.heard.append(f"results {request.id}")

    def came_back(self, backend: Backend, requests: list[Request]) -> None:
        self.heard += [f"came_back {request.id}" for request in requests]

    def diverted(self, backend: Backend, request: Request) -> None:
        self.heard.append(f"diverted {request.id}")
        request.work = None
        backend.run(request)

    def spoiled(self, backend: Backend) -> None:
        self.heard.append("spoiled")

    def set_up(self, backend: Backend, setup: Setup, error: Exception | None) -> None:
        self.heard.append(f"set_up {setup.request.id}{'' if error is None else f': {error}'}")

    def reset_done(self, backend: Backend) -> None:
        self.heard.append("reset_done")

    def closed(self, backend: Backend) -> None:
        self.heard.append("closed")

    def gone(self, backend: Backend, reason: str) -> None:
        self.heard.append(f"gone: {reason}")


class Bench:
    """A backend, its session and who hears of them."""

    def __init__(self, connect: Callable[[], Awaitable[Session]] | None = None) -> None:
        self.session = FakeSession()
        self.recorder = Recorder()
        self.counters: dict[str, int] = {}
        self.lane = Lane(Settings(awake_seconds=0.0), ShapeTable(), self.counters)
        self.backend = Backend(
            Holder(3),
            connect=connect or self._connect,
            reports=self.recorder,
            shapes=ShapeTable(),
            reset_timeout=RESET_TIMEOUT,
            lane=self.lane,
            max_bytes=1 << 20,
        )

    async def _connect(self) -> Session:
        return self.session.as_session()

    @classmethod
    async def opened(cls) -> Bench:
        """One whose session is open."""
        bench = cls()
        await turns()
        assert bench.heard() == ["opened 4242"]
        return bench

    def heard(self) -> list[str]:
        """What was heard since it was last asked."""
        heard, self.recorder.heard = self.recorder.heard, []
        return heard

    def run(self, id: int, payload: StatementRequest | None = None) -> Request:
        """Give it a statement."""
        message = payload or Execute(id, 7, None, f"statement {id}")
        request = Request(WORKER, id, Kind.STATEMENT, 0.0, payload=message)
        self.backend.run(request)
        return request

    def pipe(self, id: int, sql: str = "select a from t") -> Request:
        """Give it a statement that the lane admits."""
        request = Request(WORKER, id, Kind.STATEMENT, 0.0, self.lane.statements.get(sql), Fetch(id, 7, None, sql))
        self.lane.admit(request)
        assert request.work is not None
        self.backend.run(request)
        return request

    async def says(self, data: bytes) -> None:
        """PostgreSQL says something on the lent connection."""
        await turns()
        self.session.transport.protocol.data_received(data)
        await turns()

    @property
    def reply(self) -> Answer:
        return self.recorder.replies[-1]

    async def is_over(self) -> bool:
        """Whether its task has ended, and nothing is open any more."""
        await turns()
        return self.backend.task.done() and self.session.closed


# --- opening ------------------------------------------------------------------------------------------------


def test_a_failed_open_is_reported_with_its_error() -> None:
    async def refuse() -> Session:
        raise ConnectionRefusedError(111, "connection refused")

    async def story() -> None:
        bench = Bench(refuse)
        await turns()
        assert bench.heard() == ["open_failed"]
        assert isinstance(bench.recorder.error, ConnectionRefusedError)
        assert bench.backend.task.done()

    run(story())


def test_closing_while_it_opens_gives_the_attempt_up() -> None:
    async def never() -> Session:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def story() -> None:
        bench = Bench(never)
        await turns()
        bench.backend.close()
        await turns()
        assert bench.heard() == ["closed"]
        assert bench.backend.task.cancelled()

    run(story())


def test_closing_before_it_has_begun_to_open_never_connects() -> None:
    async def story() -> None:
        bench = Bench()
        bench.backend.close()
        await turns()
        assert bench.heard() == ["closed"]
        assert bench.backend.pid == 0

    run(story())


def test_a_failure_to_open_while_it_is_closed_ends_as_closed() -> None:
    async def story() -> None:
        failing = asyncio.get_running_loop().create_future()
        bench = Bench(lambda: failing)
        await turns()
        failing.set_exception(ConnectionRefusedError(111, "connection refused"))
        bench.backend.close()
        await turns()
        assert bench.heard()[-1] == "closed"

    run(story())


# --- statements ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status"),
    [(Execute(1, 7, None, "x"), "UPDATE 3"), (ExecuteMany(1, 7, None, "x", [[1]]), None)],
    ids=lambda each: type(each).__name__,
)
def test_a_statement_without_rows_is_done(message: StatementRequest, status: str | None) -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1, message)
        await turns()
        bench.session.end("UPDATE 3")
        await turns()
        assert bench.heard() == ["answer 1", "finished 1"]
        assert bench.reply == Done(1, status)
        assert bench.recorder.shapes == [None]

    run(story())


@pytest.mark.parametrize(
    ("message", "rows"),
    [
        (Fetch(1, 7, None, "x"), [[1], [2]]),
        (Fetch(1, 7, None, "x", [], 1), [[1]]),
        (FetchMany(1, 7, None, "x", [[1], [2]]), [[1], [2], [1], [2]]),
    ],
    ids=["fetch", "fetch of one", "fetchmany"],
)
def test_a_statement_with_rows_brings_them_and_their_shape(message: StatementRequest, rows: list[list[int]]) -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1, message)
        await turns()
        bench.session.end()
        await turns()
        assert bench.heard() == ["answer 1", "finished 1"]
        assert isinstance(bench.reply, Rows)
        assert msgspec.msgpack.decode(bench.reply.data) == rows
        (shape,) = bench.recorder.shapes
        assert shape is not None
        assert shape.columns == list(COLUMNS)
        assert bench.reply.shape == shape.number
        assert bench.reply.columns is None, "whether the worker knows them is not the backend's to know"

    run(story())


def test_statements_run_one_after_another() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        for number in (1, 2, 3):
            bench.run(number)
        for number in (1, 2, 3):
            await turns()
            assert bench.session.history == [f"statement {each}" for each in range(1, number + 1)]
            bench.session.end()
        await turns()
        assert bench.heard() == [f"{what} {number}" for number in (1, 2, 3) for what in ("answer", "finished")]

    run(story())


def test_a_failed_statement_is_answered_and_the_session_goes_on() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        await turns()
        bench.session.end(asyncpg.UniqueViolationError("twice"))
        await turns()
        assert bench.heard() == ["answer 1", "finished 1"]
        assert isinstance(bench.reply, Failed)
        assert (bench.reply.id, bench.reply.error_class) == (1, "UniqueViolationError")
        bench.run(2)
        await turns()
        assert bench.session.runs

    run(story())


def test_a_statement_that_leaves_a_transaction_open_is_reported_as_touched() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        assert not bench.backend.in_transaction
        bench.run(1)
        await turns()
        bench.session.in_transaction = True
        bench.session.end()
        await turns()
        assert bench.heard() == ["answer 1", "finished 1 touched"]
        assert bench.reply == Done(1, "DONE", True)
        assert bench.backend.in_transaction

    run(story())


def test_a_failure_inside_a_transaction_says_so() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.in_transaction = True
        bench.run(1)
        await turns()
        bench.session.end(asyncpg.UniqueViolationError("twice"))
        await turns()
        assert isinstance(bench.reply, Failed)
        assert bench.reply.in_transaction

    run(story())


def test_rows_that_cannot_cross_fail_only_their_statement() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.rows_found = [(1 << 70,)]
        bench.run(1, Fetch(1, 7, None, "x"))
        await turns()
        bench.session.end()
        await turns()
        assert bench.heard() == ["answer 1", "finished 1"]
        assert isinstance(bench.reply, Failed)
        assert bench.reply.code == "unsupported_type"

    run(story())


# --- interruptions ------------------------------------------------------------------------------------------


def test_a_statement_that_is_interrupted_before_it_begins_never_runs() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        second = bench.run(2)
        await turns()
        bench.backend.interrupt(second)
        await turns()
        assert bench.heard() == ["finished 2"]
        bench.session.end()
        await turns()
        assert bench.heard() == ["answer 1", "finished 1"]
        assert "statement 2" not in bench.session.history

    run(story())


def test_a_statement_that_is_interrupted_in_the_turn_that_it_was_given_never_runs() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.backend.interrupt(bench.run(1))
        await turns()
        assert bench.heard() == ["finished 1"]
        assert bench.session.history == []
        bench.run(2)
        await turns()
        assert bench.session.runs

    run(story())


def test_a_statement_that_is_interrupted_while_it_runs_is_cancelled_and_not_answered() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        request = bench.run(1)
        await turns()
        bench.backend.interrupt(request)
        bench.backend.interrupt(request)
        await turns()
        assert bench.session.history[:3] == ["statement 1", "cancel statement 1", "quiet"]
        assert bench.heard() == ["finished 1"]
        bench.run(2)
        await turns()
        assert bench.session.runs

    run(story())


def test_an_interruption_that_comes_too_late_changes_nothing() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        request = bench.run(1)
        await turns()
        bench.session.end()
        await turns()
        bench.backend.interrupt(request)
        bench.run(2)
        await turns()
        assert bench.heard() == ["answer 1", "finished 1"]
        assert bench.session.runs

    run(story())


def test_an_interruption_in_the_turn_that_the_statement_ends_harms_no_other() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        request = bench.run(1)
        bench.run(2)
        await turns()
        bench.session.end()
        bench.backend.interrupt(request)
        await turns()
        assert bench.heard()[-1] == "finished 1"
        assert bench.session.history[-1] == "statement 2"
        bench.session.end()
        await turns()
        assert bench.heard() == ["answer 2", "finished 2"]

    run(story())


def test_a_cancel_that_is_not_quiet_in_time_costs_the_connection() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.quiets = False
        request = bench.run(1)
        await turns()
        bench.run(2)
        begun = now()
        bench.backend.interrupt(request)
        await bench.backend.task
        assert now() - begun == RESET_TIMEOUT
        heard = bench.heard()
        assert heard[0] == "unrun 2"
        assert heard[1].startswith("gone: ")
        assert await bench.is_over()
        assert "terminate" in bench.session.history

    run(story())


# --- resets -------------------------------------------------------------------------------------------------


def test_a_reset_renews_the_session() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.backend.reset()
        await turns()
        assert bench.heard() == ["reset_done"]
        assert bench.session.history == ["renew"]

    run(story())


def test_a_reset_while_a_statement_runs_cancels_it_first() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        await turns()
        bench.backend.reset()
        await turns()
        assert bench.heard() == ["finished 1", "reset_done"]
        assert bench.session.history[:3] == ["statement 1", "cancel statement 1", "quiet"]
        assert bench.session.history[-1] == "renew"

    run(story())


def test_a_reset_before_a_statement_begins_takes_it_out_of_the_mailbox() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        bench.backend.reset()
        await turns()
        assert sorted(bench.heard()) == ["finished 1", "reset_done"]
        assert bench.session.history == ["renew"]

    run(story())


def test_a_reset_that_takes_too_long_costs_the_connection() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.renews = False
        begun = now()
        bench.backend.reset()
        await bench.backend.task
        assert now() - begun == RESET_TIMEOUT
        (heard,) = bench.heard()
        assert heard.startswith("gone: ")
        assert await bench.is_over()

    run(story())


def test_a_reset_that_fails_costs_the_connection() -> None:
    async def story() -> None:
        bench = await Bench.opened()

        async def fail() -> None:
            raise asyncpg.InsufficientPrivilegeError("not allowed")

        bench.session.renew = fail  # type: ignore[method-assign]  # of this one
        bench.backend.reset()
        await turns()
        assert bench.heard() == ["gone: InsufficientPrivilegeError: not allowed"]
        assert await bench.is_over()

    run(story())


# --- closing ------------------------------------------------------------------------------------------------


def test_an_idle_backend_closes_in_good_order() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.backend.close()
        await turns()
        assert bench.heard() == ["closed"]
        assert bench.session.history == ["close"]
        assert await bench.is_over()

    run(story())


def test_closing_while_a_statement_runs_cancels_it_first() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        await turns()
        bench.backend.close()
        await turns()
        assert bench.heard() == ["finished 1", "closed"]
        assert bench.session.history[-1] == "close"
        assert await bench.is_over()

    run(story())


def test_a_close_that_takes_too_long_is_cut_off_and_counts_as_closed() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.closes = False
        begun = now()
        bench.backend.close()
        await bench.backend.task
        assert now() - begun == CLOSE_SECONDS
        assert bench.heard() == ["closed"]
        assert bench.session.history == ["close", "terminate"]

    run(story())


def test_a_backend_whose_task_is_cancelled_leaves_no_connection_behind() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        await turns()
        bench.backend.end()
        await asyncio.gather(bench.backend.task, return_exceptions=True)
        assert bench.heard() == []
        assert "terminate" in bench.session.history
        assert await bench.is_over()

    run(story())


# --- lost connections ---------------------------------------------------------------------------------------

LOST = "gone: PostgreSQL closed the connection"


def test_a_connection_that_is_lost_while_idle_is_gone() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.lose()
        await turns()
        assert bench.heard() == [LOST]
        assert await bench.is_over()

    run(story())


def test_a_statement_in_the_mailbox_of_a_lost_connection_is_given_back_unrun() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        bench.session.lose()
        await turns()
        assert bench.heard() == ["unrun 1", LOST]
        assert bench.session.history == []

    run(story())


def test_a_statement_that_comes_after_the_connection_was_lost_is_given_back_unrun() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.lose()
        bench.run(1)
        await turns()
        assert bench.heard() == ["unrun 1", LOST]

    run(story())


def test_a_statement_that_runs_when_the_connection_is_lost_has_an_unknown_outcome() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        bench.run(2)
        await turns()
        bench.session.lose()
        await turns()
        assert bench.heard() == ["answer 1", "unrun 2", LOST]
        assert isinstance(bench.reply, Failed)
        assert bench.reply.code == "outcome_unknown"
        assert await bench.is_over()

    run(story())


def test_a_statement_that_asyncpg_could_not_send_any_more_is_given_back_unrun() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.run(1)
        bench.run(2)
        await turns()
        bench.session.end(
            asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
        )
        await turns()
        assert bench.heard() == ["unrun 1", "unrun 2", LOST]
        assert await bench.is_over()

    run(story())


def test_a_connection_that_is_lost_while_it_is_reset_is_gone_once() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.renews = False
        bench.backend.reset()
        await turns()
        bench.session.lose()
        await bench.backend.task
        (heard,) = bench.heard()
        assert heard.startswith("gone: ")

    run(story())


def test_a_connection_that_is_lost_while_it_closes_counts_as_closed() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.backend.close()
        bench.session.lose()
        await turns()
        assert bench.heard() == ["closed"]

    run(story())


# --- the statement lane -------------------------------------------------------------------------------------


def test_a_statement_that_the_lane_admits_travels_on_the_lent_connection() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        bench.pipe(2)
        await bench.says(described())
        await bench.says(ran(row_of(1)) + ran(row_of(2)))
        assert bench.heard() == ["rows 1", "rows 2", "came_back 1", "came_back 2"]
        assert bench.session.history == []
        assert bench.session.lent

    run(story())


def test_asyncpg_has_the_connection_again_when_it_is_to_run_something() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(described())
        await bench.says(ran())
        bench.run(2)
        await turns()
        assert not bench.session.lent
        assert bench.session.runs
        bench.session.end()
        await turns()
        bench.session.transport.writes.clear()
        bench.pipe(3)
        await turns()
        assert list(spoken(b"".join(bench.session.transport.writes))) == ["bind pgactor_1", "execute 0", "sync"]
        await bench.says(ran())
        assert bench.heard() == ["rows 1", "came_back 1", "answer 2", "finished 2", "rows 3", "came_back 3"]

    run(story())


def test_resets_and_closing_are_asyncpgs() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(described())
        await bench.says(ran())
        bench.backend.reset()
        await turns()
        bench.pipe(2)
        await bench.says(ran())
        bench.backend.close()
        await turns()
        assert bench.session.history == ["renew", "close"]
        assert bench.heard()[-3:] == ["rows 2", "came_back 2", "closed"]
        assert await bench.is_over()

    run(story())


def test_what_the_lane_cannot_run_asyncpg_runs_on_the_same_connection() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(CLOSED + error("42P01") + IDLE)
        assert bench.session.runs
        bench.session.end()
        await turns()
        assert bench.heard() == ["diverted 1", "answer 1", "finished 1"]

    run(story())


def test_types_that_nothing_is_known_of_are_looked_up_when_asyncpg_runs_something() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.types = [(70000, "mood", "e", 0)]
        bench.pipe(1)
        await bench.says(described(columns=gives(70000)))
        assert bench.session.history == ["types", "select a from t"]
        assert bench.lane.wanted == set()
        bench.session.end()
        await turns()
        assert bench.heard() == ["diverted 1", "answer 1", "finished 1"]
        bench.pipe(2)
        await bench.says(described(columns=gives(70000), closed=2))
        await bench.says(ran())
        assert bench.heard() == ["rows 2", "came_back 2"]

    run(story())


def test_an_interruption_while_types_are_looked_up_is_an_interruption() -> None:
    async def story() -> None:
        bench = await Bench.opened()

        async def never(oids: list[int]) -> list[tuple[int, str, str, int]]:
            await asyncio.get_running_loop().create_future()
            return []

        bench.session.types_of = never  # type: ignore[method-assign]  # of this one
        request = bench.pipe(1)
        await bench.says(described(columns=gives(70000)))
        bench.backend.interrupt(request)
        await turns()
        assert bench.heard() == ["diverted 1", "finished 1"]
        assert not bench.backend.task.done()

    run(story())


def test_a_database_whose_texts_are_not_utf8_has_no_statement_lane() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.session.utf8 = False
        bench.pipe(1)
        await turns()
        assert bench.session.runs
        assert bench.heard() == ["diverted 1"]
        late = Request(WORKER, 2, Kind.STATEMENT, 0.0, bench.lane.statements.get("select 1"), Fetch(2, 7, None, ""))
        bench.lane.admit(late)
        assert late.work is None
        assert bench.counters == {"in_session_encoding": 1}

    run(story())


def test_what_runs_in_the_lane_is_interrupted_by_a_cancel_request() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(described())
        await bench.says(ran())
        request = bench.pipe(2)
        await turns()
        request.answered = True
        bench.backend.interrupt(request)
        await turns()
        assert bench.session.cancels == 1
        await bench.says(BOUND + error("57014") + IDLE)
        assert bench.heard()[-1] == "came_back 2"

    run(story())


def test_a_reset_in_the_turn_that_a_cancel_is_over_has_the_connection() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(described())
        await bench.says(ran())
        cancelled = asyncio.Event()
        bench.session.cancel_running = cancelled.wait  # type: ignore[method-assign,assignment]  # of this one
        request = bench.pipe(2)
        await turns()
        request.answered = True
        bench.backend.interrupt(request)
        await bench.says(BOUND + error("57014") + IDLE)
        cancelled.set()
        bench.backend.reset()
        await turns()
        assert bench.session.history == ["renew"]
        assert bench.heard()[-2:] == ["came_back 2", "reset_done"]

    run(story())


@pytest.mark.parametrize("goodbye", [b"", fatal()], ids=["bare", "orderly"])
def test_a_connection_that_is_lost_while_it_is_lent_is_gone(goodbye: bytes) -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(described())
        bench.pipe(2)
        bench.pipe(3)
        await bench.says(BOUND + goodbye)
        bench.session.lose()
        bench.pipe(4)
        await turns()
        if goodbye:
            assert bench.heard() == ["failed 1", "unrun 2", "unrun 3", "unrun 4", LOST]
        else:
            assert bench.heard() == ["unrun 4", LOST]
        assert await bench.is_over()

    run(story())


def test_a_doubt_costs_the_connection() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(described())
        bench.pipe(2)
        await bench.says(IDLE)
        assert bench.heard() == [LOST]
        assert bench.session.transport.aborted
        assert await bench.is_over()

    run(story())


def test_a_lent_connection_whose_backend_is_ended_is_ended() -> None:
    async def story() -> None:
        bench = await Bench.opened()
        bench.pipe(1)
        await bench.says(described(columns=NO_DATA))
        bench.backend.task.cancel()
        await asyncio.gather(bench.backend.task, return_exceptions=True)
        await turns()
        assert bench.session.transport.aborted
        assert await bench.is_over()

    run(story())


@pytest.mark.parametrize("first", [True, False], ids=["the first", "another"])
def test_a_statement_for_the_lane_of_a_connection_that_was_lost_is_given_back_unrun(first: bool) -> None:
    async def story() -> None:
        bench = await Bench.opened()
        if not first:
            bench.pipe(1)
            await bench.says(described(columns=gives(INET)))
            bench.session.end()
            await turns()
            bench.heard()
        bench.session.lose()
        bench.pipe(2, "select b from t")
        await turns()
        assert bench.heard() == ["unrun 2", LOST]

    run(story())
