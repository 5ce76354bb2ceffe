"""A session is opened: as asyncpg.connect does it, or the application's connect hook."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from ..errors import ConfigError
from .hooks import NO_HOOKS, Hooks
from .session import Session


async def open_session(arguments: dict[str, Any], hooks: Hooks = NO_HOOKS) -> Session:
    """Connect, as asyncpg.connect does, or as the connect hook does. Raises their errors, and `ConfigError` for
    settings that cannot be parsed."""
    session: Session = await (_connect(arguments) if hooks.connect is None else hooks.open(arguments, Session))
    if arguments.get("statement_cache_size") != 0:
        try:
            async with asyncio.timeout(arguments.get("timeout")):
                await session.renewal.watch_prepared()
        except BaseException:
            session.terminate()
            raise
    return session


async def _connect(arguments: dict[str, Any]) -> Session:
    try:
        session: Session = await asyncpg.connect(**arguments, connection_class=Session)
    except ValueError as error:
        if isinstance(error, asyncpg.InterfaceError | OSError):  # an SSLCertVerificationError is all of these
            raise
        # Python's own text would quote what it took for a port: a piece of the password, where that has a "/" in it
        raise ConfigError(
            "the connection settings cannot be parsed: special characters of a user name or password are expected to "
            "be percent-encoded in a dsn, and ports to be numbers"
        ) from None
    return session
