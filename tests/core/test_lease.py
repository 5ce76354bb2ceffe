"""A token names one lease of one worker, for its time, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from pgactor.core.holder import Holder
from pgactor.core.lease import REMEMBERED, Lease, LeaseTable
from pgactor.core.roster import Worker
from pgactor.errors import LeaseError, LeaseExpired, LeaseLost
from pgactor.messages import Token
from tests.fakes import tokens_that_are_not

OWNER = Worker(1, now=0.0, label="owner")


@pytest.fixture
def table() -> LeaseTable:
    return LeaseTable(epoch=7)


@pytest.fixture
def lease(table: LeaseTable) -> Lease:
    return table.grant(100.0, Holder(2), OWNER, ttl=10.0)


def test_a_token_names_the_lease_for_its_owner(table: LeaseTable, lease: Lease) -> None:
    assert lease.token == Token(7, 2, 1)
    assert table.check(lease.token, OWNER, 100.0) is lease
    assert table.check(Token(7, 2, 1), OWNER, 109.9) is lease
    assert repr(lease) == "<Lease 2.1 of owner>"


def test_fences_only_rise(table: LeaseTable) -> None:
    holder = Holder(0)
    fences = []
    for _ in range(5):
        lease = table.grant(0.0, holder, OWNER, ttl=1.0)
        fences.append(lease.token.fence)
        table.end(lease, LeaseLost("released"))
    assert all(earlier < later for earlier, later in itertools.pairwise(fences))


def test_a_token_that_differs_in_anything_names_nothing(table: LeaseTable, lease: Lease) -> None:
    for token in tokens_that_are_not(lease):
        with pytest.raises(LeaseLost):
            table.check(token, OWNER, 100.0)


def test_a_token_of_an_earlier_supervisor_says_so(table: LeaseTable, lease: Lease) -> None:
    with pytest.raises(LeaseLost, match="an earlier life of the supervisor"):
        table.check(Token(6, 2, 1), OWNER, 100.0)


def test_a_token_in_the_hands_of_another_worker_is_refused(table: LeaseTable, lease: Lease) -> None:
    with pytest.raises(LeaseLost, match="belongs to another worker"):
        table.check(lease.token, Worker(2, now=0.0), 100.0)


def test_a_lease_ends_at_the_very_moment_its_ttl_has_passed(table: LeaseTable, lease: Lease) -> None:
    with pytest.raises(LeaseExpired, match=r"not renewed within its ttl of 10 s \(it was held for 10\.0 s"):
        table.check(lease.token, OWNER, 110.0)


def test_renewing_counts_the_ttl_anew(table: LeaseTable, lease: Lease) -> None:
    lease.renew(109.0)
    assert table.check(lease.token, OWNER, 118.0) is lease
    with pytest.raises(LeaseExpired, match="ttl"):
        table.check(lease.token, OWNER, 119.0)


def test_max_hold_ends_a_lease_however_often_it_is_renewed(table: LeaseTable) -> None:
    lease = table.grant(100.0, Holder(0), OWNER, ttl=10.0, max_hold=15.0)
    lease.renew(109.0)
    assert table.check(lease.token, OWNER, 114.0) is lease
    with pytest.raises(LeaseExpired, match=r"ended at max_hold: it was held for 15\.0 s"):
        table.check(lease.token, OWNER, 115.0)


def test_max_hold_is_not_blamed_when_it_was_the_ttl(table: LeaseTable) -> None:
    lease = table.grant(100.0, Holder(0), OWNER, ttl=10.0, max_hold=15.0)
    with pytest.raises(LeaseExpired, match="ttl of 10 s"):
        table.check(lease.token, OWNER, 110.0)


def test_whoever_comes_after_the_end_is_told_the_reason(table: LeaseTable, lease: Lease) -> None:
    table.end(lease, LeaseExpired("it took too long"))
    assert len(table) == 0
    assert table.all() == []
    with pytest.raises(LeaseExpired, match="it took too long"):
        table.check(lease.token, OWNER, 100.0)


def test_the_reason_is_a_new_error_each_time(table: LeaseTable, lease: Lease) -> None:
    """One that was raised holds on to the frames that it passed, and would grow with each use of the token."""
    table.end(lease, LeaseLost("released"))
    errors = []
    for _ in range(2):
        with pytest.raises(LeaseLost, match="released") as caught:
            table.check(lease.token, OWNER, 100.0)
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_only_so_many_reasons_are_remembered(table: LeaseTable) -> None:
    leases = [table.grant(0.0, Holder(0), OWNER, ttl=1.0) for _ in range(REMEMBERED + 1)]
    for lease in leases:
        table.end(lease, LeaseLost("released"))
    reasons = []
    for lease in (leases[0], leases[1], leases[-1]):
        with pytest.raises(LeaseError) as caught:
            table.check(lease.token, OWNER, 0.0)
        reasons.append(str(caught.value))
    assert reasons == ["there is no lease 0.1; it has ended: acquire again", "released", "released"]


def test_the_oldest_lease_comes_first(table: LeaseTable) -> None:
    leases = [table.grant(0.0, Holder(n), OWNER, ttl=1.0) for n in range(3)]
    assert table.all() == leases
    assert len(table) == 3
