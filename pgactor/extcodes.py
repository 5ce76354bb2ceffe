"""The numbers of the wire's ext types: what msgpack has no type of its own for."""

from __future__ import annotations

import enum


class ExtCode(enum.IntEnum):
    """The msgpack ext types of the wire. A number never changes its meaning; all text is UTF-8."""

    INT = 1
    """An integer beyond 64 bits: two's complement, big-endian, as many bytes as it needs."""
    DECIMAL = 2
    """Decimal text, as in `1.10`, `1E+3`, `NaN`, `-Infinity`."""
    DATE = 3
    """`YYYY-MM-DD`."""
    TIME = 4
    """`HH:MM:SS[.ffffff]`, then `+HH:MM[:SS[.ffffff]]` if it has an offset."""
    DATETIME = 5
    """`DATE` text, `T`, `TIME` text. Naive without an offset, aware with one."""
    WORKER_DATETIME = 6
    """A naive datetime given as an argument, as `DATETIME` text with the offset it has where it was given, or with
    none where there is none (the first and the last day of the calendar)."""
    TIMEDELTA = 7
    """Days, seconds and microseconds: three signed 32-bit integers, big-endian."""
    UUID = 8
    """Its 16 bytes, big-endian."""
    TUPLE = 9
    """A msgpack array of the elements, each packed by these same rules."""
    SET = 10
    FROZENSET = 11
    """As `TUPLE`, in no particular order; so is `SET`."""
    IP_ADDRESS = 12
    """An IPv4 or IPv6 address in its usual text."""
    IP_NETWORK = 13
    """`address/prefix`, the host bits being zero."""
    IP_INTERFACE = 14
    """`address/prefix`, with any host bits."""
    DICT = 15
    """As `TUPLE`: a key, its value, the next key, ..."""
    RECORD = 16
    """A composite value that was returned: as `TUPLE` of two lists, the names and the values."""
    WORKER_RECORD = 17
    """A row given as an argument, as `RECORD`."""
    WORKER_DATE = 18
    """A date given as an argument: `DATE` text, then the offset that the time zone has now where it was given, as
    `+HH:MM[:SS]`."""
    RANGE = 19
    """As `TUPLE`: lower, upper, and whether either belongs to the range; no elements if it is empty."""
    BIT_STRING = 20
    """As `TUPLE`: the number of bits, and the bytes that they are in, from the highest bit of the first."""
    POINT = 21
    """As `TUPLE`: x, y."""
    BOX = 22
    """As `TUPLE`: two opposite corners, the upper right one first, each as `POINT`."""
    LINE = 23
    """As `TUPLE`: A, B, C."""
    LINE_SEGMENT = 24
    """As `TUPLE`: its ends, each as `POINT`."""
    PATH = 25
    """As `TUPLE`: whether it is closed, then its points, each as `POINT`."""
    POLYGON = 26
    """As `TUPLE`: its points, each as `POINT`."""
    CIRCLE = 27
    """As `TUPLE`: the centre, as `TUPLE` or `POINT`, and the radius."""
    CODED = 28
    """As `TUPLE`: a value that the worker is to decode, as `SetCodec` said: schema and name of its type with a dot
    between them, and PostgreSQL's text, its bytes, or a tuple."""
