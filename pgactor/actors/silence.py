"""Silent workers on tcp: dead, or merely without a processor for a while, which the kernel can tell apart.

What the kernel of the other side acknowledges comes from a machine that lives, and a connection that is open belongs
to a process that does (or to a child of one). So a silent worker whose connection is open, and which takes what it is
sent, counts as heard, for some times as long as it might be silent otherwise; one whose connection has ended is lost.
And the time in which this process had no processor is nobody's silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tcppeer import TcpPeer

LOOK_SECONDS = 0.2
TIMES = 3.0
"""So many times silence_seconds a worker may be silent whose connection is open."""


def look(now: float, late: float, peers: Iterable[TcpPeer], probe: Callable[[TcpPeer], None]) -> list[TcpPeer]:
    """Vouch for workers that are silent and have a connection; those that have none any more are the answer. late:
    how late this look is, in seconds. probe: sends them something to be acknowledged."""
    ended = []
    for peer in peers:
        worker = peer.worker
        if worker is None or (limit := worker.silence_limit) is None:
            continue
        if late > LOOK_SECONDS:
            worker.heard_at = min(now, worker.heard_at + late)
        if now < worker.heard_at + limit / 2 or not worker.engaged:
            continue
        if not peer.connection.is_open:
            ended.append(peer)
            continue
        if worker.heard_at != peer.vouched_at:
            peer.silent_since = worker.heard_at
        if now < peer.silent_since + TIMES * limit and peer.connection.is_answered:
            worker.heard_at = peer.vouched_at = now
        probe(peer)
    return ended
