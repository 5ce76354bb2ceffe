"""All browsers are told the same, a late one the history, and a slow one the newest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from pgactor.viewing import board as boards
from pgactor.viewing.board import Board
from pgactor.viewing.watch import Sight
from tests.viewing.statuses import sight, status


def seen(at: float, *pools: str, error: str = "") -> Sight:
    """A look at that time."""
    found = sight(*(status(pool=name) for name in pools or ("default",)), error=error)
    return msgspec.structs.replace(found, at=at)


async def told(stream: AsyncIterator[bytes]) -> list[tuple[str, Any]]:
    """The events of the stream's next piece."""
    pieces = (await anext(stream)).decode().split("\n\n")
    assert pieces.pop() == ""
    lines = [piece.split("\n") for piece in pieces]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


async def test_a_late_browser_gets_the_history_and_the_last_look() -> None:
    board = Board("1.2.3", 1.0)
    for at in (5.0, 6.0):
        board.post(seen(at))
    (start, begun), (name, state) = await told(board.stream())
    assert (start, name) == ("start", "state")
    assert (begun["version"], begun["interval"], begun["states"][0]) == ("1.2.3", 1.0, "idle")
    assert [point[0] for point in begun["history"]["default"]] == [5.0, 6.0]
    assert (state["at"], state["points"]["default"][0], state["pools"]["default"]["status"]["max_size"]) == (6, 6, 4)


async def test_all_get_the_same_and_a_slow_one_misses_what_is_old() -> None:
    board = Board("1.2.3", 1.0)
    quick, slow = board.stream(), board.stream()
    assert [name for name, _ in await told(quick)] == [name for name, _ in await told(slow)] == ["start"]
    waiting = asyncio.ensure_future(anext(quick))
    await asyncio.sleep(0)
    board.post(seen(5.0))
    first = await waiting
    board.post(seen(6.0))
    assert await anext(quick) is await anext(slow) is not first


async def test_a_look_without_an_answer_leaves_a_gap_and_shows_what_was_seen_last() -> None:
    board = Board("1.2.3", 1.0)
    board.post(seen(5.0))
    board.post(seen(6.0, error="gone"))
    board.post(seen(7.0))
    (_, begun), _ = await told(board.stream())
    assert [point[0] for point in begun["history"]["default"]] == [5.0, 7.0]
    board.post(seen(8.0, error="gone"))
    _, (_, state) = await told(board.stream())
    assert (state["error"], state["points"], list(state["pools"])) == ("gone", {}, ["default"])


async def test_the_history_is_bounded_and_that_of_a_pool_that_is_gone_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boards, "HISTORY", 3)
    board = Board("1.2.3", 1.0)
    board.post(seen(1.0, "default", "old"))
    for at in (2.0, 3.0, 4.0):
        board.post(seen(at))
    (_, begun), _ = await told(board.stream())
    assert {pool: len(points) for pool, points in begun["history"].items()} == {"default": 3, "old": 1}
    board.post(seen(5.0))
    (_, begun), _ = await told(board.stream())
    assert set(begun["history"]) == {"default"}


async def test_a_quiet_stream_sends_comments_and_ends_when_the_board_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boards, "SILENCE_SECONDS", 0.01)
    board = Board("1.2.3", 1.0)
    stream = board.stream()
    await anext(stream)
    assert await anext(stream) == b": nothing new\n\n"
    board.close()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
