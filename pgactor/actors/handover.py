"""The hand-over of one backend between its lanes: of a lease's statements, and of the connection.

The statement lane borrows the connection, and asyncpg has it back before it does anything. A lease's statements run
in the statement lane where that makes no difference to its worker.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..core.request import Request
from .lane import Lane
from .pipeline import Pipeline
from .reports import BackendReports
from .session import Session
from .tenancy import Tenancy

if TYPE_CHECKING:
    from .backend import Backend


class Handover:
    """The hand-over of one backend. lane: None, if its pool has no statement lane."""

    def __init__(
        self, backend: Backend, lane: Lane | None, *, reports: BackendReports, patience: float, max_bytes: int
    ) -> None:
        self._backend = backend
        self._lane = lane
        self._reports = reports
        self._patience = patience
        self._max_bytes = max_bytes
        self._quiet: asyncio.Future[None] | None = None  # a lease has ended while the statement lane ran something
        self._loop = asyncio.get_running_loop()

    def offer(self, request: Request, tenancy: Tenancy | None, pipeline: Pipeline | None) -> None:
        """Have the statement lane run the lease's statement, if it can."""
        lane = self._lane
        if lane is None or tenancy is None:
            return
        if request.worker.reads_only:
            lane.count("read_only")
        elif not tenancy.suits_the_lane(request.statement, pipeline):
            lane.count("lease")
        elif lane.admit_on_lease(request):
            return
        tenancy.goes_to_asyncpg(request.statement)

    def begin(self, session: Session, request: Request) -> Pipeline | None:
        """The first request for the statement lane has come: what is to run it. None: the session is not fit for
        that, and the request is diverted."""
        lane = self._lane
        if lane is not None and session.speaks_utf8 and not session.has_codecs:
            return Pipeline(
                self._backend,
                session,
                reports=self._reports,
                lane=lane,
                patience=self._patience,
                max_bytes=self._max_bytes,
            )
        if lane is not None and session.has_codecs:
            lane.switch_off("codecs", "a hook has set codecs of types")
        elif lane is not None:
            lane.switch_off("encoding", "texts are not UTF-8 in this database")
        if request.lease is not None:
            self._backend.divert(request)
        else:
            self._loop.call_soon(self._reports.diverted, self._backend, request)
        return None

    async def have_back(self, pipeline: Pipeline) -> None:
        """Have the connection back from the statement lane. It is busy if a lease has ended while a statement of it
        runs there, which is being cancelled."""
        while pipeline.is_busy:
            self._quiet = self._loop.create_future()
            try:
                await self._quiet
            finally:
                self._quiet = None
        pipeline.give_back()

    def lane_is_quiet(self) -> None:
        """What the statement lane ran on a lease has ended, or the connection has."""
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
