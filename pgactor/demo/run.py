"""Starts everything, kills one worker, shows progress and the sum."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..actors.embedded import embedded_postgres
from ..client.sync import Client
from ..errors import PgactorError
from .job import POISON, Report, work
from .witness import Witness

USUAL_POOL_SIZE = 10
"""max_size of asyncpg.Pool, and of most others, unless told otherwise."""

STARTING_SECONDS = 2.0
"""For the worker processes to be there."""


class Demo:
    """What is known of the run so far."""

    def __init__(self, workers: int) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.committed: dict[int, list[int]] = {number: [] for number in range(workers)}
        self.unknown: dict[int, set[int]] = {number: set() for number in range(workers)}
        self.errors: dict[str, list[str]] = {}
        self.finished: set[int] = set()
        self.victim: int | None = None
        self.rollback_seconds: float | None = None

    def take(self, report: Report) -> None:
        """Add a worker's report."""
        for kind, seconds in report.seconds.items():
            self.seconds.setdefault(kind, []).extend(seconds)
        self.committed[report.worker] += report.committed
        self.unknown[report.worker].update(report.unknown)
        for kind, errors in report.errors.items():
            self.errors.setdefault(kind, []).extend(f"worker {report.worker}: {kind}: {error}" for error in errors)
        if report.finished:
            self.finished.add(report.worker)

    @property
    def requests(self) -> int:
        """How many requests were made; a transaction counts as one."""
        return sum(map(len, self.seconds.values()))

    def check_writes(self, found: dict[int, Counter[int]]) -> list[str]:
        """Whether the table holds every committed write once, and nothing that was not committed."""
        complaints = []
        for worker, numbers in self.committed.items():
            in_table = found.get(worker, Counter())
            lost = [number for number in numbers if not in_table[number]]
            doubled = [number for number, times in in_table.items() if times > 1]
            surplus = set(in_table) - set(numbers) - self.unknown[worker]
            if worker == self.victim:  # what it committed and could not tell any more is no surplus
                surplus &= {POISON}
            for what, which in (("lost", lost), ("doubled", doubled), ("never committed", sorted(surplus))):
                if which:
                    complaints.append(f"worker {worker}: {what}: {which[:10]}")
        return complaints


def run_demo(*, workers: int, connections: int, seconds: float, dsn: str | None) -> bool:
    """Run it all; True if nothing was lost or doubled, no error was seen and max_size was kept."""
    console = Console()
    with ExitStack() as stack:
        if dsn is None:
            console.print("starting an embedded PostgreSQL ...")
            dsn = stack.enter_context(embedded_postgres())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgactor-"))
        endpoint = f"ipc://{folder}/demo.sock"
        witness = stack.enter_context(Witness(dsn))
        _start_supervisor(stack, dsn, endpoint, connections)
        demo = Demo(workers)
        console.print(f"{workers} worker processes on {connections} connections, for {seconds:g} s:")
        _work(demo, stack, endpoint, workers, seconds)
        complaints = demo.check_writes(witness.writes())
        if not witness.money_is_conserved():
            complaints.append("the balances do not sum up: half a transaction was committed")
    if witness.most > connections:
        complaints.append(f"{witness.most} server connections were seen, over the limit of {connections}")
    missing = set(range(workers)) - demo.finished - {demo.victim}
    complaints += [f"worker {number} did not finish" for number in sorted(missing)]
    complaints += [error for errors in demo.errors.values() for error in errors]
    _show(console, demo, witness.most, workers, seconds, complaints)
    return not complaints


def _start_supervisor(stack: ExitStack, dsn: str, endpoint: str, connections: int) -> None:
    command = [sys.executable, "-m", "pgactor", "serve", "--endpoint", endpoint, "--log-level", "WARNING",
               "--min-size", "1", "--max-size", str(connections)]  # fmt: skip
    environment = {**os.environ, "PGACTOR_DSN": dsn}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)  # noqa: S603
    stack.callback(_stop, process)
    assert process.stdout is not None  # noqa: S101
    stack.callback(process.stdout.close)
    if not process.stdout.readline().startswith("pgactor ready"):
        raise PgactorError("the supervisor did not start")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _work(demo: Demo, stack: ExitStack, endpoint: str, workers: int, seconds: float) -> None:
    """Let the workers work; kill the last one half way, in the middle of a transaction."""
    context = multiprocessing.get_context("spawn")  # fresh processes, as gunicorn's and celery's are
    start = time.time() + STARTING_SECONDS
    until, doomed_at = start + seconds, start + seconds / 2
    victim = workers - 1 if workers > 1 else None
    pipes: dict[Connection, BaseProcess] = {}
    for number in range(workers):
        ours, theirs = context.Pipe(duplex=False)
        doom = doomed_at if number == victim else None
        process = context.Process(target=work, args=(number, endpoint, theirs, until, doom), daemon=True)
        process.start()
        theirs.close()
        pipes[ours] = process
    stack.callback(_reap, list(pipes.values()))
    client = stack.enter_context(Client(endpoint, label="pgactor demo"))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("working", total=seconds, rate="")
        while pipes and time.time() < until + 15:
            for ready in wait_for_any(list(pipes), timeout=0.1):
                pipe = ready
                assert isinstance(pipe, Connection)  # noqa: S101
                try:
                    report: Report = pipe.recv()
                except EOFError:
                    pipes.pop(pipe).join()
                    pipe.close()
                    continue
                demo.take(report)
                if report.in_doomed_transaction:
                    demo.victim = report.worker
                    demo.rollback_seconds = _kill(pipes[pipe], client)
                    progress.console.print(
                        f"worker {report.worker} was killed -9 in a transaction; its backend was rolled back after "
                        f"{demo.rollback_seconds * 1000:.1f} ms"
                    )
            worked = min(max(0.0, time.time() - start), seconds)
            rate = f"{demo.requests / worked:,.0f} requests/s" if worked else "starting"
            progress.update(bar, completed=worked, rate=rate)


def _kill(process: BaseProcess, client: Client) -> float:
    """Kill -9 the worker; returns how many seconds its lease outlived it."""
    pid = process.pid
    assert pid is not None  # noqa: S101
    os.kill(pid, signal.SIGKILL)
    start = time.perf_counter()
    while any(f"(pid {pid})" in holder.worker for holder in client.status().holders):
        if time.perf_counter() - start > 10:
            raise PgactorError("the lease of the killed worker is still held after 10 s")
    return time.perf_counter() - start


def _reap(processes: list[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()


def _show(console: Console, demo: Demo, most: int, workers: int, seconds: float, complaints: list[str]) -> None:
    table = Table(title=f"{workers} workers, {seconds:g} s", title_justify="left")
    for name in ("", "requests", "errors", "per second", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="left" if not name else "right")
    everything = [second for each in demo.seconds.values() for second in each]
    for kind, each in [*sorted(demo.seconds.items()), ("all", everything)]:
        each.sort()
        marks = (f"{each[min(len(each) - 1, int(len(each) * share))] * 1000:.2f}" for share in (0.5, 0.95, 0.99))
        errors = sum(map(len, demo.errors.values())) if kind == "all" else len(demo.errors.get(kind, ()))
        table.add_row(kind, f"{len(each):,}", str(errors), f"{len(each) / seconds:,.0f}", *marks)
    console.print(table)
    pools = f"{workers} x {USUAL_POOL_SIZE} = {workers * USUAL_POOL_SIZE}"
    console.print(f"server connections used: {most}; with a pool in each worker, up to {pools}")
    writes = sum(map(len, demo.committed.values()))
    if complaints:
        console.print(f"[bold red]{len(complaints)} complaints[/], the first of them:")
        for complaint in complaints[:10]:
            console.print(f"  {complaint}", markup=False, highlight=False)
    else:
        console.print(f"all {writes:,} committed writes are in the table exactly once")
