"""What becomes of the supervisor when more is asked than can be done: `python -m benchmarks.overload --help`.

The load is scenario g's: look-ups of some milliseconds each, asked by two processes that are pinned to one core, of a
supervisor and a PostgreSQL that share the other; whoever asks waits for a second. Asked for is a part of what one
core can do, all of it, and a multiple. It is looked at how much is answered in time, what that costs, how many wait,
how much memory is held, and when the last answer came.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack

import click

from pgactor import Client

from .cases import BACKENDS, Case, Contender
from .crew import work
from .database import database
from .measure import Bench
from .results import percentile
from .servers import supervisor
from .usage import cpu_seconds, memory_mb, pinned, two_cores
from .work import DEADLINE_SECONDS

KEPT = 0.9
"""The part of its peak that goodput is to keep."""

LATE_SECONDS = 0.5
"""How much after its deadline a request may end: generators are busy, too."""


class _Watch:
    """What a supervisor uses, and how many requests wait in it at most, while it is under load."""

    def __init__(self, pids: dict[str, int], endpoint: str) -> None:
        self._pids = pids
        self._endpoint = endpoint
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._before: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.waiting = 0
        self.memory_mb = 0.0

    def warm(self) -> None:
        self._thread.start()

    def begin(self) -> None:
        self._before = {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def end(self) -> None:
        self.cpu = {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        with Client(self._endpoint, label="observer") as client:
            while not self._ended.wait(0.25):
                self.waiting = max(self.waiting, client.status().waiting)
                self.memory_mb = max(self.memory_mb, memory_mb(self._pids["supervisor"]))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--load", "loads", multiple=True, type=float, default=(0.5, 0.8, 1.1, 2.0, 10.0), help="In capacities.")
@click.option("--seconds", default=60.0, help="Of each load.")
def main(loads: tuple[float, ...], seconds: float) -> None:
    """Exits 1 if goodput falls below nine tenths of its peak, or a request ended too late."""
    failed = False
    peak: dict[str, float] = {}
    with database() as opened:
        bench = Bench(opened, None, seconds=0.6, warm_up=0.3)
        click.echo(f"one core can do {bench.capacity:,.0f} of these a second, asked by plain connections")
        bench.seconds = seconds
        for load in loads:
            case = Case("overload", "", (), 2, 64, "heavy", capacities=load, pinned=True, warm_up=2.5)
            with ExitStack() as stack:
                server = stack.enter_context(supervisor(opened.dsn, backends=BACKENDS))
                assert server.pid is not None
                generators, servers = two_cores()
                pids = {"supervisor": server.pid, **({} if opened.pid is None else {"PostgreSQL": opened.pid})}
                stack.enter_context(pinned(list(pids.values()), servers))
                if generators is not None:
                    os.sched_setaffinity(0, {generators})
                watch = _Watch(pids, server.address)
                jobs = bench._jobs(case, Contender("pgactor", "pgactor"), server, 1, generators)
                samples = work(jobs, warming=watch.warm, begins=watch.begin, ends=watch.end)
            done = sum(sample.done.total() for sample in samples)
            asked = sum(sample.offered for sample in samples)
            times = sorted(second for sample in samples for each in sample.seconds.values() for second in each)
            errors = sum((sample.errors for sample in samples), type(samples[0].errors)())
            goodput = {
                "of both": done / sum(watch.cpu.values()),
                "of the supervisor": done / watch.cpu["supervisor"],
            }
            peak = {name: max(each, peak.get(name, 0.0)) for name, each in goodput.items()}
            parts = {name: each / peak[name] for name, each in goodput.items()}
            late = bool(times) and times[-1] > DEADLINE_SECONDS + LATE_SECONDS
            failed |= parts["of both"] < KEPT or late or "unanswered" in errors
            told = ", ".join(f"{goodput[name]:,.0f} per CPU second {name} ({parts[name]:.0%})" for name in goodput)
            click.echo(
                f"{load:g} x: {asked / seconds:,.0f}/s asked, {done / seconds:,.0f}/s answered in time: {told}; "
                f"p50 {percentile(times, 0.5):.2f} s, p99 {percentile(times, 0.99):.2f} s, last {times[-1]:.2f} s; "
                f"at most {watch.waiting} waited, {watch.memory_mb:.0f} MB; {dict(errors)}"
            )
    click.echo("not as wanted" if failed else "goodput stays, and all end in time")
    sys.exit(failed)


if __name__ == "__main__":
    main()
