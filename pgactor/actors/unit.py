"""A unit: what is sent to PostgreSQL as one, and ends as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ..core.request import Request
from .describing import Describing
from .group import Group

Unit: TypeAlias = Request | Describing | Group
"""A request's one statement, a statement's description, or several statements of one request."""


def unit_of(request: Request) -> Request | Group:
    """As what the request is sent."""
    return request.work if type(request.work) is Group else request


def request_of(unit: Request | Group) -> Request:
    """Whose the unit is."""
    return unit if isinstance(unit, Request) else unit.request


def requests_of(unit: Unit) -> Sequence[Request]:
    """Those who wait for the unit."""
    return unit.requests if isinstance(unit, Describing) else [request_of(unit)]
