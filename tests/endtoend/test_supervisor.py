"""The supervisor's own life: start, refusals, drain, sudden death and a new life."""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pgactor import AsyncClient, Client, LeaseLost, OutcomeUnknown, PgactorError, PoolClosing, SupervisorUnavailable
from pgactor.client import calls, replies
from tests.endtoend.processes import StartSupervisor, StartWorker, ask, environment, state_of
from tests.supervising import SupervisorProcess, free_port, until

pytestmark = pytest.mark.command_line

ROADS = ["ipc", "tcp"]
AT_ONCE = 10.0
"""Seconds, far less than any timeout in these tests."""


@pytest.fixture
def mark(dsn: str) -> Iterator[str]:
    """A word for statements that their supervisor may leave behind when it is killed; they are ended afterwards."""
    word = f"left_behind_{os.getpid()}"
    yield word
    sql = "select pg_terminate_backend(pid) from pg_stat_activity where query like $1 and pid <> pg_backend_pid()"
    ask(dsn, sql, f"%{word}%")


def serve(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """`pgactor serve` with the arguments, which it is expected to refuse."""
    command = [sys.executable, "-m", "pgactor", "serve", *map(str, arguments)]
    return subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=60)


def must_refuse(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It said why in one line, and was never ready."""
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    for word in words:
        assert word in lines[0]


# --- the end in good order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("road", ROADS)
def test_a_signal_lets_work_in_progress_end_well_and_refuses_new_work(
    start_supervisor: StartSupervisor, dsn: str, table: str, road: str, number: signal.Signals
) -> None:
    supervisor = start_supervisor(drain_timeout_seconds=60)
    endpoint = getattr(supervisor, road)
    with ThreadPoolExecutor(1) as threads, Client(endpoint) as client:
        lease = client.acquire()
        transaction = lease.transaction()
        transaction.start()
        lease.execute(f"update {table} set value = 1 where id = 1")
        running = threads.submit(client.fetchval, f"select pg_sleep(1), 5 from {table}", column=1)
        until(lambda: client.status().busy == 1)

        supervisor.process.send_signal(number)
        until(lambda: is_draining(client))
        with pytest.raises(PoolClosing):
            client.acquire()
        assert not running.done()
        lease.execute(f"update {table} set value = value + 1 where id = 1")
        transaction.commit()
        assert running.result(10) == 5
        assert supervisor.process.poll() is None, "it ended although a lease was held"
        lease.release()
        assert supervisor.process.wait(AT_ONCE) == 0
    assert ask(dsn, f"select value from {table}")[0][0] == 2
    assert not Path(supervisor.ipc.removeprefix("ipc://")).exists()
    assert "Traceback" not in supervisor.log.read_text()


def is_draining(client: Client) -> bool:
    try:
        client.fetchval("select 1")
    except PoolClosing:
        return True
    return False


def test_a_second_sigterm_stops_at_once(start_supervisor: StartSupervisor, dsn: str, mark: str) -> None:
    supervisor = start_supervisor(drain_timeout_seconds=100)
    with ThreadPoolExecutor(1) as threads, Client(supervisor.ipc) as client:
        lease = client.acquire()
        lease.execute("begin")
        running = threads.submit(client.execute, f"select pg_sleep(100) as {mark}")
        until(lambda: client.status().busy == 1)
        supervisor.process.send_signal(signal.SIGTERM)
        until(lambda: is_draining(client))
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.process.wait(AT_ONCE) == 0
        with pytest.raises(OutcomeUnknown):
            running.result(AT_ONCE)
        with pytest.raises(LeaseLost):
            lease.fetchval("select 1")
    assert "Traceback" not in supervisor.log.read_text()
    until(lambda: not runs(dsn, mark), seconds=AT_ONCE)


def test_work_that_goes_on_after_drain_timeout_seconds_is_ended(
    start_supervisor: StartSupervisor, dsn: str, mark: str
) -> None:
    supervisor = start_supervisor(drain_timeout_seconds=0.3)
    with ThreadPoolExecutor(1) as threads, Client(supervisor.ipc) as client:
        lease = client.acquire()
        running = threads.submit(client.execute, f"select pg_sleep(100) as {mark}")
        until(lambda: client.status().busy == 1)
        assert supervisor.stop() == 0
        with pytest.raises(OutcomeUnknown):
            running.result(AT_ONCE)
        with pytest.raises(LeaseLost):
            lease.fetchval("select 1")
    until(lambda: not runs(dsn, mark), seconds=AT_ONCE)


def runs(dsn: str, mark: str) -> bool:
    sql = "select 1 from pg_stat_activity where state = 'active' and query like $1 and pid <> pg_backend_pid()"
    return bool(ask(dsn, sql, f"%{mark}%"))


# --- sudden death, and a new life -------------------------------------------------------------------------------


@pytest.mark.parametrize("road", ROADS)
def test_a_client_outlives_its_supervisor(start_supervisor: StartSupervisor, mark: str, road: str) -> None:
    supervisor = start_supervisor()
    with ThreadPoolExecutor(4) as threads, Client(getattr(supervisor, road), connect_timeout=20) as client:
        lease = client.acquire()
        lease.execute("begin")
        in_flight = [threads.submit(client.execute, f"select pg_sleep(100) as {mark}") for _ in range(2)]
        in_flight.append(threads.submit(lease.execute, f"select pg_sleep(100) as {mark}"))
        until(lambda: client.status().busy == 2)
        until(lambda: any(mark in holder.statement for holder in client.status().holders if holder.lease))

        supervisor.process.kill()
        supervisor.process.wait()
        killed = time.monotonic()
        for request in in_flight:
            with pytest.raises(OutcomeUnknown):
                request.result(AT_ONCE)
        assert time.monotonic() - killed < AT_ONCE
        with pytest.raises(LeaseLost):
            lease.fetchval("select 1")

        meanwhile = [threads.submit(client.fetchval, "select $1::int", number) for number in range(3)]
        with pytest.raises(SupervisorUnavailable):
            client.fetchval("select 1", timeout=0.2)
        assert not any(request.done() for request in meanwhile)
        supervisor.start()
        assert [request.result(20) for request in meanwhile] == [0, 1, 2]
        with pytest.raises(LeaseLost):
            lease.fetchval("select 1")
        stolen = calls.fetch("select 1", (), 5.0, lease.token)  # its old token, by the new link
        with pytest.raises(LeaseLost, match="earlier life"):
            replies.rows(client._channel.call(stolen)[0], stolen)
        lease.release()
        with client.acquire() as another, another.transaction():
            assert another.fetchval("select 7") == 7


@pytest.mark.parametrize("road", ROADS)
async def test_an_async_client_outlives_its_supervisor(
    start_supervisor: StartSupervisor, mark: str, road: str
) -> None:
    supervisor = start_supervisor()
    async with AsyncClient(getattr(supervisor, road), connect_timeout=20) as client:
        lease = await client.acquire()
        in_flight = [asyncio.create_task(client.execute(f"select pg_sleep(100) as {mark}")) for _ in range(2)]
        in_flight.append(asyncio.create_task(lease.execute(f"select pg_sleep(100) as {mark}")))
        while (await client.status()).busy != 2:
            continue

        supervisor.process.kill()
        supervisor.process.wait()
        async with asyncio.timeout(AT_ONCE):
            ends = await asyncio.gather(*in_flight, return_exceptions=True)
        assert [type(end) for end in ends] == [OutcomeUnknown] * 3
        with pytest.raises(LeaseLost):
            await lease.fetchval("select 1")

        meanwhile = [asyncio.create_task(client.fetchval("select $1::int", number)) for number in range(3)]
        with pytest.raises(SupervisorUnavailable):
            await client.fetchval("select 1", timeout=0.2)
        assert not any(request.done() for request in meanwhile)
        await asyncio.to_thread(supervisor.start)
        assert await asyncio.gather(*meanwhile) == [0, 1, 2]
        with pytest.raises(LeaseLost):
            await lease.fetchval("select 1")
        lease.release()
        async with client.acquire() as another, another.transaction():
            assert await another.fetchval("select 7") == 7


@pytest.mark.parametrize("road", ROADS)
def test_a_supervisor_that_never_comes_is_told_of_after_connect_timeout(short_tmp: Path, road: str) -> None:
    endpoint = f"ipc://{short_tmp}/none.sock" if road == "ipc" else f"tcp://127.0.0.1:{free_port()}"
    started = time.monotonic()
    with Client(endpoint, connect_timeout=0.3) as client, pytest.raises(SupervisorUnavailable) as caught:
        client.fetchval("select 1")
    assert 0.3 <= time.monotonic() - started < AT_ONCE
    assert endpoint in str(caught.value)
    assert "connect_timeout (0.3 s)" in str(caught.value)


@pytest.mark.parametrize("road", ROADS)
def test_a_client_that_was_there_first_waits_for_its_supervisor(
    start_supervisor: StartSupervisor, short_tmp: Path, road: str
) -> None:
    endpoint = f"ipc://{short_tmp}/made/later/1.sock" if road == "ipc" else f"tcp://127.0.0.1:{free_port()}"

    async def ask_async() -> object:
        async with AsyncClient(endpoint, connect_timeout=20) as client:
            return await client.fetchval("select 2")

    with ThreadPoolExecutor(3) as threads, Client(endpoint, connect_timeout=20) as client:
        waiting = [threads.submit(client.fetchval, "select 1"), threads.submit(asyncio.run, ask_async())]
        with pytest.raises(SupervisorUnavailable):
            client.fetchval("select 1", timeout=0.2)
        assert not any(each.done() for each in waiting)
        start_supervisor(endpoints=[endpoint])
        assert [each.result(20) for each in waiting] == [1, 2]


# --- start ------------------------------------------------------------------------------------------------------


def test_a_second_supervisor_on_the_same_socket_is_refused_and_the_first_goes_on(
    supervisor: SupervisorProcess, dsn: str
) -> None:
    with Client(supervisor.ipc) as client, client.acquire() as lease:
        must_refuse(serve("--dsn", dsn, "--endpoint", supervisor.ipc), supervisor.ipc, "another supervisor")
        assert lease.fetchval("select 1") == 1
        assert state_of(supervisor.ipc).leased == 1, "new links are not the first one's"


def test_a_second_supervisor_on_the_same_port_is_refused_and_the_first_goes_on(
    supervisor: SupervisorProcess, dsn: str, short_tmp: Path
) -> None:
    other = short_tmp / "other.sock"
    with Client(supervisor.tcp) as client, client.acquire() as lease:
        done = serve("--dsn", dsn, "--endpoint", f"ipc://{other}", "--endpoint", supervisor.tcp)
        must_refuse(done, supervisor.tcp, "in use")
        assert lease.fetchval("select 1") == 1
        assert state_of(supervisor.tcp).leased == 1
    assert not other.exists()


def test_what_a_killed_supervisor_leaves_is_no_obstacle(supervisor: SupervisorProcess) -> None:
    path = Path(supervisor.ipc.removeprefix("ipc://"))
    for _ in range(2):
        supervisor.process.kill()
        supervisor.process.wait()
        assert path.exists()
        assert Path(f"{path}.lock").exists()
        supervisor.start()
        for road in ROADS:
            assert state_of(getattr(supervisor, road)).max_size == 4


def test_the_socket_is_its_owners_alone(start_supervisor: StartSupervisor, short_tmp: Path) -> None:
    folder = short_tmp / "made" / "by it"
    previous = os.umask(0)
    try:
        start_supervisor(endpoints=[f"ipc://{folder}/1.sock"])
    finally:
        os.umask(previous)
    assert stat.S_IMODE((folder / "1.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "1.sock.lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_group_may_be_let_in_to_the_socket(
    start_supervisor: StartSupervisor, start_worker: StartWorker, short_tmp: Path
) -> None:
    short_tmp.chmod(0o711)
    folder = short_tmp / "made"
    group = grp.getgrgid(65534 if os.geteuid() == 0 else os.getegid())
    endpoint = f"ipc://{folder}/1.sock"
    variables = {"PGACTOR_SOCKET_MODE": "0660", "PGACTOR_SOCKET_GROUP": group.gr_name}
    start_supervisor(endpoints=[endpoint], environment=variables)
    for path, mode in ((folder, 0o750), (folder / "1.sock", 0o660)):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, group.gr_gid)
    if os.geteuid() == 0:  # only root can try as somebody else
        source = """
        import socket
        os.setgroups([int(sys.argv[2])])
        os.setgid(64999)
        os.setuid(64999)
        with socket.socket(socket.AF_UNIX) as sock:
            say(sock.connect_ex(sys.argv[1]))
        """
        assert start_worker(source, endpoint, folder / "1.sock", group.gr_gid).hear() == 0
        assert start_worker(source, endpoint, folder / "1.sock", 64999).hear() == errno.EACCES


@pytest.mark.parametrize(
    ("mode", "group", "words"),
    [
        ("0660", "no-such-group", ["no group", "no-such-group"]),
        ("660x", "root", ["PGACTOR_SOCKET_MODE", "0660", "660x"]),
        ("0666", "root", ["socket_mode"]),
        ("0660", "", ["socket_mode", "socket_group"]),
    ],
)
def test_a_group_that_cannot_be_let_in_is_refused(
    dsn: str, short_tmp: Path, mode: str, group: str, words: list[str]
) -> None:
    endpoint = f"ipc://{short_tmp}/refused.sock"
    done = serve("--dsn", dsn, "--endpoint", endpoint, PGACTOR_SOCKET_MODE=mode, PGACTOR_SOCKET_GROUP=group)
    must_refuse(done, *words)
    assert not (short_tmp / "refused.sock").exists()


@pytest.mark.parametrize("abstract", [False, True], ids=["in a folder", "abstract"])
def test_the_service_manager_is_told_that_it_is_ready_and_that_it_stops(
    start_supervisor: StartSupervisor, short_tmp: Path, abstract: bool
) -> None:
    name = f"{short_tmp}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(20)
        supervisor = start_supervisor(environment={"NOTIFY_SOCKET": f"@{name}" if abstract else name})
        said = manager.recv(4096).decode().splitlines()
        assert said[:2] == ["READY=1", f"MAINPID={supervisor.pid}"]
        assert supervisor.ipc in said[2]
        assert supervisor.stop() == 0
        assert manager.recv(4096).decode().splitlines()[0] == "STOPPING=1"


def test_a_service_manager_that_does_not_hear_is_no_obstacle(
    start_supervisor: StartSupervisor, short_tmp: Path
) -> None:
    supervisor = start_supervisor(environment={"NOTIFY_SOCKET": f"{short_tmp}/nobody"})
    assert state_of(supervisor.ipc).max_size == 4
    assert supervisor.stop() == 0
    assert "NOTIFY_SOCKET" in supervisor.log.read_text()


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("tcp://0.0.0.0:7777", ["tcp://0.0.0.0:7777", "loopback only"]),
        ("tcp://192.0.2.1:7777", ["loopback only"]),
        ("tcp://*:7777", ["tcp://*:7777", "expected tcp://127.0.0.1:PORT"]),
        ("tcp://127.0.0.1", ["port"]),
        ("http://127.0.0.1:80", ["http://127.0.0.1:80", "expected ipc:///path/to.sock"]),
        ("ipc:///proc/none/1.sock", ["cannot listen on ipc:///proc/none/1.sock"]),
        ("ipc:///tmp/pgactor-tests/" + "long" * 40, ["cannot listen on", "too long"]),
        ("ipc:///tmp/1.sock", ["/tmp: everybody can write in this directory"]),
    ],
)
def test_an_endpoint_that_cannot_be_served_is_refused(dsn: str, endpoint: str, words: list[str]) -> None:
    must_refuse(serve("--dsn", dsn, "--endpoint", endpoint), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pool]\nmax_sise = 3", ["max_sise", "did you mean `max_size`"]),
        ("endpoint = 'ipc:///tmp/x.sock'", ["`endpoint`", "did you mean `endpoints`"]),
        ("[pool]\nmax_size = = 3", ["not valid TOML", "line 2"]),
        ("[pool]\nmax_size = 0", ["max_size is expected to be greater than zero"]),
        ("[pool]\nmin_size = 5\nmax_size = 4", ["min_size is greater than max_size"]),
        ("[pool]\nmax_size = 'many'", ["pool.max_size"]),
        ("pool = 3", ["pool"]),
        ("heartbeat_seconds = 5\nsilence_seconds = 4", ["heartbeat_seconds"]),
    ],
)
def test_a_wrong_setting_is_refused_in_one_clear_line(short_tmp: Path, text: str, words: list[str]) -> None:
    path = short_tmp / "wrong.toml"
    path.write_text(text)
    must_refuse(serve("--config", path), str(path), *words)


def test_a_wrong_flag_or_variable_is_refused_in_one_clear_line(short_tmp: Path) -> None:
    missing = short_tmp / "missing.toml"
    must_refuse(serve("--config", missing), str(missing), "No such file")
    must_refuse(serve("--min-size", 11), "min_size is greater than max_size")
    must_refuse(serve(PGACTOR_MAX_SIZE="several"), "max_size")


def test_a_flag_that_is_not_understood_is_told_with_the_usage() -> None:
    for arguments, word in (
        (("--log-level", "LOUD"), "LOUD"),
        (("--size", 3), "--size"),
        (("--max-size", "x"), "'x'"),
    ):
        done = serve(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: pgactor serve")
        assert word in done.stderr.splitlines()[-1]


def test_serve_says_once_that_it_is_ready(supervisor: SupervisorProcess) -> None:
    with Client(supervisor.ipc) as client:
        assert client.fetchval("select 1") == 1
    lines = [line for line in supervisor.log.read_text().splitlines() if line.startswith("pgactor ready")]
    assert lines == [f"pgactor ready at {supervisor.ipc}, {supervisor.tcp} (max_size 4)"]


@pytest.fixture
def serving() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `pgactor serve` and returns when it is ready; it is stopped at the end."""
    processes = []

    def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pgactor", "serve", *map(str, arguments)],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("pgactor ready"), line
        return process

    yield start
    statuses = [ended(process) for process in processes]
    assert statuses == [0] * len(statuses)


def ended(process: subprocess.Popen[str]) -> int:
    """Stop it, if need be by force; returns its exit status."""
    process.terminate()
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def test_the_environment_is_enough(
    serving: Callable[..., subprocess.Popen[str]], dsn: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"ipc://{short_tmp}/1.sock"
    serving(PGACTOR_DSN=dsn, PGACTOR_ENDPOINT=endpoint, PGACTOR_MAX_SIZE="3", PGACTOR_MIN_SIZE="2")
    monkeypatch.setenv("PGACTOR_ENDPOINT", endpoint)
    with Client() as client:
        assert (client.status().max_size, client.status().min_size) == (3, 2)
        assert client.fetchval("select 1") == 1


def test_flags_win_over_the_environment_and_that_over_the_file(
    serving: Callable[..., subprocess.Popen[str]], dsn: str, short_tmp: Path
) -> None:
    endpoint = f"ipc://{short_tmp}/1.sock"
    file = short_tmp / "1.toml"
    file.write_text(f"endpoints = ['ipc:///nowhere']\n[connect]\ndsn = '{dsn}'\n[pool]\nmin_size = 0\nmax_size = 2\n")
    serving("--config", file, "--max-size", 7, PGACTOR_ENDPOINT=endpoint, PGACTOR_MAX_SIZE="5")
    assert state_of(endpoint).max_size == 7
    assert state_of(endpoint).min_size == 0


def test_it_is_ready_before_its_database_is_and_says_so(
    serving: Callable[..., subprocess.Popen[str]], short_tmp: Path
) -> None:
    endpoint = f"ipc://{short_tmp}/1.sock"
    serving("--dsn", f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", "--endpoint", endpoint)
    with Client(endpoint) as client:
        until(lambda: client.status().database.startswith("failing: "))
        with pytest.raises(PgactorError) as caught:
            client.fetchval("select 1", timeout=0.3)
        assert caught.value.retry
        assert "Connect" in str(caught.value)
