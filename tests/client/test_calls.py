"""Arguments -> messages, replies -> results."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from asyncpg.protocol import protocol as asyncpg_protocol

from pgactor import errors, wire
from pgactor.client import calls, replies
from pgactor.client.chunks import chunked
from pgactor.client.failures import unencodable
from pgactor.client.pending import Pending, PendingLease, Reply
from pgactor.messages import Done, ExecuteMany, Failed, Granted, Message, Results, Rows, Token
from pgactor.messages.pool import StatusReport
from pgactor.messages.session import Opened, Prepared
from pgactor.rows import RowDecoder

from .memory import COLUMNS, granted, rows

TOKEN = Token(7, 0, 1)
FETCH = calls.fetch("select n", (), None, None)


def executemany(sql: str, args: Any, timeout: float | None, lease: Token | None) -> ExecuteMany:
    """The request of an executemany that is small enough for one."""
    (chunk,) = chunked(args)
    return calls.executemany(sql, chunk.args, timeout, lease)


def pending(reply: Reply | None = None, error: BaseException | None = None) -> Pending:
    ended = Pending(1)
    ended.reply, ended.error = reply, error
    ended.rows = RowDecoder(COLUMNS)
    return ended


# --- timeouts -----------------------------------------------------------------------------------------------


def asyncpgs_timeout(timeout: Any) -> float | None:
    """What asyncpg makes of it."""

    async def found() -> float | None:
        loop = asyncio.get_running_loop()
        parameters = SimpleNamespace(user="", password="", database="", krbsrvname=None, gsslib=None)
        make: Any = asyncpg_protocol.Protocol
        protocol = make(("", 0), loop.create_future(), parameters, asyncpg.Record, loop)
        seconds: float | None = protocol._get_timeout(timeout)
        return seconds

    return asyncio.run(found())


@pytest.mark.parametrize("timeout", [True, False, "soon", "", "1 s", b"soon"])
def test_what_is_no_timeout_is_refused_in_asyncpgs_words(timeout: Any) -> None:
    with pytest.raises(ValueError) as theirs:
        asyncpgs_timeout(timeout)
    with pytest.raises(ValueError) as ours:
        calls.check_timeout(timeout, None)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("timeout", [[], object(), 1j, math.nan, -math.nan, "nan", Decimal("NaN"), Decimal("sNaN")])
def test_whatever_else_is_no_timeout_is_refused_too(timeout: Any) -> None:
    with pytest.raises(ValueError) as caught:
        calls.check_timeout(timeout, None)
    assert str(caught.value) == f"invalid timeout value: expected non-negative float (got {timeout!r})"


@pytest.mark.parametrize("timeout", [5, 0.25, "1", " 2 ", "1e3", b"1", Decimal("1.5"), Fraction(1, 4)])
def test_whatever_float_takes_is_a_timeout_as_in_asyncpg(timeout: Any) -> None:
    found = calls.check_timeout(timeout, 60.0)
    assert found == float(timeout) == asyncpgs_timeout(timeout)
    assert type(found) is float


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, 60.0),
        (5, 5.0),
        (0.25, 0.25),
        (0, 0.0),
        (-3, 0.0),
        ("-3", 0.0),
        (math.inf, None),
        ("inf", None),
        (-math.inf, 0.0),
    ],
)
def test_a_timeout_is_seconds_not_below_zero(timeout: Any, expected: float | None) -> None:
    found = calls.check_timeout(timeout, 60.0)
    assert found == expected
    assert found is None or type(found) is float


def test_without_a_default_there_is_no_timeout() -> None:
    assert calls.check_timeout(None, None) is None


@pytest.mark.parametrize("ttl", [0, -1, math.nan])
def test_a_ttl_is_greater_than_zero(ttl: float) -> None:
    with pytest.raises(ValueError, match=r"ttl is expected to be greater than zero, in seconds \(got"):
        calls.acquire(None, ttl)


# --- requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", [None, 1, b"select 1", ["select 1"]])
@pytest.mark.parametrize("make", [calls.execute, calls.executemany, calls.fetch, calls.fetchmany])
def test_a_statement_that_is_no_str_is_refused(make: Callable[..., Message], sql: Any) -> None:
    with pytest.raises(TypeError, match=f"a statement is expected to be a str, not {type(sql).__name__}"):
        make(sql, (), None, None)


def test_every_request_can_be_sent_and_understood() -> None:
    requests: list[Any] = [
        calls.execute("e", (1, "x"), 2.0, TOKEN),
        executemany("em", [(1,), [2]], None, None),
        calls.fetch("f", (None, 1.5), 0.0, None, limit=1),
        calls.fetchmany("fm", iter([(1,), (2,)]), None, TOKEN),
        calls.batch(["b", ("b", 1, "x")], 2.0, isolation="serializable", readonly=True),
        calls.batch(iter([["b", None]]), None, atomic=False),
        calls.acquire(None, 3),
        calls.status(),
        calls.expire(),
    ]
    for number, request in enumerate(requests):
        assert (request.id, request.epoch) == (calls.UNSENT, calls.UNSENT)
        request.id, request.epoch = number, 7
    assert wire.worker_frames(1 << 20).decode(wire.encode(requests)) == requests


def test_a_request_that_was_not_numbered_cannot_be_taken_for_one() -> None:
    (message,) = wire.worker_frames(1 << 20).decode(wire.encode([calls.status()]))
    assert isinstance(message, wire.Malformed)


def test_an_argument_that_does_not_cross_is_a_data_error_that_names_it() -> None:
    with pytest.raises(asyncpg.DataError, match=r"^query argument \$2: .*object") as caught:
        calls.fetch("select $1, $2", (1, object()), None, None)
    assert isinstance(caught.value.__cause__, errors.UnsupportedType)


@pytest.mark.parametrize("make", [executemany, calls.fetchmany])
def test_an_argument_in_many_that_does_not_cross_names_its_element_too(make: Callable[..., Message]) -> None:
    with pytest.raises(asyncpg.DataError, match=r"in element #1 of the argument sequence: query argument \$2: "):
        make("x", [(1, 2), (3, object())], None, None)


@pytest.mark.parametrize("element", ["ab", b"ab", 5, None, {1: 2}, {1}])
@pytest.mark.parametrize("make", [executemany, calls.fetchmany])
def test_an_element_that_is_no_sequence_is_refused(make: Callable[..., Message], element: Any) -> None:
    place = "invalid input in executemany() argument sequence element #1"
    words = f"{place}: expected a sequence, got {type(element).__name__}"
    with pytest.raises(asyncpg.DataError) as caught:
        make("x", [(1,), element], None, None)
    assert str(caught.value) == words


def test_elements_are_sequences_of_whatever_kind_and_are_read_once() -> None:
    def elements() -> Iterator[Any]:
        yield (1, 2)
        yield [3, 4]
        yield deque([5, 6])

    assert executemany("x", elements(), None, None).args == [[1, 2], [3, 4], [5, 6]]


def test_arguments_are_taken_as_they_are_now() -> None:
    args: list[object] = [1, 2]
    request = calls.execute("x", args, None, None)
    args.append(3)
    assert request.args == [1, 2]


def test_text_that_is_no_unicode_is_a_data_error_that_names_its_argument() -> None:
    request = calls.fetch("select $1, $2", ("fine", "\ud800"), None, None)
    with pytest.raises(UnicodeEncodeError) as caught:
        wire.encode([request])
    error = unencodable(request, caught.value)
    assert isinstance(error, asyncpg.DataError)
    assert "query argument $2" in str(error)
    assert error.__cause__ is caught.value
    many = calls.fetchmany("x", [("fine",), ("\ud800",)], None, None)
    assert "query argument $1 in element #1 of" in str(unencodable(many, caught.value))
    with pytest.raises(asyncpg.DataError, match="query argument \\$1 in element #1 of executemany\\(\\) sequence"):
        executemany("x", [("fine",), ("\ud800",)], None, None)
    statement = calls.execute("select '\ud800'", (), None, None)
    assert unencodable(statement, caught.value) is caught.value


# --- results ------------------------------------------------------------------------------------------------


def test_rows_are_records() -> None:
    found = replies.rows(pending(rows(1, 5, 6)), FETCH)
    assert [record["n"] for record in found] == [5, 6]


def test_the_first_row_and_the_first_value_are_none_where_there_is_none() -> None:
    assert replies.first_row(pending(rows(1)), FETCH) is None
    assert replies.first_value(pending(rows(1)), FETCH, 0) is None
    assert replies.first_row(pending(rows(1, 5)), FETCH) == (5,)
    assert replies.first_value(pending(rows(1, 5)), FETCH, 0) == 5


def test_a_column_that_is_not_there_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="record index out of range"):
        replies.first_value(pending(rows(1, 5)), FETCH, 1)


def test_a_command_tag_is_text_even_where_there_is_none() -> None:
    assert replies.command_tag(pending(Done(1, "UPDATE 3")), FETCH) == "UPDATE 3"
    assert replies.command_tag(pending(Done(1)), FETCH) == ""


def test_a_lease_is_what_was_granted() -> None:
    asked = PendingLease(1)
    asked.reply = granted(1)
    assert replies.granted(asked, FETCH) == (asked.reply, asked.asked_at)


def test_a_failure_is_raised_with_the_statement_it_belongs_to() -> None:
    failure = Failed(1, "asyncpg", "syntax error", "PostgresSyntaxError", {"sqlstate": "42601"})
    with pytest.raises(asyncpg.PostgresSyntaxError) as caught:
        replies.rows(pending(failure), FETCH)
    assert caught.value.__dict__["query"] == "select n"
    with pytest.raises(asyncpg.PostgresSyntaxError):
        replies.pool_status(pending(failure), calls.status())


def test_what_ended_a_request_without_a_reply_is_raised_as_it_is() -> None:
    error = errors.OutcomeUnknown("lost")
    with pytest.raises(errors.OutcomeUnknown) as caught:
        replies.done(pending(error=error), FETCH)
    assert caught.value is error


@pytest.mark.parametrize("read", [replies.rows, replies.first_row, replies.granted, replies.pool_status])
def test_a_reply_of_another_kind_is_an_error_that_names_both(read: Callable[..., Any]) -> None:
    with pytest.raises(errors.PgactorError, match="answered Fetch with Done"):
        read(pending(Done(1)), FETCH)


@pytest.mark.parametrize(
    ("reply", "inside"),
    [
        (Done(1, None, True), True),
        (Done(1), False),
        (Failed(1, "pool", "x", in_transaction=True), True),
        (Rows(1, 1, None, rows(1).data, True), True),
        (granted(1), False),
        (None, False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_replies_tell_whether_the_lease_is_in_a_transaction(reply: Reply | None, inside: bool) -> None:
    assert replies.in_transaction(reply) is inside


def test_these_are_all_the_replies_there_are() -> None:
    assert Reply == Done | Rows | Results | Prepared | Opened | Granted | StatusReport | Failed
