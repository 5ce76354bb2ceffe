"""Hooks of the supervisor: functions that it calls for new, used and returned connections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from pgactor import DatabaseUnavailable
from tests import hooks
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import ASYNC_KINDS, Driven, WatchedSupervisor, outcome
from tests.supervising import until

pytestmark = pytest.mark.either_lane

Hooked = Callable[..., WatchedSupervisor]
SETUPS = "select current_setting('hooks.setup', true)"
"""One x for each call of the setup hook since the session was reset."""


@pytest.fixture(params=["sync-ipc", "async-tcp"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each client and each road; hooks run in the supervisor."""
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where hooks write down their calls, and take their orders."""
    return tmp_path


@pytest.fixture
def hooked(start: Launch, folder: Path) -> Hooked:
    """Makes supervisors with these hooks."""

    def start_one(*names: str, **pool: float | str) -> WatchedSupervisor:
        lines = [f'{name} = "tests.hooks:{name}"' for name in names]
        return start(
            toml="\n".join(["[hooks]", *lines, ""]),
            environment={"HOOKS_FOLDER": str(folder)},
            pool={"database_grace_seconds": 0, "reopen_backoff_seconds": 0.01, **pool},
            max_size=1,
        )

    return start_one


# --- when they are called -------------------------------------------------------------------------------------


def test_each_is_called_in_its_time(hooked: Hooked, open_client: OpenClient, kind: str, folder: Path) -> None:
    client = open_client(hooked("connect", "init", "setup", "reset"), kind)
    for _ in range(2):
        with client.acquire() as lease:
            lease.fetchval("select 1")
    client.fetchval("select 1")
    until(lambda: len(hooks.calls(folder)) == 8)
    assert hooks.calls(folder) == ["connect", "init 0", *["setup 0", "reset 0"] * 3]


def test_each_statement_is_a_use_of_its_own_where_a_setup_hook_is(
    hooked: Hooked, open_client: OpenClient, kind: str, table: str
) -> None:
    client = open_client(hooked("setup"), kind)
    assert [client.fetchval(SETUPS) for _ in range(3)] == ["x"] * 3
    client.execute(f"insert into {table} values (1, current_setting('hooks.setup'))")
    client.executemany(f"insert into {table} values ($1, current_setting('hooks.setup'))", [(2,), (3,)])
    client.batch([f"insert into {table} values (4, current_setting('hooks.setup'))"])
    assert {row["name"] for row in client.fetch(f"select name from {table}")} == {"x"}
    counters = client.status().counters
    assert counters["statements_pipelined"] == 0


def test_init_and_connect_leave_the_statement_lane_as_it_is(hooked: Hooked, open_client: OpenClient) -> None:
    client = open_client(hooked("connect", "init", statement_lane="on"), "sync-ipc")
    for _ in range(5):
        client.fetchval("select 1")
    assert client.status().counters["statements_pipelined"] > 0


def test_codecs_that_init_sets_hold_in_both_lanes(hooked: Hooked, open_client: OpenClient, folder: Path) -> None:
    hooks.give_order(folder, "init codec")
    client = open_client(hooked("init", statement_lane="on"), "sync-ipc")
    assert [client.fetchval("select '1'::json") for _ in range(3)] == ["1!"] * 3
    with client.acquire() as lease:
        assert lease.fetchval("select '1'::json") == "1!"


def test_the_reset_hook_takes_the_place_of_the_reset_but_not_of_the_rollback(
    hooked: Hooked, open_client: OpenClient, kind: str, table: str
) -> None:
    client = open_client(hooked("reset"), kind)
    with client.acquire() as lease:
        lease.execute("set application_name = 'kept'")
        lease.execute("begin")
        lease.execute(f"insert into {table} values (1, 'a')")
    with client.acquire() as lease:
        assert lease.fetchval("show application_name") == "kept"
        assert lease.fetchval(f"select count(*) from {table}") == 0


def test_a_lease_that_did_nothing_is_followed_by_the_reset_hook_too(
    hooked: Hooked, open_client: OpenClient, folder: Path
) -> None:
    client = open_client(hooked("reset"), "sync-ipc")
    client.acquire().release()
    until(lambda: hooks.calls(folder) == ["reset 0"])


# --- when they fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["acquire", "fetchval", "executemany"])
def test_an_error_of_setup_reaches_the_requester_and_costs_the_connection(
    hooked: Hooked, open_client: OpenClient, kind: str, folder: Path, use: str, table: str
) -> None:
    client = open_client(hooked("setup"), kind)
    args = {
        "acquire": (),
        "fetchval": ("select 1",),
        "executemany": (f"insert into {table} values ($1)", [(1,), (2,)]),
    }[use]
    pid = client.fetchval("select pg_backend_pid()")
    hooks.give_order(folder, "setup raise")
    with pytest.raises(ValueError, match=r"^the setup hook does not like it$"):
        getattr(client, use)(*args)
    hooks.give_order(folder, "setup sql")
    with pytest.raises(asyncpg.DivisionByZeroError, match=r"^division by zero$"):
        getattr(client, use)(*args)
    hooks.give_order(folder)
    assert client.fetchval("select pg_backend_pid()") != pid
    assert hooks.calls(folder) == ["setup 0", "setup 0", "setup 1", "setup 2"]
    assert client.fetchval(f"select count(*) from {table}") == 0
    assert client.status().leased == 0


@pytest.mark.parametrize("deed", ["hang", "query"])
@pytest.mark.parametrize("use", ["acquire", "fetchval"])
def test_the_requests_timeout_bounds_setup_too(
    hooked: Hooked, open_client: OpenClient, kind: str, folder: Path, use: str, deed: str
) -> None:
    client = open_client(hooked("setup"), kind)
    pid = client.fetchval("select pg_backend_pid()")
    hooks.give_order(folder, f"setup {deed}")
    with pytest.raises(TimeoutError):
        getattr(client, use)(*([] if use == "acquire" else ["select 1"]), timeout=0.2)
    hooks.give_order(folder)
    assert client.fetchval("select pg_backend_pid()") != pid


@pytest.mark.parametrize("kind", ASYNC_KINDS)
@pytest.mark.parametrize("use", ["acquire", "fetchval"])
def test_a_request_that_is_cancelled_during_setup_costs_the_connection(
    hooked: Hooked, open_client: OpenClient, kind: str, folder: Path, use: str
) -> None:
    client = open_client(hooked("setup"), kind)
    pid = client.fetchval("select pg_backend_pid()")
    hooks.give_order(folder, "setup hang")
    waiting = client.begin(use, *([] if use == "acquire" else ["select 1"]))
    until(lambda: hooks.calls(folder).count("setup 0") == 2)
    waiting.cancel()
    hooks.give_order(folder)
    assert client.fetchval("select pg_backend_pid()") != pid
    assert client.status().leased == 0


def test_a_worker_that_goes_during_setup_leaves_no_lease(
    hooked: Hooked, open_client: OpenClient, kind: str, folder: Path
) -> None:
    supervisor = hooked("setup")
    client, other = open_client(supervisor, kind), open_client(supervisor, kind)
    hooks.give_order(folder, "setup hang")
    waiting = client.begin("acquire")
    until(lambda: hooks.calls(folder) == ["setup 0"])
    client.close()
    assert waiting.exception() is not None
    hooks.give_order(folder)
    assert other.fetchval("select 1") == 1
    assert hooks.calls(folder)[-1] == "setup 1"


def test_a_connection_that_setup_cuts_is_replaced(
    hooked: Hooked, open_client: OpenClient, kind: str, folder: Path
) -> None:
    client = open_client(hooked("setup"), kind)
    hooks.give_order(folder, "setup cut")
    for _ in range(2):
        with pytest.raises(asyncpg.InterfaceError, match="connection is closed"):
            client.acquire()
    hooks.give_order(folder)
    with client.acquire() as lease:
        assert lease.fetchval("select 1") == 1


@pytest.mark.parametrize("deed", ["raise", "sql", "query", "cut"])
def test_a_reset_that_fails_costs_the_connection_and_nothing_else(
    hooked: Hooked, open_client: OpenClient, kind: str, folder: Path, deed: str
) -> None:
    client = open_client(hooked("reset", reset_timeout_seconds=0.3), kind)
    hooks.give_order(folder, f"reset {deed}")
    assert client.fetchval("select 1") == 1
    until(lambda: hooks.calls(folder) == ["reset 0"])
    hooks.give_order(folder)
    assert client.fetchval("select 1") == 1
    until(lambda: hooks.calls(folder) == ["reset 0", "reset 1"])


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("init raise", "ValueError: the init hook does not like it"),
        ("init sql", "DivisionByZeroError: division by zero"),
        ("init hang", "TimeoutError: the init hook did not end within 0.5 s (timeout of [connect])"),
        ("connect raise", "ValueError: the connect hook does not like it"),
        ("connect hang", "TimeoutError: no connection within 0.5 s"),
        (
            "connect number",
            "InterfaceError: expected pool connect callback to return an instance of "
            "'asyncpg.connection.Connection', got 'int'",
        ),
        (
            "connect plain",
            "InterfaceError: expected pool connect callback to return an instance of "
            "'pgactor.actors.session.Session', got 'asyncpg.connection.Connection'\n"
            "HINT:  the hook is expected to give asyncpg.connect its connection_class",
        ),
    ],
)
def test_a_connection_that_is_not_made_is_an_error_that_says_why(
    start: Launch, open_client: OpenClient, db: Driven, folder: Path, order: str, words: str
) -> None:
    name = f"hooks-{order.replace(' ', '-')}"
    supervisor = start(
        toml='[hooks]\nconnect = "tests.hooks:connect"\ninit = "tests.hooks:init"\n',
        environment={"HOOKS_FOLDER": str(folder)},
        pool={"database_grace_seconds": 0, "reopen_backoff_max_seconds": 0.1},
        connect={"timeout": 0.5, "server_settings": {"application_name": name}},
    )
    client = open_client(supervisor, "sync-ipc")
    hooks.give_order(folder, order)
    with pytest.raises(DatabaseUnavailable) as caught:
        client.fetchval("select 1")
    assert str(caught.value).endswith(f"the last attempt: {words}")
    until(lambda: db.fetchval("select count(*) from pg_stat_activity where application_name = $1", name) == 0)
    hooks.give_order(folder)
    until(lambda: outcome(lambda: client.fetchval("select 1"))[0] == "returned")


def test_hooks_belong_to_their_pool(start: Launch, open_client: OpenClient, folder: Path) -> None:
    supervisor = start(
        toml='[pools.hooked]\nmax_size = 1\n[pools.hooked.hooks]\nsetup = "tests.hooks:setup"\n',
        environment={"HOOKS_FOLDER": str(folder)},
    )
    assert not open_client(supervisor, "sync-ipc").fetchval(SETUPS)
    assert open_client(supervisor, "sync-ipc", pool="hooked").fetchval(SETUPS) == "x"
