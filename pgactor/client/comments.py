"""Comments in the statements' texts, by which PostgreSQL's own views and log tell where they come from, as
sqlcommenter writes them: /*route='GET%20%2Forders',traceparent='00-...'*/

Each text is a statement of its own to PostgreSQL and to the supervisor. There are few labels, so they may stand in
all of them; a traceparent is another one each time, and stands only in those of traces that are sampled.
"""

from __future__ import annotations

from urllib.parse import quote

from ..messages import Batch, Execute, ExecuteMany, Fetch, FetchMany, Request


def add(request: Request) -> None:
    """Write the request's label and the trace that it belongs to into its text."""
    if isinstance(request, Batch):
        if comment := _comment(request.label, request.traceparent):
            request.statements = [(_with(sql, comment), args) for sql, args in request.statements]
    elif (
        isinstance(request, Execute | ExecuteMany | Fetch | FetchMany)
        and getattr(request, "statement", None) is None  # a prepared one has the text that it was prepared with
        and (comment := _comment(request.label, request.traceparent))
    ):
        request.sql = _with(request.sql, comment)


def _comment(label: str, traceparent: str) -> str:
    sampled = traceparent and int(traceparent[-2:], 16) & 1  # the last of its flags
    fields = {"route": label, "traceparent": traceparent if sampled else ""}
    told = ",".join(f"{name}='{quote(value, safe='')}'" for name, value in fields.items() if value)
    return f"/*{told}*/" if told else ""


def _with(sql: str, comment: str) -> str:
    """The text with the comment at its end: before the semicolon, as nothing but white space may follow that in a
    single statement."""
    text = sql.rstrip()
    return f"{text[:-1]} {comment};" if text.endswith(";") else f"{text} {comment}"
