"""What a worker is told when it says hello, which makes it a worker."""

from __future__ import annotations

from ..config import Settings
from ..core import report
from ..core.pool import Pool
from ..errors import ProtocolError
from ..messages import PROTOCOL_VERSION, Hello, Welcome
from ..version import __version__
from .peer import Peer

LEAST_FRAME_BYTES = 1024
"""A worker that says that its frames are to be smaller than this is not believed."""


def misfit(hello: Hello) -> ProtocolError | None:
    """Why the worker cannot be talked to; None: it can."""
    if hello.version == PROTOCOL_VERSION:
        return None
    return ProtocolError(
        f"the worker speaks version {hello.version} of the protocol, this supervisor (pgactor {__version__}) "
        f"speaks {PROTOCOL_VERSION}: use the same pgactor on both sides"
    )


def join(now: float, peer: Peer, hello: Hello, pool: Pool, settings: Settings) -> Welcome:
    """The link has a worker from now on, which may do what its permit says."""
    peer.max_frame_bytes = min(peer.max_frame_bytes, max(hello.max_frame_bytes, LEAST_FRAME_BYTES))
    silence = settings.silence_seconds if peer.road == "tcp" else None
    permit = peer.permit
    label = report.in_one_line(hello.label)
    peer.worker = pool.roster.join(
        now=now,
        label=label if permit is None else f"{permit.name}: {label}",
        pid=peer.pid or hello.pid,
        road=peer.road,
        silence_limit=silence,
        link=peer,
        reads_only=permit is not None and permit.read_only,
    )
    peer.errors = pool.metrics.errors
    return Welcome(
        PROTOCOL_VERSION,
        pool.epoch,
        f"pgactor {__version__}",
        settings.max_frame_bytes,
        settings.heartbeat_seconds if silence else 0.0,
        2 * pool.settings.most_in_flight,
        pool.settings.queue_timeout_seconds,
    )
