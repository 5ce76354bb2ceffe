"""Operating a supervisor: pausing its pools, ending it, and one supervisor taking over from another."""

from __future__ import annotations

from ..messages import Message, Number, Request


class Pause(Request, tag="pause"):
    """Give no request a backend from now on; answered by `Done` when nothing runs and nothing is leased any more.

    pools: which, by their names; None: all that the supervisor has now. They stay paused whatever becomes of the
    request.
    """

    pools: list[str] | None = None


class Resume(Request, tag="resume"):
    """Undo `Pause`; answered by `Done`."""

    pools: list[str] | None = None


class Drain(Request, tag="drain"):
    """Let what is here end, and take nothing new; answered by `Done` when that begins. pools: those that are to end;
    None: the supervisor itself, as by SIGTERM."""

    pools: list[str] | None = None


class TakeOver(Request, tag="take_over"):
    """Another supervisor wants this one's endpoints. There comes a `Held` at once, and `Done` when this one has given
    all away and ends."""


class TakenOver(Message, tag="taken_over"):
    """The other supervisor listens at the endpoints now: this one is to hand over."""


class Held(Message, tag="held"):
    """How many connections this supervisor has yet, by its pools' names, and has no more of again. endpoints: where
    it listens, told before the hand-over."""

    connections: dict[str, Number]
    endpoints: list[str] = []  # noqa: RUF012 - msgspec makes a new one for each


class Moved(Message, tag="moved"):
    """Another supervisor listens at the endpoint now. What has begun on this link goes on here; everything else is
    for a new link. over: this one is no more: whatever it has not answered was not run."""

    over: bool = False


OperatorRequest = Pause | Resume | Drain | TakeOver
"""What an operator asks of a supervisor."""
