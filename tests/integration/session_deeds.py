"""Things that a statement may leave in its session (test_session_effects.py)."""

from __future__ import annotations

import time
from typing import Any

from pgactor import Client

S = "pgactor_effects"

SET = "set work_mem = '77MB'"
CONFIG = "set_config('work_mem', '77MB', false)"
LOCK = "pg_advisory_lock(1)"

SETTINGS = [
    SET, "SET Work_Mem TO '77MB'", "/* select */ set work_mem = '77MB'", "-- select\nset work_mem = '77MB'",
    "set session work_mem = '77MB'", "set time zone 'Asia/Tokyo'", "set search_path = pg_temp", "set names 'latin1'",
    "set session characteristics as transaction read only", "set default_transaction_isolation = 'serializable'",
    "set statement_timeout = 12345", "set my.secret = 'x'", "set xml option document", "set role pg_monitor",
    "set session authorization pg_monitor", "set constraints all deferred",
    "alter role current_user set work_mem = '4MB'",
    f"select {CONFIG}", f"select pg_catalog.{CONFIG}", f"with x as (select {CONFIG}) select * from x",
    f"select 1 where {CONFIG} is not null", f"values ({CONFIG})",
    f"select /* x */ {CONFIG.upper().replace('MB', 'mB')}",
    "select set_config/* */ ('work_mem', '77MB', false)", "select \"set_config\"('work_mem', '77MB', false)",
    "select U&\"set\\005fconfig\"('work_mem', '77MB', false)",
    "select u&\"set_confi\\0067\"('work_mem', '77MB', false)",
    "select set_config('my.secret', 'x', false)", f"insert into {S}.t select length({CONFIG})",
    f"update {S}.t set id = length({CONFIG})", f"delete from {S}.t where length({CONFIG}) > 0",
    f"explain analyze select {CONFIG}",
    f"do $$ begin perform {CONFIG}; end $$",
    f"select query_to_xml('select {CONFIG.replace(chr(39), chr(39) * 2)}', true, true, '')",
    f"copy (select {CONFIG}) to stdout", f"create table {S}.made as select {CONFIG} as x", f"select * from {CONFIG}",
]  # fmt: skip
LOCKS = [
    f"select {LOCK}", "select pg_try_advisory_lock(1, 2)", "select PG_Advisory_Lock_Shared(1)",
    "select pg_advisory_lock /**/ (1)",
    "select pg_catalog . pg_advisory_lock(1)", "select \"pg_advisory_lock\"(1)", f"values ({LOCK})",
    f"select 1, ({LOCK})::text",
    "select U&\"pg\\005fadvisory\\005flock\"(1)", f"with x as materialized (select {LOCK}) select count(*) from x",
    f"table {S}.locking",
    "select 1 where pg_try_advisory_lock(1)", f"do $$ begin perform {LOCK}; end $$",
    f"insert into {S}.t select 1 from {LOCK}",
    f"select {LOCK}, 1 / 0", f"select {LOCK} from generate_series(1, 3)", f"select 'a;b', {LOCK}",
    f"-- ;\nselect {LOCK}",
]  # fmt: skip
TABLES = [
    "create temp table left_over (id int)", "create temporary table left_over as select 1",
    "create temp view left_over as select 1",
    "create temp sequence left_over", "create table pg_temp.left_over ()", "select 1 as id into temp left_over",
    "select 1 as id into temporary table left_over", "select 1 as id into local temp left_over",
    "select 1 as id into\ttemp left_over",
    "select 1 as id into/**/temp left_over", "select 1 as id into pg_temp.left_over",
    "select 1 as id into \"pg_temp\".left_over",
    "select 1 insert into temp left_over", "select 1 as insert into temp left_over",
    "select 'insert into x', 1 as id into temp left_over",
    "select 1 as id -- insert into x\ninto temp left_over",
    "with x as (select 1 as id) select * into temp left_over from x",
    "create temp table t (id int) on commit delete rows",
    "create function pg_temp.f() returns int language sql as 'select 1'",
    "create type pg_temp.mood as enum ('sad')", "do $$ begin create temp table left_over (); end $$",
]  # fmt: skip
OTHERS = [
    "prepare left_over as select 1", "prepare \"a\"\"b;\" as select 1", "declare c cursor with hold for select 1",
    "listen gossip", "LISTEN \"Gossip\"", "do $$ begin execute 'listen gossip'; end $$",
    "discard all", "deallocate all", "reset all", "close all", "unlisten *", "discard temp",
]  # fmt: skip
SEVERAL = [
    "begin", "start transaction", "/* select */ begin", "begin; select 1", "begin; select 1 / 0", "select 1; begin",
    "begin; create temp table left_over (); savepoint s", f"begin; {SET}; commit",
    f"begin isolation level serializable; {SET}",
    f"select 1;{SET}", f"select ';' ; {SET}", f"select 1 /* ; */; {SET}", f"select $$;$$; {SET}",
    f"select E'\\';'; {SET}",
    f";{SET}", f"select 1;\n--\n{SET}; --", f"{SET}; select 1 / 0", f"select {LOCK}; select 1 / 0",
    f"select 1; select {LOCK}",
    "begin; declare c cursor for select 1; fetch c", "begin; listen gossip; commit",
    "prepare a as select 1; execute a",
    f"select 1; prepare a as select 1; create temp table left_over (); listen gossip; select {LOCK}; {SET}; begin",
    "prepare transaction 'x'", "begin; lock table pg_class", f"insert into {S}.t values (1); begin",
]  # fmt: skip
RUN_BY_OTHERS: list[tuple[str, tuple[Any, ...]]] = [
    ("update pg_settings set setting = '7777kB' where name = 'work_mem'", ()),
    ("select * from ts_stat($1)", (f"select to_tsvector({CONFIG})",)),
    ("select ts_rewrite('a'::tsquery, $1)", (f"select {CONFIG}::tsquery, 'b'::tsquery",)),
    ("select * from ts_stat('select to_tsvector(pg_advisory' || '_lock(1)::text)')", ()),
]  # fmt: skip

DEEDS: list[tuple[str, tuple[Any, ...]]] = [(sql, ()) for sql in SETTINGS + LOCKS + TABLES + OTHERS + SEVERAL]


def leave(endpoint: str, way: str, sql: str, mark: str) -> None:
    """What a worker does until it is killed: the statement in a lease that it then holds ("resting"), in one that
    still runs it ("running"), or in none ("alone"). The mark is in the statement's text."""
    client = Client(endpoint)
    user = client if way == "alone" else client.acquire()
    user.execute(f"{sql} /* {mark} */" if way == "resting" else f"{sql}; select pg_sleep(50) /* {mark} */")
    time.sleep(50)
