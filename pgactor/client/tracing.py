"""Where requests are traced, if the application traces: contrib/otel.py puts its tracer here. Without one, that costs
a look."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from ..messages import Request
from .pending import Pending


class Trace(AbstractContextManager["Trace"], Protocol):
    """A request from its making to its end; an exception that leaves the block is its outcome."""

    def answered(self, pending: Pending) -> None:
        """The request has ended."""


class Tracer(Protocol):
    """Makes the traces."""

    def begin(self, request: Request) -> Trace | None:
        """Begin to trace the request, which is to carry the context from now on. None: it is traced already, or is
        not to be."""


tracer: Tracer | None = None
"""The application's; None: it does not trace."""
