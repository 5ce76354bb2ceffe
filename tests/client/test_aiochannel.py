"""An event loop's way to the supervisor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from pgactor.client import aiolinks, calls
from pgactor.client.aiochannel import AioChannel
from pgactor.client.aioconnected import AioConnected
from pgactor.client.options import Options
from pgactor.client.requests import LostLink
from pgactor.errors import (
    ClientClosed,
    LeaseLost,
    OutcomeUnknown,
    ProtocolError,
    SupervisorUnavailable,
)
from pgactor.messages import Bye, Done, Failed, Release, Token
from pgactor.zmtp import Connection, encode_message

from .memory import MemorySupervisor, options
from .tasks import HeldToken, call, connect, virtual_time
from .virtual import now, pass_by, run, turns


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> MemorySupervisor:
    virtual_time(monkeypatch)
    return MemorySupervisor().serve(monkeypatch)


# --- calls --------------------------------------------------------------------------------------------------


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


def test_a_request_with_no_time_left_goes_by_a_new_link_too(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        _, first = await connect(channel, supervisor)
        first.broken = True
        task = call(channel, calls.execute("x", (), 0.0, None))
        await turns(20)
        supervisor.aiolinks[1].say(Done(0, "AGAIN"))
        assert (await task)[0].error is None

    run(story())


def test_what_belongs_to_a_lease_goes_by_no_other_link(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect(channel, supervisor)
        link.broken = True
        with pytest.raises(LeaseLost, match="acquire again"):
            await channel.ask(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        assert len(supervisor.aiolinks) == 1
        with pytest.raises(LeaseLost):
            connected.hold(HeldToken())

    run(story())


# --- connecting ---------------------------------------------------------------------------------------------


def test_a_supervisor_that_does_not_come_is_unavailable(supervisor: MemorySupervisor) -> None:
    def refused() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    supervisor.connecting = refused

    async def story() -> None:
        begun = now()
        with pytest.raises(SupervisorUnavailable, match=r"connect_timeout \(4 s\): No such file or directory"):
            await AioChannel(options(connect_timeout=4.0)).ask(calls.status())
        assert now() - begun == pytest.approx(4.0)

    run(story())


def test_a_socket_that_belongs_to_somebody_else_is_not_tried_again(supervisor: MemorySupervisor) -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied")

    supervisor.connecting = refused

    async def story() -> None:
        begun = now()
        with pytest.raises(SupervisorUnavailable, match="for its owner alone"):
            await AioChannel(options()).ask(calls.status())
        assert now() == begun

    run(story())


def test_a_supervisor_that_refuses_the_hello_says_why(supervisor: MemorySupervisor) -> None:
    supervisor.welcome = Failed(None, "protocol", "use the same pgactor on both sides")

    async def story() -> None:
        with pytest.raises(ProtocolError, match="use the same pgactor on both sides"):
            await AioChannel(options()).ask(calls.status())
        assert [link.closed for link in supervisor.aiolinks] == [True]

    run(story())


def test_whoever_says_what_cannot_be_read_before_it_is_asked_is_no_supervisor(short_tmp: Path) -> None:
    async def story() -> None:
        found: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            zmtp = Connection("ROUTER", max_message_bytes=1000)
            writer.write(zmtp.take_output())
            output = b""
            while not zmtp.ready:
                zmtp.receive(await reader.read(1000))
                output += zmtp.take_output()
            writer.write(output + encode_message(b"\xc1"))
            await reader.read()
            writer.close()

        async with await asyncio.start_unix_server(greet, short_tmp / "s"):
            with pytest.raises(ProtocolError):
                await AioChannel(Options(f"ipc://{short_tmp / 's'}", 0.5)).ask(calls.status())
        assert not found

    asyncio.run(story())


def test_whoever_listens_but_does_not_answer_is_no_supervisor(supervisor: MemorySupervisor) -> None:
    supervisor.welcome = None

    async def story() -> None:
        with pytest.raises(SupervisorUnavailable, match="did not answer"):
            await AioChannel(options(connect_timeout=2.0)).ask(calls.status())
        assert all(link.closed for link in supervisor.aiolinks)

    run(story())


@pytest.mark.parametrize(
    ("timeout", "words"), [(None, r"connect_timeout \(4 s\)"), (1.5, r"the request's timeout \(1.5 s\)")]
)
def test_a_supervisor_that_welcomes_and_then_hangs_up_is_unavailable_at_the_limit(
    supervisor: MemorySupervisor, timeout: float | None, words: str
) -> None:
    supervisor.hanging_up = lambda: pass_by(0.25)

    async def story() -> None:
        begun = now()
        with pytest.raises(SupervisorUnavailable, match=f"within {words}: it closes the link at once"):
            await AioChannel(options(connect_timeout=4.0)).ask(calls.execute("x", (), timeout, None))
        assert now() == begun + (timeout or 4.0)
        assert len(supervisor.aiolinks) == (timeout or 4.0) / 0.25
        assert all(link.closed and link.told == [] for link in supervisor.aiolinks)

    run(story())


def test_a_supervisor_that_hangs_up_no_more_gets_the_request(supervisor: MemorySupervisor) -> None:
    def connecting() -> None:
        supervisor.hanging_up = (lambda: pass_by(0.25)) if len(supervisor.aiolinks) < 5 else None

    supervisor.connecting = connecting

    async def story() -> None:
        task = call(AioChannel(options(connect_timeout=4.0)))
        await turns(100)
        supervisor.aiolinks[-1].say(Done(0))
        assert (await task)[0].error is None
        assert [len(link.told) for link in supervisor.aiolinks] == [0] * 5 + [1]

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
            await channel.ask(calls.execute("x", (), 0.5, None))
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
                await aiolinks.connect(connected.requests.options, connected)
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
        connected.hold(lease)
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
            await channel.ask(calls.status())
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
            await channel.ask(calls.status())
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
        connected.tell(Release(Token(7, 0, 1)))
        with pytest.raises(LeaseLost, match="parent"):
            await channel.ask(calls.execute("x", (), None, Token(7, 0, 1)), within=connected)
        task = call(channel)
        await turns()
        supervisor.aiolinks[1].say(Done(0))
        await task
        assert parents.told == []

    run(story())


def test_a_child_does_not_wait_for_its_parents_attempt_to_connect(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        welcome, supervisor.welcome = supervisor.welcome, None
        channel = AioChannel(options())
        parents = call(channel)
        await turns()
        pid = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        supervisor.welcome = welcome
        await connect(channel, supervisor)
        parents.cancel()
        with pytest.raises(asyncio.CancelledError):
            await parents

    run(story())


def test_a_childs_copy_of_a_socket_is_given_up_but_its_number_is_not(short_tmp: Path) -> None:
    path = str(short_tmp / "s")

    async def story() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            connected = AioConnected(Options(f"ipc://{path}"))
            link = aiolinks.IpcLink(ours, connected.requests.options, connected)
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
