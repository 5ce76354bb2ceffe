"""Look-ups of a row by its key: pgactor beside a pool in each process, alternating in one run.

All have the same number of server connections in all: 8, in asyncpg's case 2 in each of 4 processes.
"""

from __future__ import annotations

import argparse
import statistics

import psutil
from rich.console import Console
from rich.table import Table

from .database import database, supervisor
from .load import Measured, measure
from .peers import PEERS, Target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--backends", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    options = parser.parse_args()
    console = Console()
    rounds: dict[str, list[Measured]] = {peer: [] for peer in options.peers}
    supervisor_cpu: list[float] = []
    with database() as dsn:
        for number in range(options.rounds):
            for peer in options.peers:
                with supervisor(dsn, max_size=options.backends) as (endpoint, pid):
                    target = Target(dsn, endpoint, max(1, options.backends // options.processes))
                    before = psutil.Process(pid).cpu_times()
                    result = measure(
                        peer,
                        target,
                        processes=options.processes,
                        in_flight=options.in_flight,
                        seconds=options.seconds,
                    )
                    after = psutil.Process(pid).cpu_times()
                rounds[peer].append(result)
                if peer == "pgactor":
                    used = after.user + after.system - before.user - before.system
                    supervisor_cpu.append(used / (result.per_second * options.seconds) * 1e6)
                console.print(f"round {number + 1}: {peer}: {result.per_second:,.0f}/s", highlight=False)
    _show(console, rounds, options, supervisor_cpu)


def _show(
    console: Console, rounds: dict[str, list[Measured]], options: argparse.Namespace, supervisor_cpu: list[float]
) -> None:
    table = Table(
        title=f"look-up by key, {options.processes} processes x {options.in_flight} in flight, "
        f"{options.backends} server connections, median of {options.rounds} alternated rounds",
        title_justify="left",
    )
    for name in ("", "requests/s", "pgactor's is", "p50 ms", "p99 ms", "worker CPU us/request"):
        table.add_column(name, justify="right" if name else "left")
    for peer, results in rounds.items():
        pairs = zip(rounds.get("pgactor", results), results, strict=True)
        ratio = statistics.median(ours.per_second / theirs.per_second for ours, theirs in pairs)
        table.add_row(
            peer,
            f"{_median(results, 'per_second'):,.0f}",
            f"{ratio:.2f}x",
            f"{_median(results, 'p50_ms'):.2f}",
            f"{_median(results, 'p99_ms'):.2f}",
            f"{_median(results, 'cpu_us'):.0f}",
        )
    console.print(table)
    if supervisor_cpu:
        console.print(f"supervisor CPU per look-up, connecting included: {statistics.median(supervisor_cpu):.0f} us")


def _median(results: list[Measured], what: str) -> float:
    return float(statistics.median(getattr(result, what) for result in results))


if __name__ == "__main__":
    main()
