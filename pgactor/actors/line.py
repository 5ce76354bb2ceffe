"""A line: the event loop as asyncpg sees it while it connects to one address of a host.

asyncpg is given the host's name, by which it verifies the server's certificate; the line leads to the very address,
with the socket options set before it connects. A cancel request, too, takes the line: to the server that runs the
statement, and not to another one of the same name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any


class Line:
    """An event loop but for `create_connection`. It is equal to the loop, since asyncpg asks for the tasks of one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        family: socket.AddressFamily,
        address: Any,
        *,
        options: list[tuple[int, int, int]],
    ) -> None:
        self._loop = loop
        self._family = family
        self._address = address
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._loop

    def __hash__(self) -> int:
        return hash(self._loop)

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """As the loop's, to the line's address."""
        if ssl is not None and server_hostname is None:
            server_hostname = host
        opened = await self._connected() if sock is None else sock
        try:
            return await self._loop.create_connection(
                protocol_factory, ssl=ssl, sock=opened, server_hostname=server_hostname
            )
        except BaseException:
            opened.close()
            raise

    async def _connected(self) -> socket.socket:
        opened = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            for option in self._options:
                opened.setsockopt(*option)
            await self._loop.sock_connect(opened, self._address)
        except BaseException:
            opened.close()
            raise
        return opened
