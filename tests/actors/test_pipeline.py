"""The statement lane on one backend, against a PostgreSQL by script."""

from __future__ import annotations

import asyncio
import logging
from datetime import date

import pytest

from pgactor.actors.cancelling import SOON_SECONDS
from pgactor.actors.connection import WINDOW
from pgactor.actors.lending import AGAIN_SECONDS
from pgactor.actors.pgwire import Field
from pgactor.actors.prepared import MAX_ATTEMPTS
from pgactor.core.request import Request
from pgactor.messages import Batch, ExecuteMany
from tests.client.virtual import now, pass_by, run, turns

from .scripts import (
    BOUND,
    CLOSED,
    DATE,
    EMPTY,
    IDLE,
    INET,
    INT4,
    INT8,
    NO_DATA,
    NOTICE,
    NOTIFICATION,
    NUMERIC,
    PARAMETER,
    PARSED,
    PATIENCE,
    SUSPENDED,
    TEXT,
    Bench,
    described,
    error,
    fatal,
    fields,
    gives,
    message,
    number,
    played,
    ran,
    row,
    same_however_cut,
    tag,
    takes,
)

A, B, C = "select a from t", "select b from t", "select c from t"
PLUS = "select a from t where b = $1"
INSERT = "insert into t values (1)"
LOST = error("26000", routine="FetchPreparedStatement")
CHANGED = error("0A000", routine="RevalidateCachedQuery")
CANCELED = error("57014", routine="ProcessInterrupts")
FAILS = error("22012", routine="int4div")


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's clock is the loop's."""
    for module in ("cancelling", "flight", "turn"):
        monkeypatch.setattr(f"pgactor.actors.{module}.monotonic", now)


# --- sending ------------------------------------------------------------------------------------------------


def test_a_statement_is_described_before_it_first_runs() -> None:
    async def story() -> None:
        bench = Bench()
        bench.fetch(A)
        assert bench.reads() == [], "not before the turn has ended"
        await turns()
        assert bench.reads() == ["close pgactor_1", f"parse pgactor_1: {A}", "describe pgactor_1", "sync"]
        await bench.feed(described())
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"]
        await bench.feed(ran(number(7)))
        assert bench.events == [("rows", 1, [[7]])]
        assert bench.is_over()

    run(story())


def test_what_is_described_is_bound_at_once_and_what_is_sent_in_one_turn_leaves_with_one_write() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        await bench.knows(B)
        bench.fetch(A)
        bench.fetch(B)
        bench.fetch(A, limit=1)
        await turns()
        assert len(bench.transport.writes) == 1
        assert bench.reads() == [
            *("bind pgactor_1", "execute 0", "sync"),
            *("bind pgactor_2", "execute 0", "sync"),
            *("bind pgactor_1", "execute 1", "sync"),
        ]

    run(story())


def test_a_statement_that_many_ask_for_is_described_once() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(5):
            bench.fetch(A)
        await turns()
        assert bench.reads() == ["close pgactor_1", f"parse pgactor_1: {A}", "describe pgactor_1", "sync"]
        bench.fetch(A)  # while it is described
        await bench.feed(described())
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"] * 6
        for value in range(6):
            await bench.feed(ran(number(value)))
        assert bench.events == [("rows", value + 1, [[value]]) for value in range(6)]
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_statement_that_was_described_since_its_request_came_is_not_described_again() -> None:
    async def story() -> None:
        bench = Bench()
        first, second = (bench.lane, bench.lane)
        assert first is second
        bench.fetch(A)
        late = Request(bench.worker, 99, bench.sent[0].kind, 0.0, bench.statement(A), bench.sent[0].payload)
        bench.lane.admit(late)
        assert late.work[1] is None
        await bench.feed(described())
        await bench.feed(ran())
        bench.reads()
        bench.sent.append(late)
        bench.pipeline.send(late)
        await turns()
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"]
        await bench.feed(ran(number(1)))
        assert bench.is_over()

    run(story())


def test_arguments_that_turn_out_not_to_be_quick_are_diverted() -> None:
    async def story(bench: Bench) -> None:
        bench.fetch(PLUS, 1)
        bench.fetch(PLUS, "one")
        bench.fetch(PLUS, 2)
        await bench.feed(described(parameters=(INT4,)))
        await bench.feed(ran(number(1)) + ran(number(2)))
        assert bench.events == [("diverted", 2), ("rows", 1, [[1]]), ("rows", 3, [[2]])]
        assert bench.counters == {"in_session_arguments": 1}
        assert bench.is_over()

    run(same_however_cut(story))


def test_types_that_are_not_quick_are_diverted_and_unknown_ones_wanted() -> None:
    async def story(bench: Bench) -> None:
        bench.fetch(A)
        bench.fetch(B)
        await bench.feed(described(columns=gives(INET)))
        await bench.feed(described(columns=gives(INT4, 70000)))
        assert bench.events == [("diverted", 1), ("diverted", 2)]
        assert bench.lane.wanted == {70000}
        assert bench.counters == {"in_session_types": 2}
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_statement_that_cannot_be_prepared_is_diverted() -> None:
    async def story(bench: Bench) -> None:
        bench.fetch(A)
        bench.fetch(A)
        await bench.feed(CLOSED + error("42P01") + IDLE)
        assert bench.events == [("diverted", 1), ("diverted", 2)]
        assert bench.counters == {"in_session_unprepared": 2}
        bench.fetch(A)  # the next one may find the table
        await bench.feed(described())
        await bench.feed(ran())
        assert bench.is_over()

    run(same_however_cut(story))


def test_several_statements_in_one_text_never_come_here_again() -> None:
    async def story() -> None:
        bench = Bench()
        bench.fetch(A)
        await bench.feed(CLOSED + error("42601") + IDLE)
        assert bench.events == [("diverted", 1)]
        assert bench.statement(A).plan.why_not == "text"
        assert bench.is_over()

    run(story())


def test_an_error_after_the_columns_of_a_description_diverts_too() -> None:
    async def story(bench: Bench) -> None:
        bench.fetch(A)
        await bench.feed(CLOSED + PARSED + takes() + gives(INT4) + error("XX000") + IDLE)
        assert bench.events == [("diverted", 1)]
        assert bench.is_over()

    run(same_however_cut(story))


def test_only_so_many_statements_are_kept_prepared_and_the_first_described_goes_first() -> None:
    async def story() -> None:
        bench = Bench(size=2)
        await bench.knows(A)
        await bench.knows(B)
        bench.fetch(A)
        bench.fetch(C)
        await turns()
        assert bench.reads() == [
            *("bind pgactor_1", "execute 0", "sync"),
            *("close pgactor_1", "close pgactor_3", f"parse pgactor_3: {C}", "describe pgactor_3", "sync"),
        ]
        await bench.feed(ran() + described(closed=2))
        await bench.feed(ran())
        bench.reads()
        bench.fetch(A)
        await turns()
        assert bench.reads()[:3] == ["close pgactor_2", "close pgactor_1", f"parse pgactor_1: {A}"]
        await bench.feed(described(closed=2))
        await bench.feed(ran())
        assert bench.is_over()

    run(story())


# --- replies ------------------------------------------------------------------------------------------------


def test_each_reply_goes_to_its_own_request() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        await bench.knows(INSERT, columns=NO_DATA)
        await bench.knows(B, columns=gives(TEXT, NUMERIC))
        bench.fetch(A)
        bench.fetch(A)
        bench.fetch(B)
        bench.execute(INSERT)
        bench.execute(A)
        bench.fetch(A, limit=2)
        bench.fetch(A, limit=2)
        bench.fetch(INSERT)
        bench.execute(INSERT)
        await bench.feed(
            ran(number(1))
            + ran()
            + ran(row(b"text", b"1.5"), row(None, None))
            + ran(said="INSERT 0 1")
            + ran(number(1), number(2))
            + BOUND
            + number(1)
            + number(2)
            + SUSPENDED
            + IDLE
            + ran(number(3))
            + ran(said="INSERT 0 0")
            + BOUND
            + EMPTY
            + IDLE
        )
        assert bench.events == [
            ("rows", 1, [[1]]),
            ("rows", 2, []),
            ("rows", 3, [["text", "1.5"], [None, None]]),
            ("tag", 4, "INSERT 0 1"),
            ("tag", 5, "SELECT 2"),
            ("rows", 6, [[1], [2]]),
            ("rows", 7, [[3]]),
            ("rows", 8, []),
            ("tag", 9, ""),
        ]
        assert bench.is_over()

    run(same_however_cut(story))


def test_rows_without_columns_are_rows() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows("select from t", columns=gives())
        bench.fetch("select from t")
        bench.execute("select from t")
        await bench.feed(ran(row(), row()) * 2)
        assert bench.events == [("rows", 1, [[], []]), ("tag", 2, "SELECT 2")]
        assert bench.is_over()

    run(same_however_cut(story))


def test_an_error_is_its_own_requests_and_nobody_elses() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(PLUS, parameters=(INT4,))
        for value in range(4):
            bench.fetch(PLUS, value)
        await bench.feed(
            ran(number(0))
            + BOUND
            + number(1)
            + FAILS  # in the middle of the rows
            + IDLE
            + error("22P02")  # at Bind
            + IDLE
            + ran(number(3))
        )
        assert bench.events == [
            ("rows", 1, [[0]]),
            ("failed", 2, "22012"),
            ("failed", 3, "22P02"),
            ("rows", 4, [[3]]),
        ]
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_reply_is_final_at_ready_for_query_only() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(INSERT, columns=NO_DATA)
        bench.execute(INSERT)
        await bench.feed(BOUND + tag("INSERT 0 1"))
        assert bench.events == []
        await bench.feed(error("23503"))  # a deferred constraint
        assert bench.events == []
        await bench.feed(IDLE)
        assert bench.events == [("failed", 1, "23503")]
        assert bench.is_over()

    run(same_however_cut(story))


@pytest.mark.parametrize("aside", [NOTICE, PARAMETER, NOTIFICATION, NOTICE + PARAMETER], ids=["N", "S", "A", "NS"])
def test_what_belongs_to_no_statement_may_come_between_any_two_messages(aside: bytes) -> None:
    async def story(bench: Bench) -> None:
        bench.fetch(A)
        said = (CLOSED, PARSED, takes(), gives(INT4), IDLE)
        await bench.feed(aside + aside.join(said) + aside)
        bench.fetch(A)
        both = (BOUND, number(1), number(2), tag("SELECT 2"), IDLE, BOUND, number(3), FAILS, IDLE)
        await bench.feed(aside + aside.join(both) + aside)
        assert bench.events == [("rows", 1, [[1], [2]]), ("failed", 2, "22012")]
        assert bench.session.passed_on == aside * 16
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_value_that_python_does_not_have_is_the_error_of_its_own_request() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A, columns=gives(DATE))
        for _ in range(3):
            bench.fetch(A)
        good = row((0).to_bytes(4, "big"))
        bad = row((2**31 - 7).to_bytes(4, "big"))
        await bench.feed(ran(good) + ran(good, bad, good, bad) + ran(good))
        assert bench.events == [
            ("rows", 1, [[date(2000, 1, 1).isoformat()]]),
            ("failed", 2, "OverflowError"),
            ("rows", 3, [["2000-01-01"]]),
        ]
        assert bench.is_over()

    run(same_however_cut(story))


def test_after_such_a_value_the_servers_own_error_counts() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A, columns=gives(DATE))
        bench.fetch(A)
        bench.fetch(A, limit=1)
        bad = row((2**31 - 7).to_bytes(4, "big"))
        await bench.feed(BOUND + bad + FAILS + IDLE + BOUND + bad + SUSPENDED + IDLE)
        assert bench.events == [("failed", 1, "22012"), ("failed", 2, "OverflowError")]
        assert bench.is_over()

    run(same_however_cut(story))


# --- the grammar --------------------------------------------------------------------------------------------

ONE = number(1)
VIOLATIONS = {
    "BindComplete is missing": ONE + tag("SELECT 1") + IDLE,
    "BindComplete is missing before the end": tag("SELECT 1") + IDLE,
    "BindComplete comes twice": BOUND + BOUND + ONE + tag("SELECT 1") + IDLE,
    "BindComplete with something in it": message("2", b"x"),
    "ParseComplete was not asked for": PARSED + ran(ONE),
    "CloseComplete was not asked for": CLOSED + ran(ONE),
    "ParameterDescription was not asked for": takes() + ran(ONE),
    "ParseComplete in the place of rows": BOUND + PARSED + ONE + tag("SELECT 1") + IDLE,
    "RowDescription was not asked for": BOUND + gives(INT4) + ONE + tag("SELECT 1") + IDLE,
    "NoData was not asked for": BOUND + NO_DATA + tag("SELECT 1") + IDLE,
    "too many columns": BOUND + row(b"\0\0\0\1", b"\0\0\0\1") + tag("SELECT 1") + IDLE,
    "no columns": BOUND + row() + tag("SELECT 1") + IDLE,
    "more in a row than its columns": BOUND + message("D", row(b"\0\0\0\1")[5:] + b"x") + tag("SELECT 1") + IDLE,
    "less in a row than its columns": BOUND + message("D", b"\0\1\0\0\0\4\0") + tag("SELECT 1") + IDLE,
    "a value of a wrong size": BOUND + row(b"abc") + tag("SELECT 1") + IDLE,
    "a row without a count": BOUND + message("D", b"") + tag("SELECT 1") + IDLE,
    "another verb": BOUND + ONE + tag("UPDATE 1") + IDLE,
    "no verb": BOUND + ONE + tag("") + IDLE,
    "a tag that does not end": BOUND + message("C", b"") + IDLE,
    "two tags": BOUND + tag("SELECT 0") + tag("SELECT 0") + IDLE,
    "rows after the tag": BOUND + tag("SELECT 1") + ONE + IDLE,
    "rows after an error": BOUND + FAILS + ONE + IDLE,
    "a tag after an error": BOUND + FAILS + tag("SELECT 0") + IDLE,
    "two errors": BOUND + FAILS + FAILS + IDLE,
    "two errors at Bind": FAILS + FAILS + IDLE,
    "BindComplete after an error": FAILS + BOUND + IDLE,
    "ReadyForQuery before BindComplete": IDLE + ran(ONE),
    "ReadyForQuery before the end": BOUND + ONE + IDLE,
    "inside a transaction": BOUND + ONE + tag("SELECT 1") + message("Z", b"T"),
    "inside a failed transaction": BOUND + FAILS + message("Z", b"E"),
    "ReadyForQuery that says nothing": BOUND + tag("SELECT 1") + message("Z"),
    "suspended, and no limit was asked for": BOUND + ONE + SUSPENDED + IDLE,
    "COPY begins": BOUND + message("H", b"\0\0\0"),
    "an answer to a password": message("R", b"\0\0\0\0"),
    "a kind that there is not": message("?") + ran(ONE),
    "zeros": b"\0" * 40,
    "a length of zero": BOUND + b"D\0\0\0\0" + ran(ONE),
    "a length that is too short": b"N\0\0\0\3" + ran(ONE),
    "a length that is negative": BOUND + b"C\xff\xff\xff\xff" + ran(ONE),
    "a length that is too long": BOUND + b"C\0\1\0\0" + ran(ONE),
    "a row that is too long": BOUND + b"D\x7f\0\0\0" + ran(ONE),
    "text of another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_reply_against_the_grammar_cuts_the_connection(violation: bytes) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        for _ in range(3):
            bench.fetch(A)
        await bench.feed(ran(number(41)) + violation + ran(number(42)) + ran(number(43)))
        assert bench.events == [("rows", 1, [[41]])]
        assert bench.is_cut()
        assert bench.unrun() == []
        assert bench.unknown() == [2, 3]

    run(same_however_cut(story))


EXECUTES = {
    "too many columns": BOUND + row(b"\0\0\0\1", b"\0\0\0\1") + tag("SELECT 1") + IDLE,
    "a row without a count": BOUND + message("D", b"") + tag("SELECT 1") + IDLE,
    "another verb": BOUND + ONE + tag("DELETE 1") + IDLE,
    "suspended": BOUND + ONE + SUSPENDED + IDLE,
}


@pytest.mark.parametrize("violation", EXECUTES.values(), ids=EXECUTES.keys())
def test_rows_that_nobody_looks_at_are_checked_too(violation: bytes) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.execute(A)
        await bench.feed(violation + ran())
        assert bench.events == []
        assert bench.is_cut()
        assert bench.unknown() == [1]

    run(same_however_cut(story))


@pytest.mark.parametrize("rows", [(row(),), (ONE,)], ids=["empty", "one"])
@pytest.mark.parametrize("how", ["fetch", "execute"])
def test_rows_for_a_statement_that_has_none_cut_the_connection(rows: tuple[bytes, ...], how: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(INSERT, columns=NO_DATA)
        getattr(bench, how)(INSERT)
        await bench.feed(ran(*rows, said="INSERT 0 1"))
        assert bench.events == []
        assert bench.is_cut()

    run(same_however_cut(story))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_suspended_statement_has_had_as_many_rows_as_were_asked_for(count: int) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.fetch(A, limit=2)
        await bench.feed(BOUND + ONE * count + SUSPENDED + IDLE)
        assert bench.events == []
        assert bench.is_cut()

    run(same_however_cut(story))


DESCRIBING_VIOLATIONS = {
    "no CloseComplete": PARSED + takes() + gives(INT4) + IDLE,
    "two CloseCompletes": CLOSED + CLOSED + PARSED + takes() + gives(INT4) + IDLE,
    "two ParseCompletes": CLOSED + PARSED + PARSED + takes() + gives(INT4) + IDLE,
    "no ParseComplete": CLOSED + takes() + gives(INT4) + IDLE,
    "BindComplete": CLOSED + PARSED + BOUND + takes() + gives(INT4) + IDLE,
    "no parameters": CLOSED + PARSED + gives(INT4) + IDLE,
    "parameters that break off": CLOSED + PARSED + message("t", b"\0\2\0\0\0\x17") + gives(INT4) + IDLE,
    "parameters that are none": CLOSED + PARSED + message("t", b"") + gives(INT4) + IDLE,
    "columns that break off": CLOSED + PARSED + takes() + message("T", gives(INT4)[5:-3]) + IDLE,
    "more than the columns": CLOSED + PARSED + takes() + message("T", gives(INT4)[5:] + b"x") + IDLE,
    "columns that are none": CLOSED + PARSED + takes() + message("T", b"") + IDLE,
    "neither columns nor none": CLOSED + PARSED + takes() + IDLE,
    "columns twice": CLOSED + PARSED + takes() + gives(INT4) + gives(INT4) + IDLE,
    "rows": CLOSED + PARSED + takes() + gives(INT4) + ONE + IDLE,
    "two errors": CLOSED + FAILS + FAILS + IDLE,
    "something after an error": CLOSED + FAILS + takes() + IDLE,
    "inside a transaction": CLOSED + PARSED + takes() + gives(INT4) + message("Z", b"T"),
    "ReadyForQuery at once": IDLE,
}


@pytest.mark.parametrize("violation", DESCRIBING_VIOLATIONS.values(), ids=DESCRIBING_VIOLATIONS.keys())
def test_a_description_against_the_grammar_cuts_the_connection_and_who_waited_for_it_did_not_run(
    violation: bytes,
) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(B)
        bench.fetch(A)
        bench.fetch(B)
        bench.fetch(A)
        await bench.feed(violation + ran(ONE))
        assert bench.events == []
        assert bench.is_cut()
        assert bench.unrun() == [1, 3]
        assert bench.unknown() == [2]

    run(same_however_cut(story))


@pytest.mark.parametrize(
    "extra", [IDLE, ONE, BOUND, tag("SELECT 1"), FAILS, message("?"), b"\0\0\0\0\0"], ids=lambda each: repr(each[:1])
)
def test_what_comes_when_nothing_was_asked_cuts_the_connection(extra: bytes) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.fetch(A)
        await bench.feed(ran(ONE) + extra)
        assert bench.events == [("rows", 1, [[1]])]
        assert bench.is_cut()
        assert (bench.unrun(), bench.unknown()) == ([], [])

    run(same_however_cut(story))


def test_after_a_cut_nothing_is_read_or_written_any_more(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        bench.fetch(A)
        await turns()
        bench.read(IDLE)
        late = bench.fetch(A)
        protocol = bench.transport.protocol
        protocol.data_received(ran(ONE))
        await turns()
        assert bench.events == []
        assert bench.unrun() == [late.id]
        assert bench.unknown() == [1, 2]
        assert bench.session.lost_with == [None], "asyncpg is told"

    with caplog.at_level(logging.ERROR):
        run(story())
    assert "backend 3 (pid 4242) is cut: 'Z' came before a statement was bound" in caplog.text


# --- large results ------------------------------------------------------------------------------------------


def large(count: int) -> list[bytes]:
    return [row(bytes([65 + index % 26]) * 1000) for index in range(count)]


def test_others_have_their_turn_between_two_windows() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        bench.fetch(A)
        bench.fetch(A)
        await turns()
        bench.read(ran(*large(200)) + ran(*large(3)))
        assert bench.transport.is_paused()
        assert bench.events == []
        for _ in range(3):
            await turns(1)
        assert [(what, number, len(rows)) for what, number, rows in bench.events] == [
            ("rows", 1, 200),
            ("rows", 2, 3),
        ]
        assert bench.transport.pauses == 3
        assert not bench.transport.is_paused()
        assert bench.is_over()

    run(story())


def test_one_message_of_more_than_a_window_is_read_when_it_is_there() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        for _ in range(3):
            bench.fetch(A)
        await turns()
        data = ran(row(b"x" * 3 * WINDOW)) + ran(row(b"y")) + ran(row(b"z" * (WINDOW + 1)))
        for at in range(0, len(data), 10_000):
            bench.read(data[at : at + 10_000])
            await turns(1)
        assert [(what, number, [[len(v) for v in each] for each in rows]) for what, number, rows in bench.events] == [
            ("rows", 1, [[3 * WINDOW]]),
            ("rows", 2, [[1]]),
            ("rows", 3, [[WINDOW + 1]]),
        ]
        assert bench.is_over()

    run(story())


def test_a_long_message_is_put_together_once() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        bench.fetch(A)
        await turns()
        data = ran(row(b"x" * 100_000))
        for at in range(0, 100_000, 100):
            bench.read(data[at : at + 100])
        assert len(bench.pipeline._connection._pieces) == 1000, "they were not joined again and again"
        await bench.feed(data[100_000:])
        assert bench.is_over()

    run(story())


@pytest.mark.parametrize("size", [1, 7, 4096, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW])
def test_a_large_result_is_the_same_in_pieces_of_any_size(size: int) -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        for _ in range(3):
            bench.fetch(A)
        await turns()
        many = large(15 if size == 1 else 300)
        data = ran(*many) + BOUND + many[0] + FAILS + IDLE + NOTICE + ran(*many[:5])
        for at in range(0, len(data), size):
            bench.read(data[at : at + size])
            while bench.transport.is_paused():
                await turns(1)
        await turns()
        assert [event[:2] for event in bench.events] == [("rows", 1), ("failed", 2), ("rows", 3)]
        assert len(bench.events[0][2]) == len(many)
        assert bench.session.passed_on == NOTICE
        assert bench.is_over()

    run(story())


def test_a_row_over_the_cap_is_an_error_and_the_connection_goes_on() -> None:
    async def story() -> None:
        for chunk in (100, 1000, 50_000, 1 << 20):
            bench = Bench(max_bytes=100_000)
            await bench.knows(A, columns=gives(TEXT))
            bench.fetch(A)
            bench.fetch(A)
            bench.fetch(A)
            await turns()
            data = ran(*large(500)) + ran(row(b"x" * 400_000)) + ran(*large(2))
            for at in range(0, len(data), chunk):
                bench.read(data[at : at + chunk])
            await bench.rest()
            assert [event[:2] for event in bench.events] == [("rows", 1), ("failed", 2), ("rows", 3)]
            assert [len(bench.events[at][2]) for at in (0, 2)] == [500, 2]
            assert bench.events[1][2] == "MessageTooLarge"
            assert bench.is_over()

    run(story())


def test_a_large_result_is_passed_on_in_parts_as_it_comes() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        bench.fetch(A)
        bench.fetch(A)
        await turns()
        data = ran(*large(200)) + ran(*large(2))
        bench.read(data[: len(data) // 2])
        await turns()
        assert bench.events == []
        assert sum(map(len, bench.parts[1])) == 64, "a window of them"
        bench.read(data[len(data) // 2 :])
        await bench.rest()
        assert [event[:2] for event in bench.events] == [("rows", 1), ("rows", 2)]
        assert [len(event[2]) for event in bench.events] == [200, 2]
        assert set(bench.parts) == {1}
        assert bench.is_over()

    run(story())


def test_where_there_is_no_room_for_a_part_no_more_is_read_until_there_is() -> None:
    async def story() -> None:
        bench = Bench()
        bench.has_room = False
        await bench.knows(A, columns=gives(TEXT))
        bench.fetch(A)
        await turns()
        bench.read(ran(*large(500)))
        for had in (1, 2, 3):
            await turns()
            assert bench.transport.is_paused()
            assert len(bench.parts[1]) == had
            assert bench.events == []
            bench.on_room()
        bench.has_room = True
        await bench.rest()
        assert len(bench.events[0][2]) == 500
        assert not bench.transport.is_paused()
        assert bench.is_over()

    run(story())


def test_a_connection_that_was_held_is_read_again_by_whoever_has_it_next() -> None:
    async def story() -> None:
        bench = Bench()
        bench.has_room = False
        await bench.knows(A, columns=gives(TEXT))
        bench.fetch(A)
        await turns()
        bench.read(ran(*large(60)))
        assert bench.transport.is_paused()
        assert [event[:2] for event in bench.events] == [("rows", 1)]
        bench.pipeline.give_back()
        assert not bench.transport.is_paused()
        bench.on_room()
        assert not bench.transport.is_paused()

    run(story())


def test_parts_for_which_nobody_waits_any_more_go_nowhere() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        request = bench.fetch(A)
        await turns()
        request.answered = True
        bench.read(ran(*large(200)))
        await bench.rest()
        assert bench.parts == {}
        assert bench.is_over()

    run(story())


def test_a_cut_while_reading_is_paused_gives_up_what_was_read() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        bench.fetch(A)
        await turns()
        bench.read(ran(*large(200)))
        assert bench.transport.is_paused()
        bench.breaks()
        await turns()
        assert bench.events == []
        assert bench.unknown() == [1]

    run(story())


# --- other types than those that were known -----------------------------------------------------------------


def test_a_backend_that_sees_other_types_gets_a_new_plan_under_a_new_name() -> None:
    async def story(bench: Bench) -> None:
        other = Bench()
        other.lane = bench.lane
        bench.fetch(A)
        plan = bench.statement(A).plan  # as another backend has described it:
        bench.lane.described(bench.statement(A), plan, (), ())
        await bench.feed(described(columns=gives(INT8)))
        assert bench.statement(A).plan is not plan
        assert bench.reads()[4:] == [
            *(f"close {plan.name.decode()}", "close pgactor_2", f"parse pgactor_2: {A}", "describe pgactor_2", "sync")
        ]
        bench.fetch(A)  # it waits for the same
        await bench.feed(described(closed=2, columns=gives(INT8)))
        assert bench.reads() == ["bind pgactor_2", "execute 0", "sync"] * 2
        await bench.feed(ran(row((7).to_bytes(8, "big"))) * 2)
        assert bench.events == [("rows", 1, [[7]]), ("rows", 2, [[7]])]
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_request_that_was_bound_for_other_types_is_not_sent_to_a_backend_that_knows_the_new_ones() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(PLUS, parameters=(INT4,))
        old = bench.statement(PLUS).plan
        late = bench.fetch(PLUS, 5)
        await turns()
        bench.reads()
        bench.read(CHANGED + IDLE)
        await bench.feed(described(parameters=(INT8,)))
        new = bench.statement(PLUS).plan
        assert new is not old
        await bench.feed(described(parameters=(INT8,), closed=2))
        await bench.feed(ran())
        bench.forget()
        again = Request(bench.worker, 9, late.kind, 0.0, bench.statement(PLUS), None)
        again.payload = Bench().fetch(PLUS, 6).payload
        again.work = (old, old.bind([6], 0))
        bench.sent.append(again)
        bench.pipeline.send(again)
        await turns()
        assert bench.reads() == [f"bind {new.name.decode()}", "execute 0", "sync"]
        await bench.feed(ran())
        assert bench.is_over()

    run(story())


def test_a_plan_that_is_replaced_is_forgotten_by_postgresql_too() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        statement = bench.statement(A)
        another = bench.lane.new_plan(statement)  # another backend has seen other types
        bench.lane.described(statement, another, (), (Field("a", INT8),))
        bench.fetch(A)
        await turns()
        assert bench.reads() == [
            *("close pgactor_1", "close pgactor_2", f"parse pgactor_2: {A}", "describe pgactor_2", "sync")
        ]
        await bench.feed(described(closed=2, columns=gives(INT8)))
        await bench.feed(ran())
        assert bench.is_over()

    run(story())


def test_types_that_change_again_and_again_are_left_to_asyncpg() -> None:
    async def story(bench: Bench) -> None:
        bench.fetch(A)
        for attempt in range(MAX_ATTEMPTS):
            plan = bench.statement(A).plan
            bench.lane.described(bench.statement(A), plan, (), ())
            await bench.feed(described(closed=1 + (attempt > 0)))
        assert bench.events == [("diverted", 1)]
        assert bench.counters == {"in_session_schema": 1}
        assert bench.is_over()

    run(same_however_cut(story))


def test_what_is_known_of_types_since_has_another_try() -> None:
    async def story() -> None:
        bench = Bench()
        bench.fetch(A)
        await bench.feed(described(columns=gives(70000)))
        bench.lane.learn([70000], [(70000, "mood", "e", 0)])
        bench.forget()
        bench.fetch(A)
        await turns()
        assert bench.reads()[-3:] == [f"parse pgactor_2: {A}", "describe pgactor_2", "sync"]
        await bench.feed(described(columns=gives(70000), closed=2))
        await bench.feed(ran(row(b"happy")))
        assert bench.events == [("rows", 1, [["happy"]])]
        assert bench.is_over()

    run(story())


# --- prepared statements that are refused -------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [LOST, CHANGED], ids=["26000", "0A000"])
def test_a_statement_that_is_refused_before_it_is_bound_is_described_and_run_again(refusal: bytes) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        await bench.knows(B)
        bench.fetch(A)
        bench.fetch(B)
        bench.fetch(A)
        await bench.feed(refusal + IDLE + ran(number(2)) + refusal + IDLE)
        assert bench.events == [("rows", 2, [[2]])]
        assert bench.reads()[9:] == ["close pgactor_1", f"parse pgactor_1: {A}", "describe pgactor_1", "sync"]
        await bench.feed(described())
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"] * 2
        await bench.feed(ran(number(1)) + ran(number(3)))
        assert bench.events == [("rows", 2, [[2]]), ("rows", 1, [[1]]), ("rows", 3, [[3]])]
        assert bench.is_over()

    run(same_however_cut(story))


@pytest.mark.parametrize(
    "reply",
    [
        BOUND + LOST,
        BOUND + CHANGED,
        BOUND + ONE + CHANGED,
        BOUND + tag("SELECT 0") + LOST,
        error("26000", routine="exec_stmt_raise"),
        error("0A000", routine="exec_stmt_raise"),
        error("0A000", routine="FetchPreparedStatement"),
        error("26000", routine="RevalidateCachedQuery"),
        fields("E", S="ERROR", V="ERROR", C="26000", M="from a pooler"),
        fields("E", S="ERROR", V="ERROR", C="08P01", M="from a pooler"),
    ],
    ids=range(10),
)
def test_the_same_codes_from_elsewhere_or_later_are_the_callers(reply: bytes) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.fetch(A)
        bench.fetch(A)
        await bench.feed(reply + IDLE + ran())
        assert [event[:2] for event in bench.events] == [("failed", 1), ("rows", 2)]
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_second_26000_switches_the_lane_off() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.fetch(A)
        await bench.feed(LOST + IDLE)
        await bench.feed(described())
        await bench.feed(LOST + IDLE)
        assert bench.events == [("diverted", 1)]
        request = Request(bench.worker, 9, bench.sent[0].kind, 0.0, bench.statement(B), Bench().fetch(B).payload)
        bench.lane.admit(request)
        assert request.work is None
        assert bench.counters == {"in_session_names_lost": 2}
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_second_0a000_leaves_only_its_own_request_to_asyncpg() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.fetch(A)
        await bench.feed(CHANGED + IDLE)
        await bench.feed(described())
        await bench.feed(CHANGED + IDLE)
        assert bench.events == [("diverted", 1)]
        assert bench.counters == {"in_session_schema": 1}
        bench.fetch(B)
        await bench.feed(described())
        await bench.feed(ran())
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_request_that_nobody_wants_any_more_is_not_run_again() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        first, second = bench.fetch(A), bench.fetch(A)
        await turns()
        bench.withdraw(second)
        await bench.feed(LOST + IDLE + LOST + IDLE)
        await bench.feed(described())
        await bench.feed(ran())
        assert bench.back == [second, first]
        assert bench.is_over()

    run(same_however_cut(story))


# --- cancelling ---------------------------------------------------------------------------------------------


def test_of_a_result_that_a_cancel_request_may_still_hit_nothing_is_passed_on_before_its_end() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A, columns=gives(TEXT))
        first = bench.fetch(A)
        bench.fetch(A)
        await turns()
        bench.withdraw(first)
        await turns()
        await bench.feed(ran(row(b"x")) + BOUND + b"".join(large(100)))
        assert bench.parts == {}
        await bench.feed(CANCELED + IDLE)
        (cancel,) = bench.session.cancels
        cancel.set_result(None)
        await bench.rest()
        await bench.feed(ran(*large(3)))
        assert [event[:2] for event in bench.events] == [("withdrawn", 1), ("rows", 2)]
        assert len(bench.events[1][2]) == 3

    run(story())


def test_a_request_that_was_not_written_yet_is_taken_back() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        second = bench.fetch(A)
        bench.fetch(A)
        bench.withdraw(second)
        assert bench.back == [], "whoever withdraws is in the middle of something"
        await turns()
        assert bench.back == [second]
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"] * 2
        await bench.feed(ran(number(1)) + ran(number(3)))
        assert [event[:2] for event in bench.events] == [("withdrawn", 2), ("rows", 1), ("rows", 3)]
        assert bench.session.cancels == []
        assert bench.is_over()

    run(story())


def test_the_only_request_can_be_taken_back_too() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.withdraw(bench.fetch(A))
        await turns()
        assert bench.reads() == []
        assert bench.is_over()
        bench.fetch(A)
        await bench.feed(ran(ONE))
        assert bench.is_over()

    run(story())


async def cancelling(bench: Bench, followers: int = 1) -> Request:
    """The first of a few is cancelled; the cancel request is out."""
    await bench.knows(A)
    first = bench.fetch(A)
    for _ in range(followers):
        bench.fetch(A)
    await turns()
    bench.reads()
    bench.withdraw(first)
    await turns()
    assert len(bench.session.cancels) == 1
    return first


def test_what_runs_is_cancelled_and_nothing_is_written_before_both_have_ended() -> None:
    async def story(bench: Bench) -> None:
        first = await cancelling(bench)
        bench.fetch(A)
        await turns()
        assert bench.reads() == []
        await bench.feed(CANCELED + IDLE)
        assert bench.reads() == [], "the cancel request may hit another one"
        assert first not in bench.back
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"]
        assert bench.back == [first]
        await bench.feed(ran(number(2)) + ran(number(3)))
        assert bench.events == [("withdrawn", 1), ("rows", 2, [[2]]), ("rows", 3, [[3]])]
        assert bench.is_over()

    run(same_however_cut(story))


def test_the_cancel_request_may_end_before_the_statement() -> None:
    async def story(bench: Bench) -> None:
        first = await cancelling(bench)
        bench.fetch(A)
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.reads() == []
        await bench.feed(BOUND + CANCELED + IDLE)
        assert bench.back == [first]
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"]
        await bench.feed(ran(number(2)) + ran(number(3)))
        assert bench.is_over()

    run(same_however_cut(story))


@pytest.mark.parametrize("hit", [BOUND + CANCELED, CANCELED, BOUND + ONE + CANCELED], ids=["ran", "bound", "rows"])
def test_a_follower_that_the_cancel_request_hits_runs_again_once(hit: bytes) -> None:
    async def story(bench: Bench) -> None:
        first = await cancelling(bench, followers=2)
        await bench.feed(ran(ONE) + hit + IDLE + BOUND + CANCELED + IDLE)
        assert bench.events == [("withdrawn", 1), ("failed", 3, "57014")], "a request to cancel hits one statement"
        assert bench.reads() == []
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"]
        await bench.feed(BOUND + CANCELED + IDLE)
        assert bench.events[2:] == [("failed", 2, "57014")], "that was not our request to cancel"
        assert first in bench.back
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_group_that_the_cancel_request_hits_runs_again_once() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        first = bench.fetch(A)
        many = bench.send(ExecuteMany(2, 7, None, A, [[], []]), A)
        await turns()
        sent = bench.reads()
        bench.withdraw(first)
        await turns()
        await bench.feed(ran(ONE) + BOUND + CANCELED + IDLE)
        assert bench.events == [("withdrawn", 1)]
        assert bench.reads() == [], "the cancel request is out yet"
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.reads() == sent[-5:] == ["bind pgactor_1", "execute 0", "bind pgactor_1", "execute 0", "sync"]
        await bench.feed((BOUND + ONE + tag("SELECT 1")) * 2 + IDLE)
        assert bench.events[1:] == [("results", 2, None)]
        assert bench.back == [first, many]
        assert bench.is_over()

    run(same_however_cut(story))


def test_any_other_57014_of_a_group_is_the_callers() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.send(ExecuteMany(1, 7, None, A, [[], []]), A)
        await bench.feed(BOUND + CANCELED + IDLE)
        ((what, number_, (index, told)),) = bench.events
        assert (what, number_, index, told["C"]) == ("results", 1, 0, "57014")
        assert bench.is_over()

    run(same_however_cut(story))


def test_any_other_57014_is_the_callers() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.fetch(A)
        bench.fetch(A)
        await bench.feed(BOUND + CANCELED + IDLE + ran())
        assert bench.events == [("failed", 1, "57014"), ("rows", 2, [])]
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_request_that_came_after_the_cancel_request_is_not_exposed_to_it() -> None:
    async def story(bench: Bench) -> None:
        await cancelling(bench, followers=0)
        bench.fetch(A)
        await bench.feed(CANCELED + IDLE)
        bench.session.cancels[0].set_result(None)
        await turns()
        await bench.feed(BOUND + CANCELED + IDLE)
        assert bench.events == [("withdrawn", 1), ("failed", 2, "57014")]
        assert bench.is_over()

    run(same_however_cut(story))


def test_an_answer_that_comes_although_it_was_cancelled_is_no_answer() -> None:
    async def story(bench: Bench) -> None:
        await cancelling(bench, followers=0)
        await bench.feed(ran(ONE))
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.events == [("withdrawn", 1)]
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_follower_that_nobody_wants_is_cancelled_when_its_turn_comes_and_it_does_not_end() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        second = bench.fetch(A)
        bench.fetch(A)
        await turns()
        bench.withdraw(second)
        await asyncio.sleep(1)
        assert bench.session.cancels == [], "it would hit the first"
        await bench.feed(ran(ONE))
        await asyncio.sleep(SOON_SECONDS / 2)
        assert bench.session.cancels == []
        await asyncio.sleep(SOON_SECONDS)
        assert len(bench.session.cancels) == 1
        bench.session.cancels[0].set_result(None)
        await bench.feed(BOUND + CANCELED + IDLE + ran(number(3)))
        assert bench.events == [("withdrawn", 2), ("rows", 1, [[1]]), ("rows", 3, [[3]])]
        assert bench.is_over()

    run(story())


def test_a_follower_that_nobody_wants_and_that_ends_soon_is_let_be() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        second = bench.fetch(A)
        await turns()
        bench.withdraw(second)
        await bench.feed(ran(ONE))
        await bench.feed(ran(ONE))
        await asyncio.sleep(1)
        assert bench.session.cancels == []
        assert bench.is_over()

    run(story())


def test_a_request_that_is_withdrawn_while_another_cancel_request_is_out_is_cancelled_after_it() -> None:
    async def story() -> None:
        bench = Bench()
        await cancelling(bench)
        await bench.feed(BOUND + CANCELED + IDLE)  # the second runs now
        bench.withdraw(bench.sent[1])
        await asyncio.sleep(1)
        assert len(bench.session.cancels) == 1
        bench.session.cancels[0].set_result(None)
        await asyncio.sleep(2 * SOON_SECONDS)
        assert len(bench.session.cancels) == 2
        bench.session.cancels[1].set_result(None)
        await bench.feed(BOUND + CANCELED + IDLE)
        assert bench.events == [("withdrawn", 1), ("withdrawn", 2)]
        assert bench.is_over()

    run(story())


def test_a_cancel_request_that_may_have_come_too_early_is_sent_again() -> None:
    async def story() -> None:
        bench = Bench()
        first = await cancelling(bench, followers=1)
        for sent in (1, 2, 3):
            assert len(bench.session.cancels) == sent
            bench.session.cancels[-1].set_result(None)
            await asyncio.sleep(1.1 * AGAIN_SECONDS * 2 ** (sent - 1))
        assert len(bench.session.cancels) == 4
        await bench.feed(BOUND + CANCELED + IDLE + BOUND + CANCELED + IDLE)
        assert bench.back == []
        bench.session.cancels[-1].set_result(None)
        await turns()
        assert bench.back == [first]
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"], "the last one has hit the follower"
        await bench.feed(ran(number(2)))
        await asyncio.sleep(2 * PATIENCE)
        assert len(bench.session.cancels) == 4
        assert bench.is_over()

    run(story())


def test_a_statement_that_does_not_end_though_it_was_cancelled_costs_the_connection() -> None:
    async def story() -> None:
        bench = Bench()
        await cancelling(bench)
        unsent = bench.fetch(A)
        bench.session.cancels[0].set_result(None)
        await asyncio.sleep(PATIENCE - 0.1)
        assert not bench.is_cut()
        await asyncio.sleep(0.2)
        assert bench.is_cut()
        assert bench.unrun() == [unsent.id]
        assert bench.unknown() == [2]

    run(story())


@pytest.mark.parametrize("swallows", [False, True], ids=["says so", "keeps it for itself"])
@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_a_cancel_request_that_does_not_get_through_in_time_costs_the_connection(swallows: bool, ended: bool) -> None:
    async def story() -> None:
        bench = Bench()
        bench.session.swallows_timeouts = swallows
        await cancelling(bench)
        if ended:
            await bench.feed(ran(ONE))
        await asyncio.sleep(PATIENCE - 0.1)
        assert not bench.is_cut()
        await asyncio.sleep(0.2)
        assert bench.is_cut(), "it may come yet, and hit somebody else"
        assert bench.unknown() == [2]

    run(story())


def test_a_cancel_request_that_cannot_be_sent_costs_the_connection() -> None:
    async def story() -> None:
        bench = Bench()
        await cancelling(bench)
        bench.session.cancels[0].set_exception(RuntimeError("no"))
        await turns()
        assert bench.is_cut()
        assert bench.unknown() == [2]

    run(story())


def test_where_asyncpg_cuts_the_connection_itself_it_is_not_told_of_that() -> None:
    async def story() -> None:
        bench = Bench()
        await cancelling(bench)
        bench.session.terminate()
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.session.lost_with == []
        assert bench.unknown() == [2]

    run(story())


def test_a_description_that_nobody_waits_for_any_more_is_cancelled() -> None:
    async def story() -> None:
        bench = Bench()
        first, second = bench.fetch(A), bench.fetch(A)
        await turns()
        bench.withdraw(first)
        await turns()
        assert bench.session.cancels == [], "another one waits for it"
        bench.withdraw(second)
        await turns()
        assert len(bench.session.cancels) == 1
        bench.fetch(A)  # too late
        bench.fetch(B)
        bench.session.cancels[0].set_result(None)
        await turns()
        bench.reads()
        await bench.feed(CLOSED + CANCELED + IDLE)
        assert bench.reads() == ["close pgactor_2", f"parse pgactor_2: {B}", "describe pgactor_2", "sync"]
        await bench.feed(described())
        await bench.feed(ran())
        assert bench.events == [("withdrawn", 1), ("withdrawn", 2), ("diverted", 3), ("rows", 4, [])]
        assert bench.is_over()

    run(story())


def test_a_withdrawn_request_whose_description_succeeds_is_not_run() -> None:
    async def story(bench: Bench) -> None:
        first, _ = bench.fetch(A), bench.fetch(A)
        await turns()
        bench.reads()
        bench.withdraw(first)
        await bench.feed(described())
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"]
        await bench.feed(ran(ONE))
        assert bench.events == [("withdrawn", 1), ("rows", 2, [[1]])]
        assert bench.is_over()

    run(same_however_cut(story))


def test_a_description_that_was_not_written_yet_is_not_cancelled() -> None:
    async def story() -> None:
        bench = Bench()
        bench.withdraw(bench.fetch(A))
        await turns()
        assert bench.session.cancels == []
        await bench.feed(described())
        assert bench.events == [("withdrawn", 1)]
        assert bench.is_over()
        bench.fetch(A)
        await bench.feed(ran())
        assert bench.is_over()

    run(story())


def test_a_cancelled_request_does_not_wait_for_another_description_of_changed_types() -> None:
    async def story() -> None:
        bench = Bench()
        first = bench.fetch(A)
        await turns()
        bench.lane.described(bench.statement(A), bench.statement(A).plan, (), ())
        bench.withdraw(first)
        await turns()
        second = bench.fetch(A)
        bench.session.cancels[0].set_result(None)
        await turns()
        await bench.feed(described(columns=gives(INT8)))  # the cancel request came too late
        assert bench.back == [first]
        await bench.feed(described(columns=gives(INT8), closed=2))
        await bench.feed(ran())
        assert bench.back == [first, second]
        assert bench.is_over()
        await asyncio.sleep(3 * PATIENCE)
        assert not bench.is_cut()

    run(story())


def test_a_description_behind_a_statement_is_cancelled_when_its_turn_comes_if_nobody_waits_for_it() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(B)
        bench.fetch(B)
        second = bench.fetch(A)
        await turns()
        bench.withdraw(second)
        await bench.feed(ran(ONE))
        await asyncio.sleep(2 * SOON_SECONDS)
        assert len(bench.session.cancels) == 1
        bench.session.cancels[0].set_result(None)
        await bench.feed(CLOSED + CANCELED + IDLE)
        assert bench.events == [("withdrawn", 2), ("rows", 1, [[1]])]
        assert bench.is_over()

    run(story())


def test_a_description_that_the_cancel_request_hits_leaves_its_requests_to_asyncpg() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(B)
        first, _ = bench.fetch(B), bench.fetch(A)
        await turns()
        bench.withdraw(first)
        await bench.feed(ran(ONE) + CLOSED + CANCELED + IDLE)
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.events == [("withdrawn", 1), ("diverted", 2)]
        assert bench.is_over()

    run(same_however_cut(story))


# --- command_timeout ----------------------------------------------------------------------------------------


def test_a_statement_that_runs_for_longer_than_command_timeout_fails_and_is_cancelled() -> None:
    async def story() -> None:
        bench = Bench(command_timeout=10.0)
        await bench.knows(A)
        bench.fetch(A)
        bench.fetch(A)
        await asyncio.sleep(6)
        await bench.feed(ran(ONE))
        await asyncio.sleep(6)
        assert bench.session.cancels == [], "that has been first for 6 seconds only"
        await asyncio.sleep(4.1)
        assert bench.events == [("rows", 1, [[1]]), ("failed", 2, "TimeoutError")]
        assert len(bench.session.cancels) == 1
        bench.session.cancels[0].set_result(None)
        await bench.feed(BOUND + CANCELED + IDLE)
        assert bench.is_over()
        await asyncio.sleep(100)
        assert not bench.is_cut()

    run(story())


def test_so_is_a_description_that_takes_too_long() -> None:
    async def story() -> None:
        bench = Bench(command_timeout=10.0)
        bench.fetch(A)
        bench.fetch(A)
        await asyncio.sleep(10.1)
        assert bench.events == [("failed", 1, "TimeoutError"), ("failed", 2, "TimeoutError")]
        bench.session.cancels[0].set_result(None)
        await bench.feed(CLOSED + CANCELED + IDLE)
        assert bench.is_over()

    run(story())


def test_the_time_of_a_statement_begins_when_it_is_written() -> None:
    async def story() -> None:
        bench = Bench(command_timeout=10.0)
        await bench.knows(A)
        bench.fetch(A)
        await bench.feed(ran(ONE))
        asyncio.get_running_loop().call_later(1, bench.fetch, A)
        pass_by(20)  # so it comes in the very turn of the timer, before it
        await turns()
        assert len(bench.sent) == 2
        assert [event for event in bench.events if event[0] == "failed"] == []
        assert bench.session.cancels == []

    run(story())


def test_without_command_timeout_a_statement_may_take_as_long_as_it_likes() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        await asyncio.sleep(1e6)
        await bench.feed(ran(ONE))
        assert bench.is_over()

    run(story())


# --- what is learned ----------------------------------------------------------------------------------------


def test_the_time_between_two_reads_is_shared_by_the_replies_between_them() -> None:
    async def story() -> None:
        bench = Bench()
        for sql in (A, B, C):
            await bench.knows(sql)
            bench.statement(sql).seconds = bench.statement(sql).best = None  # of which the pace says nothing
        bench.fetch(A)
        bench.fetch(B)
        bench.fetch(C)
        await turns()
        pass_by(0.010)
        bench.read(ran(ONE))
        await turns()
        pass_by(0.004)
        bench.read(ran(ONE) + ran(ONE))
        assert [bench.statement(sql).seconds for sql in (A, B, C)] == pytest.approx([0.010, 0.002, 0.002])

    run(story())


# --- the end of the connection ------------------------------------------------------------------------------


def test_after_an_orderly_goodbye_those_behind_the_first_did_not_run() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        for _ in range(4):
            bench.fetch(A)
        await bench.feed(ran(ONE) + BOUND + ONE + fatal())
        bench.breaks()
        assert bench.events == [("rows", 1, [[1]]), ("failed", 2, "57P01")]
        assert bench.unrun() == [3, 4]
        assert bench.unknown() == []

    run(story())


def test_nor_did_the_first_if_it_was_not_bound() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        bench.fetch(B)
        bench.fetch(A)
        await bench.feed(fatal())
        late = bench.fetch(A)
        bench.breaks()
        assert bench.events == []
        assert sorted(bench.unrun()) == [1, 2, 3, late.id]
        assert bench.unknown() == []

    run(story())


def test_whoever_was_done_but_not_ready_at_the_goodbye_may_have_happened() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(INSERT, columns=NO_DATA)
        bench.execute(INSERT)
        bench.execute(INSERT)
        await bench.feed(BOUND + tag("INSERT 0 1") + fatal())
        bench.breaks()
        assert bench.events == []
        assert bench.unrun() == [2]
        assert bench.unknown() == [1]

    run(story())


def test_a_goodbye_while_a_statement_is_described() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(B)
        bench.fetch(A)
        bench.fetch(B)
        bench.fetch(A)
        await bench.feed(CLOSED + PARSED + fatal())
        bench.breaks()
        assert bench.events == []
        assert sorted(bench.unrun()) == [1, 2, 3]

    run(story())


def test_a_goodbye_that_is_not_postgresqls_own_is_none() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        bench.fetch(A)
        await bench.feed(fields("E", S="FATAL", V="FATAL", C="08P01", M="server conn crashed?"))
        bench.breaks()
        assert bench.unrun() == []
        assert bench.unknown() == [1, 2]

    run(story())


@pytest.mark.parametrize("so_far", [b"", BOUND, BOUND + ONE, BOUND + ONE[:7], BOUND + tag("SELECT 1"), FAILS])
def test_a_bare_end_leaves_all_that_was_written_unknown(so_far: bytes) -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        await bench.knows(C)
        bench.fetch(A)
        bench.fetch(A)
        bench.fetch(B)
        bench.fetch(C)
        await turns()
        if so_far:
            bench.read(so_far)
        bench.fetch(C)
        bench.fetch(C)
        bench.breaks(ConnectionResetError())
        assert bench.events == []
        assert sorted(bench.unrun()) == [3, 5, 6], "one waited for its description, two were not written"
        assert bench.unknown() == [1, 2, 4]
        assert len(bench.session.lost_with) == 1

    run(story())


def test_requests_that_come_after_the_end_did_not_run() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        await turns()
        bench.breaks()
        bench.fetch(A)
        bench.fetch(B)
        bench.withdraw(bench.fetch(A))
        await turns()
        assert sorted(bench.unrun()) == [2, 3]
        assert bench.unknown() == [1]

    run(story())


def test_requests_for_a_connection_that_asyncpg_lost_did_not_run() -> None:
    async def story() -> None:
        bench = Bench()
        bench.session.closed = True
        bench.fetch(A)
        await turns()
        assert bench.transport.writes == []
        assert bench.unrun() == [1]

    run(story())


def test_the_end_in_the_middle_of_cancelling() -> None:
    async def story() -> None:
        bench = Bench()
        await cancelling(bench)
        unsent = bench.fetch(A)
        bench.breaks()
        bench.session.cancels[0].set_result(None)
        await asyncio.sleep(3 * PATIENCE)
        assert bench.unrun() == [unsent.id]
        assert bench.unknown() == [2]

    run(story())


# --- giving the connection back -----------------------------------------------------------------------------


def test_the_connection_is_lent_when_it_is_needed_and_given_back() -> None:
    async def story() -> None:
        bench = Bench()
        assert not bench.session.is_lent()
        bench.pipeline.give_back()
        await bench.knows(A)
        assert bench.session.is_lent()
        bench.pipeline.give_back()
        bench.pipeline.give_back()
        assert not bench.session.is_lent()
        bench.fetch(A)
        assert bench.session.is_lent()
        await turns()
        assert bench.reads() == ["bind pgactor_1", "execute 0", "sync"], "it is still prepared"

    run(story())


def test_nothing_is_given_back_while_something_is_in_flight() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.fetch(A)
        with pytest.raises(RuntimeError, match="1 in flight"):
            bench.pipeline.give_back()
        await bench.feed(ran(ONE))
        bench.transport.buffered = 1
        with pytest.raises(RuntimeError):
            bench.pipeline.give_back()
        bench.transport.buffered = 0
        bench.pipeline.give_back()

    run(story())


def test_nothing_is_given_back_while_a_cancel_request_is_out() -> None:
    async def story() -> None:
        bench = Bench()
        await cancelling(bench, followers=0)
        await bench.feed(BOUND + CANCELED + IDLE)
        assert bench.back == [], "so nobody is told that it is free"
        with pytest.raises(RuntimeError):
            bench.pipeline.give_back()
        bench.session.cancels[0].set_result(None)
        await turns()
        assert bench.back == bench.sent
        bench.pipeline.give_back()

    run(story())


def test_what_comes_while_it_is_given_back_is_asyncpgs() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.on_came_back = bench.pipeline.give_back
        bench.fetch(A)
        await turns()
        tail = NOTICE + PARAMETER
        bench.read(ran(ONE) + tail)
        assert not bench.session.is_lent()
        assert bench.session.passed_on == tail

    async def stories() -> None:
        for place in range(1, len(NOTICE + PARAMETER)):
            bench = Bench()
            await bench.knows(A)
            bench.on_came_back = bench.pipeline.give_back
            bench.fetch(A)
            await turns()
            tail = (NOTICE + PARAMETER)[:place]
            bench.read(ran(ONE) + tail)
            assert not bench.session.is_lent()
            assert bench.session.passed_on == tail, "asyncpg gets the rest of it"
            assert bench.is_over()

    run(played(story))
    run(stories())


def test_so_it_is_if_the_request_was_diverted_and_asyncpg_runs_it_at_once() -> None:
    async def story() -> None:
        for tail in (b"", NOTICE, NOTICE[:3], NOTICE + PARAMETER[:9], NOTICE * (2 * WINDOW // len(NOTICE))):
            bench = Bench()
            bench.on_diverted = lambda _, bench=bench: bench.pipeline.give_back()  # type: ignore[misc]
            bench.fetch(A)
            await turns()
            bench.read(CLOSED + error("42P01") + IDLE + tail)
            assert not bench.session.is_lent()
            assert bench.session.passed_on == tail
            await turns()
            assert not bench.transport.is_paused()
            assert bench.is_over()

    run(story())


def test_what_nobody_asked_for_cuts_the_connection_though_it_was_just_given_back() -> None:
    async def story() -> None:
        bench = Bench()
        bench.on_diverted = lambda _: bench.pipeline.give_back()
        bench.fetch(A)
        await turns()
        bench.read(CLOSED + error("42P01") + IDLE + IDLE)
        assert bench.session.closed

    run(story())


def test_it_is_given_back_though_reading_was_paused() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.knows(A)
        bench.on_came_back = bench.pipeline.give_back
        bench.fetch(A)
        await turns()
        tail = NOTICE * (3 * WINDOW // len(NOTICE))
        bench.read(ran(ONE) + tail)
        assert not bench.session.is_lent()
        assert not bench.transport.is_paused()
        assert bench.session.passed_on == tail
        await turns()
        bench.on_came_back = lambda: None
        bench.fetch(A)
        await bench.feed(ran(ONE))
        assert bench.is_over()

    run(story())


# --- groups -------------------------------------------------------------------------------------------------


def test_a_group_whose_statement_turned_out_not_to_be_quick_is_diverted() -> None:
    async def story() -> None:
        bench = Bench()
        first, second = (bench.request(Batch(number, 7, None, [(A, [])]), A) for number in (1, 2))
        for request in (first, second):
            bench.lane.admit(request)
        for request in (first, second):
            bench.sent.append(request)
            bench.pipeline.send(request)
            await turns()
            for said in bench.reads():
                if said.startswith("parse"):
                    await bench.feed(described(columns=gives(INET) if said.endswith(A) else NO_DATA))
        assert bench.events == [("diverted", 1), ("diverted", 2)]

    run(story())
