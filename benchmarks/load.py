"""Processes that keep many look-ups in flight, and what they measure."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import resource
import time
from dataclasses import dataclass

import uvloop

from .database import ROWS
from .peers import PEERS, Target

STARTING_SECONDS = 1.5


@dataclass(frozen=True)
class Measured:
    """What one round of one peer gave. cpu_us: of a worker's processor, per request; latencies in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True)
class _Sample:
    seconds: list[float]
    cpu: float


def measure(peer: str, target: Target, *, processes: int, in_flight: int, seconds: float) -> Measured:
    """One round of one peer: so many processes, each with so many look-ups in flight, for so long."""
    context = multiprocessing.get_context("spawn")
    start = time.time() + STARTING_SECONDS
    with context.Pool(processes) as pool:
        jobs = [
            pool.apply_async(_work, (peer, target, in_flight, start, seconds, number)) for number in range(processes)
        ]
        samples = [job.get(seconds + 60) for job in jobs]
    latencies = sorted(second for sample in samples for second in sample.seconds)
    count = len(latencies)
    return Measured(
        per_second=count / seconds,
        p50_ms=latencies[count // 2] * 1000,
        p99_ms=latencies[int(count * 0.99)] * 1000,
        cpu_us=sum(sample.cpu for sample in samples) / count * 1e6,
    )


def _work(peer: str, target: Target, in_flight: int, start: float, seconds: float, seed: int) -> _Sample:
    return uvloop.run(_look_up_for(peer, target, in_flight, start, seconds, seed))


async def _look_up_for(peer: str, target: Target, in_flight: int, start: float, seconds: float, seed: int) -> _Sample:
    numbers = random.Random(seed)
    latencies: list[float] = []
    async with PEERS[peer](target) as look_up:
        row = await look_up(42)
        assert (row["id"], row["name"], row["active"]) == (42, "name 42", True)
        await asyncio.gather(*(look_up(n) for n in range(in_flight)))

        async def one() -> None:
            while (begun := time.perf_counter()) < end:
                wanted = numbers.randrange(ROWS)
                found = await look_up(wanted)
                latencies.append(time.perf_counter() - begun)
                if found["id"] != wanted:
                    raise AssertionError(f"{peer}: asked for {wanted}, got {found}")

        await asyncio.sleep(max(0.0, start - time.time()))
        cpu = _cpu()
        end = time.perf_counter() + seconds
        await asyncio.gather(*(one() for _ in range(in_flight)))
        return _Sample(latencies, _cpu() - cpu)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
