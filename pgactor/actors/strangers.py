"""What is said to a link on which nobody has said hello: to a stranger, or to a worker that was given up.

On tcp a worker of which nothing was heard for silence_seconds is lost. If it was only stopped, it goes on as if
nothing had happened.
"""

from __future__ import annotations

from ..errors import LeaseLost, PgactorError, ProtocolError, SupervisorUnavailable
from ..messages import Request
from .failures import failed
from .peer import Peer

GIVEN_UP = "nothing was heard of this worker for too long, and the supervisor has given up its link and its leases"


def answer(peer: Peer, message: object) -> PgactorError | None:
    """Answer the message; nothing is done. Returns why the link is to end, once all of the frame is answered."""
    if not peer.given_up:
        no_hello = ProtocolError("the first message on a link is expected to be a hello")
        peer.send(failed(message.id if isinstance(message, Request) else None, no_hello))
        return None
    if isinstance(message, Request):
        if getattr(message, "lease", None) is not None:
            peer.send(failed(message.id, LeaseLost(f"{GIVEN_UP}: acquire again")))
        else:
            peer.send(failed(message.id, SupervisorUnavailable(f"{GIVEN_UP}; the request was not run: try again")))
    return SupervisorUnavailable(GIVEN_UP)


def other_life() -> SupervisorUnavailable:
    """The refusal of a request to an earlier supervisor: a stock DEALER keeps it for the next one."""
    return SupervisorUnavailable("the request was meant for an earlier life of the supervisor; it was not run")


def dismiss(peer: Peer, error: PgactorError) -> None:
    """End the link, whatever was said on it: its worker makes another. The brain is not asked."""
    peer.worker = None
    peer.backlog.clear()
    peer.send(failed(None, error))
    peer.close(str(error))
