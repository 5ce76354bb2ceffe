"""The workers: who they are, what they have asked for, and when they were last heard.

The end of an ipc link is seen at once, that of a tcp link may never be: there a worker that holds something must
be heard within `silence_limit`, or it counts as lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .lease import Lease
    from .request import Request


class Worker:
    """One link of a worker process.

    pid: as the kernel tells it where it can (0: unknown), else as the worker does. road: 'ipc' or 'tcp'.
    silence_limit: seconds without a word after which it is lost while it holds or awaits something; None: the
    link itself tells. flying: how many of its statements are at backends that are shared now; load: for how many
    seconds, about. reads_only: it may not write, as the hands see to.
    link: where its replies go; the brain carries it and does not read it.
    """

    __slots__ = (
        "connected_at",
        "flying",
        "heard_at",
        "label",
        "leases",
        "link",
        "load",
        "number",
        "pid",
        "reads_only",
        "requests",
        "road",
        "silence_limit",
    )

    def __init__(
        self,
        number: int,
        *,
        now: float,
        label: str = "",
        pid: int = 0,
        road: str = "ipc",
        silence_limit: float | None = None,
        link: Any = None,
        reads_only: bool = False,
    ) -> None:
        self.reads_only = reads_only
        self.number = number
        self.label = label
        self.pid = pid
        self.road = road
        self.silence_limit = silence_limit
        self.link = link
        self.connected_at = now
        self.heard_at = now
        self.requests: dict[int, Request] = {}
        self.leases: dict[int, Lease] = {}
        self.flying = 0
        self.load = 0.0

    def __str__(self) -> str:
        name = self.label or f"worker {self.number}"
        return f"{name} (pid {self.pid})" if self.pid else name

    def __repr__(self) -> str:
        return f"<Worker {self.number} {self}>"

    @property
    def engaged(self) -> bool:
        """Whether it awaits or holds something."""
        return bool(self.requests or self.leases)


class Roster:
    """All workers that are connected now."""

    def __init__(self) -> None:
        self._workers: dict[int, Worker] = {}
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker: Worker) -> bool:
        return worker.number in self._workers

    def join(
        self,
        *,
        now: float,
        label: str,
        pid: int,
        road: str,
        silence_limit: float | None,
        link: Any,
        reads_only: bool = False,
    ) -> Worker:
        """A worker has said hello."""
        self._numbers += 1
        worker = Worker(
            self._numbers,
            now=now,
            label=label,
            pid=pid,
            road=road,
            silence_limit=silence_limit,
            link=link,
            reads_only=reads_only,
        )
        self._workers[worker.number] = worker
        return worker

    def leave(self, worker: Worker) -> bool:
        """The worker is gone; False if that was known."""
        return self._workers.pop(worker.number, None) is not None

    def all(self) -> list[Worker]:
        """All workers, in the order of their arrival."""
        return list(self._workers.values())
