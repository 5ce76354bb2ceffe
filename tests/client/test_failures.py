"""Errors on their way: what the supervisor met is what the worker raises."""

from __future__ import annotations

import decimal
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions
from asyncpg.exceptions import _base

from pgactor import errors, wire
from pgactor.actors.failures import failed, statement_failed
from pgactor.client import failures
from pgactor.messages import DEFAULT_MAX_FRAME_BYTES, Failed

QUERY = "select * from users"
_META: Any = _base.PostgresMessageMeta
FIELDS: list[str] = [name for name in _META._field_map.values() if name != "sqlstate"]


def crossed(error: BaseException, query: str | None = QUERY) -> BaseException:
    """The error that the worker raises for the one that the supervisor met."""
    return failures.exception(over_the_wire(failed(3, error, in_transaction=True)), query)


def over_the_wire(message: Failed) -> Failed:
    (arrived,) = wire.supervisor_frames(DEFAULT_MAX_FRAME_BYTES).decode(wire.encode([message]))
    assert isinstance(arrived, Failed)
    assert arrived == message
    return arrived


def classes(base: type[Any]) -> list[Any]:
    """All of asyncpg's exceptions of this kind."""
    found = {each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, base)}
    return sorted(found, key=lambda cls: cls.__name__)


# --- asyncpg's ----------------------------------------------------------------------------------------------


def test_every_exception_of_asyncpg_is_of_a_kind_that_is_tested_here() -> None:
    kinds = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    others = [cls for cls in classes(BaseException) if not issubclass(cls, kinds)]
    assert all(issubclass(cls, Warning) for cls in others), "warnings are shown, never raised"
    assert len(classes(asyncpg.PostgresError)) > 200


@pytest.mark.parametrize("cls", classes(asyncpg.PostgresError), ids=lambda cls: cls.__name__)
def test_an_error_of_postgresql_arrives_as_it_was(cls: Any) -> None:
    error = cls(f"message of {cls.__name__}")
    error.__dict__.update({name: f"the {name}" for name in FIELDS}, query=QUERY)
    if cls.sqlstate is not None:
        error.__dict__["sqlstate"] = cls.sqlstate
    arrived: Any = crossed(error)
    assert type(arrived) is cls
    assert str(arrived) == str(error)
    assert "DETAIL:  the detail\nHINT:  the hint" in str(arrived)
    assert arrived.args == error.args
    assert arrived.as_dict() == error.as_dict()
    assert arrived.__dict__ == error.__dict__
    assert arrived.sqlstate == cls.sqlstate


@pytest.mark.parametrize("cls", classes(asyncpg.PostgresError), ids=lambda cls: cls.__name__)
def test_an_error_of_postgresql_with_nothing_but_a_message_arrives_as_it_was(cls: Any) -> None:
    error = cls("a message")
    arrived: Any = crossed(error)
    assert type(arrived) is cls
    assert (str(arrived), arrived.detail, arrived.hint) == ("a message", None, None)
    assert arrived.as_dict() == error.as_dict()


def test_an_error_of_postgresql_as_asyncpg_makes_it_arrives_as_it_was() -> None:
    error = asyncpg.PostgresError.new(
        {"C": "23505", "M": "duplicate key", "D": "Key (id)=(1) already exists.", "n": "users_pkey", "X": "unknown"},
        QUERY,
    )
    arrived: Any = crossed(error)
    assert isinstance(arrived, asyncpg.UniqueViolationError)
    assert arrived.__dict__ == error.__dict__
    assert arrived.constraint_name == "users_pkey"


def test_an_unknown_sqlstate_arrives_as_it_was() -> None:
    error = asyncpg.PostgresError.new({"C": "XX999", "M": "strange"}, QUERY)
    arrived: Any = crossed(error)
    assert type(arrived) is exceptions.UnknownPostgresError
    assert arrived.sqlstate == "XX999"


@pytest.mark.parametrize("cls", classes(asyncpg.InterfaceError), ids=lambda cls: cls.__name__)
def test_an_error_of_use_arrives_as_it_was(cls: Any) -> None:
    error = cls("wrong", detail="in detail", hint="do better")
    arrived: Any = crossed(error)
    assert type(arrived) is cls
    assert (str(arrived), arrived.detail, arrived.hint) == (str(error), "in detail", "do better")
    assert arrived.args == ("wrong",)


@pytest.mark.parametrize("cls", classes(asyncpg.InternalClientError), ids=lambda cls: cls.__name__)
def test_an_internal_error_of_asyncpg_arrives_as_it_was(cls: Any) -> None:
    error = cls("unexpected")
    arrived: Any = crossed(error)
    assert type(arrived) is cls
    assert str(arrived) == "unexpected"
    assert arrived.__dict__ == error.__dict__


def test_an_outdated_cache_says_which_type_it_is() -> None:
    error = exceptions.OutdatedSchemaCacheError("changed", schema="public", data_type="mood", position="2")
    arrived: Any = crossed(error)
    assert (arrived.schema_name, arrived.data_type_name, arrived.position) == ("public", "mood", "2")


def test_a_class_of_a_newer_asyncpg_arrives_as_its_base() -> None:
    of_postgresql = Failed(1, "asyncpg", "new", "VeryNewError", {"sqlstate": "99ZZZ", "detail": "d"})
    arrived: Any = failures.exception(of_postgresql, QUERY)
    assert type(arrived) is asyncpg.PostgresError
    assert (arrived.sqlstate, arrived.detail, arrived.__dict__["query"]) == ("99ZZZ", "d", QUERY)
    of_use = failures.exception(Failed(1, "asyncpg", "new", "VeryNewMisuse", {"detail": None}))
    assert type(of_use) is asyncpg.InterfaceError


def test_its_query_is_the_workers_own_text() -> None:
    error = asyncpg.PostgresError.new({"C": "42601", "M": "syntax error"}, "what the supervisor ran")
    assert crossed(error, "what the worker wrote").__dict__["query"] == "what the worker wrote"


# --- Python's -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad value"),
        TypeError("bad type"),
        OverflowError("too large"),
        ArithmeticError("no such number"),
        IndexError("out of range"),
        KeyError("missing"),
        NotImplementedError("not yet"),
        RuntimeError("broken"),
        ValueError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
    ids=repr,
)
def test_a_common_error_of_python_arrives_as_it_was(error: Exception) -> None:
    arrived = crossed(error)
    assert type(arrived) is type(error)
    assert (str(arrived) or None) == (str(error) or None)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (AssertionError(), "AssertionError: "),
    ],
    ids=repr,
)
def test_any_other_error_of_python_is_told_whole(error: Exception, text: str) -> None:
    arrived = crossed(error)
    assert type(arrived) is errors.PgactorError
    assert str(arrived).startswith(f"the supervisor met an unexpected {text}")


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "eval", "__import__", "Exception", ""])
def test_no_other_name_is_looked_up_among_pythons(name: str) -> None:
    assert type(failures.exception(Failed(1, "python", "x", name))) is errors.PgactorError


# --- ours ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", errors.BY_CODE.values(), ids=lambda cls: cls.__name__)
def test_an_error_of_our_own_arrives_with_its_facts(cls: type[errors.PgactorError]) -> None:
    facts = {"max_size": 4, "holders": ["a", "b"], "seconds": 1.5, "worker": None}
    arrived = crossed(cls("what happened", **facts))
    assert type(arrived) is cls
    assert isinstance(arrived, errors.PgactorError)
    assert str(arrived) == "what happened"
    assert arrived.facts == facts
    assert arrived.retry == cls.retry


def test_an_unknown_code_is_an_error_all_the_same() -> None:
    arrived = failures.exception(Failed(1, "from_the_future", "something new", "", {"a": 1}))
    assert type(arrived) is errors.PgactorError
    assert str(arrived) == "something new"
    assert arrived.facts == {"a": 1}


# --- causes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [TypeError, AttributeError, decimal.InvalidOperation])
def test_a_cause_that_is_common_arrives_as_it_was(cls: type[Exception]) -> None:
    error = asyncpg.DataError("invalid input")
    error.__cause__ = cls("an integer is required")
    cause = crossed(error).__cause__
    assert type(cause) is cls
    assert str(cause) == "an integer is required"


def test_asyncpgs_own_word_on_an_argument_has_no_query() -> None:
    assert getattr(crossed(asyncpg.DataError("invalid input"), QUERY), "query", None) is None


def test_any_other_cause_is_told() -> None:
    error = asyncpg.InterfaceError("cannot connect")
    error.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    cause = crossed(error).__cause__
    assert type(cause) is RuntimeError
    assert str(cause) == "ConnectionResetError: [Errno 104] Connection reset by peer"


def test_no_cause_stays_none() -> None:
    assert crossed(ValueError("x")).__cause__ is None


# --- errors of a statement ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [asyncpg.ConnectionDoesNotExistError("connection was closed"), ConnectionResetError(104, "reset by peer")],
    ids=repr,
)
def test_a_connection_that_breaks_under_a_statement_leaves_its_outcome_unknown(error: Exception) -> None:
    message = statement_failed(3, error, in_transaction=True)
    arrived = failures.exception(over_the_wire(message))
    assert type(arrived) is errors.OutcomeUnknown
    assert str(error) in str(arrived)
    assert not message.in_transaction


def test_asyncpgs_own_timeout_is_a_request_timeout() -> None:
    arrived = failures.exception(statement_failed(3, TimeoutError()))
    assert type(arrived) is errors.RequestTimeout
    assert "command_timeout" in str(arrived)


def test_our_own_errors_are_not_taken_for_lost_connections() -> None:
    message = statement_failed(3, errors.DatabaseUnavailable("down"), in_transaction=True)
    assert (message.code, message.in_transaction) == ("database_unavailable", True)


def test_other_errors_of_a_statement_are_themselves() -> None:
    message = statement_failed(3, asyncpg.UniqueViolationError("twice"), in_transaction=True)
    assert (message.error_class, message.in_transaction) == ("UniqueViolationError", True)
