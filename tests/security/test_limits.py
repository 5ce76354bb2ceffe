"""What one worker may have at the same time; one that is at its limit harms nobody else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import zmq

from pgactor import Client, QueueFull
from tests.supervising import StartSupervisor, until

MEGABYTE = 1 << 20


class Flooder:
    """A stock DEALER that asks and asks."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._dealer: Any = self._context.socket(zmq.DEALER)
        self._dealer.rcvtimeo = self._dealer.sndtimeo = 30_000
        self._dealer.connect(endpoint)
        self.send(["hello", 1, "flooder", 0, ""])
        self.epoch = self.receive()[0][2]

    def send(self, *messages: list[Any]) -> None:
        self._dealer.send(msgspec.msgpack.encode(messages))

    def receive(self) -> list[Any]:
        frame: list[Any] = msgspec.msgpack.decode(self._dealer.recv())
        return frame

    def replies(self, count: int) -> dict[int, Any]:
        """So many replies, by their ids."""
        found: dict[int, Any] = {}
        while len(found) < count:
            for message in self.receive():
                assert message[1] not in found
                found[message[1]] = message
        return found

    def close(self) -> None:
        self._context.destroy(0)


def refused(replies: dict[int, Any], setting: str) -> list[int]:
    """The ids of those that were refused; each says by which limit."""
    found = [reply for reply in replies.values() if reply[0] == "failed"]
    for reply in found:
        assert reply[2] == "queue_full"
        assert setting in reply[3]
    return sorted(reply[1] for reply in found)


def test_requests_over_the_limit_are_refused_and_the_others_served(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=2, pool={"max_requests_per_worker": 10})
    with Client(supervisor.ipc) as friend:
        friend.fetchval("select 0")
        flooder = Flooder(supervisor.ipc)
        try:
            flooder.send(*(["execute", number, flooder.epoch, 30.0, "select pg_sleep(0.2)"] for number in range(30)))
            assert friend.fetchval("select 1") == 1
            replies = flooder.replies(30)
            assert refused(replies, "(max_requests_per_worker)") == list(range(10, 30))
            flooder.send(*(["fetch", number, flooder.epoch, 30.0, "select 1"] for number in range(100, 110)))
            assert refused(flooder.replies(10), "") == []
        finally:
            flooder.close()


def test_bytes_over_the_limit_are_refused_and_free_again_with_the_answers(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=1, pool={"max_bytes_per_worker": 4 * MEGABYTE})
    text = "x" * MEGABYTE
    with Client(supervisor.ipc) as friend:
        flooder = Flooder(supervisor.ipc)
        try:
            for number in range(20):  # a frame each
                flooder.send(["fetch", number, flooder.epoch, 30.0, "select length($1::text), pg_sleep(0.3)", [text]])
            assert friend.fetchval("select 1") == 1
            replies = flooder.replies(20)
            served = sorted(set(range(20)) - set(refused(replies, "(max_bytes_per_worker)")))
            assert 3 in (len(served), len(served) - 1), "four frames of a megabyte and a little are too many"
            flooder.send(["fetch", 100, flooder.epoch, 30.0, "select length($1::text)", [text]])
            assert refused(flooder.replies(1), "") == []
        finally:
            flooder.close()


def test_leases_over_the_limit_are_refused_and_others_get_theirs(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=4, pool={"max_leases_per_worker": 2})
    with Client(supervisor.ipc) as greedy, Client(supervisor.ipc) as friend:
        first, second = greedy.acquire(), greedy.acquire()
        with pytest.raises(QueueFull, match=r"holds 2 leases and waits for 0.*\(max_leases_per_worker\)"):
            greedy.acquire()
        with friend.acquire() as lease:
            assert lease.fetchval("select 1") == 1
        first.release()
        with greedy.acquire() as third:
            assert third.fetchval("select 3") == 3
        second.release()


def test_waiting_for_leases_counts_too(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=1, pool={"max_leases_per_worker": 3})
    flooder = Flooder(supervisor.ipc)
    try:
        flooder.send(*(["acquire", number, flooder.epoch, 0.5, 30.0] for number in range(6)))
        replies = flooder.replies(6)
        assert replies[0][0] == "granted"
        by_limit = [number for number, reply in replies.items() if reply[0] == "failed" and reply[2] == "queue_full"]
        assert sorted(by_limit) == [3, 4, 5]
        assert {replies[1][2], replies[2][2]} == {"pool_timeout"}
    finally:
        flooder.close()


def test_on_tcp_who_says_more_than_can_be_heard_is_disconnected(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=1)
    with Client(supervisor.tcp) as friend:
        flooder = Flooder(supervisor.tcp)
        try:
            for _ in range(20):
                flooder.send(*[["heartbeat", []]] * 30_000)
            until(lambda: "of its messages are not heard yet" in supervisor.log.read_text())
            assert friend.fetchval("select 1") == 1
        finally:
            flooder.close()
