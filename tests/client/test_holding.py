"""A lease as its owner's side holds it."""

from __future__ import annotations

import os

import asyncpg
import pytest

from pgactor.client.holding import Holding
from pgactor.errors import LeaseExpired, LeaseLost

from .memory import granted


def test_a_lease_expires_its_ttl_after_it_was_asked_for() -> None:
    lease = Holding(granted(1, ttl=30.0), asked_at=100.0)
    lease.require_held("execute", 129.9)
    with pytest.raises(LeaseExpired, match=r"lease 0\.1 was not renewed within its ttl of 30 s"):
        lease.require_held("execute", 130.0)


def test_the_wait_for_a_backend_is_no_part_of_the_ttl() -> None:
    lease = Holding(granted(1, ttl=30.0, waited=50.0), asked_at=100.0)
    lease.require_held("execute", 179.9)
    with pytest.raises(LeaseExpired):
        lease.require_held("execute", 180.0)


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    lease = Holding(granted(1, ttl=30.0, waited=50.0), asked_at=100.0)
    lease.renewed(160.0)
    lease.require_held("execute", 189.9)
    with pytest.raises(LeaseExpired):
        lease.require_held("execute", 190.0)


def test_a_lease_that_has_expired_is_not_renewed_by_a_heartbeat_that_comes_too_late() -> None:
    lease = Holding(granted(1, ttl=30.0), asked_at=100.0)
    lease.renewed(130.0)
    with pytest.raises(LeaseExpired):
        lease.require_held("execute", 130.0)
    assert not lease.renewed(131.0), "it would be kept alive in the supervisor, for an owner that cannot use it"


def test_a_lease_in_another_process_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Holding(granted(1), asked_at=100.0)
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with pytest.raises(LeaseLost, match="parent of this process"):
        lease.require_held("execute", 100.0)


def test_a_released_lease_is_refused_in_asyncpgs_words() -> None:
    lease = Holding(granted(1), asked_at=100.0)
    lease.released = True
    with pytest.raises(asyncpg.InterfaceError) as caught:
        lease.require_held("fetchval", 100.0)
    assert str(caught.value) == ("cannot call Connection.fetchval(): connection has been released back to the pool")


def test_a_lease_that_ended_says_why_whenever_it_is_used() -> None:
    lease = Holding(granted(1), asked_at=100.0)
    reason = LeaseLost("its backend died")
    lease.ended(reason)
    for now in (100.0, 1000.0):
        with pytest.raises(LeaseLost) as caught:
            lease.require_held("execute", now)
        assert caught.value is reason


def test_what_ended_first_is_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Holding(granted(1), asked_at=100.0)
    lease.ended(LeaseLost("its backend died"))
    lease.released = True
    with pytest.raises(asyncpg.InterfaceError):
        lease.require_held("execute", 1000.0)


def test_its_repr_tells_its_token_and_state() -> None:
    lease = Holding(granted(1, fence=12), asked_at=100.0)
    assert repr(lease) == "<Holding 0.12 held>"
    lease.ended(LeaseLost("gone"))
    assert repr(lease) == "<Holding 0.12 ended>"
    lease.released = True
    assert repr(lease) == "<Holding 0.12 released>"
    assert lease.backend_pid == 4242
