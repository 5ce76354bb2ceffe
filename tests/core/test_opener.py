"""A few opens at a time; after failures one, and not before a back-off has passed."""

from __future__ import annotations

from random import Random

import pytest

from pgactor.core.opener import Opener


def opener(seed: int = 1) -> Opener:
    return Opener(at_once=3, backoff=0.1, backoff_max=5.0, random=Random(seed))


def fail(opener: Opener, now: float) -> float:
    """One attempt that fails; returns how long the pause is."""
    opener.started()
    opener.failed(now, "refused")
    return opener.not_before - now


def test_only_so_many_are_opened_at_once() -> None:
    it = opener()
    for _ in range(3):
        assert it.may_open(0.0)
        it.started()
    assert not it.may_open(0.0)
    it.succeeded()
    assert it.may_open(0.0)


def test_the_pause_doubles_with_each_failure_up_to_its_maximum() -> None:
    it = opener()
    full = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    now = 0.0
    for expected in full:
        pause = fail(it, now)
        assert expected / 2 <= pause <= expected
        assert not it.may_open(now + pause * 0.999)
        now = it.not_before
        assert it.may_open(now)


def test_the_pause_stays_at_its_maximum_however_often_it_fails() -> None:
    it = opener()
    now = 0.0
    for _ in range(5000):
        pause = fail(it, now)
        now = it.not_before
    assert 2.5 <= pause <= 5.0


def test_attempts_that_were_begun_together_and_fail_together_count_once() -> None:
    it = opener()
    fail(it, 1.0)
    before = it.not_before
    fail(it, 1.01)
    assert (it.failures, it.not_before, it.opening) == (1, before, 0)


def test_the_pause_is_jittered() -> None:
    pauses = {fail(opener(seed), 0.0) for seed in range(20)}
    assert len(pauses) == 20
    assert max(pauses) - min(pauses) > 0.025


def test_while_the_last_attempt_failed_one_is_opened_at_a_time() -> None:
    it = opener()
    fail(it, 0.0)
    assert it.may_open(10.0)
    it.started()
    assert not it.may_open(10.0)


def test_a_success_forgets_the_failures() -> None:
    it = opener()
    fail(it, 4.0)
    fail(it, 5.0)
    assert (it.failures, it.failing_since, it.last_error) == (2, 4.0, "refused")
    it.started()
    it.succeeded()
    assert (it.failures, it.failing_since, it.last_error) == (0, None, "")
    assert it.may_open(5.0)
    assert fail(it, 6.0) <= 0.1


def test_a_backend_that_died_is_followed_by_a_short_pause() -> None:
    it = opener()
    it.died(1.0)
    assert not it.may_open(1.0)
    assert it.may_open(1.1)
    assert it.failures == 0


def test_a_backend_that_died_does_not_shorten_a_longer_pause() -> None:
    it = opener()
    now = 0.0
    for _ in range(10):
        now = it.not_before
        fail(it, now)
    before = it.not_before
    it.died(now)
    assert it.not_before == before


@pytest.mark.parametrize("failures", [0, 2])
def test_an_open_that_we_gave_up_says_nothing_about_the_database(failures: int) -> None:
    it = opener()
    for _ in range(failures):
        fail(it, 0.0)
    before = (it.failures, it.failing_since, it.not_before)
    it.started()
    it.abandoned()
    assert it.opening == 0
    assert (it.failures, it.failing_since, it.not_before) == before
