"""Section T of the features: values and errors are asyncpg's own, whichever way a statement takes.

asyncpg itself is asked the same, on a connection in this process: what it returns, or raises, is what a client of
pgactor must return, or raise, with the statement lane on, with it off, and on a lease.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from pgactor import Record
from pgactor.actors.failures import failed
from pgactor.client.failures import exception
from pgactor.messages import Failed
from tests.compatibility.cases_of_values import (
    ANYTHING,
    CONVERTED,
    EXPRESSIONS,
    EXTENSIONS,
    OF_A_CLASS_OF_ITS_OWN,
    SCHEMA,
    SURVIVING,
    TARGETS,
    Colour,
    Mood,
    Pair,
    S,
    bits,
)
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, WatchedSupervisor
from tests.integration.lanes import LANES

WAYS = ("lane on", "lane on, again", "lane off", "lease")


@pytest.fixture(scope="module")
def supervisors(launch: Launch) -> dict[str, WatchedSupervisor]:
    return {lane: launch(max_size=2, pool={"statement_lane": lane}) for lane in LANES}


@pytest.fixture(scope="module")
def schema(db: Driven) -> Iterator[str]:
    db.execute(SCHEMA)
    yield S
    db.execute(f"drop schema {S} cascade")


@pytest.fixture
def ways(
    supervisors: dict[str, WatchedSupervisor], open_client: OpenClient, schema: str
) -> Iterator[dict[str, Driven]]:
    """Each way that a statement can take; the second time its plan may be known."""
    on, off = open_client(supervisors["on"], "sync-ipc"), open_client(supervisors["off"], "async-ipc")
    with on.acquire() as lease:
        yield dict(zip(WAYS, (on, on, off, lease), strict=True))


_ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Of an object whose class has no text for it."""


def portrait(value: Any) -> Any:
    """All of a value that must be equal: its type, its text, and those of all in it."""
    match value:
        case asyncpg.Record() | Record():
            return "record", [(name, portrait(each)) for name, each in value.items()]
        case asyncpg.Path():
            return type(value), value.is_closed, portrait(value.points)
        case asyncpg.Range():
            bounds = portrait(value.lower), portrait(value.upper)
            return asyncpg.Range, bounds, value.lower_inc, value.upper_inc, value.isempty
        case list() | tuple():
            return type(value), [portrait(each) for each in value]
        case UUID():
            return UUID, str(value)  # asyncpg's is of a class of its own
        case _:
            return type(value), repr(value)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns or raises, with all that an error carries."""
    try:
        return "returned", portrait(call())
    except Exception as error:
        fields: dict[str, Any] = dict(error.as_dict()) if isinstance(error, asyncpg.PostgresError) else {}
        if isinstance(error, asyncpg.InterfaceError):
            fields = {"detail": error.detail, "hint": error.hint}
        cause = error.__cause__
        # Of a cause there is the text, not what it was made of: of KeyError(0) it is 0.
        text = str(cause).strip("'") if type(cause) is KeyError else _ADDRESS.sub("", str(cause))
        told = None if cause is None else (type(cause), text)
        return "raised", type(error), _ADDRESS.sub("", str(error)), fields, told, getattr(error, "query", None)


def differences(ways: dict[str, Driven], db: Driven, sql: str, *args: Any, method: str = "fetchrow") -> list[Any]:
    """The ways whose outcome is not asyncpg's, with both."""
    expected = outcome(lambda: getattr(db, method)(sql, *args))
    found = []
    for name, way in ways.items():
        got = outcome(lambda: getattr(way, method)(sql, *args))  # noqa: B023
        if got != expected:
            found.append((name, sql, args, got, expected))
    return found


def agrees(ways: dict[str, Driven], db: Driven, sql: str, *args: Any, method: str = "fetchrow") -> Any:
    """Assert that every way's outcome is asyncpg's, and return it."""
    assert differences(ways, db, sql, *args, method=method) == []
    return outcome(lambda: getattr(db, method)(sql, *args))


@contextmanager
def local_time_zone(name: str) -> Iterator[None]:
    """The time zone of this process: the worker's, and asyncpg's."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    clock.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        clock.tzset()


def all_of(type_name: str, literals: list[str | None]) -> Iterator[str]:
    """Statements that return each literal: by itself, and, where there is such a type, in arrays."""
    for literal in literals:
        text = "null" if literal is None else f"$lit${literal}$lit$"
        yield f"select {text}::{type_name} as v, 1 as one"
        if type_name.endswith("vector") or type_name in (f"{S}.label", f"{S}.nothing"):
            continue
        yield f"select array[{text}]::{type_name}[] as a, array[[{text}::{type_name}], [null]] as aa"


# --- T1, T2: results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", SURVIVING)
def test_T1_results_of_the_plain_types_and_arrays_of_them_are_asyncpgs(
    ways: dict[str, Driven], db: Driven, type_name: str
) -> None:
    for sql in all_of(type_name, SURVIVING[type_name]):
        agrees(ways, db, sql)


@pytest.mark.parametrize("type_name", CONVERTED)
def test_T2_results_of_every_other_type_and_arrays_of_them_are_asyncpgs(
    ways: dict[str, Driven], db: Driven, type_name: str
) -> None:
    for sql in all_of(type_name, CONVERTED[type_name]):
        agrees(ways, db, sql)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_T2_results_that_no_literal_makes_are_asyncpgs(ways: dict[str, Driven], db: Driven, expression: str) -> None:
    if S in expression:  # asyncpg knows types inside a row only if it has met them
        agrees(ways, db, f"select null::{S}.pair as p, null::{S}.mood as m")
    outcome = agrees(ways, db, f"select {expression} as v, {expression} as w")[0]
    assert outcome == "returned" or S in expression


@pytest.mark.parametrize("type_name", [*CONVERTED, *SURVIVING])
def test_T2_a_result_given_back_as_an_argument_is_what_asyncpg_makes_of_it(
    ways: dict[str, Driven], db: Driven, type_name: str
) -> None:
    echo = f"select $1::{type_name} as v, ($1::{type_name})::text as t"
    for literal in {**CONVERTED, **SURVIVING}[type_name]:
        text = "null" if literal is None else f"$lit${literal}$lit$"
        try:
            theirs = db.fetchval(f"select {text}::{type_name}")
        except (asyncpg.FeatureNotSupportedError, asyncpg.InternalClientError, asyncpg.InterfaceError) as error:
            pytest.skip(str(error))  # xml, in a PostgreSQL built without it; types that asyncpg cannot read
        expected = outcome(lambda: db.fetchrow(echo, theirs))  # noqa: B023
        for way in ways.values():
            ours = way.fetchval(f"select {text}::{type_name}")
            assert outcome(lambda: way.fetchrow(echo, ours)) == expected  # noqa: B023


def test_T2_a_composite_value_behaves_as_a_record(ways: dict[str, Driven], schema: str) -> None:
    for way in ways.values():
        value = way.fetchval(
            f"select row(row(1, 'x'), 'sad', null, array[row(2, 'y')::{S}.pair], null)::{S}.outer_pair"
        )
        assert isinstance(value, Record)
        assert value["p"]["b"] == "x"
        assert value["ps"][0]["a"] == 2
        assert list(value.keys()) == ["p", "m", "r", "ps", "at"]
        assert repr(value["p"]) == "<Record a=1 b='x'>"
        assert dict(value["p"]) == {"a": 1, "b": "x"}


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_T2_types_of_extensions_are_asyncpgs(ways: dict[str, Driven], db: Driven, extension: str) -> None:
    literals = {"hstore": "a=>1, b=>NULL", "citext": "Ab", "ltree": "a.b.c", "cube": "(1,2)", "vector": "[1,2,3]"}
    if not db.fetchval("select count(*) from pg_available_extensions where name = $1", extension):
        pytest.skip(f"this PostgreSQL has no {extension}")
    installed = "select e.extnamespace::regnamespace::text from pg_extension e where extname = $1"
    home = db.fetchval(installed, extension)
    if home is None:
        db.execute(f"create extension {extension} schema {S}")
        home = S
    name, literal = f"{home}.{extension}", literals[extension]
    agrees(ways, db, f"select $${literal}$$::{name} as v, array[$${literal}$$, null]::{name}[] as a")
    agrees(ways, db, f"select $1::{name}::text as v, $2::{name}[]::text[] as a", literal, [literal, None])
    agrees(ways, db, f"select $1::{name} as v", {"a": "1"})


def test_T2_asyncpg_is_imported_with_the_first_value_that_needs_it(
    supervisors: dict[str, WatchedSupervisor], schema: str
) -> None:
    code = f"""
import sys
from datetime import date
from pgactor import Client
with Client({supervisors["off"].ipc!r}) as client:
    client.fetch("select row(1, 'x')::{S}.pair, null::int4range, '10.0.0.1'::inet, $1::{S}.pair", {{"a": 1}})
    client.fetch("select $1::timestamptz, $2::int4[]", date(2024, 1, 2), {{1: 2}}.keys())
    print("asyncpg" in sys.modules)
    print(client.fetchval("select '[1,5)'::int4range"), "asyncpg" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n<Range [1, 5)> True\n", done.stderr


# --- T3: arguments ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of ipaddress, at True
@pytest.mark.parametrize("type_name", TARGETS)
def test_T3_anything_as_an_argument_comes_to_what_asyncpg_makes_of_it(
    ways: dict[str, Driven], db: Driven, type_name: str
) -> None:
    sql = f"select $1::{type_name} as v, ($1::{type_name})::text as t"
    found = [each for value in ANYTHING for each in differences(ways, db, sql, value)]
    assert found == []


@pytest.mark.parametrize("type_name", TARGETS)
def test_T3_what_asyncpg_takes_of_a_class_of_its_own_is_taken_as_the_same(
    ways: dict[str, Driven], db: Driven, type_name: str
) -> None:
    """Where asyncpg refuses it, so do we, but in other words; or it is taken for what it is like."""
    sql = f"select $1::{type_name} as v, ($1::{type_name})::text as t"
    found = []
    for value in OF_A_CLASS_OF_ITS_OWN:
        theirs = outcome(lambda: db.fetchrow(sql, value))  # noqa: B023
        for name, way in ways.items():
            ours = outcome(lambda: way.fetchrow(sql, value))  # noqa: B023
            if not (ours == theirs if theirs[0] == "returned" else ours[:2] == theirs[:2] or ours[0] == "returned"):
                found.append((name, type(value).__name__, value, ours, theirs))
    assert found == []


@pytest.mark.parametrize("target", ["composite", "array", "path", "range", "text", "int"])
def test_T3_a_record_as_an_argument_is_what_asyncpgs_is_to_asyncpg(
    ways: dict[str, Driven], db: Driven, schema: str, target: str
) -> None:
    cases = {
        "composite": (f"select row(1, 'x')::{S}.pair", f"{S}.pair"),
        "array": ("select row(1, 2)", "int4[]"),
        "path": ("select '(1,2)'::point as a, '(3,4)'::point as b", "path"),
        "range": ("select 1 as a, 5 as b", "int4range"),
        "text": ("select 1 as a", "text"),
        "int": ("select 1 as a", "int4"),
    }
    source, type_name = cases[target]
    for sql in (f"select $1::{type_name} as v", f"select $1::{type_name}[] as v"):
        for wrap in (lambda row: row, lambda row: [row], lambda row: (row, row), lambda row: [[row]]):
            row = db.fetchrow(source)
            given = row[0] if target == "composite" else row
            expected = outcome(lambda: db.fetchrow(sql, wrap(given)))  # noqa: B023
            for way in ways.values():
                ours = way.fetchrow(source)
                for mine in (ours[0] if target == "composite" else ours, given):
                    got = outcome(lambda: way.fetchrow(sql, wrap(mine)))  # noqa: B023
                    # What Python itself says of a class that is written in C has the class's whole name.
                    assert portrait_of_refusal(got) == portrait_of_refusal(expected)


def portrait_of_refusal(result: Any) -> Any:
    return repr(result).replace("asyncpg.protocol.record.", "")


def test_T3_rows_as_an_array_are_what_they_are_to_asyncpg(ways: dict[str, Driven], db: Driven) -> None:
    rows = "select n, n * 2 as m from generate_series(1, 3) n"
    expected = db.fetchval("select $1::int4[]", db.fetch(rows))
    assert expected == [[1, 2], [2, 4], [3, 6]]
    for way in ways.values():
        assert way.fetchval("select $1::int4[]", way.fetch(rows)) == expected


def test_T3_tuple_and_list_stay_apart(ways: dict[str, Driven], db: Driven, schema: str) -> None:
    for way in ways.values():
        assert way.fetchval("select isclosed($1::path)", ((1, 2), (3, 4))) is True
        assert way.fetchval("select isclosed($1::path)", [(1, 2), (3, 4)]) is False
        assert way.fetchval(f"select ($1::{S}.pair[])[2]", [(1, "x"), (2, "y")]) == (2, "y")
        assert way.fetchval("select $1::int4[]", [[1, 2], [3, 4]]) == [[1, 2], [3, 4]]
    agrees(ways, db, f"select $1::{S}.pair[] as v", [[1, "x"], [2, "y"]])


def test_T3_a_plain_enum_is_an_error_that_says_what_to_give(ways: dict[str, Driven], schema: str) -> None:
    for way in ways.values():
        with pytest.raises(
            asyncpg.DataError, match=r"query argument \$1: .*Colour does not cross \(give its \.value\)"
        ):
            way.fetchval("select $1::text", Colour.RED)
        assert way.fetchval(f"select $1::{S}.mood", Mood.GLAD) == "glad"


def test_T3_what_cannot_cross_is_a_data_error_as_in_asyncpg(ways: dict[str, Driven], db: Driven) -> None:
    for value in (object(), (n for n in [1]), print, 1j):
        for type_name in ("text", "int4", "int4[]", "date"):
            sql = f"select $1::{type_name}"
            assert outcome(lambda: db.fetchval(sql, value))[1] is asyncpg.DataError  # noqa: B023
            for way in ways.values():
                with pytest.raises(asyncpg.DataError, match=r"query argument \$1: a value of type .* does not cross"):
                    way.fetchval(sql, value)


def test_T3_a_text_that_is_no_unicode_is_a_data_error_wherever_it_stands(
    ways: dict[str, Driven], db: Driven, schema: str
) -> None:
    for value in ("\ud800", (1, "\ud800"), {"b": "\ud800"}, [1, "\ud800"], [(1, "\ud800")], asyncpg.Range("\ud800")):
        for type_name in ("text", f"{S}.pair", f"{S}.pair[]", f"{S}.moods", "text[]"):
            sql = f"select $1::{type_name}"
            assert outcome(lambda: db.fetchval(sql, value))[1] is asyncpg.DataError  # noqa: B023
            for way in ways.values():
                with pytest.raises(asyncpg.DataError, match=r"query argument \$1: "):
                    way.fetchval(sql, value)
                with pytest.raises(asyncpg.DataError, match=r"query argument \$1 in element #0 "):
                    way.executemany(sql, [(value,)])


def test_T3_arguments_cross_the_same_way_in_executemany_and_in_a_batch(
    ways: dict[str, Driven], db: Driven, schema: str
) -> None:
    db.execute(
        f"create table if not exists {S}.kept (p {S}.pair, r int4range, bits varbit, c {S}.pair[], d timestamptz)"
    )
    sql = f"insert into {S}.kept values ($1, $2, $3, $4, $5)"
    rows = [
        ({"a": 1, "b": "x"}, asyncpg.Range(1, 5), bits("101"), [(1, "x"), None], date(2024, 7, 1)),
        ((1, "x"), (1, 5), b"\xa0", [{"a": 1}], datetime(2024, 7, 1)),
        (Pair(None, None), (), bits(""), [], None),
    ]
    select = f"select * from {S}.kept"

    def kept(run: Callable[[], Any]) -> Any:
        db.execute(f"truncate {S}.kept")
        run()
        return [portrait(row) for row in db.fetch(select)]

    expected = kept(lambda: db.executemany(sql, rows))
    for way in ways.values():
        assert kept(lambda: way.executemany(sql, rows)) == expected  # noqa: B023
        if way is not ways["lease"]:
            assert kept(lambda: way.batch([(sql, *row) for row in rows])) == expected  # noqa: B023
            (got,) = way.batch([select])
            assert [portrait(row) for row in got] == expected


# --- T4: the worker's time zone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "UTC"])
def test_T4_a_naive_datetime_and_a_date_mean_the_time_zone_of_the_worker(
    ways: dict[str, Driven], db: Driven, schema: str, zone: str
) -> None:
    moments = [
        *(
            datetime(2024, 7, 1, 12),
            datetime(2024, 1, 1, 0, 0, 0, 1),
            datetime(1890, 1, 1),
            datetime(2024, 3, 10, 2, 30),
        ),
        *(datetime(2024, 11, 3, 1, 30), datetime.min, datetime.max, datetime(1, 1, 1, 1)),
        datetime(2024, 7, 1, tzinfo=UTC),
        *(date(2024, 7, 1), date(2024, 1, 1), date.min, date.max, date(1, 1, 2), date(9999, 12, 30)),
    ]
    with local_time_zone(zone):
        agrees(ways, db, "select $1::timestamptz", datetime(2024, 11, 3, 1, 30, fold=1))
        for moment in moments:
            for type_name in (
                "timestamptz",
                "timestamp",
                "date",
                "time",
                "timetz",
                "interval",
                "text",
                "int4",
                "inet",
            ):
                agrees(ways, db, f"select $1::{type_name} as v, ($1::{type_name})::text as t", moment)
            agrees(ways, db, "select $1::timestamptz[] as v", [moment, None])
            agrees(ways, db, "select $1::tstzrange as v, $2::daterange as d", (moment, None), (moment,))
            agrees(ways, db, f"select $1::{S}.outer_pair as v", {"at": moment})


def test_T4_it_is_not_the_supervisors(ways: dict[str, Driven], schema: str) -> None:
    sql = "select extract(epoch from $1::timestamptz)::int8"
    for way in ways.values():
        for value in (date(2024, 1, 1), datetime(2024, 1, 1)):
            with local_time_zone("Asia/Kolkata"):
                there = way.fetchval(sql, value)
            with local_time_zone("UTC"):
                assert way.fetchval(sql, value) - there == timedelta(hours=5, minutes=30).total_seconds()


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, 0, 0, 1), datetime(9999, 12, 31, 23)])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_T4_a_naive_datetime_that_has_no_moment_in_the_workers_time_zone_is_a_data_error(
    ways: dict[str, Driven], db: Driven, zone: str, moment: datetime
) -> None:
    with local_time_zone(zone):
        assert outcome(lambda: db.fetchval("select $1::timestamptz", moment))[1] is asyncpg.DataError
        for way in ways.values():
            with pytest.raises(asyncpg.DataError, match=r"datetime\(.* (out of range|is out of range)"):
                way.fetchval("select $1::timestamptz", moment)
            assert way.fetchval("select $1::timestamp", moment) == moment


def test_T4_an_aware_datetime_for_a_timestamp_stays_an_error(ways: dict[str, Driven], db: Driven) -> None:
    result = agrees(ways, db, "select $1::timestamp", datetime(2024, 1, 1, tzinfo=UTC))
    assert result[1] is asyncpg.DataError


# --- T5: errors of decoding ---------------------------------------------------------------------------------------

UNREADABLE = [
    ("'0044-03-15 BC'::date", ValueError),
    ("'4713-01-01 00:00 BC'::timestamp", OverflowError),
    ("'0044-03-15 00:00+00 BC'::timestamptz", OverflowError),
    ("'10000-01-01'::date", ValueError),
    ("'10000-01-01'::timestamp", OverflowError),
    ("'10000-01-01 00:00+00'::timestamptz", OverflowError),
    ("'24:00'::time", ValueError),
    ("'24:00+00'::timetz", ValueError),
    ("array['0044-03-15 BC'::date]", ValueError),
    ("array['10000-01-01'::timestamp]", OverflowError),
    ("daterange('2024-01-01', '10000-01-01')", ValueError),
    ("row('10000-01-01'::timestamp)", OverflowError),
    ("array['24:00'::time]", ValueError),
]


@pytest.mark.parametrize(("expression", "error"), UNREADABLE)
@pytest.mark.parametrize("method", ["fetch", "fetchrow", "fetchval", "execute"])
def test_T5_errors_of_decoding_cross(
    ways: dict[str, Driven], db: Driven, expression: str, error: type[Exception], method: str
) -> None:
    result = agrees(ways, db, f"select 1 as one, {expression} as v", method=method)
    assert method == "execute" or result[1] is error
    result = agrees(ways, db, f"select $1::int as one, {expression} as v", 1, method=method)
    assert result[1] is error
    for way in ways.values():
        assert way.fetchval("select 1") == 1


@pytest.mark.parametrize("method", ["fetch", "fetchrow", "fetchval", "execute"])
@pytest.mark.parametrize("args", [(), ("x",)], ids=["no arguments", "with arguments"])
@pytest.mark.parametrize("year", [2024, 10000])
def test_T5_a_write_whose_row_cannot_be_read_raises_and_is_stored_as_in_asyncpg(
    ways: dict[str, Driven], db: Driven, schema: str, method: str, args: tuple[str, ...], year: int
) -> None:
    note = "$1::text" if args else "'x'"
    sql = f"insert into {S}.t (at, note) values ('{year}-01-01 00:00+00', {note}), (now(), 'y') returning at::date"
    db.execute(f"truncate {S}.t")
    result = outcome(lambda: getattr(db, method)(sql, *args))
    assert (result[0] == "raised") is (year == 10000 and (method != "execute" or args != ()))
    assert db.fetchval(f"select count(*) from {S}.t") == 2
    for way in ways.values():
        db.execute(f"truncate {S}.t")
        got = outcome(lambda: getattr(way, method)(sql, *args))  # noqa: B023
        assert got == result if result[0] == "raised" else got[0] == "returned"
        assert db.fetchval(f"select count(*) from {S}.t") == 2


def test_T5_a_text_that_cannot_be_decoded_raises_the_same(ways: dict[str, Driven], db: Driven) -> None:
    error = UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "invalid start byte")
    arrived = crossed(error)
    assert type(arrived) is UnicodeDecodeError
    assert (str(arrived), arrived.args) == (str(error), error.args)


# --- T6: errors of PostgreSQL and of asyncpg ------------------------------------------------------------------------


def crossed(error: BaseException, query: str | None = None) -> BaseException:
    message = failed(1, error)
    return exception(msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Failed), query)


def sqlstates() -> list[str]:
    found = [each for each in vars(asyncpg.exceptions).values() if isinstance(each, type)]
    return sorted({state for each in found if (state := getattr(each, "sqlstate", None))})


def test_T6_every_sqlstate_is_rebuilt_with_its_class_fields_and_query() -> None:
    assert len(sqlstates()) > 250
    letters = {"S": "ERROR", "V": "ERROR", "M": "no", "D": "d", "H": "h", "P": "7", "p": "3", "q": "select", "W": "w",
               "s": "s", "t": "t", "c": "c", "d": "dt", "n": "n", "F": "f.c", "L": "12", "R": "r"}  # fmt: skip
    for state in [*sqlstates(), "P7777", "XX999", "ZZ000"]:
        error = asyncpg.PostgresError.new({**letters, "C": state}, query="select 1")
        arrived: Any = crossed(error, "select 1")
        assert type(arrived) is type(error)
        assert (str(arrived), arrived.args) == (str(error), error.args)
        assert arrived.as_dict() == error.as_dict()
        assert vars(arrived) == vars(error)


def test_T6_classes_of_asyncpgs_own_are_rebuilt_with_what_they_carry() -> None:
    for name, cls in vars(asyncpg.exceptions).items():
        if isinstance(cls, type) and issubclass(cls, asyncpg.InterfaceError) and name != "InterfaceMessage":
            arrived = crossed(cls("no", detail="d", hint="h"))
            assert type(arrived) is cls
            assert (str(arrived), arrived.detail, arrived.hint) == (str(cls("no", detail="d", hint="h")), "d", "h")
    for cause in (AttributeError("x"), TypeError("y"), ValueError("z")):
        error = asyncpg.DataError("no")
        error.__cause__ = cause
        assert (type(crossed(error).__cause__), str(crossed(error).__cause__)) == (type(cause), str(cause))


RAISE = """
    do $$ begin raise exception 'told %', 1 using errcode = 'P7777', detail = 'd', hint = 'h', column = 'c',
        constraint = 'k', datatype = 'dt', table = 't', schema = 's'; end $$
"""

FAILING: list[tuple[str, tuple[Any, ...]]] = [
    ("selec 1", ()),
    ("select 1 / $1::int", (0,)),
    ("select no_column", ()),
    ("select * from no_table", ()),
    (RAISE, ()),
    (f"insert into {S}.once values ($1)", (1,)),
    (f"insert into {S}.once values ($1)", (None,)),
    (f"insert into {S}.once values ($1)", (-1,)),
    (f"insert into {S}.once (other) values ($1)", (77,)),
    ("select $1::int", ("x",)),
    ("select $1::int", ()),
    ("select $1::int", (1, 2)),
    ("select 1", (1,)),
    ("select $1::record", ((1, 2),)),
    (f"select $1::{S}.mood", ("angry",)),
    (f"select $1::{S}.age", (-1,)),
    ("select $1::jsonb", ("{",)),
    ("select $1::numeric", ("abc",)),
    ("select 'x'::int", ()),
    ("select 1; select $1::int", (1,)),
    (f"select {S}.fails($1)", (0,)),
    ("select pg_catalog.pg_sleep(-1)::int4range", ()),
    (RAISE.replace("P7777", "01000"), ()),
    (RAISE.replace("P7777", "XX999"), ()),
]


@pytest.fixture(scope="module")
def failing(db: Driven, schema: str) -> None:
    db.execute(f"""
        create table {S}.once (id int primary key check (id > 0), other int references {S}.once (id));
        insert into {S}.once values (1);
        create function {S}.fails(n int) returns int language plpgsql as $$ begin return 1 / n; end $$;
    """)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(("sql", "args"), FAILING)
@pytest.mark.parametrize("method", ["fetch", "execute"])
def test_T6_errors_have_all_fields_the_query_and_the_cause(
    ways: dict[str, Driven], db: Driven, sql: str, args: tuple[Any, ...], method: str
) -> None:
    assert agrees(ways, db, sql, *args, method=method)[0] == "raised"


def test_T6_an_error_of_an_altered_composite_type_is_asyncpgs(
    supervisors: dict[str, WatchedSupervisor], open_client: OpenClient, db: Driven, schema: str
) -> None:
    db.execute(f"create type {S}.changing as (a int)")
    clients = [open_client(supervisors[lane], "sync-ipc") for lane in LANES]
    sql = f"select row(1)::{S}.changing"
    with clients[0].acquire() as lease:
        everyone = [db, lease, clients[1]]
        assert [each.fetchval(sql) for each in everyone] == [(1,)] * 3
        db.execute(f"alter type {S}.changing add attribute b int")
        sql = f"select row(1, 2)::{S}.changing"
        results = [outcome(lambda: each.fetchval(sql)) for each in everyone]  # noqa: B023
        assert results[0][1] is asyncpg.OutdatedSchemaCacheError
        assert results == [results[0]] * 3
        assert [each.fetchval(sql) for each in everyone] == [(1, 2)] * 3


def test_T2_ints_of_any_size_and_special_decimals_come_back_the_same(ways: dict[str, Driven]) -> None:
    for value in (10**30, -(10**100), 2**64, 2**63 - 1):
        for way in ways.values():
            assert way.fetchval("select $1::numeric", value) == Decimal(value)
    for text in ("NaN", "Infinity", "-Infinity", "1E+100", "0E-20", "-0.000"):
        for way in ways.values():
            assert str(way.fetchval("select $1::numeric", Decimal(text)).normalize()) in (
                str(Decimal(text).normalize()),
                str(Decimal(text).normalize()).removeprefix("-"),  # PostgreSQL has no negative zero
            )
