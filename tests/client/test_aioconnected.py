"""One link, shared by the tasks of an event loop."""

from __future__ import annotations

import asyncio

import pytest

from pgactor.client import calls
from pgactor.client.aiochannel import AioChannel
from pgactor.client.aioconnected import SWEEP_SECONDS
from pgactor.client.options import ANSWER_GRACE_SECONDS
from pgactor.client.requests import LostLink, Unsent
from pgactor.errors import (
    LeaseLost,
    MessageTooLarge,
    OutcomeUnknown,
)
from pgactor.messages import Cancel, Done, Failed, Heartbeat, Release, Token

from .memory import MemorySupervisor, done, granted, options
from .tasks import HeldToken, call, call_now, connect, kinds, virtual_time
from .virtual import now, run, turns


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> MemorySupervisor:
    virtual_time(monkeypatch)
    return MemorySupervisor().serve(monkeypatch)


# --- sending ------------------------------------------------------------------------------------------------


def test_the_requests_of_one_turn_leave_as_one_frame(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        link.answer = done
        await asyncio.gather(*(call(channel) for _ in range(100)))
        assert kinds(link) == [["Execute"] * 100]
        await asyncio.gather(call(channel), call(channel))
        assert kinds(link)[1:] == [["Execute"] * 2]

    run(story())


def test_who_asks_again_when_woken_is_sent_in_the_same_turn(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)

        async def twice() -> None:
            for _ in range(2):
                await call_now(channel)

        tasks = [asyncio.create_task(twice()) for _ in range(3)]
        await turns()
        link.frames.clear()
        link.say(*(Done(number) for number in (1, 2, 3)))
        await turns(1)
        assert kinds(link) == [["Execute"] * 3]
        link.say(*(Done(number) for number in (4, 5, 6)))
        await asyncio.gather(*tasks)

    run(story())


def test_what_is_asked_after_the_end_of_the_link_was_not_sent(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        connected.lost(LostLink("the link broke"))
        pending = connected.begin(calls.execute("x", (), None, None), None)
        await pending.waiter
        assert isinstance(pending.error, Unsent)
        assert link.told == []

    run(story())


def test_frames_stay_under_the_supervisors_cap_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = MemorySupervisor(cap=1024).serve(monkeypatch)

    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        link.answer = done
        await asyncio.gather(*(call(channel, calls.execute("x" * 300, (), None, None)) for _ in range(7)))
        assert kinds(link) == [["Execute"] * 3, ["Execute"] * 3, ["Execute"]]
        assert [request.id for request in link.requests] == list(range(1, 8))

    run(story())


def test_a_request_that_is_too_large_is_refused_and_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = MemorySupervisor(cap=1024).serve(monkeypatch)

    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        link.answer = done
        other = call(channel)
        with pytest.raises(MessageTooLarge, match="cap of 1024"):
            await channel.ask(calls.execute("x" * 2000, (), None, None))
        await other
        assert len(connected.requests) == 0

    run(story())


# --- the end of the link ------------------------------------------------------------------------------------


def test_what_waits_on_a_link_that_breaks_has_an_unknown_outcome(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        lease = HeldToken()
        connected.hold(lease)
        tasks = [call(channel) for _ in range(2)]
        await turns()
        connected.lost(LostLink("the link broke"))
        for task in tasks:
            pending, _ = await task
            assert isinstance(pending.error, OutcomeUnknown)
            assert "the link broke" in str(pending.error)
        assert isinstance(lease.end, LeaseLost)
        assert link.closed

    run(story())


def test_replies_before_the_end_of_the_link_reach_every_task(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        answered, unanswered = call(channel), call(channel)
        await turns()
        link.say(Done(1, "IN TIME"), Failed(None, "protocol", "the end"))
        assert (await answered)[0].error is None
        assert isinstance((await unanswered)[0].error, OutcomeUnknown)

    run(story())


# --- cancellation -------------------------------------------------------------------------------------------


def test_a_cancelled_task_withdraws_its_request(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        task = call(channel)
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert kinds(link) == [["Execute"], ["Cancel"]]
        assert link.told[-1] == Cancel(1)
        assert len(connected.requests) == 0
        link.say(Done(1, "TOO LATE"))

    run(story())


def test_a_lease_that_comes_as_its_task_is_cancelled_is_given_back(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        task = call(channel, calls.acquire(None, None))
        await turns()
        link.say(granted(1, fence=9))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert link.told[-1] == Release(Token(7, 0, 9))

    run(story())


def test_a_lease_that_comes_after_its_task_was_cancelled_is_given_back(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        task = call(channel, calls.acquire(None, None))
        await turns()
        task.cancel()
        await turns()
        link.say(granted(1, fence=9))
        await turns()
        assert kinds(link) == [["Acquire"], ["Cancel"], ["Release"]]

    run(story())


def test_other_tasks_go_on_when_one_is_cancelled(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        cancelled, other = call(channel), call(channel)
        await turns()
        cancelled.cancel()
        link.say(Done(1), Done(2, "OTHER"))
        assert (await other)[0].error is None

    run(story())


# --- patience -----------------------------------------------------------------------------------------------


def test_an_answer_is_awaited_a_little_longer_than_the_timeout_and_no_more(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        begun = now()
        pending = await channel.ask(calls.execute("x", (), 2.0, None))
        assert isinstance(pending.error, OutcomeUnknown)
        assert "did not answer within" in str(pending.error)
        waited = now() - begun
        assert 2.0 + ANSWER_GRACE_SECONDS <= waited <= 2.0 + ANSWER_GRACE_SECONDS + SWEEP_SECONDS
        await turns()
        assert link.told[-1] == Cancel(1)
        assert len(connected.requests) == 0

    run(story())


def test_a_request_without_a_timeout_is_awaited_for_ever(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        task = call(channel)
        asyncio.get_running_loop().call_later(3600.0, link.say, Done(1, "AT LAST"))
        assert (await task)[0].error is None

    run(story())


def test_no_timer_runs_while_nobody_waits(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, _ = await connect(channel, supervisor)
        await asyncio.sleep(10.0)
        assert connected._timer is None

    run(story())


# --- heartbeats ---------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_as_long_as_it_is_held(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        lease = HeldToken(ttl=3.0)
        connected.hold(lease)
        await asyncio.sleep(29.5)
        beats = [message for message in link.told if isinstance(message, Heartbeat)]
        assert all(beat.leases == [lease.token] for beat in beats)
        assert 18 <= len(beats) <= 31, "about three in each ttl"
        connected.drop(lease)
        await asyncio.sleep(30.0)
        assert len(link.told) == len(beats)

    run(story())


def test_a_short_lease_does_not_wait_for_the_heartbeat_of_a_long_one(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, _ = await connect(channel, supervisor)
        connected.hold(HeldToken(1, ttl=300.0))
        await asyncio.sleep(5.0)
        for fence, ttl in enumerate((3.0, 0.4, 0.05), start=2):
            short = HeldToken(fence, ttl)
            connected.hold(short)
            await asyncio.sleep(ttl * 5)
            assert short.expires_at > now()
            connected.drop(short)

    run(story())


def test_a_heartbeat_names_every_lease(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        leases = [HeldToken(fence, ttl=9.0) for fence in (1, 2, 3)]
        for lease in leases:
            connected.hold(lease)
        await asyncio.sleep(4.0)
        assert link.told == [Heartbeat([lease.token for lease in leases])]

    run(story())


def test_on_a_link_whose_end_cannot_be_seen_who_waits_is_heard_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    virtual_time(monkeypatch)
    supervisor = MemorySupervisor(heartbeat_seconds=3.0).serve(monkeypatch)

    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        task = call(channel)
        asyncio.get_running_loop().call_later(20.0, link.say, Done(1))
        await task
        beats = [message for message in link.told if isinstance(message, Heartbeat)]
        assert 5 <= len(beats) <= 7

    run(story())


def test_a_lease_on_such_a_link_is_heard_as_often_as_the_supervisor_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    virtual_time(monkeypatch)
    supervisor = MemorySupervisor(heartbeat_seconds=3.0).serve(monkeypatch)

    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        await asyncio.sleep(100.0)
        connected.hold(HeldToken(ttl=300.0))
        for _ in range(5):
            link.frames.clear()
            await asyncio.sleep(3.0 + SWEEP_SECONDS)
            assert [type(message) for message in link.told] == [Heartbeat]

    run(story())


def test_a_second_wait_on_such_a_link_is_heard_as_soon_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    virtual_time(monkeypatch)
    supervisor = MemorySupervisor(heartbeat_seconds=3.0).serve(monkeypatch)

    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        for number in (1, 2):
            link.frames.clear()
            task = call(channel)
            asyncio.get_running_loop().call_later(5.0, link.say, Done(number))
            await task
            assert Heartbeat([]) in link.told
            await asyncio.sleep(100.0)

    run(story())
