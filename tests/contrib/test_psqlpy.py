"""pgactor.contrib.psqlpy beside psqlpy itself: the same deeds, the same results."""

from __future__ import annotations

import asyncio
import gc
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import psqlpy
import pytest

from pgactor import Client, ClientError, Note, NotPermitted
from pgactor.contrib import psqlpy as ours
from pgactor.contrib.psqlpy.listener import Listener
from tests.integration.driving import Driven, WatchedSupervisor

Deed = Callable[[Any], Awaitable[Any]]


class Refused:
    """What an error is compared as: the two have classes and words of their own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused)

    __hash__ = None  # type: ignore[assignment]


class Pools:
    """Both pools."""

    def __init__(self, served: WatchedSupervisor, dsn: str) -> None:
        self.ours = ours.ConnectionPool(served.ipc)
        self.theirs = psqlpy.ConnectionPool(dsn=dsn, max_db_pool_size=3)

    async def on_connections(self, deed: Deed) -> Any:
        """What the deed gives on a connection of either, which is the same."""

        async def on(pool: Any) -> Any:
            async with pool.acquire() as connection:
                return await outcome(deed(connection))

        return await self.on_pools(on)

    async def on_pools(self, deed: Deed) -> Any:
        """What the deed gives on either, which is the same."""
        mine, other = [await outcome(deed(pool)) for pool in (self.ours, self.theirs)]
        assert mine == other
        return mine


async def outcome(doing: Awaitable[Any]) -> Any:
    try:
        return await doing
    except (psqlpy.Error, asyncpg.PostgresError, asyncpg.InterfaceError, ClientError, TypeError):
        return Refused()


@pytest.fixture
async def pools(served: WatchedSupervisor, dsn: str) -> AsyncIterator[Pools]:
    both = Pools(served, dsn)
    yield both
    both.ours.close()
    both.theirs.close()


@pytest.fixture
def filled(db: Driven, table: str) -> str:
    db.execute(f"insert into {table} select id, 'n' || id from generate_series(1, 7) as id")
    return table


@dataclass
class Row:
    id: int
    name: str


# --- the surface ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "ConnectionPool",
        "Cursor",
        "PreparedStatement",
        "QueryResult",
        "SingleQueryResult",
        "Transaction",
    ],
)
def test_methods_have_psqlpys_names_and_parameters(name: str) -> None:
    from psqlpy import _internal

    mine, other = getattr(ours, name), getattr(_internal, name)
    facts = {"conn_dbname", "host_addrs", "hosts", "options", "ports", "user"}  # they are the supervisor's
    for method in set(filter(lambda each: not each.startswith("_"), dir(other))) - facts:
        if name == "Cursor" and method in ("array_size", "parameters", "querystring"):
            continue  # attributes
        assert hasattr(mine, method), method
        here = [each for each in inspect.signature(getattr(mine, method)).parameters if each != "self"]
        there = [each for each in inspect.signature(getattr(other, method)).parameters if each != "self"]
        assert here == there, method


def test_the_pool_has_psqlpys_parameters_in_their_order() -> None:
    there = list(inspect.signature(psqlpy.ConnectionPool).parameters)
    assert list(inspect.signature(ours.ConnectionPool).parameters) == there


def test_the_enumerations_have_psqlpys_members() -> None:
    for name in (
        "IsolationLevel",
        "ReadVariant",
        "TargetSessionAttrs",
        "LoadBalanceHosts",
        "ConnRecyclingMethod",
        "SslMode",
    ):
        there = {each for each in dir(getattr(psqlpy, name)) if each[0].isupper()}
        assert {member.name for member in getattr(ours, name)} == there


# --- the pool -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"dsn": "postgresql://app@db/app"}, "supervisor's endpoint"),
        ({"username": "app", "port": 5432}, r"username=, port=.*\[connect\]"),
        ({"ssl_mode": ours.SslMode.Require}, "ssl_mode="),
        ({"max_db_pool_size": 1}, "more than 1"),
        ({"connect_timeout_nanosec": 5}, "connect_timeout_sec"),
    ],
)
def test_a_parameter_that_cannot_be_is_told_at_once(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ClientError, match=complaint):
        ours.ConnectionPool(**given)


async def test_a_pool_size_of_its_own_is_told_to_be_the_supervisors(served: WatchedSupervisor) -> None:
    pool = ours.ConnectionPool(served.ipc, max_db_pool_size=7, conn_recycling_method=ours.ConnRecyclingMethod.Fast)
    with pytest.warns(UserWarning, match="max_db_pool_size=7 has no effect.*max_size=3"):
        assert await pool.fetch_val("select 1") == 1
    pool.close()


async def test_the_application_name_is_the_workers_label(served: WatchedSupervisor) -> None:
    with ours.connect_pool(served.ipc, application_name="of the reports", connect_timeout_sec=5) as pool:
        async with pool.acquire() as connection:
            assert await connection.fetch_val("select 1") == 1
            with Client(served.ipc) as client:
                assert "of the reports" in [worker.label for worker in client.status().workers]


async def test_the_first_uses_at_once_share_one_link(pools: Pools) -> None:
    assert await asyncio.gather(*(pools.ours.fetch_val("select 1") for _ in range(50))) == [1] * 50


async def test_status_and_resize_are_the_supervisors(launched: WatchedSupervisor) -> None:
    pool = ours.ConnectionPool(launched.ipc)
    async with pool.acquire() as connection:
        assert pool.status().max_size == 2
        pool.resize(5)
        status = pool.status()
        assert (status.max_size, status.waiting) == (5, 0)
        assert status.size >= 1
        assert await connection.fetch_val("select 1") == 1
    pool.close()


@pytest.fixture
def launched(start_supervisor: Callable[..., WatchedSupervisor]) -> WatchedSupervisor:
    return start_supervisor(max_size=2, pool={"workers_may_administer": True})


async def test_a_closed_pool_gives_no_connection_and_leaves_those_that_are_held(pools: Pools) -> None:
    async def deed(pool: Any) -> Any:
        connection = await pool.connection()
        pool.close()
        found = await connection.fetch_val("select 1"), await outcome(pool.connection())
        connection.close()
        return found, await outcome(connection.fetch_val("select 1"))

    assert await pools.on_pools(deed) == ((1, Refused()), Refused())


async def test_a_pool_that_is_closed_while_it_is_first_used_ends(pools: Pools) -> None:
    asked = asyncio.create_task(pools.ours.fetch("select 1"))
    await asyncio.sleep(0)
    pools.ours.close()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await asked


async def test_a_connection_that_is_given_back_is_refused(pools: Pools) -> None:
    async def deed(pool: Any) -> Any:
        async with pool.acquire() as connection:
            held = (await connection.fetch("select 1 as x")).result()
        connection.close()
        unentered = await outcome(pool.acquire().fetch("select 1"))
        return held, await outcome(connection.fetch("select 1")), unentered

    assert await pools.on_pools(deed) == ([{"x": 1}], Refused(), Refused())


async def test_a_connection_that_is_forgotten_comes_back(pools: Pools) -> None:
    async def deed(pool: Any) -> list[int]:
        found = []
        for number in range(6):  # of three
            found.append(await (await pool.connection()).fetch_val("select $1::int", [number]))
            gc.collect()
        return found

    assert await asyncio.wait_for(pools.on_pools(deed), 20) == list(range(6))


async def test_what_a_connection_leaves_open_is_rolled_back(pools: Pools, table: str) -> None:
    async with pools.ours.acquire() as connection:
        await connection.execute("begin")
        await connection.execute(f"insert into {table} values (1)")
        assert await connection.in_transaction()
    assert await pools.ours.fetch_val(f"select count(*) from {table}") == 0


# --- statements -----------------------------------------------------------------------------------------------

STATEMENTS: dict[str, Deed] = {
    "rows": lambda c: rows(c.fetch("select id, name from {t} where id < $1 order by id", [3])),
    "a tuple": lambda c: rows(c.fetch("select id from {t} where id < $1 order by id", (3,))),
    "names": lambda c: rows(c.fetch("select id from {t} where id = $(id)p and id + 1 = $(id)p + 1", {"id": 3})),
    "a name without a value": lambda c: rows(c.fetch("select $(id)p::int", {"other": 3})),
    "parameters that are a text": lambda c: rows(c.fetch("select $1::text", "a")),
    "no parameters where one is": lambda c: rows(c.fetch("select $1::int")),
    "a parameter of a wrong type": lambda c: rows(c.fetch("select $1::int", ["a"])),
    "not prepared": lambda c: rows(c.execute("select $1::int as x", [1], prepared=False)),
    "returning": lambda c: rows(c.execute("update {t} set name = $2 where id = $1 returning *", parameters=[2, "b"])),
    "no rows": lambda c: rows(c.execute("update {t} set name = null where id = 2")),
    "columns of one name": lambda c: rows(c.fetch("select 1 as a, 2 as a")),
    "an error": lambda c: rows(c.execute("insert into {t} values (1)")),
    "several statements": lambda c: rows(c.execute("select 1; select 2")),
    "fetch_row": lambda c: rows(c.fetch_row("select * from {t} where id = 1")),
    "fetch_row of two": lambda c: rows(c.fetch_row("select * from {t} where id < 3")),
    "fetch_row of none": lambda c: rows(c.fetch_row("select * from {t} where id = 99")),
    "fetch_val": lambda c: c.fetch_val("select name, id from {t} where id = 1"),
    "fetch_val of two": lambda c: c.fetch_val("select id from {t}"),
    "fetch_val of none": lambda c: c.fetch_val("select id from {t} where id = 99"),
    "fetch_val of null": lambda c: c.fetch_val("select null"),
}


async def rows(doing: Awaitable[Any]) -> Any:
    return (await doing).result()


class Naming:
    """A connection whose statements have the table's name in the place of {t}."""

    def __init__(self, connection: Any, table: str) -> None:
        self._connection = connection
        self._table = table

    def __getattr__(self, method: str) -> Any:
        def call(sql: str, *args: Any, **options: Any) -> Any:
            return getattr(self._connection, method)(sql.replace("{t}", self._table), *args, **options)

        return call


@pytest.mark.parametrize("name", STATEMENTS)
async def test_statements(pools: Pools, filled: str, name: str) -> None:
    found = await pools.on_connections(lambda connection: STATEMENTS[name](Naming(connection, filled)))
    assert isinstance(found, Refused) == name.startswith(
        (
            "a name without",
            "parameters that",
            "no parameters",
            "a parameter of",
            "an error",
            "several",
            "fetch_row of",
            "fetch_val of two",
            "fetch_val of none",
        )
    )


async def test_statements_of_the_pool_itself_hold_no_connection(pools: Pools, filled: str) -> None:
    held = [await pools.ours.connection() for _ in range(2)]
    named = Naming(pools.ours, filled)
    assert (await named.fetch("select id from {t} where id = $(id)p", {"id": 3})).result() == [{"id": 3}]
    assert await named.fetch_val("select count(*) from {t}") == 7
    assert (await named.fetch_row("select '[1]'::json as j")).result() == {"j": [1]}
    await named.execute_many("insert into {t} values ($1, $2)", [[20, "a"], [21, "b"]])
    (await pools.ours.connection()).close()  # it is free
    for connection in held:
        connection.close()


async def test_execute_many_and_execute_batch_are_all_or_nothing(pools: Pools, filled: str) -> None:
    async def deed(connection: Any) -> Any:
        named = Naming(connection, filled)
        done = [
            await outcome(named.execute_many("insert into {t} values ($1, $2)", [[20, "a"], [21, "b"]])),
            await outcome(named.execute_many("insert into {t} values ($1, $2)", [[22, "a"], [1, "b"]])),
            await outcome(named.execute_many("insert into {t} values (23, null)")),
            await outcome(named.execute_batch("insert into {t} values (30); insert into {t} values (31)")),
            await outcome(named.execute_batch("insert into {t} values (32); insert into {t} values (31)")),
        ]
        found = await rows(named.fetch("select id from {t} where id > 7 order by id"))
        await named.execute("delete from {t} where id > 7")
        return done, [row["id"] for row in found]

    done, ids = await pools.on_connections(deed)
    assert done == [None, Refused(), None, None, Refused()]
    assert ids == [20, 21, 30, 31]


# --- results --------------------------------------------------------------------------------------------------


async def test_results_as_dicts_tuples_classes_and_whatever_a_factory_makes(pools: Pools, filled: str) -> None:
    async def deed(connection: Any) -> Any:
        many = await connection.fetch(f"select id, name from {filled} where id < 3 order by id")
        one = await connection.fetch_row(f"select id, name from {filled} where id = 1")
        found: list[Any] = []
        for result in (many, one):
            found += (
                result.result(),
                result.result(as_tuple=True),
                result.result(as_tuple=False),
                result.result(custom_decoders={"name": lambda data: data.decode() + "!"}),
                result.result(custom_decoders={"name": lambda data: data}, as_tuple=True),
                result.result(custom_decoders={"NAME": lambda data: data}),
                result.as_class(Row),
                result.row_factory(lambda row: sorted(row)),
                result.row_factory(lambda row: row, custom_decoders={"name": lambda data: data}),
            )
        first = many.records()[0]
        found += first[0], first["name"], first.get("other", 3), list(first.keys()), list(first.items()), len(first)
        nothing = await connection.fetch("select null::text as name")
        return [*found, nothing.result(custom_decoders={"name": lambda data: data})]

    found = await pools.on_connections(deed)
    assert found[0] == [{"id": 1, "name": "n1"}, {"id": 2, "name": "n2"}]
    assert found[6] == [Row(1, "n1"), Row(2, "n2")]


async def test_errors_of_a_class_and_a_factory_are_the_callers(pools: Pools) -> None:
    for pool in (pools.ours, pools.theirs):
        async with pool.acquire() as connection:
            result = await connection.fetch("select 1 as id")
            with pytest.raises(ZeroDivisionError):
                result.row_factory(lambda row: 1 / 0)
            with pytest.raises(TypeError, match="name"):
                result.as_class(Row)


async def test_bytes_for_a_decoder_that_are_not_known_are_told_to_be_so(pools: Pools) -> None:
    result = await pools.ours.fetch("select 1 as id")
    with pytest.raises(ClientError, match=r"custom_decoders: the value of id.*int.*cast it to text"):
        result.result(custom_decoders={"id": lambda data: data})


VALUES = r"""1::int2 1::int8 1.5::float4 1.5::float8 1.50::numeric 'a'::text 'a'::varchar 'a'::name true::bool
'\x01'::bytea '{"a":[1]}'::json '{"a":[1]}'::jsonb 'null'::jsonb '{"[1]"}'::json[]
'00000000-0000-0000-0000-000000000001'::uuid '{00000000-0000-0000-0000-000000000001}'::uuid[] '2020-01-01'::date
'10:00'::time '2020-01-01T10:00'::timestamp '2020-01-01T10:00+01'::timestamptz '1d'::interval '10.0.0.1'::inet
'{1,2}'::int[] '{{1,2},{3,4}}'::int[] NULL 5::oid '(1,2)'::point""".split()  # noqa: SIM905


@pytest.mark.parametrize("value", VALUES)
async def test_values_are_psqlpys(pools: Pools, value: str) -> None:
    def deed(connection: Any) -> Awaitable[Any]:
        return rows(connection.fetch(f"select {value} as x"))

    assert not isinstance(await pools.on_connections(deed), Refused)


@pytest.mark.parametrize(
    ("cast", "value"),
    [
        ("jsonb", {"a": [1, None]}),
        ("json", [1, 2]),
        ("uuid", uuid.UUID(int=7)),
        ("int[]", [1, 2]),
        ("text[]", ["a", "b"]),
        ("text", "a"),
        ("bytea", b"a"),
        ("float8", 1.5),
        ("bool", True),
        ("int", None),
    ],
)
async def test_arguments_are_psqlpys(pools: Pools, cast: str, value: Any) -> None:
    def deed(connection: Any) -> Awaitable[Any]:
        return rows(connection.fetch(f"select $1::{cast} as x", [value]))

    assert not isinstance(await pools.on_connections(deed), Refused)


# --- transactions ---------------------------------------------------------------------------------------------


async def test_a_transaction_is_of_the_kind_that_was_asked_for(pools: Pools) -> None:
    look = """select current_setting('transaction_isolation') i, current_setting('transaction_read_only') r,
        current_setting('transaction_deferrable') d"""

    async def deed(pool: Any) -> Any:
        found = []
        kinds = ours if pool is pools.ours else psqlpy
        async with pool.acquire() as connection:
            for level in ("ReadUncommitted", "ReadCommitted", "RepeatableRead", "Serializable"):
                for variant, deferrable in ((None, None), ("ReadOnly", True), ("ReadWrite", False)):
                    transaction = connection.transaction(
                        isolation_level=getattr(kinds.IsolationLevel, level),
                        read_variant=None if variant is None else getattr(kinds.ReadVariant, variant),
                        deferrable=deferrable,
                    )
                    await transaction.begin()
                    found.append(await rows(transaction.fetch(look)))
                    await transaction.rollback()
        return found

    found = await pools.on_pools(deed)
    assert found[-2] == [{"i": "serializable", "r": "on", "d": "on"}]


async def test_psqlpys_own_enumerations_will_do(pools: Pools) -> None:
    theirs: Any = psqlpy.IsolationLevel
    async with pools.ours.acquire() as connection:
        async with connection.transaction(theirs.RepeatableRead) as transaction:
            assert await transaction.fetch_val("show transaction_isolation") == "repeatable read"
        with pytest.raises(ClientError, match=r"IsolationLevel\.Serializable"):
            connection.transaction("serializable")  # type: ignore[arg-type]


async def test_a_block_commits_and_an_error_rolls_back(pools: Pools, table: str) -> None:
    async def deed(connection: Any) -> Any:
        async with connection.transaction() as transaction:
            await transaction.execute(f"insert into {table} values (1, 'a')")
        for statement in ("select 1 / 0", f"insert into {table} values (2, 'b')"):
            try:
                async with connection.transaction() as transaction:
                    await transaction.execute(f"insert into {table} values (3, 'c')")
                    await transaction.execute(statement)
                    raise KeyError("mine")
            except (KeyError, psqlpy.Error, asyncpg.PostgresError):
                pass
        found = await rows(connection.fetch(f"select * from {table}"))
        await connection.execute(f"delete from {table}")
        return found, await connection.in_transaction()

    assert await pools.on_connections(deed) == ([{"id": 1, "name": "a"}], False)


async def test_a_transaction_that_is_over_is_refused_and_its_connection_is_not(pools: Pools) -> None:
    async def deed(connection: Any) -> Any:
        found = []
        for end in ("commit", "rollback"):
            transaction = connection.transaction()
            await transaction.begin()
            await getattr(transaction, end)()
            found += [await outcome(getattr(transaction, method)()) for method in ("commit", "rollback", "begin")]
            found.append(await outcome(transaction.fetch("select 1")))
        return found, await connection.fetch_val("select 1")

    assert await pools.on_connections(deed) == ([Refused()] * 8, 1)


async def test_a_commit_inside_of_the_block_is_left_in_peace(pools: Pools, table: str) -> None:
    async with pools.ours.acquire() as connection:
        async with connection.transaction() as transaction:
            await transaction.execute(f"insert into {table} values (1)")
            await transaction.commit()
        assert await connection.fetch_val(f"select count(*) from {table}") == 1


async def test_a_transaction_within_a_transaction_is_refused(pools: Pools) -> None:
    async with pools.ours.acquire() as connection, connection.transaction():
        with pytest.raises(asyncpg.InterfaceError, match="create_savepoint"):
            await connection.transaction().begin()


async def test_savepoints_and_pipelines(pools: Pools, filled: str) -> None:
    async def deed(connection: Any) -> Any:
        transaction = connection.transaction()
        await transaction.begin()
        await transaction.create_savepoint("one")
        await transaction.execute(f"delete from {filled}")
        await transaction.rollback_savepoint("one")
        await transaction.release_savepoint("one")
        statements = [
            (f"select count(*) from {filled}", []),
            ("select $1::int as b", [5]),
            ("select $(x)p::int as c", {"x": 6}),
        ]
        found = [each.result() for each in await transaction.pipeline(statements)]
        missing = await outcome(transaction.release_savepoint("one"))
        await transaction.rollback()
        return found, missing

    assert await pools.on_connections(deed) == ([[{"count": 7}], [{"b": 5}], [{"c": 6}]], Refused())


# --- prepared statements, cursors, COPY -----------------------------------------------------------------------


async def test_a_prepared_statement(pools: Pools, filled: str) -> None:
    async def deed(connection: Any) -> Any:
        statement = await connection.prepare(f"select id, name from {filled} where id = $1", [1])
        again = [await rows(statement.execute()) for _ in range(2)]
        return again, [column.name for column in statement.columns()]

    assert await pools.on_connections(deed) == ([[{"id": 1, "name": "n1"}]] * 2, ["id", "name"])


async def test_a_cursor_gives_rows_by_and_by(pools: Pools, filled: str) -> None:
    select = f"select id from {filled} where id < $1 order by id"

    async def deed(connection: Any) -> Any:
        found: list[Any] = []
        async with connection.transaction() as transaction:
            async with transaction.cursor(select, [100], array_size=2) as cursor:
                steps = (
                    cursor.fetchone,
                    cursor.fetchmany,
                    lambda: cursor.fetchmany(1),
                    cursor.fetchall,
                    cursor.fetchone,
                )
                found += [await rows(step()) for step in steps]
                found += cursor.array_size, cursor.querystring, cursor.parameters
            found.append(await outcome(cursor.fetchone()))
            cursor = transaction.cursor(select, [100], array_size=3)
            await cursor.start()
            async for part in cursor:
                found.append(part.result())
            cursor.close()
            cursor = transaction.cursor()
            await cursor.execute("select 1 as x where false")
            async for part in cursor:
                found.append(part.result())
            found.append(cursor.array_size)
        return found

    found = await pools.on_connections(deed)
    assert [len(each) for each in found[:5]] == [1, 2, 1, 3, 0]
    assert found[9:] == [[{"id": 1}, {"id": 2}, {"id": 3}], [{"id": 4}, {"id": 5}, {"id": 6}], [{"id": 7}], 1]


async def test_copy(pools: Pools, table: str) -> None:
    data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\2" + b"\0\0\0\4\0\0\0\7" + b"\0\0\0\1x" + b"\xff\xff"

    async def deed(connection: Any) -> Any:
        copied = [
            await connection.copy_records_to_table(table, [(1, "a"), (2, "b")], columns=["id", "name"]),
            await connection.copy_records_to_table(table_name=table, records=[(3, "c")], schema_name="public"),
            await connection.binary_copy_to_table(data, table, columns=["id", "name"]),
            await outcome(connection.copy_records_to_table(table, [("x", "a")], columns=["id", "name"])),
        ]
        found = await rows(connection.fetch(f"select * from {table} order by id"))
        await connection.execute(f"delete from {table}")
        return copied, found

    copied, found = await pools.on_connections(deed)
    assert copied == [2, 1, 1, Refused()]
    assert found[-1] == {"id": 7, "name": "x"}


async def test_a_cursor_outside_of_a_transaction_is_refused(pools: Pools) -> None:
    async with pools.ours.acquire() as connection:
        with pytest.raises(asyncpg.NoActiveSQLTransactionError):
            await connection.cursor("select 1").start()
        with pytest.raises(asyncpg.InterfaceError, match="start"):
            await connection.cursor("select 1").fetchone()


async def test_several_statements_at_once_on_a_connection_are_refused_and_harm_none(pools: Pools) -> None:
    async with pools.ours.acquire() as connection:
        found = await asyncio.gather(
            *(connection.fetch_val("select 1 from pg_sleep(0.05)") for _ in range(2)), return_exceptions=True
        )
        assert found[0] == 1
        assert isinstance(found[1], asyncpg.InterfaceError)
        assert await connection.fetch_val("select 2") == 2


# --- listening ------------------------------------------------------------------------------------------------


async def test_a_listener_calls_and_is_iterated_over(pools: Pools, db: Driven) -> None:
    async def deed(pool: Any) -> Any:
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def callback(connection: Any, payload: str, channel: str, process_id: int) -> None:
            heard.put_nowait((payload, channel, process_id > 0))

        listener = pool.listener()
        refused = await outcome(listener.add_callback("told", print))
        await listener.add_callback("told", callback)
        await listener.startup()
        listener.listen()
        if pool is pools.theirs:
            await asyncio.sleep(0.2)  # it begins in a thread, and does not say when
        await asyncio.to_thread(db.execute, "notify told, 'one'")
        found = await asyncio.wait_for(heard.get(), 20)
        listener.abort_listen()
        await listener.shutdown()
        return refused, found

    assert await pools.on_pools(deed) == (Refused(), ("one", "told", True))

    listener = pools.ours.listener()

    async def never(*_: Any) -> None: ...

    await listener.add_callback("told", never)
    async with listener:
        await asyncio.to_thread(db.execute, "notify told, 'two'")
        async for message in listener:
            assert (message.channel, message.payload) == ("told", "two")
            assert await message.connection.fetch_val("select 1") == 1
            break


async def test_a_listener_that_hears_nothing_any_more_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def notes() -> AsyncIterator[Note]:
        yield Note("orders")
        raise NotPermitted("the key may not use the pool any more")

    listener = Listener(None, None)  # type: ignore[arg-type]
    listener._notes, listener.is_started = notes(), True
    listener.listen()
    assert listener._task is not None
    await asyncio.wait([listener._task])
    assert "callbacks are called no more" in caplog.text
    assert "the key may not use the pool any more" in caplog.text
