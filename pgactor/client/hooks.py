"""The functions that an application gives asyncpg's create_pool: init, setup, reset. Here they run in the worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from ..errors import ClientError
from .aiolease import AsyncLease
from .holding import METHODS
from .poolcodecs import PoolCodecs

Hook = Callable[[Any], Awaitable[Any]]

CODECS = ("set_type_codec", "set_builtin_type_codec", "reset_type_codec")
"""What `init` may call."""


class Hooks:
    """init: called once, with a `Blueprint`. setup: called with each lease, before it is given to its user. reset:
    called with each lease when it comes back, after what is open was rolled back. codecs: those that `init` has set,
    if the pool's statements need no lease for them."""

    def __init__(self, init: Hook | None, setup: Hook | None, reset: Hook | None) -> None:
        for name, hook in (("init", init), ("setup", setup), ("reset", reset)):
            if hook is not None and not callable(hook):
                raise ClientError(f"create_pool({name}={hook!r}): expected a coroutine function")
        self.reset = reset
        self.codecs: PoolCodecs | None = None
        self._init = init
        self._setup = setup
        self._blueprint = Blueprint()

    def __bool__(self) -> bool:
        return any((self._init, self._setup, self.reset))

    async def begin(self) -> None:
        """Call `init`."""
        if self._init is not None:
            await self._init(self._blueprint)
        if self._setup is None and self.reset is None:
            self.codecs = PoolCodecs.of(self._blueprint.steps)

    async def prepare(self, lease: AsyncLease) -> None:
        """Make a lease what `init` and `setup` want it to be."""
        for step in self._blueprint.steps:
            await getattr(lease, step.method)(*step.args, **step.options)
        if self._setup is not None:
            await self._setup(lease)


class Step(NamedTuple):
    """A call of a method of the lease's."""

    method: str
    args: tuple[Any, ...]
    options: dict[str, Any]


class Blueprint:
    """What `init` is called with, in the place of a connection: every lease gets the codecs that are set on it.

    It is no connection, since those are opened in the supervisor, for all workers: whatever else asyncpg.Connection
    can do raises `ClientError`.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name not in CODECS or not hasattr(AsyncLease, name):
            raise ClientError(
                f"cannot call Connection.{name}() in create_pool's init: the supervisor opens the connections. Give"
                ' it the function, as init = "module:function" in [pool] of its configuration, or use setup=, which'
                " is called here with each connection that is acquired"
            )

        async def record(*args: Any, **options: Any) -> None:
            self.steps.append(Step(name, args, options))

        return record
