"""Who hears of what comes of the statements in the statement lane."""

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
