"""Notes on their way to one subscriber, and who on a link hears which channel. No I/O; thread-safe.

The shells wait as they wait for replies: with a `Pending`, which here ends when there is a note to take.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from ..messages import Done
from ..messages.listening import Gap, Notification

if TYPE_CHECKING:
    from .pending import Pending

BUFFER_SIZE = 10_000
"""How many notes are kept for a subscriber that does not take them, unless it says otherwise."""

LISTENER_LOST = "the connection that listens was lost, and there is a new one"
LINK_LOST = "the link to the supervisor was lost, and there is a new one"


class Note(msgspec.Struct, frozen=True):
    """What a NOTIFY has sent.

    channel: its name. payload: its text. pid: PostgreSQL's process that sent it.
    gap: "" for a note that was really sent. Otherwise it stands in the place of those of this channel that may have
    been missed here, and tells why; its payload is empty and its pid 0.
    """

    channel: str
    payload: str = ""
    pid: int = 0
    gap: str = ""


class Inbox:
    """The notes of one subscriber, from any link: `size` at most, and a gap in the place of the oldest that had to
    go. abandoned: nobody will take any of them."""

    def __init__(self, channels: Iterable[str], size: int) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self.abandoned = False
        self._size = size
        self._notes: deque[Note] = deque()
        self._dropped: dict[str, int] = {}
        self._waiters: list[Pending] = []
        self._lock = threading.Lock()

    def put(self, *notes: Note) -> list[Pending]:
        """Notes have come. Returns who waits for them."""
        with self._lock:
            for note in notes:
                self._notes.append(note)
                if len(self._notes) > self._size:
                    oldest = self._notes.popleft()
                    self._dropped[oldest.channel] = self._dropped.get(oldest.channel, 0) + 1
            return self._end_waiting()

    def take(self) -> Note | None:
        """The next note, None if there is none now."""
        with self._lock:
            if self._dropped:
                channel, number = self._dropped.popitem()
                return Note(channel, gap=f"{number} were dropped: they were not taken quickly enough")
            return self._notes.popleft() if self._notes else None

    def gap(self, why: str, channels: Iterable[str]) -> list[Pending]:
        """Notes of these channels may have been missed. Returns who waits."""
        return self.put(*(Note(channel, gap=why) for channel in channels if channel in self.channels))

    def wake(self) -> list[Pending]:
        """Something else has happened that those who wait are to look at."""
        with self._lock:
            return self._end_waiting()

    def wait(self, pending: Pending) -> bool:
        """Have it end when there is something to take. False: there is, already."""
        with self._lock:
            if self._notes or self._dropped:
                return False
            self._waiters.append(pending)
            return True

    def wait_no_more(self, pending: Pending) -> None:
        """Whatever has happened, nobody waits with it any more."""
        with self._lock:
            if pending in self._waiters:
                self._waiters.remove(pending)

    def _end_waiting(self) -> list[Pending]:
        waiters, self._waiters = self._waiters, []
        for pending in waiters:
            pending.reply = Done(pending.id)
        return waiters


class Ears:
    """Who on a link hears which channels.

    leases: those who hear what a lease's session listens to, by its fence. They return who waits, and are told None
    when the lease ends.
    """

    def __init__(self) -> None:
        self.leases: dict[int, Callable[[Notification | None], list[Pending]]] = {}
        self._inboxes: dict[str, list[Inbox]] = {}

    def add(self, inbox: Inbox) -> None:
        """The inbox hears its channels from now on."""
        for channel in inbox.channels:
            self._inboxes.setdefault(channel, []).append(inbox)

    def remove(self, inbox: Inbox) -> None:
        """It hears them no more."""
        for channel in inbox.channels:
            inboxes = self._inboxes.get(channel, [])
            if inbox in inboxes:
                inboxes.remove(inbox)
                if not inboxes:
                    del self._inboxes[channel]

    def take(self, message: Notification, ended: list[Pending]) -> list[Inbox]:
        """A notification has come. Adds those who wait for it to `ended`; returns inboxes that were found abandoned,
        and hear nothing any more: the supervisor is to be told."""
        if message.lease is not None:
            if hears := self.leases.get(message.lease.fence):
                ended += hears(message)
            return []
        inboxes = self._inboxes.get(message.channel)
        if inboxes is None:
            return []
        note = Note(message.channel, message.payload, message.pid)
        abandoned = []
        for inbox in inboxes:
            if inbox.abandoned:
                abandoned.append(inbox)
            else:
                ended += inbox.put(note)
        for inbox in abandoned:
            self.remove(inbox)
        return abandoned

    def lease_ended(self, fence: int) -> list[Pending]:
        """A lease has ended. Returns who waits for its notes."""
        hears = self.leases.pop(fence, None)
        return [] if hears is None else hears(None)

    def gap(self, message: Gap) -> list[Pending]:
        """The supervisor tells of a gap. Returns who waits for one."""
        channels = dict.fromkeys(message.channels)
        return [pending for inbox in self._all() for pending in inbox.gap(LISTENER_LOST, channels)]

    def lose(self) -> list[Pending]:
        """The link is lost. Returns who waits for something to come by it."""
        leases = [pending for fence in list(self.leases) for pending in self.lease_ended(fence)]
        return leases + self.wake()

    def wake(self) -> list[Pending]:
        """Something has happened to the link that all who hear channels are to look at. Returns who waits."""
        return [pending for inbox in self._all() for pending in inbox.wake()]

    def _all(self) -> list[Inbox]:
        return list(dict.fromkeys(inbox for inboxes in self._inboxes.values() for inbox in inboxes))
