"""What psqlpy's ConnectionPool promises, row by row, with psqlpy itself beside it.

What differs on purpose is tested, too, and its reason told: B1 (a dsn beside other parameters), B4 (an open
transaction), B5 (verification without a certificate).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psqlpy
import pytest

from pgactor import AsyncClient, Client
from pgactor.actors.dialing import Dialer
from pgactor.actors.session import Session
from pgactor.config.loading import connect_settings
from pgactor.contrib.namedparameters import positional
from pgactor.errors import ClientError, ConfigError, NotPermitted
from tests.faults.postgres_servers import server_folder
from tests.supervising import StartSupervisor, until
from tests.tls_postgres import USER, Server

LOOK = """
    select host(inet_server_addr()) as address, inet_server_port() as port, current_user::text as "user",
        current_database()::text as database, current_setting('application_name') as name,
        current_setting('jit') as jit, (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as tls
"""
"""What can be seen of how a session was opened."""

ENUMERATIONS = {
    "target_session_attrs": psqlpy.TargetSessionAttrs,
    "load_balance_hosts": psqlpy.LoadBalanceHosts,
    "conn_recycling_method": psqlpy.ConnRecyclingMethod,
    "ssl_mode": psqlpy.SslMode,
}


def of_psqlpy(**given: Any) -> psqlpy.ConnectionPool:
    """psqlpy's pool; its enumerations are given by their names."""
    named = {
        name: getattr(ENUMERATIONS[name], value) if name in ENUMERATIONS else value for name, value in given.items()
    }
    return psqlpy.ConnectionPool(**named)


async def seen_by_psqlpy(**given: Any) -> dict[str, Any]:
    pool = of_psqlpy(**given)
    try:
        async with asyncio.timeout(20), pool.acquire() as connection:
            found: dict[str, Any] = (await connection.fetch(LOOK)).result()[0]
            return found
    finally:
        pool.close()


@asynccontextmanager
async def dialled(dsn: str | None = None, **given: Any) -> AsyncIterator[Session]:
    """A session, opened as the supervisor would with these settings."""
    session = await Dialer(connect_settings(dsn, given)).open()
    try:
        yield session
    finally:
        await session.close()


async def seen_by_us(dsn: str | None = None, **given: Any) -> dict[str, Any]:
    async with dialled(dsn, **given) as session:
        row = await session.fetchrow(LOOK)
        assert row is not None
        return dict(row)


async def both_see(**given: Any) -> dict[str, Any]:
    """What both see, but for the name, which psqlpy leaves empty."""
    ours, theirs = await seen_by_us(**given), await seen_by_psqlpy(**given)
    if "application_name" not in given:
        assert (ours.pop("name"), theirs.pop("name")) == ("pgactor", "")
    ours.pop("tls"), theirs.pop("tls")  # psqlpy's default has none, ours is libpq's and asyncpg's: it prefers it
    assert ours == theirs
    return ours


@pytest.fixture
def here(server: Server) -> dict[str, Any]:
    """The parameters that lead to the server, but for its host."""
    return {"username": USER, "db_name": "postgres", "port": server.port}


# --- B1: the constructor's parameters ------------------------------------------------------------------------


async def test_B1_username_db_name_host_and_port(here: dict[str, Any]) -> None:
    seen = await both_see(host="127.0.0.1", **here)
    assert (seen["user"], seen["database"], seen["address"]) == (USER, "postgres", "127.0.0.1")


async def test_B1_password(server: Server, here: dict[str, Any]) -> None:
    async with dialled(server.dsn()) as session:
        await session.execute("drop role if exists by_password; create role by_password login password 'a b''c@/'")
    here |= {"username": "by_password", "host": "127.0.0.1"}
    assert (await both_see(password="a b'c@/", **here))["user"] == "by_password"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await seen_by_us(password="wrong", **here)


async def test_B1_hosts_come_before_host(here: dict[str, Any]) -> None:
    assert (await both_see(hosts=["127.0.0.2"], host="127.0.0.3", **here))["address"] == "127.0.0.2"


async def test_B1_ports_are_matched_to_hosts(server: Server, here: dict[str, Any], refusing: int) -> None:
    del here["port"]
    here |= {"hosts": ["127.0.0.2", "127.0.0.3"]}
    assert (await both_see(ports=[refusing, server.port], **here))["address"] == "127.0.0.3"
    assert (await both_see(ports=[refusing], port=server.port, **here))["address"] == "127.0.0.3"
    assert (await both_see(ports=[server.port], **here))["address"] == "127.0.0.2"


@pytest.mark.parametrize("form", ["uri", "pairs"])
async def test_B1_dsn_in_both_forms_with_libpqs_options(form: str, server: Server) -> None:
    options = "connect_timeout=3 keepalives=1 keepalives_idle=7 keepalives_interval=8 keepalives_retries=9"
    options = options.replace("retries", "count") + " tcp_user_timeout=1500 load_balance_hosts=random"
    options += " target_session_attrs=read-write channel_binding=prefer application_name=app"
    theirs = options.replace("keepalives_count", "keepalives_retries")
    if form == "uri":
        place = f"postgresql://{USER}@127.0.0.1:{server.port}/postgres?"
        dsns = [place + each.replace(" ", "&") for each in (options, theirs)]
    else:
        dsns = [server.dsn() + " " + each for each in (options, theirs)]
    ours, psqlpys = await seen_by_us(dsns[0]), await seen_by_psqlpy(dsn=dsns[1])
    ours.pop("tls"), psqlpys.pop("tls")
    assert ours == psqlpys
    assert ours["name"] == "app"
    async with dialled(dsns[0]) as session:
        assert await session.fetchval("show tcp_user_timeout") == "0", "it is no setting of the server"


async def test_B1_what_is_said_beside_a_dsn_counts_more_than_the_dsn(server: Server) -> None:
    """psqlpy takes no notice of some of it without a word; asyncpg and we take all of it."""
    given = {"dsn": f"postgresql://{USER}@127.0.0.1:{server.port}/postgres", "db_name": "template1"}
    assert (await seen_by_psqlpy(**given))["database"] == "postgres"
    assert (await seen_by_us(**given))["database"] == "template1"
    both = {"dsn": given["dsn"], "application_name": "app", "options": "-c jit=off"}
    assert (await both_see(**both))["name"] == "app"


async def test_B1_options_and_application_name(here: dict[str, Any]) -> None:
    seen = await both_see(host="127.0.0.1", options="-c jit=off", application_name="it's me", **here)
    assert (seen["jit"], seen["name"]) == ("off", "it's me")


@pytest.mark.parametrize(("attribute", "fits"), [("Any", True), ("ReadWrite", True), ("ReadOnly", False)])
async def test_B1_target_session_attrs(attribute: str, fits: bool, here: dict[str, Any]) -> None:
    given = {"host": "127.0.0.1", "target_session_attrs": attribute, **here}
    if fits:
        await both_see(**given)
        return
    with pytest.raises(psqlpy.exceptions.Error):
        await seen_by_psqlpy(**given)
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched, match="read-only"):
        await seen_by_us(**given)


@pytest.mark.parametrize("attribute", ["read-only", "standby", "prefer-standby"])
async def test_B1_hosts_are_tried_until_one_is_what_is_asked_for(attribute: str, server: Server) -> None:
    """Where no host is a standby, they are what a setting of the session makes of them."""
    given: dict[str, Any] = {"username": USER, "db_name": "postgres", "port": server.port}
    given["target_session_attrs"] = attribute
    hosts: dict[str, Any] = {"hosts": ["127.0.0.2", "127.0.0.3"]}
    if attribute == "prefer-standby":
        assert (await seen_by_us(**given, **hosts))["address"] == "127.0.0.2"
    elif attribute == "standby":
        with pytest.raises(asyncpg.TargetServerAttributeNotMatched, match="standby"):
            await seen_by_us(**given, **hosts)
    else:
        assert await seen_by_us(options="-c default_transaction_read_only=on", **given, **hosts)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[int, int]]:
    """The ports of a primary and of its standby."""
    with server_folder() as primary, server_folder() as standby:
        primary.make()
        primary.start()
        primary.copy_to(standby)
        standby.start()
        yield primary.port, standby.port


@pytest.mark.parametrize(("attribute", "of_standby_first"), [("Any", 1), ("ReadWrite", 0), ("ReadOnly", 1)])
async def test_B1_a_standby_is_told_from_its_primary(
    pair: tuple[int, int], attribute: str, of_standby_first: int
) -> None:
    """By both, whichever comes first."""
    given: dict[str, Any] = {"username": USER, "db_name": "postgres", "hosts": ["127.0.0.1"] * 2}
    for ports in (pair, pair[::-1]):
        expected = ports[0] if attribute == "Any" else pair[of_standby_first]
        seen = await both_see(target_session_attrs=attribute, ports=list(ports), **given)
        assert seen["port"] == expected


@pytest.mark.parametrize(("attribute", "found"), [("primary", 0), ("standby", 1), ("prefer-standby", 1)])
async def test_B1_libpqs_other_targets(pair: tuple[int, int], attribute: str, found: int) -> None:
    """psqlpy has no names for primary, standby and prefer-standby; here they are libpq's, with a real standby."""
    given: dict[str, Any] = {"username": USER, "db_name": "postgres", "hosts": ["127.0.0.1"] * 2}
    for ports in (pair, pair[::-1]):
        seen = await seen_by_us(target_session_attrs=attribute, ports=list(ports), **given)
        assert seen["port"] == pair[found]


async def test_B1_connect_timeout_is_for_each_address(server: Server, here: dict[str, Any], silent: int) -> None:
    del here["port"]
    given = {"hosts": ["127.0.0.1", "127.0.0.2"], "ports": [silent, server.port], **here}
    loop = asyncio.get_running_loop()
    for see in (seen_by_us, seen_by_psqlpy):
        began = loop.time()
        found = await see(connect_timeout_sec=0, connect_timeout_nanosec=300_000_000, **given)
        assert found["address"] == "127.0.0.2"
        assert 0.25 < loop.time() - began < 5


async def test_B1_connect_timeout_bounds_a_server_that_accepts_and_says_nothing(
    server: Server, here: dict[str, Any]
) -> None:
    """As with libpq; psqlpy's does not bound that, so only ours is tried."""
    del here["port"]
    with socket.create_server(("127.0.0.1", 0)) as mute:
        given = {"hosts": ["127.0.0.1", "127.0.0.2"], "ports": [mute.getsockname()[1], server.port], **here}
        assert (await seen_by_us(connect_timeout=2, **given))["address"] == "127.0.0.2"
        with pytest.raises(TimeoutError, match=r"no answer within connect_timeout \(0\.1 s\)"):
            await seen_by_us(f"postgresql://127.0.0.1:{mute.getsockname()[1]}?sslmode=disable", connect_timeout=0.1)
        with pytest.raises(TimeoutError, match=r"no connection within 0\.1 s"):
            await seen_by_us(f"postgresql://127.0.0.1:{mute.getsockname()[1]}?sslmode=disable", timeout=0.1)


async def test_B1_what_became_of_each_address_is_told(refusing: int, silent: int) -> None:
    given: dict[str, Any] = {
        "hosts": ["127.0.0.1", "127.0.0.2", "no.such.host.invalid"],
        "ports": [silent, refusing, 5432],
    }
    with pytest.raises(ConnectionError) as caught:
        await seen_by_us(connect_timeout=0.3, **given)
    words = str(caught.value)
    assert words.startswith("none of 3 addresses took the connection: ")
    assert f"127.0.0.1:{silent}: no answer within connect_timeout (0.3 s)" in words
    assert f"127.0.0.2:{refusing}: " in words
    assert "no.such.host.invalid:5432: " in words


FILES = Path("/proc/self/fd")
SOCKET_OPTIONS = ("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def sockets_to(port: int) -> list[dict[str, int]]:
    """The socket options of this process's connections to the port."""
    found = []
    for path in FILES.iterdir():
        try:
            if not str(path.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(path.name))) as sock:
                if sock.family is socket.AF_INET and sock.getpeername()[1] == port:
                    found.append({each: _option(sock, each) for each in SOCKET_OPTIONS})
        except OSError:
            continue
    return found


def _option(sock: socket.socket, name: str) -> int:
    level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
    return sock.getsockopt(level, getattr(socket, name))


KEEPALIVES: list[dict[str, Any]] = [
    {"keepalives": True, "keepalives_idle_sec": 33, "keepalives_interval_sec": 12, "keepalives_retries": 4},
    {"keepalives": False},
    {"tcp_user_timeout_sec": 2, "tcp_user_timeout_nanosec": 500_000_000},
    {},
]


@pytest.mark.skipif(not FILES.exists(), reason="sockets are looked at by way of /proc")
@pytest.mark.parametrize("given", KEEPALIVES, ids=str)
async def test_B1_tcp_user_timeout_and_keepalives(
    given: dict[str, Any], server: Server, here: dict[str, Any]
) -> None:
    before = sockets_to(server.port)
    assert before == []
    pool = of_psqlpy(host="127.0.0.1", **here, **given)
    async with pool.acquire() as connection:
        await connection.fetch("select 1")
        (theirs,) = sockets_to(server.port)
    pool.close()
    until(lambda: not sockets_to(server.port))
    async with dialled(host="127.0.0.1", **here, **given):
        (ours,) = sockets_to(server.port)
    if given.get("keepalives") is False:
        assert (ours["SO_KEEPALIVE"], theirs.pop("SO_KEEPALIVE")) == (0, 1), "psqlpy leaves them on: not copied"
        ours.pop("SO_KEEPALIVE")
    assert ours == theirs


async def test_B1_load_balance_hosts(here: dict[str, Any]) -> None:
    hosts = [f"127.0.0.{number}" for number in range(1, 5)]
    for balance, expected in (("Disable", 1), ("Random", 2)):
        seen = {(await seen_by_us(hosts=hosts, load_balance_hosts=balance, **here))["address"] for _ in range(16)}
        assert len(seen) >= expected
        assert balance == "Random" or seen == {"127.0.0.1"}
    theirs = {(await seen_by_psqlpy(hosts=hosts, load_balance_hosts="Random", **here))["address"] for _ in range(16)}
    assert len(theirs) >= 2


@pytest.mark.parametrize("name", ["connect_timeout", "tcp_user_timeout", "keepalives_idle", "keepalives_interval"])
def test_B1_nanoseconds_without_seconds_are_an_error(name: str) -> None:
    with pytest.raises(psqlpy.exceptions.Error, match=f"{name}_nanosec must be used with"):
        of_psqlpy(**{f"{name}_nanosec": 5})
    with pytest.raises(ConfigError, match=f"{name}_nanosec is expected together with {name}_sec"):
        connect_settings(None, {f"{name}_nanosec": 5})


def test_B1_every_parameter_is_a_setting_of_the_supervisor(server: Server, start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(
        dsn=None,
        max_size=None,
        connect={
            "username": USER,
            "password": "x",
            "host": "127.0.0.3",
            "hosts": ["127.0.0.2"],
            "port": server.port,
            "ports": [server.port],
            "db_name": "postgres",
            "target_session_attrs": "ReadWrite",
            "options": "-c jit=off",
            "application_name": "app",
            "connect_timeout_sec": 3,
            "connect_timeout_nanosec": 1,
            "tcp_user_timeout_sec": 3,
            "tcp_user_timeout_nanosec": 1,
            "keepalives": True,
            "keepalives_idle_sec": 3,
            "keepalives_idle_nanosec": 1,
            "keepalives_interval_sec": 3,
            "keepalives_interval_nanosec": 1,
            "keepalives_retries": 3,
            "load_balance_hosts": "Disable",
            "max_db_pool_size": 3,
            "conn_recycling_method": "Clean",
            "ssl_mode": "Prefer",
        },
    )
    with Client(supervisor.ipc) as client:
        seen = dict(client.fetchrow(LOOK) or {})
        assert (seen["address"], seen["name"], seen["jit"]) == ("127.0.0.2", "app", "off")
        assert client.status().max_size == 3


# --- B2: status, resize, close -------------------------------------------------------------------------------


async def test_B2_status_and_resize(server: Server, start_supervisor: StartSupervisor, here: dict[str, Any]) -> None:
    theirs = of_psqlpy(host="127.0.0.1", max_db_pool_size=3, **here)
    supervisor = start_supervisor(dsn=server.dsn(), max_size=3)
    async with AsyncClient(supervisor.ipc) as ours:

        async def both() -> tuple[int, int, int, int]:
            one, other = theirs.status(), await ours.status()
            seen = (one.max_size, one.size, one.available, one.waiting)
            assert (other.max_size, other.size, other.available, other.waiting) == seen
            return seen

        assert await both() == (3, 0, 0, 0), "none is opened before it is needed"
        leases = [await ours.acquire(), await ours.acquire()]
        connections = [await theirs.connection(), await theirs.connection()]
        assert await both() == (3, 2, 0, 0)
        theirs.resize(5)
        await ours.resize(5)
        assert await both() == (5, 2, 0, 0)
        theirs.resize(1)
        await ours.resize(1)
        status = await ours.status()
        assert (status.max_size, status.size, status.min_size) == (1, 2, 0)
        leases[0].release()
        leases[1].release()
        for connection in connections:
            connection.close()
        async with asyncio.timeout(10):
            while (await ours.status()).size != 1:
                await asyncio.sleep(0.01)
        assert (await ours.status()).max_size == theirs.status().max_size == 1
    theirs.close()


@pytest.mark.parametrize("road", ["ipc", "tcp"])
def test_B2_who_may_resize_is_the_supervisors_to_say(
    road: str, server: Server, start_supervisor: StartSupervisor
) -> None:
    for setting in (None, True, False):
        supervisor = start_supervisor(dsn=server.dsn(), max_size=3, pool={"workers_may_administer": setting})
        with Client(getattr(supervisor, road)) as client:
            if setting or (setting is None and road == "ipc"):
                client.set_connect_args(server.dsn(application_name="new"))
                client.resize(5, 1)
                assert client.fetchval("show application_name") == "new"
                assert (client.status().max_size, client.status().min_size) == (5, 1)
                continue
            with pytest.raises(NotPermitted, match="workers_may_administer"):
                client.resize(5)
            with pytest.raises(NotPermitted, match="workers_may_administer"):
                client.set_connect_args("host=x")
            assert client.status().max_size == 3


def test_B2_sizes_that_cannot_be_are_refused(server: Server, start_supervisor: StartSupervisor) -> None:
    with Client(start_supervisor(dsn=server.dsn(), max_size=3).ipc) as client:
        for sizes, error in (((0,), ValueError), ((-1,), ValueError), (("4",), TypeError), ((True,), TypeError)):
            with pytest.raises(error, match="max_size is expected to be"):
                client.resize(*sizes)
        with pytest.raises(ValueError, match="min_size is greater than max_size"):
            client.resize(2, 3)
        with pytest.raises(ValueError, match="min_size is expected to be greater or equal to zero"):
            client.resize(2, -1)
        with pytest.raises(ValueError, match="at most 262143"):
            client.resize(10**6)
        assert client.status().max_size == 3


async def test_B2_connect_arguments_are_replaced_for_new_connections(
    server: Server, start_supervisor: StartSupervisor
) -> None:
    supervisor = start_supervisor(dsn=server.dsn(application_name="old"), max_size=1)
    async with AsyncClient(supervisor.ipc) as client:
        show = "show application_name"
        assert await client.fetchval(show) == "old"
        given = {"username": USER, "db_name": "postgres", "port": server.port, "hosts": ["127.0.0.2"]}
        await client.set_connect_args(None, application_name="new", **given)
        assert await client.fetchval(show) == "old", "what is open stays"
        await client.expire_connections()
        assert await client.fetchval(show) == "new"
        for wrong, words in (
            ({"usr": 1}, "did you mean `user`"),
            ({"sslmode": "verify-full", "sslrootcert": "/nowhere"}, "No such file"),
            ({"connect_timeout_nanosec": 1}, "together with"),
        ):
            with pytest.raises(ConfigError, match=words):
                await client.set_connect_args(None, **wrong)
        with pytest.raises(TypeError, match="ssl cannot be sent"):
            await client.set_connect_args(None, ssl=object())
        await client.expire_connections()
        assert await client.fetchval(show) == "new", "what is refused changes nothing"


# --- B3: the connection --------------------------------------------------------------------------------------


async def test_B3_rows_values_and_many_at_once(
    server: Server, start_supervisor: StartSupervisor, here: dict[str, Any]
) -> None:
    """psqlpy's methods, and by what names ours have the same."""
    theirs = of_psqlpy(host="127.0.0.1", **here)
    async with (
        AsyncClient(start_supervisor(dsn=server.dsn(), max_size=2).ipc) as ours,
        theirs.acquire() as connection,
    ):
        sql = "select n, n::text as t from generate_series(1, $1::int) n"
        result = await connection.fetch(sql, [3])
        rows = await ours.fetch(sql, 3)
        assert [dict(row) for row in rows] == result.result()
        assert [tuple(row) for row in rows] == result.result(as_tuple=True)
        row = await ours.fetchrow(sql, 1)
        assert row is not None
        assert dict(row) == (await connection.fetch_row(sql, [1])).result()
        assert await ours.fetchval(sql, 1) == await connection.fetch_val(sql, [1]) == 1
        many = "insert into b3 values ($1::int)"
        await connection.execute("create table b3 (n int primary key)")
        try:
            with pytest.raises(psqlpy.exceptions.Error):
                await connection.execute_many(many, [[1], [1]])
            with pytest.raises(asyncpg.UniqueViolationError):
                await ours.executemany(many, [[1], [1]])
            assert await ours.fetchval("select count(*) from b3") == 0, "all or nothing"
        finally:
            await connection.execute("drop table b3")


async def test_B3_a_batch_of_sql_text_is_an_execute_without_arguments_all_or_nothing(
    server: Server, start_supervisor: StartSupervisor, here: dict[str, Any]
) -> None:
    """execute_batch is our execute without arguments: all of the text, or nothing."""
    theirs = of_psqlpy(host="127.0.0.1", **here)
    async with (
        AsyncClient(start_supervisor(dsn=server.dsn(), max_size=2).ipc) as ours,
        theirs.acquire() as connection,
    ):
        count = "select count(*) from b3_batch"
        make = "create table b3_batch (n int); insert into b3_batch values (1); insert into b3_batch values (2);"
        fail = "insert into b3_batch values (3); select 1/0; insert into b3_batch values (4)"
        for run, error in (
            (connection.execute_batch, psqlpy.exceptions.Error),
            (ours.execute, asyncpg.DivisionByZeroError),
        ):
            await run(make)
            try:
                with pytest.raises(error, match="division by zero"):
                    await run(fail)
                assert await ours.fetchval(count) == 2, "none of it"
            finally:
                await run("drop table b3_batch")


async def test_B3_named_parameters(server: Server, start_supervisor: StartSupervisor, here: dict[str, Any]) -> None:
    """Named parameters: in literals ours leaves them alone, and refuses values without a place."""
    theirs = of_psqlpy(host="127.0.0.1", **here)
    async with (
        AsyncClient(start_supervisor(dsn=server.dsn(), max_size=2).ipc) as ours,
        theirs.acquire() as connection,
    ):
        sql, given = "select $(a)p::text as x, $(b-c)p::text as y, $(a)p::text as z", {"a": "1", "b-c": "2"}
        rewritten, args = positional(sql, given)
        assert [dict(row) for row in await ours.fetch(rewritten, *args)] == (
            await connection.fetch(sql, given)
        ).result()
        with pytest.raises(psqlpy.exceptions.Error, match="with name <b-c>"):
            await connection.fetch(sql, {"a": "1"})
        with pytest.raises(ClientError, match=r"parameter \$\(b-c\)p, and no value"):
            positional(sql, {"a": "1"})


# --- B4: recycling -------------------------------------------------------------------------------------------


LEAVE = "set search_path to left_behind; select pg_advisory_lock_shared(4); create temp table left_behind (n int)"
LEFT = """
    select current_setting('search_path') = 'left_behind' as setting,
        exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as lock,
        to_regclass('pg_temp.left_behind') is not null as "table"
"""


@pytest.mark.parametrize("method", ["Fast", "Verified", "Clean", "Reset"])
async def test_B4_what_each_method_leaves(
    method: str, server: Server, start_supervisor: StartSupervisor, here: dict[str, Any]
) -> None:
    """Ours leaves nothing, but for Fast, where psqlpy's Verified leaves all that Fast does."""
    supervisor = start_supervisor(dsn=server.dsn(), max_size=1, pool={"conn_recycling_method": method})
    async with AsyncClient(supervisor.ipc) as client:
        async with client.acquire() as lease:
            await lease.execute(LEAVE)
        async with client.acquire() as lease:
            ours = set(dict(await lease.fetchrow(LEFT) or {}).values())
    assert ours == {method == "Fast"}
    if method == "Reset":
        return
    pool = of_psqlpy(host="127.0.0.1", conn_recycling_method=method, max_db_pool_size=2, **here)
    async with pool.acquire() as connection:
        await connection.execute_batch(LEAVE)
    async with pool.acquire() as connection:
        theirs = set((await connection.fetch(LEFT)).result()[0].values())
    pool.close()
    assert theirs == {method != "Clean"}


@pytest.mark.parametrize("method", ["Fast", "Verified", "Clean", "Reset"])
async def test_B4_an_open_transaction_is_always_rolled_back(
    method: str, server: Server, start_supervisor: StartSupervisor, here: dict[str, Any]
) -> None:
    """psqlpy's methods do not, but for Clean, whose statements fail in it."""
    supervisor = start_supervisor(dsn=server.dsn(), max_size=1, pool={"conn_recycling_method": method})
    async with AsyncClient(supervisor.ipc) as client:
        async with client.acquire() as lease:
            pid = (
                lease.backend_pid
                if hasattr(lease, "backend_pid")
                else await lease.fetchval("select pg_backend_pid()")
            )
            await lease.execute("begin; create table never_there (n int)")
        async with client.acquire() as lease:
            assert await lease.fetchval("select pg_backend_pid()") == pid
            assert await lease.fetchval("select to_regclass('never_there')") is None
            assert await lease.fetchval("select txid_current_if_assigned() is null"), "no transaction is open"


async def test_B4_verified_finds_out_that_a_connection_is_dead(
    server: Server, start_supervisor: StartSupervisor
) -> None:
    """PostgreSQL's process is stopped: it answers nothing, as if the network were cut."""
    supervisor = start_supervisor(
        dsn=server.dsn(), max_size=1, pool={"conn_recycling_method": "Verified", "reset_timeout_seconds": 0.5}
    )
    async with AsyncClient(supervisor.ipc) as client:
        pids = [await client.fetchval("select pg_backend_pid()")]
        for use in (_by_lease, _by_statement):
            os.kill(pids[-1], signal.SIGSTOP)
            try:
                pids.append(await use(client))
            finally:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            assert pids[-1] != pids[-2], "it was replaced"


async def _by_lease(client: AsyncClient) -> Any:
    async with client.acquire() as lease:
        return await lease.fetchval("select pg_backend_pid()")


async def _by_statement(client: AsyncClient) -> Any:
    return await client.fetchval("select pg_backend_pid()")


# --- B5: enumerations, TLS -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_B5_every_member_is_understood_by_its_name(name: str, tls_server: Server) -> None:
    members = [each for each in vars(ENUMERATIONS[name]) if each[0].isupper()]
    assert len(members) >= 2
    for member in members:
        if name == "conn_recycling_method":
            continue  # test_B4
        given = {name: member, "ca_file": tls_server.file("ca.crt")}
        assert Dialer(connect_settings("host=localhost", given))


TLS: list[tuple[str, str, str | None, bool]] = [
    # host, mode, ca_file, whether it connects, with TLS
    ("localhost", "Require", None, True),
    ("localhost", "VerifyFull", "ca.crt", True),
    ("127.0.0.1", "VerifyFull", "ca.crt", False),
    ("localhost", "VerifyFull", "other.crt", False),
    ("localhost", "VerifyCa", "ca.crt", True),
    ("localhost", "VerifyCa", "other.crt", False),
    ("localhost", "Require", "other.crt", False),
]


@pytest.mark.parametrize(("host", "mode", "ca_file", "connects"), TLS)
async def test_B5_the_servers_certificate_is_verified(
    host: str, mode: str, ca_file: str | None, connects: bool, tls_server: Server, here: dict[str, Any]
) -> None:
    given = {"host": host, "ssl_mode": mode, **here}
    if ca_file is not None:
        given["ca_file"] = tls_server.file(ca_file)
    if connects:
        assert (await seen_by_us(**given))["tls"]
        assert (await seen_by_psqlpy(**given))["tls"]
        return
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        await seen_by_us(**given)
    with pytest.raises(psqlpy.exceptions.Error, match="TLS"):
        await seen_by_psqlpy(**given)


async def test_B5_disable_has_no_tls(tls_server: Server, here: dict[str, Any]) -> None:
    given = {"host": "localhost", "ssl_mode": "Disable", **here}
    assert not (await seen_by_us(**given))["tls"]
    assert not (await seen_by_psqlpy(**given))["tls"]


async def test_B5_verify_ca_takes_any_name(tls_server: Server, here: dict[str, Any]) -> None:
    """As libpq's; psqlpy's looks at the name as well."""
    given = {"host": "127.0.0.1", "ssl_mode": "VerifyCa", "ca_file": tls_server.file("ca.crt"), **here}
    assert (await seen_by_us(**given))["tls"]


async def test_B5_a_ca_file_alone_verifies_all(tls_server: Server, here: dict[str, Any]) -> None:
    given = {"ca_file": tls_server.file("ca.crt"), **here}
    assert (await seen_by_us(host="localhost", **given))["tls"]
    assert (await seen_by_psqlpy(host="localhost", **given))["tls"]
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        await seen_by_us(host="127.0.0.1", **given)
    with pytest.raises(psqlpy.exceptions.Error, match="TLS"):
        await seen_by_psqlpy(host="127.0.0.1", **given)


@pytest.mark.parametrize("mode", ["VerifyCa", "VerifyFull"])
def test_B5_to_verify_without_a_certificate_refuses_to_start(
    mode: str, server: Server, start_supervisor: StartSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(AssertionError, match=r"sslmode=verify-.* needs the certificates"):
        start_supervisor(dsn=server.dsn(), connect={"ssl_mode": mode})


async def test_B5_a_client_certificate(tls_server: Server) -> None:
    async with dialled(tls_server.dsn()) as session:
        await session.execute("drop role if exists by_certificate; create role by_certificate login")
    dsn = tls_server.dsn("localhost", user="by_certificate")
    files = {"sslcert": tls_server.file("by_certificate.crt"), "sslkey": tls_server.file("by_certificate.key")}
    root = {"sslmode": "verify-full", "sslrootcert": tls_server.file("ca.crt")}
    assert (await seen_by_us(dsn, **root, **files))["user"] == "by_certificate"
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await seen_by_us(dsn, **root)


async def test_B5_a_cancel_request_takes_the_same_way(tls_server: Server) -> None:
    """To the same address of a name that has several, with the certificate verified by the name."""
    root = {"sslmode": "verify-full", "sslrootcert": tls_server.file("ca.crt")}
    async with dialled(tls_server.dsn("localhost", hostaddr="127.0.0.7"), **root) as session:
        assert await session.fetchval("select host(inet_server_addr())") == "127.0.0.7"
        with pytest.raises(TimeoutError):
            await session.execute("select pg_sleep(60)", timeout=0.1)
        assert await session.fetchval("select 1") == 1
