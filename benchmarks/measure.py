"""One run of one contender in one case."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import psycopg

from .cases import BACKENDS, Case, Contender
from .crew import work
from .database import Database, Reference
from .fresh import first_rows
from .generator import Job, Sample
from .peers import PEERS, Target
from .results import percentile
from .servers import Server, pgbouncer, supervisor
from .statements import LOCK, SLOW_SECONDS
from .usage import cpu_seconds, memory_mb, pinned, two_cores
from .work import WORKS, WrongAnswer

_PERCENTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}

IDLE_PROCESSES = 4
"""Idle workers are clients of their own, but share so many processes: only servers are looked at."""


@dataclass
class Bench:
    """Where runs take place. pgbouncer: its path. seconds, warm_up: of each run."""

    database: Database
    pgbouncer: str | None
    seconds: float
    warm_up: float

    @cached_property
    def reference(self) -> Reference:
        return self.database.reference()

    @cached_property
    def capacity(self) -> float:
        """How many heavy look-ups a second PostgreSQL answers on one core, asked by plain connections."""
        case = Case("capacity", "", (), in_flight=BACKENDS, work="heavy", pinned=True)
        return max(self.run(case, Contender("asyncpg", "asyncpg"), seed)[0]["per_second"] for seed in range(3))

    def needs(self, contender: Contender) -> str | None:
        """Why a contender cannot be measured, None if it can."""
        if _through(contender) == "pgbouncer" and self.pgbouncer is None:
            return "no --pgbouncer PATH"
        return None

    def run(self, case: Case, contender: Contender, seed: int) -> tuple[dict[str, float], dict[str, int]]:
        """Figures, and errors of requests by name. Raises whatever went wrong."""
        with ExitStack() as stack:
            server = stack.enter_context(self._server(contender))
            if case.fresh:
                return first_rows(contender.peer, server.address), {}
            generators, servers = two_cores() if case.pinned else (None, None)
            pids = [pid for pid in (server.pid, self.database.pid) if pid is not None]
            stack.enter_context(pinned(pids, servers))
            if case.work in ("mix", "mix: lock"):
                stack.enter_context(_locker(self.database.dsn))
            watch = _Watch(self.database, server, memory=case.memory, seconds=self.seconds * case.longer)
            samples = work(
                self._jobs(case, contender, server, seed, generators),
                warming=watch.look,
                begins=watch.start,
                ends=watch.stop,
            )
            if case.work == "transfer" and not self.database.balanced():
                raise WrongAnswer("transactions that happened by halves")
            return self._figures(case, samples, watch), dict(sum((sample.errors for sample in samples), Counter()))

    @contextmanager
    def _server(self, contender: Contender) -> Iterator[Server]:
        dsn = self.database.dsn
        match _through(contender):
            case "pgactor":
                with supervisor(dsn, backends=contender.backends) as server:
                    yield server
            case "pgbouncer":
                assert self.pgbouncer is not None
                with pgbouncer(self.pgbouncer, dsn, backends=contender.backends) as server:
                    yield server
            case _:
                yield Server(dsn)

    def _jobs(self, case: Case, contender: Contender, server: Server, seed: int, core: int | None) -> list[Job]:
        rate = case.rate if case.capacities is None else case.capacities * self.capacity
        direct = server.pid is None
        connections = max(1, contender.backends // case.processes) if direct else case.in_flight

        def job(number: int, connections: int, idle: int) -> Job:
            return Job(
                peer=contender.peer,
                target=Target(server.address, connections),
                work=case.work,
                in_flight=case.in_flight,
                rate=None if rate is None else rate / case.processes,
                idle=idle,
                warm_up=max(self.warm_up, case.warm_up),
                seconds=self.seconds * case.longer,
                seed=seed * 1000 + number,
                core=core,
                reference=self.reference if case.work == "range" else replace(self.reference, range=()),
            )

        busy = [job(number, connections, 0) for number in range(case.processes)]
        idle = contender.idle // IDLE_PROCESSES
        return busy + [job(500 + number, 1, idle) for number in range(IDLE_PROCESSES if idle else 0)]

    def _figures(self, case: Case, samples: Sequence[Sample], watch: _Watch) -> dict[str, float]:
        kinds = [part.kind for part in WORKS[case.work]]
        reported = kinds[0]
        done = sum(sample.done.total() for sample in samples)
        latencies = {
            kind: sorted(second for sample in samples for second in sample.seconds.get(kind, ())) for kind in kinds
        }
        generators = sum(sample.cpu for sample in samples)
        asked = sum(sample.offered for sample in samples)
        seconds = self.seconds * case.longer
        figures = {
            "per_second": sum(sample.done[reported] for sample in samples) / seconds,
            "asked": float(asked),
            **watch.seen,
        }
        if ordered := latencies[reported]:
            figures |= {name: percentile(ordered, part) * 1000 for name, part in _PERCENTILES.items()}
        if done:
            used = {"generator": generators, **watch.cpu}
            figures |= {f"{name}_us": cpu / done * 1e6 for name, cpu in used.items()}
        if case.rate is not None or case.capacities is not None:
            figures["offered_per_second"] = asked / seconds
        if case.capacities is not None:
            figures["goodput_per_cpu_second"] = done / (generators + sum(watch.cpu.values()))
        for kind in kinds[1:]:
            if latencies[kind]:
                figures[f"p99_ms of {kind}"] = percentile(latencies[kind], 0.99) * 1000
        return figures


class _Watch:
    """What the servers use while they are asked. cpu: seconds, by server."""

    def __init__(self, database: Database, server: Server, *, memory: bool, seconds: float) -> None:
        self._database = database
        self._pids = {
            name: pid for name, pid in (("pool", server.pid), ("postgres", database.pid)) if pid is not None
        }
        self._memory = memory
        self._seconds = seconds
        self._since = 0.0
        self._before: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.seen: dict[str, float] = {}

    def look(self) -> None:
        self.seen["server_connections"] = float(self._database.connections())
        if self._memory:
            self.seen.update({f"{name}_mb": memory_mb(pid) for name, pid in self._pids.items()})

    def start(self) -> None:
        self._since = time.monotonic()
        self._before = {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def stop(self) -> None:
        part = self._seconds / (time.monotonic() - self._since)  # should looking have taken longer than the warm-up
        self.cpu = {name: (cpu_seconds(pid) - self._before[name]) * part for name, pid in self._pids.items()}


@contextmanager
def _locker(dsn: str) -> Iterator[None]:
    """Somebody who holds a row's lock for 50 ms, ten times a second."""
    ended = threading.Event()

    def hold() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not ended.wait(SLOW_SECONDS):
                with connection.transaction():
                    connection.execute(LOCK)
                    ended.wait(SLOW_SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _through(contender: Contender) -> str:
    if contender.peer in PEERS:
        return PEERS[contender.peer].through
    return "pgactor" if contender.peer.startswith("pgactor") else "nothing"
