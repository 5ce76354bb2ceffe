"""The PostgreSQL types that the statement lane knows by their bytes: the quick set.

A statement whose parameters and columns are all of these types can do without asyncpg: its arguments are encoded by
arguments.py, its rows by transcode.py. Every other statement goes to the session lane, which decides.

Enums have numbers of their own in each database, so they and their arrays are learned from pg_type as they are met.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from ..rows import ColumnKind, kind_of


class Wire(enum.Enum):
    """How the values of a type look on PostgreSQL's wire: several types may look the same."""

    BOOL = enum.auto()
    INT2 = enum.auto()
    INT4 = enum.auto()
    INT8 = enum.auto()
    OID = enum.auto()
    """An unsigned int4."""
    FLOAT4 = enum.auto()
    FLOAT8 = enum.auto()
    NUMERIC = enum.auto()
    """Decimal text: the binary form has digits of base 10000."""
    TEXT = enum.auto()
    JSONB = enum.auto()
    """The byte 1, which is the version, then text."""
    BYTES = enum.auto()
    UUID = enum.auto()
    DATE = enum.auto()
    TIMESTAMP = enum.auto()
    TIMESTAMPTZ = enum.auto()
    VOID = enum.auto()
    """No bytes at all, and no NULL either: it is to become None."""
    ARRAY = enum.auto()


@dataclass(frozen=True, slots=True, eq=False)
class QuickType:
    """One type of the quick set. Equal only to itself, so that a tuple of them is a cheap key."""

    oid: int
    name: str
    """As asyncpg names it, and so as `rows.Column.type` has it: `int4`, `int4[]`."""
    wire: Wire
    argument: bool = True
    """Whether a parameter may have it; a column may always."""
    element: QuickType | None = None
    """The type of an array's elements."""

    @property
    def kind(self) -> ColumnKind:
        """How a column of this type travels to the worker."""
        return kind_of(self.oid)

    @property
    def format(self) -> int:
        """PostgreSQL's code of the format in which its values travel, both ways: 0 for text, 1 for binary."""
        return 0 if self.wire is Wire.NUMERIC else 1


# type: (its number, how it looks, its array's number). An array of numerics is not quick: its text, with its quotes and
# NULLs, would have to be parsed.
_SCALARS = {
    "bool": (16, Wire.BOOL, 1000),
    "bytea": (17, Wire.BYTES, 1001),
    "name": (19, Wire.TEXT, 1003),
    "int8": (20, Wire.INT8, 1016),
    "int2": (21, Wire.INT2, 1005),
    "int4": (23, Wire.INT4, 1007),
    "text": (25, Wire.TEXT, 1009),
    "oid": (26, Wire.OID, 1028),
    "json": (114, Wire.TEXT, 199),
    "float4": (700, Wire.FLOAT4, 1021),
    "float8": (701, Wire.FLOAT8, 1022),
    "bpchar": (1042, Wire.TEXT, 1014),
    "varchar": (1043, Wire.TEXT, 1015),
    "date": (1082, Wire.DATE, 1182),
    "timestamp": (1114, Wire.TIMESTAMP, 1115),
    "timestamptz": (1184, Wire.TIMESTAMPTZ, 1185),
    "numeric": (1700, Wire.NUMERIC, None),
    "uuid": (2950, Wire.UUID, 2951),
    "jsonb": (3802, Wire.JSONB, 3807),
}
# "char" and void: nobody has them as parameters, and what asyncpg makes of such an argument is its own affair.
_RESULTS_ONLY = {"char": (18, Wire.BYTES), "void": (2278, Wire.VOID)}


def _array_of(element: QuickType, oid: int, name: str) -> QuickType:
    return QuickType(oid, name, Wire.ARRAY, element=element)


def _builtin() -> dict[int, QuickType]:
    found = [QuickType(oid, name, wire, argument=False) for name, (oid, wire) in _RESULTS_ONLY.items()]
    for name, (oid, wire, array_oid) in _SCALARS.items():
        found.append(QuickType(oid, name, wire))
        if array_oid is not None:
            found.append(_array_of(found[-1], array_oid, f"{name}[]"))
    return {each.oid: each for each in found}


_BUILTIN = _builtin()

_FIRST_OF_USERS = 16384
"""The types below this number are PostgreSQL's own; there is no enum among them."""

_MAX_LEARNED = 16384

LOOKUP = """
    SELECT t.oid, t.typname, t.typtype::text, coalesce(e.oid, 0)
    FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE t.oid = ANY($1::oid[]) OR t.oid IN (SELECT typelem FROM pg_catalog.pg_type WHERE oid = ANY($1::oid[]))
    ORDER BY t.typtype = 'e' DESC
"""
"""What `QuickTypes.learn` is to be told of the types of these numbers, in the order in which it is to be told: an
array's elements come first, asked for or not. A type that has been dropped since is not among the rows."""


class QuickTypes:
    """The quick set of one database: PostgreSQL's own types, and what has been learned of others."""

    def __init__(self) -> None:
        self._learned: dict[int, QuickType | None] = {}

    def get(self, oid: int) -> QuickType | None:
        """The type of this number, None if it is not quick, or not known to be."""
        return _BUILTIN.get(oid) or self._learned.get(oid)

    def unknown(self, oids: Iterable[int]) -> list[int]:
        """Those of these numbers that pg_type should be asked about (`LOOKUP`), each once."""
        return [oid for oid in dict.fromkeys(oids) if oid >= _FIRST_OF_USERS and oid not in self._learned]

    def learn(self, oid: int, name: str, typtype: str, element_oid: int) -> None:
        """Take in a row of pg_type: `typname`, `typtype`, and the number of the elements if it is a true array.

        An array of elements that are not known to be quick is not quick.
        """
        if oid in _BUILTIN or self._learned.get(oid) is not None:
            return  # those in use stay the same objects
        if len(self._learned) >= _MAX_LEARNED:  # a program that makes types all the time; they can be asked for again
            self._learned.clear()
        element = self.get(element_oid)
        if typtype == "e":
            self._learned[oid] = QuickType(oid, name, Wire.TEXT)
        elif element is not None and element_oid >= _FIRST_OF_USERS:
            self._learned[oid] = _array_of(element, oid, f"{name.removeprefix('_')}[]")
        else:
            self._learned[oid] = None
