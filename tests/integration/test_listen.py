"""LISTEN for all workers on one connection: who hears what, in which order, and what is told when some was missed."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest

from pgactor import ClientClosed, DatabaseUnavailable, Note, PoolClosing, SupervisorUnavailable
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor, linked, outcome
from tests.supervising import until

pytestmark = pytest.mark.either_lane

LOST = "the connection that listens is lost"

_numbers = itertools.count(1)
_threads = ThreadPoolExecutor(4, thread_name_prefix="listener")


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    """With two connections for statements and leases."""
    return launch(max_size=2, pool={"reopen_backoff_seconds": 0.02})


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    """Of a supervisor that nobody else is subscribed at any more."""
    client = open_client(supervisor, kind)
    until(lambda: counters(client) == (0, 0))
    return client


@pytest.fixture
def channel() -> str:
    """A channel of the test's own."""
    return f"pgactor {os.getpid()} {next(_numbers)}"


def get(subscription: Driven, count: int, *, seconds: float = 10.0) -> list[Note]:
    """The next notes."""
    found: list[Note] = []
    for _ in range(count):
        note = subscription.get(timeout=seconds)
        assert note is not None, f"nothing came after {found[-3:]}"
        found.append(note)
    return found


def nothing_comes(subscription: Driven) -> bool:
    return subscription.get(timeout=0.1) is None


def listening(supervisor: WatchedSupervisor, db: Driven) -> list[int]:
    """PostgreSQL's processes whose last statement was a LISTEN."""
    return [pid for pid, query in supervisor.backends(db).items() if "LISTEN" in query]


def notify(db: Driven, channel: str, *payloads: str) -> int:
    """Have asyncpg send; returns the pid that does."""
    for payload in payloads:
        db.execute("select pg_notify($1, $2)", channel, payload)
    return int(db.fetchval("select pg_backend_pid()"))


def counters(client: Driven) -> tuple[int, int]:
    """How many subscriptions there are, and channels that are listened to."""
    found = client.status().counters
    return found["subscriptions"], found["channels"]


@contextmanager
def a_gap(supervisor: WatchedSupervisor, db: Driven) -> Iterator[None]:
    """The connection that listens is lost, and there is another at the end."""
    (pid,) = listening(supervisor, db)
    losses = supervisor.log.read_text().count(LOST)
    assert db.fetchval("select pg_terminate_backend($1)", pid)
    until(lambda: supervisor.log.read_text().count(LOST) > losses)
    yield
    until(lambda: listening(supervisor, db))


# --- what is heard ------------------------------------------------------------------------------------------


def test_a_note_tells_the_channel_the_payload_and_who_has_sent_it(client: Driven, db: Driven, channel: str) -> None:
    with client.listen(channel) as subscription:
        pid = notify(db, channel, "hello", "")
        assert get(subscription, 2) == [Note(channel, "hello", pid), Note(channel, "", pid)]
        assert nothing_comes(subscription)


def test_a_client_notifies_those_who_listen_itself_among_them(client: Driven, channel: str) -> None:
    with client.listen(channel) as subscription:
        client.notify(channel, "payload")
        client.notify(channel)
        assert [(note.channel, note.payload, note.gap) for note in get(subscription, 2)] == [
            (channel, "payload", ""),
            (channel, "", ""),
        ]


def test_a_notification_of_a_transaction_comes_when_it_is_committed(client: Driven, channel: str) -> None:
    with client.listen(channel) as subscription:
        with client.acquire() as lease:
            transaction = lease.transaction()
            transaction.start()
            lease.notify(channel, "undone")
            transaction.rollback()
            transaction = lease.transaction()
            transaction.start()
            lease.notify(channel, "done")
            assert nothing_comes(subscription)
            transaction.commit()
        assert [note.payload for note in get(subscription, 1)] == ["done"]


def test_names_of_channels_are_exact(client: Driven, db: Driven, channel: str) -> None:
    names = [
        f"{channel} Ab",
        f"{channel} ab",
        f'{channel}";drop',
        f"{channel} ü€",
        "x" * (63 - len(channel)) + channel,
    ]
    with client.listen(*names) as subscription:
        for name in names:
            notify(db, name, name)
        notify(db, f"{channel} AB", "nobody's")
        assert [(note.channel, note.payload) for note in get(subscription, len(names))] == [(n, n) for n in names]
        assert nothing_comes(subscription)


@pytest.mark.parametrize("name", ["x" * 64, "ü" * 32, "a\0b"])
def test_a_name_that_cannot_be_a_channels_is_refused_where_it_is_given(client: Driven, name: str) -> None:
    with pytest.raises(ValueError, match="a channel's name"):
        client.listen(name)


def test_what_listen_is_given_is_checked(client: Driven) -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        client.listen()
    with pytest.raises(TypeError, match="expected to be a str, not int"):
        client.listen(1)
    with pytest.raises(ValueError, match="buffer_size"):
        client.listen("a", buffer_size=0)
    with pytest.raises(ValueError, match="invalid timeout"):
        client.listen("a", timeout="soon")


def test_what_postgresql_refuses_is_raised_as_asyncpg_does(client: Driven, db: Driven, channel: str) -> None:
    ours = outcome(client.listen("").__enter__)
    theirs = outcome(lambda: db.add_listener("", print))
    assert ours[:3] == theirs[:3]
    assert ours[1] is asyncpg.PostgresSyntaxError
    with client.listen(channel) as subscription:  # the others go on
        notify(db, channel, "1")
        assert len(get(subscription, 1)) == 1


@pytest.mark.parametrize(("name", "payload"), [("a", "x" * 8000), ("x" * 64, ""), ("", ""), ("a", "\0"), ("a", 1)])
def test_errors_of_notify_are_postgresqls(client: Driven, db: Driven, name: str, payload: Any) -> None:
    ours = outcome(lambda: client.notify(name, payload))
    theirs = outcome(lambda: db.execute("select pg_notify($1, $2)", name, payload))
    assert ours == theirs
    assert ours[0] == "raised"


def test_a_payload_may_have_7999_bytes(client: Driven, channel: str) -> None:
    with client.listen(channel) as subscription:
        client.notify(channel, "x" * 7999)
        assert get(subscription, 1)[0].payload == "x" * 7999


def test_notes_come_in_the_order_in_which_they_were_committed(client: Driven, db: Driven, channel: str) -> None:
    with client.listen(f"{channel} 0", f"{channel} 1", f"{channel} 2") as subscription:
        sql = "select count(pg_notify($1 || ' ' || n % 3, n::text)) from generate_series($2::int, $3) n"
        for first in range(0, 3000, 500):
            db.execute(sql, channel, first, first + 499)
        found = get(subscription, 3000)
        assert [int(note.payload) for note in found] == list(range(3000))
        assert nothing_comes(subscription)


def test_get_waits_so_long_and_no_longer(client: Driven, channel: str) -> None:
    with client.listen(channel) as subscription:
        assert subscription.get(timeout=0) is None
        assert subscription.get(timeout=0.05) is None
        sent = client.status().counters["notifications_sent"]
        client.notify(channel, "1")
        until(lambda: client.status().counters["notifications_sent"] == sent + 1)
        assert get(subscription, 1, seconds=0.0)[0].payload == "1"


def test_a_loop_ends_when_nothing_comes_for_its_timeout(client: Driven, db: Driven, channel: str) -> None:
    found: list[str] = []

    async def loop_of_async(client: Any) -> None:
        found.extend([note.payload async for note in client.listen(channel, timeout=0.5)])

    def loop_of_sync() -> None:
        found.extend(note.payload for note in client.target.listen(channel, timeout=0.5))

    before = counters(client)
    ended = client.loop.start(loop_of_async(client.target)) if client.loop else _in_a_thread(loop_of_sync)
    until(lambda: counters(client) == (before[0] + 1, before[1] + 1))
    notify(db, channel, "1", "2")
    ended.result(10)
    assert found == ["1", "2"]


def _in_a_thread(work: Callable[[], Any]) -> Future[Any]:
    return _threads.submit(work)


# --- who hears it -------------------------------------------------------------------------------------------


def test_one_connection_beside_the_pool_listens_for_everybody(
    supervisor: WatchedSupervisor, open_client: OpenClient, kind: str, db: Driven, channel: str
) -> None:
    clients = [open_client(supervisor, kind) for _ in range(3)]
    subscriptions = [each.listen(channel, f"{channel} {number}") for number, each in enumerate(clients)]
    for subscription in subscriptions:
        subscription.__enter__()
    assert len(listening(supervisor, db)) == 1
    with clients[0].acquire(), clients[1].acquire():  # all there are
        assert len(supervisor.backends(db)) == 3
        notify(db, channel, "1", "2", "3")
        for number, subscription in enumerate(subscriptions):
            notify(db, f"{channel} {number}", "own")
            assert [note.payload for note in get(subscription, 4)] == ["1", "2", "3", "own"]
            assert nothing_comes(subscription)
    for subscription in subscriptions:
        subscription.close()


def test_subscriptions_of_one_client_are_each_other_s_equals(client: Driven, db: Driven, channel: str) -> None:
    with client.listen(channel) as one:
        with client.listen(channel, channel) as other:
            notify(db, channel, "both")
            assert [note.payload for note in get(one, 1) + get(other, 1)] == ["both", "both"]
            assert nothing_comes(one)
            assert nothing_comes(other)
        notify(db, channel, "one")
        assert [note.payload for note in get(one, 1)] == ["one"]


def test_a_closed_subscription_hears_nothing_and_costs_nothing(client: Driven, db: Driven, channel: str) -> None:
    before = counters(client)
    subscription = client.listen(channel)
    assert counters(client) == before  # it has not begun
    with subscription:
        assert counters(client) == (before[0] + 1, before[1] + 1)
        notify(db, channel, "unread")
    assert counters(client)[0] == before[0]
    until(lambda: counters(client) == before)
    with pytest.raises(ClientClosed, match="the subscription is closed"):
        subscription.get()
    subscription.close()
    assert "closed" in repr(subscription.target)


def test_a_client_that_is_closed_is_unsubscribed(
    supervisor: WatchedSupervisor, open_client: OpenClient, kind: str, client: Driven, channel: str
) -> None:
    before = counters(client)
    leaving = open_client(supervisor, kind)
    subscription = leaving.listen(channel)
    subscription.__enter__()
    leaving.listen(channel).__enter__()
    waiting = subscription.begin("get")
    assert counters(client) == (before[0] + 2, before[1] + 1)
    leaving.close()
    with pytest.raises(ClientClosed):
        waiting.result(10)
    until(lambda: counters(client) == before)


def test_a_loop_that_is_left_is_forgotten_with_the_next_note(client: Driven, db: Driven, channel: str) -> None:
    before = counters(client)

    async def loop_of_async(client: Any) -> str:
        async for note in client.listen(channel):
            return str(note.payload)
        return ""

    def loop_of_sync() -> str:
        for note in client.target.listen(channel):
            return str(note.payload)
        return ""

    ended = client.loop.start(loop_of_async(client.target)) if client.loop else _in_a_thread(loop_of_sync)
    until(lambda: counters(client) == (before[0] + 1, before[1] + 1))
    notify(db, channel, "1")
    assert ended.result(10) == "1"
    notify(db, channel, "2")
    until(lambda: counters(client) == before)


def test_an_unsubscribed_channel_can_be_listened_to_again_at_once(client: Driven, db: Driven, channel: str) -> None:
    for number in range(20):
        with client.listen(channel) as subscription:
            notify(db, channel, str(number))
            assert [note.payload for note in get(subscription, 1)] == [str(number)]


# --- gaps ---------------------------------------------------------------------------------------------------


def test_a_lost_connection_is_a_gap_of_each_channel_and_then_notes_come_again(
    supervisor: WatchedSupervisor, client: Driven, db: Driven, channel: str
) -> None:
    channels = [f"{channel} a", f"{channel} b"]
    with client.listen(*channels) as subscription, client.listen(channels[0]) as other:
        notify(db, channels[0], "before")
        assert [note.payload for note in get(subscription, 1) + get(other, 1)] == ["before", "before"]
        with a_gap(supervisor, db):
            pass
        gaps = get(subscription, 2)
        assert [(note.channel, note.payload, note.pid) for note in gaps] == [(name, "", 0) for name in channels]
        assert all("the connection that listens was lost" in note.gap for note in gaps)
        assert [bool(note.gap) for note in get(other, 1)] == [True]
        notify(db, channels[1], "after")  # whoever was told of the gap misses nothing from then on
        assert [(note.channel, note.payload, note.gap) for note in get(subscription, 1)] == [
            (channels[1], "after", "")
        ]
        assert nothing_comes(subscription)
        assert nothing_comes(other)


def test_whoever_subscribes_after_the_loss_is_told_of_no_gap(
    supervisor: WatchedSupervisor, open_client: OpenClient, client: Driven, db: Driven, channel: str
) -> None:
    late = open_client(supervisor, "sync-ipc")
    late.status()
    with client.listen(channel) as subscription, a_gap(supervisor, db), late.listen(channel) as newcomer:
        assert get(subscription, 1)[0].gap
        notify(db, channel, "1")
        assert [note.payload for note in get(newcomer, 1)] == ["1"]


def test_expiring_all_connections_replaces_the_one_that_listens(
    supervisor: WatchedSupervisor, client: Driven, db: Driven, channel: str
) -> None:
    with client.listen(channel) as subscription:
        (pid,) = listening(supervisor, db)
        client.expire_connections()
        assert get(subscription, 1)[0].gap
        until(lambda: len(listening(supervisor, db)) == 1)
        assert listening(supervisor, db) != [pid]


def test_a_slow_subscriber_loses_the_oldest_notes_and_is_told(client: Driven, db: Driven, channel: str) -> None:
    with client.listen(channel, buffer_size=10) as subscription, client.listen(channel) as patient:
        notify(db, channel, *map(str, range(100)))
        assert [note.payload for note in get(patient, 100)] == [str(n) for n in range(100)]
        (gap, *rest) = get(subscription, 11)
        assert gap == Note(channel, gap="90 were dropped: they were not taken quickly enough")
        assert [note.payload for note in rest] == [str(n) for n in range(90, 100)]
        notify(db, channel, "100")
        assert [note.payload for note in get(subscription, 1)] == ["100"]


def test_a_worker_that_does_not_read_is_told_of_a_gap_and_does_not_fill_the_supervisor(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, channel: str
) -> None:
    client, observer = (open_client(supervisor, "sync-ipc") for _ in range(2))
    sql = "select count(pg_notify($1, lpad(n::text, 7000, '0'))) from generate_series($2::int, $3) n"
    with client.listen(channel, buffer_size=100_000) as subscription:
        before = observer.status().counters["notifications"]
        for first in range(0, 3000, 500):
            db.execute(sql, channel, first, first + 499)
        until(lambda: observer.status().counters["notifications"] == before + 3000)
        found = [get(subscription, 1)[0]]
        while not found[-1].gap:
            found += get(subscription, 1)
        kept = [int(note.payload[-10:]) for note in found[:-1]]
        assert kept == list(range(len(kept)))
        assert 4 * 1024**2 / 7100 < len(kept) < 2500
        notify(db, channel, "-1")
        assert [note.payload for note in get(subscription, 1)] == ["-1"]


def test_a_client_subscribes_again_when_the_supervisor_was_restarted(
    start: Launch, open_client: OpenClient, kind: str, db: Driven, channel: str
) -> None:
    supervisor = start()
    client = open_client(supervisor, kind)
    with client.listen(channel) as subscription:
        notify(db, channel, "before")
        assert get(subscription, 1)[0].payload == "before"
        waiting = subscription.begin("get")
        supervisor.stop(signal.SIGKILL)
        assert subscription.get(timeout=0.3) is None
        supervisor.start()
        note = waiting.result(20)
        assert note == Note(channel, gap="the link to the supervisor was lost, and there is a new one")
        notify(db, channel, "after")
        assert [each.payload for each in get(subscription, 1)] == ["after"]
        assert client.status().counters["subscriptions"] == 1


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_without_a_supervisor_the_first_note_asked_for_is_an_error(
    start: Launch, open_client: OpenClient, kind: str
) -> None:
    supervisor = start()
    supervisor.stop()
    client = open_client(supervisor, kind, connect_timeout=0.3)
    with pytest.raises(SupervisorUnavailable):
        client.listen("a").get()
    with pytest.raises(SupervisorUnavailable):
        client.listen("a").__enter__()


def test_without_a_database_listening_is_refused_after_the_grace_period(
    start: Launch, open_client: OpenClient, kind: str
) -> None:
    unreachable = "postgresql://postgres@127.0.0.1:1/postgres"
    supervisor = start(dsn=unreachable, pool={"database_grace_seconds": 0.2, "reopen_backoff_seconds": 0.05})
    client = open_client(supervisor, kind)
    with pytest.raises(DatabaseUnavailable, match="no connection that listens could be opened"):
        client.listen("a").__enter__()
    hasty = linked(open_client(supervisor, kind, request_timeout=0.05))
    with pytest.raises((DatabaseUnavailable, PoolClosing)):
        hasty.listen("a").__enter__()
    assert counters(client) == (0, 0)


# --- leases -------------------------------------------------------------------------------------------------


def test_listeners_of_a_lease_are_not_heard_by_its_next_owner(
    start: Launch, open_client: OpenClient, kind: str, db: Driven, channel: str
) -> None:
    client = open_client(start(max_size=1), kind)
    heard: list[Any] = []
    lease = client.acquire()
    lease.add_listener(channel, lambda *arguments: heard.append(arguments))
    notify(db, channel, "mine")
    until(lambda: lease.execute("select 1") and heard)
    with pytest.warns(asyncpg.InterfaceWarning, match="has 1 active notification listener"):
        client.release(lease.target)
    with client.acquire() as lease:
        assert lease.fetch("select * from pg_listening_channels()") == []
        lease.add_listener(channel, print_nothing)
        notify(db, channel, "next")
        until(lambda: client.status().counters)
        lease.remove_listener(channel, print_nothing)
    assert [payload for *_, payload in heard] == ["mine"]


def print_nothing(*_: object) -> None:
    """A listener."""


def test_a_blocking_lease_calls_its_listeners_when_a_call_returns_and_while_it_waits_for_notes(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, channel: str
) -> None:
    client = open_client(supervisor, "sync-ipc").target
    heard: list[Any] = []

    def listener(*arguments: Any) -> None:
        heard.append(arguments)

    with client.acquire() as lease:
        lease.add_listener(channel, listener)
        pid = notify(db, channel, "1", "2")
        assert heard == []
        notes = lease.notifications(5)
        assert [next(notes), next(notes)] == [Note(channel, "1", pid), Note(channel, "2", pid)]
        assert heard == [(lease, pid, channel, "1"), (lease, pid, channel, "2")]
        lease.execute(f"notify \"{channel}\", '3'")
        assert heard[2:] == [(lease, lease.backend_pid, channel, "3")]
        assert [note.payload for note in lease.notifications(0.05)] == ["3"]
        lease.remove_listener(channel, listener)
        notify(db, channel, "4")
        lease.execute("select 1")
        assert len(heard) == 3


def test_a_listener_of_a_blocking_lease_that_raises_is_logged(
    supervisor: WatchedSupervisor, open_client: OpenClient, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = open_client(supervisor, "sync-ipc").target

    def listener(*_: Any) -> None:
        raise LookupError("of the listener's own")

    async def coroutine(*_: Any) -> None:
        """Nobody could run it."""

    with client.acquire() as lease:
        with pytest.raises(asyncpg.InterfaceError, match="cannot await"):
            lease.add_listener(channel, coroutine)
        lease.add_listener(channel, listener)
        lease.notify(channel)
        assert lease.fetchval("select 1") == 1
        assert "of the listener's own" in caplog.text
        lease.remove_listener(channel, listener)


def test_waiting_for_a_lease_s_notes_ends_with_the_lease(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, channel: str
) -> None:
    client = open_client(supervisor, "sync-ipc").target
    lease = client.acquire()
    lease.add_listener(channel, print_nothing)
    ended = _in_a_thread(lambda: list(lease.notifications()))
    db.fetchval("select pg_terminate_backend($1)", lease.backend_pid)
    assert type(ended.exception(10)).__name__ == "LeaseLost"
    lease.release()  # without a warning: asyncpg forgets the listeners of a connection that is lost, too
