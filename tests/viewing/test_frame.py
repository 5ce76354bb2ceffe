"""A picture fits its terminal, and says the most important first."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from pgactor.messages.pool import HolderStatus, StatementStatus, WorkerStatus
from pgactor.viewing.frame import duration, frame, share
from pgactor.viewing.watch import Sight
from tests.viewing.statuses import jammed, lease, sight, status, times


def drawn(
    seen: Sight, width: int = 80, height: int | None = 24, *, pool: str | None = None, hint: str = ""
) -> list[str]:
    """The picture's lines."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(frame(seen, pool, width, height, hint))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def crowded() -> Sight:
    """Too much of everything."""
    pool = msgspec.structs.replace(
        jammed(),
        holders=[HolderStatus(number, "leased", 1.0, lease=f"{number}.7") for number in range(1000)],
        leases=[lease(f"job {number}", seconds=100.0 - number, holder=number) for number in range(90)],
        workers=[WorkerStatus(number, f"web {number}", 9, "ipc", 1.0, 1, 0, 1) for number in range(300)],
        slowest=[StatementStatus(f"select {'x' * 200} {number}", 3, 0.1, 0.2) for number in range(10)],
    )
    return sight(pool, msgspec.structs.replace(status(), pool="replica"), before=status(at=9))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (40, 16), (200, 60), (132, 24), (20, 15)])
def test_it_fits(width: int, height: int) -> None:
    lines = drawn(crowded(), width, height, hint="q: end")
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    assert lines[-1] == "q: end"


def test_at_80_by_24_there_is_something_of_everything() -> None:
    lines = drawn(crowded(), hint="q: end")
    text = "\n".join(lines)
    assert len(lines) in (23, 24)
    for word in ("job 0", "LEASE HELD", "SLOWEST", "WORKER", "web 0", "jobs.py:12", "and 697 more", "more warnings",
                 "queue 12, the first for 1.2 s", "default 4/4", "replica 4/4", "q: end"):  # fmt: skip
        assert word in text, word


def test_a_pipe_gets_all_of_it_unshortened() -> None:
    text = " ".join(" ".join(drawn(crowded(), 120, None)).split())
    for number in range(90):
        assert (
            f"job {number}: lease {number}.7 held for {100 - number}.0 s by celery (pid 77), in transaction" in text
        )
    assert "web 299" in text


def test_cells_tell_their_state_without_colours() -> None:
    states = ["idle", "busy", "draining", "leased", "resetting", "opening", "closing", "vacant"]
    pool = status(holders=[HolderStatus(number, state, 1.0) for number, state in enumerate(states)])
    lines = drawn(sight(pool), 120)
    assert "iBDLroc\N{MIDDLE DOT}" in lines
    assert "i idle 1  B busy 1  D draining 1  L leased 1  r resetting 1  o opening 1  c closing 1" in "\n".join(lines)


def test_what_is_not_known_is_a_question_mark() -> None:
    text = "\n".join(drawn(sight(status())))
    assert "requests ?/s  refused ?/s  leases ?/s  pipelined ?" in text
    assert "took p50 ?  p95 ?  p99 ?  wait p99 ?  service p99 ?" in text


def test_rates_and_percentiles_are_shown() -> None:
    now = status(at=12, requests=2468, histograms={"total": times(0, 0, 0, 9), "wait": times(9, 0, 0, 0)})
    text = "\n".join(drawn(sight(now, before=status(at=10))))
    assert "requests 1,234/s  refused 0.0/s" in text
    assert "p99 >100 ms  wait p99 990 us" in text


def test_a_supervisor_that_does_not_answer_is_told_with_the_age_of_what_is_shown() -> None:
    lines = drawn(sight(status(), error="SupervisorUnavailable: gone", silent=7.0))
    assert lines[1] == "NO ANSWER, what follows is 7.0 s old: SupervisorUnavailable: gone"
    assert "i idle 4" in "\n".join(lines)
    lines = drawn(sight(error="SupervisorUnavailable: none"))
    assert lines[1] == "NO ANSWER, nothing has been seen yet: SupervisorUnavailable: none"


def test_the_chosen_pool_is_shown_and_the_first_where_it_is_gone() -> None:
    replica = msgspec.structs.replace(status(), pool="replica", max_size=77)
    both = sight(status(), replica)
    assert "connections 4 of 77" in "\n".join(drawn(both, pool="replica"))
    assert "connections 4 of 4" in "\n".join(drawn(both, pool="gone"))


@pytest.mark.parametrize("height", [24, None])
def test_labels_cannot_move_the_cursor(height: int | None) -> None:
    pool = status(leases=[lease("a\x1b[2Jb", worker="c\x07", where="\x9bd", statement="e\r\x08")])
    text = "\n".join(drawn(sight(pool), 200, height))
    assert "a\N{REPLACEMENT CHARACTER}[2Jb" in text
    assert all(each.isprintable() or each == "\n" for each in text)


@pytest.mark.parametrize(
    ("lines", "wanted", "given"),
    [
        (10, [3, 3], [3, 3]),
        (10, [20, 3, 20], [4, 3, 3]),
        (4, [9, 9, 9], [2, 0, 0]),
        (0, [9], [0]),
        (-3, [9], [0]),
        (9, [], []),
    ],
)
def test_tables_share_the_lines(lines: int, wanted: list[int], given: list[int]) -> None:
    assert share(lines, wanted) == given


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000321, "32 us"),
        (0.00123, "1.23 ms"),
        (0.25, "250 ms"),
        (0.9996, "1.0 s"),
        (1.26, "1.3 s"),
        (150, "2 min"),
        (8000, "2 h 13 min"),
        (None, "?"),
    ],
)
def test_durations_have_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
