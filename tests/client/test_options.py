"""What a client is told when it is made."""

from __future__ import annotations

import math
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pgactor import Client, ClientClosed
from pgactor.client.options import make_options
from pgactor.endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, POOL_VARIABLE
from pgactor.errors import ClientError

from .virtual import THREAD_SECONDS


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)


def test_the_endpoint_is_the_one_given_else_the_environments_else_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert make_options(None, 1.0, None, None).endpoint == DEFAULT_ENDPOINT
    monkeypatch.setenv(ENDPOINT_VARIABLE, "tcp://127.0.0.1:5000")
    assert make_options(None, 1.0, None, None).endpoint == "tcp://127.0.0.1:5000"
    assert make_options("ipc:///tmp/x", 1.0, None, None).endpoint == "ipc:///tmp/x"


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLE, "")
    assert make_options(None, 1.0, None, None).endpoint == DEFAULT_ENDPOINT


@pytest.mark.parametrize("endpoint", ["/run/pgactor.sock", "postgresql://localhost", "inproc://x", "", "ipc:/x"])
def test_what_is_no_endpoint_is_refused_and_named(endpoint: str) -> None:
    with pytest.raises(
        ClientError, match=r"is no endpoint: expected ipc:///path/to\.sock or tcp://HOST:PORT"
    ) as caught:
        make_options(endpoint, 1.0, None, None)
    assert repr(endpoint) in str(caught.value)


def test_a_wrong_endpoint_in_the_environment_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLE, "nowhere")
    with pytest.raises(ClientError, match="'nowhere' is no endpoint"):
        make_options(None, 1.0, None, None)


def test_an_endpoint_that_is_given_makes_the_environments_unimportant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLE, "nowhere")
    assert make_options("ipc:///tmp/x", 1.0, None, None).endpoint == "ipc:///tmp/x"


@pytest.mark.parametrize(
    ("argv", "label"),
    [(["/usr/bin/gunicorn", "app"], "gunicorn"), (["worker.py"], "worker.py"), ([""], "python"), ([], "python")],
)
def test_a_worker_is_named_after_its_program(argv: list[str], label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert make_options(None, 1.0, None, None).label == label
    assert make_options(None, 1.0, None, "mine").label == "mine"


def test_the_pool_is_the_one_given_else_the_endpoints_else_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POOL_VARIABLE, raising=False)
    assert make_options("ipc:///tmp/x", 1.0, None, None).pool == ""
    monkeypatch.setenv(POOL_VARIABLE, "third")
    assert make_options("ipc:///tmp/x", 1.0, None, None).pool == "third"
    made = make_options("ipc:///tmp/x?pool=a%2Fb", 1.0, None, None)
    assert (made.endpoint, made.pool) == ("ipc:///tmp/x", "a/b")
    assert make_options("ipc:///tmp/x?pool=second", 1.0, None, None, "first").pool == "first"
    assert make_options("ipc:///tmp/x", 1.0, None, None, "").pool == ""
    monkeypatch.setenv(ENDPOINT_VARIABLE, "tcp://127.0.0.1:5000?pool=second")
    made = make_options(None, 1.0, None, None)
    assert (made.endpoint, made.pool) == ("tcp://127.0.0.1:5000", "second")


@pytest.mark.parametrize("query", ["poll=x", "pool", "pool=", "pool=x&pool=y", "timeout=3"])
def test_an_option_of_the_endpoint_that_is_none_is_refused_and_named(query: str) -> None:
    with pytest.raises(ClientError) as caught:
        make_options(f"ipc:///tmp/x?{query}", 1.0, None, None)
    assert str(caught.value) == (
        f"?{query} is no option of the endpoint ipc:///tmp/x: ?pool=NAME is all that is expected"
    )


def test_times_are_taken_as_they_are_given() -> None:
    made = make_options("ipc:///tmp/x", 2.5, None, "x")
    assert (made.connect_timeout, made.request_timeout) == (2.5, None)


def test_a_name_on_disk_that_is_no_unicode_is_told_as_well_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/caf\udce9.py"])
    assert make_options(None, 1.0, None, None).label == "caf?.py"
    code = compile("from pgactor.client.acquirer import place\nfound = place()", "/opt/caf\udce9.py", "exec")
    names = {"__name__": "application"}
    exec(code, names)  # our own
    assert names["found"] == "/opt/caf?.py:2 in <module>"


def test_timeouts_are_checked_where_they_are_given() -> None:
    for wrong in ("soon", math.nan, True):
        for timeouts in ((wrong, 1.0), (1.0, wrong)):
            with pytest.raises(ValueError, match="invalid timeout value"):
                make_options(None, timeouts[0], timeouts[1], None)  # type: ignore[arg-type]
    made = make_options(None, 0, -1, None)
    assert (made.connect_timeout, made.request_timeout) == (0, 0)


def test_a_supervisor_may_be_waited_for_without_end(short_tmp: Path) -> None:
    path = short_tmp / "s"
    client = Client(f"ipc://{path}", connect_timeout=math.inf, request_timeout=None)
    with ThreadPoolExecutor(1) as threads, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        asking = threads.submit(client.fetchval, "select 1")
        listening.accept()[0].close()
        path.unlink()
        with pytest.raises(TimeoutError):  # it goes on
            asking.result(0.1)
        client.close()
        with pytest.raises(ClientClosed):
            asking.result(THREAD_SECONDS)
