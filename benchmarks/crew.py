"""Many generators, started together, and what is watched meanwhile."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from .generator import DRAIN_SECONDS, Job, Sample, generate

READY_SECONDS = 60.0
_HEADWAY_SECONDS = 0.1

_context = multiprocessing.get_context("forkserver")  # imports once, and forks where nothing is connected yet
_context.set_forkserver_preload(
    ["benchmarks.generator", *(f"benchmarks.peers.of_{name}" for name in ("asyncpg", "pgactor", "psycopg"))]
)


class CrewFailed(Exception):
    """A generator that could not do its job."""


def work(
    jobs: Sequence[Job], *, warming: Callable[[], None], begins: Callable[[], None], ends: Callable[[], None]
) -> list[Sample]:
    """Let all jobs run at the same time. warming, begins, ends: called under load, before the time that is measured,
    at its begin and at its end."""
    crew = [_context.Pipe() for _ in jobs]
    processes = [
        _context.Process(target=generate, args=(job, theirs), daemon=True)
        for job, (_, theirs) in zip(jobs, crew, strict=True)
    ]
    ours = [pipe for pipe, _ in crew]
    try:
        for process, (_, theirs) in zip(processes, crew, strict=True):
            process.start()
            theirs.close()
        for said in _hear(ours, READY_SECONDS):
            if said != "ready":
                raise CrewFailed(said)
        start = time.monotonic() + _HEADWAY_SECONDS
        for pipe in ours:
            pipe.send(start)
        begin = start + jobs[0].warm_up
        _sleep_until(start + jobs[0].warm_up / 3)
        warming()
        _sleep_until(begin)
        begins()
        _sleep_until(begin + jobs[0].seconds)
        ends()
        heard = _hear(ours, DRAIN_SECONDS + 30)
        for said in heard:
            if not isinstance(said, Sample):
                raise CrewFailed(said)
        for process in processes:
            process.join(5)
        return heard
    finally:
        for process in processes:
            if process.pid is not None and process.is_alive():
                process.kill()
        for pipe in ours:
            pipe.close()


def _hear(pipes: Sequence[Connection], seconds: float) -> list[Any]:
    """One message of each."""
    deadline = time.monotonic() + seconds
    heard: dict[Connection, Any] = {}
    while len(heard) < len(pipes):
        ready = wait([pipe for pipe in pipes if pipe not in heard], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise CrewFailed(f"{len(pipes) - len(heard)} of {len(pipes)} generators said nothing for {seconds:.0f} s")
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                heard[pipe] = pipe.recv()
            except EOFError:
                raise CrewFailed("a generator died") from None
            if isinstance(heard[pipe], str) and heard[pipe] != "ready":
                raise CrewFailed(heard[pipe])
    return [heard[pipe] for pipe in pipes]


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))
