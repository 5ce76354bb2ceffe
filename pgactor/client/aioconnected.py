"""One link to the supervisor, for one event loop.

Requests of one turn of the loop leave as one frame. Their ids count up, so an id tells what has left: all before
`_unsent_from`. Nothing runs in the background but a timer of the loop.
"""

from __future__ import annotations

import asyncio
import os
import time

from .. import wire
from ..errors import LeaseLost
from ..messages import Bye, Message, Request, Welcome
from .aiolinks import AioLink
from .frames import not_answered, too_large
from .inbox import Inbox
from .lateness import LATE_SECONDS, forgiving
from .options import Options
from .pending import Pending
from .requests import HeldLease, LostLink, Requests, Unsent

SWEEP_SECONDS = 0.5
"""How often it is looked whether somebody has waited too long for an answer."""

NEVER = float("inf")


class AioConnected:
    """One link and its dialogue; leases belong to it and end with it."""

    def __init__(self, options: Options) -> None:
        self.requests = Requests(options)
        self.loop = asyncio.get_running_loop()
        self.link: AioLink
        self.welcome: asyncio.Future[Welcome] = self.loop.create_future()
        self._pid = os.getpid()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._cap = options.max_frame_bytes
        self._unsent_from = 0
        self._flushing = False  # at the end of this turn
        self._timer: asyncio.TimerHandle | None = None
        self._next_beat = NEVER
        self._looked_at = self._looks_at = 0.0  # when the timer was set, and is due

    @property
    def is_current(self) -> bool:
        """Whether this link is this process's, and not lost."""
        return self.requests.lost is None and self._pid == os.getpid()

    @property
    def is_for_new(self) -> bool:
        """Whether what is new may go by this link."""
        return self.is_current and not self.requests.moved

    # --- out ----------------------------------------------------------------------------------------------

    def begin(self, request: Request, patience: float | None) -> Pending:
        """Send the request at the end of this turn; its waiter is to be awaited, and ends when the clock shows
        `patience` at the latest.

        Raises `MessageTooLarge` or UnicodeEncodeError if it cannot be sent; then it is forgotten.
        """
        pending = self.requests.begin(request, self.loop.create_future(), patience, self)
        try:
            self.post(request)
        except BaseException:
            self.requests.forget(pending)
            raise
        if self._timer is None:
            self.watch_the_clock()
        return pending

    def withdraw(self, pending: Pending) -> None:
        """Nobody waits for the request any more; a lease that it brought is given back."""
        cancel = self.requests.forget(pending)
        if cancel is not None:
            self.tell(cancel)
        elif pending.reply is not None:
            for release in self.requests.unwanted(pending.reply):
                self.tell(release)

    def tell(self, message: Message) -> None:
        """Send a notice; if the link is lost, so is what the notice is about."""
        if self.is_current and not self.loop.is_closed():
            self.post(message)

    def post(self, message: Message) -> None:
        """Send the message at the end of this turn. Raises `MessageTooLarge`."""
        encoded = wire.encode_message(message)
        size = self._outbox_bytes + len(encoded)
        if size + 8 > self._cap:
            if len(encoded) + 8 > self._cap:
                raise too_large(len(encoded), self._cap)
            self._send(message.id if isinstance(message, Request) else self.requests.begun)
            size = len(encoded)
        self._outbox.append(encoded)
        self._outbox_bytes = size
        if not self._flushing:
            self._flush_soon()

    def flush(self) -> None:
        """Send what has gathered."""
        self._flushing = False
        self._send(self.requests.begun)

    def _flush_soon(self) -> None:
        self._flushing = True
        self.loop.call_soon(self.flush)

    def _send(self, until: int) -> None:
        """Send what has gathered: no request from `until` on is among it."""
        outbox, self._outbox, self._outbox_bytes = self._outbox, [], 0
        unsent_from, self._unsent_from = self._unsent_from, until
        try:
            if self.requests.lost is not None:
                raise LostLink("the link is lost")
            if outbox:
                self.link.send(wire.join(outbox))
        except LostLink as error:
            self._unsent_from = unsent_from
            self._give_back()
            self.lost(error)

    def _give_back(self) -> None:
        """The link is lost: what has not left may be tried again."""
        self._outbox.clear()
        for pending in [p for p in self.requests.pending.values() if p.id >= self._unsent_from]:
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
            for message in unwanted:
                self.post(message)
        if not self._flushing:
            self._flush_soon()  # in the turn of those who were woken, after them: they are likely to ask again
        if self.requests.welcome is not None and not self.welcome.done():
            self._cap = self.requests.welcome.max_frame_bytes
            self.welcome.set_result(self.requests.welcome)

    def lost(self, error: LostLink) -> None:
        """The link is lost: end what waits on it."""
        if self.requests.lost is None:
            self._give_back()
            for pending in self.requests.lose(error):
                _wake(pending)
            if not self.welcome.done():
                self.welcome.set_exception(error)
            if self._timer is not None:
                self._timer.cancel()
            self.link.close()

    def leave(self, why: str) -> None:
        """Say goodbye and end the link."""
        self.post(Bye())
        self.flush()
        self.lost(LostLink(why))

    # --- notes --------------------------------------------------------------------------------------------

    def hear_no_more(self, inbox: Inbox) -> None:
        """Have no more notes come into the inbox, and wake whoever waits for them."""
        self.requests.ears.remove(inbox)
        for pending in inbox.wake():
            _wake(pending)

    async def await_note(self, inbox: Inbox, seconds: float | None) -> None:
        """Wait until there is a note to take, the link is lost or so many seconds have passed."""
        pending = Pending(-1, self.loop.create_future())
        if self.requests.lost is not None or not inbox.wait(pending):
            return
        try:
            async with asyncio.timeout(seconds):
                await pending.waiter
        except TimeoutError:
            pass
        finally:
            inbox.wait_no_more(pending)

    # --- leases and time ----------------------------------------------------------------------------------

    def hold(self, lease: HeldLease) -> None:
        """Renew the lease until it is dropped."""
        if self.requests.lost is not None:
            raise LeaseLost("the link to the supervisor was lost, and the lease with it: acquire again")
        self.requests.hold(lease)
        within = self._beat_interval()
        self._next_beat = min(self._next_beat, time.monotonic() + within)
        if self._timer is not None and within < SWEEP_SECONDS:
            self._timer.cancel()
            self._timer = None
        self.watch_the_clock()

    def drop(self, lease: HeldLease) -> None:
        """Renew the lease no more."""
        self.requests.leases.pop(lease.token.fence, None)

    def watch_the_clock(self) -> None:
        """Look now and then whether a lease is to be renewed, or somebody has waited too long."""
        if self._timer is None and self.requests.lost is None:
            pause = min(SWEEP_SECONDS, self._beat_interval())
            self._looked_at = time.monotonic()
            self._looks_at = self._looked_at + pause
            self._timer = self.loop.call_later(pause, self._tick)

    def _beat_interval(self) -> float:
        interval = min((lease.ttl for lease in self.requests.leases.values()), default=3600.0) / 3
        return min(interval, self._heartbeat_seconds or interval)

    @property
    def _heartbeat_seconds(self) -> float:
        return self.requests.welcome.heartbeat_seconds if self.requests.welcome is not None else 0.0

    def _tick(self) -> None:
        self._timer = None
        if self.requests.lost is not None:
            return
        now = time.monotonic()
        if now >= self._looks_at + LATE_SECONDS:
            for pending in self.requests.pending.values():
                if pending.patience is not None:
                    pending.patience = forgiving(pending.patience, began=self._looked_at, due=self._looks_at, now=now)
        for pending in [p for p in self.requests.pending.values() if p.patience is not None and now >= p.patience]:
            pending.error = not_answered(self.requests.options)
            self.withdraw(pending)
            _wake(pending)
        beats = bool(self.requests.leases or (self.requests.pending and self._heartbeat_seconds))
        if beats and now >= self._next_beat:
            self.post(self.requests.heartbeat(now))
        if not beats or now >= self._next_beat or self._next_beat == NEVER:
            self._next_beat = now + self._beat_interval() if beats else NEVER
        if self.requests.moved and self.requests.is_idle:
            self.leave("nobody needs the link any more")
        elif self.requests.leases or self.requests.pending or self.requests.moved:
            self.watch_the_clock()


def _wake(pending: Pending) -> None:
    waiter: asyncio.Future[None] | None = pending.waiter
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
