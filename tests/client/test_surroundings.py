"""What surrounds a request: labels and deadlines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

import pgactor
from pgactor import AsyncClient, Client, RequestTimeout
from pgactor.client import calls
from pgactor.client.surroundings import LABEL_LENGTH, surroundings
from pgactor.messages import Acquire, Batch, Execute, Failed, Fetch
from pgactor.messages.pool import Status
from pgactor.wire import encode_message

from .memory import ENDPOINT, MemorySupervisor, done


@pytest.fixture
def client(supervisor: MemorySupervisor) -> Iterator[Client]:
    with Client(ENDPOINT, request_timeout=None) as client:
        yield client


def test_nothing_surrounds_a_request_by_itself() -> None:
    assert surroundings.get() is None
    assert pgactor.label.get() == ""
    assert pgactor.deadline.remaining() is None


def test_the_innermost_label_holds_until_its_block_ends() -> None:
    with pgactor.label("outer"):
        assert pgactor.label.get() == "outer"
        with pgactor.label("inner"):
            assert pgactor.label.get() == "inner"
            with pgactor.label(""):
                assert pgactor.label.get() == ""
        assert pgactor.label.get() == "outer"
    assert surroundings.get() is None


def test_a_label_may_be_set_where_there_is_no_block() -> None:
    before = pgactor.label.set("a task")
    deadline = pgactor.deadline.set(60)
    try:
        assert pgactor.label.get() == "a task"
        pgactor.label.reset(before)
        assert pgactor.label.get() == ""
        assert 59 < (pgactor.deadline.remaining() or 0) <= 60  # another's end does not matter to it
    finally:
        pgactor.deadline.reset(deadline)
    assert surroundings.get() is None


def test_the_deadline_that_ends_first_holds() -> None:
    with pgactor.deadline(60):
        with pgactor.deadline(600):
            assert 59 < (pgactor.deadline.remaining() or 0) <= 60
        with pgactor.deadline(5):
            assert 4 < (pgactor.deadline.remaining() or 0) <= 5
        assert 59 < (pgactor.deadline.remaining() or 0) <= 60


@pytest.mark.parametrize("wrong", [None, 3, b"bytes"])
def test_what_is_no_label_is_refused_where_it_is_given(wrong: object) -> None:
    with pytest.raises(TypeError, match="a label is expected to be a str"):
        pgactor.label(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a label is expected to be Unicode"):
        pgactor.label("\ud800")


def test_what_is_no_deadline_is_refused_where_it_is_given() -> None:
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="greater or equal to zero"):
            pgactor.deadline(wrong)
    for strange in ("5", None, True):
        with pytest.raises(TypeError, match="a number of seconds"):
            pgactor.deadline(strange)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"what pgactor\.deadline\.set"):
        pgactor.deadline.reset("x")
    with pytest.raises(TypeError, match=r"what pgactor\.label\.set"):
        pgactor.label.reset(None)


def test_a_thread_has_its_own() -> None:
    seen: list[str] = []
    with pgactor.label("of the first"):
        thread = threading.Thread(target=lambda: seen.append(pgactor.label.get()))
        thread.start()
        thread.join()
    assert seen == [""]


def test_a_task_has_its_own_and_begins_with_those_of_its_maker() -> None:
    async def child() -> str:
        before = pgactor.label.get()
        pgactor.label.set("the child's")
        await asyncio.sleep(0)
        return before

    async def story() -> None:
        with pgactor.label("the parent's"):
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
            assert pgactor.label.get() == "the parent's"
            assert await task == "the parent's"
            assert pgactor.label.get() == "the parent's"

    asyncio.run(story())


def test_each_request_made_within_carries_the_label() -> None:
    requests = [
        calls.execute("x", (), None, None),
        calls.executemany("x", [], None, None),
        calls.fetch("x", (), None, None),
        calls.fetchmany("x", [], None, None),
        calls.batch(["x"], None),
        calls.acquire(None, None),
    ]
    with pgactor.label("nightly report"):
        around = surroundings.get()
        assert around is not None
        for request in requests:
            around.mark(request)
            assert getattr(request, "label") == "nightly report"  # noqa: B009
        around.mark(calls.status())  # it has none, and needs none


def test_a_label_that_is_too_long_is_cut() -> None:
    with pgactor.label("x" * 1000):
        assert pgactor.label.get() == "x" * LABEL_LENGTH


def test_a_request_is_a_byte_longer_for_each_of_a_label_a_trace_and_a_wait_that_it_has_not() -> None:
    for request in (Execute(0, 0, None, "x"), Fetch(0, 0, None, "x"), Batch(0, 0, None, [])):
        assert encode_message(request)[-3:] == b"\xa0\xa0\x00"
    assert Acquire(0, 0, None).label == ""


def test_the_clients_send_what_surrounds_the_call(supervisor: MemorySupervisor) -> None:
    async def story() -> None:
        async with AsyncClientOf(supervisor) as client:
            link = supervisor.aiolinks[0]
            link.answer = done
            with pgactor.label("async"), pgactor.deadline(60):
                await client.execute("x")
                await client.execute("y", timeout=5)
            await client.execute("z")
            x, y, z = [each for each in link.requests if isinstance(each, Execute)]
            assert (x.label, y.label, z.label) == ("async", "async", "")
            assert x.timeout is not None
            assert 50 < x.timeout <= 60
            assert (y.timeout, z.timeout) == (5, None)

    asyncio.run(story())


class AsyncClientOf:
    """A client whose supervisor knows no state to tell."""

    def __init__(self, supervisor: MemorySupervisor) -> None:
        self._client = AsyncClient(ENDPOINT, request_timeout=None)
        self._supervisor = supervisor

    async def __aenter__(self) -> AsyncClient:
        await self._client._channel("connect").connected(None)
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


def test_a_blocking_client_does_so_too(supervisor: MemorySupervisor, client: Client) -> None:
    def call() -> None:
        with pgactor.label("sync"), pgactor.deadline(60):
            client.execute("x")

    caller = threading.Thread(target=call)
    caller.start()
    link = supervisor.next_link()
    request = link.next_request()
    assert isinstance(request, Execute)
    assert request.label == "sync"
    assert request.timeout is not None
    assert 50 < request.timeout <= 60
    answer = done(request)
    assert answer is not None
    link.say(answer)
    caller.join(10)


def test_what_is_asked_after_the_deadline_is_not_sent(supervisor: MemorySupervisor, client: Client) -> None:
    with pgactor.deadline(0):
        for call in (lambda: client.execute("x"), client.acquire, lambda: client.batch(["x"]), client.status):
            with pytest.raises(RequestTimeout, match=r"deadline of the surrounding block \(0 s\) ran out before"):
                call()
    assert not supervisor.links


def test_a_request_that_the_deadline_ends_says_so_and_one_that_ends_by_itself_does_not(
    supervisor: MemorySupervisor, client: Client
) -> None:
    def outcome(timeout: float | None, seconds: float) -> str:
        try:
            with pgactor.deadline(seconds):
                client.execute("x", timeout=timeout)
        except RequestTimeout as error:
            return str(error)
        return "it did not time out"

    told: list[str] = []
    caller = threading.Thread(target=lambda: told.extend([outcome(None, 0.05), outcome(0.05, 60)]))
    caller.start()
    link = supervisor.next_link()
    for _ in range(2):
        request = link.next_request()
        assert request.timeout is not None
        threading.Event().wait(request.timeout)
        link.say(Failed(request.id, "request_timeout", "the statement was cancelled"))
    caller.join(10)
    assert told == [
        "the deadline of the surrounding block (0.05 s) ran out: the statement was cancelled",
        "the statement was cancelled",
    ]


def test_a_status_is_bounded_too() -> None:
    request = calls.status()
    assert isinstance(request, Status)
    with pgactor.deadline(5):
        around = surroundings.get()
        assert around is not None
        around.mark(request)
        around.mark(calls.listen(["a"], None))
    assert request.timeout is not None
    listening = calls.listen(["a"], None)
    around.mark(listening)
    assert listening.timeout is None
