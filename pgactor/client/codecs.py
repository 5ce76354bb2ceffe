"""The codecs of a lease: encoders and decoders of the application's own, for values of some types. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..messages.session import Prepared, TypeInfo
from ..rows import Record
from ..values import Coded
from .encoders import Encoder, Encoders, with_bounds
from .failures import interface_error, invalid_argument

FORMATS = ("text", "binary", "tuple")
_REMEMBERED = 256

Encode = Callable[..., list[Any]]
"""Arguments -> encoded ones; `place`: where they are, for the error."""

EncodeRecord = Callable[[Sequence[Any]], list[Any]]
"""The values of a record to copy -> encoded ones. As in asyncpg, what an encoder raises is raised as it is."""


class Codec(NamedTuple):
    """How values of a type are encoded and decoded."""

    encoder: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    format: str

    def encode(self, value: Any) -> Any:
        """Raises TypeError if the application's encoder does not make what its format says."""
        encoded = self.encoder(value)
        if self.format == "text" and not isinstance(encoded, str):
            raise TypeError(f"expected str, got {type(encoded).__name__}")
        if self.format == "binary" and not isinstance(encoded, bytes | bytearray | memoryview):
            raise TypeError(f"a bytes-like object is required, not {type(encoded).__name__!r}")
        return encoded


class Codecs:
    """The codecs of a lease."""

    def __init__(self) -> None:
        self._codecs: dict[str, Codec] = {}
        self._decoders: dict[str, Callable[[Any], Any]] = {}  # also of those that are no more: results may yet come
        self._described: dict[str, Prepared] = {}

    def __bool__(self) -> bool:
        return bool(self._codecs)

    def set(self, typename: str, schema: str, codec: Codec) -> None:
        """Set the codec of a type."""
        self._codecs[f"{schema}.{typename}"] = codec
        self._decoders[f"{schema}.{typename}"] = codec.decode

    def remove(self, typename: str, schema: str) -> None:
        """The type is as it was again."""
        self._codecs.pop(f"{schema}.{typename}", None)

    # --- arguments ----------------------------------------------------------------------------------------

    def described(self, sql: str) -> Prepared | None:
        """The types of a statement's parameters, where they are known."""
        return self._described.get(sql)

    def learn(self, sql: str, described: Prepared) -> None:
        """They are known now."""
        if len(self._described) >= _REMEMBERED:
            self._described.clear()
        self._described[sql] = described

    def encoder(self, described: Prepared) -> Encode | None:
        """What encodes arguments for the statement's parameters; None if nothing in them has a codec."""
        encoders = self._encoders(described, described.parameters)
        if not any(encoders):
            return None

        def encode(args: Sequence[Any], place: str = "") -> list[Any]:
            encoded = list(args)
            for at, one in enumerate(encoders[: len(encoded)]):
                value = encoded[at]
                if one is not None and value is not None:
                    try:
                        encoded[at] = one(value)
                    except Exception as error:
                        raise invalid_argument(at + 1, value, place, error) from error
            return encoded

        return encode

    def record_encoder(self, described: Prepared) -> EncodeRecord | None:
        """What encodes records for the statement's columns; None if nothing in them has a codec."""
        encoders = self._encoders(described, [kind for _, kind in described.columns])
        if not any(encoders):
            return None

        def encode(record: Sequence[Any]) -> list[Any]:
            encoded = list(record)
            for at, one in enumerate(encoders[: len(encoded)]):
                if one is not None and encoded[at] is not None:
                    encoded[at] = one(encoded[at])
            return encoded

        return encode

    def _encoders(self, described: Prepared, types: Sequence[TypeInfo]) -> list[Encoder | None]:
        codecs = {name: codec.encode for name, codec in self._codecs.items()}
        whole = frozenset(name for name, codec in self._codecs.items() if codec.format == "tuple")
        made = Encoders(codecs, whole, described.parts)
        return [made.of(kind) for kind in types]

    # --- results ------------------------------------------------------------------------------------------

    def decoded(self, rows: list[Record]) -> list[Record]:
        """The rows, with all values decoded that are to be."""
        return [self._decode(row) for row in rows]

    @property
    def decodes(self) -> bool:
        """Whether there may be values to decode."""
        return bool(self._decoders)

    def _decode(self, value: Any) -> Any:
        if isinstance(value, Coded):
            return self._decoders[value.type](self._decode(value.value))
        if isinstance(value, tuple | list):
            found = [self._decode(each) for each in value]
            if all(new is old for new, old in zip(found, value, strict=True)):
                return value
            return type(value)(found)  # a Record's class takes its values, too
        if hasattr(value, "isempty") and not value.isempty:
            return with_bounds(value, self._decode(value.lower), self._decode(value.upper))
        return value


def check_format(format: str, allowed: Sequence[str] = FORMATS) -> None:
    """Raises asyncpg.InterfaceError for a format that there is not."""
    if format not in allowed:
        expected = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
        raise interface_error(f"invalid `format` argument, expected {expected}, got {format!r}")


def encoded_element(encode: Encode, number: int, element: Any) -> Any:
    """An element of many arguments. What is none is left alone: whoever sends it complains."""
    if not isinstance(element, Sequence) or isinstance(element, str | bytes):
        return element
    return encode(element, f" in element #{number} of executemany() sequence")


def encoded_elements(encode: Encode, elements: Iterable[Any]) -> Iterator[Any]:
    """Each of many arguments, as they are needed."""
    for number, element in enumerate(elements):
        yield encoded_element(encode, number, element)
