"""Many statements, or many arguments of one, in one go: all of it happens, or nothing, or each by itself."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import pgactor
from pgactor import OutcomeUnknown, PoolTimeout, RequestTimeout
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import ASYNC_KINDS, Driven, WatchedSupervisor, linked, wait_for_statement
from tests.supervising import until


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=2)


@pytest.fixture
def client(supervisor: WatchedSupervisor, open_client: OpenClient, kind: str) -> Driven:
    return open_client(supervisor, kind)


def count(db: Driven, table: str) -> int:
    return int(db.fetchval(f"select count(*) from {table}"))


# --- a batch ------------------------------------------------------------------------------------------------


def test_each_statement_has_its_result(client: Driven, table: str) -> None:
    found = client.batch(
        [
            (f"insert into {table} values ($1, $2), ($3, $4)", 1, "a", 2, "b"),
            f"select * from {table} order by id",
            [f"update {table} set name = $1 where id > $2 returning id", "c", 1],
            f"update {table} set name = 'd'",
            f"select * from {table} where id = 77",
            "",
            f"select from {table}",
            f"delete from {table}",
        ]
    )
    assert found == ["INSERT 0 2", [(1, "a"), (2, "b")], [(2,)], "UPDATE 2", [], "", "SELECT 2", "DELETE 2"]
    assert found[1][1]["name"] == "b"


def test_shapes_are_told_once_on_a_link_whatever_told_them(client: Driven) -> None:
    for _ in range(3):
        assert client.batch(["select 1 as a", "select 2 as b", "select 3 as a"]) == [[(1,)], [(2,)], [(3,)]]
        assert client.fetch("select 4 as a") == [(4,)]
        assert client.fetchrow("select 5 as b")["b"] == 5
        assert client.batch([("select $1::int as c", 6)], atomic=False)[0][0]["c"] == 6


def test_a_batch_of_nothing_is_nothing(client: Driven) -> None:
    assert client.batch([]) == []
    assert client.batch((), atomic=False) == []


def test_a_thousand_statements_are_one_transaction_on_one_backend(client: Driven, db: Driven, table: str) -> None:
    statements = [
        (f"insert into {table} values ($1, $2) returning pg_backend_pid(), pg_current_xact_id()::text", n, str(n))
        for n in range(1000)
    ]
    found = client.batch(statements)
    assert len({row for rows in found for row in rows}) == 1
    assert count(db, table) == 1000


def test_an_error_undoes_all_and_tells_which_statement_it_was(client: Driven, db: Driven, table: str) -> None:
    statements = [f"insert into {table} values (1)", (f"insert into {table} values ($1)", 1), "select 1"]
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        client.batch(statements)
    assert caught.value.__dict__["batch_index"] == 1
    assert caught.value.__notes__ == [f"statement 1 of the batch: insert into {table} values ($1)"]
    assert (caught.value.table_name, caught.value.sqlstate) == (table, "23505")
    assert count(db, table) == 0
    assert client.fetchval("select 1") == 1


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        (("select $1::int", "x"), asyncpg.DataError, r"query argument \$1: 'x'"),
        (("select $1::int", 1, 2), asyncpg.InterfaceError, "expects 1 argument for this query, 2 were passed"),
        ("selec 1", asyncpg.PostgresSyntaxError, "syntax error"),
        ("select 1; select 2", asyncpg.PostgresSyntaxError, "cannot insert multiple commands"),
        ("vacuum", asyncpg.ActiveSQLTransactionError, "VACUUM cannot run inside a transaction block"),
        ("select '24:00'::time", ValueError, r"hour must be in 0\.\.23"),
    ],
)
def test_whatever_is_wrong_with_a_statement_undoes_those_before(
    client: Driven, db: Driven, table: str, statement: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        client.batch([f"insert into {table} values (1)", "select 1", statement])
    assert caught.value.__dict__["batch_index"] == 2
    assert count(db, table) == 0
    wait_for_statement(db, table, running=False)
    assert client.batch(["select 1"]) == [[(1,)]]


def test_an_error_at_the_commit_belongs_to_no_statement(client: Driven, db: Driven, table: str) -> None:
    db.execute(f"alter table {table} add late int unique deferrable initially deferred")
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        client.batch([f"insert into {table} (id, late) values ({n}, 1)" for n in range(2)])
    assert not hasattr(caught.value, "batch_index")
    assert count(db, table) == 0


@pytest.mark.parametrize("settings", [{}, {"isolation": "serializable"}], ids=["plain", "serializable"])
def test_a_date_that_python_does_not_have_undoes_all_and_costs_no_connection(
    client: Driven, db: Driven, table: str, settings: dict[str, str]
) -> None:
    backend = client.fetchval("select pg_backend_pid()")
    for year in (20000, -5):
        for number in range(4):
            with pytest.raises(OverflowError):
                client.batch(
                    [
                        (f"insert into {table} values ($1)", number),
                        ("select make_timestamp($1, 1, 1, 0, 0, 0)", year),
                    ],
                    **settings,
                )
    assert count(db, table) == 0
    assert client.fetchval("select pg_backend_pid()") == backend


def test_isolation_and_readonly_are_in_force(client: Driven, db: Driven, table: str) -> None:
    asked = ["show transaction_isolation", "show transaction_read_only"]
    for level in ("read_uncommitted", "read_committed", "repeatable_read", "serializable"):
        for readonly in (False, True):
            found = client.batch(asked, isolation=level, readonly=readonly)
            assert found == [[(level.replace("_", " "),)], [("on" if readonly else "off",)]]
    assert client.batch(asked) == [[("read committed",)], [("off",)]]
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError) as caught:
        client.batch(["select 1", f"insert into {table} values (1)"], readonly=True)
    assert caught.value.__dict__["batch_index"] == 1
    assert count(db, table) == 0


@pytest.mark.parametrize("sql", ["begin", " COMMIT", "/* so */ rollback", "savepoint s"])
def test_a_batch_that_would_end_its_transaction_is_refused_before_it_runs(
    client: Driven, db: Driven, table: str, sql: str
) -> None:
    for atomic in (True, False):
        with pytest.raises(asyncpg.InterfaceError, match="statement 1 of the batch is a "):
            client.batch([f"insert into {table} values (1)", sql], atomic=atomic)
    assert count(db, table) == 0


@pytest.mark.parametrize(
    "sql", ["begin", "commit", "commit and chain", "rollback", "rollback and chain", "savepoint s", "abort"]
)
def test_a_batch_whose_statement_hides_such_a_word_fails_loudly(client: Driven, table: str, sql: str) -> None:
    hidden = f"/* /* nested */ */ {sql}"
    with pytest.raises(asyncpg.InterfaceError, match="statement 1 of the batch begins or ends a transaction"):
        client.batch([f"insert into {table} values (1)", hidden, f"insert into {table} values (2)"])
    assert client.fetchval(f"select count(*) from {table} where id = 2") == 0
    one, error, three = client.batch([f"delete from {table}", hidden, "select 1"], atomic=False)
    assert one.startswith("DELETE")
    assert isinstance(error, Exception)
    assert three == [(1,)]


def test_statements_by_themselves_go_on_after_an_error(client: Driven, db: Driven, table: str) -> None:
    insert = f"insert into {table} values ($1)"
    found = client.batch(
        [(insert, 1), (insert, 1), (insert, "x"), "select 1 / 0", (insert, 2), f"table {table}", "vacuum pg_class"],
        atomic=False,
    )
    assert [type(each) for each in found] == [
        str,
        asyncpg.UniqueViolationError,
        asyncpg.DataError,
        asyncpg.DivisionByZeroError,
        str,
        list,
        str,
    ]
    errors: list[Any] = [each for each in found if isinstance(each, Exception)]
    assert [each.batch_index for each in errors] == [1, 2, 3]
    assert found[5] == [(1, None), (2, None)]
    assert count(db, table) == 2


def test_the_last_of_statements_by_themselves_leaves_no_locks(client: Driven, db: Driven, table: str) -> None:
    client.batch(["select 1", (f"insert into {table} values ($1)", "x")], atomic=False)
    db.execute(f"begin; lock table {table} in access exclusive mode nowait; commit")


@pytest.mark.parametrize("atomic", [True, False])
def test_what_a_batch_does_to_its_session_does_not_leak(
    launch: Launch, open_client: OpenClient, atomic: bool
) -> None:
    client = open_client(launch(max_size=1, min_size=1), "sync-ipc")
    found = client.batch(
        [
            "select pg_backend_pid()",
            "select set_config('work_mem', '123kB', false)",
            "set statement_timeout = 12345",
            "create temp table fleeting (id int)",
            "select pg_advisory_lock(4711)",
            "listen somewhere",
            "show work_mem",
        ],
        atomic=atomic,
    )
    assert found[-1] == [("123kB",)]
    assert found[0] == client.batch(["select pg_backend_pid()"])[0]
    assert client.batch(
        [
            "show work_mem",
            "show statement_timeout",
            "select to_regclass('fleeting')",
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            "select * from pg_listening_channels()",
        ]
    ) == [[("4MB",)], [("0",)], [(None,)], [(0,)], []]


def test_settings_for_the_transaction_hold_in_it_and_no_longer(client: Driven) -> None:
    assert client.batch(["set local work_mem = '123kB'", "show work_mem"])[1] == [("123kB",)]
    assert client.batch(["select set_config('work_mem', '124kB', true)", "show work_mem"])[1] == [("124kB",)]
    assert client.batch(["show work_mem"] * 2) == [[("4MB",)]] * 2


def test_a_batch_that_changes_the_table_it_reads_reads_it_anew(client: Driven, table: str) -> None:
    for _ in range(2):
        first, *_, last = client.batch(
            [
                f"table {table}",
                f"insert into {table} values (1)",
                f"alter table {table} add more int default 7",
                f"table {table}",
            ]
        )
        assert (first, list(last[0].keys())) == ([], ["id", "name", "more"])
        client.batch([f"delete from {table}", f"alter table {table} drop more"])
    assert client.fetch(f"table {table}") == []


def test_a_batch_that_takes_too_long_did_not_happen(client: Driven, db: Driven, table: str) -> None:
    with pytest.raises(RequestTimeout, match="the statement was cancelled after"):
        client.batch([f"insert into {table} values (1)", "select pg_sleep(171)"], timeout=0.2)
    wait_for_statement(db, "pg_sleep(171)", running=False)
    assert count(db, table) == 0
    assert client.fetchval("select 1") == 1


def test_of_statements_by_themselves_those_before_the_timeout_happened(
    client: Driven, db: Driven, table: str
) -> None:
    insert = f"insert into {table} values ($1)"
    with pytest.raises(RequestTimeout):
        client.batch([(insert, 1), "select pg_sleep(172)", (insert, 2)], atomic=False, timeout=0.2)
    wait_for_statement(db, "pg_sleep(172)", running=False)
    until(lambda: client.status().busy == 0)
    assert db.fetch(f"select id from {table}") == [(1,)]


@pytest.mark.parametrize("kind", ASYNC_KINDS, indirect=True)
def test_a_batch_that_nobody_waits_for_any_more_did_not_happen(client: Driven, db: Driven, table: str) -> None:
    waiting = client.begin("batch", [f"insert into {table} values (1)", "select pg_sleep(173)"])
    wait_for_statement(db, "pg_sleep(173)")
    waiting.cancel()
    wait_for_statement(db, "pg_sleep(173)", running=False)
    assert count(db, table) == 0


@pytest.mark.parametrize("atomic", [True, False])
def test_a_batch_whose_connection_is_lost_does_not_succeed(client: Driven, table: str, atomic: bool) -> None:
    statements = [f"insert into {table} values (1)", "select pg_terminate_backend(pg_backend_pid())", "select 1"]
    # of a transaction it may be known that it ended with its session
    with pytest.raises((OutcomeUnknown, asyncpg.AdminShutdownError) if atomic else OutcomeUnknown):
        client.batch(statements, atomic=atomic)
    assert client.fetchval(f"select count(*) from {table}") == (0 if atomic else 1)


def test_a_batch_waits_for_a_backend_like_any_request(launch: Launch, open_client: OpenClient) -> None:
    supervisor = launch(max_size=1)
    client, other = linked(open_client(supervisor, "async-ipc")), open_client(supervisor, "sync-ipc")
    with other.acquire(), pytest.raises(PoolTimeout):
        client.batch(["select 1"], timeout=0.1)
    waiting = client.begin("batch", ["select pg_sleep(0.2)", "select 1"])
    until(lambda: other.status().holders[0].statement == "batch of 2: select pg_sleep(0.2)")
    assert waiting.result(10)[1] == [(1,)]


def test_a_worker_that_is_killed_in_the_middle_of_a_batch_did_nothing(
    supervisor: WatchedSupervisor, open_client: OpenClient, db: Driven, table: str
) -> None:
    watcher = open_client(supervisor, "sync-ipc")
    program = f"""
from pgactor import Client
Client({supervisor.ipc!r}).batch(["insert into {table} values (1)", "select pg_sleep(174)"])
"""
    with subprocess.Popen([sys.executable, "-c", program]) as doomed:
        wait_for_statement(db, "pg_sleep(174)")
        os.kill(doomed.pid, signal.SIGKILL)
        wait_for_statement(db, "pg_sleep(174)", running=False)
    until(lambda: watcher.status().busy == 0)
    assert count(db, table) == 0


# --- executemany --------------------------------------------------------------------------------------------

ROW = "x" * 1000
FIVE_MB = 5000


def rows(number: int) -> Iterator[tuple[int, str]]:
    return ((n, ROW) for n in range(number))


def test_an_iterator_of_five_megabytes_is_inserted_as_one(client: Driven, db: Driven, table: str) -> None:
    client.executemany(f"insert into {table} values ($1, $2)", rows(FIVE_MB))
    assert db.fetchrow(f"select count(*), sum(id), sum(length(name)), count(distinct xmin::text) from {table}") == (
        FIVE_MB,
        sum(range(FIVE_MB)),
        FIVE_MB * len(ROW),
        1,
    )
    assert client.status().leased == 0


@pytest.mark.parametrize("kind", ASYNC_KINDS, indirect=True)
def test_an_async_iterator_too(client: Driven, db: Driven, table: str) -> None:
    async def arriving(number: int) -> AsyncIterator[tuple[int, str]]:
        for each in rows(number):
            yield each

    client.executemany(f"insert into {table} values ($1, $2)", arriving(3))
    assert count(db, table) == 3
    client.executemany(f"insert into {table} values ($1 + 3, $2)", arriving(2500))
    assert count(db, table) == 2503
    with client.acquire() as lease:
        lease.executemany(f"insert into {table} values ($1 + 5000, $2)", arriving(2500))
    assert count(db, table) == 5003


@pytest.mark.parametrize(
    ("last", "error", "words"),
    [
        ((0, "again"), asyncpg.UniqueViolationError, "duplicate key"),
        (
            ("x", "y"),
            asyncpg.DataError,
            rf"query argument \$1 in element #{FIVE_MB} of executemany\(\) sequence: 'x'",
        ),
        ((1, object()), asyncpg.DataError, f"in element #{FIVE_MB} of the argument sequence"),
        (5, asyncpg.DataError, f"argument sequence element #{FIVE_MB}: expected a sequence, got int"),
        ((1,), asyncpg.InterfaceError, "expects 2 arguments for this query, 1 was passed"),
    ],
)
def test_an_error_in_the_last_element_undoes_all(
    client: Driven, db: Driven, table: str, last: Any, error: type[Exception], words: str
) -> None:
    sql = f"insert into {table} values ($1, $2)"
    with pytest.raises(error, match=words):
        client.executemany(sql, itertools.chain(rows(FIVE_MB), [last]))
    until(lambda: count(db, table) == 0 and client.status().leased == 0)
    with client.acquire() as lease:
        with pytest.raises(error, match=words):
            lease.executemany(sql, itertools.chain(rows(FIVE_MB), [last]))
        assert not lease.is_in_transaction()
        assert count(db, table) == 0
        assert lease.fetchval("select 1") == 1


def test_an_iterator_that_fails_undoes_all(client: Driven, db: Driven, table: str) -> None:
    def broken() -> Iterator[Any]:
        yield from rows(FIVE_MB)
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        client.executemany(f"insert into {table} values ($1, $2)", broken())
    until(lambda: count(db, table) == 0 and client.status().leased == 0)


def test_in_a_transaction_a_large_executemany_happens_or_not_by_itself(
    client: Driven, db: Driven, table: str
) -> None:
    sql = f"insert into {table} values ($1, $2)"
    again = [(0, "again")]
    with client.acquire() as lease:
        with lease.transaction():
            lease.execute(f"insert into {table} values (-1)")
            with pytest.raises(asyncpg.UniqueViolationError):
                lease.executemany(sql, itertools.chain(rows(FIVE_MB), again))
            assert lease.is_in_transaction()
            assert lease.fetchval(f"select count(*) from {table}") == 1
            lease.executemany(sql, rows(FIVE_MB))
            assert count(db, table) == 0
        assert count(db, table) == FIVE_MB + 1
        lease.execute("begin")
        lease.executemany(f"insert into {table} values ($1 + {FIVE_MB}, $2)", rows(FIVE_MB))
        lease.execute("rollback")
        assert count(db, table) == FIVE_MB + 1


def test_a_large_executemany_that_a_deadline_ends_has_not_happened(client: Driven, table: str) -> None:
    def late() -> Iterator[tuple[int, str]]:
        yield from rows(FIVE_MB)
        time.sleep((pgactor.deadline.remaining() or 0) + 0.01)

    with client.acquire() as lease:
        for begin, end in (("select 1", "select 1"), ("begin", "commit")):
            lease.execute(begin)
            with pytest.raises(RequestTimeout), pgactor.deadline(1):
                lease.executemany(f"insert into {table} values ($1, $2)", late())
            assert lease.is_in_transaction() is (begin == "begin")
            lease.execute(end)
            assert lease.fetchval(f"select count(*) from {table}") == 0


def test_the_timeout_of_a_large_executemany_is_for_all_of_it(client: Driven, db: Driven, table: str) -> None:
    sql = f"insert into {table} select $1::int, $2::text from pg_sleep(case when $1 % 1000 = 0 then 0.3 else 0 end)"
    with pytest.raises(RequestTimeout):
        client.executemany(sql, rows(FIVE_MB), timeout=1)
    until(lambda: count(db, table) == 0 and client.status().leased == 0)


def test_arguments_that_nobody_waits_for_any_more_are_sent_no_further(
    client: Driven, supervisor: WatchedSupervisor, db: Driven, table: str
) -> None:
    # More than asyncpg writes at once, and less than a chunk: PostgreSQL waits for the rest of them.
    sql = f"insert into {table} select $1::int, $2::text from pg_sleep(case when $1 % 100 = 0 then 0.3 else 0 end)"
    client.fetchval("select 1")
    for call, more in (("executemany", ""), ("fetchmany", " returning id")):
        before = supervisor.backends(db).keys()
        with pytest.raises(RequestTimeout):
            getattr(client, call)(sql + more, list(rows(900)), timeout=0.5)
        until(lambda: client.status().busy == 0)
        assert count(db, table) == 0
        assert supervisor.backends(db).keys() == before
    with client.acquire() as lease, lease.transaction():
        lease.execute(f"insert into {table} values (-1)")
        with pytest.raises(RequestTimeout):
            lease.executemany(sql, list(rows(900)), timeout=0.5)
    until(lambda: client.status().leased == 0)


def peak_of(pid: int) -> int:
    """How many bytes of memory a process has had at most."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_however_much_is_inserted_little_is_held(
    launch: Launch, open_client: OpenClient, kind: str, table: str
) -> None:
    supervisor = launch(max_size=1)
    client = open_client(supervisor, kind)
    sql = f"insert into {table} values ($1, $2)"
    client.executemany(sql, rows(2000))
    before = peak_of(supervisor.pid)
    tracemalloc.start()
    try:
        client.executemany(f"insert into {table} values ($1 + 2000, $2)", ((n, f"{n}" * 500) for n in range(15_000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert client.fetchval(f"select sum(length(name)) from {table}") > 30_000_000
    assert peak < 12_000_000
    assert peak_of(supervisor.pid) - before < 15_000_000
