"""The application's own functions, which a pool calls when it opens, hands out and takes back a connection.

They are what asyncpg.create_pool takes as connect, init, setup and reset, and run in the supervisor. One that fails
or does not end costs its connection, and nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg

from ..config.hooks import HookSettings
from ..core.lease import Lease
from ..core.request import Request
from ..errors import ConfigError, PoolTimeout

Hook = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Setup:
    """The setup hook is to be called before the lease that the request asked for is used."""

    request: Request
    lease: Lease


@dataclass(frozen=True)
class Hooks:
    """The functions of one pool; None: there is none."""

    connect: Callable[..., Awaitable[Any]] | None = None
    setup: Hook | None = None
    init: Hook | None = None
    reset: Hook | None = None

    @property
    def each_use(self) -> bool:
        """Whether there is something to call for each use of a connection."""
        return self.setup is not None or self.reset is not None

    async def open(self, arguments: dict[str, Any], session: type[asyncpg.Connection]) -> Any:
        """What `connect` opens, called as asyncpg's pool does. Raises asyncpg.InterfaceError if it is no session."""
        assert self.connect is not None  # noqa: S101  # or nobody would ask
        given = dict(arguments)
        dsn = given.pop("dsn", None)
        loop = given.pop("loop", None) or asyncio.get_running_loop()
        async with _within("connect", given.get("timeout")):
            made = await self.connect(dsn, loop=loop, connection_class=session, record_class=asyncpg.Record, **given)
        if session in type(made).__mro__:  # to isinstance(), asyncpg's connections are of each other's class
            return made
        expected: type = asyncpg.Connection
        hint = None
        if isinstance(made, asyncpg.Connection):
            made.terminate()
            expected, hint = session, "the hook is expected to give asyncpg.connect its connection_class"
        raise asyncpg.InterfaceError(
            f"expected pool connect callback to return an instance of {_name(expected)}, got {_name(type(made))}",
            hint=hint,
        )

    async def begin(self, session: asyncpg.Connection, timeout: float | None) -> None:
        """Call `init` for a new session; if that fails the session is closed."""
        if self.init is None:
            return
        try:
            async with _within("init", timeout):
                await self.init(session)
            if session.is_closed():
                raise asyncpg.ConnectionDoesNotExistError("connection was closed during pool initialization")
        except BaseException:
            await close(session)
            raise

    async def prepare(self, session: asyncpg.Connection, until: float | None = None) -> None:
        """Call `setup` for a session that is to be used. until: when it must have ended, by the loop's clock."""
        if self.setup is None:
            return
        try:
            async with asyncio.timeout_at(until) as limit:
                await self.setup(session)
        except TimeoutError:
            if limit.expired():
                raise PoolTimeout("the setup hook did not end in time; nothing was run") from None
            raise


NO_HOOKS = Hooks()


def load(settings: HookSettings) -> Hooks:
    """Import the functions, also from the working directory. Raises `ConfigError` that names the one that is not
    there."""
    names = {name: getattr(settings, name) for name in settings.__struct_fields__}
    if any(names.values()) and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return Hooks(**{name: None if text is None else _find(name, text) for name, text in names.items()})


async def close(session: asyncpg.Connection) -> None:
    """Close a session in good order, if that is quick."""
    try:
        await session.close(timeout=1.0)
    except Exception:
        session.terminate()
    except BaseException:
        session.terminate()
        raise


def _find(name: str, text: str) -> Any:
    module, _, path = text.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the module does as it is imported
        raise ConfigError(f"the {name} hook {text!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"the {name} hook {text!r} is expected to be an async function, not {found!r}")
    return found


@asynccontextmanager
async def _within(name: str, seconds: float | None) -> AsyncIterator[None]:
    """Let a hook take so many seconds; None: as long as it likes."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimeoutError(f"the {name} hook did not end within {seconds:g} s (timeout of [connect])") from None


def _name(cls: type) -> str:
    """As asyncpg names it."""
    return f"'{cls.__name__}'" if cls.__module__ == "builtins" else f"'{cls.__module__}.{cls.__name__}'"
