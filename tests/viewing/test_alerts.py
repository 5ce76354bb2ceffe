"""What is wrong is told with the label of who causes it."""

from __future__ import annotations

import msgspec
import pytest

from pgactor.messages.pool import HolderStatus
from pgactor.viewing.alerts import Alert, alerts
from tests.viewing.statuses import jammed, lease, status


def test_where_all_is_well_there_are_none() -> None:
    assert alerts(status(at=1), status(at=2, leases=[lease(reported=False)])) == []


def test_a_lease_held_long_names_its_label_its_owner_and_its_place() -> None:
    (alert,) = alerts(None, status(leases=[lease(), lease("other", reported=False, holder=1)]))
    assert (alert.kind, alert.labels) == ("lease", ["nightly report"])
    assert alert.text == (
        "nightly report: lease 0.7 held for 31.0 s by celery (pid 77), in transaction, acquired at "
        "/app/jobs.py:12 in run"
    )


def test_a_lease_without_a_label_is_its_workers() -> None:
    (alert,) = alerts(None, status(leases=[lease("", where="", pid=0, state="waiting")]))
    text = "celery: lease 0.7 held for 31.0 s by celery, waiting for another lease"
    assert alert == Alert("lease", text, ["celery"])


def test_a_queue_names_who_has_the_connections_leases_first_and_who_waits() -> None:
    alert = next(each for each in alerts(None, jammed()) if each.kind == "queue")
    assert alert.labels == ["nightly report", "GET /export", "GET /books"]
    assert alert.text == (
        "queue of 12, the first for 1.2 s behind nightly report (leased for 31.0 s), GET /export (leased for 2.0 s), "
        "GET /books (busy for 40.0 s) and others; 4 of 4 connections are taken; most wait for web: 10"
    )


def test_those_in_a_queues_way_that_do_the_same_are_named_once() -> None:
    holders = [HolderStatus(number, "busy", number / 10, label="GET /export") for number in range(4)]
    (alert,) = alerts(None, status(waiting=1, oldest_waiting_seconds=3.0, holders=holders))
    assert alert.labels == ["GET /export"]
    assert " behind 4 x GET /export (busy for 0.3 s); 4 of 4 " in alert.text


def test_a_queue_that_moves_is_no_alert() -> None:
    assert alerts(None, status(waiting=500, oldest_waiting_seconds=0.1)) == []


def test_a_queue_while_connections_are_being_opened_is_behind_nobody() -> None:
    holders = [HolderStatus(0, "opening", 1.0)]
    (alert,) = alerts(None, status(waiting=1, oldest_waiting_seconds=3.0, holders=holders))
    assert (alert.text, alert.labels) == ("queue of 1, the first for 3.0 s; 0 of 4 connections are taken", [])


@pytest.mark.parametrize("state", ["busy", "draining", "resetting", "closing"])
def test_whoever_has_a_connection_without_a_lease_is_named_too(state: str) -> None:
    holders = [HolderStatus(0, state, 1.0, worker="web (pid 5)")]
    (alert,) = alerts(None, status(waiting=1, oldest_waiting_seconds=3.0, holders=holders))
    assert alert.labels == ["web (pid 5)"]


def test_a_database_that_refuses_is_told_first() -> None:
    found = alerts(None, msgspec.structs.replace(jammed(), database="failing: no route to host"))
    assert [each.kind for each in found] == ["database", "queue", "lease"]
    assert found[0].text == "PostgreSQL: failing: no route to host"


def test_news_are_told_once() -> None:
    before = status(at=1, counters={"refused_queue_full": 5}, stalls=1)
    counters = {"refused_queue_full": 7, "requests_timed_out": 1}
    now = status(at=2, counters=counters, stalls=2, faults=3, last_stall="2 s")
    found = alerts(before, now)
    assert [each.kind for each in found] == ["refused", "stall", "fault"]
    assert found[0].text == "requests ended with an error: 1 took too long, 2 found the queue full"
    assert alerts(now, msgspec.structs.replace(now, uptime_seconds=3)) == []
    assert alerts(None, now) == []
