"""Connections come and go: never too many, never too old, and their deaths cost no more than what they were doing."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import asyncpg
import pytest

from pgactor import DatabaseUnavailable, OutcomeUnknown
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import KINDS, Driven, WatchedSupervisor, wait_for_statement
from tests.supervising import free_port, until

PID = "select pg_backend_pid()"


def test_light_work_uses_few_connections(start: Launch, open_client: OpenClient, db: Driven) -> None:
    supervisor = start(max_size=4)
    clients = [open_client(supervisor, kind) for kind in KINDS]
    assert len({client.fetchval(PID) for _ in range(10) for client in clients}) == 1
    assert len(supervisor.backends(db)) == 1


def test_the_connection_that_was_used_last_is_used_next(start: Launch, open_client: OpenClient) -> None:
    client = open_client(start(max_size=4), "async-ipc")
    leases = [client.acquire() for _ in range(4)]
    for lease in leases:
        lease.release()
    until(lambda: client.status().idle == 4)
    assert len({client.fetchval(PID) for _ in range(20)}) == 1
    assert client.status().size == 4


def test_there_are_never_more_connections_than_max_size(start: Launch, open_client: OpenClient, db: Driven) -> None:
    supervisor = start(max_size=3)
    clients = [open_client(supervisor, kind) for kind in KINDS]
    calls = [client.begin("fetchval", "select pg_backend_pid() from pg_sleep(0.02)") for client in clients * 15]
    most = 0
    while not all(call.done() for call in calls):
        most = max(most, len(supervisor.backends(db)))
    assert most == 3
    assert len({call.result() for call in calls}) == 3


def test_min_size_is_opened_at_start_and_restored(start: Launch, open_client: OpenClient, db: Driven) -> None:
    supervisor = start(max_size=4, min_size=2)
    until(lambda: len(supervisor.backends(db)) == 2)
    before = set(supervisor.backends(db))
    db.fetch("select pg_terminate_backend(pid) from unnest($1::int[]) pid", list(before))
    until(lambda: len(set(supervisor.backends(db)) - before) == 2)
    client = open_client(supervisor, "sync-ipc")
    until(lambda: client.status().idle == 2)
    assert client.status().counters["connections_lost"] == 2


def test_a_connection_is_replaced_after_max_queries(start: Launch, open_client: OpenClient) -> None:
    client = open_client(start(max_size=1, pool={"max_queries": 3}), "sync-ipc")
    pids = [client.fetchval(PID) for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


def test_what_idles_above_min_size_is_closed(start: Launch, open_client: OpenClient, db: Driven) -> None:
    supervisor = start(max_size=4, min_size=1, pool={"max_inactive_connection_lifetime": 0.3})
    client = open_client(supervisor, "async-ipc")
    leases = [client.acquire() for _ in range(4)]
    assert len(supervisor.backends(db)) == 4
    for lease in leases:
        lease.release()
    until(lambda: len(supervisor.backends(db)) == 1)
    (kept,) = supervisor.backends(db)
    assert client.fetchval(PID) == kept


def test_a_connection_is_replaced_when_it_is_old(start: Launch, open_client: OpenClient, db: Driven) -> None:
    supervisor = start(max_size=2, min_size=1, pool={"max_lifetime_seconds": 0.4})
    client = open_client(supervisor, "sync-ipc")
    first = client.fetchval(PID)
    until(lambda: first not in supervisor.backends(db))  # though nobody uses it
    with client.acquire() as lease:
        second = lease.target.backend_pid
        until(lambda: client.status().holders[0].seconds > 0.5 or client.status().holders[1].seconds > 0.5)
        assert lease.fetchval(PID) == second  # whoever has it may keep it
    until(lambda: second not in supervisor.backends(db))
    assert client.fetchval(PID) not in (first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_expired_connections_are_replaced_and_leased_ones_stay_usable(
    start: Launch, open_client: OpenClient, db: Driven, kind: str
) -> None:
    supervisor = start(max_size=3, min_size=2)
    client = open_client(supervisor, kind)
    until(lambda: client.status().idle == 2)
    with client.acquire() as lease:
        leased = lease.target.backend_pid
        idle = set(supervisor.backends(db)) - {leased}
        client.expire_connections()
        until(lambda: not idle & set(supervisor.backends(db)))
        assert lease.fetchval(PID) == leased
        assert client.fetchval(PID) not in {leased, *idle}
    until(lambda: leased not in supervisor.backends(db))
    until(lambda: client.status().idle == 2)
    assert client.status().counters["connections_lost"] == 0


def test_an_idle_connection_that_is_killed_costs_nobody_anything(
    start: Launch, open_client: OpenClient, db: Driven
) -> None:
    supervisor = start(max_size=2, min_size=1)
    clients = [open_client(supervisor, kind) for kind in KINDS]
    for _ in range(2):
        for client in clients:
            pid = client.fetchval(PID)
            db.fetchval("select pg_terminate_backend($1)", pid)
            until(lambda: pid not in supervisor.backends(db))  # noqa: B023  # called at once
            assert client.fetchval(PID) != pid


def test_when_all_connections_are_killed_only_statements_in_flight_fail(
    start: Launch, open_client: OpenClient, db: Driven, table: str
) -> None:
    supervisor = start(max_size=4)
    clients = [open_client(supervisor, kind) for kind in KINDS]
    numbers = iter(range(10_000))
    sql = f"insert into {table} select $1::int from pg_sleep(0.01) returning id"
    calls: dict[int, Any] = {}
    killed = 0
    for _ in range(4):
        for client in clients * 12:
            number = next(numbers)
            calls[number] = client.begin("fetchval", sql, number)
        wait_for_statement(db, "pg_sleep(0.01)")
        victims = list(supervisor.backends(db))
        killed += len(victims)
        db.fetch("select pg_terminate_backend(pid) from unnest($1::int[]) pid", victims)
    wait(calls.values(), 30)
    failed = {}
    for number, call in calls.items():
        error = call.exception(0)
        if error is None:
            assert call.result() == number
        else:
            assert isinstance(error, OutcomeUnknown | asyncpg.AdminShutdownError), repr(error)
            failed[number] = error
    assert 0 < len(failed) <= killed
    there = {row["id"] for row in db.fetch(f"select id from {table}")}
    assert set(calls) - set(failed) <= there


# --- the database is down ---------------------------------------------------------------------------------


class Forwarder:
    """Stands between a supervisor and PostgreSQL, and can be switched off and on."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        host = options.pop("host", None) or unquote(parts.hostname or "") or os.environ.get("PGHOST", "localhost")
        port = int(options.pop("port", 0) or parts.port or 5432)
        self._target: Any = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        self.port = free_port()
        who = parts.netloc.rpartition("@")[0].rstrip(":") or "postgres"
        options["sslmode"] = "disable"
        self.dsn = f"postgresql://{who}@127.0.0.1:{self.port}{parts.path}?{urlencode(options)}"
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def on(self) -> None:
        """Let connections through."""
        self._listener = listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def off(self) -> None:
        """Refuse connections, and cut those that are there."""
        if self._listener is not None:
            self._close(self._listener)
            self._listener = None
        for sock in list(self._sockets):
            self._close(sock)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.socket(self._family)
                far.connect(self._target)
                self._sockets |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for sock in (source, sink):
            self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        self._sockets.discard(sock)


@pytest.fixture
def forwarder(dsn: str) -> Iterator[Forwarder]:
    forwarder = Forwarder(dsn)
    yield forwarder
    forwarder.off()


PATIENT = {"database_grace_seconds": 0.3, "reopen_backoff_seconds": 0.05, "reopen_backoff_max_seconds": 0.2}


def test_a_database_that_is_down_at_start_is_said_in_time_and_used_once_it_is_there(
    start: Launch, open_client: OpenClient, forwarder: Forwarder
) -> None:
    supervisor = start(dsn=forwarder.dsn, max_size=2, pool=PATIENT)
    for kind in KINDS:
        client = open_client(supervisor, kind)
        with pytest.raises(
            DatabaseUnavailable, match=r"PostgreSQL accepts no connection .* the last attempt"
        ) as caught:
            client.fetchval("select 1", timeout=10)
        assert caught.value.retry
        assert isinstance(caught.value, ConnectionError)
    assert client.status().database.startswith("failing: ")
    forwarder.on()

    def answered() -> bool:
        try:
            return bool(client.fetchval("select 7") == 7)
        except DatabaseUnavailable:
            return False

    until(answered)
    assert client.status().database == "ok"


def test_a_request_waits_for_a_database_that_comes_back_in_time(
    start: Launch, open_client: OpenClient, forwarder: Forwarder
) -> None:
    supervisor = start(dsn=forwarder.dsn, max_size=2, pool={**PATIENT, "database_grace_seconds": 20})
    clients = [open_client(supervisor, kind) for kind in KINDS]
    calls = [client.begin("fetchval", "select 7") for client in clients]
    until(lambda: clients[0].status().counters["connections_failed"] >= 2)
    forwarder.on()
    assert [call.result(15) for call in calls] == [7] * len(calls)


def test_a_database_that_goes_away_and_comes_back(
    start: Launch, open_client: OpenClient, forwarder: Forwarder
) -> None:
    forwarder.on()
    supervisor = start(dsn=forwarder.dsn, max_size=2, min_size=1, pool={**PATIENT, "database_grace_seconds": 20})
    clients = [open_client(supervisor, kind) for kind in KINDS]
    assert [client.fetchval("select 1") for client in clients] == [1] * len(clients)
    for _ in range(2):
        forwarder.off()
        calls = [client.begin("fetchval", "select 7") for client in clients]
        until(lambda: clients[0].status().opening + clients[0].status().idle == 0)
        forwarder.on()
        assert [call.result(15) for call in calls] == [7] * len(calls)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("database", r'database "no_such_database" does not exist'),
        ("user", r'(role "no_such_user" does not exist|authentication failed)'),
    ],
)
def test_a_wrong_name_is_said_at_once(
    start: Launch, open_client: OpenClient, dsn: str, wrong: str, said: str
) -> None:
    """Waiting would not mend it: the grace period does not apply."""
    supervisor = start(max_size=1, connect={wrong: f"no_such_{wrong}"}, pool={"database_grace_seconds": 60})
    for kind in KINDS:
        with pytest.raises(DatabaseUnavailable, match=said):
            open_client(supervisor, kind).fetchval("select 1", timeout=5)


def test_a_wrong_password_is_said_at_once(start: Launch, open_client: OpenClient) -> None:
    """By a server that asks for one and never likes it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as sock, suppress(OSError):
                        sock.recv(1024)  # the start-up message
                        sock.sendall(b"R" + struct.pack(">ii", 8, 3))  # cleartext, please
                        sock.recv(1024)
                        fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "me"\0\0'
                        sock.sendall(b"E" + struct.pack(">i", len(fields) + 4) + fields)

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        dsn = f"postgresql://me:s3cret@127.0.0.1:{listener.getsockname()[1]}/db?sslmode=disable"
        supervisor: WatchedSupervisor = start(dsn=dsn, max_size=1, pool={"database_grace_seconds": 60})
        for kind in KINDS:
            with pytest.raises(DatabaseUnavailable, match="password authentication failed") as caught:
                open_client(supervisor, kind).fetchval("select 1", timeout=5)
            assert "s3cret" not in str(caught.value)
        assert "s3cret" not in supervisor.log.read_text()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
