"""psqlpy's named parameters: `$(name)p` in a statement, and a mapping of values -> `$1` and a list of them.

    sql, args = positional("select * from users where id = $(id)p", {"id": 42})
    client.fetch(sql, *args)

A name that is used twice is one parameter. What stands in literals, quoted names and comments is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ..errors import ClientError

_PIECE = re.compile(
    r"""
      (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z)                # E'literal'
    | '(?:[^']|'')*+(?:'|\Z)                                    # 'literal'
    | "(?:[^"]|"")*+(?:"|\Z)                                    # "name"
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)   # $tag$literal$tag$
    | --[^\r\n]*                                                # comment
    | (?P<comment>/\*)
    | (?<![\w$])\$\((?P<name>[^()]*)\)p
    | (?<![\w$])(?P<number>\$\d+)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")


def positional(sql: str, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The statement with `$1`, `$2` ... in the place of its named parameters, and their values in this order.

    Raises `ClientError` for a name that has no value, a value that has no place, and a statement that has `$1`, too.
    """
    rewritten, names = _rewritten(sql)
    if missing := [name for name in names if name not in parameters]:
        raise ClientError(f"the statement has a parameter $({missing[0]})p, and no value is given for it")
    if len(names) < len(parameters):
        unused = next(name for name in parameters if name not in names)
        raise ClientError(f"a value is given for {unused!r}, and the statement has no parameter $({unused})p")
    return rewritten, [parameters[name] for name in names]


@lru_cache(512)
def _rewritten(sql: str) -> tuple[str, tuple[str, ...]]:
    places: dict[str, int] = {}
    parts: list[str] = []
    number = ""
    at = 0
    for found in _pieces(sql):
        name = found["name"]
        number = number or found["number"] or ""
        if name is None:
            continue
        if not name.strip():
            raise ClientError("the statement has a parameter $()p without a name")
        place = places.setdefault(name, len(places) + 1)
        parts += sql[at : found.start()], f"${place}"
        at = found.end()
    if places and number:
        raise ClientError(f"the statement has named parameters and {number}: give names to all, or to none")
    return "".join((*parts, sql[at:])), tuple(places)


def _pieces(sql: str) -> Iterator[re.Match[str]]:
    """What is found outside of comments, which may be nested."""
    at = 0
    while found := _PIECE.search(sql, at):
        at = found.end()
        if not found["comment"]:
            yield found
            continue
        depth = 1
        while depth and (mark := _COMMENT.search(sql, at)):
            depth += 1 if mark[0] == "/*" else -1
            at = mark.end()
        if depth:
            return  # it does not end, as PostgreSQL will say
