"""What a client is told when it is made."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import unquote

import msgspec

from .. import keys
from ..endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, KEY_VARIABLE, POOL_VARIABLE, SERVER_KEY_VARIABLE
from ..errors import ClientError
from ..messages import DEFAULT_MAX_FRAME_BYTES
from .calls import check_timeout

ANSWER_GRACE_SECONDS = 5.0
"""How much longer than a request's timeout its answer is awaited: the supervisor keeps the timeout, and when even
its answer does not come it is stuck."""

LONGEST_WAIT_SECONDS = 1e8
"""Longer waits than three years are more than some clocks can be told."""


def _default_endpoint() -> str:
    return os.environ.get(ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT


def _default_label() -> str:
    name = sys.argv[0].rpartition("/")[2] if sys.argv else ""
    return name.encode(errors="replace").decode() or "python"  # a name on disk may be no Unicode


class Options(msgspec.Struct, frozen=True):
    """endpoint: ipc:///path or tcp://host:port; default $PGACTOR_ENDPOINT. connect_timeout: seconds to wait for a
    supervisor that is not there (yet). request_timeout: seconds for each statement, waiting for a backend included,
    unless the call brings its own; None: no limit. label: how this worker is named in status and errors. pool: which
    of the supervisor's pools; "": the first. server_key, key: the supervisor's public keys and this client's
    secret one, as texts or paths of their files; "": none. comments: whether statements tell in a comment
    where they come from, see comments.py."""

    endpoint: str = msgspec.field(default_factory=_default_endpoint)
    connect_timeout: float = 10.0
    request_timeout: float | None = 60.0
    label: str = msgspec.field(default_factory=_default_label)
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    pool: str = ""
    server_key: str = ""
    key: str = ""
    comments: bool = False

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("ipc://", "tcp://")):
            raise ClientError(f"{self.endpoint!r} is no endpoint: expected ipc:///path/to.sock or tcp://HOST:PORT")
        if self.endpoint.startswith("tcp://") and (self.server_key or self.key):
            if not (self.server_key and self.key):
                raise ClientError("server_key and key are expected together: the supervisor's key and your own")
            keys.public_keys(self.server_key)
            keys.secret_key(self.key)

    def __repr__(self) -> str:
        return f"<Options {self.endpoint}>"  # a key may be in it


def make_options(
    endpoint: str | None,
    connect_timeout: float,
    request_timeout: float | None,
    label: str | None,
    pool: str | None = None,
    server_key: str | None = None,
    key: str | None = None,
    *,
    comments: bool = False,
) -> Options:
    """The options of a client, defaults filled in. Raises `ClientError` for an endpoint that is none, `ConfigError`
    for keys that are none, ValueError for timeouts that are none.

    The pool is the one given, else that of the endpoint (`?pool=NAME`), else $PGACTOR_POOL.
    """
    endpoint, _, query = (_default_endpoint() if endpoint is None else endpoint).partition("?")
    if query:
        option, _, name = query.partition("=")
        if option != "pool" or not name or "&" in name:
            raise ClientError(f"?{query} is no option of the endpoint {endpoint}: ?pool=NAME is all that is expected")
        pool = unquote(name) if pool is None else pool
    given = {"endpoint": endpoint, "label": label, "pool": os.environ.get(POOL_VARIABLE) if pool is None else pool}
    given["server_key"] = os.environ.get(SERVER_KEY_VARIABLE) if server_key is None else server_key
    given["key"] = os.environ.get(KEY_VARIABLE) if key is None else key
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    wait = check_timeout(connect_timeout, None)
    named["connect_timeout"] = LONGEST_WAIT_SECONDS if wait is None else min(wait, LONGEST_WAIT_SECONDS)
    return Options(request_timeout=check_timeout(request_timeout, None), comments=comments, **named)
