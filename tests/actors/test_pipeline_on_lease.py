"""A lease's statements in the statement lane: sessions that are left inside transactions, by script."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pgactor.actors.transactionwords import transaction_words
from pgactor.core.lease import Lease
from pgactor.core.request import Request
from pgactor.core.statement import Statement
from pgactor.messages import Execute, Fetch
from tests.client.virtual import run, turns

from .scripts import (
    BOUND,
    CLOSED,
    IDLE,
    INT4,
    NOTICE,
    PARAMETER,
    PARSED,
    SUSPENDED,
    Bench,
    error,
    gives,
    message,
    number,
    same_however_cut,
    tag,
    takes,
)

A = "select a from t"
WITHIN, FAILED = message("Z", b"T"), message("Z", b"E")
CHANGED = error("0A000", routine="RevalidateCachedQuery")
LOST = error("26000", routine="FetchPreparedStatement")
FAILS = error("22012", routine="int4div")
IS_DESCRIBED = CLOSED + PARSED + takes() + gives(INT4)


def on_lease(bench: Bench, sql: str, *, limit: int | None = None) -> Request:
    """Send a lease's statement: a fetch, if there is a limit."""
    number = len(bench.sent) + 1
    payload: Any = Execute(number, 7, None, sql, []) if limit is None else Fetch(number, 7, None, sql, [], limit)
    request = bench.request(payload, sql)
    request.lease = cast(Lease, object())
    assert bench.lane.admit_on_lease(request)
    bench.sent.append(request)
    bench.pipeline.send(request)
    return request


def status(bench: Bench) -> tuple[bool | None, bool]:
    return bench.session.in_transaction_now, bench.session.has_failed


def test_a_transaction_on_a_lease() -> None:
    async def story(bench: Bench) -> None:
        on_lease(bench, "begin")
        await turns()
        assert bench.reads() == ["parse : begin", "bind ", "execute 0", "sync"]
        await bench.feed(PARSED + BOUND + tag("BEGIN") + WITHIN)
        assert status(bench) == (True, False)
        on_lease(bench, A, limit=0)
        await bench.feed(IS_DESCRIBED + WITHIN)
        await bench.feed(BOUND + number(7) + tag("SELECT 1") + WITHIN)
        on_lease(bench, A, limit=1)
        await bench.feed(BOUND + number(8) + SUSPENDED + WITHIN)
        on_lease(bench, A, limit=0)
        await bench.feed(BOUND + number(1) + NOTICE + number(2) + tag("SELECT 2") + WITHIN)
        assert status(bench) == (True, False)
        on_lease(bench, "commit")
        await bench.feed(PARSED + BOUND + tag("COMMIT") + PARAMETER + IDLE)
        assert status(bench) == (False, False)
        assert bench.settings_told == 1
        assert bench.events == [
            ("tag", 1, "BEGIN"),
            ("rows", 2, [[7]]),
            ("rows", 3, [[8]]),
            ("rows", 4, [[1], [2]]),
            ("tag", 5, "COMMIT"),
        ]
        assert bench.is_over()

    run(same_however_cut(story))


@pytest.mark.parametrize("refusal", [CHANGED, LOST])
def test_a_refusal_that_ends_a_transaction_is_the_error_and_the_next_is_prepared_anew(refusal: bytes) -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        on_lease(bench, A, limit=0)
        await bench.feed(refusal + FAILED)
        assert status(bench) == (True, True)
        on_lease(bench, "rollback")
        await bench.feed(PARSED + BOUND + tag("ROLLBACK") + IDLE)
        assert status(bench) == (False, False)
        bench.reads()
        on_lease(bench, A, limit=0)
        await turns()
        assert f"parse pgactor_1: {A}" in bench.reads()
        await bench.feed(IS_DESCRIBED + IDLE)
        await bench.feed(BOUND + number(1) + tag("SELECT 1") + IDLE)
        assert [event[0] for event in bench.events] == ["failed", "tag", "rows"]
        assert bench.is_over()

    run(same_however_cut(story))


def test_outside_of_a_transaction_a_refusal_is_followed_by_another_try() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        on_lease(bench, A, limit=0)
        await bench.feed(CHANGED + IDLE)
        await bench.feed(IS_DESCRIBED + IDLE)
        await bench.feed(BOUND + number(1) + tag("SELECT 1") + IDLE)
        assert bench.events == [("rows", 1, [[1]])]
        assert bench.is_over()

    run(same_however_cut(story))


def test_what_cannot_be_prepared_in_a_transaction_has_its_error_and_is_not_left_to_asyncpg() -> None:
    async def story(bench: Bench) -> None:
        on_lease(bench, "begin")
        await bench.feed(PARSED + BOUND + tag("BEGIN") + WITHIN)
        on_lease(bench, A, limit=0)
        await bench.feed(CLOSED + error("42P01") + FAILED)
        assert status(bench) == (True, True)
        assert bench.events == [("tag", 1, "BEGIN"), ("failed", 2, "42P01")]
        assert bench.is_over()

    run(same_however_cut(story))


def test_what_cannot_be_prepared_outside_of_one_is_left_to_asyncpg() -> None:
    async def story(bench: Bench) -> None:
        on_lease(bench, A, limit=0)
        await bench.feed(CLOSED + error("42P01") + IDLE)
        assert bench.events == [("diverted", 1)]

    run(same_however_cut(story))


def test_an_error_inside_a_transaction() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        on_lease(bench, A, limit=0)
        await bench.feed(BOUND + number(1) + FAILS + FAILED)
        assert status(bench) == (True, True)
        on_lease(bench, "rollback to x")
        await bench.feed(PARSED + BOUND + tag("ROLLBACK") + WITHIN)
        assert status(bench) == (True, False)
        assert bench.events == [("failed", 1, "22012"), ("tag", 2, "ROLLBACK")]
        assert bench.is_over()

    run(same_however_cut(story))


@pytest.mark.parametrize(
    "reply",
    [
        PARSED * 2 + BOUND + tag("BEGIN") + WITHIN,
        PARSED + BOUND + tag("COMMIT") + WITHIN,
        PARSED + BOUND + number(1) + tag("BEGIN") + WITHIN,
        BOUND + PARSED + tag("BEGIN") + WITHIN,
    ],
)
def test_a_doubt_about_words_of_a_transaction_cuts_the_connection(reply: bytes) -> None:
    async def story(bench: Bench) -> None:
        on_lease(bench, "begin")
        await bench.feed(reply)
        assert bench.transport.aborted
        assert bench.events == []

    run(same_however_cut(story))


def test_a_statement_of_no_lease_may_not_leave_a_transaction_open() -> None:
    async def story(bench: Bench) -> None:
        await bench.knows(A)
        bench.fetch(A)
        await bench.feed(BOUND + number(1) + tag("SELECT 1") + WITHIN)
        assert bench.transport.aborted
        assert bench.events == []

    run(same_however_cut(story))


@pytest.mark.parametrize(
    ("sql", "is_one"),
    [
        ("begin", True),
        ("  BEGIN ISOLATION LEVEL SERIALIZABLE;", True),
        ("rollback to savepoint a", True),
        ("RELEASE a", True),
        ("set local work_mem = '1MB'", False),
        ("set transaction read only", False),
        ("/* x */ commit", False),
        ('savepoint "a\0"', False),
    ],
)
def test_words_of_a_transaction(sql: str, is_one: bool) -> None:
    assert (transaction_words(Statement(sql)) is not None) == is_one
