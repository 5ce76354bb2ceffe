"""An event loop's way to the supervisor: connects, and connects again."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial

from ..errors import ClientClosed, LeaseLost
from ..messages import Failed, Request
from ..messages.unions import StatementRequest
from . import aiolinks, comments, tracing
from .aioconnected import AioConnected
from .attempts import Attempts, Limit, connect_limit, unavailable
from .failures import link_lost, unencodable
from .line import SHARED, Line
from .options import ANSWER_GRACE_SECONDS, Options
from .pending import Pending, PendingCopy
from .requests import HeldLease, LostLink, Unsent
from .surroundings import surroundings


class AioChannel:
    """All that the tasks of one event loop share towards one endpoint."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        self.line = Line()
        self._connected: AioConnected | None = None
        self._moved: list[AioConnected] = []  # links that end when what was begun on them has ended
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
        if within is not None or type(request) not in SHARED:
            return await self._ask(request, within, time.monotonic())
        line, now = self.line, time.monotonic()
        if line.is_full or self._connected is None:
            line, now, has_place = await self._wait_for_place(request, now)
            if not has_place:
                return await self._lapsed(request, now)
        else:
            line.out += 1
        try:
            pending = await self._ask(request, None, now)
            if type(pending.reply) is Failed:
                line.came_back(time.monotonic(), pending.reply)
            return pending
        finally:
            line.leave(time.monotonic())

    async def _wait_for_place(self, request: Request, now: float) -> tuple[Line, float, bool]:
        """Wait for a place among those that are with the supervisor. Returns in which line, since when, and whether
        there was one in time."""
        if self._pid != os.getpid():
            self._start_afresh()
        if self._connected is None:  # the supervisor has not said yet how many it wants
            await self._connect(connect_limit(self.options, now, request.timeout))
            now = _took_time(request, now)
        line = self.line
        if not line.is_full:
            line.out += 1
        elif await line.wait(now, request.timeout):
            came, now = now, _took_time(request, now)
            if isinstance(request, StatementRequest):  # as SHARED are
                request.waited = now - came
        else:
            return line, now, False
        return line, now, True

    async def _lapsed(self, request: Request, began: float) -> Pending:
        """The request's time was over before its turn came.

        Who holds the connections only the supervisor can tell. So now and then such a request is sent all the same,
        with no time left: it is answered at once, and the others are told the same words.
        """
        line, now, timeout = self.line, time.monotonic(), request.timeout
        if line.may_ask(now):
            request.timeout = 0.0
            pending = await self._ask(request, None, now)
            if not line.heard(time.monotonic(), pending.reply):
                return pending
        raise line.lapsed(time.monotonic(), now - began, timeout)

    async def _ask(self, request: Request, within: AioConnected | None, now: float) -> Pending:
        timeout = request.timeout
        patience = None if timeout is None else now + timeout + ANSWER_GRACE_SECONDS
        limit: Limit | None = None
        known = connected = within or self._connected
        while True:
            if connected is None or not connected.is_current:
                if within is not None:
                    raise link_lost()
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
            if connected.requests.moved:
                if within is not None:
                    raise LeaseLost("another supervisor has taken over, and this was not run: acquire again")
                connected = self._connected
                if timeout is not None:
                    request.timeout = max(0.0, now + timeout - time.monotonic())
            if limit is not None and connected is not known and time.monotonic() >= limit.at:
                raise unavailable(self.options, limit, "it closes the link at once")

    @property
    def leases(self) -> list[HeldLease]:
        """Those that this process holds on the link."""
        connected = self._connected
        return [] if connected is None or not connected.is_current else list(connected.requests.leases.values())

    async def connected(self, timeout: float | None) -> AioConnected:
        """The link, made anew if there is none. Raises `SupervisorUnavailable`."""
        connected = self._connected
        if connected is not None and connected.is_for_new:
            return connected
        return await self._connect(connect_limit(self.options, time.monotonic(), timeout))

    @property
    def is_busy(self) -> bool:
        """Whether requests are unanswered, or wait to be sent; copies are their leases' business."""
        return self._pid == os.getpid() and bool(self.line.out or self._unanswered)

    async def quiet(self) -> None:
        """Wait until it is not, or may be so."""
        await self.line.none_out()
        if unanswered := self._unanswered:
            await asyncio.wait(unanswered)

    @property
    def _unanswered(self) -> list[asyncio.Future[None]]:
        pending = [each for connected in self._current() for each in connected.requests.pending.values()]
        return [each.waiter for each in pending if not isinstance(each, PendingCopy)]

    def close(self) -> None:
        """Say goodbye and end the link; whoever still waits gets an error."""
        self.closed = True
        self.line.close(partial(ClientClosed, "the client is closed"))
        for connected in self._current():
            if connected.loop.is_closed():
                connected.link.close()
            else:
                connected.leave("the client was closed")

    def _current(self) -> list[AioConnected]:
        """The link, and those that are left as soon as nobody needs them."""
        links = self._moved if self._connected is None else [*self._moved, self._connected]
        return [connected for connected in links if connected.is_current]

    def _has_moved(self, connected: AioConnected) -> None:
        """Another supervisor serves the endpoint: what is new goes by another link."""
        if self._connected is connected:
            self._connected = None
        self._moved = [*(each for each in self._moved if each.is_current), connected]
        connected.watch_the_clock()  # to be left when nobody needs it

    async def _connect(self, limit: Limit) -> AioConnected:
        self._require_open()
        if self._pid != os.getpid():
            self._start_afresh()
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        connecting = self._connecting
        try:
            async with asyncio.timeout(max(0.0, limit.at - time.monotonic())):
                await connecting.acquire()
        except TimeoutError:
            raise unavailable(self.options, limit, "another task is still trying") from None
        try:
            connected = self._connected
            while connected is None or not connected.is_for_new:
                connected = self._connected = await self._try_until(limit)
                if self.closed:
                    connected.lost(LostLink("the client was closed"))
                    self._require_open()
            return connected
        finally:
            connecting.release()

    def _start_afresh(self) -> None:
        """In a forked child: the line is full of the parent's statements, and a task of its may hold the lock."""
        self._pid, self._connected, self._connecting, self.line = os.getpid(), None, None, Line()

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
        connected.requests.on_moved = partial(self._has_moved, connected)
        connected.link = await aiolinks.connect(self.options, connected)
        try:
            connected.post(connected.requests.hello())
            welcome = await connected.welcome
        except BaseException:
            connected.link.close()
            raise
        self.line.welcome(welcome.window, welcome.queue_timeout_seconds)
        return connected


def _took_time(request: Request, since: float) -> float:
    """Something took time since then: the request has less left. Returns the time now."""
    now = time.monotonic()
    if request.timeout is not None:
        request.timeout = max(0.0, since + request.timeout - now)
    return now
