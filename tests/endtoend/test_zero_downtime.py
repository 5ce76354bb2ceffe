"""A supervisor is paused, reloaded, drained and replaced by another one while workers use it, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pgactor import AsyncClient, Client, NotPermitted, PoolClosing, PoolError, PoolTimeout, QueueFull
from pgactor.client import operator
from tests.endtoend.processes import ask, environment
from tests.endtoend.takeovers import SOON, Ending, take_over, taken_over_twice_under_load
from tests.supervising import StartSupervisor, SupervisorProcess, until


def pgactor(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line."""
    command = [sys.executable, "-m", "pgactor", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30)


# --- pause, resume, drain ---------------------------------------------------------------------------------------


def test_a_pause_waits_for_what_runs_keeps_what_comes_waiting_and_ends_with_resume(
    start_supervisor: StartSupervisor, table: str
) -> None:
    supervisor = start_supervisor()
    with ThreadPoolExecutor(4) as threads, Client(supervisor.ipc) as client:
        lease = client.acquire()
        lease.execute("begin")
        paused = threads.submit(pgactor, "pause", "--endpoint", supervisor.ipc)
        until(lambda: client.status().paused)
        waiting = threads.submit(client.execute, f"update {table} set value = 9 where id = 1")
        lease.execute(f"update {table} set value = 5 where id = 1")
        assert not paused.done(), "a lease is held"
        lease.execute("commit")
        lease.release()
        assert paused.result(SOON).returncode == 0
        assert client.status().busy == client.status().leased == 0
        assert not waiting.done()
        assert pgactor("resume", "--endpoint", supervisor.ipc).returncode == 0
        assert waiting.result(SOON) == "UPDATE 1"
        assert client.fetchval(f"select value from {table}") == 9


def test_a_pause_that_takes_too_long_says_so_and_goes_on(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor()
    with Client(supervisor.ipc) as client, client.acquire() as lease:
        done = pgactor("pause", "--timeout", "0.2", "--endpoint", supervisor.ipc)
        assert done.returncode == 1
        assert "1 leases are held" in done.stderr
        assert client.status().paused
        assert lease.fetchval("select 1") == 1
        operator.resume(supervisor.ipc, None, connect_timeout=SOON)
        assert client.fetchval("select 1") == 1


def test_a_pause_that_another_operator_ends_does_not_say_that_all_is_quiet(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = start_supervisor()
    with Client(supervisor.ipc) as client, client.acquire() as lease, ThreadPoolExecutor(1) as threads:
        pausing = threads.submit(operator.pause, supervisor.ipc, None, None, connect_timeout=SOON)
        until(lambda: client.status().paused)
        operator.resume(supervisor.ipc, None, connect_timeout=SOON)
        with pytest.raises(PoolError, match="the pause was ended before all was quiet"):
            pausing.result(SOON)
        assert lease.fetchval("select 1") == 1


def test_one_pool_is_paused_and_drained_beside_others(start_supervisor: StartSupervisor, dsn: str) -> None:
    supervisor = start_supervisor(toml=f'[pools.other]\ndsn = "{dsn}"\nmax_size = 2\nmin_size = 0\n')
    others = (supervisor.ipc, ["other"])
    with Client(supervisor.ipc) as first, Client(supervisor.ipc, pool="other") as second:
        operator.pause(*others, SOON, connect_timeout=SOON)
        assert first.fetchval("select 1") == 1
        with pytest.raises(PoolTimeout):
            second.fetchval("select 1", timeout=0.1)
        assert (first.status().paused, second.status().paused) == (False, True)
        operator.resume(*others, connect_timeout=SOON)
        assert second.fetchval("select 1") == 1
        refused = pgactor("pause", "--pool", "none", "--endpoint", supervisor.ipc)
        assert "has no pool 'none' now; it has: default, other" in refused.stderr
        operator.drain(*others, connect_timeout=SOON)
        assert first.fetchval("select 1") == 1
        with pytest.raises(PoolClosing):
            second.fetchval("select 1")
    assert supervisor.process.poll() is None


def test_drain_ends_the_supervisor_as_sigterm_does(start_supervisor: StartSupervisor, dsn: str, table: str) -> None:
    supervisor = start_supervisor()
    with Client(supervisor.ipc) as client:
        lease = client.acquire()
        lease.execute("begin")
        assert pgactor("drain", "--endpoint", supervisor.ipc).returncode == 0
        lease.execute(f"update {table} set value = 5 where id = 1")
        lease.execute("commit")
        lease.release()
        assert supervisor.process.wait(SOON) == 0
    assert ask(dsn, f"select value from {table}")[0][0] == 5


def test_only_who_may_administer_pauses_and_who_could_send_a_signal_may_in_any_case(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = start_supervisor(pool={"workers_may_administer": False})
    with pytest.raises(NotPermitted):
        operator.pause(supervisor.tcp, None, 1.0, connect_timeout=SOON)
    with pytest.raises(NotPermitted):
        operator.drain(supervisor.tcp, None, connect_timeout=SOON)
    operator.pause(supervisor.ipc, None, SOON, connect_timeout=SOON)
    operator.resume(supervisor.ipc, None, connect_timeout=SOON)
    with Client(supervisor.tcp) as client:
        assert client.fetchval("select 1") == 1


# --- SIGHUP -----------------------------------------------------------------------------------------------------


def config_of(supervisor: SupervisorProcess) -> Path:
    return Path(supervisor.command[-1])


def reload(supervisor: SupervisorProcess, *words: str) -> str:
    """Send SIGHUP; returns the log from then on, when all the words are in it."""
    before = len(supervisor.log.read_text())
    supervisor.process.send_signal(signal.SIGHUP)
    until(lambda: all(word in supervisor.log.read_text()[before:] for word in words))
    return supervisor.log.read_text()[before:]


def test_sighup_changes_sizes_limits_and_credentials_and_names_what_it_cannot(
    start_supervisor: StartSupervisor, dsn: str
) -> None:
    role = f"reload_{os.getpid()}"
    ask(dsn, f"create role {role} login superuser password 'secret-word'")
    supervisor = start_supervisor(max_size=1, pool={"queue_timeout_seconds": 100})
    path = config_of(supervisor)
    try:
        with ThreadPoolExecutor(1) as threads, Client(supervisor.ipc) as client:
            pid = client.fetchval("select pg_backend_pid()")
            lease = client.acquire()
            waiting = threads.submit(client.fetchval, "select 7")
            text = path.read_text().replace("max_size = 1", "max_size = 3").replace("= 100", "= 0.5")
            text = text.replace("[pool]", '[pool]\nrecycling = "clean"', 1)
            text = text.replace("[connect]", f'[connect]\nuser = "{role}"\npassword = "secret-word"')
            path.write_text(text)
            said = reload(supervisor, "reloaded", "recycling")
            assert "pool.max_size 1 -> 3" in said
            assert "pool.queue_timeout_seconds 100.0 -> 0.5" in said
            assert "connect.password" in said
            assert "pool.recycling is different now, but only a restart can change it" in said
            assert "secret-word" not in supervisor.log.read_text()
            assert waiting.result(SOON) == 7, "there is room now"
            assert lease.fetchval("select pg_backend_pid()") == pid, "what is leased goes on"
            assert lease.fetchval("select current_user") != role
            lease.release()
            until(lambda: client.status().leased == 0)
            assert client.fetchval("select current_user") == role
            leases = [client.acquire() for _ in range(3)]
            with pytest.raises(PoolTimeout):
                client.acquire()
            for each in leases:
                each.release()
    finally:
        supervisor.stop()
        ask(dsn, f"drop role {role}")


def test_sighup_changes_what_one_worker_may_have(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=3)
    path = config_of(supervisor)
    with Client(supervisor.ipc) as client:
        held = [client.acquire(), client.acquire()]
        path.write_text(path.read_text().replace("[pool]", "[pool]\nmax_leases_per_worker = 2", 1))
        reload(supervisor, "pool.max_leases_per_worker 0 -> 2")
        with pytest.raises(QueueFull, match="max_leases_per_worker"):
            client.acquire()
        for lease in held:
            lease.release()
        client.acquire().release()


def test_a_broken_file_is_refused_as_a_whole(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=2)
    path = config_of(supervisor)
    good = path.read_text()
    with Client(supervisor.ipc) as client:
        for broken, words in (
            (good.replace("max_size = 2", "max_size = 5") + "\nmax_sise = 1\n", ("max_sise",)),
            (good.replace("max_size = 2", "max_size = 0"), ("max_size", "greater than zero")),
            (good.replace("max_size = 2", "max_size = 5") + '\nsslmode = "perhaps"\n', ("sslmode",)),
            ("[pool", ("not valid TOML",)),
        ):
            path.write_text(broken)
            reload(supervisor, "the configuration is refused, and nothing has changed", *words)
            assert client.status().max_size == 2
            assert client.fetchval("select 1") == 1
        path.unlink()
        reload(supervisor, "No such file")
        client.resize(3)
        path.write_text(good)
        reload(supervisor, "nothing has changed")
        assert client.status().max_size == 3, "what a worker has changed stays"


# --- one supervisor takes over from another ---------------------------------------------------------------------


async def test_not_one_request_fails_while_another_supervisor_takes_over_twice_under_load(
    start_supervisor: StartSupervisor, ending: Ending, dsn: str, table: str
) -> None:
    name = f"takeover_{os.getpid()}"
    old = start_supervisor(max_size=4, min_size=4, connect={"server_settings": {"application_name": name}})
    await taken_over_twice_under_load(old, old.ipc, {}, ending=ending, dsn=dsn, name=name, table=table)


def test_workers_on_tcp_move_at_once_and_their_leases_stay_until_they_are_released(
    start_supervisor: StartSupervisor, ending: Ending
) -> None:
    old = start_supervisor(max_size=3)
    stop = threading.Event()
    counts = [0, 0]

    def work(number: int) -> None:
        with Client(old.tcp, connect_timeout=20) as client:
            while not stop.is_set():
                assert client.fetchval("select $1::int", counts[number]) == counts[number]
                counts[number] += 1

    with ThreadPoolExecutor(2) as threads, Client(old.tcp, connect_timeout=20) as client:
        workers = [threads.submit(work, number) for number in range(2)]
        lease = client.acquire()
        until(lambda: min(counts) > 5)
        ending(take_over(old))
        reached = max(counts) + 20
        until(lambda: min(counts) > reached or any(worker.done() for worker in workers))
        assert lease.fetchval("select 5") == 5, "it is the old one's yet"
        lease.release()
        assert old.process.wait(SOON) == 0
        reached = max(counts) + 20
        until(lambda: min(counts) > reached or any(worker.done() for worker in workers))
        stop.set()
        for worker in workers:
            worker.result(SOON)
        assert client.fetchval("select 1") == 1


async def test_subscriptions_move_with_a_gap_that_is_told(
    start_supervisor: StartSupervisor, ending: Ending, dsn: str
) -> None:
    old = start_supervisor()
    channel = f"moving_{os.getpid()}"
    sent, heard, also = 0, [], []

    def listening(subscription: object) -> None:
        for note in subscription:  # type: ignore[attr-defined]
            also.append(note)
            if note.payload == "last":
                return

    async with AsyncClient(old.ipc) as client, client.listen(channel) as subscription:
        with Client(old.ipc) as blocking, blocking.listen(channel) as other, ThreadPoolExecutor(1) as threads:
            thread = threads.submit(listening, other)
            ending_task = asyncio.ensure_future(asyncio.to_thread(take_over, old))
            while not ending_task.done() or old.process.poll() is None:
                await client.notify(channel, str(sent))
                sent += 1
                await asyncio.sleep(0.01)
            ending(await ending_task)
            until(lambda: any(note.gap for note in also))
            while (note := await subscription.get(SOON)) is not None:
                heard.append(note)
                if note.gap:
                    await client.notify(channel, "last")
                if note.payload == "last":
                    break
            thread.result(SOON)
    for notes in (heard, also):
        numbers = [int(note.payload) for note in notes if note.payload.isdigit()]
        assert numbers == sorted(set(numbers)), "each once, in order"
        gap = next(index for index, note in enumerate(notes) if note.gap)
        before = [int(note.payload) for note in notes[:gap]]
        behind = [int(note.payload) for note in notes[gap + 1 :] if note.payload.isdigit()]
        assert before == list(range(len(before))), "nothing is missing before the gap"
        assert behind == list(range(sent))[sent - len(behind) :], "nor behind it"


def test_without_takeover_the_lock_refuses_and_with_it_nobody_need_be_there(
    start_supervisor: StartSupervisor, ending: Ending
) -> None:
    old = start_supervisor()
    done = pgactor("serve", "--dsn", "postgresql://none", "--endpoint", old.ipc)
    assert done.returncode == 1
    assert "another supervisor serves" in done.stderr
    assert "--takeover" in done.stderr
    old.stop()
    new = ending(take_over(old))
    with Client(old.ipc) as client:
        assert client.fetchval("select 1") == 1
    done = pgactor("serve", "--dsn", "postgresql://none", "--endpoint", new.ipc)
    assert "another supervisor serves" in done.stderr


def test_the_old_supervisor_goes_on_if_the_new_one_dies_in_the_middle(
    start_supervisor: StartSupervisor, ending: Ending, table: str
) -> None:
    old = start_supervisor(max_size=2, min_size=2)
    with Client(old.ipc, connect_timeout=20) as client, Client(old.ipc) as other:
        lease = client.acquire()
        lease.execute("begin")
        new = take_over(old)
        assert other.fetchval("select 1") == 1, "by the new one"
        new.process.kill()
        new.process.wait()
        until(lambda: "this one goes on" in old.log.read_text())
        assert client.fetchval("select 2") == 2
        assert other.fetchval("select 3") == 3
        assert lease.fetchval("select 4") == 4
        done = pgactor("serve", "--dsn", "postgresql://none", "--endpoint", old.ipc)
        assert "another supervisor serves" in done.stderr
        lease.execute(f"update {table} set value = 8 where id = 1")
        lease.execute("commit")
        lease.release()
        assert client.fetchval(f"select value from {table}") == 8
        until(lambda: client.status().size == 2)
        new = ending(take_over(old))
        assert old.process.wait(SOON) == 0
        assert client.fetchval("select 5") == other.fetchval("select 5") == 5


def test_the_old_supervisor_has_its_port_again_if_the_new_one_dies_in_the_middle(
    start_supervisor: StartSupervisor, ending: Ending
) -> None:
    old = start_supervisor(max_size=2)
    with Client(old.ipc) as holder, Client(old.tcp, connect_timeout=20) as client:
        lease = holder.acquire()
        assert client.fetchval("select 1") == 1
        new = take_over(old)
        assert client.fetchval("select 2") == 2, "by the new one"
        new.process.kill()
        new.process.wait()
        until(lambda: "this one goes on" in old.log.read_text())
        with Client(old.tcp, connect_timeout=20) as another:
            assert another.fetchval("select 3") == 3
        assert client.repeatable.fetchval("select 4", timeout=20) == 4
        assert lease.fetchval("select 5") == 5
        lease.release()


def test_a_new_supervisor_that_dies_before_it_listens_leaves_no_trace(start_supervisor: StartSupervisor) -> None:
    old = start_supervisor(max_size=2)
    with Client(old.ipc) as client:
        config = config_of(old)
        good = config.read_text()
        config.write_text(good.replace(old.ipc, f'{old.ipc}", "ipc:///proc/none/x.sock'))
        done = subprocess.run(
            [*old.command, "--takeover"], env=environment(), capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 1
        assert "cannot listen on ipc:///proc/none/x.sock" in done.stderr
        until(lambda: "this one goes on" in old.log.read_text())
        until(lambda: Path(old.ipc.removeprefix("ipc://")).exists())
        assert client.fetchval("select 1") == 1
        with Client(old.ipc) as another:
            assert another.fetchval("select 2") == 2


def test_the_new_supervisor_has_all_when_the_old_one_dies_in_the_middle(
    start_supervisor: StartSupervisor, ending: Ending
) -> None:
    old = start_supervisor(max_size=2, min_size=2)
    with Client(old.ipc) as client, Client(old.ipc) as other:
        leases = [client.acquire(), client.acquire()]
        new = ending(take_over(old))
        with pytest.raises(PoolTimeout):
            other.fetchval("select 1", timeout=0.2)
        assert leases[0].fetchval("select 1") == 1
        assert other.status().max_size == 2
        old.process.kill()
        old.process.wait()
        assert other.fetchval("select 2", timeout=20) == 2
        until(lambda: other.status().size == 2)
        assert "is gone" in new.log.read_text()


def test_a_second_takeover_waits_for_the_end_of_the_first(start_supervisor: StartSupervisor, ending: Ending) -> None:
    old = start_supervisor(max_size=2, min_size=2)
    with Client(old.ipc) as client:
        lease = client.acquire()
        new = ending(take_over(old))
        third = take_over(new, wait=False)
        assert third.process.wait(SOON) == 1
        assert "not all connections of another one yet" in third.log.read_text()
        lease.release()
        assert old.process.wait(SOON) == 0
        assert client.fetchval("select 1") == 1


def test_sigterm_ends_a_supervisor_that_hands_over(start_supervisor: StartSupervisor, ending: Ending) -> None:
    old = start_supervisor(max_size=2, drain_timeout_seconds=0.3)
    with Client(old.ipc) as client:
        lease = client.acquire()
        ending(take_over(old))
        assert old.stop() == 0
        with pytest.raises(Exception, match=r"lease|link"):
            lease.fetchval("select 1")
        assert client.fetchval("select 1") == 1


def test_a_service_manager_is_told_who_serves(short_tmp: Path, start_supervisor: StartSupervisor) -> None:
    import socket

    address = str(short_tmp / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(SOON)
        old = start_supervisor(environment={"NOTIFY_SOCKET": address})
        assert sock.recv(1000).decode().startswith(f"READY=1\nMAINPID={old.pid}\n")
        new = take_over(old)
        assert sock.recv(1000).decode().startswith(f"READY=1\nMAINPID={new.pid}\n")
        assert old.process.wait(SOON) == 0
        assert new.stop() == 0
        assert sock.recv(1000).decode().startswith("STOPPING=1\n")
    assert re.match(
        r"pgactor ready at ipc://\S+, tcp://\S+ \(max_size \d+\), in the place of pid", new.log.read_text()
    )
