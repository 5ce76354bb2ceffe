"""What benchmarks/gunicorn.py serves: a WSGI application whose requests look up one row. $BENCH_PEER says how."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from .statements import LOOKUP

Lookup = Callable[[int], Any]


def pgactor_lookup() -> Lookup:
    """Through the supervisor."""
    from pgactor import Client

    client = Client(os.environ["BENCH_ADDRESS"])
    return lambda number: client.fetchrow(LOOKUP.sql, number)


def psycopg_lookup() -> Lookup:
    """From a pool of this process's own, with two connections."""
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(
        os.environ["BENCH_ADDRESS"],
        min_size=2,
        max_size=2,
        kwargs={"autocommit": True, "prepare_threshold": 0},
        open=True,
    )
    pool.wait(30)

    def lookup(number: int) -> Any:
        with pool.connection() as connection:
            return connection.execute(LOOKUP.percent, (number,)).fetchone()

    return lookup


PEERS = {"pgactor": pgactor_lookup, "psycopg_pool": psycopg_lookup}

lookup = PEERS[os.environ["BENCH_PEER"]]()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """`GET /42`: the row as a JSON list."""
    body = json.dumps(list(lookup(int(environ["PATH_INFO"][1:]))), default=str).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
