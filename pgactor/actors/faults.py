"""Errors that nobody expected: bugs. Each is logged with its reason, and ends the smallest actor that it may have
harmed, which then begins anew:

    a worker's link       is ended; its worker makes another by itself
    a backend             is closed; the brain has another one opened
    the listener          connects again, and tells of a gap
    a whole pool          where the error came out of the brain, or the brain's timer. Half of a decision was made, so
                          nothing that the brain believes can be trusted: another brain takes its place, with
                          connections of its own, and the workers' links are ended

Actors tell the event loop of the errors that they catch (`tell`), and the loop, which knows also those that nobody
caught, tells `Faults`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..core.actions import Action, Disconnect, Grant, Refuse, TellLeaseEnded
from ..core.holder import Holder
from ..core.operating import Operating
from ..core.pool import Pool
from .failures import EXPECTED, failed, in_words

if TYPE_CHECKING:
    from .backend import Backend

log = logging.getLogger("pgactor.supervisor")


class Faults:
    """An event loop's exception handler. count: how many errors there were. restart: begins a pool anew, whose brain
    this was, for this reason."""

    def __init__(self, restart: Callable[[Pool, str], None]) -> None:
        self._restart = restart
        self.count = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, EXPECTED):
            loop.default_exception_handler(context)
            return
        self.count += 1
        log.error("an unexpected error: %s: %s", context.get("message", ""), in_words(error), exc_info=error)
        brain = brain_of(error)
        if brain is not None:
            loop.call_soon(self._restart, brain, in_words(error))


def contain(action: Action, backends: Mapping[Holder, Backend], error: Exception) -> None:
    """An action could not be carried out: whoever was to do it ends."""
    holder = action.lease.holder if isinstance(action, Grant) else getattr(action, "holder", None)
    backend = None if holder is None else backends.get(holder)
    if isinstance(action, Grant):
        action.request.worker.link.send(failed(action.request.id, error))
    if backend is not None:
        tell(f"{backend.name} fails, and is closed", error)
        backend.end(in_words(error))
    elif isinstance(action, Refuse | TellLeaseEnded | Disconnect):
        worker = (
            action.request.worker
            if isinstance(action, Refuse)
            else (action.worker if isinstance(action, Disconnect) else action.lease.worker)
        )
        tell(f"{worker} could not be told, and its link is ended", error)
        worker.link.abort(in_words(error))
    else:
        tell(f"{type(action).__name__} could not be done", error)


def tell(what: str, error: BaseException) -> None:
    """Tell the event loop of an unexpected error. what: what has become of the actor that it has met."""
    asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})


def brain_of(error: BaseException) -> Pool | None:
    """The brain that the error came out of, if it was one."""
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, Pool):
            return owner
        if isinstance(owner, Operating):
            return owner.pool
        trace = trace.tb_next
    return None
