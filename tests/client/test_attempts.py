"""When to try again, and when to give up."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from pgactor.client import attempts
from pgactor.client.attempts import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    SHORTEST_ATTEMPT_SECONDS,
    Attempts,
    Limit,
    connect_limit,
    unavailable,
)
from pgactor.client.requests import LostLink
from pgactor.errors import ProtocolError, SupervisorUnavailable

from .memory import ENDPOINT, options

REFUSED = ConnectionRefusedError(111, "connection refused")
LIMIT = Limit(1010.0, 10.0, "connect_timeout")


def pauses(count: int, now: float = 1000.0) -> list[float]:
    trying = Attempts(options(), LIMIT)
    return [trying.pause(REFUSED, now) for _ in range(count)]


# --- the limit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 10.0, 60.0])
def test_a_request_with_time_enough_waits_for_connect_timeout(timeout: float | None) -> None:
    limit = connect_limit(options(connect_timeout=10.0), 1000.0, timeout)
    assert (limit.at, limit.words) == (1010.0, "connect_timeout (10 s)")


@pytest.mark.parametrize("timeout", [0.0, 1.5])
def test_a_request_with_less_time_waits_no_longer_than_that(timeout: float) -> None:
    limit = connect_limit(options(connect_timeout=10.0), 1000.0, timeout)
    assert (limit.at, limit.words) == (1000.0 + timeout, f"the request's timeout ({timeout:g} s)")


def test_the_error_names_the_endpoint_the_limit_and_the_reason() -> None:
    error = unavailable(options(), LIMIT, "nobody is there")
    assert str(error) == (
        f"no supervisor answered at {ENDPOINT} within connect_timeout (10 s): nobody is there; is `pgactor serve` "
        "running with this endpoint?"
    )
    assert error.retry


def test_a_last_attempt_that_has_no_time_left_does_not_hide_why_the_others_failed() -> None:
    trying = Attempts(options(), LIMIT)
    with pytest.raises(SupervisorUnavailable, match="did not answer"):
        trying.pause(TimeoutError(), 1010.0)
    trying.pause(REFUSED, 1000.0)
    with pytest.raises(SupervisorUnavailable, match="connection refused"):
        trying.pause(TimeoutError(), 1010.0)


def test_an_attempt_may_take_until_the_limit_and_is_worth_something_even_then() -> None:
    trying = Attempts(options(), LIMIT)
    assert [trying.seconds(now) for now in (1000.0, 1009.0, 1010.0, 1011.0)] == [
        10.0,
        1.0,
        SHORTEST_ATTEMPT_SECONDS,
        SHORTEST_ATTEMPT_SECONDS,
    ]


# --- pauses -------------------------------------------------------------------------------------------------


def test_pauses_grow_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "random", SimpleNamespace(uniform=lambda _, high: high))
    found = pauses(8)
    assert found[:5] == pytest.approx([FIRST_PAUSE_SECONDS * 2**n for n in range(5)])
    assert found[5:] == [LONGEST_PAUSE_SECONDS] * 3


def test_pauses_are_jittered_by_up_to_a_half() -> None:
    random.seed(7)
    found = [pauses(8) for _ in range(200)]
    for number, several in enumerate(zip(*found, strict=True)):
        full = min(FIRST_PAUSE_SECONDS * 2**number, LONGEST_PAUSE_SECONDS)
        assert all(full / 2 <= pause <= full for pause in several)
        assert max(several) - min(several) > full / 4, "workers do not come at once"


def test_each_request_begins_with_the_shortest_pause() -> None:
    pauses(8)
    assert pauses(1)[0] <= FIRST_PAUSE_SECONDS


def test_no_pause_goes_beyond_the_limit() -> None:
    assert pauses(8, 1009.999) == [pytest.approx(0.001)] * 8


def test_the_last_attempt_is_made_at_the_limit() -> None:
    now, trying, count = 1000.0, Attempts(options(), LIMIT), 0
    while now < LIMIT.at:
        now += trying.pause(REFUSED, now)
        count += 1
    assert now == LIMIT.at
    with pytest.raises(SupervisorUnavailable, match=r"within connect_timeout \(10 s\): connection refused"):
        trying.pause(REFUSED, now)
    assert 20 <= count <= 50


# --- the end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (REFUSED, "connection refused"),
        (LostLink("the supervisor has closed the link"), "the supervisor has closed the link"),
        (TimeoutError("the supervisor did not greet in time"), "the supervisor did not greet in time"),
        (TimeoutError(), "whoever listens there did not answer"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_whatever_fails_is_tried_again_and_is_the_reason_at_the_limit(error: OSError, words: str) -> None:
    trying = Attempts(options(), LIMIT)
    assert trying.pause(error, 1009.0) > 0
    with pytest.raises(SupervisorUnavailable, match=f": {words}; is `pgactor serve` running"):
        trying.pause(error, 1010.0)


def test_a_socket_that_belongs_to_somebody_else_is_the_end_at_once() -> None:
    with pytest.raises(SupervisorUnavailable, match="Permission denied; the socket is for its owner alone"):
        Attempts(options(), LIMIT).pause(PermissionError(13, "Permission denied"), 1000.0)


def test_a_lost_link_with_a_reason_is_the_end_at_once_with_that_reason() -> None:
    reason = ProtocolError("use the same pgactor on both sides")
    with pytest.raises(ProtocolError) as caught:
        Attempts(options(), LIMIT).pause(LostLink("it says no", reason), 1000.0)
    assert caught.value is reason
    assert caught.value.__suppress_context__
