"""How an application's codecs reach into arguments: into arrays, composite values, ranges and domains. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

from ..messages.session import TypeInfo, TypeParts

Encoder = Callable[[Any], Any]
"""One value -> the same, with all in it encoded that has a codec. None is never given to it."""


class Encoders:
    """Makes encoders. codecs: of types, by their schemas and names with a dot between. whole: those of them that make
    of a composite value a tuple, whose elements may have codecs, too. parts: what types are composed of."""

    def __init__(self, codecs: Mapping[str, Encoder], whole: frozenset[str], parts: Iterable[TypeParts]) -> None:
        self._codecs = codecs
        self._whole = whole
        self._types = {each.oid: each for each in parts}

    def of(self, kind: TypeInfo) -> Encoder | None:
        """The encoder of values of a type; None if nothing in them has a codec."""
        if kind.oid in self._types:
            return self._of(kind.oid)
        codec = self._codecs.get(f"{kind.schema}.{kind.name}")
        if codec is None and kind.kind == "array":
            return _of_array(self._codecs.get(f"{kind.schema}.{kind.name.removesuffix('[]')}"))
        return codec

    def _of(self, oid: int) -> Encoder | None:
        kind = self._types.get(oid)
        if kind is None:
            return None
        name = f"{kind.schema}.{kind.name}"
        codec = self._codecs.get(name)
        if codec is not None and not (kind.kind == "composite" and name in self._whole):
            return codec
        parts = [self._of(part) for part in kind.parts]
        inside: Encoder | None = None
        match kind.kind:
            case "array" | "multirange":
                inside = _of_array(parts[0])
            case "domain":
                inside = parts[0]
            case "range":
                inside = _of_range(parts[0])
            case "composite":
                inside = _of_composite(parts, kind.names)
        if codec is None or inside is None:
            return codec or inside
        first, then = codec, inside
        return lambda value: then(first(value))


def _of_array(element: Encoder | None) -> Encoder | None:
    if element is None:
        return None
    one = element

    def encode(value: Any, *, is_inner: bool = False) -> Any:
        if value is None:
            return None
        if not _is_array(value) or (is_inner and isinstance(value, tuple)):  # asyncpg takes inner tuples for values
            return one(value) if is_inner else value
        return [encode(each, is_inner=True) for each in value]

    return encode


def _is_array(value: Any) -> bool:
    """Whether asyncpg takes it for an array."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping):
        return False
    return isinstance(value, Iterable) and isinstance(value, Sized)


def _of_range(bound: Encoder | None) -> Encoder | None:
    if bound is None:
        return None
    one = bound

    def encode(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(None if each is None else one(each) for each in value)
        if not hasattr(value, "isempty") or value.isempty:
            return value
        return with_bounds(value, *(None if each is None else one(each) for each in (value.lower, value.upper)))

    return encode


def with_bounds(range: Any, lower: Any, upper: Any) -> Any:
    """An asyncpg.Range as this one, with other bounds."""
    if lower is range.lower and upper is range.upper:
        return range
    return type(range)(lower, upper, lower_inc=range.lower_inc, upper_inc=range.upper_inc)


def _of_composite(elements: Sequence[Encoder | None], names: Sequence[str]) -> Encoder | None:
    if not any(elements):
        return None
    named = dict(zip(names, elements, strict=True))

    def encoded(one: Encoder | None, value: Any) -> Any:
        return value if one is None or value is None else one(value)

    def encode(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: encoded(named.get(name), each) for name, each in value.items()}
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            return value
        values = tuple(value)
        more = values[len(elements) :]
        return (*(encoded(one, each) for one, each in zip(elements, values, strict=False)), *more)

    return encode
