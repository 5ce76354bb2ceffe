"""The record_class of asyncpg's methods: rows as Records of a class of the application's own."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from ..records import Record
from ..rows import Row
from .failures import interface_error

_OF_A_CLASS = frozenset({"__dict__", "__weakref__", "__slots__", "__module__", "__doc__", "__qualname__"})


def check_record_class(wanted: type | None) -> None:
    """Raises asyncpg.InterfaceError for what no Record is a subclass of."""
    if wanted is not None and not _is_record_class(wanted):
        raise interface_error(f"record_class is expected to be a subclass of asyncpg.Record, got {wanted!r}")


def record_class_of_pool(wanted: Any) -> type | None:
    """The class of a pool's records; None: they are as they are. Raises TypeError, as asyncpg does."""
    if wanted is None or wanted is Record:
        return None
    if not _is_record_class(wanted):
        raise TypeError(f"record_class is expected to be a subclass of asyncpg.Record, got {wanted!r}")
    kind: type = wanted
    return kind


def as_class(records: list[Record], wanted: type | None) -> list[Any]:
    """The records as ones of this class: a subclass of pgactor.Record, or of asyncpg.Record; no object can be made
    of the latter, so what it defines is taken over. None: as they are."""
    if wanted is None or not records or (not issubclass(wanted, Record) and wanted.__mro__[1] is tuple):
        return records
    return list(map(_class_of(type(records[0]), wanted), records))


def first_of(records: list[Record], wanted: type | None) -> Record | None:
    """The first of them as one of this class; None if there is none."""
    found: list[Record] = as_class(records, wanted)
    return found[0] if found else None


@lru_cache(256)
def _class_of(rows: type[Row], wanted: type) -> Any:
    facts = {"_names": rows._names, "_kinds": rows._kinds, "_positions": rows._positions}
    if issubclass(wanted, Record):
        return type(wanted.__name__, (wanted,), {"__slots__": (), "__module__": wanted.__module__, **facts})
    defined: dict[str, Any] = {}
    for base in reversed(wanted.__mro__):
        if _is_asyncpgs(base) and not (base.__module__ or "").startswith("asyncpg"):
            defined.update({name: value for name, value in vars(base).items() if name not in _OF_A_CLASS})
    return type(wanted.__name__, (Record,), {"__module__": wanted.__module__, **defined, **facts})


def _is_record_class(kind: object) -> bool:
    return isinstance(kind, type) and (issubclass(kind, Record) or _is_asyncpgs(kind))


def _is_asyncpgs(kind: type) -> bool:
    asyncpg = sys.modules.get("asyncpg")  # without it, there is no subclass of its Record
    return asyncpg is not None and issubclass(kind, asyncpg.Record)
