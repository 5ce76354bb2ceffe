"""A worker process: askers at work at the same time, as tasks of one event loop or as threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from pgactor import AsyncClient, Client

from .asker import Asker, Blocking, Shared
from .ledger import Ledger
from .mix import next_deed

REQUEST_TIMEOUT = 25.0
"""Less than what a request may wait for a backend, so that every limit that runs out is this one."""

TOO_LONG = REQUEST_TIMEOUT + 10
_TELLING_SECONDS = 0.3


@dataclass(frozen=True)
class Job:
    """What a worker process is to do. number: of this process, never used again. askers: how many tasks, or threads.
    ledger: the file that it notes its writes in. until: when to end at the latest, by the monotonic clock; there is
    chaos meanwhile."""

    number: int
    endpoint: str
    style: str
    askers: int
    requests: int
    ledger: Path
    seed: str
    until: float | None = None


@dataclass
class Report:
    """What a worker process has to tell so far."""

    left: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    ended: bool = False


def work(job: Job, pipe: Connection) -> None:
    """Make the requests; send a `Report` now and then, and at the end."""
    if job.style == "threads":
        _in_threads(job, pipe)
    else:
        uvloop.run(_in_tasks(job, pipe))


async def _ask_on(asker: Asker) -> None:
    shared = asker.shared
    while shared.left > 0 and (shared.until is None or time.monotonic() < shared.until):
        if asker.number < asker.shared.awake:
            await next_deed(asker)
        else:
            await asyncio.sleep(0.02)


async def _in_tasks(job: Job, pipe: Connection) -> None:
    async with AsyncClient(job.endpoint, request_timeout=REQUEST_TIMEOUT, label=f"soak {job.number}") as client:
        ledger, random = Ledger(job.ledger, job.number), Random(job.seed)
        shared = Shared(job.number, client, ledger, job.requests, job.askers, cancels=True, until=job.until)
        askers = [Asker(shared, each, f"{job.seed} {each}") for each in range(job.askers)]
        tasks = [asyncio.create_task(_ask_on(asker)) for asker in askers]
        while (await asyncio.wait(tasks, timeout=_TELLING_SECONDS))[1]:
            if _tell(pipe, shared, askers):
                return
            shared.awake = random.choice((1, job.askers // 4, job.askers, job.askers))
        for task in tasks:
            task.result()
    _tell(pipe, shared, askers, ended=True)


def _in_threads(job: Job, pipe: Connection) -> None:
    with Client(job.endpoint, request_timeout=REQUEST_TIMEOUT, label=f"soak {job.number}") as client:
        ledger = Ledger(job.ledger, job.number)
        shared = Shared(
            job.number, Blocking(client), ledger, job.requests, job.askers, cancels=False, until=job.until
        )
        askers = [Asker(shared, each, f"{job.seed} {each}") for each in range(job.askers)]
        errors: list[BaseException] = []
        threads = [threading.Thread(target=_run, args=(_ask_on(asker), errors), daemon=True) for asker in askers]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if _tell(pipe, shared, askers):
                return
            time.sleep(_TELLING_SECONDS)
        if errors:
            raise errors[0]
    _tell(pipe, shared, askers, ended=True)


def _run(coroutine: Coroutine[Any, Any, None], errors: list[BaseException]) -> None:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    except BaseException as error:
        errors.append(error)
    else:
        errors.append(RuntimeError(f"{coroutine!r} waits, in a thread without an event loop"))


def _tell(pipe: Connection, shared: Shared, askers: Sequence[Asker], *, ended: bool = False) -> bool:
    """Send the report. Returns whether there is no going on, since a request was not answered."""
    report = Report(max(0, shared.left), ended=ended)
    now = time.monotonic()
    unanswered = False
    for asker in askers:
        report.counts.update(asker.counts.copy())
        report.errors.update(asker.errors.copy())
        report.violations += asker.violations
        if (asked := asker.asked) is not None and now - asked[0] > TOO_LONG:
            report.violations.append(f"no answer for {now - asked[0]:.0f} s, {asker.kind}: {asked[1]}")
            unanswered = True
    report.ended = ended or unanswered
    pipe.send(report)
    return unanswered
