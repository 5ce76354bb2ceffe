"""One worker with ten thousand requests in flight: what it does to the p99 of others. `python -m benchmarks.flood`.

A few processes ask for a row, a few at a time: alone; beside another that has nothing to do with the pool and
only computes; beside one that has ten thousand requests in flight all the time. The three take turns in one run.
Where there are few processors, a neighbour costs something because it computes: what the flood costs others in the
pool is the third over the second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from multiprocessing.synchronize import Event

import click

from pgactor import AsyncClient

from .database import database
from .results import percentile
from .servers import supervisor

SQL = "select n, n::text from generate_series($1::int, $1::int) n"

SETTLED_SECONDS = 1.0

_context = multiprocessing.get_context("forkserver")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", default=5)
@click.option("--seconds", default=2.0, help="Of each measurement.")
@click.option("--others", default=4, help="How many processes.")
@click.option("--in-flight", default=8, help="Of each of them.")
@click.option("--flood", default=10_000, help="In flight in the process that floods.")
@click.option("--backends", default=8)
def main(rounds: int, seconds: float, others: int, in_flight: int, flood: int, backends: int) -> None:
    """Print p99 in milliseconds, and the medians of the rounds' ratios."""
    neighbours = {"alone": None, "beside one that computes": 0, f"beside {flood} in flight": flood}
    ratios: dict[str, list[float]] = {name: [] for name in neighbours}
    with database() as opened, supervisor(opened.dsn, backends=backends) as server:
        for _ in range(rounds):
            p99 = {
                name: _measure(server.address, others, in_flight, seconds, count)
                for name, count in neighbours.items()
            }
            for name, each in p99.items():
                ratios[name].append(each / p99["alone"])
            click.echo(", ".join(f"{name} {each * 1000:.2f} ms" for name, each in p99.items()))
    _, computing, flooded = ratios.values()
    added = statistics.median(b / a for a, b in zip(computing, flooded, strict=True))
    told = ", ".join(f"{name} {statistics.median(each):.2f}" for name, each in ratios.items())
    click.echo(f"p99 over p99 alone, medians: {told}; the third over the second {added:.2f}")


def _measure(endpoint: str, others: int, in_flight: int, seconds: float, neighbour: int | None) -> float:
    """p99 of the others, in seconds, beside a neighbour with so many in flight; None: alone."""
    times: multiprocessing.SimpleQueue[list[float]] = _context.SimpleQueue()
    over, ready = _context.Event(), _context.Event()
    target = _flood if neighbour else _compute
    floods = [] if neighbour is None else [_context.Process(target=target, args=(endpoint, neighbour, over, ready))]
    quiet = [_context.Process(target=_ask, args=(endpoint, in_flight, seconds, times)) for _ in range(others)]
    try:
        for process in floods:
            process.start()
            if not ready.wait(30):
                raise click.ClickException("the neighbour did not start")
            time.sleep(SETTLED_SECONDS)
        for process in quiet:
            process.start()
        samples = sorted(second for _ in quiet for second in times.get())
    finally:
        over.set()
        for process in (*quiet, *floods):
            process.join(60)
    return percentile(samples, 0.99)


def _ask(endpoint: str, in_flight: int, seconds: float, times: multiprocessing.SimpleQueue[list[float]]) -> None:
    async def ask(client: AsyncClient, end: float, took: list[float]) -> None:
        while (began := time.monotonic()) < end:
            await client.fetch(SQL, 5)
            took.append(time.monotonic() - began)

    async def run() -> list[float]:
        async with AsyncClient(endpoint, label="other") as client:
            await client.fetch(SQL, 5)
            took: list[float] = []
            end = time.monotonic() + seconds
            await asyncio.gather(*(ask(client, end, took) for _ in range(in_flight)))
            return took

    times.put(asyncio.run(run()))


def _flood(endpoint: str, count: int, over: Event, ready: Event) -> None:
    async def ask(client: AsyncClient) -> None:
        while not over.is_set():
            await client.fetch(SQL, 5)

    async def run() -> None:
        async with AsyncClient(endpoint, label="neighbour") as client:
            await client.fetch(SQL, 5)
            asking = [asyncio.create_task(ask(client)) for _ in range(count)]
            ready.set()
            await asyncio.gather(*asking)

    asyncio.run(run())


def _compute(_: str, __: int, over: Event, ready: Event) -> None:
    ready.set()
    while not over.is_set():
        sum(range(1000))


if __name__ == "__main__":
    main()
