"""Records: rows, and composite values within rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, SupportsIndex, overload

from .standins import StandIn


class Record(tuple[Any, ...]):
    """One row, or one composite value. Behaves as asyncpg.Record: a tuple of values that also knows its columns'
    names.

    `r[0]`, `r["name"]`, `r[1:]` (a plain tuple); `in` asks for names, iteration gives values. Of columns of the
    same name, the last one is found. Unlike asyncpg's it can be pickled and copied.
    """

    __slots__ = ()

    _names: ClassVar[tuple[str, ...]] = ()
    _positions: ClassVar[dict[str, int]] = {}

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> Any:
        """Raises KeyError for an unknown name, IndexError for a position outside of the row."""
        if isinstance(key, str):
            return tuple.__getitem__(self, self._positions[key])
        try:
            return tuple.__getitem__(self, key)
        except IndexError:
            raise IndexError("record index out of range") from None
        except TypeError:
            if isinstance(key, slice):
                raise
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._positions

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value of the column `key`, or `default` if there is none."""
        if key not in self:
            return default
        return self[key]

    def keys(self) -> Iterator[str]:
        """An iterator of the column names."""
        return iter(self._names)

    def values(self) -> Iterator[Any]:
        """An iterator of the values."""
        return iter(self)

    def items(self) -> Iterator[tuple[str, Any]]:
        """An iterator of (name, value)."""
        return zip(self._names, self, strict=True)

    def __repr__(self) -> str:
        return "".join(["<Record", *(f" {name}={value!r}" for name, value in self.items()), ">"])

    def __reduce__(self) -> tuple[Callable[..., Record], tuple[Any, ...]]:
        return record, (self._names, tuple(self))


def record(names: Sequence[str], values: Sequence[Any]) -> Record:
    """A Record. Raises ValueError unless there are as many values as names."""
    if len(names) != len(values):
        raise ValueError(f"a record of {len(names)} names and {len(values)} values")
    return _named(tuple(names))(values)


@lru_cache(1024)
def _named(names: tuple[str, ...]) -> type[Record]:
    cls: type[Record] = type("Record", (Record,), members(names))
    return cls


def members(names: tuple[str, ...]) -> dict[str, Any]:
    """What makes a subclass of Record one of these names."""
    positions = {name: position for position, name in enumerate(names)}
    return {"__slots__": (), "__module__": __name__, "_names": names, "_positions": positions}


class WorkerRecord(metaclass=StandIn, stands_for="asyncpg.protocol.record.Record"):
    """A Record that a worker gave as an argument. As asyncpg's, and unlike ours, it is no tuple: asyncpg makes
    something else of tuples."""

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        self._record = record(names, values)

    def __len__(self) -> int:
        return len(self._record)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._record)

    def __contains__(self, key: object) -> bool:
        return key in self._record

    def __getitem__(self, key: Any) -> Any:
        return self._record[key]

    def __repr__(self) -> str:
        return repr(self._record)

    def get(self, key: str, default: Any = None, /) -> Any:
        """As `Record.get`; `keys`, `values` and `items` are as Record's, too."""
        return self._record.get(key, default)

    def keys(self) -> Iterator[str]:
        return self._record.keys()

    def values(self) -> Iterator[Any]:
        return self._record.values()

    def items(self) -> Iterator[tuple[str, Any]]:
        return self._record.items()
