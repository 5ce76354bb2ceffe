"""FEATURES A7 and A20: asyncpg's COPY methods. Each case runs on a connection of asyncpg's and on leases of both
clients, and must come to the same: results, data and errors."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.integration.conftest import Launch, OpenClient, db, kind, launch, loop_thread, open_client  # noqa: F401
from tests.integration.driving import Driven, WatchedSupervisor, outcome

Case = Callable[[Driven, Path], Any]

ROWS = [(1, "one", 1.5), (2, "two, and\ttab", None), (3, 'q"uote', -0.25), (4, None, 0.0)]

MUCH = "select repeat('x', 1000) from generate_series(1, 20000)"
"""More than is on its way at once: asyncpg 0.32 waits for ever after its sink failed at the last of the data."""


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:  # noqa: F811
    return launch(max_size=2)


Compare = Callable[[Case], Any]


@pytest.fixture
def compare(
    db: Driven,  # noqa: F811
    supervisor: WatchedSupervisor,
    open_client: OpenClient,  # noqa: F811
    kind: str,  # noqa: F811
    tmp_path: Path,
) -> Compare:
    """Runs the case with asyncpg and with pgactor, and returns what both came to."""

    def both(case: Case) -> Any:
        (tmp_path / "asyncpg").mkdir()
        with filled(db) as connection:
            expected = outcome(lambda: case(connection, tmp_path / "asyncpg"))
        (tmp_path / "pgactor").mkdir()
        with open_client(supervisor, kind).acquire() as lease, filled(lease):
            found = outcome(lambda: case(lease, tmp_path / "pgactor"))
            assert lease.fetchval("select 1") == 1
        assert found == expected
        return found

    return both


@contextmanager
def filled(connection: Driven) -> Iterator[Driven]:
    """The tables of the cases: `source` has rows, `target` has none."""
    connection.execute(
        "create temp table source (id int, name text, price float8); "
        "create temp table target (id int, name text, price float8); "
        'create temp table "a ""table" ("a column" int, b text)'
    )
    connection.executemany("insert into source values ($1, $2, $3)", ROWS)
    connection.execute("""insert into "a ""table" values (7, 'seven')""")
    try:
        yield connection
    finally:
        connection.execute('rollback; drop table source, target, "a ""table"')


def out(connection: Driven, method: str, *args: object, **options: Any) -> tuple[str, bytes]:
    """Copy to a coroutine function; the tag and the data."""
    got: list[bytes] = []

    async def sink(data: bytes) -> None:
        await asyncio.sleep(0)
        got.append(data)

    tag = getattr(connection, method)(*args, output=sink, **options)
    return tag, b"".join(got)


def back(connection: Driven, method: str, *args: object, **options: Any) -> tuple[str, list[Any]]:
    """Copy in; the tag, and what the table then holds."""
    tag = getattr(connection, method)(*args, **options)
    return tag, list(connection.fetch(f"select * from {args[0]} order by 1, 2"))


async def pieces(*data: Any) -> AsyncIterator[Any]:
    for piece in data:
        await asyncio.sleep(0)
        yield piece


OUT: dict[str, tuple[str, tuple[object, ...], dict[str, Any]]] = {
    "all": ("copy_from_table", ("source",), {}),
    "columns": ("copy_from_table", ("source",), {"columns": ["name", "id"]}),
    "columns of a tuple": ("copy_from_table", ("source",), {"columns": ("id",)}),
    "no columns": ("copy_from_table", ("source",), {"columns": []}),
    "schema": ("copy_from_table", ("source",), {"schema_name": "pg_temp"}),
    "names that need quotes": ("copy_from_table", ('a "table',), {"columns": ["a column"]}),
    "csv": ("copy_from_table", ("source",), {"format": "csv"}),
    "binary": ("copy_from_table", ("source",), {"format": "binary"}),
    "text by name": ("copy_from_table", ("source",), {"format": "text"}),
    "delimiter": ("copy_from_table", ("source",), {"delimiter": ";"}),
    "delimiter that needs quotes": ("copy_from_table", ("source",), {"delimiter": "'"}),
    "null": ("copy_from_table", ("source",), {"null": "n'il"}),
    "header": ("copy_from_table", ("source",), {"format": "csv", "header": True}),
    "no header": ("copy_from_table", ("source",), {"format": "csv", "header": False}),
    "quote and escape": ("copy_from_table", ("source",), {"format": "csv", "quote": "|", "escape": "!"}),
    "force_quote": ("copy_from_table", ("source",), {"format": "csv", "force_quote": ["name"]}),
    "force_quote of a tuple": ("copy_from_table", ("source",), {"format": "csv", "force_quote": ("id", "name")}),
    "force_quote of all": ("copy_from_table", ("source",), {"format": "csv", "force_quote": True}),
    "no force_quote": ("copy_from_table", ("source",), {"format": "csv", "force_quote": False}),
    "encoding": ("copy_from_query", ("select 'naïve'",), {"encoding": "latin1"}),
    "oids": ("copy_from_table", ("source",), {"oids": True}),
    "query": ("copy_from_query", ("select id from source order by id",), {}),
    "query with arguments": (
        "copy_from_query",
        ("select $1::int, $2::text, $3::date, $4::numeric", 5, "it's", date(2020, 2, 3), Decimal("1.10")),
        {},
    ),
    "query in csv": ("copy_from_query", ("select * from source order by id",), {"format": "csv", "header": True}),
    "empty": ("copy_from_query", ("select 1 where false",), {}),
    "no table": ("copy_from_table", ("missing",), {}),
    "no column": ("copy_from_table", ("source",), {"columns": ["missing"]}),
    "no such format": ("copy_from_table", ("source",), {"format": "xml"}),
    "an option that does not go with text": ("copy_from_table", ("source",), {"quote": "|"}),
    "a query that is none": ("copy_from_query", ("selec 1",), {}),
    "a query that fails": ("copy_from_query", ("select 1 / (3 - i) from generate_series(1, 3) i",), {}),
    "a query that fails late": ("copy_from_query", ("select 1 / (50000 - i) from generate_series(1, 50000) i",), {}),
    "an argument of a wrong type": ("copy_from_query", ("select $1::int", "x"), {}),
    "too few arguments": ("copy_from_query", ("select $1::int, $2::int", 1), {}),
    "an unknown option": ("copy_from_table", ("source",), {"colour": "red"}),
    "columns that are none": ("copy_from_table", ("source",), {"columns": 5}),
}  # fmt: skip


@pytest.mark.parametrize("name", OUT)
def test_A20_copy_out_options_and_errors(compare: Compare, name: str) -> None:
    method, args, options = OUT[name]
    compare(lambda connection, _: out(connection, method, *args, **options))


IN: dict[str, tuple[bytes, dict[str, Any]]] = {
    "text": (b"1\ta\t1.5\n2\t\\N\t0\n", {}),
    "no data": (b"", {}),
    "the end marked": (b"1\ta\t1\n\\.\n", {}),
    "columns": (b"b\t1\n", {"columns": ["name", "id"]}),
    "schema": (b"1\ta\t1\n", {"schema_name": "pg_temp"}),
    "csv": (b'1,"a,b",\n', {"format": "csv"}),
    "delimiter": (b"1;a;2\n", {"delimiter": ";"}),
    "null": (b"1,nil,nil\n", {"format": "csv", "null": "nil"}),
    "header": (b"id,name,price\n1,a,2\n", {"format": "csv", "header": True}),
    "quote and escape": (b"1,|a!||,2\n", {"format": "csv", "quote": "|", "escape": "!"}),
    "force_not_null": (b"1,,2\n", {"format": "csv", "force_not_null": ["name"]}),
    "force_null": (b'1,"",2\n', {"format": "csv", "force_null": ("name",)}),
    "encoding": ("1,naïve,2\n".encode("latin1"), {"format": "csv", "encoding": "latin1"}),
    "where": (b"1,a,2\n2,b,3\n", {"format": "csv", "where": "id > 1"}),
    "freeze": (b"1,a,2\n", {"format": "csv", "freeze": True}),
    "not frozen": (b"1,a,2\n", {"format": "csv", "freeze": False}),
    "force_quote, which is not for this way": (b"1,a,2\n", {"format": "csv", "force_quote": True}),
    "a line that is too short": (b"1\n", {}),
    "a value of another type": (b"1\ta\t1\nx\ta\t1\n", {}),
    "bytes that are no text": (b"1\t\xff\t1\n", {}),
    "binary that is none": (b"nonsense", {"format": "binary"}),
    "no column": (b"", {"columns": ["missing"]}),
    "an unknown option": (b"", {"colour": "red"}),
    "a where that is none": (b"", {"where": "((("}),
}


@pytest.mark.parametrize("name", IN)
def test_A20_copy_in_options_and_errors(compare: Compare, name: str) -> None:
    data, options = IN[name]
    compare(lambda connection, _: back(connection, "copy_to_table", "target", source=pieces(data), **options))


def test_A20_copy_in_of_binary_that_came_out(compare: Compare) -> None:
    def case(connection: Driven, _: Path) -> Any:
        data = out(connection, "copy_from_table", "source", format="binary")[1]
        return back(connection, "copy_to_table", "target", source=pieces(data[:7], data[7:]), format="binary")

    compare(case)


def test_A20_copy_out_to_paths(compare: Compare) -> None:
    def case(connection: Driven, folder: Path) -> Any:
        tags = [
            connection.copy_from_table("source", output=folder / "path"),
            connection.copy_from_table("source", output=str(folder / "text")),
            connection.copy_from_table("source", output=os.fsencode(folder / "bytes")),
        ]
        return tags, [(folder / name).read_bytes() for name in ("path", "text", "bytes")]

    compare(case)


def test_A20_copy_out_to_file_objects(compare: Compare) -> None:
    def case(connection: Driven, folder: Path) -> Any:
        memory = io.BytesIO()
        tag = connection.copy_from_table("source", output=memory)
        with (folder / "file").open("wb") as file:
            connection.copy_from_query("select 1", output=file)
            assert not file.closed
        return tag, memory.getvalue(), (folder / "file").read_bytes()

    compare(case)


def test_A20_copy_out_to_a_file_that_takes_no_bytes(compare: Compare) -> None:
    def case(connection: Driven, _: Path) -> Any:
        with pytest.raises(
            TypeError, match="string argument expected, got 'byte"
        ):  # asyncpg's are bytearrays at times
            connection.copy_from_query(MUCH, output=io.StringIO())

    compare(case)


def test_A20_copy_out_to_a_folder_that_is_missing(compare: Compare) -> None:
    def case(connection: Driven, folder: Path) -> Any:
        try:
            connection.copy_from_table("source", output=folder / "missing" / "file")
        except FileNotFoundError as error:
            return error.errno
        raise AssertionError("it is there")

    compare(case)


@pytest.mark.parametrize("output", [5, None, [b""]], ids=repr)
def test_A20_copy_out_to_what_is_no_output(compare: Compare, output: object) -> None:
    compare(lambda connection, _: connection.copy_from_table("source", output=output))


def test_A20_copy_out_raises_what_its_sink_raises(compare: Compare) -> None:
    async def sink(_: bytes) -> None:
        raise ZeroDivisionError("by the sink")

    assert compare(lambda connection, _: connection.copy_from_query(MUCH, output=sink))[1] is ZeroDivisionError


def test_A20_copy_in_from_paths(compare: Compare) -> None:
    def case(connection: Driven, folder: Path) -> Any:
        path = folder / "data"
        path.write_bytes(b"1\ta\t1\n")
        sources: tuple[Any, ...] = (path, str(path), os.fsencode(path))
        for source in sources:
            connection.copy_to_table("target", source=source)
        return connection.fetchval("select count(*) from target")

    compare(case)


def test_A20_copy_in_from_file_objects(compare: Compare) -> None:
    def case(connection: Driven, _: Path) -> Any:
        lines = b"".join(b"%d\tname %d\t1\n" % (number, number) for number in range(100_000))
        file = io.BytesIO(lines)
        tag = connection.copy_to_table("target", source=file)
        return tag, file.closed, connection.fetchrow("select count(*), sum(id), max(name) from target")

    compare(case)


def test_A20_copy_in_from_a_file_of_text(compare: Compare) -> None:
    compare(lambda connection, _: connection.copy_to_table("target", source=io.StringIO("1\ta\t1\n")))


@pytest.mark.parametrize(
    "source", [bytearray(b"1\ta\t1\n"), memoryview(b"1\ta\t1\n"), memoryview(b"1\ta\t1\n1")[:-1:1]], ids=type
)
def test_A20_copy_in_from_buffers(compare: Compare, source: Any) -> None:
    compare(lambda connection, _: back(connection, "copy_to_table", "target", source=source))


def test_A20_copy_in_from_an_async_iterable_of_buffers(compare: Compare) -> None:
    data = (b"1\t", bytearray(b"a"), memoryview(b"\t1\n2"), b"", b"\tb\t2\n")
    compare(lambda connection, _: back(connection, "copy_to_table", "target", source=pieces(*data)))


def test_A20_copy_in_from_bytes_is_from_a_path(compare: Compare) -> None:
    def case(connection: Driven, _: Path) -> Any:
        try:
            connection.copy_to_table("target", source=b"1\ta\t1\n")
        except FileNotFoundError as error:
            return error.errno
        raise AssertionError("it is there")

    compare(case)


@pytest.mark.parametrize("source", [5, None], ids=repr)
def test_A20_copy_in_from_what_is_no_source(compare: Compare, source: object) -> None:
    compare(lambda connection, _: connection.copy_to_table("target", source=source))


def test_A20_copy_in_from_pieces_that_are_no_bytes(compare: Compare) -> None:
    compare(lambda connection, _: connection.copy_to_table("target", source=pieces(b"1\ta\t1\n", "text")))


def test_A20_copy_in_raises_what_its_source_raises_and_is_undone(compare: Compare) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"1\ta\t1\n" * 100_000
        raise ZeroDivisionError("by the source")

    def case(connection: Driven, _: Path) -> Any:
        with pytest.raises(ZeroDivisionError, match="by the source"):
            connection.copy_to_table("target", source=source())
        return connection.fetchval("select count(*) from target"), connection.is_in_transaction()

    assert compare(case)[0] == "returned"


def test_A20_copy_that_fails_in_a_transaction_leaves_it_failed(compare: Compare) -> None:
    def case(connection: Driven, _: Path) -> Any:
        states = []
        connection.execute("begin")
        for source in (pieces(b"x\n"), pieces("no bytes")):
            try:
                connection.copy_to_table("target", source=source)
            except Exception as error:
                states.append((type(error), str(error), connection.is_in_transaction()))
            try:
                connection.execute("select 1")
            except Exception as error:
                states.append((type(error), str(error), connection.is_in_transaction()))
            connection.execute("rollback")
            states.append(connection.is_in_transaction())
            connection.execute("begin")
        connection.execute("rollback")
        return states

    compare(case)


def test_A20_copy_in_a_transaction_ends_with_it(compare: Compare) -> None:
    def case(connection: Driven, _: Path) -> Any:
        connection.execute("begin")
        tag = connection.copy_records_to_table("target", records=[(1, "a", 1.0)])
        within = connection.is_in_transaction(), connection.fetchval("select count(*) from target")
        connection.execute("rollback")
        return tag, within, connection.fetchval("select count(*) from target")

    compare(case)


class Row(tuple[Any, ...]):
    __slots__ = ()


class Indexed:
    """What may be asked for its values by their numbers, and is no sequence."""

    def __init__(self, *values: Any) -> None:
        self._values = values

    def __getitem__(self, number: int) -> Any:
        return self._values[number]


RECORDS: dict[str, tuple[Iterable[Any], dict[str, Any]]] = {
    "tuples": ([(1, "a", 1.5), (2, None, None)], {}),
    "lists": ([[1, "a", 1.5]], {}),
    "none": ([], {}),
    "others": ([Row((1, "a", 1.5)), Indexed(2, "b", 2.5)], {}),
    "too long": ([(1, "a", 1.5, "more")], {}),
    "an int for a float": ([(1, "a", 1)], {}),
    "columns": ([("a", 1)], {"columns": ["name", "id"]}),
    "schema": ([(1, "a", 1.5)], {"schema_name": "pg_temp"}),
    "where": ([(1, "a", 1.5), (2, "b", 1.5)], {"where": "id > 1"}),
    "many": ([(number, "x" * 50, number / 7) for number in range(20_000)], {}),
    "too short": ([(1, "a")], {}),
    "a number": ([(1, "a", 1.5), 5], {}),
    "dicts": ([{"id": 1}], {}),
    "a str for an int": ([("x", "a", 1.5)], {}),
    "an int for a str": ([(1, 2, 1.5)], {}),
    "an int that is too large": ([(2**40, "a", 1.5)], {}),
    "an int beyond 64 bits": ([(2**80, "a", 1.5)], {}),
    "a str for a float": ([(1, "a", "x")], {}),
    "no column": ([], {"columns": ["missing"]}),
    "an unknown option": ([], {"format": "csv"}),
    "a where that is none": ([], {"where": "((("}),
    "no iterable": (5, {}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", RECORDS)
def test_A20_copy_records(compare: Compare, name: str) -> None:
    records, options = RECORDS[name]
    compare(lambda connection, _: back(connection, "copy_records_to_table", "target", records=records, **options))


def test_A20_copy_records_of_an_iterator_and_of_an_async_iterable(compare: Compare) -> None:
    def case(connection: Driven, _: Path) -> Any:
        connection.copy_records_to_table("target", records=((n, "sync", None) for n in range(1000)))
        return back(connection, "copy_records_to_table", "target", records=pieces((1, "async", None), (2, "b", 2.5)))

    compare(case)


def test_A20_copy_records_raises_what_its_source_raises_and_is_undone(compare: Compare) -> None:
    def records() -> Iterator[Any]:
        for number in range(50_000):
            yield number, "a", 1.5
        raise ZeroDivisionError("by the source")

    def case(connection: Driven, _: Path) -> Any:
        with pytest.raises(ZeroDivisionError, match="by the source"):
            connection.copy_records_to_table("target", records=records())
        return connection.fetchval("select count(*) from target")

    assert compare(case)[0] == "returned"


def test_A20_copy_records_of_a_table_that_is_missing(compare: Compare) -> None:
    compare(lambda connection, _: connection.copy_records_to_table("missing", records=[(1,)]))


VALUES: dict[str, Any] = {
    "bool": True, "int8": -(2**63), "numeric": Decimal("1.10"), "text": "naïve 😀", "bytea": b"\0\xff",
    "date": date(2020, 2, 29), "timestamp": datetime(2020, 2, 29, 1, 2, 3), "interval": timedelta(days=3, seconds=5),
    "uuid": UUID(int=7), "int[]": [1, None, 3], "json": '{"a": 1}', "inet": "10.0.0.1", "point": (1.0, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("type_name", VALUES)
def test_A20_copy_records_of_every_sort_of_value(compare: Compare, type_name: str) -> None:
    compare(lambda connection, _: copy_values(connection, type_name, [(VALUES[type_name],), (None,)]))


def copy_values(connection: Driven, type_name: str, records: list[tuple[Any]]) -> Any:
    """Copy to a table of this type. (Its name is its own: asyncpg goes on using the types of one that is no more.)"""
    name = f"table_{type_name}".replace("[]", "s")
    connection.execute(f"create temp table {name} (v {type_name})")
    try:
        tag = connection.copy_records_to_table(name, records=records)
        return tag, connection.fetch(f"select v::text from {name}")
    finally:
        connection.execute(f"drop table {name}")


WRONG: dict[str, Any] = {
    "bool": "x", "int2": 2**20, "int8": "x", "numeric": "x", "text": 5, "bytea": "x", "date": "2020-01-01",
    "timestamp": "x", "interval": 5, "uuid": "x", "int[]": 5, "json": 5, "inet": "x",
}  # fmt: skip


@pytest.mark.parametrize("type_name", WRONG)
def test_A20_copy_records_refuses_a_value_as_asyncpg_does(compare: Compare, type_name: str) -> None:
    records = [(WRONG[type_name],)]
    assert compare(lambda connection, _: copy_values(connection, type_name, records))[0] == "raised"


def test_A20_copy_timeouts_end_sinks_and_sources(compare: Compare) -> None:
    async def slow_sink(_: bytes) -> None:
        await asyncio.sleep(0.3)

    async def slow_source() -> AsyncIterator[bytes]:
        for _ in range(100):
            await asyncio.sleep(0.1)
            yield b"1\ta\t1\n"

    async def slow_records() -> AsyncIterator[Any]:
        async for _ in slow_source():
            yield 1, "a", 1.5

    def case(connection: Driven, _: Path) -> Any:
        for method, args, options in (
            ("copy_from_query", (MUCH,), {"output": slow_sink}),
            ("copy_to_table", ("target",), {"source": slow_source()}),
        ):
            with pytest.raises(asyncio.TimeoutError):
                getattr(connection, method)(*args, timeout=0.2, **options)
        return connection.fetchval("select count(*) from target")

    assert compare(case)[0] == "returned"


def test_A7_copy_methods_of_the_pool(
    supervisor: WatchedSupervisor,
    open_client: OpenClient,  # noqa: F811
    kind: str,  # noqa: F811
    db: Driven,  # noqa: F811
) -> None:
    client = open_client(supervisor, kind)
    name = f"pgactor_copy_{os.getpid()}"
    db.execute(f"create table {name} (id int, name text)")
    try:
        assert client.copy_records_to_table(name, records=[(1, "a"), (2, "b")]) == "COPY 2"
        assert client.copy_to_table(name, source=pieces(b"3\tc\n"), timeout=10) == "COPY 1"
        assert out(client, "copy_from_table", name) == ("COPY 3", b"1\ta\n2\tb\n3\tc\n")
        assert out(client, "copy_from_query", f"select id from {name} where id > $1", 2) == ("COPY 1", b"3\n")
        assert client.status().leased == 0
    finally:
        db.execute(f"drop table {name}")
