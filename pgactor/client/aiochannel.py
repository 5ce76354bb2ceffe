"""One link for one event loop: connect, call, renew leases.

Requests of one turn of the loop leave as one frame. Nothing runs in the background but timers of the loop.
"""

from __future__ import annotations

import asyncio
import os
import random
import time

from .. import wire
from ..errors import ClientClosed, LeaseLost, MessageTooLarge, OutcomeUnknown
from ..messages import Bye, Message, Request, Welcome
from . import aiolinks
from .failures import unencodable
from .options import ANSWER_GRACE_SECONDS, Options
from .requests import HeldLease, Limit, LostLink, Pending, Requests, connect_limit, unavailable

SWEEP_SECONDS = 0.5
"""How often it is looked whether somebody has waited too long for an answer."""

NEVER = float("inf")


class Unsent(Exception):
    """Nothing of the request was sent: it may be tried again."""


class AioConnected:
    """One link and its dialogue; leases belong to it and end with it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.requests = Requests(options)
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.link: aiolinks.AioLink
        self.welcome: asyncio.Future[Welcome] = self.loop.create_future()
        self._outbox: list[tuple[bytes, Pending | None]] = []
        self._outbox_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_beat = NEVER

    # --- out ----------------------------------------------------------------------------------------------

    def post(self, message: Message, pending: Pending | None = None) -> None:
        """Send the message at the end of this turn. Raises `MessageTooLarge`."""
        encoded = wire.encode_message(message)
        welcome = self.requests.welcome
        cap = welcome.max_frame_bytes if welcome is not None else self.options.max_frame_bytes
        if len(encoded) + 8 > cap:
            raise MessageTooLarge(
                f"the request is {len(encoded)} bytes, over the supervisor's cap of {cap} (max_frame_bytes); send "
                "fewer or smaller arguments at a time"
            )
        full: list[tuple[bytes, Pending | None]] = []
        if not self._outbox:
            self.loop.call_soon(self.flush)
        elif self._outbox_bytes + len(encoded) + 8 > cap:
            full, self._outbox, self._outbox_bytes = self._outbox, [], 0
        self._outbox.append((encoded, pending))
        self._outbox_bytes += len(encoded)
        self._send(full)  # last: when that loses the link, this message counts as unsent

    def flush(self) -> None:
        """Send what has gathered."""
        outbox, self._outbox, self._outbox_bytes = self._outbox, [], 0
        self._send(outbox)

    def _send(self, outbox: list[tuple[bytes, Pending | None]]) -> None:
        if not outbox or self.requests.lost is not None:
            self._unsent(outbox)
            return
        try:
            self.link.send(wire.join([encoded for encoded, _ in outbox]))
        except LostLink as error:
            self._unsent(outbox)
            self.lost(error)

    def _unsent(self, outbox: list[tuple[bytes, Pending | None]]) -> None:
        for _, pending in outbox:
            if pending is not None and not pending.done:
                self.requests.forget(pending)
                pending.error = Unsent()
                _wake(pending)

    # --- in -----------------------------------------------------------------------------------------------

    def frames(self, frames: list[bytes]) -> None:
        """What the link received."""
        for frame in frames:
            try:
                ended, unwanted = self.requests.feed(frame)
            except LostLink as error:
                self.lost(error)
                return
            for pending in ended:
                _wake(pending)
            for release in unwanted:
                self.post(release)
        if self.requests.welcome is not None and not self.welcome.done():
            self.welcome.set_result(self.requests.welcome)

    def lost(self, error: LostLink) -> None:
        """The link is lost."""
        if self.requests.lost is None:
            unsent, self._outbox = self._outbox, []
            self._unsent(unsent)
            for pending in self.requests.lose(error):
                _wake(pending)
            if not self.welcome.done():
                self.welcome.set_exception(error)
            if self._timer is not None:
                self._timer.cancel()
            self.link.close()

    # --- time ---------------------------------------------------------------------------------------------

    def watch_the_clock(self) -> None:
        """Look now and then whether a lease is to be renewed, or somebody has waited too long."""
        if self._timer is None and self.requests.lost is None:
            self._timer = self.loop.call_later(min(SWEEP_SECONDS, self._beat_interval()), self._tick)

    def renew_within(self, seconds: float) -> None:
        """A lease is to be renewed so soon."""
        self._next_beat = min(self._next_beat, time.monotonic() + seconds)
        if self._timer is not None and seconds < SWEEP_SECONDS:
            self._timer.cancel()
            self._timer = None
        self.watch_the_clock()

    def _beat_interval(self) -> float:
        interval = min((lease.ttl for lease in self.requests.leases.values()), default=3600.0) / 3
        welcome = self.requests.welcome
        if welcome is not None and welcome.heartbeat_seconds:
            interval = min(interval, welcome.heartbeat_seconds)
        return interval

    def _tick(self) -> None:
        self._timer = None
        if self.requests.lost is not None:
            return
        now = time.monotonic()
        for pending in [p for p in self.requests.pending.values() if p.patience is not None and now >= p.patience]:
            cancel = self.requests.forget(pending)
            pending.error = OutcomeUnknown(
                f"the supervisor at {self.options.endpoint} did not answer within the request's timeout and "
                f"{ANSWER_GRACE_SECONDS:g} s more: it may be stuck; the request may have taken effect"
            )
            _wake(pending)
            if cancel is not None:
                self.post(cancel)
        beats = bool(self.requests.leases) or bool(
            self.requests.pending and self.requests.welcome and self.requests.welcome.heartbeat_seconds
        )
        if beats and now >= self._next_beat:
            self.post(self.requests.heartbeat(now))
        if not beats or now >= self._next_beat or self._next_beat == NEVER:
            self._next_beat = now + self._beat_interval() if beats else NEVER
        if self.requests.leases or self.requests.pending:
            self.watch_the_clock()


class AioChannel:
    """All that the tasks of one event loop share towards one endpoint."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        self._connected: AioConnected | None = None
        self._connecting: asyncio.Lock | None = None

    async def call(self, request: Request, within: AioConnected | None = None) -> tuple[Pending, AioConnected]:
        """Send the request and wait for its end; returns it, and the link by which it went. within: the link that it
        must go by, as what belongs to a lease must.

        Raises `SupervisorUnavailable` if it could not be sent, `LeaseLost` if the link of the lease is gone. A task
        that is cancelled while it waits withdraws the request.
        """
        now = time.monotonic()
        deadline = None if request.timeout is None else now + request.timeout
        limit = connect_limit(self.options, now, request.timeout)
        while True:
            connected = within or self._connected
            if connected is None or not self.is_current(connected):
                if within is not None:
                    raise LeaseLost(
                        "the lease belongs to a link that is lost, or to the parent of this process; acquire again"
                    )
                connected = await self._connect(limit)
            if deadline is not None:
                request.timeout = max(0.0, deadline - time.monotonic())
            pending = connected.requests.begin(request)
            pending.waiter = connected.loop.create_future()
            pending.patience = None if deadline is None else deadline + ANSWER_GRACE_SECONDS
            try:
                connected.post(request, pending)
                connected.watch_the_clock()
                await pending.waiter
            except UnicodeEncodeError as error:
                connected.requests.forget(pending)
                raise unencodable(request, error)  # noqa: B904  # it has its cause
            except BaseException:
                cancel = connected.requests.forget(pending)
                if cancel is not None:
                    self.tell(connected, cancel)
                elif pending.reply is not None:
                    for release in connected.requests.unwanted(pending.reply):
                        self.tell(connected, release)
                raise
            if not isinstance(pending.error, Unsent):
                return pending, connected

    def tell(self, connected: AioConnected, message: Message) -> None:
        """Send a notice by this link; if it is lost, so is what the notice is about."""
        if self.is_current(connected) and not connected.loop.is_closed():
            connected.post(message)

    def hold(self, connected: AioConnected, lease: HeldLease) -> None:
        """Renew the lease until it is dropped."""
        if connected.requests.lost is not None:
            raise LeaseLost("the link to the supervisor was lost, and the lease with it: acquire again")
        connected.requests.leases[lease.token.fence] = lease
        connected.renew_within(lease.ttl / 3)

    def drop(self, connected: AioConnected, lease: HeldLease) -> None:
        """Renew the lease no more."""
        connected.requests.leases.pop(lease.token.fence, None)

    def is_current(self, connected: AioConnected) -> bool:
        """Whether this link is this process's, and not lost."""
        return connected.requests.lost is None and connected.pid == os.getpid()

    def close(self) -> None:
        """Say goodbye and end the link; whoever still waits gets an error."""
        self.closed = True
        connected = self._connected
        if connected is not None and self.is_current(connected):
            if connected.loop.is_closed():
                connected.link.close()
                return
            connected.post(Bye())
            connected.flush()
            connected.lost(LostLink("the client was closed"))

    async def _connect(self, limit: Limit) -> AioConnected:
        self._require_open()
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        try:
            async with asyncio.timeout(max(0.0, limit.at - time.monotonic())):
                await self._connecting.acquire()
        except TimeoutError:
            raise unavailable(self.options, limit, "another task is still trying") from None
        try:
            connected = self._connected
            if connected is None or not self.is_current(connected):
                connected = self._connected = await self._try_until(limit)
                if self.closed:
                    connected.lost(LostLink("the client was closed"))
                    self._require_open()
            return connected
        finally:
            self._connecting.release()

    def _require_open(self) -> None:
        if self.closed:
            raise ClientClosed("the client is closed")

    async def _try_until(self, limit: Limit) -> AioConnected:
        pause = 0.02
        while True:
            self._require_open()
            try:
                async with asyncio.timeout(max(0.05, limit.at - time.monotonic())):
                    return await self._try()
            except PermissionError as error:
                raise unavailable(
                    self.options, limit, f"{error.strerror}; the socket is for its owner alone"
                ) from None
            except TimeoutError:
                reason = "whoever listens there did not answer"
            except LostLink as error:
                if error.reason is not None:
                    raise error.reason from None
                reason = str(error)
            except OSError as error:
                reason = error.strerror or str(error)
            if limit.at - time.monotonic() <= 0:
                raise unavailable(self.options, limit, reason)
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, limit.at - time.monotonic())))  # noqa: S311
            pause = min(pause * 2, 0.5)

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


def _wake(pending: Pending) -> None:
    waiter: asyncio.Future[None] | None = pending.waiter
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
