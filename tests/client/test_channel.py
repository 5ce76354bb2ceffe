"""Threads that share a link."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pgactor.client import calls, channel
from pgactor.client.channel import Channel, Connected
from pgactor.client.options import ANSWER_GRACE_SECONDS
from pgactor.client.requests import LostLink, Pending
from pgactor.errors import (
    ClientClosed,
    LeaseLost,
    MessageTooLarge,
    OutcomeUnknown,
    ProtocolError,
    SupervisorUnavailable,
)
from pgactor.messages import Bye, Cancel, Done, Failed, Heartbeat, Release, Request, Token

from .memory import ENDPOINT, MemorySupervisor, granted, options
from .virtual import THREAD_SECONDS


class Interruption(BaseException):
    """What a signal, or a green thread's timeout, raises wherever the thread is."""


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


class HeldToken:
    """A lease, as the channel sees it."""

    def __init__(self, fence: int = 1, ttl: float = 30.0) -> None:
        self.token = Token(7, 0, fence)
        self.ttl = ttl
        self.end: BaseException | None = None

    def ended(self, error: BaseException) -> None:
        self.end = error

    def renewed(self, at: float) -> None:
        pass


class Waiters:
    """The events that followers wait on: `asleep` tells that one waits, `after` what happens when it wakes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asleep = threading.Semaphore(0)
        self.after: dict[str, BaseException] = {}
        waiters = self

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                waiters.asleep.release()
                woken = super().wait(THREAD_SECONDS if timeout is None else timeout)
                assert woken or timeout is not None, "nobody woke it"
                error = waiters.after.pop(threading.current_thread().name, None)
                if error is not None:
                    raise error
                return woken

        patch.setattr(channel, "threading", SimpleNamespace(**{**vars(threading), "Event": Event}))

    def one_is_asleep(self) -> None:
        assert self.asleep.acquire(timeout=THREAD_SECONDS)


class Caller(threading.Thread):
    """A thread that makes one call."""

    def __init__(self, shared: Channel, name: str, request: Request | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self.shared = shared
        self.request = request or calls.execute(name, (), None, None)
        self.pending: Pending | None = None
        self.connected: Connected | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.pending, self.connected = self.shared.call(self.request)
        except BaseException as error:
            self.error = error

    def result(self) -> str | None:
        """The command tag it got."""
        self.join(THREAD_SECONDS)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        assert self.pending is not None
        if self.pending.error is not None:
            raise self.pending.error
        assert isinstance(self.pending.reply, Done)
        return self.pending.reply.status


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> MemorySupervisor:
    return MemorySupervisor().serve(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(channel, "time", clock)
    return clock


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> Waiters:
    return Waiters(monkeypatch)


@contextmanager
def open_channel(**given: float) -> Iterator[Channel]:
    shared = Channel(options(**given))  # type: ignore[arg-type]  # all of them are numbers of seconds
    try:
        yield shared
    finally:
        shared.close()


def connect(shared: Channel, supervisor: MemorySupervisor) -> Connected:
    """Make one call, for its link."""
    caller = Caller(shared, "first")
    link = supervisor.next_link()
    link.say(Done(link.next_request().id))
    caller.result()
    while not link.reading.empty():
        link.reading.get()
    link.frames.clear()
    assert caller.connected is not None
    return caller.connected


def leader_and_followers(shared: Channel, supervisor: MemorySupervisor, waiters: Waiters, count: int) -> list[Caller]:
    """Threads that wait: the first one reads for all."""
    link = supervisor.links[-1]
    callers = [Caller(shared, "caller 0")]
    assert link.reading.get(timeout=THREAD_SECONDS) == "caller 0"
    for number in range(1, count):
        callers.append(Caller(shared, f"caller {number}"))
        waiters.one_is_asleep()
    return callers


# --- one thread ---------------------------------------------------------------------------------------------


def test_a_call_sends_its_request_and_returns_its_reply(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        caller = Caller(shared, "update x")
        link = supervisor.next_link()
        request = link.next_request()
        assert (request.id, request.epoch) == (0, 7)
        link.say(Done(0, "UPDATE 3"))
        assert caller.result() == "UPDATE 3"


def test_a_thread_that_is_alone_waits_on_nothing_but_the_link(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        monkeypatch.setattr(channel, "threading", SimpleNamespace())  # no Event to be had
        supervisor.links[0].say(Done(1, "ALONE"))
        pending, _ = shared.call(calls.execute("x", (), None, None))
        assert pending.waiter is None


def test_the_request_tells_the_time_that_is_left(supervisor: MemorySupervisor, clock: Clock) -> None:
    supervisor.connecting = lambda: clock.sleep(2.0)
    with open_channel() as shared:
        request = calls.execute("x", (), 5.0, None)
        caller = Caller(shared, "x", request)
        link = supervisor.next_link()
        assert link.next_request().timeout == 3.0
        link.say(Done(0))
        caller.result()


def test_a_request_that_is_too_large_is_refused_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = MemorySupervisor(cap=1024).serve(monkeypatch)
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        with pytest.raises(MessageTooLarge, match="cap of 1024"):
            shared.call(calls.execute("x" * 2000, (), None, None))
        assert len(connected.requests) == 0
        assert supervisor.links[0].told == []


# --- many threads -------------------------------------------------------------------------------------------


def test_whoever_waits_first_reads_for_all(supervisor: MemorySupervisor, waiters: Waiters) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        leader, second, third = leader_and_followers(shared, supervisor, waiters, 3)
        link.say(Done(3, "THIRD"), Done(2, "SECOND"))
        assert (second.result(), third.result()) == ("SECOND", "THIRD")
        assert leader.is_alive()
        link.say(Done(1, "FIRST"))
        assert leader.result() == "FIRST"
        assert {link.reading.get_nowait() for _ in range(link.reading.qsize())} == {"caller 0"}


def test_the_reader_hands_the_reading_on_when_it_has_its_own(supervisor: MemorySupervisor, waiters: Waiters) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        leader, second, third = leader_and_followers(shared, supervisor, waiters, 3)
        link.say(Done(1, "FIRST"))
        assert leader.result() == "FIRST"
        assert link.reading.get(timeout=THREAD_SECONDS) == "caller 1"
        link.say(Done(2, "SECOND"))
        assert second.result() == "SECOND"
        assert link.reading.get(timeout=THREAD_SECONDS) == "caller 2"
        link.say(Done(3, "THIRD"))
        assert third.result() == "THIRD"


def test_a_reader_that_is_interrupted_withdraws_its_request_and_hands_the_reading_on(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        leader, second = leader_and_followers(shared, supervisor, waiters, 2)
        link.inbox.put(Interruption())
        with pytest.raises(Interruption):
            leader.result()
        assert link.reading.get(timeout=THREAD_SECONDS) == "caller 1"
        link.say(Done(1, "TOO LATE"), Done(2, "SECOND"))
        assert second.result() == "SECOND"
        assert Cancel(1) in link.told


def test_a_follower_that_is_interrupted_when_it_is_its_turn_to_read_hands_the_reading_on(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        leader, second, third = leader_and_followers(shared, supervisor, waiters, 3)
        waiters.after["caller 1"] = Interruption()
        link.say(Done(1, "FIRST"))
        assert leader.result() == "FIRST"
        with pytest.raises(Interruption):
            second.result()
        assert link.reading.get(timeout=THREAD_SECONDS) == "caller 2"
        link.say(Done(3, "THIRD"))
        assert third.result() == "THIRD"


def test_a_lease_that_comes_while_its_thread_is_interrupted_is_given_back(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        leader = leader_and_followers(shared, supervisor, waiters, 1)[0]
        waiters.after["acquirer"] = Interruption()
        acquirer = Caller(shared, "acquirer", calls.acquire(None, None))
        waiters.one_is_asleep()
        link.say(granted(2, fence=9))
        with pytest.raises(Interruption):
            acquirer.result()
        assert link.told[-1] == Release(Token(7, 0, 9))
        link.say(Done(1))
        leader.result()


def test_a_lease_that_comes_after_its_thread_has_left_is_given_back_by_whoever_reads(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        link.inbox.put(Interruption())
        with pytest.raises(Interruption):
            Caller(shared, "acquirer", calls.acquire(None, None)).result()
        link.say(granted(1, fence=9))
        link.say(Done(2, "OTHER"))
        assert Caller(shared, "other").result() == "OTHER"
        assert Release(Token(7, 0, 9)) in link.told


def test_replies_before_the_end_of_the_link_reach_every_thread(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        leader, second, third = leader_and_followers(shared, supervisor, waiters, 3)
        supervisor.links[0].say(Done(2, "SECOND"), Failed(None, "protocol", "the end"))
        assert second.result() == "SECOND"
        for caller in (leader, third):
            with pytest.raises(OutcomeUnknown, match="the end"):
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


def test_what_waits_on_a_link_that_breaks_has_an_unknown_outcome(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        lease = HeldToken()
        shared.hold(connected, lease)
        callers = leader_and_followers(shared, supervisor, waiters, 2)
        supervisor.links[0].inbox.put(LostLink("the link broke"))
        for caller in callers:
            with pytest.raises(OutcomeUnknown, match="the link broke"):
                caller.result()
        assert isinstance(lease.end, LeaseLost)
        assert supervisor.links[0].closed


def test_after_a_broken_link_the_next_call_makes_another(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        supervisor.links[0].inbox.put(LostLink("the link broke"))
        with pytest.raises(OutcomeUnknown):
            Caller(shared, "first").result()
        caller = Caller(shared, "second")
        supervisor.next_link().say(Done(0, "SECOND"))
        assert caller.result() == "SECOND"


def test_what_belongs_to_a_lease_goes_by_no_other_link(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        supervisor.links[0].broken = True
        with pytest.raises(LeaseLost, match="acquire again"):
            shared.call(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        assert len(supervisor.links) == 1


def test_a_notice_on_a_broken_link_is_dropped(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        supervisor.links[0].broken = True
        shared.tell(connected, Release(Token(7, 0, 1)))
        assert supervisor.links[0].told == []


def test_a_lease_of_a_lost_link_cannot_be_held(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        connected.requests.lose(LostLink("it broke"))
        with pytest.raises(LeaseLost):
            shared.hold(connected, HeldToken())


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
        assert not connected.reading


def test_the_link_survives_an_answer_that_did_not_come(supervisor: MemorySupervisor, clock: Clock) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        link.idle = clock.sleep
        with pytest.raises(OutcomeUnknown):
            shared.call(calls.execute("x", (), 2.0, None))
        link.say(Done(1, "TOO LATE"), Done(2, "IN TIME"))
        assert Caller(shared, "next").result() == "IN TIME"


def test_a_follower_that_gives_up_withdraws_its_request(
    supervisor: MemorySupervisor, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "ANSWER_GRACE_SECONDS", 0.0)
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        leader = leader_and_followers(shared, supervisor, waiters, 1)[0]
        with pytest.raises(OutcomeUnknown, match="did not answer"):
            Caller(shared, "impatient", calls.execute("x", (), 0.0, None)).result()
        assert link.told[-1] == Cancel(2)
        link.say(Done(1))
        leader.result()


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
    shared.hold(connected, lease)
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


# --- heartbeats ---------------------------------------------------------------------------------------------


def next_heartbeat(supervisor: MemorySupervisor) -> Heartbeat:
    while True:
        message = supervisor.links[0].heard.get(timeout=THREAD_SECONDS)
        if isinstance(message, Heartbeat) and message.leases:
            return message


def test_a_lease_is_renewed_again_and_again_without_any_call(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        lease = HeldToken(ttl=0.006)
        shared.hold(connected, lease)
        for _ in range(3):
            assert next_heartbeat(supervisor).leases == [lease.token]


def test_a_short_lease_does_not_wait_for_the_heartbeat_of_a_long_one(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        long, short = HeldToken(1, ttl=3000.0), HeldToken(2, ttl=0.006)
        shared.hold(connected, long)
        shared.hold(connected, short)
        assert next_heartbeat(supervisor).leases == [long.token, short.token]


def test_the_heartbeat_starts_again_for_the_first_lease_after_a_while_without(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "IDLE_SECONDS", 0.001)
    asleep = threading.Event()

    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:
                asleep.set()
            return super().wait(timeout)

    monkeypatch.setattr(channel, "threading", SimpleNamespace(**{**vars(threading), "Condition": Condition}))
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        first, second = HeldToken(1, ttl=0.006), HeldToken(2, ttl=0.006)
        shared.hold(connected, first)
        next_heartbeat(supervisor)
        shared.drop(connected, first)
        assert asleep.wait(THREAD_SECONDS)
        shared.hold(connected, second)
        while next_heartbeat(supervisor).leases != [second.token]:
            pass  # a last one of the first may still lie there


def test_closing_ends_the_heartbeats_thread(supervisor: MemorySupervisor) -> None:
    shared = Channel(options())
    shared.hold(connect(shared, supervisor), HeldToken(ttl=3000.0))
    hearts = [thread for thread in threading.enumerate() if thread.name == "pgactor-heartbeat"]
    shared.close()
    for heart in hearts:
        heart.join(THREAD_SECONDS)
        assert not heart.is_alive()
    assert hearts


def test_on_a_link_whose_end_cannot_be_seen_who_waits_is_heard_meanwhile(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = MemorySupervisor(heartbeat_seconds=3.0).serve(monkeypatch)
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]

        def idle(seconds: float) -> None:
            assert seconds <= 3.0
            clock.sleep(seconds)
            if clock.now == 1012:
                link.say(Done(1))

        link.idle = idle
        shared.call(calls.execute("x", (), None, None))
        assert link.told[1:] == [Heartbeat([])] * 4


def test_on_a_link_whose_end_is_seen_nobody_is_heard_without_need(supervisor: MemorySupervisor, clock: Clock) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        link.idle = clock.sleep
        with pytest.raises(OutcomeUnknown):
            shared.call(calls.execute("x", (), 60.0, None))
        assert [type(message).__name__ for message in link.told] == ["Execute", "Cancel"]


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
        assert not shared.is_current(connected)
        with pytest.raises(LeaseLost, match="parent"):
            shared.call(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        shared.tell(connected, Release(Token(7, 0, 1)))
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
        shared._connecting.acquire()  # by a thread that the child does not have
        shared._lock.acquire()
        fork()
        shared.after_fork()
        caller = Caller(shared, "of the child")
        supervisor.next_link().say(Done(0, "CHILD"))
        assert caller.result() == "CHILD"
