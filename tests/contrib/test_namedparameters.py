"""psqlpy's `$(name)p`, made `$1`."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgactor.contrib.namedparameters import positional
from pgactor.errors import ClientError


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select $(a)p", "select $1"),
        ("select $(a)p, $(b)p, $(a)p", "select $1, $2, $1"),
        ("select $(a)p::int+$(b)p", "select $1::int+$2"),
        ("select '$(x)p', $(a)p", "select '$(x)p', $1"),
        ("select 'it''s $(x)p', $(a)p", "select 'it''s $(x)p', $1"),
        (r"select '\', $(a)p", r"select '\', $1"),
        (r"select E'\'$(x)p', $(a)p", r"select E'\'$(x)p', $1"),
        (r"select e'a''\\', $(a)p, '$(x)p'", r"select e'a''\\', $1, '$(x)p'"),
        ("select date'$(x)p', $(a)p", "select date'$(x)p', $1"),
        ('select "$(x)p""$(x)p", $(a)p', 'select "$(x)p""$(x)p", $1'),
        ("select $$ $(x)p $$, $(a)p", "select $$ $(x)p $$, $1"),
        ("select $t$ $$ $(x)p $t$, $(a)p", "select $t$ $$ $(x)p $t$, $1"),
        ("select 1 -- $(x)p 'x\n, $(a)p", "select 1 -- $(x)p 'x\n, $1"),
        ("select /* $(x)p /* ' */ $(x)p */ $(a)p", "select /* $(x)p /* ' */ $(x)p */ $1"),
        ("select 1 /* $(x)p", "select 1 /* $(x)p"),
        ("select 'open $(x)p", "select 'open $(x)p"),
        ("select $(a-b c)p", "select $1"),
        ("select a$(x)p", "select a$(x)p"),
        ("select 1", "select 1"),
    ],
)
def test_names_become_numbers_outside_of_literals_and_comments(sql: str, expected: str) -> None:
    names = [name for name in ("a", "b", "a-b c") if f"$({name})p" in sql]
    found, args = positional(sql, {name: ord(name[-1]) for name in names})
    assert found == expected
    assert args == [ord(name[-1]) for name in names]


def test_values_come_in_the_order_of_their_first_places() -> None:
    assert positional("$(b)p $(a)p $(b)p", {"a": 1, "b": None}) == ("$1 $2 $1", [None, 1])


@pytest.mark.parametrize(
    ("sql", "parameters", "words"),
    [
        ("select $(a)p", {}, r"parameter \$\(a\)p, and no value"),
        ("select $(a)p", {"a": 1, "b": 2}, r"value is given for 'b', and the statement has no parameter \$\(b\)p"),
        ("select '$(a)p'", {"a": 1}, "value is given for 'a'"),
        ("select $(a)p, $1", {"a": 1}, r"named parameters and \$1"),
        ("select $()p", {}, "without a name"),
    ],
)
def test_what_does_not_fit_together_is_refused(sql: str, parameters: dict[str, int], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        positional(sql, parameters)


@given(st.text(string.ascii_letters[:3] + "'\"$()p-/*\\\n1e ", max_size=40))
def test_any_text_is_rewritten_or_refused_and_what_is_rewritten_has_no_names_left(sql: str) -> None:
    try:
        once, _ = positional(sql, {})
    except ClientError:
        return
    assert once == sql
