"""Succession: another supervisor takes over from this one. This is the side of the one that goes.

The other asks by `TakeOver`, is told what there is (`Held`), listens at the endpoints in this one's place, and says
so (`TakenOver`). From then on the workers are sent there (`Moved`), new requests are refused unrun, and what has
begun here ends here. Each connection that is closed is told of before the other may open one for it. When none is
left, the last links are ended, and this process is.

If the other one dies before that, this one listens at the endpoints again and goes on. If a bug stops the hand-over,
this one ends as well, with what it holds yet: the other one serves the workers already, and has all by that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .. import wire
from ..errors import ConfigError, PgactorError, PoolClosing, ProtocolError
from ..messages import Done
from ..messages.operating import Held, Moved, TakenOver
from .conductor import Conductor
from .failures import failed
from .faults import tell
from .peer import Peer
from .pools import Pools
from .predecessor import GONE_SECONDS

log = logging.getLogger("pgactor.succession")

LINGER_SECONDS = 1.0
"""How long workers have to end the last links by themselves; one that is idle and blocking does not."""

FLUSH_SECONDS = 0.05
"""What libzmq is given to send the last messages."""

LOOK_SECONDS = 0.01


class Succession:
    """The link to the other supervisor, from its request on. handed_over: is called when all is given away. make_way:
    lets new links on tcp go to the other one. claim: has them come here again, on ipc, too. close_tcp: ends what is
    left of them."""

    def __init__(
        self,
        pools: Pools,
        endpoints: list[str],
        *,
        max_frame_bytes: int,
        make_way: Callable[[], None],
        claim: Callable[[], Awaitable[None]],
        close_tcp: Callable[[], None],
        handed_over: Callable[[], None],
    ) -> None:
        self._pools = pools
        self._endpoints = endpoints
        self._frames = wire.worker_frames(max_frame_bytes)
        self._make_way = make_way
        self._claim = claim
        self._close_tcp = close_tcp
        self._handed_over = handed_over
        self._loop = asyncio.get_running_loop()
        self._peer: Peer | None = None
        self._request = 0
        self._kept: dict[str, int] = {}
        self._handing: asyncio.Task[None] | None = None
        self._claiming: asyncio.Task[None] | None = None
        self._regaining: asyncio.TimerHandle | None = None

    # --- what the other one says --------------------------------------------------------------------------

    def begin(self, peer: Peer, request: int) -> None:
        """The supervisor on this link asks to take over, by a request of this id."""
        error: PgactorError | None = None
        if self._peer is not None:
            error = PoolClosing("another supervisor is taking over already")
        elif self._pools.lent:
            error = PoolClosing("this supervisor has not all connections of another one yet; try again later")
        elif self._pools.draining:
            error = PoolClosing("the supervisor is shutting down")
        if error is not None:
            peer.send(failed(request, error))
            return
        log.info("pid %d asks to take over", peer.pid)
        said_goodbye, peer.said_goodbye = peer.said_goodbye, True
        peer.heard_by.disconnected(peer, "it is a supervisor")  # no worker any more
        peer.said_goodbye = said_goodbye
        peer.heard_by = self
        self._peer, self._request = peer, request
        peer.send(Held(self._alive(), self._endpoints))

    def frame(self, peer: Peer, frame: bytes) -> None:
        """What the other supervisor says."""
        with suppress(ProtocolError):
            if any(isinstance(message, TakenOver) for message in self._frames.decode(frame)) and not self._handing:
                self._hand_over()

    def disconnected(self, peer: Peer, reason: str) -> None:
        """The other supervisor is no more."""
        if self._peer is None:
            return  # it has all that there was
        self._peer = None
        log.warning("the supervisor that was taking over is gone: this one goes on")
        if self._handing is not None:
            self._handing.cancel()
            self._handing = None
            self._pools.take_back()
            self._regaining = self._loop.call_later(GONE_SECONDS, self._pools.lend, {})
        self._claiming = self._loop.create_task(self._claim_again())

    def malformed(self, peer: Peer | None, reason: str) -> None:
        """It said what cannot be understood."""
        log.warning("the supervisor that takes over says what is not understood: %s", reason)

    # --- the hand-over ------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        log.info("another supervisor listens at the endpoints: handing over")
        self._make_way()
        self._kept = self._alive()
        self._pools.hand_over(self._gave_away)
        self._tell()
        self._handing = self._loop.create_task(self._give_all_away())

    def _alive(self) -> dict[str, int]:
        return {name: conductor.pool.operating.needs for name, conductor in self._pools.conductors.items()}

    def _gave_away(self, name: str, kept: int) -> None:
        self._kept[name] = kept
        if self._handing is not None:
            self._tell()

    def _tell(self) -> None:
        if self._peer is not None:
            self._peer.send(Held(self._kept))

    async def _give_all_away(self) -> None:
        try:
            await self._see_all_end()
        except Exception as error:
            tell("the hand-over has failed, and this supervisor ends: the other one takes what there is", error)
        self._handed_over()

    async def _see_all_end(self) -> None:
        conductors = list(self._pools.conductors.values())
        await asyncio.gather(*(conductor.handed_over() for conductor in conductors))
        await asyncio.sleep(0)  # the last replies leave at the end of this turn
        if _end(conductors, "tcp"):
            await asyncio.sleep(FLUSH_SECONDS)
        self._close_tcp()  # before the other one is told, which may change its key from then on
        successor, self._peer = self._peer, None
        if successor is not None:
            successor.send(Done(self._request))
            successor.flush()
        _end(conductors, "ipc")
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while _links(conductors, "ipc"):  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(LOOK_SECONDS)

    async def _claim_again(self) -> None:
        try:
            await self._claim()
        except (OSError, ConfigError) as error:
            log.error("cannot listen at the endpoint again: %s", error)
        except Exception as error:
            tell("it cannot listen at all of its endpoints again", error)

    def close(self) -> None:
        """The supervisor ends in another way."""
        for task in (self._handing, self._claiming, self._regaining):
            if task is not None:
                task.cancel()


def _links(conductors: list[Conductor], road: str) -> list[Any]:
    """Those of workers that come by this road."""
    workers = [worker for conductor in conductors for worker in conductor.pool.roster.all()]
    return [worker.link for worker in workers if worker.road == road]


def _end(conductors: list[Conductor], road: str) -> bool:
    """Tell their workers that nothing comes any more; whether there are any."""
    links = _links(conductors, road)
    for link in links:
        link.send(Moved(over=True))
        link.finish()
    return bool(links)
