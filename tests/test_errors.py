"""The error tree: its codes, its marks, and the drawing of it."""

from __future__ import annotations

import pickle
import re

import pytest

from pgactor import errors
from pgactor.errors import BY_CODE, PgactorError

CODES = {
    "client": "ClientError",
    "client_closed": "ClientClosed",
    "config": "ConfigError",
    "database_unavailable": "DatabaseUnavailable",
    "internal": "PgactorError",
    "lease": "LeaseError",
    "lease_expired": "LeaseExpired",
    "lease_lost": "LeaseLost",
    "message_too_large": "MessageTooLarge",
    "not_permitted": "NotPermitted",
    "outcome_unknown": "OutcomeUnknown",
    "pool": "PoolError",
    "pool_closing": "PoolClosing",
    "pool_timeout": "PoolTimeout",
    "protocol": "ProtocolError",
    "queue_full": "QueueFull",
    "pool_deadlock": "PoolDeadlock",
    "request_cancelled": "RequestCancelled",
    "request_timeout": "RequestTimeout",
    "supervisor_unavailable": "SupervisorUnavailable",
    "unsupported_type": "UnsupportedType",
}
"""What is on the wire: a code never changes, and is never used for another class."""

RETRY = {"SupervisorUnavailable", "PoolTimeout", "QueueFull", "DatabaseUnavailable", "PoolClosing"}
"""Whoever gets one of these may try again: the request was certainly not run."""

BUILTINS: dict[str, type[Exception]] = {
    "UnsupportedType": TypeError,
    "SupervisorUnavailable": ConnectionError,
    "OutcomeUnknown": ConnectionError,
    "RequestTimeout": TimeoutError,
    "PoolTimeout": TimeoutError,
    "DatabaseUnavailable": ConnectionError,
}
"""What those who know nothing of pgactor catch."""

OURS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PgactorError)]


def drawing() -> list[tuple[str, str, str, bool]]:
    """(class, its base, its words, whether it is marked) of each line of the tree in the module's docstring."""
    assert errors.__doc__ is not None
    found: list[tuple[str, str, str, bool]] = []
    above = ["PgactorError"]
    for line in errors.__doc__.splitlines():
        drawn = re.match(r"    ((?:│   |    )*)[├└]── (\w+)\s+(.*?)(\s+\(retry\))?$", line)
        if drawn is not None:
            branches, name, words, mark = drawn.groups()
            depth = len(branches) // 4 + 1
            above[depth:] = [name]
            found.append((name, above[depth - 1], words, mark is not None))
    return found


def test_codes_are_as_they_always_were() -> None:
    assert {code: cls.__name__ for code, cls in BY_CODE.items()} == CODES


def test_every_class_has_a_code_of_its_own() -> None:
    assert all("code" in vars(cls) for cls in OURS)
    assert sorted(cls.code for cls in OURS) == sorted(BY_CODE)
    assert all(BY_CODE[cls.code] is cls for cls in OURS)


def test_only_what_certainly_did_not_run_is_marked_for_retry() -> None:
    assert {cls.__name__ for cls in OURS if cls.retry} == RETRY


def test_the_drawing_shows_every_class_under_its_base() -> None:
    drawn = {(name, base) for name, base, _, _ in drawing()}
    assert drawn == {(cls.__name__, cls.__bases__[0].__name__) for cls in OURS if cls is not PgactorError}
    assert len(drawing()) == len(drawn)


def test_the_drawing_marks_what_may_be_tried_again() -> None:
    assert {name for name, _, _, marked in drawing() if marked} == RETRY


def test_the_drawing_says_something_of_every_class() -> None:
    assert all(words for _, _, words, _ in drawing())
    assert all(cls.__doc__ for cls in OURS)


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_those_who_know_nothing_of_us_catch_it_as_what_it_is(cls: type[PgactorError]) -> None:
    builtins = {base for base in (TypeError, ConnectionError, TimeoutError) if issubclass(cls, base)}
    expected = BUILTINS.get(cls.__name__)
    assert builtins == ({expected} if expected is not None else set())


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_an_error_is_its_text_and_its_facts(cls: type[PgactorError]) -> None:
    error = cls("what happened", size=3)
    assert str(error) == "what happened"
    assert error.args == ("what happened",)
    assert error.facts == {"size": 3}
    assert cls("x").facts == {}


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_an_error_survives_pickling(cls: type[PgactorError]) -> None:
    error = pickle.loads(pickle.dumps(cls("what happened", size=3)))
    assert type(error) is cls
    assert (str(error), error.facts) == ("what happened", {"size": 3})
