"""Timeouts, cancels and deaths while many statements stand one behind the other on one backend: each hits whom it is
meant for. The same with every statement on its own, by asyncpg (`statement_lane = "off"`)."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from pgactor import OutcomeUnknown, RequestTimeout
from pgactor.actors.embedded import embedded_postgres
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor
from tests.integration.lanes import (
    DEEP,
    GATES,
    LANES,
    QUICK_COMMIT,
    deepest,
    line_up,
    new_key,
    results,
    schema_of_gates,
    shut_gate,
    together,
    train,
)
from tests.supervising import until

PLACES = (0, 1, 9)
LENGTH = 11

pytestmark = [
    pytest.mark.either_lane,
    pytest.mark.xdist_group("in flight"),  # the last test judges what the others did, in one process
]

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def supervisor(launch: Launch, lane: str) -> WatchedSupervisor:
    return launch(max_size=1, pool={"statement_lane": lane, **DEEP}, connect=QUICK_COMMIT)


@pytest.fixture(scope="module")
def gates(db: Driven) -> Iterator[str]:
    with schema_of_gates(db, "pgactor_in_flight") as schema:
        yield schema


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    return open_client(supervisor, "async-ipc")


@pytest.fixture(params=["gate", "put"], ids=["reads", "writes"])
def sql(request: pytest.FixtureRequest, client: Driven, db: Driven, gates: str) -> str:
    """A statement that is known to be short, with (key, value): a text of its own for each test."""
    text = f"select {gates}.{request.param}($1, $2) -- {next(_numbers)}"
    train(client, text, 0, 0)
    db.execute(f"truncate {gates}.kept; select setval('{gates}.runs', 1000)")
    return text


def runs(db: Driven, gates: str) -> int:
    """How often a gate was run."""
    return int(db.fetchval(f"select last_value from {gates}.runs")) - 1000


def kept(db: Driven, gates: str) -> Counter[int]:
    return Counter(row["value"] for row in db.fetch(f"select value from {gates}.kept"))


def someone_waits(db: Driven, key: int) -> int:
    """PostgreSQL's process that stands at the gate, or 0."""
    sql = "select pid from pg_locks where locktype = 'advisory' and objid = $1 and not granted"
    return db.fetchval(sql, key) or 0


def wait_at_gate(db: Driven, key: int) -> int:
    """Wait until one stands at the gate; returns PostgreSQL's process."""
    until(lambda: someone_waits(db, key))
    return someone_waits(db, key)


def calls(sql: str, key: int, place: int) -> list[tuple[Any, ...]]:
    """So many calls, of which the one at the place stands still."""
    return [("fetchval", sql, key if number == place else 0, number) for number in range(LENGTH)]


def expected(sql: str, *missing: int) -> Counter[int]:
    return Counter(number for number in range(LENGTH) if ".put(" in sql and number not in missing)


@pytest.mark.parametrize(("place", "late"), [(place, late) for place in PLACES for late in PLACES if place <= late])
def test_a_timeout_at_any_depth_ends_no_neighbour(
    client: Driven, db: Driven, gates: str, lane: str, sql: str, place: int, late: int
) -> None:
    """The one at `place` stands still; the one at `late` has no time for that."""
    sent = calls(sql, key := new_key(), place)
    sent[late] += ({"timeout": 1.0 if late == place else 0.25},)  # it must be seen at the gate meanwhile
    with shut_gate(db, key):
        begun = line_up(client, lane, *sent)
        wait_at_gate(db, key)
        assert isinstance(begun[late].exception(10), TimeoutError)
        if late == place:
            until(lambda: not someone_waits(db, key))
    got = results(begun)
    assert [*got[:late], late, *got[late + 1 :]] == list(range(LENGTH))
    found = kept(db, gates)
    assert found - Counter([late]) == expected(sql, late)
    assert found[late] <= (late != place)
    assert runs(db, gates) <= LENGTH
    assert client.fetchval(sql, 0, 77) == 77


def test_the_head_that_is_too_late_is_cancelled_and_those_behind_it_are_not(
    client: Driven, db: Driven, gates: str, lane: str, sql: str
) -> None:
    with shut_gate(db) as key:
        begun = [client.begin("fetchval", sql, key, 0, timeout=0.3)]
        wait_at_gate(db, key)
        begun += line_up(client, lane, *calls(sql, 0, 0)[1:])
        late, *others = results(begun)  # with the gate still shut
    assert type(late) is RequestTimeout
    assert others == list(range(1, LENGTH))
    assert kept(db, gates) == expected(sql, 0)
    assert runs(db, gates) == LENGTH


def test_a_crowd_of_timeouts_leaves_the_others_alone(
    client: Driven, db: Driven, gates: str, lane: str, sql: str
) -> None:
    with shut_gate(db) as key:
        begun = [client.begin("fetchval", sql, key, 0, timeout=0.3)]
        wait_at_gate(db, key)
        begun += [client.begin("fetchval", sql, 0, n, timeout=0.25 if n % 2 else None) for n in range(1, LENGTH)]
        got = results(begun)
    assert [type(each) for each in got[::2]] == [RequestTimeout] + [int] * 5
    assert all(isinstance(each, TimeoutError) for each in got[1::2])
    found = kept(db, gates)
    assert max(found.values(), default=1) == 1
    if ".put(" in sql:
        assert set(range(2, LENGTH, 2)) <= set(found)
        assert 0 not in found


@pytest.mark.parametrize("place", PLACES)
def test_a_cancel_from_outside_reaches_the_caller_and_nothing_runs_again(
    client: Driven, db: Driven, gates: str, lane: str, sql: str, place: int
) -> None:
    with shut_gate(db) as key:
        begun = line_up(client, lane, *calls(sql, key, place))
        assert db.fetchval("select pg_cancel_backend($1)", wait_at_gate(db, key))
        got = results(begun)
    assert isinstance(got[place], asyncpg.QueryCanceledError)
    assert str(got[place]) == "canceling statement due to user request"
    assert [*got[:place], place, *got[place + 1 :]] == list(range(LENGTH))
    assert kept(db, gates) == expected(sql, place)
    assert runs(db, gates) == LENGTH


@pytest.mark.parametrize("place", PLACES)
def test_a_statement_timeout_of_postgresqls_reaches_the_caller(
    start: Launch, open_client: OpenClient, db: Driven, gates: str, lane: str, place: int
) -> None:
    settings = {"server_settings": {"statement_timeout": "300", "synchronous_commit": "off"}}
    client = open_client(start(max_size=1, pool={"statement_lane": lane, **DEEP}, connect=settings), "async-ipc")
    sql = f"select {gates}.put($1, $2)"
    train(client, sql, 0, 0)
    db.execute(f"truncate {gates}.kept; select setval('{gates}.runs', 1000)")
    with shut_gate(db) as key:
        got = results(line_up(client, lane, *calls(sql, key, place)))
    assert isinstance(got[place], asyncpg.QueryCanceledError)
    assert str(got[place]) == "canceling statement due to statement timeout"
    assert [*got[:place], place, *got[place + 1 :]] == list(range(LENGTH))
    assert kept(db, gates) == expected(sql, place)
    assert runs(db, gates) == LENGTH


@pytest.mark.parametrize("place", PLACES)
def test_a_backend_that_is_terminated_takes_only_the_one_that_ran_with_it(
    client: Driven, db: Driven, gates: str, lane: str, sql: str, place: int
) -> None:
    with shut_gate(db) as key:
        begun = line_up(client, lane, *calls(sql, key, place))
        assert db.fetchval("select pg_terminate_backend($1)", wait_at_gate(db, key))
        got = results(begun)
    # asyncpg does not tell what PostgreSQL's last words were about
    assert isinstance(got[place], asyncpg.AdminShutdownError if lane == "on" else OutcomeUnknown)
    assert [*got[:place], place, *got[place + 1 :]] == list(range(LENGTH))
    assert kept(db, gates) == expected(sql, place)
    assert runs(db, gates) == LENGTH


@pytest.mark.parametrize("place", PLACES)
def test_after_a_crash_every_request_ends_once_and_says_no_more_than_is_true(
    start: Launch, open_client: OpenClient, loop_thread: LoopThread, lane: str, place: int
) -> None:
    """On a PostgreSQL of its own: the death of one of its processes ends all of its sessions."""
    with embedded_postgres() as dsn:
        db = Driven(loop_thread.run(asyncpg.connect(dsn)), loop_thread)
        db.execute("alter system set fsync = off")  # what is written survives the process
        db.execute("select pg_reload_conf()")
        client = open_client(start(dsn=dsn, max_size=1, pool={"statement_lane": lane, **DEEP}), "async-ipc")
        db.execute("create schema crash;" + GATES.format(schema="crash"))
        sql = "select crash.put($1, $2)"
        train(client, sql, 0, 0)
        db.execute("truncate crash.kept")
        db.fetch("select pg_advisory_lock($1)", key := new_key())
        begun = line_up(client, lane, *calls(sql, key, place))
        os.kill(wait_at_gate(db, key), signal.SIGKILL)
        until(db.target.is_closed)
        got = results(begun)
        db = Driven(_connect_again(loop_thread, dsn), loop_thread)
        assert got[:place] == list(range(place))
        assert isinstance(got[place], OutcomeUnknown)
        for number, each in enumerate(got[place + 1 :], place + 1):
            assert each == number or isinstance(each, OutcomeUnknown)
        assert kept(db, "crash") == Counter(each for each in got if isinstance(each, int))
        assert client.fetchval("select 7") == 7
        db.close()


def _connect_again(loop_thread: LoopThread, dsn: str) -> Any:
    found: list[Any] = []

    def connect() -> bool:
        try:
            found.append(loop_thread.run(asyncpg.connect(dsn)))
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    until(connect)
    return found[0]


def test_under_fire_every_write_that_was_acknowledged_is_there_once(
    start: Launch, open_client: OpenClient, db: Driven, gates: str, lane: str
) -> None:
    """Backends are terminated all the while."""
    supervisor = start(max_size=4, pool={"statement_lane": lane, "reopen_backoff_seconds": 0.01})
    clients = [open_client(supervisor, kind) for kind in ("async-ipc", "async-tcp", "async-ipc")]
    db.execute(f"truncate {gates}.kept")
    insert, put, read = (
        f"insert into {gates}.kept values ($1) returning value",
        f"select {gates}.put(0, $1)",
        "select $1::int",
    )
    numbers = itertools.count(1)
    acknowledged: list[int] = []
    not_stored: list[int] = []
    unknown: list[int] = []
    strange: list[object] = []
    stop = threading.Event()

    def work(client: Driven) -> None:
        while not stop.is_set():
            sent = [(sql, next(numbers)) for sql in (insert, put, read, put, read, read, insert, put) * 3]
            got = results(together(client, *[("fetchval", *each) for each in sent]))
            for (sql, number), each in zip(sent, got, strict=True):
                if each == number:
                    acknowledged.append(number) if sql != read else None
                elif isinstance(each, asyncpg.AdminShutdownError):
                    not_stored.append(number)
                elif isinstance(each, OutcomeUnknown):
                    unknown.append(number)
                else:
                    strange.append(each)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            pids = list(supervisor.backends(db))
            before = len(acknowledged)
            db.fetch("select pg_terminate_backend(pid) from unnest($1::int[]) pid", pids[: 1 + len(pids) // 2])
            until(lambda: len(acknowledged) > before + 50 or strange)  # noqa: B023  # called at once
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert strange == []
    found = kept(db, gates)
    assert max(found.values()) == 1
    assert set(acknowledged) <= set(found)
    assert not set(not_stored) & set(found)
    assert set(found) <= set(acknowledged) | set(unknown)
    assert clients[0].status().counters["connections_lost"] >= 15


def test_all_of_this_was_tried_ten_deep() -> None:
    assert deepest[0] >= LENGTH - 1


# --- locks ------------------------------------------------------------------------------------------------


def test_who_holds_a_lease_is_not_put_behind_one_that_waits_for_it(
    start: Launch, open_client: OpenClient, db: Driven, table: str, lane: str
) -> None:
    supervisor = start(max_size=3, pool={"statement_lane": lane, **DEEP})
    owner, other = open_client(supervisor, "async-ipc"), open_client(supervisor, "async-ipc")
    update, read = f"update {table} set name = $2 where id = $1", f"select id from {table} where id = $1"
    owner.execute(f"insert into {table} values ($1)", 1)
    for client in (owner, other):
        for _ in range(3):
            client.execute(update, 1, "a")
            train(client, read, 1)
    with owner.acquire() as lease:
        lease.execute("begin")
        lease.execute(update, 1, "b")
        waiting = other.begin("execute", update, 1, "c")
        until(lambda: db.fetchval("select count(*) from pg_locks where not granted") == 1)
        assert results(together(owner, *[("fetchval", read, 1)] * 10)) == [1] * 10
        assert results(together(other, *[("fetchval", read, 1)] * 10)) == [1] * 10
        assert not waiting.done()
        lease.execute("commit")
    assert waiting.result(10) == "UPDATE 1"
    assert db.fetchval(f"select name from {table}") == "c"


def test_a_read_that_waits_for_a_lock_does_not_hold_up_the_lease_that_has_it(
    start: Launch, open_client: OpenClient, db: Driven, table: str, lane: str
) -> None:
    """The reads of both workers share backends; then the table is locked."""
    supervisor = start(max_size=3, pool={"statement_lane": lane})
    owner, other = open_client(supervisor, "async-ipc"), open_client(supervisor, "async-ipc")
    read, easy = f"select count(*) from {table}", "select $1::int"
    train(other, read)
    train(owner, easy, 1)
    with owner.acquire() as lease:
        lease.execute("begin")
        lease.execute(f"lock table {table} in access exclusive mode")
        waiting = other.begin("fetchval", read)
        until(lambda: db.fetchval("select count(*) from pg_locks where not granted") >= 1)
        assert results(together(owner, *[("fetchval", easy, n) for n in range(10)])) == list(range(10))
        assert not waiting.done()
        lease.execute("commit")
    assert waiting.result(10) == 0
