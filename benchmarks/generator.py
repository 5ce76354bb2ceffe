"""One process that makes load, and keeps every sample.

Closed loop: so many requests in flight, each followed by the next. Open loop: requests arrive by chance, at a rate,
whether those before are answered or not, and their time counts from when they should have been sent.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import time
from array import array
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import uvloop

from .database import Reference
from .peers import PEERS, Session, Target
from .work import WORKS, Part, WrongAnswer, look_up, verify, verify_sync

TIMER_SECONDS = 0.002
"""An open loop's request that is sent no later than this is on time: the event loop's timers are no finer."""
DRAIN_SECONDS = 15.0


@dataclass(frozen=True)
class Job:
    """What one process does. rate: requests per second, None for a closed loop. idle: so many clients that have asked
    once and now only are there, instead of load. core: the only one to run on."""

    peer: str
    target: Target
    work: str
    in_flight: int
    rate: float | None
    idle: int
    warm_up: float
    seconds: float
    seed: int
    core: int | None
    reference: Reference


@dataclass
class Sample:
    """What one process measured. seconds: of each request that ended in the time measured, or after it, by kind;
    done: those that ended in it. errors: by name. offered: requests begun. cpu: seconds of processor time."""

    seconds: dict[str, array[float]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    offered: int = 0
    cpu: float = 0.0


def generate(job: Job, parent: Connection) -> None:
    """The process: says "ready", is told when to begin, and answers with a Sample, or with the error as text."""
    try:
        if job.core is not None:
            os.sched_setaffinity(0, {job.core})
        sample = _blocking(job, parent) if PEERS[job.peer].sync else uvloop.run(_async(job, parent))
        parent.send(sample)
    except BaseException as error:
        parent.send(f"{type(error).__name__}: {error}")


class _Recorder:
    """Sorts requests into before, within and after the time that is measured."""

    def __init__(self, job: Job, start: float) -> None:
        self.sample = Sample()
        self.start = start
        self.begin = start + job.warm_up
        self.end = self.begin + job.seconds

    def offered(self, now: float) -> None:
        if now >= self.begin:
            self.sample.offered += 1

    def done(self, part: Part, since: float) -> None:
        now = time.monotonic()
        if now < self.begin:
            return
        self.sample.seconds.setdefault(part.kind, array("d")).append(now - since)
        if part.deadline is not None and now - since > part.deadline:
            if since >= self.begin:
                self.sample.errors["answered too late"] += 1
        elif now < self.end:
            self.sample.done[part.kind] += 1

    def failed(self, error: BaseException, since: float) -> None:
        if isinstance(error, WrongAnswer):
            raise error
        if since >= self.begin:
            self.sample.errors[type(error).__name__] += 1


async def _async(job: Job, parent: Connection) -> Sample:
    peer = PEERS[job.peer]
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(peer.open(job.target)) for _ in range(max(1, job.idle))]
        session = sessions[0]
        await verify(session, job.reference, whole=job.work == "range")
        numbers = random.Random(job.seed)
        parts = WORKS[job.work]
        if job.idle:
            for other in sessions:
                await parts[0].warm(other, numbers)
        else:  # every connection once
            for part in parts:
                await asyncio.gather(*(part.warm(session, numbers) for _ in range(job.in_flight)))
        parent.send("ready")
        start = await asyncio.get_running_loop().run_in_executor(None, parent.recv)
        recorder = _Recorder(job, start)
        if job.idle:
            await asyncio.sleep(recorder.end - time.monotonic())
            return recorder.sample
        measuring = asyncio.create_task(_measure_cpu(recorder))
        await asyncio.sleep(start - time.monotonic())
        load = (
            _closed(job, session, numbers, recorder) if job.rate is None else _open(job, session, numbers, recorder)
        )
        await load
        await measuring
        return recorder.sample


async def _closed(job: Job, session: Session, numbers: random.Random, recorder: _Recorder) -> None:
    parts = WORKS[job.work]

    async def one() -> None:
        while (begun := time.monotonic()) < recorder.end:
            part = _draw(parts, numbers)
            recorder.offered(begun)
            try:
                await part.run(session, numbers, part.deadline)
            except Exception as error:
                recorder.failed(error, begun)
                await asyncio.sleep(0.001)
            else:
                recorder.done(part, begun)

    await asyncio.gather(*(one() for _ in range(job.in_flight)))


async def _open(job: Job, session: Session, numbers: random.Random, recorder: _Recorder) -> None:
    assert job.rate is not None
    parts = WORKS[job.work]
    wrong: list[WrongAnswer] = []

    async def one(part: Part, begun: float) -> None:
        try:
            await part.run(session, numbers, part.deadline)
        except WrongAnswer as error:
            wrong.append(error)
        except Exception as error:
            recorder.failed(error, begun)
        else:
            recorder.done(part, begun)

    running: set[asyncio.Task[None]] = set()
    due = recorder.start
    while (due := due + numbers.expovariate(job.rate)) < recorder.end:
        now = time.monotonic()
        if due > now:
            await asyncio.sleep(due - now)
            now = time.monotonic()
        elif len(running) % 64 == 0:  # late: replies are to be read nevertheless
            await asyncio.sleep(0)
        recorder.offered(now)
        task = asyncio.create_task(one(_draw(parts, numbers), due if now - due > TIMER_SECONDS else now))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        _, unfinished = await asyncio.wait(running, timeout=DRAIN_SECONDS)
        recorder.sample.errors.update({"unanswered": len(unfinished)} if unfinished else {})
    if wrong:
        raise wrong[0]


def _draw(parts: tuple[Part, ...], numbers: random.Random) -> Part:
    if len(parts) == 1:
        return parts[0]
    return numbers.choices(parts, [part.weight for part in parts])[0]


async def _measure_cpu(recorder: _Recorder) -> None:
    await asyncio.sleep(recorder.begin - time.monotonic())
    before = _cpu()
    await asyncio.sleep(recorder.end - time.monotonic())
    recorder.sample.cpu = _cpu() - before


def _blocking(job: Job, parent: Connection) -> Sample:
    numbers = random.Random(job.seed)
    (part,) = WORKS[job.work]
    with PEERS[job.peer].open_sync(job.target) as session:
        verify_sync(session, job.reference)
        parent.send("ready")
        recorder = _Recorder(job, parent.recv())
        time.sleep(max(0.0, recorder.start - time.monotonic()))
        before: float | None = None
        while (begun := time.monotonic()) < recorder.end:
            if before is None and begun >= recorder.begin:
                before = _cpu()
            recorder.offered(begun)
            try:
                look_up(session, numbers)
            except Exception as error:
                recorder.failed(error, begun)
                time.sleep(0.001)
            else:
                recorder.done(part, begun)
        recorder.sample.cpu = _cpu() - (before or 0.0)
        return recorder.sample


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
