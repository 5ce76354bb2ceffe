"""Dialling: how a session is opened where there are several hosts, and several addresses of a host.

As with libpq: each address in turn, in the order given or in a random one, each within its own time, until one takes
the connection and is what `target_session_attrs` asks for. A server that refuses the user or the database ends it.
Beyond libpq: an address that closes the connection is passed over, and where only the whole attempt has a time limit,
each address has a share of it, so that a silent one leaves time for the others.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import asyncpg

from ..config.connect import ConnectSettings
from ..config.loading import connect_settings
from .destination import Destination, Host, find
from .hooks import NO_HOOKS, Hooks
from .line import Line
from .opening import open_session
from .readonly import FOR_READING
from .session import Session

PASSES = {"prefer-standby": ("standby", "any")}
"""What is asked for first, and what then, where nobody is that."""

PASSED_OVER = (
    OSError,
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,  # the connection was closed before there was a session
)
"""Failures at one address after which the next is tried."""

T = TypeVar("T")
Address = tuple[socket.AddressFamily, Any]


class Unreachable(ConnectionError):
    """Several addresses were tried, and none took the connection; the text tells what became of each."""


class Dialer:
    """Opens sessions as the settings and the hooks say. Raises `ConfigError` for settings that cannot be."""

    def __init__(self, settings: ConnectSettings, hooks: Hooks = NO_HOOKS) -> None:
        self._hooks = hooks
        self._destination = find(settings)

    def set_arguments(self, dsn: str | None, arguments: Mapping[str, Any]) -> None:
        """Open later sessions by these arguments alone, as asyncpg.Pool.set_connect_args. Raises `ConfigError` for
        those that cannot be; then nothing has changed."""
        self._destination = find(connect_settings(dsn, arguments))

    def dial(self, settings: ConnectSettings) -> None:
        """Open later sessions by these settings. Raises `ConfigError`, as `set_arguments`."""
        self._destination = find(settings)

    async def open(self) -> Session:
        """Open a session. Raises asyncpg's errors and OSErrors, `Unreachable` among them."""
        destination = self._destination
        try:
            async with asyncio.timeout(destination.seconds):
                session = await _dial(destination, self._hooks)
        except TimeoutError as error:
            raise (error if str(error) else TimeoutError(f"no connection within {destination.seconds:g} s")) from None
        await self._hooks.begin(session, destination.seconds)  # whose failure is no address's
        session.is_new = False
        session.is_for_reading = destination.target in FOR_READING
        return session


async def _dial(destination: Destination, hooks: Hooks) -> Session:
    failures: list[tuple[str, Exception]] = []
    passes = PASSES.get(destination.target, (destination.target,))
    others = len(passes) * len(destination.hosts)  # that are to be tried yet
    limit = _Limit(destination)
    for target in passes:
        failures.clear()
        for host in _in_order(destination.hosts, destination):
            others -= 1
            try:
                seconds = limit.share(others)
                addresses = await _addresses(host, seconds)
            except OSError as error:
                failures.append((str(host), _in_time(error, destination, seconds)))
                continue
            for number, address in enumerate(_in_order(addresses, destination), 1):
                seconds = limit.share(others + len(addresses) - number)
                try:
                    return await _open(destination, hooks, host, address, target, seconds)
                except PASSED_OVER as error:
                    failures.append((_named(host, address), _in_time(error, destination, seconds)))
    raise _failure(failures)


class _Limit:
    """How long each address may take."""

    def __init__(self, destination: Destination) -> None:
        self._loop = asyncio.get_running_loop()
        self._each = destination.address_seconds
        self._end = None if destination.seconds is None else self._loop.time() + destination.seconds

    def share(self, others: int) -> float | None:
        """Seconds for the next address, where so many others may be tried after it; None: no limit of its own."""
        if self._each is not None or self._end is None or not others:
            return self._each
        return max(0.0, self._end - self._loop.time()) / (others + 1)


def _in_order(those: Sequence[T], destination: Destination) -> Sequence[T]:
    return random.sample(those, len(those)) if destination.shuffled else those


async def _addresses(host: Host, seconds: float | None) -> list[Address | None]:
    """Every address of the host; None: of a Unix socket."""
    if host.is_socket:
        return [None]
    async with asyncio.timeout(seconds):
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host.address or host.name, host.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


async def _open(
    destination: Destination, hooks: Hooks, host: Host, address: Address | None, target: str, seconds: float | None
) -> Session:
    arguments = {
        **destination.arguments,
        "host": host.name,
        "port": host.port,
        "target_session_attrs": target,
        "timeout": seconds,
    }
    if address is not None:
        line = Line(asyncio.get_running_loop(), *address, options=destination.socket_options)
        arguments["loop"] = cast(asyncio.AbstractEventLoop, line)
    return await open_session(arguments, hooks)


def _named(host: Host, address: Address | None) -> str:
    if address is None or address[1][0] == host.name:
        return str(host)
    return f"{host} ({address[1][0]})"


def _in_time(error: Exception, destination: Destination, seconds: float | None) -> Exception:
    if not isinstance(error, TimeoutError) or str(error) or seconds is None:
        return error
    if destination.address_seconds is not None:
        return TimeoutError(f"no answer within connect_timeout ({seconds:g} s)")
    return TimeoutError(f"no answer within its share of the timeout ({seconds:.2g} s)")


def _failure(failures: list[tuple[str, Exception]]) -> Exception:
    errors = [error for _, error in failures]
    mismatched = all(isinstance(error, asyncpg.TargetServerAttributeNotMatched) for error in errors)
    if len(failures) == 1 or mismatched:
        return errors[-1]
    told = "; ".join(f"{where}: {str(error) or type(error).__name__}" for where, error in failures)
    return Unreachable(f"none of {len(failures)} addresses took the connection: {told}")
