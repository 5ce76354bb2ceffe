"""The listener: one PostgreSQL connection that LISTENs for all workers.

It is opened when somebody first wants to hear a channel, *beside* the pool: a pool of max_size 10 then has 11
connections. Counted among the ten it would take one away from statements for good, and a pool of one could not listen
at all. It is closed a while after nobody wants to hear anything any more.

A task compares what is wanted with what is listened to, and makes it so. A connection that is lost is opened again,
after growing pauses; what came in between is gone, so everybody who has heard it is told of a gap.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import asyncpg

from ..config.pool import PoolSettings
from ..errors import DatabaseUnavailable, PoolClosing, RequestCancelled, RequestTimeout
from ..messages import Done
from ..messages.listening import Listen, Unlisten
from .backend import CLOSED_BY_POSTGRES
from .failures import EXPECTED, failed, in_words
from .faults import tell
from .identifiers import quoted
from .peer import Peer
from .rest import CLOSE_SECONDS
from .session import Session
from .subscribers import Subscribers

log = logging.getLogger("pgactor.listener")

IDLE_SECONDS = 10.0
"""How long the connection is kept when nobody wants to hear anything."""

STATEMENT_SECONDS = 10.0
"""How long PostgreSQL may take to answer a LISTEN."""


class _Waiting:
    """A Listen whose channels are not all listened to yet."""

    def __init__(self, peer: Peer, message: Listen) -> None:
        self.peer = peer
        self.message = message
        self.timer: asyncio.TimerHandle | None = None


class Listener:
    """Hears for all workers of a pool.

    connect: opens a connection. counters: what `Subscribers` counts, and how many channels are listened to now.
    """

    def __init__(
        self, settings: PoolSettings, *, connect: Callable[[], Awaitable[Session]], counters: dict[str, int]
    ) -> None:
        self.subscribers = Subscribers(counters)
        self._settings = settings
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._counters = counters
        self._heard: set[str] = set()  # channels that the connection listens to
        self._lost: set[str] = set()  # those that the last one did
        self._changed = asyncio.Event()  # there may be something to do
        self._renewing = False
        self._closing = False
        self._last_error = ""
        self._failing_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._hear(())

    def configure(self, settings: PoolSettings) -> None:
        """Go by other settings."""
        self._settings = settings
        self._changed.set()

    # --- what workers want --------------------------------------------------------------------------------

    def listen(self, peer: Peer, message: Listen) -> None:
        """The worker wants to hear these channels; answered when PostgreSQL listens."""
        if self._closing:
            peer.send(failed(message.id, PoolClosing("the supervisor is shutting down; try again shortly")))
            return
        self.subscribers.add(peer, message.channels)
        if self._heard.issuperset(message.channels):
            peer.send(Done(message.id, "LISTEN"))
            return
        waiting = _Waiting(peer, message)
        self._waiting.append(waiting)
        if message.timeout is not None:
            waiting.timer = self._loop.call_later(message.timeout, self._late, waiting)
        if self._task is None:
            self._begin()
        self._changed.set()

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._live(), name="listener")
        self._task.add_done_callback(self._has_ended)

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        """Only `close` is to end it; whatever else has, it begins anew, after a pause."""
        if self._closing:
            return
        error = None if task.cancelled() else task.exception()
        tell("the listener begins anew", error or RuntimeError("its task was cancelled"))
        self._loop.call_later(self._settings.reopen_backoff_seconds, self._begin_anew)
        self._deaf()

    def _begin_anew(self) -> None:
        if not self._closing:
            self._begin()

    def unlisten(self, peer: Peer, message: Unlisten) -> None:
        """The worker does not want to hear these channels any more."""
        self.subscribers.remove(peer, message.channels)
        peer.send(Done(message.id, "UNLISTEN"))
        self._changed.set()

    def withdraw(self, peer: Peer, id: int) -> None:
        """The worker waits for its Listen no more. Unknown ids are ignored: the answer may be on its way."""
        for waiting in [each for each in self._waiting if each.peer is peer and each.message.id == id]:
            self._refuse(waiting, RequestCancelled("the worker withdrew the request"))

    def leave(self, peer: Peer) -> None:
        """The worker's link has ended."""
        for waiting in [each for each in self._waiting if each.peer is peer]:
            self._forget(waiting)
        self.subscribers.leave(peer)
        self._changed.set()

    def renew(self) -> None:
        """Replace the connection, as one that leads to the wrong server now."""
        if self._task is not None:
            self._renewing = True
            self._changed.set()

    async def close(self) -> None:
        """Listen no more."""
        self._closing = True
        for waiting in list(self._waiting):
            self._refuse(waiting, PoolClosing("the supervisor is shutting down; try again shortly"))
        self.subscribers.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- answers ------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Those whose channels are all listened to now have what they waited for."""
        for waiting in [each for each in self._waiting if self._heard.issuperset(each.message.channels)]:
            self._forget(waiting)
            waiting.peer.send(Done(waiting.message.id, "LISTEN"))

    def _late(self, waiting: _Waiting) -> None:
        if self._last_error:
            self._refuse(waiting, DatabaseUnavailable(self._why_unavailable()))
        else:
            channels = ", ".join(waiting.message.channels)
            self._refuse(waiting, RequestTimeout(f"PostgreSQL did not listen to {channels} within the timeout"))

    def _refuse(self, waiting: _Waiting, error: Exception) -> None:
        self._forget(waiting)
        self.subscribers.remove(waiting.peer, waiting.message.channels)
        waiting.peer.send(failed(waiting.message.id, error))
        self._changed.set()

    def _forget(self, waiting: _Waiting) -> None:
        self._waiting.remove(waiting)
        if waiting.timer is not None:
            waiting.timer.cancel()

    def _why_unavailable(self) -> str:
        return f"no connection that listens could be opened; the last attempt: {self._last_error}"

    # --- the connection -----------------------------------------------------------------------------------

    async def _live(self) -> None:
        pause = self._settings.reopen_backoff_seconds
        while True:
            if not self.subscribers.channels:
                self._changed.clear()
                await self._changed.wait()
                continue
            served = await self._open_and_serve()
            pause = self._settings.reopen_backoff_seconds if served else pause * 2
            pause = min(pause, self._settings.reopen_backoff_max_seconds)
            if not self._renewing:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311

    async def _open_and_serve(self) -> bool:
        """One connection, from its opening to its end; whether it has served."""
        self._renewing = False
        try:
            session = await self._connect()
        except Exception as error:
            self._open_failed(error)
            return False
        try:
            session.notified = self.subscribers.deliver
            session.add_termination_listener(lambda _: self._changed.set())
            await self._serve(session)
        except EXPECTED as error:
            log.warning("the connection that listens is lost: %s", in_words(error))
            session.terminate()  # a goodbye might not be heard, and who has missed something waits to be told
        except Exception as error:
            tell("the connection that listens is opened anew", error)
        finally:
            served = self._deaf()
            session.notified = None
            await _close(session)
        return served

    def _deaf(self) -> bool:
        """The connection is of no more use; whether it was."""
        served = bool(self._heard)
        self.subscribers.deaf(self._heard)
        self._lost |= self._heard
        self._hear(())
        return served

    def _hear(self, channels: Iterable[str]) -> None:
        """The connection listens to these now."""
        self._heard = set(channels)
        self._counters["channels"] = len(self._heard)

    def _open_failed(self, error: Exception) -> None:
        now = self._loop.time()
        self._last_error = in_words(error)
        log.warning("cannot open a connection that listens: %s", self._last_error)
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._settings.database_grace_seconds:
            for waiting in list(self._waiting):
                self._refuse(waiting, DatabaseUnavailable(self._why_unavailable()))

    async def _serve(self, session: Session) -> None:
        """Listen to what is wanted, for as long as something is."""
        await self._listen_again(session)
        self._last_error, self._failing_since = "", None
        while not session.is_closed():
            self._changed.clear()
            wanted = set(self.subscribers.channels)
            if self._renewing:
                log.info("the connection that listens is replaced")
                return
            if missing := wanted - self._heard:
                await self._listen_to(session, sorted(missing))
                self._answer()
            elif surplus := self._heard - wanted:
                self._hear(wanted)  # whoever wants one of the others from now on has to wait
                await self._run(session, _each("UNLISTEN", surplus))
            else:
                check = self._settings.listen_check_seconds
                try:
                    async with asyncio.timeout((check or None) if wanted else IDLE_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    if not wanted:
                        return
                    await self._run(session, "SELECT", check)  # who only listens does not notice a network's end
        raise ConnectionError(CLOSED_BY_POSTGRES)

    async def _listen_again(self, session: Session) -> None:
        """To what the last connection has listened to, all in one statement: PostgreSQL begins to send when it
        listens to all of them, and then those who have missed something are told."""
        lost = self._lost & self.subscribers.channels
        if lost:
            await self._run(session, _each("LISTEN", lost))
            self._hear(lost)
            self._answer()
        self._lost.clear()
        self.subscribers.hear_again()

    async def _listen_to(self, session: Session, channels: list[str]) -> None:
        """To these for the first time; those who have asked for one that PostgreSQL refuses are told why."""
        try:
            await self._run(session, _each("LISTEN", channels))
        except asyncpg.PostgresError as error:
            if session.is_closed():
                raise
            if len(channels) > 1:
                for channel in channels:
                    await self._listen_to(session, [channel])
                return
            for waiting in [each for each in self._waiting if channels[0] in each.message.channels]:
                self._refuse(waiting, error)
        else:
            self._hear(self._heard.union(channels))

    async def _run(self, session: Session, sql: str, seconds: float = STATEMENT_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            await session.execute(sql)


def _each(verb: str, channels: Iterable[str]) -> str:
    return "; ".join(f"{verb} {quoted(channel)}" for channel in channels)


async def _close(session: Session) -> None:
    if session.is_closed():
        return
    with suppress(*EXPECTED):
        async with asyncio.timeout(CLOSE_SECONDS):
            await session.close()
    if not session.is_closed():
        session.terminate()
