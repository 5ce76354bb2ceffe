"""A process's way to the supervisor: connects, connects again, and survives forks.

After a fork the child closes its copy of the socket, or the supervisor would not see the parent's end, and makes a
link of its own when it first needs one. Leases stay the parent's.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from functools import partial

from ..errors import ClientClosed, LeaseLost
from ..messages import Request
from . import comments, links, tracing
from .attempts import Attempts, Limit, connect_limit, unavailable
from .connected import Connected
from .failures import link_lost, unencodable
from .frames import encode_frame, not_answered
from .options import ANSWER_GRACE_SECONDS, Options
from .pending import Pending
from .requests import HeldLease, LostLink, Requests, Unsent
from .surroundings import surroundings


class Channel:
    """All that the threads of a process share towards one endpoint."""

    _connecting: threading.Lock

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        self._start_afresh()
        _channels.add(self)

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._connected: Connected | None = None
        self._moved: weakref.WeakSet[Connected] = weakref.WeakSet()  # links that are left when nobody needs them
        self.__dict__.pop("_connecting", None)

    def call(self, request: Request, within: Connected | None = None) -> tuple[Pending, Connected]:
        """Send the request and wait for its end; returns it, and the link by which it went. within: the link that it
        must go by, as what belongs to a lease must.

        Raises `SupervisorUnavailable` if it could not be sent, `OutcomeUnknown` if no answer came, `LeaseLost` if
        the link of the lease is gone.
        """
        if tracing.tracer is not None and (trace := tracing.tracer.begin(request)) is not None:
            with trace:
                pending, connected = self.call(request, within)
                trace.answered(pending)
            return pending, connected
        if (around := surroundings.get()) is not None:
            around.mark(request)
        if self.options.comments:
            comments.add(request)
        now = time.monotonic()
        patience = None if request.timeout is None else now + request.timeout + ANSWER_GRACE_SECONDS
        timeout = request.timeout
        while True:
            connected, pending = self._begin(request, now, within, timeout)
            try:
                connected.wait(pending, patience)
            except BaseException:
                connected.withdraw(pending)
                raise
            if not pending.done:
                connected.withdraw(pending)
                raise not_answered(self.options)
            if not isinstance(pending.error, Unsent):
                return pending, connected
            if within is not None:
                raise LeaseLost("another supervisor has taken over, and this was not run: acquire again")

    @property
    def leases(self) -> list[HeldLease]:
        """Those that this process holds on the link."""
        connected = self._connected
        return [] if connected is None or not connected.is_current else list(connected.requests.leases.values())

    def connected(self, timeout: float | None) -> Connected:
        """The link, made anew if there is none. Raises `SupervisorUnavailable`."""
        return self._connect(connect_limit(self.options, time.monotonic(), timeout))

    def close(self) -> None:
        """Say goodbye and end the link; whoever still waits gets an error."""
        if self.closed:
            return
        self.closed = True
        links = self._current() if self._pid == os.getpid() else []
        for connected in links:
            connected.close()

    def after_fork(self) -> None:
        """In the child: leave the parent's link alone, and start without one."""
        inherited = self._current()
        self._start_afresh()
        for connected in inherited:
            connected.abandon()

    def _current(self) -> list[Connected]:
        """The link, and those that are left as soon as nobody needs them."""
        return [*self._moved] if self._connected is None else [*self._moved, self._connected]

    def _begin(
        self, request: Request, now: float, within: Connected | None, timeout: float | None
    ) -> tuple[Connected, Pending]:
        limit: Limit | None = None
        known = connected = within or self._connected
        while True:
            if connected is None or not connected.is_current:
                if within is not None:
                    raise link_lost()
                limit = connect_limit(self.options, now, timeout)
                connected = self._connect(limit)
                if timeout is not None:
                    request.timeout = max(0.0, now + timeout - time.monotonic())
            try:
                return connected, connected.begin(request)
            except LostLink as error:  # nothing of it was acted on: another link may take it
                if limit is not None and connected is not known and time.monotonic() >= limit.at:
                    raise unavailable(self.options, limit, str(error)) from None
            except UnicodeEncodeError as error:
                raise unencodable(request, error)  # noqa: B904  # it has its cause

    def _connect(self, limit: Limit) -> Connected:
        """The link, made anew if there is none. Raises `SupervisorUnavailable` after the limit."""
        self._require_open()
        if self._pid != os.getpid():
            self.after_fork()
        connected = self._connected
        if connected is not None and connected.is_for_new:
            return connected
        # Made when first needed, once for all threads: gevent may have patched threading since the import or the
        # fork, and a greenlet that waits for an older lock stops all others, the one that has the lock among them.
        connecting = self.__dict__.setdefault("_connecting", threading.Lock())
        if not connecting.acquire(timeout=max(0.0, limit.at - time.monotonic())):
            raise unavailable(self.options, limit, "another thread is still trying")
        try:
            connected = self._connected
            while connected is None or not connected.is_for_new:
                connected = self._connected = self._try_until(limit)
                if self.closed:
                    connected.lose(LostLink("the client was closed"))
            return connected
        finally:
            connecting.release()

    def _require_open(self) -> None:
        if self.closed:
            raise ClientClosed("the client is closed")

    def _try_until(self, limit: Limit) -> Connected:
        attempts = Attempts(self.options, limit)
        while True:
            self._require_open()
            try:
                return self._try(attempts.seconds(time.monotonic()))
            except OSError as error:  # a TimeoutError and a LostLink among them
                pause = attempts.pause(error, time.monotonic())
            time.sleep(pause)

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
        connected = Connected(link, requests, requests.welcome)
        requests.on_moved = partial(self._has_moved, connected)
        return connected

    def _has_moved(self, connected: Connected) -> None:
        """Another supervisor serves the endpoint: what is new goes by another link."""
        if self._connected is connected:
            self._connected = None
        self._moved.add(connected)


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for channel in list(_channels):
        channel.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
