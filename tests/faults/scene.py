"""A supervisor, its PostgreSQL and a bystander, around a worker that something happens to: what is there before, and
what must be there again afterwards."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pgactor import Client, Lease
from pgactor.messages.pool import PoolStatus, WorkerStatus
from tests.faults.nursery import Hand, Nursery
from tests.faults.states import ADDED
from tests.integration.driving import Driven, WatchedSupervisor
from tests.supervising import until

CENSUS = Path(__file__).with_name("census.py")

ITS_ROW = 1_000_000
"""The bystander's."""

SESSION = """
select pg_backend_pid() as pid, current_setting('work_mem') as work_mem,
    (select count(*) from pg_class where relnamespace = pg_my_temp_schema()) as temporary,
    (select count(*) from pg_cursors where statement not like '%pg_cursors%') as cursors,
    pg_current_xact_id_if_assigned() is not null as in_transaction
"""
"""What a worker may find of the one before it: nothing."""

NEXT_LIFE = "select pg_backend_pid() || ' ' || pg_current_xact_id()"
"""The same within a transaction."""

LEFT = """
select format('%s of %s (%s: %s)', locktype, pid, state, query)
from pg_locks join pg_stat_activity using (pid)
where application_name = $1 and pid <> all($2) and locktype <> 'virtualxid'
union all
select format('%s is %s: %s', pid, state, query)
from pg_stat_activity where application_name = $1 and pid <> all($2) and (state <> 'idle' or xact_start is not null)
"""
"""Locks and transactions of the supervisor's backends, but for those of the bystander's."""


class CensusSupervisor(WatchedSupervisor):
    """A supervisor that can be asked what it remembers."""

    def start(self, *, wait: bool = True) -> None:
        self._census = f"{self.ipc.removeprefix('ipc://')}.census"
        self.command = [sys.executable, str(CENSUS), self._census, "serve", *self.command[-2:]]
        super().start(wait=wait)

    def census(self) -> dict[str, int]:
        """How many of what there are in its memory."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(self._census)
            said = b"".join(iter(lambda: sock.recv(65536), b""))
        (census,) = json.loads(said)
        return dict(census)


class Bystander:
    """Another worker, which must not notice anything. It holds a row in a transaction, and uses it all the time."""

    def __init__(self, endpoint: str, table: str) -> None:
        self.client = Client(endpoint, label="bystander")
        self._table = table
        self._stopped = threading.Event()
        self._errors: list[BaseException] = []
        self._lease: Lease = self.client.acquire()
        self.pid = self._lease.backend_pid
        self._lease.execute("begin")
        self._lease.execute(f"insert into {table} values ({ITS_ROW}, 0)")
        self._turns = 0
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        try:
            while not self._stopped.wait(0.005):
                self._turns += 1
                sql = f"update {self._table} set value = value + 1 where id = {ITS_ROW} returning pg_backend_pid()"
                assert self._lease.fetchval(sql) == self.pid
        except BaseException as error:
            self._errors.append(error)

    def must_be_well(self) -> None:
        """It has noticed nothing, and what it did is there."""
        self.stop()
        assert self._errors == []
        self._lease.execute("commit")
        assert (
            self._lease.fetchval(f"delete from {self._table} where id = {ITS_ROW} returning value") == self._turns > 0
        )
        self._lease.release()

    def stop(self) -> None:
        """It rests."""
        self._stopped.set()
        self._thread.join()


class Scene:
    """Where it happens. gate: the number of an advisory lock that the scene holds until `open_the_gate`."""

    def __init__(
        self, supervisor: CensusSupervisor, observer: Client, nursery: Nursery, db: Driven, table: str, road: str
    ) -> None:
        self.supervisor = supervisor
        self.observer = observer
        self.table = table
        self.gate = os.getpid() * 1000
        self._nursery = nursery
        self._db = db
        self._endpoint = getattr(supervisor, road)
        self._work_mem = db.fetchval("show work_mem")
        self._fillers: list[Lease] = []
        self._rows = 0
        self._at_the_gate = 0
        db.execute(f"insert into {table} values ({self._rows}, 0)")
        until(lambda: observer.status().idle == observer.status().max_size)
        self._backends = {each.backend_pid for each in observer.status().holders}
        self._each_backend_must_serve()  # each remembers its last lease
        self.before = supervisor.census()
        self._bystander = Bystander(supervisor.ipc, table)
        self._gate_is_closed = False

    # --- before -------------------------------------------------------------------------------------------

    def worker(self, kind: str, state: str, *, ttl: float | None = None) -> Hand:
        """A worker in the state."""
        self._rows += 1
        self._close_the_gate()
        self._db.execute(f"insert into {self.table} values ($1, 0)", self._rows)
        if state in ("queued", "granted"):
            self._fill()
        worker = self._nursery.worker(
            endpoint=self._endpoint, kind=kind, state=state, table=self.table, row=self._rows, gate=self.gate, ttl=ttl
        )
        assert worker.hear() == "arrived", self._nursery.errors
        getattr(self, f"_see_{state}", self._see_lease)(worker, kind)
        return worker

    def _see_lease(self, worker: Hand, _: str) -> None:
        until(lambda: self._of(worker).leases == 1)

    def _see_queued(self, worker: Hand, _: str) -> None:
        until(lambda: self._of(worker).waiting == 1)

    def _see_granted(self, worker: Hand, kind: str) -> None:
        """The lease is granted while the worker does not read: stopped, or its loop does not turn."""
        self._see_queued(worker, kind)
        if kind == "async":
            assert worker.ask("block the loop") == "blocked"
        else:
            worker.stop()
        self.free_one()
        self._see_lease(worker, kind)

    def _see_running(self, worker: Hand, kind: str) -> None:
        until(lambda: self._of(worker).running == 1)
        self._see_at_the_gate()

    def _see_resetting(self, worker: Hand, _: str) -> None:
        until(lambda: self._of(worker).leases == 0)
        until(lambda: self.observer.status().resetting == 1)
        self._see_at_the_gate()

    def child(self, parent: Hand) -> Hand:
        """A child, forked by a worker in its state."""
        parent.tell("fork")
        return self._nursery.next()

    def _of(self, worker: Hand) -> WorkerStatus:
        (found,) = (each for each in self.observer.status().workers if each.pid == worker.pid)
        return found

    def _fill(self) -> None:
        """Take every backend that is idle."""
        while self.observer.status().idle:
            self._fillers.append(self.observer.acquire())

    def _close_the_gate(self) -> None:
        if not self._gate_is_closed:
            self._gate_is_closed = True
            self._db.execute("select pg_advisory_lock($1)", self.gate)

    def _see_at_the_gate(self) -> None:
        """One more backend waits at the gate."""
        self._at_the_gate += 1
        sql = """select count(*) from pg_locks join pg_stat_activity using (pid)
                 where locktype = 'advisory' and not granted and application_name = $1"""
        until(lambda: self._db.fetchval(sql, self.supervisor.name) == self._at_the_gate)

    # --- afterwards ---------------------------------------------------------------------------------------

    def open_the_gate(self) -> None:
        """Let those go on that wait at the gate, or for a backend."""
        if self._gate_is_closed:
            self._gate_is_closed = False
            self._db.execute("select pg_advisory_unlock($1)", self.gate)
        while self._fillers:
            self._fillers.pop().release()

    def free_one(self) -> None:
        """A backend becomes free for whoever waits for one."""
        self._fillers.pop().release()

    @contextmanager
    def next_life(self) -> Iterator[None]:
        """All backends are leased to another worker, which is in a transaction on each and notices nothing."""
        leases = [self.observer.acquire(timeout=20) for _ in range(self.status().max_size - 1)]
        for lease in leases:
            lease.execute("begin")
        before = [lease.fetchval(NEXT_LIFE) for lease in leases]
        yield
        assert [lease.fetchval(NEXT_LIFE) for lease in leases] == before
        for lease in leases:
            assert lease.execute("commit") == "COMMIT"
            lease.release()

    def status(self) -> PoolStatus:
        """The state of the pool."""
        return self.observer.status()

    def leases_of(self, worker: Hand) -> int:
        """How many leases it has."""
        return self._of(worker).leases

    def must_be_free(self, *, seconds: float) -> None:
        """No lease is held but the bystander's (and the fillers), and nobody waits."""
        others = 1 + len(self._fillers)
        until(lambda: self.status().leased == others and self.status().waiting == 0, seconds=seconds)

    def must_be_as_before(self, *, committed: int = 0, copied: bool = False, closed: int = 0) -> None:
        """Nothing is left of the workers: in PostgreSQL, in `status`, in the supervisor's memory; the bystander has
        noticed nothing. committed: how many of them had their transaction committed. copied: whether a COPY went on
        to its end. closed: how many backends may have been replaced."""
        self.open_the_gate()
        own = [self._bystander.pid]
        until(lambda: not self._db.fetch(LEFT, self.supervisor.name, own))
        until(lambda: self.status().resetting == self.status().busy == self.status().waiting == 0)
        until(lambda: self.status().leased == 1)
        self._bystander.must_be_well()
        self._bystander.client.close()
        until(lambda: [each.label for each in self.status().workers] == ["observer"])
        self._each_backend_must_serve(closed)
        values = self._db.fetch(f"select value from {self.table} where value <> 0")
        assert [each["value"] for each in values] == [ADDED] * committed
        assert bool(self._db.fetchval(f"delete from {self.table} where id < 0 returning 1")) is copied
        self._memory_must_be_as_before()

    def _each_backend_must_serve(self, closed: int = 0) -> None:
        until(lambda: self.status().idle == self.status().size)
        leases = [self.observer.acquire(timeout=20) for _ in range(self.status().max_size)]
        sessions = [lease.fetchrow(SESSION) for lease in leases]
        for lease in leases:
            assert lease.execute(f"update {self.table} set value = value where id = 0") != "UPDATE 0"
            lease.release()
        for session in sessions:
            assert session is not None
            assert tuple(session.values())[1:] == (self._work_mem, 0, 0, False), dict(session.items())
        pids = {session["pid"] for session in sessions if session is not None}
        assert len(self._backends - pids) <= closed, "backends were replaced that need not be"

    def _memory_must_be_as_before(self) -> None:
        deadline = time.monotonic() + 15
        while more := {
            name: f"{count} instead of {self.before.get(name, 0)}"
            for name, count in self.supervisor.census().items()
            if count > self.before.get(name, 0)
        }:
            assert time.monotonic() < deadline, more
            time.sleep(0.02)

    def close(self) -> None:
        """End it, whatever it looks like."""
        self._nursery.end_workers()
        self.open_the_gate()
        self._bystander.stop()
        self._bystander.client.close()


OpenScene = Callable[..., Scene]
"""Makes scenes: `open_scene("ipc")`."""
