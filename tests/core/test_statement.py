"""Which statements are known to leave nothing in the session, and what is learned of them."""

from __future__ import annotations

import sys
import time

import pytest

from pgactor.core.statement import (
    LEAST_SECONDS,
    REMEMBERED_LENGTH,
    REMEMBERED_STATEMENTS,
    Statement,
    StatementTable,
    concerns_a_transaction,
    leaves_nothing,
)

NOTHING = [
    "select 1",
    "SELECT 1",
    "SeLeCt 1",
    "select 1;",
    "select 1 ;  \n",
    "  \t\r\n select 1",
    "-- a comment\nselect 1",
    "-- a comment\r\nselect 1",
    "--\n-- another\nselect 1",
    "/* a comment */ select 1",
    "/**/select 1",
    "/* a * b / c ** d // */select 1",
    "/* one */ -- two\n /* three */ select 1",
    "(select 1)",
    "((select 1) union (select 2))",
    "( /* inside */ (select 1))",
    "select(1)",
    "table users",
    "values (1), (2)",
    "values(1)",
    "with a as (select 1) select * from a",
    "with a as (insert into t values (1) returning *) select * from a",
    "with a as (select 1) insert into t select * from a",
    "WITH a AS (SELECT 1) INSERT  INTO t SELECT * FROM a",
    "with a as (select 1) merge into t using a on true when matched then delete",
    "insert into t values ($1)",
    "INSERT\nINTO t VALUES ($1) RETURNING id",
    'insert into "temp" values ($1)',
    "insert into temporal values ($1)",
    "insert into globals values ($1)",
    "merge into t using s on t.id = s.id when matched then delete",
    "update t set a = 1 where id = $1",
    "delete from t",
    "select * from t where id = any($1::int[]) for update skip locked",
    "select pg_advisory_xact_lock(1)",
    "select pg_try_advisory_xact_lock(1)",
    "select pg_advisory_xact_lock_shared(1, 2)",
    "select into_stock from goods",
    "select settings, reset, listen from t",
    "select 'set'",
    "select u & 1 from t",
]

SOMETHING = [
    # no statement, or one that is not known
    "",
    "   \n",
    "-- only a comment",
    "/* only a comment */",
    "(",
    ";",
    "selects",
    "select_1",
    "1 select",
    "é select",
    "explain select 1",
    "explain analyze select 1",
    "set search_path = x",
    "set local search_path = x",
    "reset all",
    "show search_path",
    "begin",
    "commit",
    "rollback",
    "listen orders",
    "notify orders",
    "declare c cursor with hold for select 1",
    "fetch all from c",
    "prepare p as select 1",
    "execute p",
    "deallocate all",
    "discard all",
    "lock table t",
    "load 'auto_explain'",
    "create temp table t (a int)",
    "create temp table t as select 1",
    "copy t from stdin",
    "do $$ begin perform set_config('a', 'b', false); end $$",
    "call p()",
    "vacuum",
    # more than one statement, or what may be
    "select 1; select 2",
    "select 1; set search_path = x",
    "select 1;;",
    "select 1; -- done",
    "select ';'",
    "; select 1",
    # a table is made of the result
    "select * into t from s",
    "select * into temp t from s",
    "select *\ninto\ntemp t from s",
    "SELECT 1 INTO TEMPORARY t",
    "select/**/1/**/into/**/temp/**/t",
    "(select 1 into temp t)",
    "with a as (select 1) select * into temp t from a",
    "with a as (insert into t values (1) returning *) select * into temp b from a",
    "select 1 as insert into temp t",
    "select a.merge into temp t from a",
    "select 1 as insert into local temporary t",
    "select 1 as insert into/**/temp t",
    "select 1 as insert into pg_temp.t",
    'select 1 as insert into "pg_temp".t',
    "with a as (select 1 as x) select (x) insert into temp t from a",
    "select 'insert into', 1 into temp t",
    "insert /* a comment between */ into t values (1)",
    "insert into t values ('into')",
    # functions that touch the session
    "select set_config('search_path', 'x', false)",
    "select pg_catalog.set_config('search_path', 'x', false)",
    "select SET_CONFIG('search_path', 'x', false)",
    "select \"set_config\"('search_path', 'x', false)",
    "update t set a = set_config('search_path', 'x', false)",
    "select pg_advisory_lock(1)",
    "select pg_advisory_lock_shared(1)",
    "select pg_try_advisory_lock(1)",
    "select pg_advisory_unlock(1)",
    "select pg_advisory_unlock_all()",
    "values (pg_advisory_lock(1))",
    "select setseed(0.5)",
    "select dblink_connect('x')",
    "select pg_backup_start('x')",
    "select query_to_xml('set x = 1', true, true, '')",
    "select pg_replication_origin_session_setup('x')",
    "select pg_export_snapshot()",
    # their names in Unicode escapes
    "select u&\"set\\005fconfig\"('search_path', 'x', false)",
    "select U&\"\\0073et_config\"('a', 'b', false)",
    # comments whose end PostgreSQL sees elsewhere
    "/* a /* b */ select 1",
    "/* a /* b */ c */ select 1",
    "/* a /* b */ select 1 */ set search_path = x",
    "/*/* b */ select 1 */ set search_path = x",
    "/* open select 1",
    "-- to the carriage return only\rcreate temp table t as\nselect 1",
    "/*/ select 1",
    "\\ select 1",
    "- select 1",
    "/ select 1",
]


OF_A_TRANSACTION = [
    "begin",
    "BEGIN;",
    " Begin ; \n",
    "/* a comment */ begin",
    "-- a comment\nbegin",
    "-- a comment\rbegin",
    "begin work",
    "begin transaction",
    "begin isolation level serializable",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY DEFERRABLE;",
    "begin transaction isolation level read committed, read write, not deferrable",
    "begin isolation level read uncommitted , read only",
    "start transaction",
    "start\ttransaction\nread only",
    "set transaction isolation level serializable",
    "set transaction read only, deferrable",
    "set local work_mem = '1MB'",
    "SET LOCAL search_path TO a, b;",
    "set local a.b = 'set x = 1'",
    'set local "a"."b" to default',
    "set local time zone 'UTC'",
    "set local role nobody -- for now",
    "set local session authorization nobody",
    "commit",
    "COMMIT;",
    "commit work",
    "commit transaction and chain",
    "commit and no chain ;",
    "end",
    "end work",
    "end transaction and no chain",
    "abort",
    "abort work and chain",
    "rollback",
    "ROLLBACK;",
    "rollback transaction and no chain",
    "rollback to a",
    "ROLLBACK TO pgactor_savepoint_1;",
    "rollback work to savepoint a",
    'rollback transaction to "a b"',
    "savepoint a",
    "SAVEPOINT pgactor_savepoint_12;",
    'savepoint "set x = 1"',
    "release a",
    "RELEASE SAVEPOINT pgactor_savepoint_1;",
]

OF_MORE = [
    "",
    ";",
    "begin;;",
    "; begin",
    "begin; set x = 1",
    "begin; commit",
    "begin;\0",
    "begin -- ; set x = 1",
    "begin /* */ ; set x = 1",
    "begin /* a comment within */ work",
    "begin; -- a comment behind",
    "begins",
    "begin_work",
    "begin$",
    "begin.a",
    "beginé",
    "begin\u00a0work",
    "\u00a0begin",
    "begin atomic",
    "begin ''",
    "start",
    "start_replication slot a",
    "starttransaction",
    "start transaction; set x = 1",
    # a transaction that outlives its session
    "prepare transaction 'a'",
    "commit prepared 'a'",
    "rollback prepared 'a'",
    "commit work prepared 'a'",
    # of the session, and not of the transaction
    "set a = 1",
    "set a.b = 1",
    "set session a = 1",
    "set session characteristics as transaction read only",
    "set time zone 'UTC'",
    "set role nobody",
    "set session authorization nobody",
    "reset a",
    "reset all",
    "discard all",
    # settings that are called local or transaction
    "set local.a = 1",
    "set local .a = 1",
    "set local\n. a = 1",
    "set local/**/.a = 1",
    "set local /**/.a = 1",
    "set local --\n.a = 1",
    "set local\u00a0.a = 1",
    "set local\u00a0a.b = 1",
    "set local\u2003a.b = 1",
    "set local é.b = 1",
    "set localé.b = 1",
    "set local$a.b = 1",
    "set local_a.b = 1",
    "set local = 1",
    "set transaction.a = 1",
    "set transaction .a = 1",
    "set transaction read.a = 1",
    "set transaction snapshot '1'",
    "set transaction/**/.a = 1",
    "set transactional.a = 1",
    "set constraints all deferred",
    'set "local".a = 1',
    "set local a = 1; set b = 1",
    "set local a = ';'",
    "set local a = 1;; ",
    # more than a savepoint's name
    "rollback to savepoint a; release savepoint a",
    "rollback to a, b",
    "rollback to",
    "rollback to é",
    "rollback to 'a'",
    'rollback to "a"; set x = 1 --"',
    'savepoint "a;b"',
    'savepoint "a" "b"',
    "savepoint a b",
    "savepoint 1",
    "savepoint",
    "release",
    "releasea",
    "savepoint$a",
    "lock table t",
    "declare c cursor with hold for select 1",
    "listen a",
    "notify a",
    "show transaction_isolation",
    "select 1",
    "/* a /* b */ begin",
    "/* a /* b */ c */ begin",
    "/* a */ */ begin",
    "/* begin",
    "-- begin",
    "(begin)",
]


@pytest.mark.parametrize("sql", OF_A_TRANSACTION)
def test_a_statement_of_a_transaction_leaves_nothing_when_that_has_ended(sql: str) -> None:
    assert concerns_a_transaction(sql)
    assert Statement(sql).keeps_clean
    assert not Statement(sql).leaves_nothing


@pytest.mark.parametrize("sql", OF_MORE)
def test_a_doubt_counts_against_a_statement_of_a_transaction(sql: str) -> None:
    assert not concerns_a_transaction(sql)


@pytest.mark.parametrize("sql", NOTHING)
def test_whatever_leaves_nothing_keeps_a_lease_clean(sql: str) -> None:
    assert Statement(sql).keeps_clean


@pytest.mark.parametrize("sql", SOMETHING)
def test_whatever_may_leave_something_does_not(sql: str) -> None:
    assert (
        Statement(sql).keeps_clean
        == concerns_a_transaction(sql)
        == (sql in ("begin", "commit", "rollback", "set local search_path = x"))
    )


@pytest.mark.parametrize("sql", NOTHING)
def test_a_known_statement_alone_leaves_nothing(sql: str) -> None:
    assert leaves_nothing(sql)


@pytest.mark.parametrize("sql", SOMETHING)
def test_a_doubt_counts_against_the_statement(sql: str) -> None:
    assert not leaves_nothing(sql)


@pytest.mark.parametrize(
    "piece",
    [
        *("/*", "*/", "/**/", "/* */ ", "/*/", "*", "/", "--", "--\n", "(", " ", "\n", ";", "'", "\\", "é", "\0"),
        *("select ", "with ", "insert ", "into ", "insert into ", "advisory_", "u&", "u& "),
        *("begin ", "read ", ",", '"', "commit ", "and ", "chain ", "to ", "a"),
    ],
)
@pytest.mark.parametrize(
    "start", ["", "select ", "insert into t ", "begin ", "set local ", "savepoint ", "rollback to "]
)
def test_a_long_hostile_text_is_judged_in_linear_time(start: str, piece: str) -> None:
    def seconds(length: int) -> float:
        sql = start + piece * (length // len(piece))
        began = time.process_time()
        leaves_nothing(sql)
        concerns_a_transaction(sql)
        return time.process_time() - began

    # In quadratic time this would take many seconds, in linear time milliseconds: no fine measure is needed.
    assert seconds(100_000) < 1.0


def test_a_long_text_is_not_kept_alive() -> None:
    """The judgements of thousands of statements are remembered; megabytes of their text must not be."""
    text = "select 1 --" + "x" * 100_000
    references = sys.getrefcount(text)
    assert leaves_nothing(text)
    assert sys.getrefcount(text) == references


# --- what may wait for locks, and what is learned -----------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t values (1)",
        "UPDATE t SET a = 1",
        "delete from t",
        "merge into t using s on t.id = s.id when matched then delete",
        "with a as (delete from t returning *) select * from a",
        "select * from t for update",
        "select * from t for no key update skip locked",
        "select * from t FOR SHARE",
        "select * from t for key share",
        "select pg_advisory_xact_lock(1)",
        "select pg_try_advisory_xact_lock_shared(1)",
    ],
)
def test_what_writes_or_locks_may_have_to_wait(sql: str) -> None:
    assert Statement(sql).may_lock


@pytest.mark.parametrize(
    "sql", ["select 1", "table users", "values (1)", "select updated, shared_by, insert_at from t"]
)
def test_what_only_reads_waits_for_nobody(sql: str) -> None:
    assert not Statement(sql).may_lock


def test_what_is_known_of_a_statement() -> None:
    statement = Statement("/* by id */ SELECT * from t where id = $1")
    assert (statement.leaves_nothing, statement.verb, statement.seconds, statement.plan) == (
        True,
        "select",
        None,
        None,
    )
    assert repr(statement) == "<Statement '/* by id */ SELECT * from t where id = $'>"
    assert Statement("set a = 1").verb == ""


def test_a_statement_that_has_never_run_has_no_duration() -> None:
    statement = Statement("select 1")
    assert statement.seconds is None
    statement.learn(0.004)
    assert statement.seconds == 0.004


def test_the_average_rises_quickly_and_falls_slowly() -> None:
    statement = Statement("select 1")
    statement.learn(0.0001)
    statement.learn(0.0101)
    assert statement.seconds == pytest.approx(0.0026), "one slow time in a hundred short ones counts"
    times = 0
    while statement.seconds is not None and statement.seconds >= 0.001:
        statement.learn(0.0001)
        times += 1
    assert times == pytest.approx(34, abs=2)


def test_the_average_comes_to_what_is_true_at_last() -> None:
    statement = Statement("select 1")
    statement.learn(5.0)
    for _ in range(500):
        statement.learn(0.0002)
    assert statement.seconds == pytest.approx(0.0002, rel=0.1)
    for _ in range(30):
        statement.learn(0.3)
    assert statement.seconds == pytest.approx(0.3, rel=0.1)


def test_no_statement_counts_for_less_than_the_shortest() -> None:
    statement = Statement("select 1")
    assert statement.cost == LEAST_SECONDS
    statement.learn(1e-6)
    assert statement.cost == LEAST_SECONDS
    statement.learn(0.1)
    assert statement.cost == statement.seconds == pytest.approx(0.025, rel=0.01)


def test_a_statement_that_was_met_is_known() -> None:
    table = StatementTable()
    statement = table.get("select 1")
    assert table.get("select 1") is statement
    assert table.get("select 2") is not statement


def test_a_statement_in_use_is_not_forgotten_however_many_others_are_met() -> None:
    table = StatementTable()
    statement = table.get("select 1")
    for n in range(3 * REMEMBERED_STATEMENTS):
        table.get(f"select {n}, {n}")
        if n % 1000 == 0:
            assert table.get("select 1") is statement


def test_no_more_statements_are_remembered_than_are_meant_to() -> None:
    table = StatementTable()
    first = table.get("select 1")
    for n in range(2 * REMEMBERED_STATEMENTS):
        table.get(f"select {n}, {n}")
    assert len(table._young) + len(table._old) <= REMEMBERED_STATEMENTS
    assert table.get("select 1") is not first


def test_a_very_long_statement_is_met_for_the_first_time_each_time() -> None:
    table = StatementTable()
    long = "select 1 --" + "x" * REMEMBERED_LENGTH
    assert table.get(long) is not table.get(long)


def test_the_slowest_are_those_that_took_the_most_together_or_at_once() -> None:
    table = StatementTable()
    often, long, neither, never = (table.get(sql) for sql in ("select 1", "select 2", "select 3", "select 4"))
    for _ in range(100):
        often.learn(0.001, took=0.1)
    long.ran(5.0)
    neither.ran(0.01)
    assert [each.sql for each in table.slowest(1)] == ["select 1", "select 2"]
    assert table.slowest(3) == [often, long, neither]
    assert (often.runs, often.longest, never.runs) == (100, 0.1, 0)
    assert often.took == pytest.approx(10.0)
