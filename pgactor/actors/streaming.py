"""Large results of the session lane: encoded and passed on a part at a time, so that others have their turns and no
more than a part waits for a worker that is slow to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from ..core.request import Request
from .reply import PART_BYTES
from .shapes import Shape

FIRST_ROWS = 200
"""How many rows are encoded at first; then as many as are about a part."""


class TakesParts(Protocol):
    """Who passes parts of a result on."""

    def part(self, request: Request, shape: Shape, rows: bytes, go_on: Callable[[], object]) -> bool: ...


async def pass_on(
    request: Request, shape: Shape, rows: Sequence[Sequence[Any]], reports: TakesParts, max_bytes: int
) -> bytes:
    """Pass on all rows of a large result but the last ones, which are returned, encoded.

    Raises UnsupportedType for a value that cannot cross. What would be more than `max_bytes`, or than the worker
    takes, is made smaller, if it has more than one row.
    """
    at, count = 0, FIRST_ROWS
    cap = min(max_bytes, request.worker.link.max_frame_bytes) // 2
    while True:
        encoded = shape.encode(rows[at : at + count])
        if len(encoded) > cap and count > 1:
            count = max(1, min(count, len(rows) - at) // 2)
            continue
        if at + count >= len(rows) or request.answered:
            return encoded
        await _part(request, shape, encoded, reports)
        at += count
        count = max(1, min(4 * count, count * PART_BYTES // len(encoded)))


async def pass_all_on(
    request: Request, shape: Shape, rows: Sequence[Sequence[Any]], reports: TakesParts, max_bytes: int
) -> None:
    """Pass on all of some rows of a large result, before its end has come. Raises what `pass_on` does."""
    encoded = await pass_on(request, shape, rows, reports, max_bytes)
    if not request.answered:
        await _part(request, shape, encoded, reports)


async def _part(request: Request, shape: Shape, encoded: bytes, reports: TakesParts) -> None:
    """Pass one part on; returns when there is room for another."""
    room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if reports.part(request, shape, encoded, partial(_settle, room)):
        await asyncio.sleep(0)
    else:
        await room


def _settle(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
