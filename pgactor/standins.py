"""Classes that stand in for others: arguments that asyncpg is to take, and to speak of, as what the worker gave."""

from __future__ import annotations

from typing import Any


class StandIn(type):
    """The metaclass of classes whose name, in every error of Python's and asyncpg's, is that of another class.

    stands_for: that class, as `datetime.date`. Some texts have the whole of it and others its last part, just as with
    a class that is written in C.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, stands_for: str) -> StandIn:
        module, _, last = stands_for.rpartition(".")
        return super().__new__(mcs, stands_for, bases, {**namespace, "__module__": module, "__qualname__": last})

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, stands_for: str) -> None:
        super().__init__(name, bases, namespace)

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        return cls.__qualname__
