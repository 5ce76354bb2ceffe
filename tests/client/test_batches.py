"""Batches: what can be one, and what its results and errors become."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest

from pgactor import AsyncClient, Client, PgactorError, wire
from pgactor.client import calls, replies
from pgactor.client.failures import unencodable
from pgactor.client.pending import Pending
from pgactor.client.requests import Requests
from pgactor.messages import PROTOCOL_VERSION, SHAPES_PER_LINK, Batch, Done, Failed, Results, Rows, Welcome
from pgactor.rows import Column, ColumnKind, RowEncoder

from .memory import ENDPOINT, MemorySupervisor, frame, options, rows

BROKEN = Failed(1, "asyncpg", "division by zero", "DivisionByZeroError", {"sqlstate": "22012"})


def requests() -> Requests:
    """A link that was welcomed."""
    made = Requests(options())
    made.feed(frame(Welcome(PROTOCOL_VERSION, 7, "memory", 1 << 20)))
    return made


def answered(request: Batch, *results: Done | Rows | Failed) -> Pending:
    """The request with these results."""
    link = requests()
    pending = link.begin(request)
    link.feed(frame(Results(pending.id, list(results))))
    return pending


# --- what can be one ----------------------------------------------------------------------------------------


def test_a_statement_is_a_text_or_a_sequence_that_begins_with_one() -> None:
    batch = calls.batch(["a", ("b",), ("c", 1, None), ["d", "x"]], 2.0)
    assert batch.statements == [("a", []), ("b", []), ("c", [1, None]), ("d", ["x"])]
    assert (batch.timeout, batch.atomic, batch.isolation, batch.readonly) == (2.0, True, None, False)


def test_statements_are_read_once_and_from_any_iterable() -> None:
    assert calls.batch((f"s{n}" for n in range(3)), None).statements == [("s0", []), ("s1", []), ("s2", [])]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (5, "a sequence (sql, *args), not int"),
        (None, "a sequence (sql, *args), not None"),
        ((), "a sequence (sql, *args), not ()"),
        (b"select 1", "a sequence (sql, *args), not bytes"),
        ({"select 1"}, "a sequence (sql, *args), not set"),
        ((1, "select 1"), "expected to be a str, not int"),
        ([["select 1"]], "expected to be a str, not list"),
    ],
)
def test_what_is_no_statement_is_a_type_error_that_names_its_index(statement: Any, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        calls.batch(["select 1", statement], None)
    assert str(caught.value).startswith("statement 1 of the batch is expected to be a")
    assert str(caught.value).endswith(words)


@pytest.mark.parametrize("statements", ["select 1", b"select 1"])
def test_a_single_text_is_no_batch(statements: Any) -> None:
    with pytest.raises(TypeError, match="a batch is expected to be an iterable of statements"):
        calls.batch(statements, None)


@pytest.mark.parametrize("level", ["SERIALIZABLE", "snapshot", "", 3, ["serializable"]])
def test_an_isolation_that_is_none_is_refused_with_those_there_are(level: Any) -> None:
    with pytest.raises(ValueError) as caught:
        calls.batch(["select 1"], None, isolation=level)
    assert str(caught.value) == (
        "isolation is expected to be one of read_committed, read_uncommitted, repeatable_read, serializable; "
        f"got {level!r}"
    )


@pytest.mark.parametrize("of_a_transaction", [{"isolation": "serializable"}, {"readonly": True}])
def test_without_a_transaction_there_is_no_isolation(of_a_transaction: Any) -> None:
    with pytest.raises(ValueError, match="isolation and readonly belong to a transaction"):
        calls.batch(["select 1"], None, atomic=False, **of_a_transaction)


CONTROL = (
    "begin",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "start transaction",
    " Commit ;",
    "end",
    "-- that is all\nrollback",
    "/* a * b / c **/ abort",
    "savepoint s",
    "rollback to s",
    "release s",
    ";commit",
    "prepare transaction 'x'",
)


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("sql", CONTROL)
def test_a_statement_that_begins_or_ends_a_transaction_is_refused(sql: str, atomic: bool) -> None:
    with pytest.raises(
        asyncpg.InterfaceError, match=r"^statement 1 of the batch is a [A-Z ]+: a batch begins"
    ) as caught:
        calls.batch(["select 1", (sql,)], None, atomic=atomic)
    assert caught.value.__dict__["batch_index"] == 1


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 -- commit",
        "beginning",
        "ending",
        "commit prepared 'x'",
        "rollback prepared 'x'",
        "prepare s as select 1",
        "update t set commit = 1",
        "release_it",
        "'commit'",
        "-- commit",
        "set transaction read only",
    ],
)
def test_a_statement_that_only_looks_like_one_is_not(sql: str) -> None:
    assert calls.batch([sql], None).statements == [(sql, [])]


def test_an_argument_that_does_not_cross_names_its_statement() -> None:
    with pytest.raises(
        asyncpg.DataError, match=r"^in statement 1 of the batch: query argument \$2: .*object"
    ) as caught:
        calls.batch(["select 1", ("select $1, $2", 1, object())], None)
    assert caught.value.__dict__["batch_index"] == 1
    assert caught.value.__notes__ == ["statement 1 of the batch: select $1, $2"]


def test_text_that_is_no_unicode_names_its_statement() -> None:
    request = calls.batch(["select 1", ("select $1, $2", "fine", "\ud800")], None)
    with pytest.raises(UnicodeEncodeError) as caught:
        wire.encode([request])
    error = unencodable(request, caught.value)
    assert isinstance(error, asyncpg.DataError)
    assert "query argument $2 in statement 1 of the batch" in str(error)
    assert error.__dict__["batch_index"] == 1
    statement = calls.batch(["select '\ud800'"], None)
    assert unencodable(statement, caught.value) is caught.value


# --- what it becomes ----------------------------------------------------------------------------------------


def test_results_are_rows_and_command_tags() -> None:
    request = calls.batch(["insert", "select", "nothing"], None)
    found = replies.results(answered(request, Done(0, "INSERT 0 1"), rows(1, 5, 6), Done(2)), request)
    assert found == ["INSERT 0 1", [(5,), (6,)], ""]
    assert found[1][0]["n"] == 5


def test_the_first_error_is_raised_with_the_statement_it_belongs_to() -> None:
    request = calls.batch(["select 1", ("update t\n   set a = 1 / $1", 0)], None)
    link = requests()
    pending = link.begin(request)
    link.feed(frame(msgspec.structs.replace(BROKEN, id=pending.id, index=1)))
    with pytest.raises(asyncpg.DivisionByZeroError, match="division by zero") as caught:
        replies.results(pending, request)
    assert caught.value.__dict__["batch_index"] == 1
    assert caught.value.__dict__["query"] == "update t\n   set a = 1 / $1"
    assert caught.value.__notes__ == ["statement 1 of the batch: update t set a = 1 / $1"]


def test_a_long_statement_is_noted_in_one_short_line() -> None:
    request = calls.batch(["select\n" + "x" * 10_000], None)
    link = requests()
    pending = link.begin(request)
    link.feed(frame(msgspec.structs.replace(BROKEN, id=pending.id, index=0)))
    with pytest.raises(asyncpg.DivisionByZeroError) as caught:
        replies.results(pending, request)
    (note,) = caught.value.__notes__
    assert note.startswith("statement 0 of the batch: select xxx")
    assert note.endswith("...")
    assert len(note) < 130


@pytest.mark.parametrize("index", [None, 1, -1])
def test_an_error_that_belongs_to_no_statement_has_no_index(index: int | None) -> None:
    request = calls.batch(["select 1"], None)
    link = requests()
    pending = link.begin(request)
    link.feed(frame(msgspec.structs.replace(BROKEN, id=pending.id, index=index)))
    with pytest.raises(asyncpg.DivisionByZeroError) as caught:
        replies.results(pending, request)
    assert not hasattr(caught.value, "batch_index")
    assert not hasattr(caught.value, "__notes__")


def test_the_errors_of_statements_by_themselves_are_results() -> None:
    request = calls.batch(["a", "b", "c"], None, atomic=False)
    one, error, three = replies.results(answered(request, Done(0, "A"), BROKEN, rows(2, 3)), request)
    assert (one, three) == ("A", [(3,)])
    assert type(error) is asyncpg.DivisionByZeroError
    assert (error.__dict__["batch_index"], error.__dict__["query"]) == (1, "b")


def test_shapes_are_learned_from_results_and_used_by_those_behind() -> None:
    request = calls.batch(["a", "b"], None)
    found = replies.results(answered(request, rows(0, 1), rows(1, 2, columns=None)), request)
    assert found == [[(1,)], [(2,)]]


def test_shapes_are_learned_from_results_that_nobody_waits_for() -> None:
    link = requests()
    forgotten = link.begin(calls.batch(["a"], None))
    link.forget(forgotten)
    assert link.feed(frame(Results(forgotten.id, [rows(0, 1)]))) == ([], [])
    pending = link.begin(calls.fetch("b", (), None, None))
    link.feed(frame(rows(pending.id, 2, columns=None)))
    assert replies.rows(pending, calls.fetch("b", (), None, None)) == [(2,)]


def test_a_shape_that_others_of_the_same_batch_push_out_serves_those_before() -> None:
    def other(index: int) -> Rows:
        columns = [Column("n", ColumnKind.INT if index else ColumnKind.STR, f"type {index}")]
        return Rows(index, index + 1, columns, msgspec.Raw(RowEncoder(tuple(columns)).encode([(index or "x",)])))

    count = SHAPES_PER_LINK + 5
    request = calls.batch(["x"] * count, None)
    found = replies.results(answered(request, *map(other, range(count))), request)
    assert [row["n"] for (row,) in found] == ["x", *range(1, count)]


def test_rows_of_a_shape_that_was_never_told_are_an_error() -> None:
    request = calls.batch(["a"], None)
    with pytest.raises(PgactorError, match="never told the columns of shape 1"):
        replies.results(answered(request, rows(0, 1, columns=None)), request)


# --- both clients -------------------------------------------------------------------------------------------


def test_a_batch_of_nothing_is_nothing_and_asks_nobody(supervisor: MemorySupervisor) -> None:
    async def awaited() -> list[Any]:
        return await AsyncClient(ENDPOINT).batch(iter(()))

    assert Client(ENDPOINT).batch([]) == []
    assert asyncio.run(awaited()) == []
    assert (supervisor.links, supervisor.aiolinks) == ([], [])
