"""Statements that tell in a comment where they come from."""

from __future__ import annotations

import pytest

from pgactor.client import calls, comments
from pgactor.core.statement import Statement

SAMPLED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def commented(sql: str, label: str = "GET /orders", traceparent: str = "") -> str:
    request = calls.fetch(sql, (), None, None)
    request.label, request.traceparent = label, traceparent
    comments.add(request)
    return request.sql


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", "select 1 /*route='GET%20%2Forders'*/"),
        ("select 1;", "select 1 /*route='GET%20%2Forders'*/;"),
        ("select 1 ;\n", "select 1  /*route='GET%20%2Forders'*/;"),
        ("", " /*route='GET%20%2Forders'*/"),
    ],
)
def test_the_comment_comes_last_but_for_the_semicolon(sql: str, expected: str) -> None:
    assert commented(sql) == expected


def test_nothing_to_tell_is_no_comment() -> None:
    assert commented("select 1; ", label="") == "select 1; "


def test_a_label_cannot_end_the_comment() -> None:
    text = commented("select 1", label="*/; drop table users; --' /*")
    assert text.count("*/") == text.count("/*") == 1
    assert text.endswith("'*/")
    assert ";" not in text


def test_only_a_trace_that_is_sampled_is_told() -> None:
    assert commented("select 1", "", SAMPLED) == f"select 1 /*traceparent='{SAMPLED}'*/"
    assert commented("select 1", "", SAMPLED[:-1] + "3") == f"select 1 /*traceparent='{SAMPLED[:-1]}3'*/"
    assert commented("select 1", "", SAMPLED[:-1] + "2") == "select 1"
    assert commented("select 1", "job", SAMPLED) == f"select 1 /*route='job',traceparent='{SAMPLED}'*/"


def test_each_statement_of_a_batch_has_it() -> None:
    request = calls.batch(["delete from a", ("insert into b values ($1)", 1)], None)
    request.label = "job"
    comments.add(request)
    assert request.statements == [
        ("delete from a /*route='job'*/", []),
        ("insert into b values ($1) /*route='job'*/", [1]),
    ]


def test_a_prepared_statement_keeps_its_text() -> None:
    request = calls.fetchmany("select $1", [(1,)], None, None)
    request.label, request.statement = "job", 7
    comments.add(request)
    assert request.sql == "select $1"


@pytest.mark.parametrize("sql", ["select 1", "select 1;", "insert into a values (1)"])
def test_a_commented_statement_still_leaves_nothing(sql: str) -> None:
    assert Statement(commented(sql)).leaves_nothing
