"""Operating: what an operator, or another supervisor, asks of this one on a link.

It may whoever may administer the pools in question, and whoever could send this process a signal as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..errors import NotPermitted, PoolClosing, PoolError, RequestTimeout
from ..messages import Done
from ..messages.operating import Drain, OperatorRequest, Pause, Resume, TakeOver
from .conductor import Conductor
from .failures import failed
from .peer import Peer
from .pools import Pools

log = logging.getLogger("pgactor.operation")

LOOK_SECONDS = 0.01
"""How often it is looked whether a paused pool is quiet."""


class Operation:
    """Carries it out. end: has the supervisor drain and end. hand_over: has it hand over to the one on a link, which
    has asked for that by a request of this id. Raises nothing: an error is the answer."""

    def __init__(
        self,
        pools: Pools,
        *,
        end: Callable[[], None],
        hand_over: Callable[[Peer, int], None],
        drain_seconds: Callable[[], float],
    ) -> None:
        self._pools = pools
        self._end = end
        self._hand_over = hand_over
        self._drain_seconds = drain_seconds
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, peer: Peer, message: OperatorRequest) -> None:
        """The message has come on this link."""
        try:
            self._carry_out(peer, message)
        except (NotPermitted, PoolError) as error:
            peer.send(failed(message.id, error))

    def _carry_out(self, peer: Peer, message: OperatorRequest) -> None:
        names = None if isinstance(message, TakeOver) else message.pools
        conductors = self._pools.named(names, peer.permit)
        for conductor in conductors.values():
            conductor.dialogue.administration.check_operator(peer)
        listed = "the supervisor" if names is None else ", ".join(conductors)
        match message:
            case Pause():
                if any(conductor.pool.closing for conductor in conductors.values()):
                    raise PoolClosing("the supervisor is shutting down; there is nothing to pause")
                log.info("%s is paused by %s", listed, peer.worker)
                for conductor in conductors.values():
                    conductor.pause()
                self._begin(self._quiet(peer, message, list(conductors)))
            case Resume():
                log.info("%s is resumed by %s", listed, peer.worker)
                for conductor in conductors.values():
                    conductor.resume()
                peer.send(Done(message.id))
            case Drain(pools=None):
                log.info("%s is drained by %s", listed, peer.worker)
                peer.send(Done(message.id))
                self._end()
            case Drain():
                log.info("%s is drained by %s", listed, peer.worker)
                peer.send(Done(message.id))
                for conductor in conductors.values():
                    self._begin(conductor.drain(self._drain_seconds()))
            case TakeOver():
                self._hand_over(peer, message.id)

    async def _quiet(self, peer: Peer, message: Pause, names: Sequence[str]) -> None:
        """Answer when nothing runs, or tell what does at the end of the request's time."""
        try:
            async with asyncio.timeout(message.timeout):
                while not peer.closed:
                    pools = [each.pool for each in self._there(names)]
                    if not all(pool.desk.paused for pool in pools):
                        peer.send(failed(message.id, PoolError("the pause was ended before all was quiet")))
                        return
                    if all(pool.operating.is_quiet for pool in pools):
                        break
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            leases = sum(len(each.pool.leases) for each in self._there(names))
            late = RequestTimeout(
                f"it is paused, but something runs yet ({leases} leases are held; `pgactor status` shows by whom); "
                "`pgactor resume` undoes the pause"
            )
            peer.send(failed(message.id, late))
        else:
            peer.send(Done(message.id))

    def _there(self, names: Sequence[str]) -> list[Conductor]:
        """The pools of these names now: meanwhile one may have begun anew, or been closed."""
        return [conductor for name, conductor in self._pools.conductors.items() if name in names]

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Nothing is waited for any more."""
        for task in self._tasks:
            task.cancel()
