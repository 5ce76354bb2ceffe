"""What comes of what backends do: replies to workers, and the brain is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import asyncpg

from ..core import report
from ..core.actions import Action, Grant
from ..core.holder import Holder
from ..core.lease import Lease
from ..core.pool import Pool
from ..core.request import Kind, Request
from ..core.roster import Worker
from ..errors import ConfigError, LeaseError
from ..messages import Batch, Done, Granted, Message, Results, Rows
from . import batches
from .backend import Backend
from .failures import as_exception, failed, in_words, statement_failed
from .fields import array_header
from .group import Group
from .hooks import Setup
from .litter import Litter
from .peer import Peer
from .readonly import is_told
from .reports import Answer
from .shapes import Shape
from .turn import Turn

log = logging.getLogger("pgactor.conductor")

REPLIES_TO_COME = 8
"""A reply waits for others only if its worker awaits so many more: one that awaits nothing else gets it at once."""

_ROWS = b"\x96\xa4rows\xcf"
_FALSE = b"\xc2"
_TRUE = b"\xc3"
"""How a Rows message begins, before its id in 8 bytes, and ends, outside of a transaction and inside one."""

_PART = b"\x95\xa4part\xcf"
"""How a Part message begins."""

_PERMANENT = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
    ConfigError,
)
"""Failures to connect that waiting does not mend."""


class Outcomes:
    """Takes the reports of all backends of a pool: these are its `BackendReports`.

    backends: those that there are. do: carries out what the brain decides. where, fields: the pool, for the log.
    """

    def __init__(
        self,
        pool: Pool,
        backends: dict[Holder, Backend],
        turn: Turn,
        *,
        do: Callable[[list[Action]], None],
        litter: Litter,
        where: str,
        fields: dict[str, Any],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._backends = backends
        self._setting_up: dict[tuple[Worker, int], Backend] = {}
        self._turn = turn
        self._do = do
        self._litter = litter
        self._where = where
        self._fields = fields

    # --- what the worker is told --------------------------------------------------------------------------

    def answer(self, request: Request, reply: Answer, shape: Shape | None) -> None:
        if not self._pool.answer(request):
            return
        peer: Peer = request.worker.link
        self._look_at(request, reply)
        if isinstance(reply, Results):
            batches.send_results(peer, reply)
        elif shape is not None and isinstance(reply, Rows) and shape.number not in peer.shapes:
            reply.columns = shape.columns
            if peer.send(reply):
                peer.remember(shape.number)
        else:
            more_to_come = len(request.worker.requests) >= REPLIES_TO_COME
            peer.send(reply, may_wait=more_to_come and len(self._pool.queue) > len(self._pool.holders))

    def rows(self, request: Request, shape: Shape, rows: list[bytes]) -> None:
        if not self._pool.answer(request):
            return
        peer: Peer = request.worker.link
        known = shape.number in peer.shapes
        columns = shape.as_known if known else shape.as_told
        head = (_ROWS, request.id.to_bytes(8, "big"), columns, array_header(len(rows)))
        may_wait = len(request.worker.requests) >= REPLIES_TO_COME
        end = _TRUE if request.lease is not None and self._in_transaction(request) else _FALSE
        if peer.send_encoded(request.id, b"".join((*head, *rows, end)), may_wait=may_wait) and not known:
            peer.remember(shape.number)

    def part(self, request: Request, shape: Shape, rows: bytes, go_on: Callable[[], object]) -> bool:
        peer: Peer = request.worker.link
        known = shape.number in peer.shapes
        columns = shape.as_known if known else shape.as_told
        if not peer.send_encoded(request.id, b"".join((_PART, request.id.to_bytes(8, "big"), columns, rows))):
            self._pool.answer(request)  # which is done: a row is over the cap
        elif not known:
            peer.remember(shape.number)
        return peer.has_room(go_on)

    def tag(self, request: Request, tag: bytes) -> None:
        if self._pool.answer(request):
            in_transaction = request.lease is not None and self._in_transaction(request)
            request.worker.link.send(Done(request.id, tag.decode(), in_transaction))

    def failed(self, request: Request, error: Exception) -> None:
        if self._pool.answer(request):
            reply = statement_failed(request.id, error, in_transaction=self._in_transaction(request))
            self._look_at(request, reply)
            request.worker.link.send(reply)

    def results(self, request: Request, group: Group) -> None:
        if not self._pool.answer(request):
            return
        peer: Peer = request.worker.link
        if group.error is not None:
            index, error = group.error
            sql = "" if index is None else group.statements[index][0].sql
            named = index if isinstance(request.payload, Batch) else None
            reply = statement_failed(request.id, as_exception(error, sql), index=named)
            self._look_at(request, reply)
            peer.send(reply)
        elif isinstance(request.payload, Batch):
            results = batches.results_of(request.id, group)
            self._look_at(request, results)
            batches.send_results(peer, results)
        else:
            peer.send(Done(request.id))

    def _in_transaction(self, request: Request) -> bool:
        """Whether the statement lane has left the request's session inside a transaction, as only a lease may."""
        if request.lease is None:
            return False
        backend = self._backends.get(request.lease.holder)
        return backend is not None and backend.in_transaction

    def _look_at(self, request: Request, reply: Message) -> None:
        """Has the backend looked at whose server refuses writes."""
        if request.holder is not None and is_told(request, reply) and request.holder in self._backends:
            self._backends[request.holder].refused_write()

    def make_ready(self, request: Request, lease: Lease) -> None:
        """The setup hook is to be called before the lease is its worker's."""
        backend = self._setting_up[request.worker, request.id] = self._backends[lease.holder]
        backend.set_up(Setup(request, lease))

    def cancelled(self, worker: Worker, id: int) -> None:
        """The worker waits no more for a request that the brain has answered: its lease may be being made ready."""
        if (backend := self._setting_up.get((worker, id))) is not None:
            backend.stop_setup()

    def granted(self, request: Request, lease: Lease) -> None:
        """The lease is its worker's from now on."""
        waited = max(0.0, lease.granted_at - request.since)
        tenancy = self._backends[lease.holder].let(lease)
        granted = Granted(request.id, lease.token, lease.ttl, lease.holder.backend_pid, waited)
        granted.server_version = tenancy.server_version
        granted.settings = tenancy.settings
        request.worker.link.send(granted)

    def held_long(self, lease: Lease) -> None:
        """The lease counts as held for long: the log is told."""
        fields = self._fields | {
            "backend": lease.holder.number,
            "worker": lease.worker.label,
            "pid": lease.worker.pid,
            "lease": str(lease.token),
            "traceparent": lease.traceparent,
        }
        log.warning("%s%s", self._where, report.held_long(lease, self._loop.time()), extra=fields)

    # --- what the brain is told ---------------------------------------------------------------------------

    def opened(self, backend: Backend) -> None:
        self._do(self._pool.opened(self._loop.time(), backend.holder, backend.incarnation, backend.pid))

    def open_failed(self, backend: Backend, error: BaseException) -> None:
        self._forget(backend)
        log.warning("%scannot connect to PostgreSQL: %s", self._where, in_words(error), extra=self._fields)
        permanent = isinstance(error, _PERMANENT)
        now, words = self._loop.time(), in_words(error)
        self._do(self._pool.open_failed(now, backend.holder, backend.incarnation, words, permanent=permanent))

    def schema_changed(self) -> None:
        for backend in self._backends.values():
            backend.forget_schema()

    def came_back(self, backend: Backend, requests: list[Request]) -> None:
        actions: list[Action] = []
        self._pool.counters["statements_pipelined"] += len(requests)
        self._pool.metrics.moment = self._turn.began
        if requests[0].lease is not None:  # it is alone there
            now, touched = self._loop.time(), backend.in_transaction
            self._do(self._pool.finished(now, backend.holder, backend.incarnation, requests[0], touched=touched))
            backend.lane_is_quiet()
            return
        self._pool.came_back(self._loop.time(), backend.holder, backend.incarnation, requests, actions)
        self._do(actions)

    def diverted(self, backend: Backend, request: Request) -> None:
        self._do(self._pool.diverted(self._loop.time(), backend.holder, backend.incarnation, request))

    def finished(self, backend: Backend, request: Request, touched: bool) -> None:
        now = self._loop.time()
        self._pool.metrics.moment = time.monotonic()
        if request.kind is not Kind.LEASE:
            self._pool.counters["statements_in_session"] += 1
        self._do(self._pool.finished(now, backend.holder, backend.incarnation, request, touched=touched))

    def unrun(self, backend: Backend, request: Request) -> None:
        self._do(self._pool.unrun(self._loop.time(), backend.holder, backend.incarnation, request))

    def spoiled(self, backend: Backend) -> None:
        self._pool.spoiled(self._loop.time(), backend.holder, backend.incarnation)

    def set_up(self, backend: Backend, setup: Setup, error: Exception | None) -> None:
        request, lease, now = setup.request, setup.lease, self._loop.time()
        self._setting_up.pop((request.worker, request.id), None)
        try:
            if error is None:
                self._pool.leases.check(lease.token, request.worker, now).renew(now)
                self._do([Grant(request, lease, is_set_up=True)])
                return
        except LeaseError as ended:
            error = ended
        else:
            self.spoiled(backend)
        request.worker.link.send(failed(request.id, error))
        self._do(self._pool.release(now, request.worker, lease.token))

    def reset_done(self, backend: Backend) -> None:
        self._do(self._pool.reset_done(self._loop.time(), backend.holder, backend.incarnation))

    def closed(self, backend: Backend) -> None:
        self._forget(backend)
        self._do(self._pool.closed(self._loop.time(), backend.holder, backend.incarnation))

    def gone(self, backend: Backend, reason: str) -> None:
        self._forget(backend)
        fields = self._fields | {"backend": backend.holder.number, "backend_pid": backend.pid}
        log.warning("%s (pid %d) is gone: %s", backend.name, backend.pid, reason, extra=fields)
        self._do(self._pool.gone(self._loop.time(), backend.holder, backend.incarnation, reason))

    def _forget(self, backend: Backend) -> None:
        if self._backends.get(backend.holder) is backend:
            del self._backends[backend.holder]
            self._litter.add()
