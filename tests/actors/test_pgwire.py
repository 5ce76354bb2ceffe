"""The messages of the extended query protocol."""

from __future__ import annotations

import pytest

from pgactor.actors import pgwire
from pgactor.actors.pgwire import Field

from .scripts import INT4, TEXT, error, gives, message, spoken, tag, takes


def test_a_statement_is_prepared_described_and_synced() -> None:
    said = pgwire.close(b"old") + pgwire.parse_and_describe(b"new", "select 'ä'")
    assert list(spoken(said)) == ["close old", "parse new: select 'ä'", "describe new", "sync"]


@pytest.mark.parametrize(("limit", "asked"), [(0, 0), (1, 1), (2**31 - 1, 2**31 - 1), (2**31, 2**31 - 1)])
def test_no_more_rows_are_asked_for_than_postgresql_can_count(limit: int, asked: int) -> None:
    assert list(spoken(pgwire.execute(limit))) == [f"execute {asked}"]


def test_what_is_written_out_is_what_is_made() -> None:
    assert pgwire.execute(0) == pgwire.EXECUTE_ALL
    assert message("S") == pgwire.SYNC
    assert message("2") == pgwire.BOUND
    assert message("Z", b"I") == pgwire.READY_IDLE
    assert message("s") + message("Z", b"I") == pgwire.SUSPENDED_IDLE
    assert pgwire.command_complete(b"SELECT 1") == tag("SELECT 1")


def test_a_description_is_read() -> None:
    assert pgwire.parameter_types(takes(INT4, TEXT)[5:]) == (INT4, TEXT)
    assert pgwire.parameter_types(takes()[5:]) == ()
    assert pgwire.fields(gives(INT4, TEXT)[5:]) == (Field("a", INT4), Field("b", TEXT))
    assert pgwire.fields(gives()[5:]) == ()
    assert pgwire.parameter_types(takes(2**32 - 1)[5:]) == (2**32 - 1,)


def test_a_description_that_breaks_off_anywhere_is_none() -> None:
    for whole, read in ((takes(INT4, TEXT)[5:], pgwire.parameter_types), (gives(INT4, TEXT)[5:], pgwire.fields)):
        for place in range(len(whole)):
            with pytest.raises(ValueError):
                read(whole[:place])
        with pytest.raises(ValueError):
            read(whole + b"\0")


def test_an_error_is_read_by_its_letters_whatever_its_encoding() -> None:
    assert pgwire.error_fields(error("22012", text="división")[5:]) == {
        "S": "ERROR",
        "V": "ERROR",
        "C": "22012",
        "M": "división",
        "F": "x.c",
        "L": "1",
        "R": "somewhere",
    }
    assert pgwire.error_fields(b"Mcaf\xe9\0\0") == {"M": "caf�"}
    assert pgwire.error_fields(b"") == {}
