"""Writes protocols/schema, protocols/vectors and the tables of protocols/README.md from the code.

python -m protocols.generate            writes what has changed
python -m protocols.generate --check    writes nothing; names what has drifted and exits 1
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from pgactor import errors, messages, rows, values, wire, zmtp
from pgactor.messages import PROTOCOL_VERSION, Token
from pgactor.messages.histogram import Histogram
from pgactor.messages.pool import HolderStatus, LeaseStatus, PoolStatus, StatementStatus, WorkerStatus
from pgactor.messages.session import TypeInfo, TypeParts
from pgactor.messages.unions import FromSupervisor, FromWorker
from pgactor.rows import Column, ColumnKind, RowEncoder

from . import cases, forms
from .meanings import EXT, KINDS, MESSAGES, STRUCTS, Meaning

HERE = Path(__file__).parent
DIRECTIONS: tuple[tuple[str, Any], ...] = (
    ("from_worker", FromWorker),
    ("from_supervisor", FromSupervisor),
)
_STRUCTS: dict[str, type[msgspec.Struct]] = {
    struct.__name__: struct
    for struct in (
        Token,
        Column,
        TypeInfo,
        TypeParts,
        HolderStatus,
        LeaseStatus,
        WorkerStatus,
        Histogram,
        StatementStatus,
        PoolStatus,
    )
}


def generate() -> dict[str, str]:
    """The text of every generated file, by its path below protocols/."""
    check_meanings()
    files = {f"schema/{name}.json": forms.dump_json(schema(name, union)) for name, union in DIRECTIONS}
    files["vectors/from_worker.json"] = _messages_json("from_worker", cases.FROM_WORKER)
    files["vectors/from_supervisor.json"] = _messages_json("from_supervisor", cases.FROM_SUPERVISOR)
    files["vectors/other_versions.json"] = _file(
        "Frames of newer and older workers, and what a supervisor of this version reads in them.",
        [
            {
                "name": case.name,
                "messages": [case.form],
                "hex": forms.from_form([case.form]).hex(),
                "read_as": forms.to_form(wire.encode([case.message])),
            }
            for case in cases.OTHER_VERSIONS
        ],
    )
    files["vectors/values.json"] = _file(
        "Values, as arguments and as results in columns of kind any. value: for people. worker_offset: the "
        "argument's encoding depends on the time zone of the worker, which is this.",
        [_value(case) for case in cases.VALUES],
    )
    files["vectors/bad_values.json"] = _file(
        "Ext values that a reader refuses, whatever message they are in.",
        [{"name": case.name, "ext": int(case.code), "payload": case.payload.hex()} for case in cases.BAD_VALUES],
    )
    files["vectors/rows.json"] = _file(
        "The data of a rows message, by the columns of its shape.",
        [_rows(case) for case in cases.ROWS],
    )
    files["vectors/bad_frames.json"] = _file(
        "Frames from a worker with something wrong in them. frame: pieces in hex, each repeated so many times. "
        "max_frame_bytes: the reader's cap. error: the frame is refused as a whole, with this code. read: what each "
        "of its messages is: true: good, else the id of the malformed message or null. greeted: hello was said "
        "before on this link. replies: the id and the code (of failed) or the tag of each answer, in this order, by "
        f"a supervisor of epoch {cases.EPOCH} without leases. closes: the supervisor closes the link.",
        [_bad_frame(case) for case in cases.BAD_FRAMES],
    )
    files["README.md"] = readme((HERE / "README.md").read_text(encoding="utf-8"))
    return files


def drifted() -> list[str]:
    """The generated files that are not what the code says; files that nobody generates any more too."""
    expected = generate()
    stray = {
        f"{folder}/{path.name}" for folder in ("schema", "vectors") for path in (HERE / folder).glob("*")
    } - expected.keys()
    changed = {
        name
        for name, text in expected.items()
        if not (HERE / name).exists() or (HERE / name).read_text(encoding="utf-8") != text
    }
    return sorted(changed | stray)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write(__doc__ or "")
        return 2
    names = drifted()
    if arguments:
        for name in names:
            sys.stderr.write(f"protocols/{name} has drifted from the code: run python -m protocols.generate\n")
        return 1 if names else 0
    expected = generate()
    for name in names:
        path = HERE / name
        if name in expected:
            path.parent.mkdir(exist_ok=True)
            path.write_text(expected[name], encoding="utf-8")
        else:
            path.unlink()
        sys.stdout.write(f"protocols/{name}\n")
    return 0


# --- what the code says ---------------------------------------------------------------------------------------


BOTH_WAYS = set(typing.get_args(FromWorker)) & set(typing.get_args(FromSupervisor))


def structs_of(union: Any) -> list[type[messages.Message]]:
    """The messages of one direction, in the order of messages/unions.py."""
    return list(typing.get_args(union))


def tag_of(struct: type[msgspec.Struct]) -> str:
    return str(struct.__struct_config__.tag)


def all_meanings() -> Iterator[tuple[type[msgspec.Struct], Meaning]]:
    for struct in dict.fromkeys(struct for _, union in DIRECTIONS for struct in structs_of(union)):
        yield struct, MESSAGES[tag_of(struct)]
    for name, meaning in STRUCTS.items():
        yield _STRUCTS[name], meaning


def check_meanings() -> None:
    """Raise ValueError if meanings.py has less or more than the code."""
    tags = {tag_of(struct) for _, union in DIRECTIONS for struct in structs_of(union)}
    _same("messages", tags, MESSAGES)
    for struct, meaning in all_meanings():
        _same(f"the fields of {struct.__name__}", struct.__struct_fields__, meaning.fields)
    _same("the ext types", values.ExtCode, EXT)
    _same("the column kinds", ColumnKind, KINDS)


def _same(what: str, code: Iterable[Any], meanings: Iterable[Any]) -> None:
    if set(code) != set(meanings):
        raise ValueError(
            f"protocols/meanings.py: {what}: they differ in {sorted(map(str, set(code) ^ set(meanings)))}"
        )


# --- the schema -----------------------------------------------------------------------------------------------


def schema(name: str, union: Any) -> dict[str, Any]:
    """The JSON Schema of one message of a direction: msgspec's, with names and meanings put to the elements."""
    made = msgspec.json.schema(union)
    known = {struct.__name__: (struct, meaning) for struct, meaning in all_meanings()}
    for title, definition in made["$defs"].items():
        definition.pop("description", None)
        if title not in known:
            continue
        struct, meaning = known[title]
        definition["description"] = _plain(meaning.summary)
        if "properties" in definition:
            for key, element in definition["properties"].items():
                _explain(element, meaning.fields[key])
            continue
        elements = definition["prefixItems"]
        if meaning.what:
            elements[0]["title"] = "tag"
            elements = elements[1:]
        for element, field in zip(elements, struct.__struct_fields__, strict=True):
            element["title"] = field
            _explain(element, meaning.fields[field])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"pgactor protocol {PROTOCOL_VERSION}: one message {name.replace('_', ' the ')}",
        "description": "Of the JSON form of a message (see protocols/README.md). A frame is an array of them. "
        "Elements beyond those named here are to be ignored. Values (arguments, rows) are not restricted here.",
        **made,
    }


def _explain(element: dict[str, Any], meaning: str) -> None:
    if "$ref" in element:
        element["allOf"] = [{"$ref": element.pop("$ref")}]
    element["description"] = _plain(meaning)


def _plain(text: str) -> str:
    return text.replace("`", "'").replace("nil", "null")


# --- the vectors ----------------------------------------------------------------------------------------------


def _file(about: str, entries: list[dict[str, Any]]) -> str:
    return forms.dump_json({"protocol_version": PROTOCOL_VERSION, "about": about, "cases": entries})


def _messages_json(direction: str, entries: Iterable[cases.MessageCase]) -> str:
    return _file(
        f"Frames {direction.replace('_', ' the ')}: its messages in the JSON form, and its bytes.",
        [{"name": case.name, "messages": forms.to_form(case.frame), "hex": case.frame.hex()} for case in entries],
    )


def _value(case: cases.ValueCase) -> dict[str, Any]:
    packed = case.argument if case.in_zone else values.pack_argument(case.value)
    entry: dict[str, Any] = {"name": case.name, "value": _value_text(case.value)}
    if case.in_zone:
        entry["worker_offset"] = case.in_zone
    for direction, data in (("argument", packed), ("result", values.pack_result(case.value))):
        encoded = msgspec.msgpack.encode(data)
        entry[direction] = {"form": forms.to_form(encoded), "hex": encoded.hex()}
    return entry


def _value_text(value: object) -> str:
    if isinstance(value, asyncpg.Path):  # a polygon, too; it has no text of its own
        return f"{'closed' if value.is_closed else 'open'}: {', '.join(map(str, value.points))}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _rows(case: cases.RowsCase) -> dict[str, Any]:
    data = RowEncoder(case.columns).encode(case.rows)
    return {
        "name": case.name,
        "columns": forms.to_form(msgspec.msgpack.encode(case.columns)),
        "rows": forms.to_form(data),
        "hex": data.hex(),
    }


def _bad_frame(case: cases.BadFrame) -> dict[str, Any]:
    outcome = {"error": case.error} if case.error else {"read": list(case.read)}
    return {
        "name": case.name,
        "frame": [[piece.hex(), times] for piece, times in case.frame if piece],
        "max_frame_bytes": case.cap,
        **outcome,
        "greeted": case.greeted,
        "replies": [list(reply) for reply in case.replies],
        "closes": case.closes,
    }


# --- the tables of README.md ----------------------------------------------------------------------------------


def readme(text: str) -> str:
    """The text with what is between each pair of markers made anew. Raises ValueError if a marker is missing."""
    for name, make in _PARTS.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end of generated -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"protocols/README.md: expected the markers of `{name}` once")
        part = f"{begin}\n{make()}\n\n{end}"
        text = pattern.sub(lambda _, part=part: part, text)  # type: ignore[misc]
    return text


def _table(heads: tuple[str, ...], lines: Iterable[tuple[object, ...]]) -> str:
    cells = [heads, tuple("---" for _ in heads), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in cells)


def _overview(union: Any) -> Callable[[], str]:
    def make() -> str:
        return _table(
            ("tag", "what", "meaning", "answer"),
            (
                (f"[`{tag_of(s)}`](#{tag_of(s)})", meaning.what, meaning.summary, meaning.answer)
                for s, meaning in all_meanings()
                if s in structs_of(union)
            ),
        )

    return make


def _messages_part(structs: Collection[type[messages.Message]]) -> Callable[[], str]:
    return lambda: "\n\n".join(
        f"#### {tag_of(struct)}\n\n{_described(meaning)}\n\n{_fields(struct, meaning, tagged=True)}"
        for struct, meaning in all_meanings()
        if struct in structs
    )


def _structs_part() -> str:
    return "\n\n".join(
        f"#### {struct.__name__}\n\n{meaning.summary}\n\n{_fields(struct, meaning, tagged=False)}"
        for struct, meaning in all_meanings()
        if not meaning.what
    )


def _described(meaning: Meaning) -> str:
    answer = f" Answered by {meaning.answer}." if meaning.answer else ""
    return f"*{meaning.what.capitalize()}.* {meaning.summary}{answer}"


def _fields(struct: type[msgspec.Struct], meaning: Meaning, *, tagged: bool) -> str:
    if not struct.__struct_config__.array_like:
        return _table(
            ("key", "type", "default", "meaning"),
            (
                (f"`{f.name}`", type_text(f.type), _default(f), meaning.fields[f.name])
                for f in msgspec.structs.fields(struct)
            ),
        )
    first = [(0, "", "str", "", f'`"{tag_of(struct)}"`')] if tagged else []
    return _table(
        ("#", "field", "type", "default", "meaning"),
        first
        + [
            (at, f"`{f.name}`", type_text(f.type), _default(f), meaning.fields[f.name])
            for at, f in enumerate(msgspec.structs.fields(struct), len(first))
        ],
    )


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return "empty"
    if field.default is msgspec.NODEFAULT:
        return ""
    return msgspec.json.encode(field.default).decode().replace("null", "nil")


_TYPES = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    types.NoneType: "nil",
    Any: "any",
    msgspec.Raw: "array of rows",
}


def type_text(kind: Any) -> str:
    """A field's type in msgpack's words."""
    kind = getattr(kind, "__supertype__", kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is list:
        return "array of values" if arguments == (Any,) else f"array of {_plural(type_text(arguments[0]))}"
    if origin is typing.Literal:
        return "str"
    if origin is tuple and len(arguments) == 2 and arguments[0] is not arguments[1]:
        return f"pair of {' and '.join(type_text(argument) for argument in arguments)}"
    if origin is tuple and len(set(arguments)) > 1:
        return f"array of exactly {', '.join(type_text(argument) for argument in arguments)}"
    if origin is tuple:
        return f"array of exactly {len(arguments)} {_plural(type_text(arguments[0]))}"
    if origin is dict:
        return f"map of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if kind in _TYPES:
        return _TYPES[kind]
    if inspect.isclass(kind) and issubclass(kind, messages.Message):
        return f"[`{tag_of(kind)}`](#{tag_of(kind)})"
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if kind is ColumnKind:
        return "str"
    raise ValueError(f"no words for the type {kind}")


def _plural(text: str) -> str:
    return re.sub(r"^(array|pair)\b", r"\1s", text)


def _errors() -> str:
    return _table(
        ("code", "class", "retry", "meaning"),
        (
            (f"`{code}`", f"`{cls.__name__}`", "yes" if cls.retry else "", _error_text(cls))
            for code, cls in errors.BY_CODE.items()
        ),
    )


def _error_text(cls: type[errors.PgactorError]) -> str:
    if cls is errors.PgactorError:
        return "An error that has no code of its own."
    return " ".join((cls.__doc__ or "").split())


def _ext() -> str:
    example: dict[int, str] = {}
    for case in cases.VALUES:
        argument = case.argument if case.in_zone else values.pack_argument(case.value)
        for value in (argument, values.pack_result(case.value)):
            if isinstance(value, msgspec.msgpack.Ext):
                example.setdefault(value.code, bytes(value.data).hex(" "))
    return _table(
        ("type", "name", "stands for", "payload", "example of a payload"),
        ((int(code), code.name, *EXT[code], f"`{example[code]}`") for code in values.ExtCode),
    )


def _kinds() -> str:
    example = {case.columns[0].kind: case for case in cases.ROWS if len(case.columns) == 1}
    return _table(
        ("kind", "a value is", "PostgreSQL types", "example"),
        (
            (f"`{kind.value}`", KINDS[kind], ", ".join(_types_of(kind)), _example(example[kind]))
            for kind in ColumnKind
        ),
    )


_POSTGRES_TYPES = {
    "bool": 16, "int2": 21, "int4": 23, "int8": 20, "oid": 26, "float4": 700, "float8": 701, "numeric": 1700,
    "text": 25, "varchar": 1043, "bpchar": 1042, "name": 19, "json": 114, "jsonb": 3802, "xml": 142, "money": 790,
    "bytea": 17, '"char"': 18, "date": 1082, "time": 1083, "timetz": 1266, "timestamp": 1114, "timestamptz": 1184,
    "interval": 1186, "uuid": 2950, "inet": 869, "cidr": 650, "record": 2249,
}  # fmt: skip


def _types_of(kind: ColumnKind) -> list[str]:
    named = [name for name, oid in _POSTGRES_TYPES.items() if rows.kind_of(oid) is kind]
    return [*named, "arrays", "enums", "composites, …"] if kind is ColumnKind.ANY else named


def _example(case: cases.RowsCase) -> str:
    data = msgspec.msgpack.encode(msgspec.msgpack.decode(RowEncoder(case.columns).encode(case.rows[:1]))[0][0])
    return f"`{data.hex(' ')}`"


def _limits() -> str:
    return _table(
        ("what", "limit"),
        (
            ("protocol version", PROTOCOL_VERSION),
            ("`max_frame_bytes`, default", f"{messages.DEFAULT_MAX_FRAME_BYTES:,}"),
            ("parts of a ZeroMQ message", "1"),
            ("a ZMTP command, in bytes", f"{zmtp.MAX_COMMAND_BYTES:,}"),
            ("a ZMTP identity, in bytes", zmtp.MAX_IDENTITY_BYTES),
        ),
    )


def _session() -> str:
    """The first session, byte by byte, as the code makes it."""
    worker = zmtp.Connection("DEALER", max_message_bytes=messages.DEFAULT_MAX_FRAME_BYTES)
    supervisor = zmtp.Connection("ROUTER", max_message_bytes=messages.DEFAULT_MAX_FRAME_BYTES)
    greeting = worker.take_output()
    supervisor_greeting = supervisor.take_output()
    supervisor.receive(greeting)
    worker.receive(supervisor_greeting)
    steps = [
        ("worker", "the greeting of ZMTP 3.0 (the supervisor sends the same)", greeting),
        ("worker", "READY: a command with the properties Socket-Type and Identity", worker.take_output()),
        ("supervisor", "READY", supervisor.take_output()),
    ]
    lines = [f"{who}: {what}\n\n{_hex_lines(data)}" for who, what, data in steps]
    for who, what, message in (
        ("worker", "hello", cases.HELLO),
        ("supervisor", "welcome", cases.WELCOME),
        ("worker", "fetch", cases.FETCH_USERS),
        ("supervisor", "rows", cases.ROWS_USERS),
    ):
        frame = wire.encode([message])
        header = zmtp.frame_header(len(frame))
        words = f"flags: the last frame of a message; length {len(frame)}"
        lines.append(f"{who}: {what}\n\n{header.hex(' ')}  {words}\n{forms.dump_msgpack(frame)}")
    return "```text\n" + "\n\n".join(lines) + "\n```"


def _hex_lines(data: bytes) -> str:
    return "\n".join(
        f"{data[at : at + 16].hex(' '):<49}{''.join(chr(b) if 32 <= b < 127 else '.' for b in data[at : at + 16])}"
        for at in range(0, len(data), 16)
    )


_PARTS: dict[str, Callable[[], str]] = {
    "version": lambda: f"This is version **{PROTOCOL_VERSION}**.",
    "worker overview": _overview(FromWorker),
    "supervisor overview": _overview(FromSupervisor),
    "worker messages": _messages_part(set(structs_of(FromWorker)) - BOTH_WAYS),
    "supervisor messages": _messages_part(set(structs_of(FromSupervisor)) - BOTH_WAYS),
    "messages both ways": _messages_part(BOTH_WAYS),
    "structs": _structs_part,
    "errors": _errors,
    "ext types": _ext,
    "column kinds": _kinds,
    "limits": _limits,
    "session": _session,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
