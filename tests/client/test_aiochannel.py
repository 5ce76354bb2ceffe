"""Tasks that share a link, in an event loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgactor.client import aiochannel, aiolinks, calls
from pgactor.client.aiochannel import AioChannel, AioConnected
from pgactor.client.options import ANSWER_GRACE_SECONDS, Options
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

from .memory import MemoryAioLink, MemorySupervisor, done, granted, options
from .virtual import now, run, turns


class HeldToken:
    """A lease, as the channel sees it: it would expire if it were not renewed in time."""

    def __init__(self, fence: int = 1, ttl: float = 30.0) -> None:
        self.token = Token(7, 0, fence)
        self.ttl = ttl
        self.end: BaseException | None = None
        self.expires_at = now() + ttl

    def ended(self, error: BaseException) -> None:
        self.end = error

    def renewed(self, at: float) -> None:
        assert at < self.expires_at, "the renewal came too late"
        self.expires_at = at + self.ttl


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> MemorySupervisor:
    monkeypatch.setattr(aiochannel, "time", SimpleNamespace(monotonic=now))
    return MemorySupervisor().serve(monkeypatch)


def call(channel: AioChannel, request: Request | None = None) -> asyncio.Task[tuple[Pending, AioConnected]]:
    """A task that makes one call."""
    return asyncio.create_task(channel.call(request or calls.execute("x", (), None, None)))


async def connect(channel: AioChannel, supervisor: MemorySupervisor) -> tuple[AioConnected, MemoryAioLink]:
    """Make one call, for its link."""
    task = call(channel)
    await turns()
    link = supervisor.aiolinks[-1]
    link.say(Done(link.requests[-1].id))
    _, connected = await task
    link.frames.clear()
    return connected, link


def kinds(link: MemoryAioLink) -> list[list[str]]:
    """What was told, by its kinds, frame by frame."""
    return [[type(message).__name__ for message in frame] for frame in link.frames]


# --- sending ------------------------------------------------------------------------------------------------


def test_a_call_sends_its_request_and_returns_its_reply(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        task = call(AioChannel(options()))
        await turns()
        link = supervisor.aiolinks[0]
        assert [(request.id, request.epoch) for request in link.requests] == [(0, 7)]
        link.say(Done(0, "UPDATE 3"))
        pending, _ = await task
        assert isinstance(pending.reply, Done)
        assert pending.reply.status == "UPDATE 3"

    run(story())


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
            await channel.call(calls.execute("x" * 2000, (), None, None))
        await other
        assert len(connected.requests) == 0

    run(story())


def test_the_request_tells_the_time_that_is_left(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        attempts = iter([ConnectionRefusedError(111, "refused")] * 3)

        def not_at_once() -> None:
            for error in attempts:
                raise error

        supervisor.connecting = not_at_once
        begun = now()
        task = call(AioChannel(options()), calls.execute("x", (), 5.0, None))
        while not supervisor.aiolinks or not supervisor.aiolinks[0].requests:
            await asyncio.sleep(0.001)
        timeout = supervisor.aiolinks[0].requests[0].timeout
        assert timeout is not None
        assert timeout < 5.0
        assert timeout == pytest.approx(5.0 - (now() - begun), abs=0.002)
        supervisor.aiolinks[0].say(Done(0))
        await task

    run(story())


# --- links that break ---------------------------------------------------------------------------------------


def test_requests_that_could_not_be_sent_go_by_a_new_link(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, first = await connect(channel, supervisor)
        first.broken = True
        tasks = [call(channel) for _ in range(3)]
        await turns(20)
        second = supervisor.aiolinks[1]
        assert [request.id for request in second.requests] == [0, 1, 2]
        second.say(*(Done(number, f"DONE {number}") for number in range(3)))
        assert [(await task)[0].error for task in tasks] == [None] * 3
        assert first.closed

    run(story())


def test_a_request_behind_a_full_frame_that_could_not_be_sent_was_not_sent_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor = MemorySupervisor(cap=1024).serve(monkeypatch)

    async def story() -> None:
        channel = AioChannel(options())
        _, first = await connect(channel, supervisor)
        first.broken = True
        tasks = [call(channel, calls.execute("x" * 300, (), None, None)) for _ in range(5)]
        await turns(20)
        second = supervisor.aiolinks[1]
        assert len(second.requests) == 5
        second.say(*(Done(request.id) for request in second.requests))
        assert [(await task)[0].error for task in tasks] == [None] * 5

    run(story())


def test_what_waits_on_a_link_that_breaks_has_an_unknown_outcome(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        lease = HeldToken()
        channel.hold(connected, lease)
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


def test_a_request_that_had_not_left_when_the_link_broke_goes_by_a_new_one(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, _ = await connect(channel, supervisor)
        sent = call(channel)
        await turns()
        unsent = call(channel)
        await turns(1)
        connected.lost(LostLink("the link broke"))
        assert isinstance((await sent)[0].error, OutcomeUnknown)
        await turns()
        supervisor.aiolinks[1].say(Done(0, "AGAIN"))
        assert (await unsent)[0].error is None

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


def test_what_belongs_to_a_lease_goes_by_no_other_link(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        link.broken = True
        with pytest.raises(LeaseLost, match="acquire again"):
            await channel.call(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        assert len(supervisor.aiolinks) == 1
        with pytest.raises(LeaseLost):
            channel.hold(connected, HeldToken())

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
        pending, _ = await channel.call(calls.execute("x", (), 2.0, None))
        assert isinstance(pending.error, OutcomeUnknown)
        assert "did not answer within" in str(pending.error)
        waited = now() - begun
        assert 2.0 + ANSWER_GRACE_SECONDS <= waited <= 2.0 + ANSWER_GRACE_SECONDS + aiochannel.SWEEP_SECONDS
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
        channel.hold(connected, lease)
        await asyncio.sleep(29.5)
        beats = [message for message in link.told if isinstance(message, Heartbeat)]
        assert all(beat.leases == [lease.token] for beat in beats)
        assert 18 <= len(beats) <= 31, "about three in each ttl"
        channel.drop(connected, lease)
        await asyncio.sleep(30.0)
        assert len(link.told) == len(beats)

    run(story())


def test_a_short_lease_does_not_wait_for_the_heartbeat_of_a_long_one(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, _ = await connect(channel, supervisor)
        channel.hold(connected, HeldToken(1, ttl=300.0))
        await asyncio.sleep(5.0)
        for fence, ttl in enumerate((3.0, 0.4, 0.05), start=2):
            short = HeldToken(fence, ttl)
            channel.hold(connected, short)
            await asyncio.sleep(ttl * 5)
            assert short.expires_at > now()
            channel.drop(connected, short)

    run(story())


def test_a_heartbeat_names_every_lease(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        leases = [HeldToken(fence, ttl=9.0) for fence in (1, 2, 3)]
        for lease in leases:
            channel.hold(connected, lease)
        await asyncio.sleep(4.0)
        assert link.told == [Heartbeat([lease.token for lease in leases])]

    run(story())


def test_on_a_link_whose_end_cannot_be_seen_who_waits_is_heard_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiochannel, "time", SimpleNamespace(monotonic=now))
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


def test_a_second_wait_on_such_a_link_is_heard_as_soon_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiochannel, "time", SimpleNamespace(monotonic=now))
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


# --- connecting ---------------------------------------------------------------------------------------------


def test_a_supervisor_that_does_not_come_is_unavailable(supervisor: MemorySupervisor) -> None:
    def refused() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    supervisor.connecting = refused

    async def story() -> None:
        begun = now()
        with pytest.raises(SupervisorUnavailable, match=r"connect_timeout \(4 s\): No such file or directory"):
            await AioChannel(options(connect_timeout=4.0)).call(calls.status())
        assert now() - begun == pytest.approx(4.0)

    run(story())


def test_a_socket_that_belongs_to_somebody_else_is_not_tried_again(supervisor: MemorySupervisor) -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied")

    supervisor.connecting = refused

    async def story() -> None:
        begun = now()
        with pytest.raises(SupervisorUnavailable, match="for its owner alone"):
            await AioChannel(options()).call(calls.status())
        assert now() == begun

    run(story())


def test_a_supervisor_that_refuses_the_hello_says_why(supervisor: MemorySupervisor) -> None:
    supervisor.welcome = Failed(None, "protocol", "use the same pgactor on both sides")

    async def story() -> None:
        with pytest.raises(ProtocolError, match="use the same pgactor on both sides"):
            await AioChannel(options()).call(calls.status())
        assert [link.closed for link in supervisor.aiolinks] == [True]

    run(story())


def test_whoever_listens_but_does_not_answer_is_no_supervisor(supervisor: MemorySupervisor) -> None:
    supervisor.welcome = None

    async def story() -> None:
        with pytest.raises(SupervisorUnavailable, match="did not answer"):
            await AioChannel(options(connect_timeout=2.0)).call(calls.status())
        assert all(link.closed for link in supervisor.aiolinks)

    run(story())


def test_tasks_that_find_no_link_make_one_together(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        tasks = [call(channel) for _ in range(5)]
        await turns()
        assert len(supervisor.aiolinks) == 1
        supervisor.aiolinks[0].say(*(Done(number) for number in range(5)))
        await asyncio.gather(*tasks)

    run(story())


def test_who_waits_for_another_tasks_attempt_waits_no_longer_than_it_may(supervisor: MemorySupervisor) -> None:
    supervisor.welcome = None

    async def story() -> None:
        channel = AioChannel(options(connect_timeout=10.0))
        patient = call(channel)
        await turns()
        begun = now()
        with pytest.raises(SupervisorUnavailable, match="another task is still trying"):
            await channel.call(calls.execute("x", (), 0.5, None))
        assert now() - begun == pytest.approx(0.5)
        with pytest.raises(SupervisorUnavailable):
            await patient

    run(story())


def test_a_task_that_is_cancelled_while_it_connects_leaves_the_way_free(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        welcome, supervisor.welcome = supervisor.welcome, None
        channel = AioChannel(options())
        cancelled = call(channel)
        await turns()
        cancelled.cancel()
        await turns()
        assert supervisor.aiolinks[0].closed
        supervisor.welcome = welcome
        await connect(channel, supervisor)

    run(story())


def test_a_supervisor_that_hangs_up_while_it_is_greeted_is_unavailable_without_noise(short_tmp: Path) -> None:
    path = str(short_tmp / "s")

    async def story() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_unix_server(hang_up, path):
            connected = AioConnected(Options(f"ipc://{path}"))
            with pytest.raises(LostLink):
                await aiolinks.connect(connected.options, connected)
            assert connected.requests.lost is None, "there was nothing to lose"
            connected.welcome.cancel()

    errors: list[dict[str, Any]] = []
    _run_for_real(story(), errors)
    assert errors == []


def _run_for_real(story: Coroutine[Any, Any, None], errors: list[dict[str, Any]]) -> None:
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: errors.append(context))
        runner.run(story)


# --- closing ------------------------------------------------------------------------------------------------


def test_closing_says_goodbye_and_ends_what_waits(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        lease = HeldToken()
        channel.hold(connected, lease)
        tasks = [call(channel) for _ in range(2)]
        await turns()
        channel.close()
        for task in tasks:
            error = (await task)[0].error
            assert isinstance(error, OutcomeUnknown)
            assert "the client was closed" in str(error)
        assert isinstance(lease.end, LeaseLost)
        assert link.told[-1] == Bye()
        assert link.closed

    run(story())


def test_a_closed_channel_takes_no_calls(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, link = await connect(channel, supervisor)
        channel.close()
        channel.close()
        with pytest.raises(ClientClosed):
            await channel.call(calls.status())
        assert link.told == [Bye()]

    run(story())


def test_who_still_tries_to_connect_gives_up_when_the_channel_is_closed(supervisor: MemorySupervisor) -> None:
    def refused() -> None:
        raise ConnectionRefusedError(111, "connection refused")

    supervisor.connecting = refused

    async def story() -> None:
        channel = AioChannel(options(connect_timeout=60.0))
        task = call(channel)
        await asyncio.sleep(1.0)
        channel.close()
        begun = now()
        with pytest.raises(ClientClosed):
            await task
        assert now() - begun <= 0.5

    run(story())


def test_a_link_that_is_made_while_the_channel_is_closed_is_closed_too(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        supervisor.connecting = channel.close
        with pytest.raises(ClientClosed):
            await channel.call(calls.status())
        assert [link.closed for link in supervisor.aiolinks] == [True]

    run(story())


# --- forks --------------------------------------------------------------------------------------------------


def test_a_child_says_nothing_on_its_parents_link_and_makes_its_own(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, parents = await connect(channel, supervisor)
        pid = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        channel.tell(connected, Release(Token(7, 0, 1)))
        with pytest.raises(LeaseLost, match="parent"):
            await channel.call(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        task = call(channel)
        await turns()
        supervisor.aiolinks[1].say(Done(0))
        await task
        assert parents.told == []

    run(story())


def test_a_childs_copy_of_a_socket_is_given_up_but_its_number_is_not(short_tmp: Path) -> None:
    path = str(short_tmp / "s")

    async def story() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            connected = AioConnected(Options(f"ipc://{path}"))
            link = aiolinks.IpcLink(ours, connected.options, connected)
            number = ours.fileno()
            link.abandon()
            theirs.setblocking(False)
            assert theirs.recv(1) == b"", "the last copy of the socket is closed"
            assert os.fstat(number), "nobody else gets the number"
            with pytest.raises(LostLink):
                link.send(b"x")
            link._ready.cancel()
            connected.welcome.cancel()
            ours.close()

    run(story())
