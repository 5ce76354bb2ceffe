"""The supervisor before this one, from which this one takes over: the other side of succession.py.

How many connections may be opened here is what the other one has told that it does not have any more. If it dies
before it has told of all, its connections end with it; PostgreSQL is given a while to notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec

from .. import wire
from ..errors import ConfigError, ProtocolError
from ..messages import DEFAULT_MAX_FRAME_BYTES, PROTOCOL_VERSION, Done, Failed, Hello, Message, Welcome
from ..messages.operating import Held, TakenOver, TakeOver
from ..version import __version__
from ..zmtp import Connection, frame_header
from .ipc import peer_pid

log = logging.getLogger("pgactor.predecessor")

ANSWER_SECONDS = 10.0
"""How long the other one may take to answer at all."""

GONE_SECONDS = 2.0
"""How long PostgreSQL may take to end the sessions of a supervisor that was killed."""

_ID = 1


class Predecessor(asyncio.Protocol):
    """The link to it. endpoints: where it listens. pid: its process, 0 if that is not known. held: is told how many
    connections it has yet, by its pools' names."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []
        self.pid = 0
        self.held: Callable[[Mapping[str, int]], None] = lambda _: None
        self._zmtp = Connection("DEALER", max_message_bytes=DEFAULT_MAX_FRAME_BYTES)
        self._frames = wire.supervisor_frames(DEFAULT_MAX_FRAME_BYTES)
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Held] = self._loop.create_future()
        self._taken_over = False
        self._done = False
        self._waiting: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def find(cls, endpoints: Sequence[str]) -> Predecessor | None:
        """The supervisor that listens at one of the endpoints, willing to go; None if there is none. Raises
        `ConfigError` if it refuses."""
        for endpoint in endpoints:
            if not endpoint.startswith("ipc://"):
                continue
            try:
                _, found = await asyncio.get_running_loop().create_unix_connection(
                    cls, endpoint.removeprefix("ipc://")
                )
            except OSError:
                continue  # nobody listens there: to be served as by any supervisor
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await found._asked()
            except TimeoutError:
                found.close()
                raise ConfigError(f"cannot take over: the supervisor at {endpoint} does not answer") from None
            return found
        return None

    async def _asked(self) -> None:
        self.endpoints = (await self._answer).endpoints

    @property
    def is_there(self) -> bool:
        """Whether it listens yet, too."""
        return not self._done and not self._transport.is_closing()

    def take(self, held: Callable[[Mapping[str, int]], None]) -> None:
        """This supervisor listens at the endpoints now. held: is told of what the other one has yet, till it has
        nothing."""
        self.held = held
        self._taken_over = True
        if self._transport.is_closing():
            self._is_gone()
        else:
            self._say(TakenOver())

    def close(self) -> None:
        """Ask for nothing any more."""
        self._done = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._transport.close()

    # --- the link -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.pid = peer_pid(transport.get_extra_info("socket"))
        self._transport.write(self._zmtp.take_output())

    def data_received(self, data: bytes) -> None:
        was_ready = self._zmtp.ready
        try:
            messages = self._zmtp.receive(data)
            if output := self._zmtp.take_output():
                self._transport.write(output)
            if self._zmtp.ready and not was_ready:
                self._say(Hello(PROTOCOL_VERSION, "pgactor serve --takeover", 0, f"pgactor {__version__}"))
            for parts in messages:
                for message in self._frames.decode(parts[0]):
                    self._hear(message)
        except ProtocolError as error:
            self._refused(f"it says what is not understood: {error}")
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._refused("it has closed the link")
        if self._taken_over and not self._done:
            self._is_gone()

    def _say(self, message: Message) -> None:
        frame = wire.encode([message])
        self._transport.write(frame_header(len(frame)) + frame)

    def _hear(self, message: msgspec.Struct) -> None:
        match message:
            case Welcome(epoch=epoch):
                self._say(TakeOver(_ID, epoch, None))
            case Held() if not self._answer.done():
                self._answer.set_result(message)
            case Held(connections=connections):
                self.held(connections)
            case Failed():
                self._refused(message.message)
            case Done():
                log.info("the supervisor before this one has given all its connections away")
                self.close()
                self.held({})

    def _refused(self, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConfigError(f"cannot take over from the supervisor that serves: {reason}"))

    def _is_gone(self) -> None:
        log.warning("the supervisor before this one is gone: its connections count as closed in %g s", GONE_SECONDS)
        self._waiting = self._loop.call_later(GONE_SECONDS, self.held, {})
