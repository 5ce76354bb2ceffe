"""gunicorn with each kind of worker, in front of one pool: recycled, reloaded and killed under load."""

from __future__ import annotations

import http.client
import signal
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import pytest

from pgactor import Client
from tests.endtoend.deployed import (
    ACCOUNTS,
    IN_EACH,
    Killing,
    Program,
    Traffic,
    call,
    connections,
    in_flight_at,
    kill_holder,
    waits_for_a_lock,
)
from tests.endtoend.processes import StartSupervisor, ask, state_of
from tests.supervising import free_port, until

MAX_SIZE = 4
AT_ONCE = 10.0
"""Seconds, less than any timeout of what is waited for here."""

A_WHILE = 60.0
"""Seconds in which workers start, on a busy machine too."""

REPEATED = "11111111-1111-4111-8111-111111111111"
KILLED = "00000000-0000-4000-8000-000000000000"
KINDS = {
    "sync": ("sync", "flask_app", 3, 1),
    "gthread": ("gthread", "flask_app", 2, 4),
    "gevent": ("gevent", "flask_app", 2, 1),
    "uvicorn": ("workers.web.draining.DrainingWorker", "starlette_app", 2, 1),
}
"""worker_class, application, workers, threads."""


def serve(kind: str, endpoint: str, folder: Path, *, port: int, max_requests: int = 0) -> Program:
    """gunicorn as workers/web/gunicorn.conf.py has it."""
    worker_class, application, workers, threads = KINDS[kind]
    return Program(
        *("gunicorn", "--config", "workers/web/gunicorn.conf.py", f"workers.web.{application}:application"),
        log=folder / "gunicorn.log",
        PGACTOR_ENDPOINT=endpoint,
        GUNICORN_CMD_ARGS="--graceful-timeout 8",  # a worker that is still starting does not hear SIGTERM
        WEB_BIND=f"127.0.0.1:{port}",
        WEB_WORKERS=str(workers),
        WEB_THREADS=str(threads),
        WEB_WORKER_CLASS=worker_class,
        WEB_MAX_REQUESTS=str(max_requests),
    )


def web_workers(endpoint: str) -> set[int]:
    """The processes of gunicorn's workers that the supervisor knows."""
    return {worker.pid for worker in state_of(endpoint).workers if worker.label == "web"}


def is_up(port: int) -> bool:
    try:
        return call(port, "GET", "/health") == (200, "ok")
    except OSError:
        return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_fails_but_those_of_a_killed_worker(
    start_supervisor: StartSupervisor, shop: str, short_tmp: Path, kind: str
) -> None:
    supervisor = start_supervisor(dsn=shop, max_size=MAX_SIZE)
    port = free_port()
    program = serve(kind, supervisor.ipc, short_tmp, port=port, max_requests=40)
    try:
        until(lambda: is_up(port), seconds=A_WHILE)
        assert call(port, "GET", f"/accounts/{2**40}")[0] == 400  # no int4: PostgreSQL's error
        assert call(port, "POST", "/transfers", {"source": "first", "target": 2, "amount": 1})[0] == 400
        a_key_counts_once(port, shop)
        with Traffic([port]) as traffic:
            first = web_workers(supervisor.ipc)
            until(lambda: not first & web_workers(supervisor.ipc), seconds=A_WHILE)  # recycled

            reloaded = program.said.count("Booting worker")
            program.signal(signal.SIGHUP)
            until(lambda: program.said.count("Booting worker") >= reloaded + KINDS[kind][2], seconds=A_WHILE)
            answered = traffic.answered
            until(lambda: traffic.answered > answered + 50, seconds=A_WHILE)
            assert traffic.failures == []

            killed = kill_one_that_holds_a_lease(supervisor.ipc, shop, port)
            answered = traffic.answered
            until(lambda: traffic.answered > answered + 50, seconds=A_WHILE)
            highest = connections(shop)
        until(lambda: state_of(supervisor.ipc).leased == 0)
        its_own = in_flight_at(killed, traffic.failures, within=AT_ONCE)
        assert [each for each in traffic.failures if each not in its_own] == []
        assert highest <= MAX_SIZE
        must_be_right(shop, traffic)
    finally:
        status = program.stop()
    assert status == 0, program.said
    until(lambda: web_workers(supervisor.ipc) == set())


def a_key_counts_once(port: int, dsn: str) -> None:
    """Who asks again with the same key is told that it was made, though the account could not pay a second time."""
    form: dict[str, object] = {"source": 97, "target": 98, "amount": IN_EACH, "key": REPEATED}
    assert [call(port, "POST", "/transfers", form) for _ in range(2)] == [
        (201, {"key": REPEATED}),
        (200, {"key": REPEATED}),
    ]
    status, text = call(port, "POST", "/transfers", {**form, "amount": 1})
    assert status == 409
    assert f"the key {REPEATED} is another transfer's" in unescape(text)
    status, text = call(port, "POST", "/transfers", {**form, "source": 5000, "key": KILLED})
    assert status == 409
    assert "(source)=(5000) is not present" in text
    assert call(port, "POST", "/transfers", {**form, "key": KILLED})[0] == 409  # it has too little
    assert ask(dsn, "SELECT key::text, amount FROM transfers") == [(REPEATED, IN_EACH)]
    ask(dsn, "DELETE FROM transfers")  # what follows counts them


def kill_one_that_holds_a_lease(endpoint: str, dsn: str, port: int) -> Killing:
    """kill -9 of the worker whose transfer waits for a row; its lease ends at once."""
    with ThreadPoolExecutor(1) as thread, Client(endpoint, label="blocker") as client:  # noqa: SIM117
        with client.transaction() as lease:
            lease.execute("SELECT 1 FROM accounts WHERE id = 100 FOR UPDATE")
            form: dict[str, object] = {"source": 99, "target": 100, "amount": 1, "key": KILLED}
            stuck = thread.submit(call, port, "POST", "/transfers", form)
            until(lambda: waits_for_a_lock(dsn), seconds=A_WHILE)
            backend = waits_for_a_lock(dsn)
            assert backend is not None
            killed = kill_holder(endpoint, backend)
            until(lambda: waits_for_a_lock(dsn) is None, seconds=AT_ONCE)
            with pytest.raises((OSError, http.client.HTTPException)):
                stuck.result(60)
    return killed


def must_be_right(dsn: str, traffic: Traffic) -> None:
    """Every transfer that was confirmed happened once, one that was not at most once, and no money is lost."""
    assert ask(dsn, "SELECT sum(balance)::bigint FROM accounts")[0][0] == ACCOUNTS * IN_EACH
    keys = {str(row[0]) for row in ask(dsn, "SELECT key FROM transfers")}
    unsure = {each.key for each in traffic.failures if each.key}
    assert traffic.written <= keys <= traffic.written | unsure
