"""A process's way to the supervisor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from pgactor.client import calls
from pgactor.client.channel import Channel
from pgactor.client.options import ANSWER_GRACE_SECONDS
from pgactor.client.requests import LostLink
from pgactor.errors import (
    ClientClosed,
    LeaseLost,
    OutcomeUnknown,
    ProtocolError,
    SupervisorUnavailable,
)
from pgactor.messages import Bye, Cancel, Done, Failed, Release, Token

from .memory import ENDPOINT, MemorySupervisor, options
from .threads import Caller, Clock, HeldToken, Waiters, connect, leader_and_followers, open_channel
from .virtual import THREAD_SECONDS

# --- calls --------------------------------------------------------------------------------------------------


def test_a_call_sends_its_request_and_returns_its_reply(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        caller = Caller(shared, "update x")
        link = supervisor.next_link()
        request = link.next_request()
        assert (request.id, request.epoch) == (0, 7)
        link.say(Done(0, "UPDATE 3"))
        assert caller.result() == "UPDATE 3"


def test_the_request_tells_the_time_that_is_left(supervisor: MemorySupervisor, clock: Clock) -> None:
    supervisor.connecting = lambda: clock.sleep(2.0)
    with open_channel() as shared:
        request = calls.execute("x", (), 5.0, None)
        caller = Caller(shared, "x", request)
        link = supervisor.next_link()
        assert link.next_request().timeout == 3.0
        link.say(Done(0))
        caller.result()


# --- links that break ---------------------------------------------------------------------------------------


def test_a_request_that_could_not_be_sent_goes_by_a_new_link(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        supervisor.links[0].broken = True
        caller = Caller(shared, "again")
        link = supervisor.next_link()
        assert link.next_request().id == 0, "the new link counts anew"
        link.say(Done(0, "AGAIN"))
        assert caller.result() == "AGAIN"
        assert supervisor.links[0].closed


def test_a_request_takes_the_epoch_of_the_link_that_it_goes_by(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        supervisor.links[0].broken = True
        assert supervisor.welcome is not None
        supervisor.welcome.epoch = 8  # type: ignore[union-attr]  # it is a Welcome
        caller = Caller(shared, "again")
        link = supervisor.next_link()
        assert link.next_request().epoch == 8
        link.say(Done(0))
        caller.result()


def test_after_a_broken_link_the_next_call_makes_another(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        supervisor.links[0].inbox.put(LostLink("the link broke"))
        with pytest.raises(OutcomeUnknown):
            Caller(shared, "first").result()
        caller = Caller(shared, "second")
        supervisor.next_link().say(Done(0, "SECOND"))
        assert caller.result() == "SECOND"


def test_a_request_with_no_time_left_goes_by_a_new_link_too(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        supervisor.links[0].broken = True
        caller = Caller(shared, "again", calls.execute("x", (), 0.0, None))
        supervisor.next_link().say(Done(0, "AGAIN"))
        assert caller.result() == "AGAIN"


def test_what_belongs_to_a_lease_goes_by_no_other_link(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        supervisor.links[0].broken = True
        with pytest.raises(LeaseLost, match="acquire again"):
            shared.call(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        assert len(supervisor.links) == 1


# --- patience -----------------------------------------------------------------------------------------------


def test_an_answer_is_awaited_a_little_longer_than_the_timeout_and_no_more(
    supervisor: MemorySupervisor, clock: Clock
) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        supervisor.links[0].idle = clock.sleep
        with pytest.raises(OutcomeUnknown, match="did not answer within"):
            shared.call(calls.execute("x", (), 2.0, None))
        assert clock.now == 1000.0 + 2.0 + ANSWER_GRACE_SECONDS
        assert supervisor.links[0].told[-1] == Cancel(1)
        assert len(connected.requests) == 0
        assert not connected._reading


def test_the_link_survives_an_answer_that_did_not_come(supervisor: MemorySupervisor, clock: Clock) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        link.idle = clock.sleep
        with pytest.raises(OutcomeUnknown):
            shared.call(calls.execute("x", (), 2.0, None))
        link.say(Done(1, "TOO LATE"), Done(2, "IN TIME"))
        assert Caller(shared, "next").result() == "IN TIME"


# --- connecting ---------------------------------------------------------------------------------------------


def refuse(error: BaseException) -> Callable[[], None]:
    def connecting() -> None:
        raise error

    return connecting


def test_a_supervisor_that_is_not_there_yet_is_awaited(supervisor: MemorySupervisor, clock: Clock) -> None:
    def not_before_1003() -> None:
        if clock.now < 1003:
            raise ConnectionRefusedError(111, "connection refused")

    supervisor.connecting = not_before_1003
    with open_channel() as shared:
        connect(shared, supervisor)
        assert 1003 <= clock.now < 1004


def test_a_supervisor_that_does_not_come_is_unavailable(supervisor: MemorySupervisor, clock: Clock) -> None:
    supervisor.connecting = refuse(FileNotFoundError(2, "No such file or directory"))
    with open_channel(connect_timeout=4.0) as shared:
        with pytest.raises(SupervisorUnavailable, match=r"connect_timeout \(4 s\): No such file or directory") as e:
            shared.call(calls.status())
        assert e.value.retry
        assert ENDPOINT in str(e.value)
        assert clock.now == pytest.approx(1004.0)


def test_a_request_with_less_time_than_connect_timeout_waits_only_so_long(
    supervisor: MemorySupervisor, clock: Clock
) -> None:
    supervisor.connecting = refuse(ConnectionRefusedError(111, "connection refused"))
    with open_channel(connect_timeout=10.0) as shared:
        with pytest.raises(SupervisorUnavailable):
            shared.call(calls.execute("x", (), 1.5, None))
        assert clock.now == pytest.approx(1001.5)


def test_a_socket_that_belongs_to_somebody_else_is_not_tried_again(
    supervisor: MemorySupervisor, clock: Clock
) -> None:
    supervisor.connecting = refuse(PermissionError(13, "Permission denied"))
    with open_channel() as shared:
        with pytest.raises(SupervisorUnavailable, match="for its owner alone"):
            shared.call(calls.status())
        assert clock.now == 1000.0


def test_a_supervisor_that_refuses_the_hello_says_why(supervisor: MemorySupervisor, clock: Clock) -> None:
    supervisor.welcome = Failed(None, "protocol", "use the same pgactor on both sides")
    with open_channel() as shared:
        with pytest.raises(ProtocolError, match="use the same pgactor on both sides"):
            shared.call(calls.status())
        assert len(supervisor.links) == 1
        assert supervisor.links[0].closed


def test_whoever_listens_but_does_not_answer_is_no_supervisor(supervisor: MemorySupervisor, clock: Clock) -> None:
    supervisor.welcome = None

    def wait_in_vain() -> None:
        for link in supervisor.links:
            assert link.closed
        clock.now = 1010.0

    supervisor.connecting = wait_in_vain
    with open_channel(connect_timeout=10.0) as shared, pytest.raises(SupervisorUnavailable, match="did not answer"):
        shared.call(calls.status())
    assert supervisor.links[-1].closed


@pytest.mark.parametrize(
    ("timeout", "words"), [(None, r"connect_timeout \(4 s\)"), (1.5, r"the request's timeout \(1.5 s\)")]
)
def test_a_supervisor_that_welcomes_and_then_hangs_up_is_unavailable_at_the_limit(
    supervisor: MemorySupervisor, clock: Clock, timeout: float | None, words: str
) -> None:
    supervisor.hanging_up = lambda: clock.sleep(0.25)
    with open_channel(connect_timeout=4.0) as shared:
        with pytest.raises(SupervisorUnavailable, match=f"within {words}: the supervisor has closed the link"):
            shared.call(calls.execute("x", (), timeout, None))
        assert clock.now == 1000.0 + (timeout or 4.0)
        assert len(supervisor.links) == (timeout or 4.0) / 0.25
        assert all(link.closed and link.told == [] for link in supervisor.links)


def test_a_supervisor_that_hangs_up_no_more_gets_the_request(supervisor: MemorySupervisor, clock: Clock) -> None:
    def connecting() -> None:
        supervisor.hanging_up = (lambda: clock.sleep(0.25)) if len(supervisor.links) < 5 else None

    supervisor.connecting = connecting
    with open_channel(connect_timeout=4.0) as shared:
        caller = Caller(shared, "x")
        for _ in range(5):
            supervisor.next_link()
        supervisor.next_link().say(Done(0, "AT LAST"))
        assert caller.result() == "AT LAST"
        assert [len(link.told) for link in supervisor.links] == [0] * 5 + [1]


def test_threads_that_find_no_link_make_one_together(supervisor: MemorySupervisor) -> None:
    connecting, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        connecting.set()
        assert go_on.wait(THREAD_SECONDS)

    supervisor.connecting = slowly
    with open_channel() as shared:
        first = Caller(shared, "first")
        assert connecting.wait(THREAD_SECONDS)
        second = Caller(shared, "second")
        go_on.set()
        link = supervisor.next_link()
        for _ in range(2):
            link.say(Done(link.next_request().id, "DONE"))
        assert (first.result(), second.result()) == ("DONE", "DONE")
        assert len(supervisor.links) == 1


def test_who_waits_for_another_threads_attempt_waits_no_longer_than_it_may(supervisor: MemorySupervisor) -> None:
    connecting, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        connecting.set()
        assert go_on.wait(THREAD_SECONDS)
        raise PermissionError(13, "Permission denied")

    supervisor.connecting = slowly
    with open_channel() as shared:
        first = Caller(shared, "first")
        assert connecting.wait(THREAD_SECONDS)
        with pytest.raises(SupervisorUnavailable, match="another thread is still trying"):
            shared.call(calls.execute("x", (), 0.0, None))
        go_on.set()
        with pytest.raises(SupervisorUnavailable):
            first.result()


# --- closing ------------------------------------------------------------------------------------------------


def test_closing_says_goodbye_and_ends_what_waits(supervisor: MemorySupervisor, waiters: Waiters) -> None:
    shared = Channel(options())
    connected = connect(shared, supervisor)
    lease = HeldToken()
    connected.hold(lease)
    callers = leader_and_followers(shared, supervisor, waiters, 3)
    shared.close()
    for caller in callers:
        with pytest.raises(OutcomeUnknown, match="the client was closed"):
            caller.result()
    assert isinstance(lease.end, LeaseLost)
    assert supervisor.links[0].told[-1] == Bye()
    assert supervisor.links[0].closed


def test_a_closed_channel_takes_no_calls(supervisor: MemorySupervisor) -> None:
    shared = Channel(options())
    connect(shared, supervisor)
    shared.close()
    shared.close()
    with pytest.raises(ClientClosed):
        shared.call(calls.status())
    assert supervisor.links[0].told == [Bye()]
    assert len(supervisor.links) == 1


def test_closing_before_the_first_call_makes_no_link(supervisor: MemorySupervisor) -> None:
    Channel(options()).close()
    assert supervisor.links == []


def test_who_still_tries_to_connect_gives_up_when_the_channel_is_closed(
    supervisor: MemorySupervisor, clock: Clock
) -> None:
    shared = Channel(options())

    def closed_meanwhile() -> None:
        shared.close()
        raise ConnectionRefusedError(111, "connection refused")

    supervisor.connecting = closed_meanwhile
    with pytest.raises(ClientClosed):
        shared.call(calls.status())
    assert clock.now < 1001


def test_a_link_that_is_made_while_the_channel_is_closed_is_closed_too(supervisor: MemorySupervisor) -> None:
    shared = Channel(options())
    supervisor.connecting = shared.close
    with pytest.raises(ClientClosed):
        shared.call(calls.status())
    assert [link.closed for link in supervisor.links] == [True]


# --- forks --------------------------------------------------------------------------------------------------


@pytest.fixture
def fork(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes this process believe that it is a child."""
    pid = os.getpid()
    return lambda: monkeypatch.setattr(os, "getpid", lambda: pid + 1)


def test_a_child_leaves_its_parents_link_alone_and_makes_its_own(
    supervisor: MemorySupervisor, fork: Callable[[], None]
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        fork()
        shared.after_fork()
        assert supervisor.links[0].abandoned
        caller = Caller(shared, "of the child")
        supervisor.next_link().say(Done(0, "CHILD"))
        assert caller.result() == "CHILD"
        assert supervisor.links[0].told == []
        assert not supervisor.links[0].closed


def test_a_fork_that_no_hook_has_told_of_is_noticed_at_the_next_call(
    supervisor: MemorySupervisor, fork: Callable[[], None]
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        fork()
        caller = Caller(shared, "of the child")
        supervisor.next_link().say(Done(0, "CHILD"))
        assert caller.result() == "CHILD"
        assert supervisor.links[0].abandoned


def test_a_childs_copy_of_a_lease_is_dead(supervisor: MemorySupervisor, fork: Callable[[], None]) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        fork()
        shared.after_fork()
        assert not connected.is_current
        with pytest.raises(LeaseLost, match="parent"):
            shared.call(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        connected.tell(Release(Token(7, 0, 1)))
        assert supervisor.links[0].told == []
        assert len(supervisor.links) == 1


def test_closing_in_a_child_says_nothing_on_the_parents_link(
    supervisor: MemorySupervisor, fork: Callable[[], None]
) -> None:
    shared = Channel(options())
    connect(shared, supervisor)
    fork()
    shared.close()
    assert supervisor.links[0].told == []
    assert not supervisor.links[0].closed


def test_a_fork_while_another_thread_connects_leaves_no_lock_behind(
    supervisor: MemorySupervisor, fork: Callable[[], None]
) -> None:
    with open_channel() as shared:
        parents = connect(shared, supervisor)
        parents.lose(LostLink("it broke"))
        for lock in (shared._connecting, parents._lock, parents._heart._changed):
            lock.acquire()  # by a thread that the child does not have
        fork()
        shared.after_fork()
        with pytest.raises(LeaseLost, match="parent"):
            shared.call(calls.execute("x", (), None, Token(7, 0, 1)), within=parents)
        parents.tell(Release(Token(7, 0, 1)))
        caller = Caller(shared, "of the child")
        supervisor.next_link().say(Done(0, "CHILD"))
        assert caller.result() == "CHILD"
