"""One link to the supervisor, shared by all threads of a process.

There is no reader thread. Whoever waits for a reply first reads for all; when it has its own, it passes the reading
on to another who waits. A single thread thus goes straight from its send to its receive.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

from ..errors import LeaseLost
from ..messages import Bye, Message, Release, Request, Welcome
from .frames import encode_frame
from .heart import Heart
from .inbox import Inbox
from .lateness import forgiving
from .links import Link
from .pending import Pending
from .requests import HeldLease, LostLink, Requests


class Connected:
    """One link and its dialogue; leases belong to it and end with it."""

    def __init__(self, link: Link, requests: Requests, welcome: Welcome) -> None:
        self.link = link
        self.requests = requests
        self.welcome = welcome
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards the requests, and who reads
        self._reading = False  # somebody reads for all
        self._end: LostLink | None = None  # why, if it is ended here
        self._sent_at = time.monotonic()
        self._heart = Heart(self._send_heartbeat, self._heartbeat_interval)

    @property
    def is_current(self) -> bool:
        """Whether this link is this process's, and not lost."""
        return self._pid == os.getpid() and self.requests.lost is None

    @property
    def is_for_new(self) -> bool:
        """Whether what is new may go by this link."""
        return self.is_current and not self.requests.moved

    # --- out ----------------------------------------------------------------------------------------------

    def begin(self, request: Request) -> Pending:
        """Send the request; `wait` for its end. Raises `LostLink` if nothing of it was acted on, `MessageTooLarge` or
        UnicodeEncodeError if it cannot be sent; then it is forgotten."""
        with self._lock:
            if self.requests.lost is not None:
                raise LostLink("the link is lost")
            pending = self.requests.begin(request)
        try:
            self._send([request])
        except BaseException as error:
            with self._lock:
                self.requests.forget(pending)
            if isinstance(error, LostLink):
                self.lose(error)
            raise
        return pending

    def withdraw(self, pending: Pending) -> None:
        """Nobody waits for the request any more; a lease that it brought is given back."""
        with self._lock:
            cancel = self.requests.forget(pending)
            if not self._reading:  # it may be the one that was woken to read
                self._wake_another()
        if cancel is not None:
            self.tell(cancel)
        elif pending.reply is not None:
            for release in self.requests.unwanted(pending.reply):
                self.tell(release)

    def tell(self, message: Message) -> None:
        """Send a notice; if the link is lost, so is what the notice is about."""
        if self._pid == os.getpid():
            with suppress(LostLink):
                self._send([message])

    def close(self) -> None:
        """Say goodbye and end the link."""
        self._end = LostLink("the client was closed")  # also for a thread that sees first that the supervisor obeys
        self.tell(Bye())
        self.lose(self._end)

    def lose(self, cause: LostLink) -> None:
        """The link is lost: end what waits on it."""
        with self._lock:
            if self.requests.lost is not None:
                return
            for pending in self.requests.lose(self._end or cause):
                _wake(pending)
        self._let_go()

    def _let_go(self) -> None:
        self.link.close()
        self._heart.end()

    def abandon(self) -> None:
        """In a forked child: leave the parent's link alone."""
        self.requests.lost = LeaseLost("the link belongs to the parent of this process")
        self.link.abandon()

    def _send(self, messages: list[Message]) -> None:
        self.link.send(encode_frame(messages, self.welcome.max_frame_bytes))
        if self.welcome.heartbeat_seconds:
            self._sent_at = time.monotonic()

    # --- in -----------------------------------------------------------------------------------------------

    def wait(self, pending: Pending, patience: float | None) -> None:
        """Wait until the request has ended or the clock shows `patience`."""
        while not pending.done:
            leads = False
            try:
                with self._lock:
                    if not self._reading:
                        leads = self._reading = True
                    elif pending.waiter is None:
                        pending.waiter = threading.Event()
                    else:
                        pending.waiter.clear()
                if leads:
                    patience = self._read_until(pending, patience)
            finally:
                if leads:
                    self._pass_on()
            if not leads and not pending.done:
                began = time.monotonic()
                remaining = None if patience is None else max(0.0, patience - began)
                pending.waiter.wait(remaining if remaining is None else min(remaining, threading.TIMEOUT_MAX))
                if patience is not None:
                    patience = forgiving(patience, began=began, due=patience, now=time.monotonic())
            if patience is not None and time.monotonic() >= patience:
                return

    def step_back(self, pending: Pending) -> None:
        """Its caller does something else before it waits again: it is not the one to be woken to read for all."""
        with self._lock:
            pending.waiter = None
            if not self._reading:
                self._wake_another()

    def _read_until(self, mine: Pending, patience: float | None) -> float | None:
        """Read for all until mine has ended. Returns the patience, with the time in which nothing could be read."""
        heartbeat = self.welcome.heartbeat_seconds or None
        began = due = float("inf")
        while not mine.done:
            now = time.monotonic()
            if patience is not None and now > due:
                patience = forgiving(patience, began=began, due=due, now=now)
            remaining = None if patience is None else patience - now
            if remaining is not None and remaining <= 0:
                break
            pause = remaining if heartbeat is None else min(heartbeat, remaining or heartbeat)
            if pause is not None:
                began, due = now, now + pause
            try:
                self._take(self.link.receive(pause))
            except LostLink as error:
                self.lose(error)
                break
            if heartbeat is not None and time.monotonic() >= self._sent_at + heartbeat:
                self._send_heartbeat()
        return patience

    def _take(self, frames: list[bytes]) -> None:
        unwanted: list[Message] = []
        with self._lock:
            for frame in frames:
                ended, orphans = self.requests.feed(frame)
                unwanted += orphans
                for pending in ended:
                    _wake(pending)
        for message in unwanted:
            self.tell(message)

    def _pass_on(self) -> None:
        """Read for all no more: wake another who waits, to do it."""
        with self._lock:
            self._reading = False
            self._wake_another()
        if self.requests.moved:
            self.leave_if_idle()

    def leave_if_idle(self) -> None:
        """Another supervisor has taken over: say goodbye and end the link, if nobody needs it."""
        with self._lock:
            if not (self.requests.moved and self.requests.is_idle and self.is_current) or self._reading:
                return
            for pending in self.requests.lose(LostLink("nobody needs the link any more")):  # who begins now is told
                _wake(pending)
        self.tell(Bye())
        self._let_go()

    def _wake_another(self) -> None:
        for pending in self.requests.pending.values():
            if pending.waiter is not None:
                pending.waiter.set()
                return

    # --- notes --------------------------------------------------------------------------------------------

    def hear(self, inbox: Inbox) -> None:
        """Have the notes of its channels come into the inbox."""
        with self._lock:
            self.requests.ears.add(inbox)

    def hear_no_more(self, inbox: Inbox) -> None:
        """Have no more notes come into it, and wake whoever waits for them."""
        with self._lock:
            self.requests.ears.remove(inbox)
            for pending in inbox.wake():
                _wake(pending)

    def await_note(self, inbox: Inbox, patience: float | None) -> None:
        """Wait until there is a note to take, the link is lost or the clock shows `patience`."""
        with self._lock:
            if self.requests.lost is not None:
                return
            pending = self.requests.wait_for(inbox)
        if pending is None:
            return
        try:
            self.wait(pending, patience)
        finally:
            with self._lock:
                self.requests.wait_no_more(inbox, pending)
                if not self._reading:  # it may be the one that was woken to read
                    self._wake_another()

    # --- leases -------------------------------------------------------------------------------------------

    def hold(self, lease: HeldLease) -> None:
        """Renew the lease until it is dropped."""
        with self._lock:
            if self.requests.lost is not None:
                raise LeaseLost("the link to the supervisor was lost, and the lease with it: acquire again")
            self.requests.hold(lease)
        try:
            self._heart.watch(lease.ttl / 3)
        except BaseException:  # no thread can be started: nobody gets the lease
            self.drop(lease)
            self.tell(Release(lease.token))
            raise

    def drop(self, lease: HeldLease) -> None:
        """Renew the lease no more."""
        with self._lock:
            self.requests.leases.pop(lease.token.fence, None)

    def _send_heartbeat(self) -> None:
        with self._lock:
            heartbeat = self.requests.heartbeat(time.monotonic())
        self.tell(heartbeat)

    def _heartbeat_interval(self) -> float | None:
        """Seconds until the leases are to be renewed; None: there are none."""
        with self._lock:
            shortest = min((lease.ttl for lease in self.requests.leases.values()), default=None)
        return None if shortest is None else min(shortest / 3, self.welcome.heartbeat_seconds or shortest)


def _wake(pending: Pending) -> None:
    if pending.waiter is not None:
        pending.waiter.set()
