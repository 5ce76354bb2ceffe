"""What machines ask: /metrics, /healthz and /readyz of a real supervisor, and its log as JSON."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any

import asyncpg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from pgactor import Client, LeaseError, OutcomeUnknown, PoolTimeout
from tests.faults.postgres_servers import Server, server_folder
from tests.supervising import StartSupervisor, SupervisorProcess, free_port, until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Watched:
    """A supervisor with a monitor."""

    def __init__(self, process: SupervisorProcess, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """The status and the body."""
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                assert isinstance(response, HTTPResponse)
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def scrape(self) -> Samples:
        """All samples."""
        status, body = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """One sample of the first pool; 0 if there is none."""
        return self.scrape().get((f"pgactor_{name}", tuple(sorted({"pool": "default", **labels}.items()))), 0.0)


StartWatched = Callable[..., Watched]


@pytest.fixture
def start_watched(start_supervisor: StartSupervisor) -> StartWatched:
    def start(*flags: str, **settings: Any) -> Watched:
        port = free_port()
        return Watched(start_supervisor(metrics_endpoint=f":{port}", **settings), port)

    return start


@pytest.fixture
def server() -> Iterator[Server]:
    """A PostgreSQL that may be stopped."""
    with server_folder() as server:
        server.make()
        server.start()
        yield server


def test_the_metrics_can_be_read_in_both_formats(start_watched: StartWatched) -> None:
    watched = start_watched(toml="[pools.reports]\nmax_size = 2\n")
    with Client(watched.process.ipc) as client:
        client.fetchval("select 1")
    told = watched.scrape()
    names = {name for name, _ in told}
    for name in ("queue_wait_seconds", "service_seconds", "request_seconds", "lease_held_seconds", "pipeline_depth"):
        assert {f"pgactor_{name}_bucket", f"pgactor_{name}_count", f"pgactor_{name}_sum"} <= names
    assert {pool for name, labels in told for label, pool in labels if label == "pool"} == {"default", "reports"}
    assert told[("pgactor_max_size", (("pool", "reports"),))] == 2
    status, body = watched.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    families = openmetrics(body)  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"pgactor_requests", "pgactor_event_loop_lag_seconds"}


def test_statements_move_the_figures(start_watched: StartWatched) -> None:
    watched = start_watched(max_size=2)
    with Client(watched.process.ipc) as client:
        for _ in range(5):
            client.fetchval("select 1")
        client.fetchval("select 1 from pg_sleep(0.3)")
        told = watched.value
        assert told("requests_total") == told("request_seconds_count") == told("service_seconds_count") == 6
        assert told("queue_wait_seconds_count") == 6
        assert told("request_seconds_sum") >= 0.3
        assert told("request_seconds_count") - told("request_seconds_bucket", le="0.262144") >= 1
        assert told("pipeline_depth_count") + told("statements_in_session_total") >= 2
        assert told("workers") == 1
        slowest = client.status().slowest
    known = {each.statement: each for each in slowest}
    assert known["select 1"].count == 5
    assert known["select 1 from pg_sleep(0.3)"].max_seconds >= 0.3


def test_a_queue_is_seen_while_it_is_there_and_afterwards(start_watched: StartWatched) -> None:
    watched = start_watched(max_size=1)
    with Client(watched.process.ipc) as client:
        with client.acquire() as lease:
            lease.fetchval("select 1")
            waiting = threading.Thread(target=client.fetchval, args=("select 2",))
            waiting.start()
            until(lambda: watched.value("waiting_requests") == 1)
            until(lambda: watched.value("oldest_waiting_seconds") >= 0.1)
            assert watched.value("leases") == 1
            assert watched.value("oldest_lease_seconds") >= 0.1
            assert watched.value("connections", state="leased") == 1
        waiting.join()
        assert watched.value("waiting_requests") == watched.value("oldest_waiting_seconds") == 0
        assert watched.value("queue_wait_seconds_sum") >= 0.1
        assert watched.value("lease_held_seconds_count") == 1


def test_expiries_losses_and_errors_are_counted_by_their_kind(start_watched: StartWatched) -> None:
    watched = start_watched(max_size=1)
    with Client(watched.process.ipc) as client:
        with pytest.raises(asyncpg.UndefinedTableError):
            client.execute("select * from there_is_no_such_table")
        assert watched.value("errors_total", error="UndefinedTableError") == 1

        with client.acquire() as lease:
            with pytest.raises(PoolTimeout):
                client.fetchval("select 1", timeout=0.1)
            assert watched.value("errors_total", error="PoolTimeout") == 1
            assert watched.value("refused_pool_timeout_total") == 1
            with pytest.raises((OutcomeUnknown, LeaseError, asyncpg.PostgresError)):
                lease.execute("select pg_terminate_backend(pg_backend_pid())")
            until(lambda: watched.value("connections_lost_total") == 1)

    process = subprocess.run(  # a worker that dies without a word, with a lease
        [
            sys.executable,
            "-c",
            "import os, sys, pgactor; c = pgactor.Client(sys.argv[1]); c.acquire().__enter__(); os._exit(1)",
            watched.process.ipc,
        ],
        check=False,
    )
    assert process.returncode == 1
    until(lambda: watched.value("workers_lost_total") == 1)


def test_a_lease_that_expires_is_counted(start_watched: StartWatched) -> None:
    watched = start_watched(max_size=1, pool={"max_hold_seconds": 0.2})
    with Client(watched.process.ipc) as client, suppress(LeaseError), client.acquire():
        until(lambda: watched.value("leases_expired_total") == 1)


def test_the_process_is_healthy_and_what_is_unknown_is_not_found(start_watched: StartWatched) -> None:
    watched = start_watched()
    assert watched.get("/healthz") == (200, "ok\n")
    assert watched.get("/metrics/")[0] == 404
    assert watched.get("/readyz?pool=none")[0] == 404
    assert watched.get("/readyz?pool=default") == (200, "default: ok\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 405"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 9999, b""),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200"),
    ],
)
def test_what_is_no_request_harms_nobody(start_watched: StartWatched, sent: bytes, status: bytes) -> None:
    watched = start_watched()
    with socket.create_connection(("127.0.0.1", int(watched.url.rpartition(":")[2])), timeout=20) as asking:
        answer = b""
        with suppress(ConnectionError):
            asking.sendall(sent)
            while part := asking.recv(65536):
                answer += part
    assert answer.startswith(status)
    assert answer.endswith(b"\r\n\r\n") or b"HEAD" not in sent
    assert watched.get("/healthz") == (200, "ok\n")
    assert "Traceback" not in watched.process.log.read_text()


def test_it_is_ready_as_long_as_postgresql_can_be_reached(start_watched: StartWatched, server: Server) -> None:
    quick = {"reopen_backoff_seconds": 0.05, "reopen_backoff_max_seconds": 0.2}
    watched = start_watched(dsn=server.dsn(), min_size=0, pool=quick)
    assert watched.get("/readyz") == (200, "default: ok\n")  # which has opened a connection
    server.stop("fast")
    until(lambda: watched.get("/readyz")[0] == 503)
    status, why = watched.get("/readyz")
    assert status == 503
    assert "PostgreSQL" in why
    assert watched.get("/healthz")[0] == 200
    until(lambda: watched.value("database_up") == 0)
    server.start()
    until(lambda: watched.get("/readyz")[0] == 200)
    until(lambda: watched.value("database_up") == 1)


def test_a_supervisor_that_drains_is_not_ready(start_watched: StartWatched) -> None:
    watched = start_watched(max_size=1)
    with Client(watched.process.ipc) as client:
        running = threading.Thread(target=client.fetchval, args=("select 1 from pg_sleep(2)",))
        running.start()
        until(lambda: watched.value("connections", state="busy") == 1)
        watched.process.process.terminate()
        until(lambda: watched.get("/readyz") == (503, "default: the supervisor is shutting down\n"))
        running.join()


def test_a_port_that_is_taken_is_an_error_that_names_it(start_supervisor: StartSupervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"metrics_endpoint http://127.0.0.1:{port}"):
            start_supervisor(metrics_endpoint=f"127.0.0.1:{port}")


def test_without_an_endpoint_nothing_is_served(supervisor: SupervisorProcess) -> None:
    assert "metrics" not in supervisor.log.read_text()


def test_the_log_is_json_where_that_is_wanted(start_supervisor: StartSupervisor) -> None:
    process = start_supervisor(flags=("--log-format", "json"), pool={"lease_warning_seconds": 0.1})
    with Client(process.ipc, label="nightly") as client, client.acquire():
        until(lambda: "is held for" in process.log.read_text())
    lines = [
        json.loads(line) for line in process.log.read_text().splitlines() if not line.startswith("pgactor ready")
    ]
    (told,) = [line for line in lines if "is held for" in line["message"]]
    assert told["level"] == "WARNING"
    assert told["logger"] == "pgactor.conductor"
    assert told["time"].endswith("Z")
    assert (told["pool"], told["backend"], told["worker"]) == ("default", 0, "nightly")
