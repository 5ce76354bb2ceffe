"""Celery with each kind of pool, in front of one pool of connections: recycled, reloaded and killed under load."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pgactor import Client
from tests.endtoend.deployed import ACCOUNTS, IN_EACH, Program, connections, kill_holder, waits_for_a_lock
from tests.endtoend.processes import StartSupervisor, ask, state_of
from tests.endtoend.tasks_on_files import on_files
from tests.supervising import until

MAX_SIZE = 4
AT_ONCE = 10.0
"""Seconds, far less than any timeout here."""

StartTasks = Callable[..., Program]


@pytest.fixture
def sender(short_tmp: Path) -> Iterator[Celery]:
    """Sends tasks, and hears of their results."""
    with Celery("sender", set_as_current=False) as app:
        app.conf.update(on_files(short_tmp))
        yield app


@pytest.fixture
def start_tasks(short_tmp: Path) -> Iterator[StartTasks]:
    """Starts `celery worker`: `start_tasks("prefork", endpoint, "--concurrency=2")`."""
    programs: list[Program] = []

    def start(pool: str, endpoint: str, *flags: str, **variables: str) -> Program:
        program = Program(
            *("celery", "--app", "tests.endtoend.tasks_on_files:application", "worker", "--pool", pool),
            *("--loglevel", "INFO", "--without-gossip", "--without-mingle", *flags),
            log=short_tmp / f"celery-{len(programs)}.log",
            PGACTOR_ENDPOINT=endpoint,
            TASKS_FOLDER=str(short_tmp),
            **variables,
        )
        programs.append(program)
        until(lambda: " ready." in program.said or program.process.poll() is not None, seconds=40)
        assert program.process.poll() is None, program.said
        return program

    yield start
    for program in programs:
        program.kill()


def task_workers(endpoint: str) -> set[int]:
    """The processes that run tasks, as the supervisor knows them."""
    return {worker.pid for worker in state_of(endpoint).workers if worker.label == "tasks"}


def send(app: Celery, name: str, *args: object, **options: Any) -> Any:
    """Have a task of the example run; returns its AsyncResult."""
    return app.send_task(f"workers.tasks.app.{name}", args, **options)


def mixture(app: Celery, number: int) -> list[Any]:
    """So many tasks that read, write in a transaction, run a while and retry."""
    sent = []
    for each in range(number):
        if each % 3 == 0:
            sent.append(send(app, "balance", 1 + each % ACCOUNTS))
        elif each % 10 == 1:
            sent.append(send(app, "report", 0.05))
        elif each % 10 == 2:
            sent.append(send(app, "audit"))
        else:
            sent.append(send(app, "transfer", 1 + each % 40, 41 + each % 40, 1))
    return sent


def transfers(dsn: str) -> set[str]:
    return {str(row[0]) for row in ask(dsn, "SELECT key FROM transfers")}


def runs_something_long(dsn: str) -> bool:
    sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    return bool(ask(dsn, f"{sql} AND query_start < clock_timestamp() - interval '0.2 s'"))


def must_have_succeeded(dsn: str, results: list[Any]) -> None:
    """All of them, and what they wrote is there, once each."""
    for result in results:
        result.get(timeout=60, interval=0.05)
    assert ask(dsn, "SELECT sum(balance)::bigint FROM accounts")[0][0] == ACCOUNTS * IN_EACH
    assert transfers(dsn) == {result.id for result in results if isinstance(result.result, bool)}


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_no_task_fails_while_workers_are_recycled_replaced_and_reloaded(
    start_supervisor: StartSupervisor, start_tasks: StartTasks, sender: Celery, shop: str, pool: str
) -> None:
    supervisor = start_supervisor(dsn=shop, max_size=MAX_SIZE)
    first = start_tasks(pool, supervisor.ipc, "--concurrency=3", TASKS_PER_CHILD="5")
    results = mixture(sender, 30)
    seen: set[int] = set()

    def most_are_done() -> bool:
        seen.update(task_workers(supervisor.ipc))
        return bool(results[20].ready())

    try:
        until(most_are_done, seconds=120)
    except AssertionError:
        raise AssertionError(first.said) from None
    if pool == "prefork":  # the others have one process, which is not recycled
        assert len(seen) > 3
    second = start_tasks(pool, supervisor.ipc, "--concurrency=3")
    results += mixture(sender, 30)
    assert first.stop() == 0, first.said  # with tasks in progress: those it ends, the others are for the second
    results += [send(sender, "report", 1.0), *mixture(sender, 15)]
    until(lambda: runs_something_long(shop), seconds=30)
    second.signal(signal.SIGHUP)  # it ends its tasks, and executes its command line again, in the same process
    until(lambda: second.said.count(" ready.") == 2, seconds=60)
    assert "Restarting celery worker" in second.said
    results += mixture(sender, 15)
    assert connections(shop) <= MAX_SIZE
    must_have_succeeded(shop, results)
    assert "Traceback" not in second.said
    until(lambda: state_of(supervisor.ipc).leased == 0)
    assert second.stop() == 0, second.said
    until(lambda: task_workers(supervisor.ipc) == set())


def test_a_killed_process_strands_no_lease_and_its_task_is_run_again(
    start_supervisor: StartSupervisor, start_tasks: StartTasks, sender: Celery, shop: str
) -> None:
    supervisor = start_supervisor(dsn=shop, max_size=MAX_SIZE)
    start_tasks("prefork", supervisor.ipc, "--concurrency=2")
    with Client(supervisor.ipc, label="blocker") as client, client.transaction() as lease:
        lease.execute("SELECT 1 FROM accounts WHERE id = 100 FOR UPDATE")
        stuck = send(sender, "transfer", 100, 99, 1)
        until(lambda: waits_for_a_lock(shop), seconds=30)
        backend = waits_for_a_lock(shop)
        assert backend is not None
        killed = kill_holder(supervisor.ipc, backend)
        until(lambda: waits_for_a_lock(shop) != backend, seconds=AT_ONCE)
        assert time.monotonic() - killed.after < AT_ONCE
        until(lambda: waits_for_a_lock(shop), seconds=30)  # again, in another process
        results = mixture(sender, 10)
    must_have_succeeded(shop, [stuck, *results])
    assert stuck.result is True
    until(lambda: state_of(supervisor.ipc).leased == 0)


@pytest.mark.parametrize("whose", ["the worker's", "the caller's"])
def test_a_time_limit_ends_what_the_task_waits_for_in_postgresql(
    start_supervisor: StartSupervisor, start_tasks: StartTasks, sender: Celery, shop: str, whose: str
) -> None:
    """Celery's threads know no time limits; the database does all the same."""
    supervisor = start_supervisor(dsn=shop, max_size=MAX_SIZE)
    workers, callers = (6, None) if whose == "the worker's" else (60, 6)
    start_tasks("threads", supervisor.ipc, "--concurrency=2", f"--soft-time-limit={workers}", "--time-limit=60")
    with Client(supervisor.ipc, label="blocker") as client, client.transaction() as lease:
        lease.execute("SELECT 1 FROM accounts WHERE id = 100 FOR UPDATE")
        stuck = send(sender, "transfer", 100, 99, 1, soft_time_limit=callers)
        label = "workers.tasks.app.transfer"
        until(lambda: any(each.label == label for each in client.status().holders), seconds=30)
        with pytest.raises(Exception, match="deadline") as caught:
            stuck.get(timeout=30, interval=0.05)
        assert type(caught.value).__name__ == "RequestTimeout"
        assert waits_for_a_lock(shop) is None
    assert transfers(shop) == set()
