"""Who hears which channels: the workers' links, and what each of them is told.

A link hears each notification of a channel once, however often it has asked for the channel. What it cannot be told
is never left out in silence: it is told of a gap instead, as soon as that can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, KeysView

from .. import wire
from ..messages.listening import Gap, Notification
from .faults import tell
from .peer import Peer

MOST_UNSENT_BYTES = 4 * 1024 * 1024
"""How much may wait for a worker that does not read before notifications are left out for it."""

RETRY_SECONDS = 0.05
"""How often it is looked whether such a worker reads again."""


class Subscribers:
    """The links by channel.

    counters: what `pgactor status` shows: how many subscriptions there are now (a link's to three channels count as
    three), how many notifications have come and were sent on, and how many links were told of a gap.
    """

    def __init__(self, counters: dict[str, int]) -> None:
        self._channels: dict[str, dict[Peer, int]] = {}
        self._missed: set[tuple[Peer, str]] = set()  # nothing hears these channels, for the time being
        self._owed: dict[Peer, set[str]] = {}  # gaps that are yet to be told
        self._retry: asyncio.TimerHandle | None = None
        self._counters = counters
        for name in ("subscriptions", "notifications", "notifications_sent", "gaps_told"):
            counters[name] = 0

    @property
    def channels(self) -> KeysView[str]:
        """All that somebody wants to hear."""
        return self._channels.keys()

    def add(self, peer: Peer, channels: Iterable[str]) -> None:
        """The link wants to hear these, once more if it does already."""
        for channel in channels:
            links = self._channels.setdefault(channel, {})
            links[peer] = links.get(peer, 0) + 1
            self._counters["subscriptions"] += 1

    def remove(self, peer: Peer, channels: Iterable[str]) -> None:
        """The link wants to hear these once less. What it did not ask for is ignored."""
        for channel in channels:
            links = self._channels.get(channel, {})
            if peer in links:
                self._counters["subscriptions"] -= 1
                links[peer] -= 1
                if not links[peer]:
                    self._drop(peer, channel)

    def leave(self, peer: Peer) -> None:
        """The link is no more."""
        for channel in [channel for channel, links in self._channels.items() if peer in links]:
            self._counters["subscriptions"] -= self._channels[channel][peer]
            self._drop(peer, channel)

    def _drop(self, peer: Peer, channel: str) -> None:
        links = self._channels[channel]
        del links[peer]
        if not links:
            del self._channels[channel]
        self._missed.discard((peer, channel))
        if peer in self._owed:
            self._owed[peer].discard(channel)

    # --- what they are told -------------------------------------------------------------------------------

    def deliver(self, channel: str, payload: str, pid: int) -> None:
        """A notification has come: encoded once, sent to everybody who hears the channel."""
        try:
            self._deliver(channel, payload, pid)
        except Exception as error:
            tell(f"a notification of {channel} is lost, and a gap is told", error)
            self.deaf([channel])
            self.hear_again()

    def _deliver(self, channel: str, payload: str, pid: int) -> None:
        if self._missed:
            self.hear_again()
        self._counters["notifications"] += 1
        links = self._channels.get(channel)
        if not links:
            return
        encoded = wire.encode_message(Notification(channel, payload, pid))
        for peer in links:
            if self._owed and self._owed.get(peer):
                self._settle(peer)
            if peer.unsent_size() > MOST_UNSENT_BYTES or len(encoded) + 8 > peer.max_frame_bytes:
                self._owe(peer, channel)
            else:
                peer.send_encoded(0, encoded)
        self._counters["notifications_sent"] += len(links)

    def deaf(self, channels: Iterable[str]) -> None:
        """Nothing hears these channels any more: whoever wants to hear them misses what comes now."""
        for channel in channels:
            self._missed.update((peer, channel) for peer in self._channels.get(channel, ()))

    def hear_again(self) -> None:
        """All channels are heard again: those who have missed something are told so."""
        missed, self._missed = self._missed, set()
        for peer, channel in missed:
            self._owed.setdefault(peer, set()).add(channel)
        self._settle_all()

    def close(self) -> None:
        """Nobody will be told anything any more."""
        if self._retry is not None:
            self._retry.cancel()

    def _owe(self, peer: Peer, channel: str) -> None:
        self._owed.setdefault(peer, set()).add(channel)
        self._counters["notifications_sent"] -= 1
        self._try_again_later()

    def _settle(self, peer: Peer) -> None:
        """Tell the link of its gaps, if it has room for that."""
        if peer.closed or peer.unsent_size() <= MOST_UNSENT_BYTES:
            channels = self._owed.pop(peer)
            if channels and peer.send(Gap(sorted(channels))):
                self._counters["gaps_told"] += 1

    def _settle_all(self) -> None:
        self._retry = None
        for peer in list(self._owed):
            self._settle(peer)
        if self._owed:
            self._try_again_later()

    def _try_again_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._settle_all)
