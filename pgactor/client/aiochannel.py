"""An event loop's way to the supervisor: connects, and connects again."""

from __future__ import annotations

import asyncio
import os
import time

from ..errors import ClientClosed, LeaseLost
from ..messages import Bye, Request
from . import aiolinks, comments, tracing
from .aioconnected import AioConnected, Unsent
from .attempts import Attempts, Limit, connect_limit, unavailable
from .failures import unencodable
from .options import ANSWER_GRACE_SECONDS, Options
from .pending import Pending
from .requests import HeldLease, LostLink
from .surroundings import surroundings


class AioChannel:
    """All that the tasks of one event loop share towards one endpoint."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        self._connected: AioConnected | None = None
        self._connecting: asyncio.Lock | None = None
        self._pid = os.getpid()

    async def ask(self, request: Request, within: AioConnected | None = None) -> Pending:
        """Send the request and wait for its end. within: the link that it must go by, as what belongs to a lease.

        Raises `SupervisorUnavailable` if it could not be sent, `LeaseLost` if the link of the lease is gone. A task
        that is cancelled while it waits withdraws the request.
        """
        if tracing.tracer is not None and (trace := tracing.tracer.begin(request)) is not None:
            with trace:
                pending = await self.ask(request, within)
                trace.answered(pending)
            return pending
        if (around := surroundings.get()) is not None:
            around.mark(request)
        if self.options.comments:
            comments.add(request)
        now = time.monotonic()
        timeout = request.timeout
        patience = None if timeout is None else now + timeout + ANSWER_GRACE_SECONDS
        limit: Limit | None = None
        known = connected = within or self._connected
        while True:
            if connected is None or not connected.is_current:
                if within is not None:
                    raise LeaseLost(
                        "the lease belongs to a link that is lost, or to the parent of this process; acquire again"
                    )
                limit = connect_limit(self.options, now, timeout)
                connected = await self._connect(limit)
                if timeout is not None:
                    request.timeout = max(0.0, now + timeout - time.monotonic())
            try:
                pending = connected.begin(request, patience)
            except UnicodeEncodeError as error:
                raise unencodable(request, error)  # noqa: B904  # it has its cause
            try:
                await pending.waiter
            except BaseException:
                connected.withdraw(pending)
                raise
            if not isinstance(pending.error, Unsent):
                return pending
            if limit is not None and connected is not known and time.monotonic() >= limit.at:
                raise unavailable(self.options, limit, "it closes the link at once")

    async def call(self, request: Request, within: AioConnected | None = None) -> tuple[Pending, AioConnected]:
        """As `ask`; returns also the link by which the request went."""
        pending = await self.ask(request, within)
        return pending, pending.link

    @property
    def leases(self) -> list[HeldLease]:
        """Those that this process holds on the link."""
        connected = self._connected
        return [] if connected is None or not connected.is_current else list(connected.requests.leases.values())

    async def connected(self, timeout: float | None) -> AioConnected:
        """The link, made anew if there is none. Raises `SupervisorUnavailable`."""
        connected = self._connected
        if connected is not None and connected.is_current:
            return connected
        return await self._connect(connect_limit(self.options, time.monotonic(), timeout))

    @property
    def is_busy(self) -> bool:
        """Whether a request is unanswered."""
        connected = self._connected
        return connected is not None and connected.is_current and bool(connected.requests.pending)

    async def settled(self) -> None:
        """Wait until no request is unanswered."""
        while self.is_busy and self._connected is not None:
            await asyncio.wait([pending.waiter for pending in self._connected.requests.pending.values()])

    def close(self) -> None:
        """Say goodbye and end the link; whoever still waits gets an error."""
        self.closed = True
        connected = self._connected
        if connected is not None and connected.is_current:
            if connected.loop.is_closed():
                connected.link.close()
                return
            connected.post(Bye())
            connected.flush()
            connected.lost(LostLink("the client was closed"))

    async def _connect(self, limit: Limit) -> AioConnected:
        self._require_open()
        if self._connecting is None or self._pid != os.getpid():  # in a child, a task of the parent may hold it
            self._pid, self._connecting = os.getpid(), asyncio.Lock()
        connecting = self._connecting
        try:
            async with asyncio.timeout(max(0.0, limit.at - time.monotonic())):
                await connecting.acquire()
        except TimeoutError:
            raise unavailable(self.options, limit, "another task is still trying") from None
        try:
            connected = self._connected
            if connected is None or not connected.is_current:
                connected = self._connected = await self._try_until(limit)
                if self.closed:
                    connected.lost(LostLink("the client was closed"))
                    self._require_open()
            return connected
        finally:
            connecting.release()

    def _require_open(self) -> None:
        if self.closed:
            raise ClientClosed("the client is closed")

    async def _try_until(self, limit: Limit) -> AioConnected:
        attempts = Attempts(self.options, limit)
        while True:
            self._require_open()
            try:
                async with asyncio.timeout(attempts.seconds(time.monotonic())):
                    return await self._try()
            except OSError as error:  # a TimeoutError and a LostLink among them
                pause = attempts.pause(error, time.monotonic())
            await asyncio.sleep(pause)

    async def _try(self) -> AioConnected:
        connected = AioConnected(self.options)
        connected.link = await aiolinks.connect(self.options, connected)
        try:
            connected.post(connected.requests.hello())
            await connected.welcome
        except BaseException:
            connected.link.close()
            raise
        return connected
