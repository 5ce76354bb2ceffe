"""The rows of the compatibility table: what other pools promise, each in a line."""

from __future__ import annotations

SECTIONS = {
    "A": "asyncpg.Pool and asyncpg.Connection",
    "B": "psqlpy's ConnectionPool",
    "T": "Values",
}

ROWS = {
    "A1": "create_pool: a plain function; the pool is awaited or entered",
    "A2": "Arguments that cannot be are refused with a ValueError",
    "A3": "The start: connections are there at once, a failure is raised and ends the pool",
    "A4": "States: not initialised, being initialised, closing, closed",
    "A5": "acquire: awaited or entered, with a timeout, in order",
    "A6": "Hooks: setup, init, reset, connect",
    "A7": "Statements and COPY on the pool itself",
    "A8": "release: of one's own connections only, silent when repeated, never stopped half-way",
    "A9": "What happens to a connection at its release",
    "A10": "What a session leaves to the next",
    "A11": "Release with listeners left, or while a statement runs",
    "A12": "max_queries",
    "A13": "Idle connections are closed, min_size is kept",
    "A14": "Sizes",
    "A15": "expire_connections and set_connect_args",
    "A16": "close and terminate",
    "A17": "Use after release",
    "A18": "Cancels, timeouts, misuse",
    "A19": "Changes of the schema",
    "A20": "The connection's own methods, prepared statements, cursors, transactions",
    "B1": "Every parameter of the constructor",
    "B2": "The pool's methods: lazy, resize, status, close",
    "B3": "The connection's methods and results",
    "B4": "Recycling at checkout",
    "B5": "Enumerations: sessions, hosts, recycling, TLS",
    "B6": "The listener",
    "T1": "Types whose values are plain",
    "T2": "Types whose values must not be erased on the way",
    "T3": "Arguments of other types than the results'",
    "T4": "The time zone of a naive datetime is the worker's",
    "T5": "Values that cannot be decoded",
    "T6": "Errors of PostgreSQL: class, fields, query, cause",
}


def order(row: str) -> tuple[str, int]:
    """What to sort rows by."""
    return row[0], int(row[1:])
