"""Functions of the application's that the supervisor calls: `[hooks]`."""

from __future__ import annotations

import re

import msgspec

_HOOK = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class HookSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Async functions that the supervisor calls, each as "module:function"; what asyncpg.create_pool takes by these
    names. connect: opens a connection. init: given each new one. setup: given each before it is used. reset: given
    each after it was used, in the place of the usual reset."""

    connect: str | None = None
    setup: str | None = None
    init: str | None = None
    reset: str | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            given = getattr(self, name)
            if given is not None and not _HOOK.fullmatch(given):
                raise ValueError(f"{name} is expected to be 'module:function' (got {given!r})")
