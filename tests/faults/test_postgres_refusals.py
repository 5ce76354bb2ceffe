"""PostgreSQL refuses connections: too many are there already, or the password is wrong. The server's own reason is
said, never the password; what is there goes on; and when the reason is gone, so is the trouble."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgactor import DatabaseUnavailable, PoolTimeout
from tests.faults.postgres_servers import PASSWORD, Proxy, Serve, Server, connected, full_service
from tests.integration.conftest import OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor
from tests.supervising import until

pytestmark = pytest.mark.xdist_group("postgres refuses")

GUEST = "guest"
HBA = f"local all all trust\nhost all {GUEST} all scram-sha-256\nhost all all all trust\n"


@pytest.fixture
def guest(postgres: Server, admin: Driven) -> str:
    """A user with a password, who may have no more than two connections."""
    (postgres.data / "pg_hba.conf").write_text(HBA)
    admin.execute(f"drop role if exists {GUEST}; create role {GUEST} login password '{PASSWORD}' connection limit 2")
    admin.execute("select pg_reload_conf()")
    return GUEST


def served_as(guest: str, password: str, serve: Serve, proxy: Proxy, **pool: object) -> WatchedSupervisor:
    dsn = f"postgresql://{guest}:{password}@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
    return serve(dsn, max_size=4, pool=pool)


def everything_said(supervisor: WatchedSupervisor, *errors: BaseException) -> str:
    """The log, the errors and the command line."""
    command = Path(f"/proc/{supervisor.pid}/cmdline")
    told = [supervisor.log.read_text(), command.read_text() if command.exists() else ""]
    return "\n".join([*told, *map(str, errors), *(repr(error.__dict__) for error in errors)])


def test_where_some_connections_are_refused_the_others_serve_and_who_waits_in_vain_is_told_why(
    serve: Serve, open_client: OpenClient, proxy: Proxy, guest: str, admin: Driven
) -> None:
    supervisor = served_as(guest, PASSWORD, serve, proxy)
    client = open_client(supervisor, "sync-ipc")
    with client.acquire() as one, client.acquire() as two:
        began, before = time.monotonic(), len(proxy.attempts)
        reason = "PostgreSQL refuses connections: TooManyConnectionsError: too many connections for role"
        with pytest.raises(PoolTimeout, match=reason) as caught:
            client.acquire(timeout=1)
        assert client.status().database.startswith("failing: TooManyConnectionsError: too many connections")
        assert [each.fetchval("select 7") for each in (one, two)] == [7, 7]
        two.release()
        assert client.fetchval("select 7", timeout=10) == 7, "whoever comes next has what came free"
        # one at a time, at 0.025 to 0.05, 0.05 to 0.1, 0.1 to 0.2, 0.2 to 0.4, ... s
        assert len(proxy.attempts) - before <= 5 + (time.monotonic() - began) / 0.2
    assert PASSWORD not in everything_said(supervisor, caught.value)
    admin.execute(f"alter role {guest} connection limit 10")
    full_service(client, 4)


def test_where_the_server_is_full_the_reason_is_said_and_it_is_served_when_there_is_room(
    serve: Serve, open_client: OpenClient, proxy: Proxy, postgres: Server, guest: str, loop_thread: LoopThread
) -> None:
    """Not one connection is to be had: nobody waits longer than the grace period."""
    with ExitStack() as stack:
        for _ in range(2):
            dsn = postgres.dsn().replace("tester@", f"{guest}:{PASSWORD}@")
            stack.enter_context(connected(dsn, loop_thread))
        supervisor = served_as(guest, PASSWORD, serve, proxy, database_grace_seconds=0.3)
        client = open_client(supervisor, "sync-ipc")
        reason = "PostgreSQL accepts no connection .* TooManyConnectionsError: too many connections for role"
        with pytest.raises(DatabaseUnavailable, match=reason) as caught:
            client.fetchval("select 7", timeout=10)
        assert caught.value.retry
    full_service(client, 2)


def test_a_wrong_password_is_said_with_the_servers_words_and_never_shown(
    serve: Serve, open_client: OpenClient, proxy: Proxy, guest: str, admin: Driven
) -> None:
    """Waiting does not mend it, so nobody has to; and when the server's is changed, they are served."""
    wrong = "n0t-the-password"
    supervisor = served_as(guest, wrong, serve, proxy)
    client = open_client(supervisor, "sync-ipc")
    before = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=f'password authentication failed for user "{guest}"') as caught:
        client.fetchval("select 7", timeout=10)
    until(lambda: client.status().counters["connections_failed"] >= 1)
    assert len(proxy.attempts) <= 4 + (time.monotonic() - before) / 0.2
    status = client.status()
    assert status.database == f'failing: InvalidPasswordError: password authentication failed for user "{guest}"'
    assert wrong not in everything_said(supervisor, caught.value) + repr(status)
    admin.execute(f"alter role {guest} password '{wrong}' connection limit 4")
    full_service(client, 4)
    assert wrong not in everything_said(supervisor)


def test_a_password_that_changes_leaves_the_connections_that_are_there(
    serve: Serve, open_client: OpenClient, proxy: Proxy, guest: str, admin: Driven
) -> None:
    supervisor = served_as(guest, PASSWORD, serve, proxy)
    client = open_client(supervisor, "async-ipc")
    with client.acquire() as lease:
        admin.execute(f"alter role {guest} password 'another'")
        assert lease.fetchval("select 7") == 7
        with pytest.raises(PoolTimeout, match=r"refuses connections: InvalidPasswordError: password authentication"):
            client.acquire(timeout=0.5)
        with pytest.raises(PoolTimeout):
            client.fetchval("select 7", timeout=0.5)
    assert client.fetchval("select 7", timeout=10) == 7
    admin.execute(f"alter role {guest} password '{PASSWORD}' connection limit 4")
    full_service(client, 4)
