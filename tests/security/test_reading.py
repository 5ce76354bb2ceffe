"""A worker whose key may only read, and what it tries all the same."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from pgactor import Client, NotPermitted
from pgactor.dsn import parse
from tests.endtoend.processes import ask
from tests.security.conftest import KeyFiles
from tests.supervising import StartSupervisor, SupervisorProcess

_numbers = itertools.count(1)


class Scene(NamedTuple):
    """A supervisor whose PostgreSQL user may write, a reader's client, and a table of one row, with a function and a
    procedure that write to it, and a sequence."""

    supervisor: SupervisorProcess
    reader: Client
    table: str
    dsn: str

    def rows(self) -> list[Any]:
        """What PostgreSQL has."""
        return [tuple(row) for row in ask(self.dsn, f"select id, value from {self.table} order by id")]


@pytest.fixture(scope="module")
def scene(dsn: str) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="pga-") as folder:
        yield from _scene(dsn, KeyFiles(Path(folder)))


def _scene(dsn: str, keys: KeyFiles) -> Iterator[Scene]:
    name = f"reading_{os.getpid()}_{next(_numbers)}"
    for sql in (
        f"create role {name} login password 'secret'",
        f"create table {name} (id int primary key, value int)",
        f"insert into {name} values (1, 10)",
        f"create sequence {name}_seq",
        f"grant all on {name}, {name}_seq to {name}",
        f"create function {name}_f() returns int language plpgsql as "
        f"'begin insert into {name} values (3, 0); return 1; end'",
        f"create procedure {name}_p() language plpgsql as "
        f"'begin set default_transaction_read_only = off; commit; insert into {name} values (4, 0); commit; end'",
    ):
        ask(dsn, sql)
    user = {"user": name, "password": "secret", "database": parse(dsn).get("dbname")}
    reader_key = keys.client("reader", "--read-only")
    supervisor = SupervisorProcess(folder=keys.folder, dsn=dsn, max_size=2, toml=keys.toml, connect=user)
    with Client(supervisor.tcp, **keys.options(reader_key)) as reader:
        yield Scene(supervisor, reader, name, dsn)
    supervisor.stop()
    for sql in (f"drop procedure {name}_p", f"drop function {name}_f", f"drop owned by {name}", f"drop table {name}"):
        ask(dsn, sql)
    for sql in (f"drop sequence {name}_seq", f"drop role {name}"):
        ask(dsn, sql)


def test_a_reader_reads_in_every_way(scene: Scene) -> None:
    reader, table = scene.reader, scene.table
    assert reader.fetchval(f"select value from {table} where id = $1", 1) == 10
    assert reader.execute(f"select * from {table}") == "SELECT 1"
    assert reader.fetchmany("select $1::int", [(1,), (2,)]) == [(1,), (2,)]
    assert reader.batch([f"select id from {table}", ("select $1::int", 5)]) == [[(1,)], [(5,)]]
    assert reader.batch([f"select id from {table}"], isolation="serializable", readonly=True) == [[(1,)]]
    with reader.acquire() as lease:
        assert lease.fetchval("select 1") == 1
        assert not lease.is_in_transaction()
        lease.execute("set application_name = 'reader'")
        assert lease.fetchval("show application_name") == "reader"
        prepared = lease.prepare(f"select value from {table} where id = $1")
        assert prepared.fetchval(1) == 10
        with lease.transaction(isolation="repeatable_read"):
            assert lease.is_in_transaction()
            assert [row["id"] for row in lease.cursor(f"select id from {table}")] == [1]
            with suppress(asyncpg.UndefinedTableError), lease.transaction():
                lease.fetch("select * from no_such_table")
            assert lease.fetchval("select 2") == 2
        assert not lease.is_in_transaction()
    with pytest.raises(asyncpg.DivisionByZeroError):
        reader.fetchval("select 1 / 0")
    assert reader.fetchval("select 3") == 3


WRITES = (
    "insert into {t} values (2, 0)",
    "with w as (insert into {t} values (2, 0) returning id) select * from w",
    "update {t} set value = 0",
    "delete from {t}",
    "truncate {t}",
    "select {t}_f()",
    "call {t}_p()",
    "do $$ begin set default_transaction_read_only = off; commit; insert into {t} values (4, 0); commit; end $$",
    "do $$ begin set transaction read write; insert into {t} values (4, 0); end $$",
    "select set_config('transaction_read_only', 'off', false), {t}_f()",
    "explain analyze insert into {t} values (2, 0)",
    "select nextval('{t}_seq')",
    "create table {t}_new (id int)",
    "create temporary table mine as select {t}_f()",
    "select * from {t} for update",
)


@pytest.mark.parametrize("write", WRITES)
def test_no_single_statement_writes(scene: Scene, write: str) -> None:
    sql = write.format(t=scene.table)
    before = scene.rows()
    reader = scene.reader
    for attempt in (reader.execute, reader.fetch, lambda sql: reader.batch([sql])):
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as caught:
            attempt(sql)
        assert not isinstance(caught.value, asyncpg.InsufficientPrivilegeError), (
            "it was not READ ONLY that stopped it"
        )
    with reader.acquire() as lease:
        with pytest.raises(asyncpg.PostgresError):
            lease.execute(sql)
        assert not lease.is_in_transaction()
        lease.execute("begin read write")
        with pytest.raises(asyncpg.PostgresError):
            lease.execute(sql)
    assert scene.rows() == before


def test_an_error_of_a_warnings_class_is_postgresqls_own(scene: Scene) -> None:
    sql = "do $$ begin raise exception 'low on paper' using errcode = '01000'; end $$"
    with pytest.raises(asyncpg.PostgresWarning, match="low on paper") as caught:
        scene.reader.execute(sql)
    assert caught.value.sqlstate == "01000"
    with scene.reader.acquire() as lease:
        with pytest.raises(asyncpg.PostgresWarning, match="low on paper"):
            lease.execute(sql)
        assert not lease.is_in_transaction()
    assert scene.reader.fetchval("select 1") == 1


def test_no_row_of_statements_gets_out_of_read_only(scene: Scene) -> None:
    before, t = scene.rows(), scene.table
    insert = f"insert into {t} values (2, 0)"
    ways = (
        ["set default_transaction_read_only = off", insert],
        ["set session characteristics as transaction read write", insert],
        ["begin read write", insert],
        ["begin", "set transaction read write", insert],
        ["begin", "set local transaction_read_only = off", insert],
        ["begin", "commit and chain", "set transaction read write", insert],
        ["begin", "rollback and chain", "set transaction read write", insert],
        ["begin", "savepoint a", "set transaction read write", "release a", insert],
        ["begin", "set transaction read write", "savepoint a", insert, "rollback to a", insert],
        ["begin", "select 1 / 0", "rollback and chain", "set transaction read write", insert],
        [f"prepare w as {insert}", "execute w"],
        ["begin", f"prepare w as {insert}", "set transaction read write", "execute w"],
        [
            "begin",
            f"declare c cursor with hold for select {t}_f()",
            "set transaction read write",
            "fetch c",
            "commit",
        ],
        ["reset all", "discard all", insert],
        ["set role none", "reset session authorization", insert],
    )
    for way in ways:
        with scene.reader.acquire() as lease:
            for sql in way:
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
                    lease.execute(sql)
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            scene.reader.batch(way)
        assert scene.rows() == before, way
    for script in (f"select 1; {insert}", f"commit; {insert}", f"set transaction read write; {insert}; commit"):
        with pytest.raises(asyncpg.PostgresSyntaxError, match="multiple commands"):
            scene.reader.execute(script)
        with scene.reader.acquire() as lease, pytest.raises(asyncpg.PostgresSyntaxError):
            lease.execute(script)
    assert scene.rows() == before


def test_a_prepared_write_and_many_at_once_are_refused(scene: Scene) -> None:
    before, t = scene.rows(), scene.table
    insert = f"insert into {t} values ($1, 0)"
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        scene.reader.executemany(insert, [(2,), (3,)])
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        scene.reader.fetchmany(f"{insert} returning id", [(2,), (3,)])
    with scene.reader.acquire() as lease:
        prepared = lease.prepare(insert)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            prepared.fetch(2)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            prepared.executemany([(2,)])
        lease.execute("begin")
        lease.execute("set transaction read write")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            prepared.fetch(2)
    assert scene.rows() == before


def test_copy_and_batches_that_are_no_transaction_are_refused(scene: Scene) -> None:
    with scene.reader.acquire() as lease:
        with pytest.raises(NotPermitted, match="cannot COPY"):
            lease.copy_from_query(
                f"select 1) to stdout; commit; delete from {scene.table}; copy (select 1", output=print
            )
        with pytest.raises(NotPermitted, match="cannot COPY"):
            lease.copy_records_to_table(scene.table, records=[(2, 0)])
        assert lease.fetchval("select 1") == 1
    with pytest.raises(NotPermitted, match="leave atomic=False out"):
        scene.reader.batch(["select 1"], atomic=False)
    assert scene.rows() == [(1, 10)]


def test_a_reader_that_gives_up_leaves_nothing_open(scene: Scene) -> None:
    with scene.reader.acquire() as lease:
        with pytest.raises(TimeoutError):
            lease.fetchval("select pg_sleep(60)", timeout=0.2)
        assert lease.fetchval("select 1") == 1
        assert not lease.is_in_transaction()
    with pytest.raises(TimeoutError):
        scene.reader.fetchval("select pg_sleep(60)", timeout=0.2)
    assert scene.reader.fetchval("select 1") == 1


def test_others_go_on_writing_beside_a_reader_and_a_table_may_change(scene: Scene) -> None:
    t = scene.table
    with Client(scene.supervisor.ipc) as writer:
        for number in range(10, 14):
            writer.execute(f"insert into {t} values ($1, 0)", number)
            assert scene.reader.fetchval(f"select max(id) from {t}") == number
        assert len(scene.reader.fetch(f"select * from {t}")[0]) == 2
        ask(scene.dsn, f"alter table {t} add column more int")
        for _ in range(3):
            assert len(scene.reader.fetch(f"select * from {t}")[0]) == 3
        ask(scene.dsn, f"alter table {t} drop column more")
        writer.execute(f"delete from {t} where id >= 10")
        status = writer.status()
    assert status.counters["in_session_read_only"] > 0


def test_a_superusers_connection_serves_no_reader(
    dsn: str, keys: KeyFiles, start_supervisor: StartSupervisor
) -> None:
    if ask(dsn, "show is_superuser")[0][0] != "on":
        pytest.skip("the tests' own user is no superuser")
    supervisor = start_supervisor(toml=keys.toml)
    with (
        Client(supervisor.tcp, **keys.options(keys.client("reader", "--read-only"))) as reader,
        pytest.raises(NotPermitted, match="connections of a superuser"),
    ):
        reader.fetchval("select 1")
