"""One link for all threads of a process: connect, call, renew leases, survive forks.

There is no reader thread. Whoever waits for a reply first reads for all; when it has its own, it passes the reading
on to another who waits. A single thread thus goes straight from its send to its receive.

After a fork the child closes its copy of the socket, or the supervisor would not see the parent's end, and makes a
link of its own when it first needs one. Leases stay the parent's.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from contextlib import suppress

from ..errors import (
    ClientClosed,
    LeaseLost,
    OutcomeUnknown,
)
from ..messages import Bye, Message, Request, Welcome
from . import links
from .failures import unencodable
from .options import ANSWER_GRACE_SECONDS, Options
from .requests import HeldLease, Limit, LostLink, Pending, Requests, connect_limit, encode_frame, unavailable

IDLE_SECONDS = 1.0
IDLE_ROUNDS = 3
"""After so many rounds of so many seconds without a lease the heartbeat thread sleeps until there is one again."""


class Connected:
    """One link and its dialogue; leases belong to it and end with it."""

    def __init__(self, link: links.Link, requests: Requests, welcome: Welcome) -> None:
        self.link = link
        self.requests = requests
        self.welcome = welcome
        self.pid = os.getpid()
        self.reading = False  # somebody reads for all
        self.sent_at = time.monotonic()

    def send(self, messages: list[Message]) -> None:
        """Send a frame of the messages. Raises `LostLink`, or `MessageTooLarge` for one over the supervisor's cap."""
        self.link.send(encode_frame(messages, self.welcome.max_frame_bytes))
        self.sent_at = time.monotonic()


class Channel:
    """All that the threads of a process share towards one endpoint."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        self._start_afresh()
        _channels.add(self)

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._connected: Connected | None = None
        self._connecting = threading.Lock()
        self._lock = threading.Lock()  # guards every Requests, and who reads
        self._beats = threading.Condition(threading.Lock())
        self._heart: threading.Thread | None = None
        self._next_beat: float | None = None  # None: the heart sleeps

    # --- calls --------------------------------------------------------------------------------------------

    def call(self, request: Request, within: Connected | None = None) -> tuple[Pending, Connected]:
        """Send the request and wait for its end; returns it, and the link by which it went. within: the link that it
        must go by, as what belongs to a lease must.

        Raises `SupervisorUnavailable` if it could not be sent, `OutcomeUnknown` if no answer came, `LeaseLost` if
        the link of the lease is gone.
        """
        deadline = None if request.timeout is None else time.monotonic() + request.timeout
        connected, pending = self._send_request(request, deadline, within)
        patience = None if deadline is None else deadline + ANSWER_GRACE_SECONDS
        try:
            self._wait(connected, pending, patience)
        except BaseException:
            self._withdraw(connected, pending)
            raise
        if not pending.done:
            self._withdraw(connected, pending)
            raise OutcomeUnknown(
                f"the supervisor at {self.options.endpoint} did not answer within {request.timeout} s and "
                f"{ANSWER_GRACE_SECONDS:g} s more: it may be stuck; the request may have taken effect"
            )
        return pending, connected

    def tell(self, connected: Connected, message: Message) -> None:
        """Send a notice by this link; if it is lost, so is what the notice is about."""
        if connected.pid == os.getpid():
            with suppress(LostLink):
                connected.send([message])

    def hold(self, connected: Connected, lease: HeldLease) -> None:
        """Renew the lease until it is dropped."""
        with self._lock:
            if connected.requests.lost is not None:
                raise LeaseLost("the link to the supervisor was lost, and the lease with it: acquire again")
            connected.requests.leases[lease.token.fence] = lease
        with self._beats:
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name="pgactor-heartbeat", daemon=True)
                self._heart.start()
            elif self._next_beat is None or time.monotonic() + lease.ttl / 3 < self._next_beat:
                self._beats.notify()

    def drop(self, connected: Connected, lease: HeldLease) -> None:
        """Renew the lease no more."""
        with self._lock:
            connected.requests.leases.pop(lease.token.fence, None)

    def is_current(self, connected: Connected) -> bool:
        """Whether this link is this process's, and not lost."""
        return connected.pid == os.getpid() and connected.requests.lost is None

    def close(self) -> None:
        """Say goodbye and end the link; whoever still waits gets an error."""
        if self.closed:
            return
        self.closed = True
        connected = self._connected if self._pid == os.getpid() else None
        if connected is not None:
            self.tell(connected, Bye())
            self._lose(connected, LostLink("the client was closed"))
        with self._beats:
            self._beats.notify()

    # --- sending ------------------------------------------------------------------------------------------

    def _send_request(
        self, request: Request, deadline: float | None, within: Connected | None
    ) -> tuple[Connected, Pending]:
        limit = connect_limit(self.options, time.monotonic(), request.timeout)
        while True:
            connected = within or self._connect(limit)
            if within is not None and not self.is_current(within):
                raise LeaseLost(
                    "the lease belongs to a link that is lost, or to the parent of this process; acquire again"
                )
            with self._lock:
                if connected.requests.lost is not None:
                    continue
                pending = connected.requests.begin(request)
            try:
                if deadline is not None:
                    request.timeout = max(0.0, deadline - time.monotonic())
                connected.send([request])
            except LostLink as error:  # nothing of it was acted on: another link may take it
                with self._lock:
                    connected.requests.forget(pending)
                self._lose(connected, error)
                continue
            except BaseException as error:
                with self._lock:
                    connected.requests.forget(pending)
                if isinstance(error, UnicodeEncodeError):
                    raise unencodable(request, error)  # noqa: B904  # it has its cause
                raise
            return connected, pending

    def _withdraw(self, connected: Connected, pending: Pending) -> None:
        with self._lock:
            cancel = connected.requests.forget(pending)
            if not connected.reading:  # it may be the one that was woken to read
                _wake_another(connected)
        if cancel is not None:
            self.tell(connected, cancel)
        elif pending.reply is not None:
            for release in connected.requests.unwanted(pending.reply):
                self.tell(connected, release)

    # --- connecting ---------------------------------------------------------------------------------------

    def _connect(self, limit: Limit) -> Connected:
        """The link, made anew if there is none. Raises `SupervisorUnavailable` after the limit."""
        self._require_open()
        if self._pid != os.getpid():
            self.after_fork()
        connected = self._connected
        if connected is not None and connected.requests.lost is None:
            return connected
        if not self._connecting.acquire(timeout=max(0.0, limit.at - time.monotonic())):
            raise unavailable(self.options, limit, "another thread is still trying")
        try:
            connected = self._connected
            if connected is None or connected.requests.lost is not None:
                connected = self._connected = self._try_until(limit)
                if self.closed:
                    self._lose(connected, LostLink("the client was closed"))
            return connected
        finally:
            self._connecting.release()

    def _require_open(self) -> None:
        if self.closed:
            raise ClientClosed("the client is closed")

    def _try_until(self, limit: Limit) -> Connected:
        pause = 0.02
        while True:
            self._require_open()
            remaining = limit.at - time.monotonic()
            try:
                return self._try(max(0.05, remaining))
            except PermissionError as error:
                raise unavailable(
                    self.options, limit, f"{error.strerror}; the socket is for its owner alone"
                ) from None
            except LostLink as error:
                if error.reason is not None:
                    raise error.reason from None
                reason = str(error)
            except OSError as error:
                reason = error.strerror or str(error)
            if limit.at - time.monotonic() <= 0:
                raise unavailable(self.options, limit, reason)
            time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, limit.at - time.monotonic())))  # noqa: S311
            pause = min(pause * 2, 0.5)

    def _try(self, timeout: float) -> Connected:
        deadline = time.monotonic() + timeout
        requests = Requests(self.options)
        link = links.connect(self.options, timeout)
        try:
            link.send(encode_frame([requests.hello()], self.options.max_frame_bytes))
            while requests.welcome is None:
                frames = link.receive(max(0.0, deadline - time.monotonic()))
                if not frames:
                    raise TimeoutError("whoever listens there did not answer")
                for frame in frames:
                    requests.feed(frame)
        except BaseException:
            link.close()
            raise
        return Connected(link, requests, requests.welcome)

    def _lose(self, connected: Connected, cause: LostLink) -> None:
        with self._lock:
            if connected.requests.lost is not None:
                return
            ended = connected.requests.lose(cause)
            for pending in ended:
                _wake(pending)
        connected.link.close()

    # --- waiting ------------------------------------------------------------------------------------------

    def _wait(self, connected: Connected, pending: Pending, patience: float | None) -> None:
        """Wait until the request has ended or patience has."""
        while not pending.done:
            with self._lock:
                leads = not connected.reading
                if leads:
                    connected.reading = True
                elif pending.waiter is None:
                    pending.waiter = threading.Event()
                else:
                    pending.waiter.clear()
            if leads:
                try:
                    self._read(connected, pending, patience)
                finally:
                    self._pass_on(connected)
            elif not pending.done:
                pending.waiter.wait(
                    None if patience is None else min(max(0.0, patience - time.monotonic()), threading.TIMEOUT_MAX)
                )
            if patience is not None and time.monotonic() >= patience:
                return

    def _pass_on(self, connected: Connected) -> None:
        """Read for all no more: wake another who waits, to do it."""
        with self._lock:
            connected.reading = False
            _wake_another(connected)

    def _read(self, connected: Connected, mine: Pending, patience: float | None) -> None:
        """Read for all until mine has ended."""
        heartbeat = connected.welcome.heartbeat_seconds or None
        while not mine.done:
            remaining = None if patience is None else patience - time.monotonic()
            if remaining is not None and remaining <= 0:
                return
            pause = remaining if heartbeat is None else min(heartbeat, remaining or heartbeat)
            try:
                frames = connected.link.receive(pause)
                with self._lock:
                    unwanted = []
                    for frame in frames:
                        ended, orphans = connected.requests.feed(frame)
                        unwanted += orphans
                        for pending in ended:
                            _wake(pending)
                for release in unwanted:
                    self.tell(connected, release)
                if heartbeat is not None and time.monotonic() >= connected.sent_at + heartbeat:
                    self._send_heartbeat(connected)
            except LostLink as error:
                self._lose(connected, error)
                return

    # --- heartbeats ---------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """The heartbeat thread: renews all leases, three times in the shortest ttl. It rests when there are none, and
        sleeps after a while without."""
        idle_rounds = 0
        while True:
            with self._beats:
                if self.closed:
                    return
                connected = self._connected
                idle_rounds = 0 if connected is not None and connected.requests.leases else idle_rounds + 1
                self._next_beat = None if idle_rounds > IDLE_ROUNDS else time.monotonic() + _beat_interval(connected)
                self._beats.wait(None if self._next_beat is None else self._next_beat - time.monotonic())
            if connected is not None and connected.requests.leases:
                self._send_heartbeat(connected)

    def _send_heartbeat(self, connected: Connected) -> None:
        with self._lock:
            heartbeat = connected.requests.heartbeat(time.monotonic())
        self.tell(connected, heartbeat)

    # --- forks --------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In the child: leave the parent's link alone, and start without one."""
        inherited = self._connected
        self._start_afresh()
        if inherited is not None:
            inherited.requests.lost = LeaseLost("the link belongs to the parent of this process")
            inherited.link.abandon()


def _beat_interval(connected: Connected | None) -> float:
    """Seconds until the leases of the link are to be renewed."""
    if connected is None:
        return IDLE_SECONDS
    interval = min((lease.ttl / 3 for lease in list(connected.requests.leases.values())), default=IDLE_SECONDS)
    return min(interval, connected.welcome.heartbeat_seconds or interval)


def _wake(pending: Pending) -> None:
    if pending.waiter is not None:
        pending.waiter.set()


def _wake_another(connected: Connected) -> None:
    """Wake one who waits, to read for all."""
    for pending in connected.requests.pending.values():
        if pending.waiter is not None:
            pending.waiter.set()
            return


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for channel in list(_channels):
        channel.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
