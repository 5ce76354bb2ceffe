"""asyncpg's connection as the session lane has it, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from pgactor.actors import pgwire
from pgactor.actors.copying import CopyFromWorker
from pgactor.actors.session import Session
from pgactor.actors.tap import Tap
from pgactor.messages import Token
from pgactor.messages.copying import Chunk, CopyIn

COPY = CopyIn(id=1, epoch=1, timeout=None, method="copy_to_table", table="numbers", options={}, lease=Token(1, 0, 1))


@pytest.mark.parametrize("args", [[(1,), ("no int",)], [(1,), *[(0,)] * 100_000]])
def test_many_arguments_given_up_as_the_statement_has_failed_leave_nothing_to_wait_for(
    dsn: str, args: list[Any]
) -> None:
    async def story() -> None:
        session: Session = await asyncpg.connect(dsn, connection_class=Session)
        transport: asyncio.Transport = session._transport
        try:
            await session.executemany("select 1 / $1::int", [(1,)])
            many = asyncio.create_task(session.executemany("select 1 / $1::int", args))
            while session._feed is None or session._feed.ended:
                await asyncio.sleep(0)
            given_up: list[bool] = []
            receiver: Any = transport.get_protocol()
            transport.set_protocol(Tap(receiver, lambda: given_up.append(session.give_up()), kind=pgwire.READY))
            with pytest.raises((asyncpg.DataError, asyncpg.DivisionByZeroError)):
                await many
            assert given_up == [False]
            async with asyncio.timeout(30):
                await session.quiet()
                assert await session.fetchval("select 7") == 7
        finally:
            session.terminate()

    asyncio.run(story())


def test_a_copy_given_up_after_it_has_failed_leaves_nothing_to_wait_for(dsn: str) -> None:
    async def story() -> None:
        session: Session = await asyncpg.connect(dsn, connection_class=Session)
        peer: Any = SimpleNamespace(send=lambda message: None)
        try:
            await session.execute("create temp table numbers (number int)")
            copy = CopyFromWorker(COPY, peer)
            running = asyncio.create_task(copy.run(session))
            while not copy._credit:
                await asyncio.sleep(0)
            transport, ended = session._transport, asyncio.Event()
            receiver: Any = transport.get_protocol()
            transport.set_protocol(Tap(receiver, ended.set, kind=pgwire.READY))
            session._protocol.pause_writing()  # which is what asyncpg waits for once it has sent this
            copy.hear(Chunk(1, b"no int\n"))
            await ended.wait()
            if not copy.give_up():
                running.cancel()
            session._protocol.resume_writing()
            with pytest.raises((asyncpg.InvalidTextRepresentationError, asyncio.CancelledError)):
                await running
            async with asyncio.timeout(30):
                await session.quiet()
                assert await session.fetchval("select 7") == 7
        finally:
            session.terminate()

    asyncio.run(story())


@pytest.mark.parametrize("too_early", [1, 3])
def test_a_cancel_request_that_came_too_early_is_sent_again(dsn: str, too_early: int) -> None:
    async def story() -> None:
        session: Session = await asyncpg.connect(dsn, connection_class=Session)
        cancel, asked = session._cancel, 0

        async def come_too_early(waiter: asyncio.Future[None], *more: Any) -> None:
            """PostgreSQL has nothing to cancel yet."""
            nonlocal asked
            asked += 1
            if asked > too_early:
                await cancel(waiter, *more)
            else:
                waiter.set_result(None)

        session._cancel = come_too_early
        try:
            running = asyncio.create_task(session.execute("select pg_sleep(600)"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            async with asyncio.timeout(60):
                await session.quiet()
                assert await session.fetchval("select 7") == 7
            assert asked == too_early + 1
        finally:
            session.terminate()

    asyncio.run(story())
