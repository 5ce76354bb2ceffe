"""The SQL that all peers run, and pgbench's transaction."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

ROWS = 100_000
SCALE = 10
"""pgbench's: so many branches, 10 times as many tellers, 100 000 times as many accounts."""
LOCKED_ROWS = 64
SLOW_SECONDS = 0.05


@dataclass(frozen=True)
class Statement:
    """A text with $1, $2 ..., each used once and in order; and the same as psycopg wants it."""

    sql: str
    percent: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "percent", re.sub(r"\$\d+", "%s", self.sql))


_COLUMNS = "SELECT id, name, score, active, created FROM pgactor_bench"

LOOKUP = Statement(f"{_COLUMNS} WHERE id = $1")
RANGE = Statement(f"{_COLUMNS} WHERE id < $1 ORDER BY id")
SLEEP = Statement("SELECT 1 AS one FROM pg_sleep($1)")
SLOW_BY_ARGUMENT = Statement(f"{_COLUMNS} WHERE id = $1 AND (SELECT count(*) FROM pg_sleep($2)) = 1")
LOCKED_UPDATE = Statement("UPDATE pgactor_bench_locked SET hits = hits + 1 WHERE id = $1 RETURNING id")
LOCK = "SELECT hits FROM pgactor_bench_locked WHERE id = 0 FOR UPDATE"
HEAVY = Statement(f"{_COLUMNS} WHERE id = $1 AND (SELECT count(*) FROM generate_series(1, 60000)) = 60000")
"""A look-up that keeps PostgreSQL busy for some 5 ms, so that load generators on one core can offer ten times as many
as PostgreSQL on another can take."""

DEPOSIT = Statement("UPDATE pgactor_bench_accounts SET balance = balance + $1 WHERE id = $2")
BALANCE = Statement("SELECT balance FROM pgactor_bench_accounts WHERE id = $1")
TELLER = Statement("UPDATE pgactor_bench_tellers SET balance = balance + $1 WHERE id = $2")
BRANCH = Statement("UPDATE pgactor_bench_branches SET balance = balance + $1 WHERE id = $2")
HISTORY = Statement(
    "INSERT INTO pgactor_bench_history (teller, branch, account, delta, made) "
    "VALUES ($1, $2, $3, $4, current_timestamp)"
)


@dataclass(frozen=True)
class Transfer:
    """One transaction of pgbench's TPC-B. steps: five statements with their arguments; the second has the answer."""

    steps: tuple[tuple[Statement, tuple[int, ...]], ...]

    @classmethod
    def drawn(cls, numbers: random.Random) -> Transfer:
        branch = numbers.randrange(SCALE)
        teller = numbers.randrange(SCALE * 10)
        account = numbers.randrange(SCALE * 100_000)
        delta = numbers.randint(-5000, 5000)
        return cls(
            (
                (DEPOSIT, (delta, account)),
                (BALANCE, (account,)),
                (TELLER, (delta, teller)),
                (BRANCH, (delta, branch)),
                (HISTORY, (teller, branch, account, delta)),
            )
        )


SCHEMA = f"""
DROP TABLE IF EXISTS pgactor_bench, pgactor_bench_locked;
CREATE TABLE pgactor_bench (id bigint PRIMARY KEY, name text, score float8, active bool, created timestamptz);
INSERT INTO pgactor_bench
SELECT n, 'name ' || n, n / 7.0, n % 2 = 0, timestamptz '2020-01-01 00:00Z' + n * interval '1 s'
FROM generate_series(0, {ROWS - 1}) AS n;
CREATE TABLE pgactor_bench_locked (id int PRIMARY KEY, hits bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO pgactor_bench_locked SELECT n, 0 FROM generate_series(0, {LOCKED_ROWS - 1}) AS n;
VACUUM ANALYZE pgactor_bench;
VACUUM ANALYZE pgactor_bench_locked;
"""

TRANSFER_SCHEMA = f"""
DROP TABLE IF EXISTS pgactor_bench_branches, pgactor_bench_tellers, pgactor_bench_accounts, pgactor_bench_history;
CREATE TABLE pgactor_bench_branches (id int, balance int NOT NULL, filler char(88)) WITH (fillfactor = 10);
CREATE TABLE pgactor_bench_tellers (id int, branch int, balance int NOT NULL, filler char(84)) WITH (fillfactor = 10);
CREATE TABLE pgactor_bench_accounts (id int, branch int, balance int NOT NULL, filler char(84));
CREATE TABLE pgactor_bench_history (teller int, branch int, account int, delta int, made timestamptz);
INSERT INTO pgactor_bench_branches SELECT n, 0, '' FROM generate_series(0, {SCALE - 1}) AS n;
INSERT INTO pgactor_bench_tellers SELECT n, n / 10, 0, '' FROM generate_series(0, {SCALE * 10 - 1}) AS n;
INSERT INTO pgactor_bench_accounts SELECT n, n / 100000, 0, '' FROM generate_series(0, {SCALE * 100_000 - 1}) AS n;
ALTER TABLE pgactor_bench_branches ADD PRIMARY KEY (id);
ALTER TABLE pgactor_bench_tellers ADD PRIMARY KEY (id);
ALTER TABLE pgactor_bench_accounts ADD PRIMARY KEY (id);
VACUUM ANALYZE pgactor_bench_branches;
VACUUM ANALYZE pgactor_bench_tellers;
VACUUM ANALYZE pgactor_bench_accounts;
"""

TRANSFER_CHECK = """
SELECT (SELECT sum(balance) FROM pgactor_bench_branches) = h.sum
   AND (SELECT sum(balance) FROM pgactor_bench_tellers) = h.sum
   AND (SELECT sum(balance) FROM pgactor_bench_accounts) = h.sum
  FROM (SELECT coalesce(sum(delta), 0) AS sum FROM pgactor_bench_history) AS h
"""
