"""The arguments of asyncpg's create_pool that build a pool. Here they build nothing: the supervisor has built it.

They are checked as asyncpg does, and compared with what the supervisor's pool has, so that an application that passes
them goes on working and is told where they live now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from ..errors import ClientError
from ..messages.pool import PoolStatus

DEFAULT_SIZE = 10
"""asyncpg's min_size and max_size where they are not given."""


class PoolArguments:
    """init_size, min_size, max_size, max_queries, max_inactive_connection_lifetime (seconds): as asyncpg's; None: not
    given. Raises ValueError where asyncpg does, with its words."""

    def __init__(
        self,
        *,
        init_size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        max_queries: int | None = None,
        max_inactive_connection_lifetime: float | None = None,
    ) -> None:
        self.min_size = DEFAULT_SIZE if min_size is None else min_size
        self.max_size = DEFAULT_SIZE if max_size is None else max_size
        self.init_size = self.min_size if init_size is None else init_size
        given = {
            "init_size": init_size,
            "min_size": min_size,
            "max_size": max_size,
            "max_queries": max_queries,
            "max_inactive_connection_lifetime": max_inactive_connection_lifetime,
        }
        self._given = {name: value for name, value in given.items() if value is not None}
        self._check()

    def _check(self) -> None:
        for wrong, complaint in (
            (self.max_size <= 0, "max_size is expected to be greater than zero"),
            (self.min_size < 0, "min_size is expected to be greater or equal to zero"),
            (self.min_size > self.max_size, "min_size is greater than max_size"),
            (self.init_size < 0, "init_size is expected to be greater or equal to zero"),
            (self.init_size > self.max_size, "init_size is greater than max_size"),
            (self.init_size < self.min_size, "init_size is smaller than min_size"),
            (self._given.get("max_queries", 1) <= 0, "max_queries is expected to be greater than zero"),
            (
                self._given.get("max_inactive_connection_lifetime", 0) < 0,
                "max_inactive_connection_lifetime is expected to be greater or equal to zero",
            ),
        ):
            if wrong:
                raise ValueError(complaint)

    def differences(self, status: PoolStatus) -> str | None:
        """What to tell of the arguments that the supervisor's pool has otherwise; None if there are none."""
        others = {name: getattr(status, name) for name in self._given}
        wrong = {name: value for name, value in self._given.items() if value != others[name]}
        if not wrong:
            return None
        return (
            f"create_pool({_listed(wrong)}) has no effect here: the supervisor's pool has "
            f"{_listed({name: others[name] for name in wrong})}, for all workers; set it there, in [pool] of its "
            "configuration, and leave it out here"
        )


def refuse_connecting(connect: object, connection_class: object, arguments: Mapping[str, object]) -> None:
    """Raises `ClientError` for arguments about connections, which are the supervisor's."""
    if arguments:
        names = _in_words(arguments)
        raise ClientError(
            f"create_pool() does not take {names}: the supervisor connects to PostgreSQL, and is told how in"
            " [connect] of its configuration; the first argument here is the supervisor's endpoint"
        )
    if connect is not None:
        raise ClientError(
            "create_pool() does not take connect=: the supervisor connects to PostgreSQL; name the function in its "
            'configuration, as connect = "module:function" in [pool]'
        )
    if connection_class is not None and not _is_asyncpgs(connection_class, "Connection"):
        raise ClientError(
            f"create_pool() does not take connection_class={connection_class!r}: what acquire() gives is a "
            "pgactor.AsyncLease, whose connection is in the supervisor"
        )


def check_command_timeout(timeout: float) -> float:
    """A default timeout for statements, in seconds. Raises `ValueError` for what is none, as asyncpg does."""
    with suppress(ValueError):
        timeout = timeout if isinstance(timeout, bool) else float(timeout)
        if not isinstance(timeout, bool) and timeout > 0:
            return timeout
    raise ValueError(f"invalid command_timeout value: expected greater than 0 float (got {timeout!r})")


def _is_asyncpgs(cls: object, name: str) -> bool:
    """Whether it is asyncpg's own class of this name. asyncpg itself is not imported for it."""
    return getattr(cls, "__module__", "").partition(".")[0] == "asyncpg" and getattr(cls, "__name__", "") == name


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _in_words(names: Iterable[str]) -> str:
    return ", ".join(f"{name}=" for name in names)
