"""Tasks that share a link, in an event loop."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from pgactor.client import calls
from pgactor.client.acquirer import Entered
from pgactor.client.aiochannel import AioChannel
from pgactor.client.aioconnected import AioConnected
from pgactor.client.pending import Pending
from pgactor.messages import Done, Request, Token
from pgactor.messages.session import Notice, Settings

from .memory import MemoryAioLink, MemorySupervisor
from .virtual import now, turns


class HeldToken:
    """A lease, as its link sees it: it would expire if it were not renewed in time."""

    def __init__(self, fence: int = 1, ttl: float = 30.0) -> None:
        self.entered: Entered | None = None
        self.token = Token(7, 0, fence)
        self.ttl = ttl
        self.end: BaseException | None = None
        self.told: list[Settings | Notice] = []
        self.expires_at = now() + ttl

    def ended(self, error: BaseException) -> None:
        self.end = error

    def pushed(self, message: Settings | Notice) -> None:
        self.told.append(message)

    def renewed(self, at: float) -> bool:
        assert at < self.expires_at, "the renewal came too late"
        self.expires_at = at + self.ttl
        return True


def virtual_time(patch: pytest.MonkeyPatch) -> None:
    """The client's clock is the running loop's."""
    for module in ("aiochannel", "aioconnected"):
        patch.setattr(f"pgactor.client.{module}.time", SimpleNamespace(monotonic=now))


def call(channel: AioChannel, request: Request | None = None) -> asyncio.Task[tuple[Pending, AioConnected]]:
    """A task that makes one call."""
    return asyncio.create_task(_call(channel, request or calls.execute("x", (), None, None)))


async def _call(channel: AioChannel, request: Request) -> tuple[Pending, AioConnected]:
    pending = await channel.ask(request)
    return pending, pending.link


async def call_now(channel: AioChannel) -> Pending:
    """One call, without a task of its own."""
    return await channel.ask(calls.execute("x", (), None, None))


async def connect(channel: AioChannel, supervisor: MemorySupervisor) -> tuple[AioConnected, MemoryAioLink]:
    """Make one call, for its link."""
    task = call(channel)
    await turns()
    link = supervisor.aiolinks[-1]
    link.say(Done(link.requests[-1].id))
    _, connected = await task
    link.frames.clear()
    return connected, link


def kinds(link: MemoryAioLink) -> list[list[str]]:
    """What was told, by its kinds, frame by frame."""
    return [[type(message).__name__ for message in frame] for frame in link.frames]
