"""One link, shared by threads."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from pgactor.client import calls
from pgactor.client.requests import LostLink
from pgactor.errors import (
    LeaseLost,
    MessageTooLarge,
    OutcomeUnknown,
)
from pgactor.messages import Bye, Cancel, Done, Failed, Heartbeat, Message, Release, Token
from pgactor.messages.operating import Moved

from .memory import MemorySupervisor, granted
from .threads import Caller, Clock, HeldToken, Interruption, Waiters, connect, leader_and_followers, open_channel
from .virtual import THREAD_SECONDS

# --- one thread ---------------------------------------------------------------------------------------------


def test_a_thread_that_is_alone_waits_on_nothing_but_the_link(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_channel() as shared:
        connect(shared, supervisor)
        for module in ("channel", "connected"):
            monkeypatch.setattr(f"pgactor.client.{module}.threading", SimpleNamespace())  # no Event to be had
        supervisor.links[0].say(Done(1, "ALONE"))
        pending, _ = shared.call(calls.execute("x", (), None, None))
        assert pending.waiter is None


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


def test_a_reader_that_is_interrupted_before_it_reads_hands_the_reading_on(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    class Lock:
        """Let go of, it raises as a signal does that comes just then; once."""

        def __init__(self, lock: threading.Lock) -> None:
            self.lock, self.armed = lock, True

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()
            if self.armed and connected._reading:
                self.armed = False
                raise Interruption

    with open_channel() as shared:
        connected = connect(shared, supervisor)
        connected._lock = Lock(connected._lock)  # type: ignore[assignment]
        with pytest.raises(Interruption):
            Caller(shared, "interrupted").result()
        supervisor.links[0].say(Done(2, "NEXT"))
        assert Caller(shared, "next").result() == "NEXT"


def test_what_begins_while_a_link_is_left_for_another_supervisor_goes_to_that(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        link = supervisor.links[0]
        told: list[object] = []

        def tell(message: Message) -> None:
            with pytest.raises(LostLink):  # another thread that has the link at hand, in the middle of the goodbye
                connected.begin(calls.execute("x", (), None, None))
            told.append(message)

        monkeypatch.setattr(connected, "tell", tell)
        link.say(Done(1), Moved())
        Caller(shared, "last").result()
        assert told == [Bye()]
        assert link.closed


def test_a_follower_that_gives_up_withdraws_its_request(
    supervisor: MemorySupervisor, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgactor.client.channel.ANSWER_GRACE_SECONDS", 0.0)
    with open_channel() as shared:
        connect(shared, supervisor)
        link = supervisor.links[0]
        leader = leader_and_followers(shared, supervisor, waiters, 1)[0]
        with pytest.raises(OutcomeUnknown, match="did not answer"):
            Caller(shared, "impatient", calls.execute("x", (), 0.0, None)).result()
        assert link.told[-1] == Cancel(2)
        link.say(Done(1))
        leader.result()


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


# --- the end of the link ------------------------------------------------------------------------------------


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


def test_what_waits_on_a_link_that_breaks_has_an_unknown_outcome(
    supervisor: MemorySupervisor, waiters: Waiters
) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        lease = HeldToken()
        connected.hold(lease)
        callers = leader_and_followers(shared, supervisor, waiters, 2)
        supervisor.links[0].inbox.put(LostLink("the link broke"))
        for caller in callers:
            with pytest.raises(OutcomeUnknown, match="the link broke"):
                caller.result()
        assert isinstance(lease.end, LeaseLost)
        assert supervisor.links[0].closed


def test_a_notice_on_a_broken_link_is_dropped(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        supervisor.links[0].broken = True
        connected.tell(Release(Token(7, 0, 1)))
        assert supervisor.links[0].told == []


def test_a_lease_of_a_lost_link_cannot_be_held(supervisor: MemorySupervisor) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        connected.requests.lose(LostLink("it broke"))
        with pytest.raises(LeaseLost):
            connected.hold(HeldToken())


# --- who waits is heard -------------------------------------------------------------------------------------


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
