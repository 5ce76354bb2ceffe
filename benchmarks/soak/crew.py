"""The worker processes: started, killed at times, and replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

from .worker import Job, Report, work

TASKS = 32
THREADS = 4
STARTING_SECONDS = 30.0

_context = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    job: Job
    process: BaseProcess
    pipe: Connection
    report: Report
    heard_at: float
    killed: bool = False


def unanswered(counts: Counter[tuple[str, str]]) -> int:
    """How many requests have no answer."""
    return 2 * sum(count for (_, what), count in counts.items() if what == "requests") - counts.total()


class Crew:
    """Worker processes that make so many requests together.

    Every fourth is a blocking client in threads, every fourth goes by tcp, the others are async clients on ipc.
    """

    def __init__(
        self,
        *,
        processes: int,
        requests: int,
        ipc: str,
        tcp: str,
        folder: Path,
        seed: int,
        until: float | None = None,
    ) -> None:
        """until: when they end at the latest, by the monotonic clock; then there is chaos meanwhile."""
        self._until = until
        self._ipc = ipc
        self._tcp = tcp
        self._folder = folder
        self._seed = seed
        self._random = Random(f"{seed} crew")
        self._number = 0
        self._working: list[_Worker] = []
        self._over: list[Report] = []
        self.violations: list[str] = []
        self.killed = 0
        each, rest = divmod(requests, processes)
        for place in range(processes):
            self._start(place, each + (place < rest))

    @property
    def working(self) -> int:
        """How many processes have not ended."""
        return len(self._working)

    @property
    def ledgers(self) -> list[Path]:
        """The files that they have noted their writes in."""
        return sorted(self._folder.glob("*.ledger"))

    def counts(self) -> Counter[tuple[str, str]]:
        """What was asked and answered so far, by kind."""
        return sum((report.counts for report in self._reports()), Counter())

    def errors(self) -> Counter[str]:
        """How often each class of error was met."""
        return sum((report.errors for report in self._reports()), Counter())

    def found(self) -> list[str]:
        """All violations that were noticed."""
        return self.violations + [each for report in self._reports() for each in report.violations]

    def listen(self, seconds: float) -> None:
        """Hear what they report, for so long."""
        end = time.monotonic() + seconds
        while self._working and (left := end - time.monotonic()) > 0:
            by_pipe = {worker.pipe: worker for worker in self._working}
            for pipe in wait(list(by_pipe), left):
                self._hear(by_pipe[pipe])  # type: ignore[index]  # only these were waited for
            for worker in list(self._working):
                if time.monotonic() - worker.heard_at > STARTING_SECONDS:
                    self.violations.append(f"worker {worker.job.number} has said nothing for {STARTING_SECONDS:g} s")
                    worker.process.kill()
                    worker.heard_at = time.monotonic()

    def kill_one(self) -> None:
        """SIGKILL one of them, in the middle of its work; another one takes its place."""
        at_work = [worker for worker in list(self._working) if not worker.killed and worker.report.counts]
        if at_work:
            worker = self._random.choice(at_work)
            worker.killed = True
            assert worker.process.pid is not None
            os.kill(worker.process.pid, signal.SIGKILL)
            self.killed += 1

    @contextmanager
    def stopped_one(self) -> Iterator[None]:
        """SIGSTOP one of them, and SIGCONT at the end of the block."""
        pids = [worker.process.pid for worker in list(self._working) if not worker.killed and worker.report.counts]
        pid = self._random.choice(pids) if pids else None
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill what is left of them."""
        for worker in self._working:
            worker.process.kill()
            worker.process.join()

    def _reports(self) -> list[Report]:
        return [*self._over, *(worker.report for worker in self._working)]

    def _start(self, place: int, requests: int) -> None:
        self._number += 1
        style = ("tasks", "threads", "tasks", "tcp")[place % 4]
        job = Job(
            number=self._number,
            endpoint=self._tcp if style == "tcp" else self._ipc,
            style=style,
            askers=THREADS if style == "threads" else TASKS,
            requests=requests,
            ledger=self._folder / f"{self._number}.ledger",
            seed=f"{self._seed} {self._number}",
            until=self._until,
        )
        ours, theirs = _context.Pipe(duplex=False)
        process = _context.Process(target=work, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        self._working.append(_Worker(job, process, ours, Report(requests), time.monotonic()))

    def _hear(self, worker: _Worker) -> None:
        worker.heard_at = time.monotonic()
        try:
            worker.report = worker.pipe.recv()
        except (EOFError, OSError):  # it has ended
            self._has_ended(worker)

    def _has_ended(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        self._working.remove(worker)
        self._over.append(worker.report)
        if worker.killed:
            if worker.report.left:
                place = ("tasks", "threads", "tasks", "tcp").index(worker.job.style)
                self._start(place, worker.report.left)
        elif not worker.report.ended or worker.process.exitcode:
            self.violations.append(f"worker {worker.job.number} ended with status {worker.process.exitcode}")
        elif unanswered(worker.report.counts):
            self.violations.append(f"worker {worker.job.number} has no answer to {unanswered(worker.report.counts)}")
