"""Who hears of what comes of the statements in the statement lane, and of all else that happens to a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..core.request import Request
from ..messages import Done, Failed, Results, Rows
from ..messages.session import Opened, Prepared
from .group import Group
from .shapes import Shape

if TYPE_CHECKING:
    from .backend import Backend
    from .hooks import Setup


Answer = Done | Rows | Results | Prepared | Opened | Failed
"""What may come of a request that asyncpg runs."""


class Reports(Protocol):
    """Each request has its answer by one of the first four, and then comes back; or it is diverted."""

    def rows(self, request: Request, shape: Shape, rows: list[bytes]) -> None: ...
    def tag(self, request: Request, tag: bytes) -> None: ...
    def failed(self, request: Request, error: Exception) -> None: ...

    def part(self, request: Request, shape: Shape, rows: bytes, go_on: Callable[[], object]) -> bool:
        """Some rows of the request, as a msgpack array, before its answer. False: no more now; `go_on` is called when
        there is room."""

    def results(self, request: Request, group: Group) -> None:
        """The group has ended, well or not."""

    def came_back(self, backend: Backend, requests: list[Request]) -> None:
        """The backend has done with these, in this order."""

    def diverted(self, backend: Backend, request: Request) -> None:
        """The request did not run: it is for asyncpg."""


class BackendReports(Reports, Protocol):
    """Who hears of what happens to a backend."""

    def opened(self, backend: Backend) -> None: ...
    def open_failed(self, backend: Backend, error: BaseException) -> None: ...

    def answer(self, request: Request, reply: Answer, shape: Shape | None) -> None:
        """The request's result, with the shape of its rows. Rows among results have their columns."""

    def schema_changed(self) -> None:
        """A lease's owner says so: every backend's session is to `forget_schema`."""

    def finished(self, backend: Backend, request: Request, touched: bool) -> None:
        """The backend is quiet again. touched: it was left inside a transaction."""

    def unrun(self, backend: Backend, request: Request) -> None:
        """The request was not even begun; `gone` follows."""

    def spoiled(self, backend: Backend) -> None:
        """The session is fit for nobody: it is to be closed when it comes back."""

    def set_up(self, backend: Backend, setup: Setup, error: Exception | None) -> None:
        """The session is ready for the lease, or not, as the error tells."""

    def reset_done(self, backend: Backend) -> None: ...
    def closed(self, backend: Backend) -> None: ...
    def gone(self, backend: Backend, reason: str) -> None: ...
