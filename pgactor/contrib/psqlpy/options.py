"""psqlpy's enumerations. psqlpy's own are let pass, too: what counts is the name of the member."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

from ...errors import ClientError

E = TypeVar("E", bound=Enum)

IsolationLevel = Enum(
    "IsolationLevel", ["ReadUncommitted", "ReadCommitted", "RepeatableRead", "Serializable"], module=__name__
)
ReadVariant = Enum("ReadVariant", ["ReadOnly", "ReadWrite"], module=__name__)
TargetSessionAttrs = Enum("TargetSessionAttrs", ["Any", "ReadWrite", "ReadOnly"], module=__name__)
LoadBalanceHosts = Enum("LoadBalanceHosts", ["Disable", "Random"], module=__name__)
ConnRecyclingMethod = Enum("ConnRecyclingMethod", ["Fast", "Verified", "Clean"], module=__name__)
SslMode = Enum("SslMode", ["Disable", "Allow", "Prefer", "Require", "VerifyCa", "VerifyFull"], module=__name__)


def member_of(kind: type[E], given: Any) -> E:
    """The member of this name. Raises `ClientError` if there is none."""
    name = given.name if isinstance(given, Enum) else str(given).rpartition(".")[2]
    if name not in kind.__members__:
        raise ClientError(f"{given!r} is none of {', '.join(f'{kind.__name__}.{each}' for each in kind.__members__)}")
    return kind[name]
