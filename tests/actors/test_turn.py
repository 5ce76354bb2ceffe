"""How long a reply may have waited for the loop."""

from __future__ import annotations

import asyncio

import pytest

from pgactor.actors import turn
from pgactor.actors.turn import ASLEEP_SECONDS, Turn
from tests.client.virtual import now, pass_by, run, turns


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "monotonic", now)


def test_a_turn_begins_once() -> None:
    async def story() -> None:
        made = Turn()
        made.enter()
        began = made.began
        assert began == now()
        pass_by(0.5)
        made.enter()
        assert made.began == began
        await turns(1)
        made.enter()
        assert made.began == now() == began + 0.5

    run(story())


def test_what_is_there_after_the_loop_has_slept_has_just_come() -> None:
    async def story() -> None:
        made = Turn()
        made.enter()
        pass_by(0.5)
        await asyncio.sleep(2 * ASLEEP_SECONDS)
        made.enter()
        assert made.lag == 0.0

    run(story())


def test_what_is_there_when_the_loop_comes_back_from_its_work_may_have_come_at_any_time_of_it() -> None:
    async def story() -> None:
        made = Turn()
        await turns()
        made.enter()
        pass_by(0.5)
        await turns(1)
        made.enter()
        assert made.lag == pytest.approx(0.5)
        await turns(1)
        made.enter()
        assert made.lag == 0.0, "that turn took no time"

    run(story())


def test_after_a_short_turn_the_loop_goes_on_looking_so_what_comes_then_has_just_come() -> None:
    async def story() -> None:
        made = Turn(awake_seconds=1.0)
        made.enter()
        await turns(1)
        pass_by(0.5)
        await turns(2)
        pass_by(ASLEEP_SECONDS / 2)
        made.enter()
        assert made.lag == pytest.approx(ASLEEP_SECONDS / 2)

    run(story())


def test_the_loop_sleeps_when_nothing_has_come_for_a_while() -> None:
    async def story() -> None:
        made = Turn(awake_seconds=1.0)
        made.enter()
        await turns(2)
        awake = now()
        pass_by(1.0)
        await asyncio.sleep(5.0)
        assert now() == pytest.approx(awake + 6.0), "it slept"

    run(story())


def test_after_a_long_turn_the_loop_sleeps_at_once() -> None:
    async def story() -> None:
        made = Turn(awake_seconds=1.0)
        made.enter()
        pass_by(1.5)
        await turns(1)
        began = now()
        await asyncio.sleep(5.0)
        assert now() == pytest.approx(began + 5.0)

    run(story())
