"""What workers ask of leases: for one, and on one. It becomes requests to the brain, as all else in dialogue.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg

from ..core.actions import Action
from ..core.lease import LeaseBusy
from ..core.pool import Pool
from ..core.request import Kind, Request
from ..core.roster import Worker
from ..core.statement import Statement
from ..errors import LeaseError, ProtocolError
from ..messages import Acquire, Token
from ..messages.copying import CopyIn, CopyOut
from . import copying, reading
from .failures import failed
from .lane import Lane
from .peer import Peer
from .tenants import TenantRequest, statement_of

_BUSY = asyncpg.InterfaceError("cannot perform operation: another operation is in progress")


class Letting:
    """do: carries out what the brain decides. in_transaction: whether a lease's backend is inside a transaction.
    refuse_id: answers a request whose id is in use."""

    def __init__(
        self,
        pool: Pool,
        lane: Lane,
        *,
        do: Callable[[list[Action]], None],
        in_transaction: Callable[[Token | None], bool],
        refuse_id: Callable[[Worker, ProtocolError], None],
    ) -> None:
        self._pool = pool
        self._lane = lane
        self._do = do
        self._in_transaction = in_transaction
        self._refuse_id = refuse_id

    def acquire(self, now: float, worker: Worker, message: Acquire) -> None:
        """A lease is asked for."""
        request = _request(now, worker, message, Kind.LEASE, None, message)
        request.ttl = self._pool.settings.lease_ttl_seconds if message.ttl is None else message.ttl
        self._ask(request, lambda actions: self._pool.acquire(now, request, message.holds, actions))

    def tenant(self, now: float, worker: Worker, message: TenantRequest) -> None:
        """A request to what a lease has open on its session."""
        statement, clean = statement_of(message, self._lane.statements)
        request = _request(now, worker, message, Kind.STATEMENT if clean else Kind.SESSION, statement, message)
        if message.lease is None:
            self._ask(request, lambda actions: self._pool.submit(now, request, actions))
        else:
            self._on_lease(now, request, message.lease)

    def copy(self, now: float, worker: Worker, message: CopyOut | CopyIn, peer: Peer) -> None:
        """COPY, on a lease."""
        if worker.reads_only:
            peer.send(failed(message.id, reading.no_copy()))
            return
        copy = copying.new_copy(message, peer)
        request = _request(now, worker, message, Kind.SESSION, Statement(copy.in_words), copy)
        self._on_lease(now, request, message.lease)

    def submit(self, now: float, request: Request, token: Token, actions: list[Action]) -> None:
        """A statement on a lease."""
        try:
            actions += self._pool.submit_on_lease(now, request, token)
        except ProtocolError as error:
            self._refuse_id(request.worker, error)
        except LeaseBusy:
            refusal = failed(request.id, _BUSY, in_transaction=self._in_transaction(token))
            request.worker.link.send(refusal)
        except LeaseError as error:
            request.worker.link.send(failed(request.id, error))

    def _on_lease(self, now: float, request: Request, token: Token) -> None:
        actions: list[Action] = []
        self.submit(now, request, token, actions)
        self._do(actions)

    def _ask(self, request: Request, submit: Callable[[list[Action]], None]) -> None:
        actions: list[Action] = []
        try:
            submit(actions)
        except ProtocolError as error:
            self._refuse_id(request.worker, error)
        self._do(actions)


def _request(
    now: float, worker: Worker, message: Any, kind: Kind, statement: Statement | None, payload: Any
) -> Request:
    deadline = None if message.timeout is None else now + message.timeout
    return Request(worker, message.id, kind, now, statement, payload, deadline)
