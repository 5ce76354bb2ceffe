"""LISTEN: what is asked, and what comes of it."""

from __future__ import annotations

from ..messages import Message, Request, Token

LONGEST_CHANNEL_BYTES = 63
"""How long PostgreSQL's names are at most, in UTF-8."""


class Listen(Request, tag="listen"):
    """Have the notifications of these channels sent to this link from now on, as `Notification`; answered by `Done`
    once PostgreSQL listens. With a lease, its session listens, else the pool's one listening connection does. A name
    is taken exactly as it is, and has 63 bytes at most."""

    channels: list[str]
    lease: Token | None = None

    def __post_init__(self) -> None:
        for channel in self.channels:
            if len(channel.encode()) > LONGEST_CHANNEL_BYTES:  # PostgreSQL would cut it, and no notification match it
                raise ValueError(
                    f"a channel's name is expected to be of {LONGEST_CHANNEL_BYTES} bytes at most: {channel!r}"
                )
            if "\0" in channel:
                raise ValueError(f"a channel's name cannot have a null character in it: {channel!r}")


class Unlisten(Request, tag="unlisten"):
    """Undo a `Listen` for these channels; answered by `Done`."""

    channels: list[str]
    lease: Token | None = None


class Notification(Message, tag="notification"):
    """A NOTIFY has come on a channel that is listened to. pid: of the session that sent it. lease: whose session
    listens; None: the pool's."""

    channel: str
    payload: str
    pid: int
    lease: Token | None = None


class Gap(Message, tag="gap"):
    """Notifications of these channels may have been missed just now: the connection that listens was lost, and there
    is a new one."""

    channels: list[str]
