"""Processor time, memory and cores of server processes, as the kernel tells them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def cpu_seconds(pid: int) -> float:
    """What a process, its children and those of them that have ended have used: /proc/PID/stat."""
    return sum(_cpu_seconds(member, ended=member == pid) for member in family(pid))


def _cpu_seconds(pid: int, *, ended: bool) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11 : 15 if ended else 13]) * _TICK


def memory_mb(pid: int) -> float:
    """Of a process and its children, shared pages counted once (PSS)."""
    total = 0
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def pinned(pids: Sequence[int], core: int | None) -> Iterator[None]:
    """Keep processes and their children on one core, for a while. None: wherever the kernel puts them."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    _put(pids, {core})
    try:
        yield
    finally:
        _put(pids, before)


def _put(pids: Sequence[int], cores: set[int]) -> None:
    for pid in pids:
        for member in family(pid):
            try:
                for thread in Path(f"/proc/{member}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), cores)
            except OSError:  # it ended meanwhile
                continue


def two_cores() -> tuple[int | None, int | None]:
    """One core for the generators, one for the servers; none where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)
