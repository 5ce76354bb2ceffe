"""A lease is exclusive use of one session: asyncpg's Connection, with an owner, a deadline and an end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import msgspec
import pytest
import zmq

from pgactor import LeaseExpired, LeaseLost, OutcomeUnknown, RequestTimeout
from pgactor.errors import PgactorError
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import (
    ALL_KINDS,
    KINDS,
    Driven,
    LoopThread,
    WatchedSupervisor,
    outcome,
    wait_for_statement,
)
from tests.supervising import until


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=4)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Iterator[Driven]:
    client = open_client(supervisor, kind)
    yield client
    until(lambda: client.status().leased == 0)


@pytest.fixture(scope="module")
def pool(dsn: str, loop_thread: LoopThread) -> Iterator[Driven]:
    """asyncpg's own pool."""
    made = loop_thread.run(_create_pool(dsn))
    yield Driven(made, loop_thread)
    loop_thread.run(made.close())


async def _create_pool(dsn: str) -> Any:
    return await asyncpg.create_pool(dsn, min_size=1, max_size=2)


# --- acquire and release ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS, indirect=True)
def test_a_lease_is_one_session_until_it_is_released(client: Driven) -> None:
    with client.acquire() as lease:
        pid = lease.fetchval("select pg_backend_pid()")
        assert pid == lease.target.backend_pid
        lease.execute("create temp table mine (id int)")
        lease.executemany("insert into mine values ($1)", [(1,), (2,)])
        assert lease.fetch("select id from mine order by id") == [(1,), (2,)]
        assert lease.fetchrow("select id from mine where id = $1", 2) == (2,)
        assert lease.fetchmany("select $1::int", [(7,), (8,)]) == [(7,), (8,)]
        status = client.status()
        assert status.leased == 1
        (holder,) = [each for each in status.holders if each.state == "leased"]
        assert (holder.lease, holder.backend_pid) == (str(lease.target.token), pid)
    until(lambda: client.status().leased == 0)


def test_two_leases_are_two_sessions(client: Driven) -> None:
    with client.acquire() as one, client.acquire() as other:
        pids = {lease.fetchval("select pg_backend_pid()") for lease in (one, other)}
        assert len(pids) == 2
        assert str(one.target.token) != str(other.target.token)


METHODS: dict[str, Callable[[Driven], Any]] = {
    "execute": lambda c: c.execute("select 1"),
    "executemany": lambda c: c.executemany("select $1::int", [(1,)]),
    "fetch": lambda c: c.fetch("select 1"),
    "fetchrow": lambda c: c.fetchrow("select 1"),
    "fetchval": lambda c: c.fetchval("select 1"),
    "fetchmany": lambda c: c.fetchmany("select $1::int", [(1,)]),
    "transaction": lambda c: c.transaction(),
    "is_in_transaction": lambda c: c.is_in_transaction(),
}


@pytest.mark.parametrize("kind", ["sync-ipc", "async-tcp"], indirect=True)
@pytest.mark.parametrize("method", METHODS)
def test_use_after_release_raises_what_asyncpg_raises(client: Driven, pool: Driven, method: str) -> None:
    ours = client.acquire()
    ours.release()
    theirs = pool.acquire()
    pool.release(theirs)
    expected = outcome(lambda: METHODS[method](Driven(theirs, pool.loop)))
    assert expected[:2] == ("raised", asyncpg.InterfaceError)
    assert outcome(lambda: METHODS[method](ours)) == expected


def test_releasing_twice_is_allowed(client: Driven) -> None:
    lease = client.acquire()
    lease.release()
    lease.release()
    assert client.fetchval("select 1") == 1


def test_a_pool_releases_its_connections_too(supervisor: WatchedSupervisor, open_client: OpenClient) -> None:
    client = open_client(supervisor, "async-ipc")
    lease = client.acquire()
    client.release(lease.target)
    client.release(lease.target)
    with pytest.raises(asyncpg.InterfaceError, match="invalid connection: 'x' is not a member"):
        client.release("x")
    until(lambda: client.status().leased == 0)


def test_what_an_exception_leaves_open_is_rolled_back_at_release(client: Driven, table: str) -> None:
    class Odd(Exception):
        pass

    with pytest.raises(Odd), client.acquire() as lease:  # noqa: PT012
        lease.execute("begin")
        lease.execute(f"insert into {table} values (1)")
        raise Odd
    assert client.fetchval(f"select count(*) from {table}") == 0


# --- transactions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS, indirect=True)
def test_a_transaction_is_committed_at_its_end_and_not_before(client: Driven, db: Driven, table: str) -> None:
    with client.acquire() as lease:
        assert not lease.is_in_transaction()
        with lease.transaction():
            assert lease.is_in_transaction()
            lease.execute(f"insert into {table} values (1)")
            assert db.fetchval(f"select count(*) from {table}") == 0
        assert not lease.is_in_transaction()
        assert db.fetchval(f"select count(*) from {table}") == 1


def test_an_exception_rolls_the_transaction_back(client: Driven, table: str) -> None:
    with client.acquire() as lease:
        with pytest.raises(ZeroDivisionError), lease.transaction():  # noqa: PT012
            lease.execute(f"insert into {table} values (1)")
            1 / 0  # noqa: B018
        assert not lease.is_in_transaction()
        with pytest.raises(asyncpg.UniqueViolationError), lease.transaction():
            lease.execute(f"insert into {table} values (2), (2)")
        assert lease.fetchval(f"select count(*) from {table}") == 0


def test_the_clients_transaction_is_a_lease_with_one(client: Driven, table: str) -> None:
    with client.transaction(isolation="serializable") as lease:
        assert lease.fetchval("show transaction_isolation") == "serializable"
        lease.execute(f"insert into {table} values (1)")
    with pytest.raises(ZeroDivisionError), client.transaction() as lease:  # noqa: PT012
        lease.execute(f"insert into {table} values (2)")
        1 / 0  # noqa: B018
    until(lambda: client.status().leased == 0)
    assert client.fetch(f"select id from {table}") == [(1,)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"isolation": "read_committed"},
        {"isolation": "read_uncommitted"},
        {"isolation": "repeatable_read"},
        {"isolation": "serializable"},
        {"isolation": "serializable", "readonly": True, "deferrable": True},
        {"readonly": True},
        {"deferrable": True},
    ],
    ids=str,
)
def test_a_transaction_is_of_the_kind_that_asyncpg_makes_of_it(
    client: Driven, db: Driven, options: dict[str, Any]
) -> None:
    settings = "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), "
    settings += "current_setting('transaction_deferrable')"
    with db.transaction(**options):
        expected = tuple(db.fetchrow(settings))
    with client.acquire() as lease, lease.transaction(**options):
        assert lease.fetchrow(settings) == expected


def test_savepoints_nest(client: Driven, table: str) -> None:
    with client.acquire() as lease, lease.transaction():
        lease.execute(f"insert into {table} values (1)")
        with pytest.raises(asyncpg.UniqueViolationError), lease.transaction():
            lease.execute(f"insert into {table} values (1)")
        assert lease.is_in_transaction()
        with lease.transaction():
            lease.execute(f"insert into {table} values (2)")
            with pytest.raises(ZeroDivisionError), lease.transaction():  # noqa: PT012
                lease.execute(f"insert into {table} values (3)")
                1 / 0  # noqa: B018
        inner = lease.transaction()
        inner.start()
        lease.execute(f"insert into {table} values (4)")
        inner.rollback()
    assert client.fetch(f"select id from {table} order by id") == [(1,), (2,)]


def _steps(connection: Driven, *names: str, **options: Any) -> Any:
    transaction = connection.transaction(**options)
    try:
        for name in names:
            getattr(transaction, name)()
    finally:
        connection.execute("rollback")


def _nested(connection: Driven, outer: dict[str, Any], inner: dict[str, Any]) -> None:
    with connection.transaction(**outer), connection.transaction(**inner):
        pass


def _enter_twice(connection: Driven) -> None:
    transaction = connection.transaction()
    with transaction, transaction:
        pass


def _start_managed(connection: Driven) -> None:
    transaction = connection.transaction()
    with transaction:
        transaction.commit()


def _rollback_managed(connection: Driven) -> None:
    transaction = connection.transaction()
    with transaction:
        transaction.rollback()


def _manual(connection: Driven) -> None:
    connection.execute("begin")
    try:
        with connection.transaction():
            pass
    finally:
        connection.execute("rollback")


def _after_an_error(connection: Driven) -> Any:
    transaction = connection.transaction()
    transaction.start()
    first = outcome(lambda: connection.execute("select 1 / 0"))
    second = outcome(lambda: connection.execute("select 1"))
    inside = connection.is_in_transaction()
    transaction.rollback()
    return first, second, inside, connection.is_in_transaction()


def _commit_after_an_error(connection: Driven) -> Any:
    transaction = connection.transaction()
    transaction.start()
    error = outcome(lambda: connection.execute("select 1 / 0"))
    commit = outcome(transaction.commit)
    return error, commit, connection.is_in_transaction(), repr_state(transaction)


def repr_state(transaction: Driven) -> str:
    return "committed" if "committed" in repr(transaction.target) else repr(transaction.target)


def _ended_by_hand(connection: Driven) -> Any:
    transaction = connection.transaction()
    transaction.start()
    connection.execute("commit")
    commit = outcome(transaction.commit)
    return commit, connection.is_in_transaction()


MISUSE: dict[str, Callable[[Driven], Any]] = {
    "start twice": lambda c: _steps(c, "start", "start"),
    "commit before start": lambda c: _steps(c, "commit"),
    "rollback before start": lambda c: _steps(c, "rollback"),
    "commit twice": lambda c: _steps(c, "start", "commit", "commit"),
    "rollback after commit": lambda c: _steps(c, "start", "commit", "rollback"),
    "commit after rollback": lambda c: _steps(c, "start", "rollback", "commit"),
    "start after commit": lambda c: _steps(c, "start", "commit", "start"),
    "start after rollback": lambda c: _steps(c, "start", "rollback", "start"),
    "commit inside with": _start_managed,
    "rollback inside with": _rollback_managed,
    "an isolation level that is none": lambda c: c.transaction(isolation="chaos"),
    "an inner isolation level": lambda c: _nested(c, {}, {"isolation": "serializable"}),
    "another inner isolation level": lambda c: _nested(
        c, {"isolation": "repeatable_read"}, {"isolation": "serializable"}
    ),
    "the same inner isolation level": lambda c: _nested(
        c, {"isolation": "repeatable_read"}, {"isolation": "repeatable_read"}
    ),
    "a level inside of the default one": lambda c: _nested(c, {}, {"isolation": "read_committed"}),
    "transaction() after BEGIN": _manual,
    "errors inside": _after_an_error,
    "commit of what has failed": _commit_after_an_error,
    "a transaction that is ended by hand": _ended_by_hand,
    "rollback without a transaction": lambda c: c.execute("rollback"),
}


def _plain(found: Any) -> Any:
    """asyncpg's text of an unknown level has a set in it, in no order; and a `with` may be an async one."""
    if found[0] == "raised" and found[1] is ValueError:
        return (*found[:2], found[2].split("{")[0], found[2].split("}")[-1])
    if found[0] == "raised":
        return (*found[:2], found[2].replace("an `async with`", "a `with`"), *found[3:])
    return found


@pytest.mark.parametrize("kind", ["sync-ipc", "async-tcp"], indirect=True)
@pytest.mark.parametrize("name", MISUSE)
def test_misuse_of_transactions_raises_what_asyncpg_raises(
    client: Driven, dsn: str, loop_thread: LoopThread, name: str
) -> None:
    connection = Driven(loop_thread.run(_connect(dsn)), loop_thread)
    try:
        expected = _plain(outcome(lambda: MISUSE[name](connection)))
    finally:
        connection.close()
    with client.acquire() as lease:
        assert _plain(outcome(lambda: MISUSE[name](lease))) == expected


async def _connect(dsn: str) -> Any:
    return await asyncpg.connect(dsn)


def test_entering_a_transaction_twice_is_refused(client: Driven) -> None:
    with (
        client.acquire() as lease,
        pytest.raises(asyncpg.InterfaceError, match=r"cannot enter context: already in an? .*with` block"),
    ):
        _enter_twice(lease)


def test_begin_by_hand_is_seen(client: Driven, table: str) -> None:
    with client.acquire() as lease:
        lease.execute("begin")
        assert lease.is_in_transaction()
        lease.execute(f"insert into {table} values (1)")
        assert lease.is_in_transaction()
        lease.execute("rollback")
        assert not lease.is_in_transaction()


# --- one thing at a time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async-ipc", "async-tcp", "sync-ipc"], indirect=True)
def test_two_statements_at_once_on_one_lease_are_asyncpgs_interface_error(client: Driven, db: Driven) -> None:
    with client.acquire() as lease, lease.transaction():
        slow = lease.begin("fetchval", "select 5 from pg_sleep(0.3)")
        wait_for_statement(db, "select 5 from pg_sleep(0.3)")
        with pytest.raises(
            asyncpg.InterfaceError, match=r"^cannot perform operation: another operation is in progress$"
        ):
            lease.fetchval("select 6")
        assert lease.is_in_transaction()
        assert slow.result(10) == 5
        assert lease.fetchval("select 7") == 7
        assert lease.is_in_transaction()


def test_after_a_timeout_the_transaction_can_be_rolled_back(client: Driven, db: Driven, table: str) -> None:
    with client.acquire() as lease:
        lease.execute("begin")
        lease.execute(f"insert into {table} values (1)")
        with pytest.raises(RequestTimeout):
            lease.execute("select pg_sleep(71)", timeout=0.1)
        assert lease.is_in_transaction()
        lease.execute("rollback")
        assert not lease.is_in_transaction()
        wait_for_statement(db, "pg_sleep(71)", running=False)
        with pytest.raises(RequestTimeout), lease.transaction():
            lease.execute("select pg_sleep(71)", timeout=0.05)
        assert not lease.is_in_transaction()
        assert lease.fetchval(f"select count(*) from {table}") == 0


@pytest.mark.parametrize("kind", ["async-ipc", "async-tcp", "uvloop-ipc"], indirect=True)
def test_after_a_cancelled_statement_the_transaction_can_be_rolled_back(client: Driven, db: Driven) -> None:
    async def cancelled(lease: Any) -> None:
        async with lease.transaction():
            async with asyncio.timeout(0.1):
                await lease.fetch("select pg_sleep(72)")

    with client.acquire() as lease:
        assert client.loop is not None
        with pytest.raises(TimeoutError):
            client.loop.run(cancelled(lease.target))
        assert not lease.is_in_transaction()
        wait_for_statement(db, "pg_sleep(72)", running=False)
        assert lease.fetchval("select 1") == 1


# --- how a lease ends -------------------------------------------------------------------------------------


def test_a_lease_outlives_its_ttl_while_its_owner_lives(
    supervisor: WatchedSupervisor, open_client: OpenClient, table: str
) -> None:
    """Owners that wait, and owners that compute."""
    leases = [open_client(supervisor, kind).acquire(ttl=0.6) for kind in KINDS]
    for number, lease in enumerate(leases):
        lease.execute("begin")
        lease.execute(f"insert into {table} values ($1)", number)
    until = time.monotonic() + 2
    numbers = 0
    while time.monotonic() < until:
        numbers += sum(range(1000))
    for lease in leases:
        lease.execute("commit")
        lease.release()
    assert open_client(supervisor, "sync-ipc").fetchval(f"select count(*) from {table}") == len(KINDS)


def test_an_event_loop_that_is_blocked_beyond_the_ttl_loses_its_lease(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, table: str
) -> None:
    client, watcher = open_client(supervisor, "async-ipc"), open_client(supervisor, "sync-ipc")

    async def block() -> None:
        before = watcher.status().counters["leases_expired"]
        until(lambda: watcher.status().counters["leases_expired"] > before)

    lease = client.acquire(ttl=0.3)
    lease.execute("begin")
    lease.execute(f"insert into {table} values (1)")
    assert client.loop is not None
    client.loop.run(block())
    for _ in range(2):
        with pytest.raises(LeaseExpired, match=r"not renewed within its ttl of 0.3 s .*rolled back: acquire again"):
            lease.execute("commit")
    lease.release()
    assert client.fetchval(f"select count(*) from {table}") == 0


@pytest.mark.parametrize("road", ["ipc", "tcp"])
def test_an_owner_that_falls_silent_loses_its_lease(
    supervisor: WatchedSupervisor, open_client: OpenClient, table: str, road: str
) -> None:
    """A DEALER of pyzmq, written by hand, that sends no heartbeat."""
    pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
    watcher = open_client(supervisor, "sync-ipc")
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvtimeo = 10_000
        dealer.connect(getattr(supervisor, road))
        dealer.send(pack([["hello", 1, "silent", 0, "by hand"]]))
        epoch = unpack(dealer.recv())[0][2]
        dealer.send(pack([["acquire", 1, epoch, None, 0.3]]))
        granted = unpack(dealer.recv())[0]
        assert granted[:2] == ["granted", 1]
        token = granted[2]
        dealer.send(pack([["execute", 2, epoch, None, f"begin; insert into {table} values (1)", [], token]]))
        assert unpack(dealer.recv())[0][:3] == ["done", 2, "INSERT 0 1"]
        ended = unpack(dealer.recv())[0]
        assert ended[:3] == ["lease_ended", token, "lease_expired"]
        assert "was not renewed within its ttl of 0.3 s" in ended[3]
        dealer.send(pack([["execute", 3, epoch, None, "commit", [], token]]))
        failed = unpack(dealer.recv())[0]
        assert failed[:3] == ["failed", 3, "lease_expired"]
        dealer.send(pack([["heartbeat", [token]], ["release", token]]))  # of an ended lease: nothing happens
        dealer.send(pack([["fetch", 4, epoch, None, "select 1", []]]))
        assert unpack(dealer.recv())[0][:2] == ["rows", 4]
        dealer.send(pack([["bye"]]))
    assert watcher.fetchval(f"select count(*) from {table}") == 0


def test_no_lease_is_held_for_longer_than_max_hold(start: Launch, open_client: OpenClient, table: str) -> None:
    supervisor = start(max_size=4, pool={"max_hold_seconds": 0.5})
    watcher = open_client(supervisor, "sync-ipc")
    leases = [open_client(supervisor, kind).acquire() for kind in KINDS]
    for number, lease in enumerate(leases):
        lease.execute(f"begin; insert into {table} values ({number})")
    until(lambda: watcher.status().counters["leases_expired"] == len(leases))
    for lease in leases:
        with pytest.raises(LeaseExpired, match=r"ended at max_hold: it was held for 0\.[5-9] s; it was rolled back"):
            lease.execute("commit")
        lease.release()
    assert watcher.fetchval(f"select count(*) from {table}") == 0


def test_a_lease_whose_backend_is_killed_is_lost(client: Driven, db: Driven, table: str) -> None:
    lease = client.acquire()
    lease.execute(f"begin; insert into {table} values (1)")
    db.fetchval("select pg_terminate_backend($1)", lease.target.backend_pid)
    until(lambda: client.status().leased == 0)
    for _ in range(2):
        with pytest.raises(LeaseLost, match=r"lost its connection to PostgreSQL: .*acquire again"):
            lease.execute("commit")
    lease.release()
    assert client.fetchval(f"select count(*) from {table}") == 0


def test_a_backend_that_is_killed_while_many_arguments_are_sent_frees_its_slot(
    client: Driven, db: Driven, table: str
) -> None:
    with client.acquire() as other:
        other.execute(f"begin; insert into {table} values (0)")
        lease = client.acquire()
        # more than the connection takes at once, behind a row that waits
        working = lease.begin(
            "executemany", f"insert into {table} values ($1 + 0 * length($2))", [(0, "x" * 900)] * 1000
        )
        wait_for_statement(db, f"insert into {table} values ($1 +")
        db.fetchval("select pg_terminate_backend($1)", lease.target.backend_pid)
        with pytest.raises((OutcomeUnknown, LeaseLost, asyncpg.PostgresError)):
            working.result(15)
        lease.release()
    until(lambda: all(holder.state in ("idle", "vacant") for holder in client.status().holders))


def test_a_lease_whose_backend_is_killed_while_it_works_says_so_and_is_lost(client: Driven, db: Driven) -> None:
    lease = client.acquire()
    working = lease.begin("execute", "select pg_sleep(73)")
    wait_for_statement(db, "pg_sleep(73)")
    db.fetchval("select pg_terminate_backend($1)", lease.target.backend_pid)
    with pytest.raises((asyncpg.AdminShutdownError, OutcomeUnknown)):
        working.result(10)
    with pytest.raises(LeaseLost):
        lease.execute("select 1")
    lease.release()
    assert client.fetchval("select 1") == 1


@pytest.mark.parametrize("kind", ALL_KINDS, indirect=True)
def test_a_client_that_closes_gives_its_leases_back_at_once(
    client: Driven, supervisor: WatchedSupervisor, open_client: OpenClient, table: str
) -> None:
    watcher = open_client(supervisor, "sync-ipc")
    doomed = (
        open_client(supervisor, "sync-ipc")
        if client.loop is None
        else Driven(type(client.target)(client.target._options.endpoint), client.loop)
    )
    lease = doomed.acquire()
    lease.execute(f"begin; insert into {table} values (1)")
    lost = watcher.status().counters["workers_lost"]
    doomed.close()
    until(lambda: watcher.status().leased == 0, seconds=2)
    assert watcher.fetchval(f"select count(*) from {table}") == 0
    assert watcher.status().counters["workers_lost"] == lost
    with pytest.raises((PgactorError, asyncpg.InterfaceError)):
        lease.execute("commit")


def test_an_owner_that_is_killed_gives_its_leases_back_at_once(
    supervisor: WatchedSupervisor, open_client: OpenClient, table: str
) -> None:
    watcher = open_client(supervisor, "sync-ipc")
    program = f"""
import time
from pgactor import Client
lease = Client({supervisor.ipc!r}, label="doomed").acquire()
lease.execute("begin; insert into {table} values (1)")
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline() == "held\n"
        state = watcher.status()
        assert [each.label for each in state.workers if each.leases] == ["doomed"]
        assert [each.pid for each in state.workers if each.leases] == [doomed.pid]
        os.kill(doomed.pid, signal.SIGKILL)
        until(lambda: watcher.status().leased == 0, seconds=3)
    assert watcher.fetchval(f"select count(*) from {table}") == 0
    assert watcher.status().counters["workers_lost"] == state.counters["workers_lost"] + 1


def test_a_supervisor_that_is_restarted_ends_leases_and_serves_again(
    start: Launch, open_client: OpenClient, table: str
) -> None:
    supervisor = start(max_size=4)
    clients = [open_client(supervisor, kind) for kind in KINDS]
    leases = [client.acquire() for client in clients]
    for number, lease in enumerate(leases):
        lease.execute(f"begin; insert into {table} values ({number})")
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.process.wait()
    supervisor.start()
    for client, lease in zip(clients, leases, strict=True):
        with pytest.raises((LeaseLost, OutcomeUnknown)):
            lease.execute("commit")
        with pytest.raises(LeaseLost, match="acquire again"):
            lease.execute("commit")
        assert client.fetchval(f"select count(*) from {table}") == 0
        with client.acquire() as again:
            assert again.fetchval("select 1") == 1
