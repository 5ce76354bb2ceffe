"""Rows without objects: PostgreSQL's DataRow messages become msgpack by changing prefixes.

PostgreSQL's binary format and msgpack are both big-endian, so a value's own bytes mostly stay as they are; a text
even keeps its length, as msgpack's str 32 has the same one. What comes out is what `RowDecoder` (rows.py) makes the
very same Records of as of asyncpg's records by way of `RowEncoder`.

A row of values that are all there takes a fast path, generated for its tuple of types. Any other row (with a NULL or
an infinity, not all there yet, broken) is gone through value by value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from struct import Struct
from typing import Any, NamedTuple, TypeAlias, cast

from .fields import (
    BOOLS,
    EPOCH_SECOND,
    FIRST,
    LAST,
    NIL,
    SAME_BYTES,
    SAME_LENGTH,
    Doubt,
    array_header,
    converter,
    date_text,
    nanos_seconds,
    numeric,
    str_header,
    timestamp,
)
from .quicktypes import QuickType, Wire

__all__ = ["Doubt", "Transcoder", "row_transcoder"]

Transcoder: TypeAlias = Callable[[bytes, int, int, list[bytes]], int]
"""`rows(buffer, at, end, out)`: appends to `out` a msgpack array for each whole DataRow from `at` on, and returns
where it stopped: at a message that is another one or is not whole.

Raises `Doubt` if a row breaks the grammar, and what asyncpg raises for a value that Python does not have (ValueError,
OverflowError); the rows before it are in `out`. Text is not looked at: it may be no UTF-8.
"""

_MAX_GENERATED = 64
"""Wider rows are gone through value by value: to compile a function for 1600 columns takes longer than most of its
results would."""

_length = Struct(">i").unpack_from


@lru_cache(1024)
def row_transcoder(types: tuple[QuickType, ...]) -> Transcoder:
    """The function that transcodes rows of these types."""
    row = _row(types)
    return _generate(types, row) if len(types) <= _MAX_GENERATED else _repeat(row)


def _row(types: tuple[QuickType, ...]) -> Transcoder:
    """Transcodes at most one row, value by value, whatever is in it."""
    header = array_header(len(types))
    # Of each column: the one size of its values, the prefix of a value of that size, what converts any other.
    columns = [
        (*SAME_BYTES.get(kind.wire, (None, b"")), SAME_LENGTH.get(kind.wire), converter(kind)) for kind in types
    ]

    def row(buffer: bytes, at: int, end: int, out: list[bytes]) -> int:
        if end - at < 5 or buffer[at] != 0x44:
            return at
        (length,) = _length(buffer, at + 1)
        if length < 6:
            raise Doubt("a row's length")
        stop = at + 1 + cast(int, length)
        if stop > end:
            return at
        if int.from_bytes(buffer[at + 5 : at + 7]) != len(columns):
            raise Doubt("another number of columns")
        pieces = [header]
        add = pieces.append
        at += 7
        for usual, prefix, keeping_length, convert in columns:
            start = at + 4
            if start > stop:
                raise Doubt("fewer values than columns")
            (size,) = _length(buffer, at)
            at = start
            if size == -1:
                add(NIL)
                continue
            at += size
            if not start <= at <= stop:
                raise Doubt("a length that does not fit")
            if size == usual:
                add(prefix)
                add(buffer[start:at])
            elif keeping_length:
                add(keeping_length)
                add(buffer[start - 4 : at])
            else:
                add(convert(buffer[start:at]))
        if at != stop:
            raise Doubt("more in a row than its columns")
        out.append(b"".join(pieces))
        return stop

    return row


def _repeat(row: Transcoder) -> Transcoder:
    def rows(buffer: bytes, at: int, end: int, out: list[bytes]) -> int:
        while (after := row(buffer, at, end, out)) != at:
            at = after
        return at

    return rows


class _Fixed(NamedTuple):
    """How a value of fixed size is read, checked and written; `{v}` stands for it."""

    code: str
    pieces: tuple[bytes | str, ...]
    check: str = ""


_POSSIBLE = f"{FIRST} <= {{v}} <= {LAST}"
_SECONDS = f"nanos_seconds({{v}} % 1000000 * 1000, {{v}} // 1000000 + {EPOCH_SECOND})"
_FIXED = {
    **{wire: _Fixed(f"{size}s", (prefix, "{v}")) for wire, (size, prefix) in SAME_BYTES.items()},
    Wire.BOOL: _Fixed("B", ("bools[{v}]",), "{v} <= 1"),
    Wire.DATE: _Fixed("4s", ("date_text({v})",)),
    Wire.TIMESTAMP: _Fixed("q", ("timestamp({v})",), _POSSIBLE),
    Wire.TIMESTAMPTZ: _Fixed("q", (b"\xc7\x0c\xff", _SECONDS), _POSSIBLE),
    Wire.VOID: _Fixed("0s", (NIL,)),
}
_NAMES = {
    "bools": BOOLS,
    "date_text": date_text,
    "error": struct.error,
    "join": b"".join,
    "nanos_seconds": nanos_seconds,
    "numeric": numeric,
    "str_header": str_header,
    "timestamp": timestamp,
}

_ROWS = """
def rows(buffer, at, end, out):
    append = out.append
    while True:
        try:
            while at < end and buffer[at] == 0x44:
                {read}
                if not ({checks}):
                    break
                append(join(({pieces},)))
                at = {stop}
            else:
                return at
        except (error, IndexError):  # nothing is left to read: a short row with a NULL, or one that is not whole
            pass
        after = row(buffer, at, end, out)
        if after == at:
            return at
        at = after
"""


def _generate(types: tuple[QuickType, ...], row: Transcoder) -> Transcoder:
    """The fast path. Values of fixed size that stand in a line, their lengths, and the length of what comes next are
    read by one Struct; only when all that was read fits together, down to the end of the row, is the row built.
    """
    names: dict[str, Any] = {**_NAMES, "row": row}
    read: list[str] = []
    checks = [f"count == {len(types)}"]
    pieces: list[bytes | str] = [array_header(len(types))]
    targets, code, start = ["length", "count"], ">xIH", "at"
    for number, kind in enumerate(types):
        value, size = f"v{number}", f"n{number}"
        code += "i"
        targets.append(size)
        fixed = _FIXED.get(kind.wire)
        if fixed is not None:
            code += fixed.code
            targets.append(value)
            checks.append(f"{size} == {struct.calcsize('>' + fixed.code)}")
            if fixed.check:
                checks.append(fixed.check.format(v=value))
            pieces += [each if isinstance(each, bytes) else each.format(v=value) for each in fixed.pieces]
            continue
        checks.append(f"{size} >= 0")
        names[f"u{number}"] = Struct(code).unpack_from
        begin, stop = f"b{number}", f"e{number}"
        read.append(f"{', '.join(targets)}, = u{number}(buffer, {start})")
        read.append(f"{begin} = {start} + {struct.calcsize(code)}")
        read.append(f"{stop} = {begin} + {size}")
        if kind.wire in SAME_LENGTH:
            pieces += [SAME_LENGTH[kind.wire], f"buffer[{begin} - 4:{stop}]"]
        elif kind.wire is Wire.NUMERIC:
            plain, special = f"buffer[{begin} - 4:{stop}]", f"numeric(buffer[{begin}:{stop}])"
            pieces += [b"\xdb", f"{plain} if buffer[{stop} - 4:{stop}] != b'0000' else {special}"]
        elif kind.wire is Wire.JSONB:
            checks.append(f"{size} > 0 and buffer[{begin}] == 1")
            pieces += [f"str_header(0xDB, {size} - 1)", f"buffer[{begin} + 1:{stop}]"]
        else:
            names[f"c{number}"] = converter(kind)
            pieces.append(f"c{number}(buffer[{begin}:{stop}])")
        targets, code, start = [], ">", stop
    if targets:
        names["last"] = Struct(code).unpack_from
        read.append(f"{', '.join(targets)}, = last(buffer, {start})")
        read.append(f"stop = {start} + {struct.calcsize(code)}")
        start = "stop"
    checks += [f"{start} - at == length + 1", f"{start} <= end"]
    source = _ROWS.format(
        read="\n                ".join(read),
        checks=" and ".join(checks),
        pieces=", ".join(map(str, _merged(pieces))),
        stop=start,
    )
    exec(source, names)  # noqa: S102  # of our own making: numbers and names from the tables above
    return cast(Transcoder, names["rows"])


def _merged(pieces: list[bytes | str]) -> Iterator[bytes | str]:
    """The pieces, with the constants that stand side by side made one."""
    for constant, group in groupby(pieces, lambda piece: isinstance(piece, bytes)):
        if constant:
            yield b"".join(cast(Iterable[bytes], group))
        else:
            yield from group
