"""WSGI: `application = Labelled(application, timeout=25)`.

For Flask: `app.wsgi_app = Labelled(app.wsgi_app, route=flask_route(app), timeout=25)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .http import path_label, remaining, request

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask

Route = Callable[[dict[str, Any]], str | None]
"""Tells from the environ what a request's label is; None: its method and path."""


class Labelled:
    """An application whose requests to the database say which HTTP request they are for, and end when it does.

    timeout: seconds that a request may take; keep it below what the server kills a worker after. None: no deadline.
    route: how a request is named, such as `flask_route(app)`; default: by its method and path. start_header: a header
    in which your proxy stamps requests when they come, such as "X-Request-Start": what they waited for a worker then
    counts, too. Name it only if the proxy sets it: else callers can.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        timeout: float | None = None,
        route: Route | None = None,
        start_header: str | None = None,
    ) -> None:
        self.app = app
        self.timeout = timeout
        self.route = route
        self._start_key = "HTTP_" + start_header.upper().replace("-", "_") if start_header else None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with ExitStack() as stack:
            stack.enter_context(request(self._label(environ), self._remaining(environ)))
            body = self.app(environ, start_response)
            wrapper = environ.get("wsgi.file_wrapper")  # of some servers a function
            if isinstance(body, (list, tuple, wrapper if isinstance(wrapper, type) else list)):
                return body  # nothing runs any more
            return _Body(body, stack.pop_all())

    def _label(self, environ: WSGIEnvironment) -> str:
        named = self.route(environ) if self.route is not None else None
        if named is not None:
            return named
        path = (environ.get("PATH_INFO") or "/").encode("latin-1", "replace").decode(errors="replace")  # WSGI's way
        return path_label(environ["REQUEST_METHOD"], path)

    def _remaining(self, environ: WSGIEnvironment) -> float | None:
        if self.timeout is None:
            return None
        return remaining(self.timeout, environ.get(self._start_key) if self._start_key else None)


class _Body:
    """What the application sends bit by bit: it may still ask the database."""

    def __init__(self, body: Iterable[bytes], stack: ExitStack) -> None:
        self._body = body
        self._stack = stack

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        with self._stack:
            if close := getattr(self._body, "close", None):
                close()


def flask_route(app: Flask) -> Route:
    """Names requests by Flask's routes: `GET /users/<int:id>`."""

    def route(environ: dict[str, Any]) -> str | None:
        from werkzeug.exceptions import HTTPException

        try:
            rule, _ = app.url_map.bind_to_environ(environ).match(return_rule=True)
        except HTTPException:
            return None  # 404, 405, a redirection: no route's business
        return f"{environ['REQUEST_METHOD']} {rule.rule}"

    return route
