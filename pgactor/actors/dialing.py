"""Dialling: how a session is opened where there are several hosts, and several addresses of a host.

As with libpq: each address in turn, in the order given or in a random one, each within its own time, until one takes
the connection and is what `target_session_attrs` asks for. A server that refuses the user or the database ends it.
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
from .session import Session

PASSES = {"prefer-standby": ("standby", "any")}
"""What is asked for first, and what then, where nobody is that."""

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
        return session


async def _dial(destination: Destination, hooks: Hooks) -> Session:
    failures: list[tuple[str, Exception]] = []
    for target in PASSES.get(destination.target, (destination.target,)):
        failures.clear()
        for host in _in_order(destination.hosts, destination):
            try:
                addresses = await _addresses(host, destination)
            except OSError as error:
                failures.append((str(host), _in_time(error, destination)))
                continue
            for address in _in_order(addresses, destination):
                try:
                    return await _open(destination, hooks, host, address, target)
                except (OSError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError) as error:
                    failures.append((_named(host, address), _in_time(error, destination)))
    raise _failure(failures)


def _in_order(those: Sequence[T], destination: Destination) -> Sequence[T]:
    return random.sample(those, len(those)) if destination.shuffled else those


async def _addresses(host: Host, destination: Destination) -> list[Address | None]:
    """Every address of the host; None: of a Unix socket."""
    if host.is_socket:
        return [None]
    async with asyncio.timeout(destination.address_seconds):
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host.address or host.name, host.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


async def _open(destination: Destination, hooks: Hooks, host: Host, address: Address | None, target: str) -> Session:
    arguments = {
        **destination.arguments,
        "host": host.name,
        "port": host.port,
        "target_session_attrs": target,
        "timeout": destination.address_seconds,
    }
    if address is not None:
        line = Line(asyncio.get_running_loop(), *address, options=destination.socket_options)
        arguments["loop"] = cast(asyncio.AbstractEventLoop, line)
    return await open_session(arguments, hooks)


def _named(host: Host, address: Address | None) -> str:
    if address is None or address[1][0] == host.name:
        return str(host)
    return f"{host} ({address[1][0]})"


def _in_time(error: Exception, destination: Destination) -> Exception:
    if isinstance(error, TimeoutError) and not str(error):
        return TimeoutError(f"no answer within connect_timeout ({destination.address_seconds:g} s)")
    return error


def _failure(failures: list[tuple[str, Exception]]) -> Exception:
    errors = [error for _, error in failures]
    mismatched = all(isinstance(error, asyncpg.TargetServerAttributeNotMatched) for error in errors)
    if len(failures) == 1 or mismatched:
        return errors[-1]
    told = "; ".join(f"{where}: {str(error) or type(error).__name__}" for where, error in failures)
    return Unreachable(f"none of {len(failures)} addresses took the connection: {told}")
