"""ASGI: `app = Labelled(app, timeout=25)`.

For Starlette and FastAPI: `Labelled(app, route=starlette_route(app), timeout=25)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from .http import path_label, remaining, request

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Route = Callable[[Scope], str | None]
"""Tells from the scope what a request's label is; None: its method and path."""


class Labelled:
    """An application whose requests to the database say which HTTP request they are for, and end when it does.

    timeout: seconds that a request may take; None: no deadline. Websockets have a label and no deadline.
    route: how a request is named, such as `starlette_route(app)`; default: by its method and path. start_header: a
    header in which your proxy stamps requests when they come, such as "X-Request-Start": what they waited for one
    then counts, too. Name it only if the proxy sets it: else callers can.
    """

    def __init__(
        self, app: App, *, timeout: float | None = None, route: Route | None = None, start_header: str | None = None
    ) -> None:
        self.app = app
        self.timeout = timeout
        self.route = route
        self._start_header = start_header.lower().encode() if start_header else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        with request(self._label(scope), self._remaining(scope)):
            await self.app(scope, receive, send)

    def _label(self, scope: Scope) -> str:
        named = self.route(scope) if self.route is not None else None
        return named or path_label(scope.get("method", "WEBSOCKET"), scope["path"])

    def _remaining(self, scope: Scope) -> float | None:
        if self.timeout is None or scope["type"] != "http":
            return None
        started = None
        for name, value in scope["headers"] if self._start_header else ():
            if name == self._start_header:
                started = value.decode("latin-1")
        return remaining(self.timeout, started)


def starlette_route(app: Starlette) -> Route:
    """Names requests by Starlette's or FastAPI's routes: `GET /users/{id}`."""

    def route(scope: Scope) -> str | None:
        found = _path(app.routes, scope)
        return found and f"{scope.get('method', 'WEBSOCKET')} {found}"

    return route


def _path(routes: Iterable[BaseRoute], scope: Scope) -> str | None:
    """The path of the first route that takes the request, those of mounted applications included."""
    from starlette.routing import Match

    for each in routes:
        match, inner = each.matches(scope)
        if match is Match.FULL:
            path: str = getattr(each, "path", "")
            nested = getattr(each, "routes", None)
            return path + (_path(nested, {**scope, **inner}) or "") if nested else path or None
    return None
