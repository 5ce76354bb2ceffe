"""msgpack for people: a JSON form that loses nothing, and an annotated dump.

In the JSON form null, true, false, strings, arrays and objects stand for themselves. A number with a point or an
exponent is a float of 64 bits, one without is an integer. What JSON lacks is an object with one key:
{"$bytes": hex}, {"$float": "nan" | "inf" | "-inf"}, {"$timestamp": ISO 8601} (msgpack's own ext type -1) and
{"$ext": [type, hex of the payload]}.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec.msgpack import Ext

_loose = msgspec.msgpack.Decoder()


def to_form(data: bytes) -> Any:
    """The JSON form of one msgpack value."""
    return _form(_loose.decode(data))


def from_form(form: Any) -> bytes:
    """The msgpack of a JSON form."""
    return msgspec.msgpack.encode(_unform(form))


def _form(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return {"$float": repr(value)}
        case bytes():
            return {"$bytes": value.hex()}
        case datetime():
            return {"$timestamp": value.isoformat()}
        case Ext():
            return {"$ext": [value.code, bytes(value.data).hex()]}
        case list():
            return [_form(element) for element in value]
        case dict():
            return {key: _form(element) for key, element in value.items()}
    return value


def _unform(form: Any) -> Any:
    match form:
        case {"$float": text}:
            return float(text)
        case {"$bytes": text}:
            return bytes.fromhex(text)
        case {"$timestamp": text}:
            return datetime.fromisoformat(text)
        case {"$ext": [code, text]}:
            return Ext(code, bytes.fromhex(text))
        case list():
            return [_unform(element) for element in form]
        case dict():
            return {key: _unform(element) for key, element in form.items()}
    return form


def dump_json(value: Any, *, width: int = 116) -> str:
    """JSON with what fits on a line on one line; always the same for the same value."""
    return "\n".join(_json_lines(value, width, "")) + "\n"


def _json_lines(value: Any, width: int, indent: str) -> Iterator[str]:
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= width or not isinstance(value, list | dict) or not value:
        yield indent + flat
        return
    inner = indent + "  "
    yield indent + ("[" if isinstance(value, list) else "{")
    pairs = (
        [("", e) for e in value] if isinstance(value, list) else [(f"{json.dumps(k)}: ", e) for k, e in value.items()]
    )
    for at, (prefix, element) in enumerate(pairs):
        lines = list(_json_lines(element, width, inner))
        lines[0] = inner + prefix + lines[0].removeprefix(inner)
        lines[-1] += "," if at < len(pairs) - 1 else ""
        yield from lines
    yield indent + ("]" if isinstance(value, list) else "}")


def dump_msgpack(data: bytes) -> str:
    """One line for each msgpack value, or more if it is long: its bytes, and what it is."""
    lines = []
    for value, words in _annotate(data):
        lines += [f"{value[:16].hex(' '):<50}{words}"]
        lines += [value[at : at + 16].hex(" ") for at in range(16, len(value), 16)]
    return "\n".join(lines)


_NAMES = {0xC0: "nil", 0xC2: "false", 0xC3: "true"}
_NUMBERS = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_LENGTHS = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip


def _annotate(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Only what a session without ext types needs; raises ValueError at anything else."""
    at = 0
    open_arrays: list[int] = []  # how many elements of each are still to come

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return data[at - count : at]

    while at < len(data):
        depth = len(open_arrays)
        start = at
        first = take(1)[0]
        elements = 0
        if first in _NAMES:
            words = _NAMES[first]
        elif first <= 0x7F or first >= 0xE0 or first in _NUMBERS:
            take(_NUMBERS.get(first, 0))
            words = str(_loose.decode(data[start:at]))
        elif first in _LENGTHS or 0x80 <= first <= 0xBF:
            if first in _LENGTHS:
                length = int.from_bytes(take(_LENGTHS[first]), "big")
            else:
                length = first & (0x1F if first >= 0xA0 else 0x0F)
            if first in (0xDE, 0xDF) or first & 0xF0 == 0x80:
                elements, words = 2 * length, f"map of {length}"
            elif first in (0xDC, 0xDD) or first & 0xF0 == 0x90:
                elements, words = length, f"array of {length}"
            else:
                take(length)
                words = repr(_loose.decode(data[start:at]))
        else:
            raise ValueError(f"cannot annotate {first:#04x}")
        yield data[start:at], "  " * depth + words
        if open_arrays:
            open_arrays[-1] -= 1
        if elements:
            open_arrays.append(elements)
        while open_arrays and not open_arrays[-1]:
            open_arrays.pop()
