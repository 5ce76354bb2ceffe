"""Several pools in one supervisor: named ones, and those that are made on demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pgactor import AsyncClient, Client, ClientError, LeaseLost, PoolError
from tests.forked import ForkedProcess, run_pgactor
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor, outcome
from tests.supervising import until

pytestmark = pytest.mark.either_lane

POOLS = """
[pools.replica]
dsn = "{dsn}"
max_size = 2
[pools.replica.connect]
server_settings = {{ application_name = "{tag}-replica" }}

[pools.batch]
max_size = 1
queue_timeout_seconds = 0.2
[pools.batch.connect]
server_settings = {{ application_name = "{tag}-batch" }}

[templates.tenant]
max_size = 2
max_pools = 2
pool_idle_seconds = 0.4
[templates.tenant.connect]
dsn = "{place}"
server_settings = {{ application_name = "{tag}-tenant" }}
"""


def place_of(dsn: str) -> str:
    """The dsn with {database} in the place of its database."""
    return urlsplit(dsn)._replace(path="/{database}").geturl()


def database_of(dsn: str) -> str:
    return urlsplit(dsn).path[1:]


@pytest.fixture(scope="module")
def tag() -> str:
    return f"pools-{id(object())}"


@pytest.fixture(scope="module")
def supervisor(launch: Launch, dsn: str, tag: str) -> WatchedSupervisor:
    return launch(toml=POOLS.format(dsn=dsn, place=place_of(dsn), tag=tag), max_size=3)


@pytest.fixture
def other_database(db: Driven) -> Iterator[str]:
    """A database with a name that a dsn cannot hold as it is."""
    name = "pgactor it/other?"
    db.execute(f'drop database if exists "{name}"')
    db.execute(f'create database "{name}"')
    yield name
    db.execute(f'drop database "{name}" with (force)')


# --- named ones -----------------------------------------------------------------------------------------------


def test_a_client_belongs_to_the_pool_that_it_names(
    supervisor: WatchedSupervisor, open_client: OpenClient, kind: str, tag: str
) -> None:
    application = "select current_setting('application_name')"
    for pool, expected in ((None, supervisor.name), ("default", supervisor.name), ("replica", f"{tag}-replica")):
        client = open_client(supervisor, kind, pool=pool)
        assert client.fetchval(application) == expected
        with client.acquire() as lease:
            assert lease.fetchval(application) == expected


def test_each_pool_has_its_own_limits_and_state(
    supervisor: WatchedSupervisor, open_client: OpenClient, kind: str
) -> None:
    first, replica, batch = (open_client(supervisor, kind, pool=pool) for pool in ("", "replica", "batch"))
    with batch.acquire():
        with pytest.raises(Exception, match="max_size 1"):
            batch.acquire(timeout=0.1)
        assert replica.fetchval("select 1") == first.fetchval("select 1") == 1
        states = {client.status().pool: client.status() for client in (first, replica, batch)}
    assert {name: state.max_size for name, state in states.items()} == {"default": 3, "replica": 2, "batch": 1}
    assert [state.leased for state in states.values()] == [0, 0, 1]
    assert all(state.pools[:3] == ["default", "replica", "batch"] for state in states.values())
    assert len({state.epoch for state in states.values()}) == 3


def test_a_pool_without_a_dsn_takes_what_it_does_not_say_from_the_first(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven
) -> None:
    batch = open_client(supervisor, "sync-ipc", pool="batch")
    here = "select current_database() || current_user"
    assert batch.fetchval(here) == db.fetchval(here)


def test_a_name_that_the_supervisor_does_not_have_is_an_error_that_names_those_it_has(
    supervisor: WatchedSupervisor, open_client: OpenClient, kind: str
) -> None:
    client = open_client(supervisor, kind, pool="replika")
    for _ in range(2):
        with pytest.raises(PoolError) as caught:
            client.fetchval("select 1")
        assert str(caught.value) == (
            "the supervisor has no pool 'replika'; it has: default, replica, batch, tenant/DATABASE"
        )


def test_the_pool_can_be_named_by_the_endpoint_and_by_the_environment(
    supervisor: WatchedSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(f"{supervisor.ipc}?pool=replica") as client:
        assert client.status().pool == "replica"
    monkeypatch.setenv("PGACTOR_POOL", "batch")
    with Client(supervisor.tcp) as client:
        assert client.status().pool == "batch"
    with Client(supervisor.ipc, pool="default") as client:
        assert client.status().pool == "default"
    with pytest.raises(ClientError, match=r"\?pool=NAME"):
        AsyncClient(f"{supervisor.ipc}?poll=replica")


def test_a_lease_of_one_pool_is_nothing_to_another(supervisor: WatchedSupervisor) -> None:
    with Client(supervisor.ipc, pool="replica") as one, Client(supervisor.ipc, pool="batch") as other:
        lease, theirs = one.acquire(), other.acquire()
        theirs.token = lease.token
        with pytest.raises(LeaseLost, match="earlier life"):
            theirs.fetchval("select 1")
        lease.release()


def test_the_command_line_shows_one_pool(supervisor: WatchedSupervisor) -> None:
    def run(*args: str) -> str:
        command = [sys.executable, "-m", "pgactor", *args, "--endpoint", supervisor.ipc]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert json.loads(run("status", "--json", "--pool", "replica"))["max_size"] == 2
    assert "pool batch of default, replica, batch" in run("status", "--pool", "batch")
    assert "replica" in run("query", "select current_setting('application_name') as name", "--pool", "replica")


def test_log_lines_name_the_pool_where_there_are_several(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, tag: str
) -> None:
    client = open_client(supervisor, "sync-ipc", pool="replica")
    client.fetchval("select 1")
    db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", f"{tag}-replica")
    until(lambda: " of pool replica (pid " in supervisor.log.read_text())


def test_sigterm_drains_all_of_them(start: Launch, dsn: str, tag: str, db: Driven) -> None:
    supervisor = start(toml=POOLS.format(dsn=dsn, place=place_of(dsn), tag=f"{tag}-drained"), max_size=1)
    clients = [
        Driven(Client(supervisor.ipc, pool=pool), None) for pool in ("", "replica", f"tenant/{database_of(dsn)}")
    ]
    work = [client.begin("fetchval", "select 7 from pg_sleep(1)") for client in clients]
    busy = "select count(*) from pg_stat_activity where state = 'active' and query like 'select 7 from pg_sleep(1)'"
    until(lambda: db.fetchval(busy) == 3)
    assert supervisor.stop() == 0
    assert [future.result() for future in work] == [7, 7, 7]
    assert db.fetchval("select count(*) from pg_stat_activity where application_name like $1", f"{tag}-drained%") == 0
    for client in clients:
        client.close()


@pytest.mark.parametrize("variable", ["PGACTOR_DSN_OTHER", "PGACTOR_DSN_BATCH"])
def test_the_environment_gives_a_pool_its_dsn_or_makes_one(start: Launch, dsn: str, variable: str) -> None:
    mark = "&" if "?" in dsn else "?"
    supervisor = start(
        toml="[pools.batch]\nmax_size = 2\n",
        environment={
            variable: f"{dsn}{mark}application_name=by_environment",
            f"{variable.replace('DSN', 'MAX_SIZE')}": "3",
        },
    )
    with Client(supervisor.ipc, pool=variable.rpartition("_")[2].lower()) as client:
        assert client.fetchval("select current_setting('application_name')") == "by_environment"
        assert client.status().max_size == 3


# --- those of templates ---------------------------------------------------------------------------------------


def test_a_pool_is_made_when_it_is_first_asked_for(
    supervisor: WatchedSupervisor, open_client: OpenClient, kind: str, other_database: str
) -> None:
    until(lambda: room(supervisor, 1))
    client = open_client(supervisor, kind, pool=f"tenant/{other_database}")
    assert client.fetchval("select current_database()") == other_database
    same = open_client(supervisor, kind, pool=f"tenant/{other_database}")
    assert same.status().epoch == client.status().epoch
    assert client.status().pools[-1] == f"tenant/{other_database}"
    assert len(client.status().workers) == 2
    client.close()
    same.close()


def test_no_more_are_made_than_may_be_and_an_unused_one_makes_room(
    supervisor: WatchedSupervisor, open_client: OpenClient, dsn: str
) -> None:
    until(lambda: room(supervisor, 2))
    first = open_client(supervisor, "sync-ipc", pool="tenant/nowhere1")
    second = open_client(supervisor, "sync-ipc", pool="tenant/nowhere2")
    assert first.status().pool == "tenant/nowhere1"
    assert second.status().pool == "tenant/nowhere2"
    third = open_client(supervisor, "sync-ipc", pool=f"tenant/{database_of(dsn)}")
    with pytest.raises(PoolError) as caught:
        third.fetchval("select 1")
    assert str(caught.value) == (
        "there are 2 pools of the template 'tenant' already (max_pools), and workers are connected to each"
    )
    second.close()
    until(lambda: outcome(lambda: third.fetchval("select 1"))[0] == "returned")
    assert "tenant/nowhere2" not in third.status().pools
    assert first.status().pool == "tenant/nowhere1"
    first.close()
    third.close()


def test_one_that_no_worker_is_connected_to_is_closed_after_a_while(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, dsn: str, tag: str
) -> None:
    until(lambda: room(supervisor, 1))
    client = open_client(supervisor, "sync-ipc", pool=f"tenant/{database_of(dsn)}")
    epoch = client.status().epoch
    client.fetchval("select 1")
    there = "select count(*) from pg_stat_activity where application_name = $1"
    assert db.fetchval(there, f"{tag}-tenant") == 1
    client.close()
    until(lambda: db.fetchval(there, f"{tag}-tenant") == 0)
    again = open_client(supervisor, "sync-ipc", pool=f"tenant/{database_of(dsn)}")
    assert again.fetchval("select 1") == 1
    assert again.status().epoch > epoch
    again.close()


@pytest.mark.parametrize("name", ["tenant", "tenant/", f"tenant/{'x' * 64}", "tenant/a\nb"])
def test_what_cannot_be_a_name_is_refused(supervisor: WatchedSupervisor, open_client: OpenClient, name: str) -> None:
    client = open_client(supervisor, "sync-ipc", pool=name)
    with pytest.raises(PoolError, match="tenant/DATABASE is expected, with names of at most 63 bytes"):
        client.fetchval("select 1")


def room(supervisor: WatchedSupervisor, count: int) -> bool:
    """Whether so many pools may be made of the template."""
    with Client(supervisor.ipc) as client:
        return sum(name.startswith("tenant/") for name in client.status().pools) <= 2 - count


# --- settings that cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[pools.default]\nmax_size = 1", "'default' is the first pool's name"),
        ('[pools."a b"]\nmax_size = 1', "'a b' is no name of a pool"),
        ("[pools.a]\nmax_size = 0", "max_size is expected to be greater than zero"),
        ("[pools.a]\nmax_sise = 1", "did you mean `max_size`?"),
        ('[pools.a]\ndsn = "x"\n[pools.a.connect]\ndsn = "y"', "dsn is expected once"),
        ('[pools.a]\nmax_size = 1\n[templates.a]\ndsn = "x{user}"', "'a' is a pool and a template"),
        ('[templates.a]\ndsn = "postgresql://h/d"', "expected to contain {database} or {user}"),
        (
            '[templates.a]\ndsn = "postgresql://h/{user}"\nmax_pools = 0',
            "max_pools is expected to be greater than zero",
        ),
        ('[hooks]\ninit = "nothing"', "init is expected to be 'module:function' (got 'nothing')"),
        ('[hooks]\ninit = "no_such_module:f"', "the init hook 'no_such_module:f' cannot be imported"),
        ('[pools.a.hooks]\nsetup = "json:no_such"', "the setup hook 'json:no_such' cannot be imported"),
        ('[hooks]\nreset = "json:__name__"', "is expected to be an async function, not 'json'"),
    ],
)
def test_a_supervisor_with_pools_that_cannot_be_does_not_start(toml: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "pgactor.toml"
    path.write_text(toml)
    arguments, log = ["serve", "--config", str(path), "--endpoint", f"ipc://{tmp_path}/s"], tmp_path / "log"
    assert ForkedProcess(run_pgactor, arguments, log, dict(os.environ)).wait(30) == 1
    assert words in log.read_text()
