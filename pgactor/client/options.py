"""What a client is told when it is made."""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec

from ..endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE
from ..errors import ClientError
from ..messages import DEFAULT_MAX_FRAME_BYTES

ANSWER_GRACE_SECONDS = 5.0
"""How much longer than a request's timeout its answer is awaited: the supervisor keeps the timeout, and when even
its answer does not come it is stuck."""


def _default_endpoint() -> str:
    return os.environ.get(ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT


def _default_label() -> str:
    return (sys.argv[0].rpartition("/")[2] if sys.argv else "") or "python"


class Options(msgspec.Struct, frozen=True):
    """endpoint: ipc:///path or tcp://host:port; default $PGACTOR_ENDPOINT. connect_timeout: seconds to wait for a
    supervisor that is not there (yet). request_timeout: seconds for each statement, waiting for a backend included,
    unless the call brings its own; None: no limit. label: how this worker is named in status and errors."""

    endpoint: str = msgspec.field(default_factory=_default_endpoint)
    connect_timeout: float = 10.0
    request_timeout: float | None = 60.0
    label: str = msgspec.field(default_factory=_default_label)
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("ipc://", "tcp://")):
            raise ClientError(f"{self.endpoint!r} is no endpoint: expected ipc:///path/to.sock or tcp://HOST:PORT")


def make_options(
    endpoint: str | None, connect_timeout: float, request_timeout: float | None, label: str | None
) -> Options:
    """The options of a client, defaults filled in. Raises `ClientError` for an endpoint that is none."""
    given = {"endpoint": endpoint, "label": label}
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Options(connect_timeout=connect_timeout, request_timeout=request_timeout, **named)
