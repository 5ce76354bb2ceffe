"""Settings of a pool: `[pool]`."""

from __future__ import annotations

from typing import Literal

import msgspec

MOST_CONNECTIONS = 262_143
"""The largest max_connections that PostgreSQL takes."""


class PoolSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many connections, how long they live, how long requests wait."""

    min_size: int = 1
    max_size: int = 10
    max_queries: int = 50_000
    """A connection is replaced after this many requests; 0: never."""
    max_inactive_connection_lifetime: float = 300.0
    """An idle connection above min_size is closed after this many seconds; 0: never."""
    init_size: int | None = None
    """Connections to open at start, one alone first; None: min_size. Those above min_size may be closed as idle."""
    max_lifetime_seconds: float = 3600.0
    """A connection is replaced when it is this old; 0: never."""
    max_lifetime_jitter: float = 0.1
    """The part of max_lifetime_seconds that is left to chance, so that connections do not all end at once."""
    max_waiting: int = 10_000
    """How many requests may wait for a backend; further ones are refused with QueueFull."""
    queue_timeout_seconds: float = 30.0
    """How long a request may wait for a backend, unless it brings a shorter timeout of its own."""
    lease_ttl_seconds: float = 30.0
    """How long a silent owner keeps its lease, unless it asks for another time."""
    max_hold_seconds: float | None = None
    """How long a lease may be held at all."""
    lease_warning_seconds: float = 30.0
    """A lease that is held for this long is reported in the log, once; 0: never."""
    opens_at_once: int = 4
    """How many connections may be opening at the same time."""
    reopen_backoff_seconds: float = 0.1
    """The pause after a failed open or a dead connection; doubled with each failure, jittered."""
    reopen_backoff_max_seconds: float = 5.0
    database_grace_seconds: float = 5.0
    """How long requests go on waiting while PostgreSQL refuses every connection."""
    reset_timeout_seconds: float = 5.0
    """How long a backend may take to cancel, roll back and reset; then it is closed."""
    reset_every_statement: bool = False
    """Reset the session after each statement, for databases whose functions change the session."""
    statement_lane: Literal["on", "off"] = "on"
    """Whether statements of several workers may travel down one connection one behind the other."""
    pipeline_depth: int = 32
    """How many of them at most; 1: each has the connection to itself."""
    pipeline_short_seconds: float = 0.001
    """Only a statement that takes less than this, on average, travels with others."""
    pipeline_stall_seconds: float = 0.01
    """Nothing is sent behind a statement that has taken this long."""
    worker_window: int = 0
    """How many statements of one worker may travel with others' at the same time; what it has more waits in the
    supervisor, where nobody stands behind it. 0: twice pipeline_depth, or max_size if that is more."""
    lease_share: float = 0.75
    """The part of the connections that leases may hold while statements are coming; at least one, and all but one at
    most."""
    recycling: Literal["reset", "clean", "verified", "fast"] = "reset"
    """How a connection is made ready for another worker; see docs/configuration.md."""
    max_requests_per_worker: int = 20_000
    """How many unanswered requests one worker may have; further ones are refused with QueueFull. 0: no limit."""
    max_bytes_per_worker: int = 256 * 1024 * 1024
    """How many bytes they may have, but for those of small ones; 0: no limit."""
    max_leases_per_worker: int = 0
    """How many leases one worker may hold and wait for; 0: no limit of its own."""
    listen_check_seconds: float = 5.0
    """How often the connection that listens is asked whether it lives, and how long an answer may take; 0: never."""
    workers_may_administer: bool | None = None
    """Whether workers may resize the pool and replace its connect arguments; not given: those on ipc may."""

    @property
    def resets_always(self) -> bool:
        """Whether the session is reset after every use, whatever is known of what ran there."""
        return self.reset_every_statement or self.recycling == "clean"

    def resized(self, max_size: int, min_size: int | None = None) -> PoolSettings:
        """The same for another size. min_size: None leaves it, or brings it down to max_size.

        Raises ValueError for sizes that cannot be.
        """
        least = min(self.min_size, max(max_size, 0)) if min_size is None else min_size
        first = None if self.init_size is None else min(max(self.init_size, least), max(max_size, 0))
        return msgspec.structs.replace(self, max_size=max_size, min_size=least, init_size=first)

    @property
    def initial_size(self) -> int:
        """How many connections are opened at start."""
        return self.min_size if self.init_size is None else self.init_size

    @property
    def most_in_flight(self) -> int:
        """How many statements of one worker share backends with others' at the same time, at most."""
        return self.worker_window or max(2 * self.pipeline_depth, self.max_size)

    def __post_init__(self) -> None:
        if self.max_size <= 0:
            raise ValueError("max_size is expected to be greater than zero")
        if self.max_size > MOST_CONNECTIONS:
            raise ValueError(f"max_size is expected to be at most {MOST_CONNECTIONS}, PostgreSQL's own limit")
        if self.min_size < 0:
            raise ValueError("min_size is expected to be greater or equal to zero")
        if self.min_size > self.max_size:
            raise ValueError("min_size is greater than max_size")
        if self.initial_size < 0:
            raise ValueError("init_size is expected to be greater or equal to zero")
        if self.initial_size > self.max_size:
            raise ValueError("init_size is greater than max_size")
        if self.initial_size < self.min_size:
            raise ValueError("init_size is smaller than min_size")
        if self.max_queries < 0:  # 0 means never here
            raise ValueError("max_queries is expected to be greater than zero")
        if not self.max_inactive_connection_lifetime >= 0:
            raise ValueError("max_inactive_connection_lifetime is expected to be greater or equal to zero")
        if not 0 <= self.max_lifetime_jitter <= 1:
            raise ValueError("max_lifetime_jitter is expected to be between 0 and 1")
        if not 0 <= self.lease_share <= 1:
            raise ValueError("lease_share is expected to be between 0 and 1")
        for name in ("max_waiting", "opens_at_once", "pipeline_depth"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is expected to be greater than zero")
        for name in ("queue_timeout_seconds", "lease_ttl_seconds", "reset_timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is expected to be greater than zero")
        if self.max_hold_seconds is not None and not self.max_hold_seconds > 0:
            raise ValueError("max_hold_seconds is expected to be greater than zero")
        for name in (
            "max_lifetime_seconds",
            "reopen_backoff_seconds",
            "reopen_backoff_max_seconds",
            "database_grace_seconds",
            "pipeline_short_seconds",
            "pipeline_stall_seconds",
            "worker_window",
            "lease_warning_seconds",
            "listen_check_seconds",
            "max_requests_per_worker",
            "max_bytes_per_worker",
            "max_leases_per_worker",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is expected to be greater or equal to zero")
