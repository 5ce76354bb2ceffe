"""What one worker process of the demo does: look-ups, writes, and transfers in transactions on leases.

Each write carries (worker, number), so that in the end every one can be counted in the table.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from ..client.sync import Client
from ..errors import OutcomeUnknown

ACCOUNTS = 1000
POISON = -1
"""The number of the write that must never be seen: its transaction is never committed."""

SCHEMA = """
DROP TABLE IF EXISTS pgactor_demo_accounts, pgactor_demo_writes;
CREATE TABLE pgactor_demo_accounts (id int PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL);
CREATE TABLE pgactor_demo_writes (worker int NOT NULL, number int NOT NULL);
INSERT INTO pgactor_demo_accounts SELECT n, 'owner ' || n, 1000 FROM generate_series(0, 999) AS n;
"""


class WrongRowsError(Exception):
    """The rows are not those that were asked for."""


@dataclass
class Report:
    """What a worker did since its last report. seconds: of each request, by its kind. committed: the numbers of the
    writes that it knows are in the table; unknown: of those that may be. errors: by kind too."""

    worker: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)
    in_doomed_transaction: bool = False
    finished: bool = False


class Worker:
    """One worker process at work."""

    def __init__(self, number: int, endpoint: str, pipe: Connection) -> None:
        self.number = number
        self.pipe = pipe
        self.client = Client(endpoint, label=f"demo worker {number}")
        self.report = Report(number)
        self.writes = 0
        self.random = random.Random(number)  # noqa: S311

    def work(self, until: float, doomed_at: float | None) -> None:
        """Work until the clock says so; the doomed one stops in the middle of a transaction, to be killed there."""
        told = time.monotonic()
        while (now := time.time()) < until:
            if doomed_at is not None and now >= doomed_at:
                self.wait_for_the_end()
            draw = self.random.random()
            kind, task = (
                ("look-up", self.look_up) if draw < 0.6
                else ("list of 50", self.list_some) if draw < 0.7
                else ("write", self.write) if draw < 0.85
                else ("transaction", self.transfer)
            )  # fmt: skip
            start = time.perf_counter()
            try:
                task()
            except Exception as error:
                if isinstance(error, OutcomeUnknown):
                    self.report.unknown.append(self.writes)
                self.report.errors.setdefault(kind, []).append(f"{type(error).__name__}: {error}")
            self.report.seconds.setdefault(kind, []).append(time.perf_counter() - start)
            if time.monotonic() - told > 0.2:
                self.tell()
                told = time.monotonic()
        self.report.finished = True
        self.tell()
        self.client.close()

    def look_up(self) -> None:
        """One row by its key."""
        wanted = self.random.randrange(ACCOUNTS)
        row = self.client.fetchrow("SELECT id, owner, balance FROM pgactor_demo_accounts WHERE id = $1", wanted)
        if row is None or row["id"] != wanted or row["owner"] != f"owner {wanted}":
            raise WrongRowsError(f"asked for account {wanted}, got {row}")

    def list_some(self) -> None:
        """Fifty rows."""
        first = self.random.randrange(ACCOUNTS - 50)
        rows = self.client.fetch(
            "SELECT id, balance FROM pgactor_demo_accounts WHERE id >= $1 ORDER BY id LIMIT 50", first
        )
        if [row["id"] for row in rows] != list(range(first, first + 50)):
            raise WrongRowsError(f"asked for 50 accounts from {first}, got {len(rows)}")

    def write(self) -> None:
        """One row, committed by itself."""
        self.writes += 1
        self.client.execute("INSERT INTO pgactor_demo_writes VALUES ($1, $2)", self.number, self.writes)
        self.report.committed.append(self.writes)

    def transfer(self) -> None:
        """Money from one account to another, and a note of it, all or nothing."""
        self.writes += 1
        low, high = sorted(self.random.sample(range(ACCOUNTS), 2))
        update = "UPDATE pgactor_demo_accounts SET balance = balance + $2 WHERE id = $1"
        with self.client.transaction() as lease:
            lease.execute(update, low, -1)
            lease.execute(update, high, 1)
            lease.execute("INSERT INTO pgactor_demo_writes VALUES ($1, $2)", self.number, self.writes)
        self.report.committed.append(self.writes)

    def wait_for_the_end(self) -> None:
        """Stop in the middle of a transaction that has written and holds locks."""
        with self.client.transaction() as lease:
            lease.execute("UPDATE pgactor_demo_accounts SET balance = balance - 500 WHERE id = 0")
            lease.execute("INSERT INTO pgactor_demo_writes VALUES ($1, $2)", self.number, POISON)
            self.report.in_doomed_transaction = True
            self.tell()
            time.sleep(60)

    def tell(self) -> None:
        """Send the report and begin another."""
        self.pipe.send(self.report)
        self.report = Report(self.number)


def work(number: int, endpoint: str, pipe: Connection, until: float, doomed_at: float | None) -> None:
    """The worker process."""
    Worker(number, endpoint, pipe).work(until, doomed_at)
