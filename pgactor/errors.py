"""Every error pgactor raises of its own.

    PgactorError
    ├── ConfigError                 a setting is wrong; nothing was started
    ├── ClientError                 the client was used in a way that cannot work
    │   ├── ClientClosed            used after close()
    │   └── UnsupportedType         a value whose type does not cross the wire
    ├── NotPermitted                the supervisor does not let this worker do that; nothing was changed
    ├── SupervisorUnavailable       no supervisor answers at the endpoint; nothing was run        (retry)
    ├── OutcomeUnknown              the link or the backend was lost while the statement ran
    ├── ProtocolError               a message that the other side could not accept
    │   └── MessageTooLarge         over the size cap
    ├── RequestTimeout              the statement ran out of time and was cancelled
    ├── RequestCancelled            the worker withdrew the request
    ├── PoolError                   the pool could not serve the request; nothing was run
    │   ├── PoolTimeout             no backend came free in time                                  (retry)
    │   ├── PoolDeadlock            all leases are held by those who wait for another one
    │   ├── QueueFull               too many requests are waiting already                         (retry)
    │   ├── DatabaseUnavailable     PostgreSQL refuses connections, and has for a while           (retry)
    │   └── PoolClosing             the supervisor is shutting down                               (retry)
    └── LeaseError                  the token no longer names a lease; the backend was not touched
        ├── LeaseExpired            it was not renewed in time, or was held beyond max_hold
        └── LeaseLost               its backend, its owner or its supervisor is gone

Errors of PostgreSQL and of asyncpg are not here: they reach the caller as asyncpg's own exception classes.

`code` is the class's name on the wire and never changes. `retry` says that the request certainly did not run
and that the same request may succeed a little later.
"""

from __future__ import annotations

from typing import Any, ClassVar


class PgactorError(Exception):
    """Base class of all errors that pgactor raises of its own."""

    code: ClassVar[str] = "internal"
    retry: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts
        """What the text says, as data: of a PoolTimeout, for instance, max_size, size, idle, waiting, holders."""


class ConfigError(PgactorError):
    """A setting is missing, unknown or out of range; the text names it and what it may be."""

    code = "config"


class ClientError(PgactorError):
    """The client was used in a way that cannot work; nothing was sent."""

    code = "client"


class ClientClosed(ClientError):
    """The client, or a subscription, was used after it was closed."""

    code = "client_closed"


class UnsupportedType(ClientError, TypeError):
    """A value's type does not cross between worker and supervisor; the text names the type and the place. Of an
    argument nothing was run; of a column the statement was."""

    code = "unsupported_type"


class NotPermitted(PgactorError, PermissionError):
    """The supervisor does not let this worker do that, or this worker does not trust the supervisor's socket."""

    code = "not_permitted"


class SupervisorUnavailable(PgactorError, ConnectionError):
    """No supervisor answers at the endpoint. The request was not run."""

    code = "supervisor_unavailable"
    retry = True


class OutcomeUnknown(PgactorError, ConnectionError):
    """The link to the supervisor, or its backend, was lost while the request ran: it may have taken effect."""

    code = "outcome_unknown"


class ProtocolError(PgactorError):
    """A message was malformed, of another version, or not expected here."""

    code = "protocol"


class MessageTooLarge(ProtocolError):
    """A request or a reply is larger than `max_frame_bytes`: the request was not run, or it was and its reply is not
    sent."""

    code = "message_too_large"


class RequestTimeout(PgactorError, TimeoutError):
    """The statement did not finish within its timeout and was cancelled in PostgreSQL."""

    code = "request_timeout"


class RequestCancelled(PgactorError):
    """The worker withdrew the request: it never ran, or was cancelled in PostgreSQL."""

    code = "request_cancelled"


class PoolError(PgactorError):
    """The pool could not serve the request. It was not run."""

    code = "pool"

    @property
    def leases(self) -> list[dict[str, Any]]:
        """Who holds what, the oldest first: for each lease what the pool's status has of it (LeaseStatus), by those
        names. Empty where the text does not tell."""
        found: list[dict[str, Any]] = self.facts.get("leases", [])
        return found


class PoolTimeout(PoolError, TimeoutError):
    """No backend came free in time. The text tells the pool's size, who waits and who holds what."""

    code = "pool_timeout"
    retry = True


class PoolDeadlock(PoolError):
    """Whoever holds a lease waits for another one, the caller too, and there can be no more. The text tells who holds
    what. Release a lease before you acquire another, or let there be more connections than may be held so."""

    code = "pool_deadlock"


class QueueFull(PoolError):
    """More requests are waiting than `max_waiting` allows, or this worker has more than one may have."""

    code = "queue_full"
    retry = True


class DatabaseUnavailable(PoolError, ConnectionError):
    """PostgreSQL has refused new connections for longer than the grace period and none is open."""

    code = "database_unavailable"
    retry = True


class PoolClosing(PoolError):
    """The supervisor is shutting down and takes no new requests."""

    code = "pool_closing"
    retry = True


class LeaseError(PgactorError):
    """The token does not name a living lease. The backend it once named was not touched."""

    code = "lease"


class LeaseExpired(LeaseError):
    """The lease was not renewed within its ttl, or was held longer than max_hold; it was rolled back."""

    code = "lease_expired"


class LeaseLost(LeaseError):
    """The lease's backend or supervisor is gone, or the token belongs to somebody else."""

    code = "lease_lost"


def _tree(cls: type[PgactorError]) -> list[type[PgactorError]]:
    return [cls, *(sub for child in cls.__subclasses__() for sub in _tree(child))]


BY_CODE: dict[str, type[PgactorError]] = {cls.code: cls for cls in _tree(PgactorError)}
"""The class of each wire code."""
