"""The workers that are connected."""

from __future__ import annotations

from pgactor.core.request import Kind, Request
from pgactor.core.roster import Roster, Worker
from pgactor.core.statement import Statement


def join(roster: Roster, label: str = "") -> Worker:
    return roster.join(now=3.0, label=label, pid=0, road="ipc", silence_limit=None, link=None)


def test_workers_are_numbered_in_the_order_of_their_arrival() -> None:
    roster = Roster()
    first, second = join(roster), join(roster)
    assert (first.number, second.number) == (1, 2)
    assert roster.all() == [first, second]
    assert len(roster) == 2


def test_a_number_is_never_used_again() -> None:
    roster = Roster()
    first = join(roster)
    roster.leave(first)
    assert join(roster).number == 2


def test_a_worker_leaves_once() -> None:
    roster = Roster()
    worker = join(roster)
    assert worker in roster
    assert roster.leave(worker)
    assert worker not in roster
    assert not roster.leave(worker)


def test_what_it_said_of_itself_is_kept() -> None:
    link = object()
    worker = Roster().join(now=3.0, label="web", pid=42, road="tcp", silence_limit=10.0, link=link)
    assert (worker.label, worker.pid, worker.road, worker.silence_limit) == ("web", 42, "tcp", 10.0)
    assert worker.link is link
    assert worker.connected_at == worker.heard_at == 3.0


def test_it_is_called_by_its_label_and_pid_as_far_as_they_are_known() -> None:
    assert str(Worker(1, now=0.0)) == "worker 1"
    assert str(Worker(1, now=0.0, pid=42)) == "worker 1 (pid 42)"
    assert str(Worker(1, now=0.0, label="web")) == "web"
    assert str(Worker(1, now=0.0, label="web", pid=42)) == "web (pid 42)"
    assert repr(Worker(1, now=0.0, label="web")) == "<Worker 1 web>"


def test_a_worker_is_engaged_while_it_awaits_something() -> None:
    worker = Worker(1, now=0.0)
    assert not worker.engaged
    worker.requests[1] = Request(worker, 1, Kind.STATEMENT, 0.0)
    assert worker.engaged


def test_a_request_tells_who_wants_what() -> None:
    worker = Worker(1, now=0.0, label="web")
    request = Request(worker, 7, Kind.SESSION, 0.0, Statement("select " + "x" * 100))
    assert repr(request).startswith("<Request 7 of web SESSION 'select xxx")
    assert len(repr(request)) < 90
    assert repr(Request(worker, 8, Kind.LEASE, 0.0)) == "<Request 8 of web LEASE ''>"
