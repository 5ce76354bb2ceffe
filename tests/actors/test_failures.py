"""What the supervisor says of errors, to workers and to its log. How they arrive: tests/client/test_failures.py."""

from __future__ import annotations

import logging
from typing import Any

import asyncpg
import pytest

from pgactor import wire
from pgactor.actors.dialing import Dialer
from pgactor.actors.failures import failed, in_words, statement_failed
from pgactor.config.connect import ConnectSettings
from pgactor.errors import ConfigError, OutcomeUnknown, RequestTimeout

SECRET = "s3cr3tWORD"

CONNECT_SETTINGS: dict[str, ConnectSettings] = {
    "refused": ConnectSettings(dsn=f"postgresql://u:{SECRET}@127.0.0.1:1/db"),
    "no such socket": ConnectSettings(dsn=f"postgresql://u:{SECRET}@/db?host=/nowhere"),
    "a slash": ConnectSettings(dsn=f"postgresql://u:{SECRET}/x@127.0.0.1:1/db"),
    "a number sign": ConnectSettings(dsn=f"postgresql://u:{SECRET}#x@127.0.0.1:1/db"),
    "a number sign before": ConnectSettings(dsn=f"postgresql://u:x#{SECRET}@127.0.0.1:1/db"),
    "a question mark": ConnectSettings(dsn=f"postgresql://u:{SECRET}?x@127.0.0.1:1/db"),
    "a question mark before": ConnectSettings(dsn=f"postgresql://u:x?{SECRET}@127.0.0.1:1/db"),
    "a bracket": ConnectSettings(dsn=f"postgresql://u:[{SECRET}@127.0.0.1:1/db"),
    "a colon": ConnectSettings(dsn=f"postgresql://u:x:{SECRET}@127.0.0.1:1/db"),
    "a wrong escape": ConnectSettings(dsn=f"postgresql://u:%zz{SECRET}@127.0.0.1:1/db"),
    "no host": ConnectSettings(dsn=f"postgresql://u:{SECRET}"),
    "no port": ConnectSettings(dsn=f"postgresql://u:{SECRET}@127.0.0.1:port/db"),
    "no such port": ConnectSettings(dsn=f"postgresql://u:{SECRET}@127.0.0.1:99999/db"),
    "another database": ConnectSettings(dsn=f"mysql://u:{SECRET}@127.0.0.1:1/db"),
    "no scheme": ConnectSettings(dsn=f"u:{SECRET}@127.0.0.1:1/db"),
    "libpq's other form": ConnectSettings(dsn=f"host=127.0.0.1 port=1 user=u password={SECRET}"),
    "a wrong option": ConnectSettings(dsn=f"postgresql://u:{SECRET}@127.0.0.1:1/db?sslmode=perhaps"),
    "apart": ConnectSettings(host="127.0.0.1", port=1, user="u", password=SECRET),
}


@pytest.mark.parametrize("settings", CONNECT_SETTINGS.values(), ids=CONNECT_SETTINGS.keys())
async def test_no_failure_to_connect_tells_the_password(
    settings: ConnectSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises((OSError, ValueError, OverflowError, ConfigError, asyncpg.InterfaceError)) as caught:
        await Dialer(settings).open()
    error = caught.value
    assert SECRET not in in_words(error)
    assert SECRET.encode() not in wire.encode([failed(1, error)])
    assert error.__cause__ is None or SECRET not in in_words(error.__cause__)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("name", ["a slash", "a question mark before", "no port"])
async def test_a_dsn_that_cannot_be_parsed_is_an_error_of_settings(name: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoded"):
        await Dialer(CONNECT_SETTINGS[name]).open()


async def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"sslmode is expected to be one of disable, .*; got 'perhaps'"):
        await Dialer(CONNECT_SETTINGS["a wrong option"]).open()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError: [Errno 111] Connection refused"),
        (TimeoutError(), "TimeoutError"),
        (asyncpg.InterfaceError(" padded \n"), "InterfaceError: padded"),
        (asyncpg.PostgresError("no", "x"), "PostgresError: no"),
    ],
    ids=repr,
)
def test_an_error_in_words_is_its_class_and_its_text(error: Exception, words: str) -> None:
    assert in_words(error) == words


def test_an_error_keeps_its_request_and_the_state_of_its_lease() -> None:
    message = failed(7, ValueError("x"), in_transaction=True)
    assert (message.id, message.in_transaction) == (7, True)
    assert failed(None, ValueError("x")).id is None


@pytest.mark.parametrize("error", [ValueError(), ValueError(1), ValueError("a", "b"), OSError(2, "gone")], ids=repr)
def test_the_text_of_an_error_is_text_whatever_its_arguments_are(error: Any) -> None:
    assert failed(1, error).message == str(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "request_timeout"),
        (asyncpg.ConnectionDoesNotExistError("lost"), "outcome_unknown"),
        (ConnectionResetError(), "outcome_unknown"),
        (OutcomeUnknown("why"), "outcome_unknown"),
        (RequestTimeout("late"), "request_timeout"),
        (asyncpg.UniqueViolationError("twice"), "asyncpg"),
        (OverflowError("date value out of range"), "python"),
    ],
    ids=repr,
)
def test_an_error_that_ended_a_statement_tells_what_became_of_it(error: Exception, code: str) -> None:
    message = statement_failed(7, error, index=3)
    assert (message.id, message.code, message.index) == (7, code, 3)
