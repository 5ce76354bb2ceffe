"""Many processes that listen by one connection; and those that die, or fork."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.endtoend.processes import StartSupervisor, StartWorker, ask, state_of
from tests.supervising import SupervisorProcess, until

CHANNELS = 10
NOTES = 100


def listening(supervisor: SupervisorProcess) -> tuple[int, int]:
    """How many subscriptions there are, and channels that are listened to."""
    counters = state_of(supervisor.ipc).counters
    return counters["subscriptions"], counters["channels"]


SEND = "select count(pg_notify($1 || n % $2, n::text)) from generate_series($3::int, $4::int) n"


@pytest.mark.parametrize(("road", "workers"), [("ipc", 100), ("tcp", 30)])
def test_100_workers_get_each_notification_once_in_order_by_one_connection(
    dsn: str, start_supervisor: StartSupervisor, start_worker: StartWorker, road: str, workers: int
) -> None:
    name = f"listening-{os.getpid()}-{road}"
    supervisor = start_supervisor(max_size=2, connect={"server_settings": {"application_name": name}})
    farm = start_worker(
        """
        import pgactor
        os.nice(10)  # a hundred processes that wake at once would leave nothing to the tests beside
        prefix, workers, channels, notes = sys.argv[1], *map(int, sys.argv[2:])
        names = [f"{prefix} {number}" for number in range(channels)]

        def work():
            with pgactor.Client(connect_timeout=60) as client, client.listen(*names) as subscription:
                for number in range(notes):
                    note = subscription.get(60)
                    expected = (names[number % channels], str(number), "")
                    assert note and (note.channel, note.payload, note.gap) == expected, (note, number)
                assert subscription.get(0.1) is None

        children = [fork(work) for _ in range(workers)]
        say([status_of(pid) for pid in children])
        """,
        getattr(supervisor, road),
        *(name, workers, CHANNELS, NOTES),
    )
    until(lambda: listening(supervisor) == (workers * CHANNELS, CHANNELS), seconds=60)
    for first in range(0, NOTES, 50):
        ask(dsn, SEND, f"{name} ", CHANNELS, first, first + 49)
    connections = ask(dsn, "select query from pg_stat_activity where application_name = $1", name)
    assert sum("LISTEN" in row["query"] for row in connections) == 1
    assert len(connections) <= 3
    assert farm.hear(seconds=60) == [0] * workers
    farm.must_end_well()
    counters = state_of(supervisor.ipc).counters
    assert (counters["notifications"], counters["notifications_sent"]) == (NOTES, NOTES * workers)
    until(lambda: state_of(supervisor.ipc).counters["subscriptions"] == 0)


SUBSCRIBER = """
    import pgactor
    client = pgactor.Client()
    with client.listen(sys.argv[1]) as subscription:
        say("ready")
        while word := hear():
            note = subscription.get(10)
            say(note and note.payload)
    """


def test_a_worker_that_is_killed_is_unsubscribed(
    dsn: str, start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor()
    one, other = (start_worker(SUBSCRIBER, supervisor.ipc, "killed") for _ in range(2))
    assert (one.hear(), other.hear()) == ("ready", "ready")
    assert state_of(supervisor.ipc).counters["subscriptions"] == 2
    one.signal(signal.SIGKILL)
    until(lambda: state_of(supervisor.ipc).counters["subscriptions"] == 1)
    other.tell("next")
    ask(dsn, "select pg_notify('killed', 'for the other')")
    assert other.hear() == "for the other"


def test_a_forked_child_does_not_get_its_parent_s_notes(
    dsn: str, start_supervisor: StartSupervisor, start_worker: StartWorker
) -> None:
    supervisor = start_supervisor()
    worker = start_worker(
        """
        import pgactor
        client = pgactor.Client()
        subscription = client.listen("forks", "others")
        subscription.__enter__()
        client.status()
        say("ready")
        hear()
        client.status()  # it has read the first note, and keeps it

        def child():
            try:
                subscription.get(1)
            except pgactor.ClientError as error:
                say(str(error))
            with client.listen("forks") as own:
                say(client.status().counters["subscriptions"])
                say(own.get(10).payload)
            subscription.close()  # which is nothing to the parent's

        pid = fork(child)
        say([subscription.get(10).payload for _ in range(3)])
        assert status_of(pid) == 0
        subscription.close()
        say(client.status().counters["subscriptions"])
        """,
        supervisor.ipc,
    )
    assert worker.hear() == "ready"
    ask(dsn, "select pg_notify('forks', 'before the fork')")
    until(lambda: state_of(supervisor.ipc).counters["notifications"] == 1)
    worker.tell()
    assert "belongs to the parent" in worker.hear()
    assert worker.hear() == 3
    ask(dsn, "select pg_notify('forks', 'for both')")
    heard = [worker.hear()]
    until(lambda: state_of(supervisor.ipc).counters["subscriptions"] == 2)
    ask(dsn, "select pg_notify('others', 'for the parent')")
    heard.append(worker.hear())
    assert sorted(heard, key=json.dumps) == ["for both", ["before the fork", "for both", "for the parent"]]
    assert worker.hear() == 0
    worker.must_end_well()
