"""Statements that wait in their own process, because the supervisor has enough of its."""

from __future__ import annotations

import asyncio
import os
import random
from types import NoneType

import msgspec
import pytest

from pgactor.client import calls
from pgactor.client.aiochannel import AioChannel
from pgactor.client.line import DARE_SECONDS, LEAST, TOLD_SECONDS, Line
from pgactor.client.requests import LostLink
from pgactor.errors import ClientClosed, PoolTimeout
from pgactor.messages import Done, Failed, Request, Welcome
from pgactor.messages.operating import Moved

from .memory import MemoryAioLink, MemorySupervisor, done, options
from .tasks import HeldToken, virtual_time
from .virtual import VirtualLoop, now, pass_by, run, turns

WINDOW = 2
UNSERVED = "no backend came free within 0.00 s (the request's own timeout); it was not run. max_size 8, leased 8"


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> MemorySupervisor:
    virtual_time(monkeypatch)
    supervisor = MemorySupervisor()
    assert isinstance(supervisor.welcome, Welcome)
    supervisor.welcome = msgspec.structs.replace(supervisor.welcome, window=WINDOW, queue_timeout_seconds=60.0)
    return supervisor.serve(monkeypatch)


def ask(channel: AioChannel, timeout: float | None = None) -> asyncio.Task[object]:
    async def one() -> object:
        return (await channel.ask(calls.execute("x", (), timeout, None))).reply

    return asyncio.create_task(one())


async def connected(supervisor: MemorySupervisor) -> tuple[AioChannel, MemoryAioLink]:
    channel = AioChannel(options())
    await channel.connected(None)
    return channel, supervisor.aiolinks[-1]


def ids(link: MemoryAioLink) -> list[int]:
    return [request.id for request in link.requests]


def test_more_than_the_supervisor_wants_waits_and_each_answer_lets_the_next_go(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        tasks = [ask(channel) for _ in range(5)]
        await turns()
        assert ids(link) == [0, 1]
        assert channel.line.waiting == 3
        link.say(Done(1, "b"))
        await turns()
        assert ids(link) == [0, 1, 2]
        link.say(Done(0, "a"), Done(2, "c"))
        await turns()
        assert ids(link) == [0, 1, 2, 3, 4]
        link.say(Done(3, "d"), Done(4, "e"))
        assert [getattr(await task, "status", None) for task in tasks] == ["a", "b", "c", "d", "e"]
        assert (channel.line.out, channel.line.waiting) == (0, 0)

    run(story())


def test_what_belongs_to_a_lease_and_what_asks_for_one_does_not_wait(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        link_of_lease = await channel.connected(None)
        lease = HeldToken()
        link_of_lease.hold(lease)
        tasks = [ask(channel) for _ in range(3)]
        on_lease = asyncio.create_task(channel.ask(calls.execute("y", (), None, lease.token), link_of_lease))
        acquiring = asyncio.create_task(channel.ask(calls.acquire(None, None)))
        asking: list[Request] = []
        await turns()
        asking += link.requests
        assert [type(request).__name__ for request in asking] == ["Execute", "Execute", "Execute", "Acquire"]
        assert channel.line.waiting == 1
        for task in (*tasks, on_lease, acquiring):
            task.cancel()
        await turns()

    run(story())


def test_a_task_that_is_cancelled_gives_its_place_to_the_next(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        tasks = [ask(channel) for _ in range(6)]
        await turns()
        tasks[2].cancel()  # while it waits
        tasks[0].cancel()  # while it is with the supervisor
        await turns()
        assert len(link.requests) == 3  # the fourth has the place of the first
        link.say(Done(1))
        tasks[4].cancel()  # in the turn in which it may go
        await turns()
        assert [task.cancelled() for task in tasks] == [True, False, True, False, True, False]
        link.say(*(Done(request.id) for request in link.requests[2:]))
        await turns()
        assert all(task.done() for task in tasks)
        assert (channel.line.out, channel.line.waiting) == (0, 0)

    run(story())


def test_a_place_that_comes_in_the_moment_of_the_cancellation_goes_on() -> None:
    async def story() -> None:
        line = Line()
        line.welcome(1, 0.0)
        line.out = 1
        first, second = (asyncio.create_task(line.wait(now(), None)) for _ in range(2))
        await turns()
        line.leave(now())
        first.cancel()
        await turns()
        assert first.cancelled()
        assert second.done()
        assert second.result()
        line.leave(now())
        assert line.out == 0

    run(story())


def test_who_waited_in_vain_hears_who_holds_the_connections(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(WINDOW):
            ask(channel)
        tasks = [ask(channel, 0.5) for _ in range(3)]
        await asyncio.sleep(0.51)
        assert [(request.id, request.timeout) for request in link.requests[WINDOW:]] == [(2, 0.0)]  # one asks for all
        ended = [task for task in tasks if task.done()]
        assert len(ended) == 2
        for task in ended:
            with pytest.raises(PoolTimeout, match=r"within 0\.50 s \(the request's own timeout\); it was not run"):
                await task
        link.say(Failed(2, "pool_timeout", UNSERVED, "", {"max_size": 8}))
        with pytest.raises(PoolTimeout, match=r"2 statements with the supervisor.*max_size 8, leased 8") as caught:
            await next(task for task in tasks if task not in ended)
        assert caught.value.facts == {"max_size": 8}
        with pytest.raises(PoolTimeout, match="max_size 8, leased 8"):
            await ask(channel, 0.1)
        pass_by(TOLD_SECONDS)
        task = ask(channel, 0.0)
        await turns()
        link.say(Done(3, "served after all"))  # one had come free in that moment
        assert getattr(await task, "status", "") == "served after all"

    run(story())


@pytest.mark.parametrize("timeout", [None, 90.0])
def test_nobody_waits_longer_than_the_supervisor_allows(supervisor: MemorySupervisor, timeout: float | None) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(WINDOW):
            ask(channel)
        began = now()
        task = ask(channel, timeout)
        await asyncio.sleep(60.1)
        link.say(Failed(2, "pool_timeout", UNSERVED, "", {}))
        with pytest.raises(PoolTimeout, match=r"within 60\.\d* s \(the supervisor's queue_timeout_seconds\)"):
            await task
        assert now() - began < 61

    run(story())


def test_the_time_in_the_line_counts(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(WINDOW):
            ask(channel)
        ask(channel, 2.0)
        await asyncio.sleep(0.5)
        link.say(Done(0))
        await turns()
        assert link.requests[-1].timeout == pytest.approx(1.5)

    run(story())


def test_the_supervisor_is_told_of_the_time_in_the_line(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(WINDOW + 1):
            ask(channel)
        await asyncio.sleep(50.0)
        link.say(Done(0))
        await turns()
        waited = [msgspec.to_builtins(request)[-1] for request in link.requests]
        assert waited == [0, 0, pytest.approx(50.0)]

    run(story())


def test_the_time_in_the_line_is_taken_off_once(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(WINDOW):
            ask(channel)
        task = ask(channel, 20.0)
        await asyncio.sleep(8.0)
        link.say(Done(0))
        await asyncio.sleep(11.5)  # it has half a second left, and its answer may take some more
        link.say(Done(2, "just in time"))
        assert getattr(await task, "status", "") == "just in time"

    run(story())


def test_who_has_waited_in_the_line_has_time_for_the_supervisor_to_come_back(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(WINDOW):
            ask(channel)
        waited = ask(channel)
        await asyncio.sleep(20.0)  # longer than connect_timeout
        attempts = iter([ConnectionRefusedError(111, "refused")] * 5)

        def refuse() -> None:
            for error in attempts:
                raise error

        supervisor.connecting = refuse
        link.listener.lost(LostLink("the supervisor has died"))
        await asyncio.sleep(5.0)
        supervisor.aiolinks[-1].say(Done(0, "by the new one"))
        assert getattr(await waited, "status", "") == "by the new one"

    run(story())


def test_what_waits_when_the_link_is_lost_goes_by_the_next_and_what_was_out_is_unknown(
    supervisor: MemorySupervisor,
) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        tasks = [ask(channel) for _ in range(2 * WINDOW)]
        await turns()
        link.listener.lost(LostLink("the supervisor has died"))
        await turns(30)
        second = supervisor.aiolinks[-1]
        assert ids(second) == [0, 1]
        second.say(Done(0, "c"), Done(1, "d"))
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [NoneType, NoneType, Done, Done]
        assert (channel.line.out, channel.line.waiting) == (0, 0)

    run(story())


def test_what_comes_before_the_first_word_of_the_supervisor_waits_for_it(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel = AioChannel(options())
        tasks = [ask(channel) for _ in range(5 * WINDOW)]
        await turns(50)
        link = supervisor.aiolinks[0]
        assert ids(link) == [0, 1]
        assert channel.line.waiting == 4 * WINDOW
        link.answer = done
        link.say(Done(0), Done(1))
        await asyncio.gather(*tasks)
        assert (channel.line.out, channel.line.waiting) == (0, 0)

    run(story())


def test_a_supervisor_that_wants_more_than_the_one_before_gets_it_at_once(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(3 * WINDOW):
            ask(channel)
        await turns()
        assert isinstance(supervisor.welcome, Welcome)
        supervisor.welcome = msgspec.structs.replace(supervisor.welcome, window=2 * WINDOW)
        link.say(Moved())
        await channel.connected(None)
        await turns()
        assert (ids(link), ids(supervisor.aiolinks[-1])) == ([0, 1], [0, 1])
        supervisor.welcome = msgspec.structs.replace(supervisor.welcome, window=0)
        supervisor.aiolinks[-1].say(Moved())
        await channel.connected(None)
        await turns()
        assert (ids(supervisor.aiolinks[-1]), channel.line.waiting) == ([0, 1], 0)

    run(story())


def test_a_child_does_not_stand_in_its_parents_line(
    supervisor: MemorySupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(2 * WINDOW):
            ask(channel)
        await turns()
        told, pid = len(link.told), os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        task = ask(channel)
        await turns()
        supervisor.aiolinks[-1].say(Done(0, "the child's"))
        assert getattr(await task, "status", "") == "the child's"
        assert (len(link.told), len(supervisor.aiolinks[-1].requests)) == (told, 1)
        assert (channel.line.out, channel.line.waiting) == (0, 0)

    run(story())


def test_tasks_of_a_loop_that_was_closed_while_they_waited_harm_nobody(supervisor: MemorySupervisor) -> None:
    tasks: list[asyncio.Task[object]] = []
    channels: list[AioChannel] = []

    async def story() -> None:
        channel, _ = await connected(supervisor)
        channels.append(channel)
        tasks.extend(ask(channel) for _ in range(2 * WINDOW))
        await turns()

    loop = VirtualLoop()
    loop.run_until_complete(story())
    loop.close()

    async def afterwards() -> None:
        """As when a client is used in another loop, and its tasks of the old one are collected."""
        for task in tasks:
            coroutine = task.get_coro()
            assert coroutine is not None
            if task is tasks[-1]:
                channels[0].close()
            coroutine.close()
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # as it is meant to be

    run(afterwards())


def test_those_that_are_over_do_not_pile_up_behind_one_that_waits_for_long() -> None:
    async def story() -> None:
        line = Line()
        line.welcome(1, 0.0)
        line.out = 1
        patient = asyncio.create_task(line.wait(now(), None))
        for _ in range(20):
            hasty = [asyncio.create_task(line.wait(now(), 0.1)) for _ in range(50)]
            assert not any(await asyncio.gather(*hasty))
        assert len(line._line) < 200
        line.leave(now())
        assert await patient

    run(story())


def test_the_newest_goes_first_once_the_oldest_has_waited_for_half_of_its_time(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, link = await connected(supervisor)
        for _ in range(WINDOW):
            ask(channel)
        oldest, _, _ = ask(channel, 1.0), ask(channel, 1.0), ask(channel, 1.0)
        await asyncio.sleep(0.45)
        link.say(Done(0))
        await turns()
        assert link.requests[-1].timeout == pytest.approx(0.55)
        ask(channel, 0.9)
        await asyncio.sleep(0.1)
        link.say(Done(1))
        await turns()
        assert link.requests[-1].timeout == pytest.approx(0.8)
        assert not oldest.done()

    run(story())


def test_fewer_are_sent_when_some_come_back_unserved_and_more_again_when_they_are_served() -> None:
    async def story() -> None:
        line = Line()
        line.welcome(64, 0.0)
        refused = Failed(0, "queue_full", "too many")
        line.came_back(now(), refused)
        line.came_back(now(), refused)  # sent at the same time: no news
        assert line.most == 32
        for _ in range(20):
            pass_by(1.0)
            line.came_back(now(), refused)
        assert line.most == LEAST
        line.came_back(now(), Failed(0, "asyncpg", "a mistake of its own"))
        for _ in range(LEAST):
            line.out += 1
            line.leave(now())
        assert line.most == LEAST + 1
        for _ in range(64 * 64):
            line.out += 1
            line.leave(now())
        assert line.most == 64

    run(story())


def test_after_an_overload_a_few_slow_statements_do_not_hold_up_all_the_others(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        assert isinstance(supervisor.welcome, Welcome)
        supervisor.welcome = msgspec.structs.replace(supervisor.welcome, window=64)
        channel, link = await connected(supervisor)
        while channel.line.most > LEAST:
            pass_by(1.0)
            channel.line.came_back(now(), Failed(0, "queue_full", "too many"))
        for _ in range(LEAST):
            ask(channel, 1000.0)  # they are slow
        task = ask(channel, 30.0)
        began = now()
        await turns()
        assert len(link.requests) == LEAST
        link.answer = done
        await task
        assert now() - began <= 2 * DARE_SECONDS
        for _ in range(64 - LEAST):
            ask(channel)
        await asyncio.sleep(64 * DARE_SECONDS)
        assert channel.line.most <= 64

    run(story())


def test_closing_ends_the_waiting(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        channel, _ = await connected(supervisor)
        tasks = [ask(channel) for _ in range(4)]
        await turns()
        channel.close()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends[WINDOW:]] == [ClientClosed] * 2
        assert ends[-1] is not ends[-2], "a traceback of its own for each"
        assert (channel.line.out, channel.line.waiting) == (0, 0)

    run(story())


@pytest.mark.parametrize("seed", range(20))
def test_a_random_walk_loses_no_place(seed: int) -> None:
    chance = random.Random(seed)

    async def story() -> None:
        line = Line()
        line.welcome(chance.randrange(1, 6), 0.0)
        inside: set[int] = set()
        tasks: dict[int, asyncio.Task[bool]] = {}

        async def enter(number: int) -> bool:
            if line.is_full:
                if not await line.wait(now(), chance.choice([None, 0.5, 2.0])):
                    return False
            else:
                line.out += 1
            inside.add(number)
            return True

        for number in range(400):
            match chance.randrange(6):
                case 0 | 1 | 2:
                    tasks[number] = asyncio.create_task(enter(number))
                case 3 if inside:
                    inside.remove(chance.choice(sorted(inside)))
                    line.leave(now())
                case 4 if tasks:
                    tasks[chance.choice(sorted(tasks))].cancel()
                case 5:
                    await asyncio.sleep(chance.random())
            if chance.random() < 0.5:
                await turns(3)
                assert line.out == len(inside)
                living = [task for task in tasks.values() if not task.done()]
                assert line.waiting == len(living)
                assert not living or line.is_full, "somebody waits though there is a place"
        while inside or not all(task.done() for task in tasks.values()):
            if inside:
                inside.pop()
                line.leave(now())
            await turns(3)
        assert (line.out, line.waiting) == (0, 0)

    run(story())
