"""asyncpg's connection as the session lane has it, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from pgactor.actors import pgwire
from pgactor.actors.session import Session
from pgactor.actors.tap import Tap


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
