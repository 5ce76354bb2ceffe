"""Two servers with streaming replication: `target_session_attrs` is kept to, a failover is found without help, and a
connection whose server takes no writes any more is replaced."""

from __future__ import annotations

import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pgactor import Client, DatabaseUnavailable
from tests.faults.postgres_servers import Proxy, Serve, Server, connected, full_service, server_folder
from tests.faults.test_postgres_restart import Load
from tests.integration.conftest import OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor
from tests.integration.lanes import train
from tests.supervising import free_port, until

pytestmark = pytest.mark.xdist_group("postgres failover")

PORT = "select inet_server_port()"


@pytest.fixture(scope="module")
def pair(loop_thread: LoopThread) -> Iterator[tuple[Server, Server]]:
    """A primary that waits for its standby at each commit, and the standby."""
    with server_folder() as primary, server_folder() as standby:
        primary.make()
        primary.start()
        primary.copy_to(standby)
        standby.start()
        with connected(primary.dsn(), loop_thread) as db:
            db.execute("create table written (number int); create sequence numbers")
            db.execute("alter system set synchronous_standby_names = '*'")
            db.execute("select pg_reload_conf()")
            until(lambda: db.fetchval("select count(*) from pg_stat_replication where sync_state = 'sync'"))
        yield primary, standby


def dsn_of(target: str, *ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://tester@{hosts}/postgres?sslmode=disable&target_session_attrs={target}"


TARGETS = {
    # which of primary and standby: of both in this order, of both in the other order, of each alone
    "any": ("primary", "standby", "primary", "standby"),
    "primary": ("primary", "primary", "primary", None),
    "read-write": ("primary", "primary", "primary", None),
    "standby": ("standby", "standby", None, "standby"),
    "read-only": ("standby", "standby", None, "standby"),
    "prefer-standby": ("standby", "standby", "primary", "standby"),
}


def pools(dsns: dict[str, str]) -> str:
    """Named pools, each of which says at once that there is no connection to be had."""
    settings = "min_size = 0\nmax_size = 2\ndatabase_grace_seconds = 0.01\n"
    return "".join(
        f'[pools.{name}]\n{settings}[pools.{name}.connect]\ndsn = "{dsn}"\ntimeout = 3\n'
        for name, dsn in dsns.items()
    )


@pytest.fixture(scope="module")
def finding(pair: tuple[Server, Server]) -> Iterator[WatchedSupervisor]:
    """A supervisor with a pool for each target and each order of the hosts."""
    primary, standby = (server.port for server in pair)
    orders = {"there": (primary, standby), "back": (standby, primary), "one": (primary,), "other": (standby,)}
    dsns = {f"{target}-{order}": dsn_of(target, *ports) for target in TARGETS for order, ports in orders.items()}
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        supervisor = WatchedSupervisor(folder=Path(folder), dsn=dsn_of("any", primary), toml=pools(dsns))
        yield supervisor
        supervisor.stop()


@pytest.mark.parametrize("target", TARGETS)
def test_connections_lead_to_the_server_that_is_asked_for(
    finding: WatchedSupervisor, pair: tuple[Server, Server], target: str
) -> None:
    ports = {"primary": pair[0].port, "standby": pair[1].port}
    for order, expected in zip(("there", "back", "one", "other"), TARGETS[target], strict=True):
        with Client(finding.ipc, pool=f"{target}-{order}") as client:
            if expected is None:
                with pytest.raises(DatabaseUnavailable, match=f"TargetServerAttributeNotMatched.*'{target}"):
                    client.fetchval(PORT, timeout=10)
            else:
                assert client.fetchval(PORT, timeout=10) == ports[expected], order


# --- hosts that are down --------------------------------------------------------------------------------------


@pytest.fixture(params=["refuses", "closes", "is silent"])
def broken(request: pytest.FixtureRequest, loop_thread: LoopThread, postgres: Server) -> Iterator[int]:
    """A port at which there is no PostgreSQL to be had."""
    if request.param == "refuses":
        yield free_port()
    else:
        target = Server(postgres.programs, postgres.folder) if request.param == "closes" else postgres
        proxy = Proxy(target.port, loop_thread)
        if request.param == "is silent":
            proxy.blacken()
        yield proxy.port
        proxy.close()


def test_a_host_that_is_down_leaves_time_for_the_next(serve: Serve, postgres: Server, broken: int) -> None:
    """However it is down, and though no connect_timeout is given: only the whole attempt has a limit."""
    targets = ("any", "read-write", "prefer-standby")
    dsns = {target: dsn_of(target, broken, postgres.port) for target in targets}
    supervisor = serve(postgres.dsn(), toml=pools(dsns))
    for target in targets:
        with Client(supervisor.ipc, pool=target) as client:
            assert client.fetchval(PORT, timeout=20) == postgres.port


def test_a_name_with_several_addresses_leaves_time_for_each(serve: Serve) -> None:
    """What became of each is told."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as also:
        ports = silent.getsockname()[1], also.getsockname()[1]
        settings: dict[str, Any] = {"connect": {"timeout": 0.6}, "pool": {"database_grace_seconds": 0.01}}
        with Client(serve(dsn_of("any", *ports), **settings).ipc) as client:
            first = rf"127\.0\.0\.1:{ports[0]}: no answer within its share of the timeout \(0\.3 s\)"
            with pytest.raises(DatabaseUnavailable, match=rf"{first}|no connection within 0\.6 s"):
                client.fetchval("select 1", timeout=10)


# --- a server that takes no writes any more -------------------------------------------------------------------


@pytest.fixture
def address(pair: tuple[Server, Server], loop_thread: LoopThread) -> Iterator[Proxy]:
    """An address that moves from one server to the other; now it leads to the standby."""
    proxy = Proxy(pair[1].port, loop_thread)
    yield proxy
    proxy.close()


WRITE = "insert into written values (-1)"


def _write_by_lease(client: Driven) -> None:
    with client.acquire() as lease:
        lease.execute(WRITE)


WRITES = {
    "statement": lambda client: client.execute(WRITE),
    "statement with an argument": lambda client: client.fetch("insert into written values ($1) returning 1", -1),
    "function": lambda client: client.fetchval("select nextval('numbers')"),
    "batch": lambda client: client.batch([("select 1",), (WRITE,)]),
    "batch that is not atomic": lambda client: client.batch([(WRITE,), ("select 1",)], atomic=False),
    "executemany": lambda client: client.executemany("insert into written values ($1)", [(-1,), (-1,)]),
    "copy": lambda client: client.copy_records_to_table("written", records=[(-1,)]),
    "lease": _write_by_lease,
}


@pytest.mark.parametrize("lane", ["on", "off"])
def test_a_write_that_a_standby_refuses_has_the_connection_replaced(
    serve: Serve, open_client: OpenClient, pair: tuple[Server, Server], address: Proxy, lane: str
) -> None:
    """The address has moved on meanwhile, as it does with a failover that leaves connections alone."""
    pool = {"statement_lane": lane}
    client = open_client(serve(pair[0].dsn(address.port), max_size=1, pool=pool), "async-ipc")
    for name, write in WRITES.items():
        address.target = pair[1].port
        client.expire_connections()
        until(lambda: client.fetchval(PORT) == pair[1].port)
        address.target = pair[0].port
        assert client.fetchval(PORT) == pair[1].port, "reads go on where they are"
        if name.endswith("atomic"):
            refused = write(client)[0]
            assert isinstance(refused, asyncpg.ReadOnlySQLTransactionError)
        else:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                write(client)
        assert client.fetchval(PORT, timeout=10) == pair[0].port, name
        write(client)
    assert client.status().counters["connections_lost"] == 0


def test_what_is_read_only_by_wish_is_not_replaced(
    serve: Serve, open_client: OpenClient, pair: tuple[Server, Server]
) -> None:
    """A transaction of a primary's that is read-only, and a pool for reading."""
    primary, standby = pair
    client = open_client(serve(primary.dsn(), max_size=1), "async-ipc")
    with client.acquire() as lease:
        pid = lease.fetchval("select pg_backend_pid()")
        lease.execute("begin read only")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            lease.execute(WRITE)
        lease.execute("rollback")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        client.batch([(WRITE,)], readonly=True)
    assert client.fetchval("select pg_backend_pid()") == pid
    reader = open_client(serve(dsn_of("standby", standby.port), max_size=1), "async-ipc")
    pid = reader.fetchval("select pg_backend_pid()")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        reader.execute(WRITE)
    assert reader.fetchval("select pg_backend_pid()") == pid


# --- failover: the last, as the servers are not what they were afterwards -------------------------------------


def test_a_failover_under_load_is_found_without_help_and_loses_no_write(
    serve: Serve, open_client: OpenClient, pair: tuple[Server, Server], loop_thread: LoopThread
) -> None:
    primary, standby = pair
    with connected(primary.dsn(), loop_thread) as db:
        db.execute("truncate written")
    hosts = (primary.port, standby.port)
    writing: WatchedSupervisor = serve(dsn_of("read-write", *hosts), max_size=4)
    reading: WatchedSupervisor = serve(dsn_of("prefer-standby", *hosts), max_size=2)
    clients = [open_client(writing, kind) for kind in ("sync-ipc", "async-ipc", "async-tcp")]
    reader = open_client(reading, "async-ipc")
    train(reader, "select count(*) from written")
    assert reader.fetchval(PORT) == standby.port
    load = Load(clients, "written")
    try:
        until(lambda: len(load.stored) > 100 or load.strange)
        down = time.monotonic()
        primary.stop("immediate")
        until(lambda: clients[0].status().database.startswith("failing: "))
        until(lambda: f"{standby.port}: None of the hosts match the target" in clients[0].status().database)
        assert reader.fetchval("select count(*) from written", timeout=10) > 0, "whoever reads goes on"
        before = len(load.stored)
        standby.promote()
        until(lambda: len(load.stored) > before + 100 or load.strange)
        assert clients[0].status().counters["connections_failed"] <= 12 + (time.monotonic() - down) / 0.2
    finally:
        load.stop()
    full_service(clients[0], 4)
    assert clients[0].fetchval(PORT) == standby.port
    with connected(standby.dsn(), loop_thread) as db:
        db.execute("alter system reset synchronous_standby_names")
        load.check(Counter(row["number"] for row in db.fetch("select number from written")))
