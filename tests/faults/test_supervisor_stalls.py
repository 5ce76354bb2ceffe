"""The event loop's stalls are measured, and told of in the log and in the status."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from pgactor import AsyncClient
from pgactor.actors import stalls
from tests.faults.inprocess import in_process

STALL = 0.1


def lingers(seconds: float) -> None:
    """A callback that takes long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


async def test_a_stall_is_told_with_its_length_and_its_callback(
    dsn: str, short_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        in_process(dsn, short_tmp, stall_seconds=STALL) as supervisor,
        AsyncClient(supervisor.endpoints[0]) as client,
    ):
        before = (await client.status()).stalls  # a busy machine may have some
        asyncio.get_running_loop().call_soon(lingers, 8 * STALL)
        await asyncio.sleep(0)
        while (status := await client.status()).stalls == before:
            await asyncio.sleep(0.01)
        assert status.longest_stall_seconds >= 6 * STALL
        assert "lingers (faults/test_supervisor_stalls.py:" in status.last_stall
        assert f"the event loop stood still for {status.last_stall}" in caplog.text


async def test_a_stall_that_does_not_end_is_told_of_while_it_lasts(
    dsn: str, short_tmp: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STUCK_SECONDS", 2 * STALL)
    said: list[str] = []

    def waits_for_the_log() -> None:
        end = time.monotonic() + 10
        while not said and time.monotonic() < end:
            time.sleep(0.01)
            said.extend(record.getMessage() for record in caplog.records if "stuck" in record.getMessage())

    async with in_process(dsn, short_tmp, stall_seconds=STALL):
        asyncio.get_running_loop().call_soon(waits_for_the_log)
        await asyncio.sleep(0.01)
    assert "waits_for_the_log" in said[0]


async def test_nothing_is_told_where_nothing_is_watched(
    dsn: str, short_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        in_process(dsn, short_tmp, stall_seconds=0) as supervisor,
        AsyncClient(supervisor.endpoints[0]) as client,
    ):
        asyncio.get_running_loop().call_soon(lingers, 2 * STALL)
        await asyncio.sleep(0)
        assert (await client.status()).stalls == 0
    assert "stood still" not in caplog.text
