"""pgactor.contrib: the label and the deadline that requests to the database have within HTTP requests and tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import flask
import pytest
from celery import Celery
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

import pgactor
from pgactor import AsyncClient, Client, RequestTimeout
from pgactor.contrib import asgi, wsgi
from pgactor.contrib.celery import label_tasks
from pgactor.contrib.http import remaining
from tests.endtoend.processes import state_of
from tests.supervising import SupervisorProcess


def seen() -> tuple[str, float | None]:
    """The label and deadline of the running code."""
    return pgactor.label.get(), pgactor.deadline.remaining()


def ask_wsgi(app: Any, path: str = "/", **headers: str) -> list[bytes]:
    """What a WSGI server does."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.file_wrapper": FileWrapper}
    environ |= {f"HTTP_{name}": value for name, value in headers.items()}
    body = app(environ, lambda status, headers: None)
    try:
        return list(body)
    finally:
        getattr(body, "close", lambda: None)()


def must_be_about(found: float | None, seconds: float) -> None:
    assert found is not None
    assert seconds - 5 < found <= seconds + 0.01


# --- WSGI -------------------------------------------------------------------------------------------------------


def test_a_wsgi_request_is_named_by_its_path_and_ends_in_time() -> None:
    within = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        within.append(seen())
        return [b"done"]

    assert ask_wsgi(wsgi.Labelled(app, timeout=20), "/users/7") == [b"done"]
    assert ask_wsgi(wsgi.Labelled(app), "/t\u00c3\u00a9\n" + "x" * 500) == [b"done"]
    (label, left), (long, unlimited) = within
    assert label == "GET /users/7"
    must_be_about(left, 20)
    assert long.startswith("GET /t\u00e9?xxx")
    assert len(long) == 100
    assert unlimited is None
    assert seen() == ("", None)


def test_what_a_wsgi_application_sends_bit_by_bit_belongs_to_the_request() -> None:
    within = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            within.append(seen()[0])
            yield b"bit"

        def close(self) -> None:
            within.append(seen()[0])

    assert ask_wsgi(wsgi.Labelled(lambda *_: Body()), "/stream") == [b"bit"]
    assert within == ["GET /stream", "GET /stream"]
    assert seen() == ("", None)


def test_the_servers_file_wrapper_may_be_a_function() -> None:
    def wrapper(file: Any) -> Any:  # as uWSGI's and mod_wsgi's
        return file

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/stream", "wsgi.file_wrapper": wrapper}
    body = wsgi.Labelled(lambda *_: iter([b"bit"]))(environ, lambda *_: None)  # type: ignore[arg-type]
    assert list(body) == [b"bit"]


def test_a_wsgi_application_that_fails_leaves_nothing() -> None:
    def app(*_: Any) -> Iterable[bytes]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        ask_wsgi(wsgi.Labelled(app, timeout=20))
    assert seen() == ("", None)


def test_a_file_is_left_to_the_server(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        wrapped = FileWrapper(file)
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/file", "wsgi.file_wrapper": FileWrapper}
        assert wsgi.Labelled(lambda *_: wrapped)(environ, lambda *_: None) is wrapped  # type: ignore[arg-type]


def test_a_flask_request_is_named_by_its_route() -> None:
    app = flask.Flask(__name__)
    app.add_url_rule("/users/<int:number>", "user", lambda number: flask.jsonify(pgactor.label.get()))
    app.register_error_handler(404, lambda error: (flask.jsonify(pgactor.label.get()), 404))
    app.wsgi_app = wsgi.Labelled(app.wsgi_app, route=wsgi.flask_route(app))  # type: ignore[method-assign]
    client = app.test_client()
    for path, label in (("/users/7", "GET /users/<int:number>"), ("/nowhere", "GET /nowhere")):
        with client.get(path) as response:  # a server closes it, too, when it has sent it
            assert response.json == label
    assert seen() == ("", None)


def test_what_a_request_waited_for_a_worker_counts() -> None:
    within = []

    def app(*_: Any) -> Iterable[bytes]:
        within.append(seen()[1])
        return []

    labelled = wsgi.Labelled(app, timeout=20, start_header="X-Request-Start")
    ask_wsgi(labelled, X_REQUEST_START=f"t={time.time() - 8}")
    ask_wsgi(labelled, X_REQUEST_START="t=100")
    ask_wsgi(labelled)
    must_be_about(within[0], 12)
    assert within[1] == 0
    must_be_about(within[2], 20)


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
def test_a_stamp_may_have_any_unit(unit: float) -> None:
    must_be_about(remaining(20, f"t={(time.time() - 5) * unit:.3f}"), 15)


@pytest.mark.parametrize("stamp", [None, "", "t=", "yesterday", "nan", "-inf", "inf", "-5", "t=99999999999"])
def test_a_stamp_that_is_none_takes_no_time(stamp: str | None) -> None:
    assert remaining(20, stamp) == 20


def test_the_database_is_told_and_stops_in_time(supervisor: SupervisorProcess) -> None:
    with Client(supervisor.ipc) as client:

        def app(*_: Any) -> Iterable[bytes]:
            with client.acquire() as lease:
                (holder,) = (each for each in state_of(supervisor.ipc).holders if each.lease)
                labels.append(holder.label)
                lease.execute("select pg_sleep(60)")
            return []

        labels: list[str] = []
        with pytest.raises(RequestTimeout, match="deadline"):
            ask_wsgi(wsgi.Labelled(app, timeout=1.5), "/slow")
        assert labels == ["GET /slow"]


# --- ASGI -------------------------------------------------------------------------------------------------------


async def tell(request: Request) -> Response:
    return JSONResponse(seen())


def tell_in_a_thread(request: Request) -> Response:
    return JSONResponse(seen())


async def tell_socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json(seen())
    await socket.close()


def starlette_app(**options: Any) -> asgi.Labelled:
    app = Starlette(
        routes=[
            Route("/users/{id:int}", tell),
            Route("/thread/{id}", tell_in_a_thread),
            Mount("/admin", routes=[Route("/logs/{day}", tell)]),
            WebSocketRoute("/socket", tell_socket),
        ]
    )
    return asgi.Labelled(app, route=asgi.starlette_route(app), timeout=20, **options)


async def ask_asgi(app: asgi.Labelled, path: str, *, kind: str = "http", **headers: str) -> Any:
    """What an ASGI server does; returns the JSON that is sent."""
    named = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "root_path": "", "query_string": b"", "headers": named, "extensions": {}}
    if kind == "http":
        scope |= {"method": "GET"}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""} if kind == "http" else {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return json.loads("".join(message.get("text") or message.get("body", b"").decode() for message in sent))


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/users/7", "GET /users/{id:int}"),
        ("/thread/7", "GET /thread/{id}"),
        ("/admin/logs/monday", "GET /admin/logs/{day}"),
    ],
)
async def test_a_starlette_request_is_named_by_its_route_and_ends_in_time(path: str, label: str) -> None:
    found, left = await ask_asgi(starlette_app(), path)
    assert found == label
    must_be_about(left, 20)
    assert seen() == ("", None)


async def test_a_websocket_has_a_label_and_no_deadline() -> None:
    assert await ask_asgi(starlette_app(), "/socket", kind="websocket") == ["WEBSOCKET /socket", None]


async def test_an_asgi_request_is_named_by_its_path_if_its_route_is_not_known() -> None:
    app = asgi.Labelled(Starlette(routes=[Route("/users/{id}", tell)]))
    assert await ask_asgi(app, "/users/7") == ["GET /users/7", None]


async def test_what_an_asgi_request_waited_counts() -> None:
    app = starlette_app(start_header="X-Request-Start")
    must_be_about((await ask_asgi(app, "/users/7", X_Request_Start=f"t={time.time() - 8}"))[1], 12)


async def test_an_async_client_is_told(supervisor: SupervisorProcess) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with AsyncClient(supervisor.ipc) as client:
            await client.execute("select pg_sleep(60)")

    scope = {"type": "http", "method": "GET", "path": "/slow", "headers": []}
    with pytest.raises(RequestTimeout, match="deadline"):
        await asgi.Labelled(app, timeout=1.0)(scope, None, None)  # type: ignore[arg-type]


# --- celery -----------------------------------------------------------------------------------------------------


@pytest.fixture
def celery() -> Iterator[Celery]:
    label_tasks()
    label_tasks()  # nothing more
    with Celery("labelled", set_as_current=False, task_always_eager=True) as app:
        yield app


def run(app: Celery, **options: Any) -> tuple[str, float | None]:
    """What a task with these options sees."""
    decorator: Any = app.task(name="shop.see", **options)
    task = decorator(seen)
    found: tuple[str, float | None] = task.apply().get()
    assert seen() == ("", None)
    return found


def test_a_task_is_named_and_has_no_deadline_without_a_limit(celery: Celery) -> None:
    assert run(celery) == ("shop.see", None)


def test_the_shorter_limit_is_the_deadline_with_a_second_to_spare(celery: Celery) -> None:
    must_be_about(run(celery, soft_time_limit=50, time_limit=60)[1], 49)


def test_half_of_a_short_limit_is_left_to_the_task(celery: Celery) -> None:
    left = run(celery, time_limit=1)[1]
    assert left is not None
    assert 0 < left <= 0.5


def test_the_applications_limit_holds_where_the_task_has_none(celery: Celery) -> None:
    celery.conf.task_time_limit = 40
    must_be_about(run(celery)[1], 39)


def test_a_task_that_fails_leaves_nothing(celery: Celery) -> None:
    def fail() -> None:
        raise ValueError("no")

    task: Any = celery.task(name="shop.fail")(fail)
    with pytest.raises(ValueError, match="no"):
        task.apply().get()
    assert seen() == ("", None)
